//! How many tensors an operation takes and gives, and whether it looks at one place alone.

use super::{Op, QuantizationMode};

impl Op {
    /// How many inputs it takes; none where any number from 1 will do.
    pub const fn arity(&self) -> Option<usize> {
        let plain = self.plain();
        match plain {
            Self::Concatenate { .. }
            | Self::Stack { .. }
            | Self::DynamicSlice { .. }
            | Self::DynamicPutSlice
            | Self::Reduce { .. }
            | Self::WindowReduce { .. }
            | Self::RmsNorm { .. }
            | Self::Rope { .. }
            | Self::Attention { .. }
            | Self::Activation { .. }
            | Self::Dequantize { .. }
            | Self::QuantizedMatmul { .. }
            | Self::GatherQmm { .. } => None,
            Self::Constant { .. } | Self::Iota { .. } | Self::Eye => Some(0),
            Self::Select
            | Self::Clip
            | Self::IndexedAdd { .. }
            | Self::IndexedPut { .. }
            | Self::WindowScatterMax { .. }
            | Self::WindowScatterMin { .. }
            | Self::LayerNorm { .. }
            | Self::RotaryEmbedding
            | Self::DotAdd { .. } => Some(3),
            Self::RmsNormRotaryEmbedding { .. } => Some(4),
            Self::Dot { .. }
            | Self::Conv { .. }
            | Self::Pad { .. }
            | Self::PutSlice { .. }
            | Self::Gather { .. }
            | Self::Take { .. }
            | Self::TakeAlongAxis { .. }
            | Self::AllClose { .. }
            | Self::TriangularSolve { .. }
            | Self::Solve => Some(2),
            _ if plain.joins_two() => Some(2),
            _ => Some(1),
        }
    }

    /// Whether each element of the result comes from the inputs' elements at the same place, so that
    /// what it does to scalars it does to tensors of any shape.
    pub const fn is_elementwise(&self) -> bool {
        let other = matches!(
            self.plain(),
            Self::Constant { .. }
                | Self::AsType
                | Self::Exp
                | Self::Expm1
                | Self::Log
                | Self::Log1p
                | Self::Sigmoid
                | Self::Cos
                | Self::Sin
                | Self::Tan
                | Self::Cosh
                | Self::Sinh
                | Self::Tanh
                | Self::Acos
                | Self::Asin
                | Self::Atan
                | Self::Acosh
                | Self::Asinh
                | Self::Atanh
                | Self::Sqrt
                | Self::Rsqrt
                | Self::Cbrt
                | Self::Erf
                | Self::Erfc
                | Self::ErfInv
                | Self::Abs
                | Self::Ceil
                | Self::Floor
                | Self::Round
                | Self::Negate
                | Self::Sign
                | Self::Conjugate
                | Self::Real
                | Self::Imag
                | Self::IsNan
                | Self::IsInfinity
                | Self::BitwiseNot
                | Self::CountLeadingZeros
                | Self::PopulationCount
                | Self::LogicalNot
                | Self::Phase
                | Self::Select
                | Self::Clip
        );
        other || self.plain().joins_two()
    }

    /// Whether it is elementwise and takes two inputs.
    const fn joins_two(&self) -> bool {
        matches!(
            self,
            Self::Add
                | Self::Subtract
                | Self::Multiply
                | Self::Pow
                | Self::Remainder
                | Self::Divide
                | Self::Quotient
                | Self::Atan2
                | Self::Min
                | Self::Max
                | Self::BitwiseAnd
                | Self::BitwiseOr
                | Self::BitwiseXor
                | Self::LeftShift
                | Self::RightShift
                | Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterEqual
                | Self::LessEqual
                | Self::LogicalAnd
                | Self::LogicalOr
                | Self::LogicalXor
        )
    }

    /// How many tensors it gives.
    pub const fn outputs(&self) -> usize {
        match self.plain() {
            Self::TopK { .. } | Self::Qr { .. } | Self::Eigh => 2,
            Self::Quantize { mode, .. } => match mode {
                QuantizationMode::Affine => 3,
                _ => 2,
            },
            Self::Svd { .. } | Self::Lu => 3,
            _ => 1,
        }
    }
}
