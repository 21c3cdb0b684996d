//! Attributes that are one of a few.

use serde::{Deserialize, Serialize};

/// What must hold of the values that an operation meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum Assertion {
    /// Its indices lie within their axes. That is always asked of them; what this adds is the index,
    /// and where it stands.
    Bounds,
    /// Its results have neither NaN nor infinities.
    Finite,
}

/// What [`Op::Activation`](super::Op::Activation) does to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum ActivationFunction {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
    /// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) / 2`.
    GeluTanh,
}

/// Which of several equal extremes counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum TieBreak {
    /// The first one.
    Low,
    /// The last one.
    High,
}

/// The order of a sort; NaN counts as greater than infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the least to the greatest.
    Asc,
    /// From the greatest to the least.
    Desc,
}

/// What becomes of a matrix before a system with it is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum TransformA {
    /// Nothing.
    None,
    /// It is transposed, and not conjugated.
    Transpose,
    /// It is conjugated, and not transposed.
    Conjugate,
}

/// How much of a QR factorization is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum QrMode {
    /// As many columns of Q and rows of R as the matrix has of what it has less.
    Reduced,
    /// A square Q.
    Complete,
}

/// How the numbers of a quantized matrix are packed, and what their groups share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum QuantizationMode {
    /// Integers of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, with a scale and a bias for each.
    Affine,
    /// Floats of 4 bits (e2m1) in groups of 32, with a power of two (e8m0) for each.
    Mxfp4,
    /// Floats of 8 bits (e4m3) in groups of 32, with a power of two (e8m0) for each.
    Mxfp8,
    /// Floats of 4 bits (e2m1) in groups of 16, with a float of 8 bits (e4m3) for each.
    Nvfp4,
}
