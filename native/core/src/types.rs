//! Element types, named and merged as `Nx.Type` does.

use std::fmt;

use mlx_sys as sys;
use serde::{Deserialize, Serialize};

/// An element type that MLX computes with natively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Unsigned, 8 bits; also what Nx uses for booleans.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    S8,
    /// Signed, 16 bits.
    S16,
    /// Signed, 32 bits.
    S32,
    /// Signed, 64 bits.
    S64,
    /// IEEE 754 half precision.
    F16,
    /// Brain floating point, 16 bits.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision; CPU devices only.
    F64,
    /// A complex number of two [`Type::F32`].
    C64,
}

/// The class of a type: Nx's `:u`, `:s`, `:f` (with `:bf`) and `:c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned integers.
    Unsigned,
    /// Signed integers.
    Signed,
    /// Real floating point.
    Float,
    /// Complex floating point.
    Complex,
}

impl Type {
    /// Every type, in Nx's order.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::S8,
        Self::S16,
        Self::S32,
        Self::S64,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::C64,
    ];

    /// The type with Nx's kind (`"u"`, `"s"`, `"f"`, `"bf"`, `"c"`) and size in bits.
    pub fn from_nx(kind: &str, bits: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.nx() == (kind, bits))
    }

    /// Nx's kind and size in bits.
    pub const fn nx(self) -> (&'static str, u64) {
        match self {
            Self::U8 => ("u", 8),
            Self::U16 => ("u", 16),
            Self::U32 => ("u", 32),
            Self::U64 => ("u", 64),
            Self::S8 => ("s", 8),
            Self::S16 => ("s", 16),
            Self::S32 => ("s", 32),
            Self::S64 => ("s", 64),
            Self::F16 => ("f", 16),
            Self::Bf16 => ("bf", 16),
            Self::F32 => ("f", 32),
            Self::F64 => ("f", 64),
            Self::C64 => ("c", 64),
        }
    }

    /// The class of this type.
    pub const fn kind(self) -> Kind {
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Kind::Unsigned,
            Self::S8 | Self::S16 | Self::S32 | Self::S64 => Kind::Signed,
            Self::F16 | Self::Bf16 | Self::F32 | Self::F64 => Kind::Float,
            Self::C64 => Kind::Complex,
        }
    }

    /// The size of one element in bits.
    pub const fn bits(self) -> u64 {
        self.nx().1
    }

    /// The size of one element in bytes.
    pub const fn bytes(self) -> usize {
        (self.bits() / 8) as usize
    }

    /// Whether this is a signed or unsigned integer.
    pub const fn is_integer(self) -> bool {
        matches!(self.kind(), Kind::Unsigned | Kind::Signed)
    }

    /// Whether this is real or complex floating point.
    pub const fn is_inexact(self) -> bool {
        !self.is_integer()
    }

    /// Whether this is a 16-bit float, which sums are too coarse for.
    pub const fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16)
    }

    /// The type that holds values of both, as `Nx.Type.merge/2`; none where that is `{:c, 128}`.
    pub fn merge(self, other: Self) -> Option<Self> {
        use Kind::{Complex, Float, Signed, Unsigned};
        let wider = if self.bits() >= other.bits() {
            self
        } else {
            other
        };
        // Nx orders bf below f, so that the two half types merge to f16.
        match (self.kind(), other.kind()) {
            _ if self == other => Some(self),
            (Complex, _) => (other != Self::F64).then_some(self),
            (_, Complex) => other.merge(self),
            (Float, Float) if self.is_half() && other.is_half() => Some(Self::F16),
            (Float, Float) | (Signed, Signed) | (Unsigned, Unsigned) => Some(wider),
            (Float, _) => Some(self),
            (_, Float) => Some(other),
            (Unsigned, Signed) => Self::from_nx("s", other.bits().max((self.bits() * 2).min(64))),
            (Signed, Unsigned) => other.merge(self),
        }
    }

    /// The floating type that results of division and of functions like `exp` have, as
    /// `Nx.Type.to_floating/1`.
    pub const fn to_floating(self) -> Self {
        if self.is_integer() { Self::F32 } else { self }
    }

    /// The real type of a complex type's parts, as `Nx.Type.to_real/1`.
    pub const fn to_real(self) -> Self {
        match self {
            Self::C64 => Self::F32,
            _ => self.to_floating(),
        }
    }

    /// The type of sums and products, as `Nx.Type.to_aggregate/1`.
    pub const fn to_aggregate(self) -> Self {
        match self {
            Self::U8 | Self::U16 => Self::U32,
            Self::U64 => Self::S64,
            Self::S8 | Self::S16 => Self::S32,
            _ => self,
        }
    }

    pub(crate) const fn to_mlx(self) -> sys::mlx_dtype {
        match self {
            Self::U8 => sys::mlx_dtype__MLX_UINT8,
            Self::U16 => sys::mlx_dtype__MLX_UINT16,
            Self::U32 => sys::mlx_dtype__MLX_UINT32,
            Self::U64 => sys::mlx_dtype__MLX_UINT64,
            Self::S8 => sys::mlx_dtype__MLX_INT8,
            Self::S16 => sys::mlx_dtype__MLX_INT16,
            Self::S32 => sys::mlx_dtype__MLX_INT32,
            Self::S64 => sys::mlx_dtype__MLX_INT64,
            Self::F16 => sys::mlx_dtype__MLX_FLOAT16,
            Self::Bf16 => sys::mlx_dtype__MLX_BFLOAT16,
            Self::F32 => sys::mlx_dtype__MLX_FLOAT32,
            Self::F64 => sys::mlx_dtype__MLX_FLOAT64,
            Self::C64 => sys::mlx_dtype__MLX_COMPLEX64,
        }
    }

    /// None for MLX's bool, which Nx does not have.
    pub(crate) fn from_mlx(dtype: sys::mlx_dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.to_mlx() == dtype)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bits) = self.nx();
        write!(f, "{kind}{bits}")
    }
}
