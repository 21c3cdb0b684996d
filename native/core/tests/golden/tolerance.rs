//! How near a result must be to the recorded one: the one table.

use emily_core::{Device, Op, Type};

/// What may differ.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// Of the expected value, as a fraction.
    pub relative: f64,
    /// Whatever the expected value is.
    pub absolute: f64,
    /// Whether a zero's sign must be right too.
    pub signed_zero: bool,
}

/// The tolerance of `op`'s results in `ty`, computed on `device`.
pub fn tolerance(op: &Op, ty: Type, device: Device) -> Tolerance {
    let tolerance = on_cpu(op, ty);
    match (device, op, ty) {
        // The unit of f8 has room for whatever a device does in f32.
        (Device::Cpu, ..) | (_, _, Type::F8E5M2 | Type::F8E4M3FN) => tolerance,
        // Products of matrices may take the first 11 bits of each number alone.
        (Device::Gpu, Op::Dot { .. } | Op::Conv { .. }, Type::F32 | Type::C64)
        | (Device::Gpu, Op::DotAdd { .. } | Op::Attention { .. }, Type::F32 | Type::F16) => {
            Tolerance {
                relative: 2_f64.powi(-8),
                absolute: 2_f64.powi(-5),
                ..tolerance
            }
        }
        // Kernels sum in another order, in f32.
        (Device::Gpu, op, Type::F32 | Type::F16 | Type::Bf16) if quantized(op) => {
            let unit = if ty == Type::Bf16 { -7 } else { -10 };
            Tolerance {
                relative: 64.0 * 2_f64.powi(unit),
                absolute: 640.0 * 2_f64.powi(unit),
                signed_zero: false,
            }
        }
        // MLX's kernels round in between.
        (Device::Gpu, op, ty) if fused(op) && ty != Type::F32 => Tolerance {
            relative: 4.0 * tolerance.relative,
            absolute: 4.0 * tolerance.relative,
            ..tolerance
        },
        // Inverse functions of complex numbers lose half a dozen bits, and a zero its sign.
        (Device::Gpu, Op::Asin | Op::Asinh | Op::Acosh | Op::Atanh, Type::C64) => Tolerance {
            relative: 2_f64.powi(-15),
            absolute: 2_f64.powi(-15),
            signed_zero: false,
        },
        // A GPU's functions are a few units coarser.
        (Device::Gpu, _, _) => {
            let unit = if matches!(op, Op::Abs) {
                2_f64.powi(-22)
            } else {
                0.0
            };
            Tolerance {
                relative: (8.0 * tolerance.relative).max(unit),
                absolute: 8.0 * tolerance.absolute,
                signed_zero: tolerance.signed_zero && ty != Type::C64,
            }
        }
    }
}

/// A unit is the distance from 1 to the next number of the type. `Nx.BinaryBackend` computes in f64
/// and rounds once, except to bf16 and f8: further bits it cuts off, of bf16 and e5m2, or it rounds them
/// without a carry, of e4m3fn. There a correctly rounded result may be one unit away.
fn on_cpu(op: &Op, ty: Type) -> Tolerance {
    if quantized(op) {
        return of_quantized(ty);
    }
    let (unit, least_normal) = match ty {
        Type::F8E5M2 => (2_f64.powi(-2), 2_f64.powi(-14)),
        Type::F8E4M3FN => (2_f64.powi(-3), 2_f64.powi(-6)),
        Type::F16 => (2_f64.powi(-10), 2_f64.powi(-14)),
        Type::Bf16 => (2_f64.powi(-7), 2_f64.powi(-126)),
        Type::F32 | Type::C64 => (2_f64.powi(-23), 2_f64.powi(-126)),
        Type::F64 => (2_f64.powi(-52), 2_f64.powi(-1022)),
        _ => (0.0, 0.0),
    };
    let least = least_normal * unit;
    if let Some((relative, absolute)) = of_matrices(op, unit) {
        return Tolerance {
            relative,
            absolute,
            signed_zero: false,
        };
    }
    let units = match ty {
        _ if moves(op) => 0.0,
        // Computed in f32 and rounded once; see above for the other unit of bf16, and that of f8, next
        // to which the errors of f32 are nothing.
        Type::F8E5M2 | Type::F8E4M3FN => 1.0,
        Type::F16 => units(op, ty).min(1.0),
        Type::Bf16 => units(op, ty).min(1.0) + 1.0,
        _ => units(op, ty),
    };
    let flushed = if flushes(op) { 2.0 * least_normal } else { 0.0 };
    Tolerance {
        relative: units * unit,
        absolute: units * least + flushed + near_zero(op, unit.min(2_f64.powi(-23))),
        signed_zero: signed_zero(op),
    }
}

/// What may differ of results that Nx rounds after each of many steps: as a fraction, and at least.
/// Numbers are up to a few dozen.
fn of_matrices(op: &Op, unit: f64) -> Option<(f64, f64)> {
    let allowed = match op {
        // All that is recorded of f8 is exact.
        Op::TriangularSolve { .. }
        | Op::Solve
        | Op::Determinant
        | Op::Lu
        | Op::Cholesky
        | Op::Qr { .. }
        | Op::Eigh
        | Op::Svd { .. }
            if unit > 2_f64.powi(-7) =>
        {
            0.01
        }
        Op::TriangularSolve { .. } | Op::Solve | Op::Determinant | Op::Lu => 16.0 * unit,
        // Nx adds 1.0e-10 to what it divides by.
        Op::Cholesky => (16.0 * unit).max(1e-9),
        // More rows are recorded of f32, whose errors add up in Nx.
        Op::Qr { .. } if unit > 2_f64.powi(-23) => 16.0 * unit,
        Op::Qr { .. } => 256.0 * unit,
        // Nx stops its iterations at 1.0e-4, and takes them in f16, which holds no more of the squares
        // that they are made of than bf16 does.
        Op::Eigh | Op::Svd { .. } if unit > 1e-4 => 0.125,
        Op::Eigh | Op::Svd { .. } => 1e-3,
        _ => return None,
    };
    Some((allowed, allowed))
}

/// Operations on quantized matrices, which MLX itself recorded, on x86_64.
const fn quantized(op: &Op) -> bool {
    matches!(
        op,
        Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::QuantizedMatmul { .. }
            | Op::GatherQmm { .. }
    )
}

/// The same code on the same processor gives the same bits. Another processor multiplies and adds in one step, which it
/// rounds once; sums of 128 numbers, whose parts are up to about 10.
fn of_quantized(ty: Type) -> Tolerance {
    let unit = match ty {
        Type::F16 => 2_f64.powi(-10),
        Type::Bf16 => 2_f64.powi(-7),
        Type::F32 => 2_f64.powi(-23),
        _ => 0.0,
    };
    let units = if cfg!(target_arch = "x86_64") {
        0.0
    } else {
        64.0
    };
    Tolerance {
        relative: units * unit,
        absolute: 10.0 * units * unit,
        signed_zero: units == 0.0,
    }
}

/// Operations whose results are elements of their inputs.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape
            | Op::Squeeze
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Reverse { .. }
            | Op::Slice { .. }
            | Op::DynamicSlice { .. }
            | Op::Gather { .. }
            | Op::Take { .. }
            | Op::TakeAlongAxis { .. }
    )
}

/// Operations that stand for several, and end with a sum.
const fn fused(op: &Op) -> bool {
    matches!(
        op,
        Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::RotaryEmbedding
            | Op::Rope { .. }
            | Op::RmsNormRotaryEmbedding { .. }
            | Op::Attention { .. }
            | Op::DotAdd { .. }
    )
}

/// Operations each of whose results is a sum over a whole axis.
const fn transforms(op: &Op) -> bool {
    matches!(
        op,
        Op::Fft { .. }
            | Op::Ifft { .. }
            | Op::Fft2 { .. }
            | Op::Ifft2 { .. }
            | Op::Rfft { .. }
            | Op::Irfft { .. }
    )
}

/// How many units a result may be away, as a fraction of itself.
fn units(op: &Op, ty: Type) -> f64 {
    match op {
        // BinaryBackend takes the power of 1/3, which is no binary fraction: at f64's extremes that
        // alone is 62 units.
        Op::Cbrt if ty == Type::F64 => 64.0,
        // MLX sums logarithms, whose error the exponential multiplies.
        Op::Pow if ty == Type::C64 => 16.0,
        Op::Multiply | Op::Divide if ty == Type::C64 => 2.0,
        // One rounding, of operands that were given the result's type before.
        Op::Divide | Op::Atan2 | Op::Phase => 1.0,
        // Nx's own series has the digits of f32.
        Op::ErfInv if ty == Type::F64 => 2_f64.powi(30),
        // MLX's approximation of f32.
        Op::Erf => 16.0,
        // The exponential multiplies the error of its argument by the argument, here a square.
        Op::Erfc => 32.0,
        Op::Sigmoid | Op::Exp => 16.0,
        Op::Pow
        | Op::Sum { .. }
        | Op::Product { .. }
        | Op::WindowSum { .. }
        | Op::WindowProduct { .. }
        | Op::IndexedAdd { .. }
        | Op::CumulativeSum { .. }
        | Op::Dot { .. }
        | Op::Conv { .. } => 4.0,
        _ if transforms(op) => 4.0,
        // A product of as many numbers is rounded as often, and BinaryBackend multiplies in another
        // order.
        Op::CumulativeProduct { .. } => 16.0,
        Op::Sqrt if ty != Type::C64 => 0.0,
        Op::Softmax | Op::Activation { .. } => 16.0,
        _ if fused(op) => 4.0,
        // Functions that a device computes in steps of its own. In f64 BinaryBackend takes longer
        // ways than they: log(1 + x) for log1p, exp(x) - 1 for expm1.
        Op::Log1p | Op::Expm1 if ty == Type::F64 => 8.0,
        Op::Expm1
        | Op::Log
        | Op::Log1p
        | Op::Cos
        | Op::Sin
        | Op::Tan
        | Op::Cosh
        | Op::Sinh
        | Op::Tanh
        | Op::Acos
        | Op::Asin
        | Op::Atan
        | Op::Acosh
        | Op::Asinh
        | Op::Atanh
        | Op::Sqrt
        | Op::Rsqrt
        | Op::Cbrt
        | Op::ErfInv => 2.0,
        _ => 0.0,
    }
}

/// What a result may be away at least.
fn near_zero(op: &Op, unit: f64) -> f64 {
    match op {
        // What is left of much larger terms.
        Op::Dot { .. } | Op::Conv { .. } | Op::CumulativeSum { .. } => 32.0 * unit,
        Op::Sum { .. } | Op::WindowSum { .. } | Op::IndexedAdd { .. } => 8.0 * unit,
        _ if transforms(op) || fused(op) => 32.0 * unit,
        // What is left of 1 + tanh(x), and 1 + erf(x), far below 0.
        Op::Activation { .. } => 2.0 * unit,
        // BinaryBackend loses to 1 what is below f64's unit.
        Op::Expm1 | Op::Log1p => 2.0 * 2_f64.powi(-52),
        _ => 0.0,
    }
}

/// Functions whose results around the least normal number may become 0 on the way.
const fn flushes(op: &Op) -> bool {
    matches!(
        op,
        Op::Exp | Op::Sigmoid | Op::Erf | Op::Erfc | Op::ErfInv | Op::Softmax
    )
}

/// Where Nx's meaning includes the sign of a zero.
fn signed_zero(op: &Op) -> bool {
    moves(op)
        || matches!(
            op,
            Op::Abs | Op::Negate | Op::Conjugate | Op::Real | Op::Imag
        )
}
