//! Element types, named and merged as `Nx.Type` does.

use std::fmt;

use mlx_sys as sys;
use serde::{Deserialize, Serialize};

/// An element type of Nx, but for `{:c, 128}`. MLX has all but the narrow ones, which
/// [wider ones carry](Self::carrier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Unsigned, 2 bits.
    U2,
    /// Unsigned, 4 bits.
    U4,
    /// Unsigned, 8 bits; also what Nx uses for booleans.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 2 bits.
    S2,
    /// Signed, 4 bits.
    S4,
    /// Signed, 8 bits.
    S8,
    /// Signed, 16 bits.
    S16,
    /// Signed, 32 bits.
    S32,
    /// Signed, 64 bits.
    S64,
    /// Floating point with 5 bits of exponent and 2 of mantissa, Nx's `{:f, 8}`; the upper half of
    /// an f16.
    #[serde(rename = "f8")]
    F8E5M2,
    /// Floating point with 4 bits of exponent and 3 of mantissa, Nx's `{:f8_e4m3fn, 8}`; it has no
    /// infinities, and what is beyond its range becomes its greatest number, 448.
    #[serde(rename = "f8_e4m3fn")]
    F8E4M3FN,
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
    pub const ALL: [Self; 19] = [
        Self::U2,
        Self::U4,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::S2,
        Self::S4,
        Self::S8,
        Self::S16,
        Self::S32,
        Self::S64,
        Self::F8E5M2,
        Self::F8E4M3FN,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::C64,
    ];

    /// The type with Nx's kind (`"u"`, `"s"`, `"f"`, `"f8_e4m3fn"`, `"bf"`, `"c"`) and size in bits.
    pub fn from_nx(kind: &str, bits: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.nx() == (kind, bits))
    }

    /// Nx's kind and size in bits.
    pub const fn nx(self) -> (&'static str, u64) {
        match self {
            Self::U2 => ("u", 2),
            Self::U4 => ("u", 4),
            Self::U8 => ("u", 8),
            Self::U16 => ("u", 16),
            Self::U32 => ("u", 32),
            Self::U64 => ("u", 64),
            Self::S2 => ("s", 2),
            Self::S4 => ("s", 4),
            Self::S8 => ("s", 8),
            Self::S16 => ("s", 16),
            Self::S32 => ("s", 32),
            Self::S64 => ("s", 64),
            Self::F8E5M2 => ("f", 8),
            Self::F8E4M3FN => ("f8_e4m3fn", 8),
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
            Self::U2 | Self::U4 | Self::U8 | Self::U16 | Self::U32 | Self::U64 => Kind::Unsigned,
            Self::S2 | Self::S4 | Self::S8 | Self::S16 | Self::S32 | Self::S64 => Kind::Signed,
            Self::F8E5M2 | Self::F8E4M3FN | Self::F16 | Self::Bf16 | Self::F32 | Self::F64 => {
                Kind::Float
            }
            Self::C64 => Kind::Complex,
        }
    }

    /// The size of one element in bits.
    pub const fn bits(self) -> u64 {
        self.nx().1
    }

    /// The size of one element in bytes, as MLX keeps it: that of the [carrier](Self::carrier).
    pub const fn bytes(self) -> usize {
        (self.carrier().bits() / 8) as usize
    }

    /// The type of MLX's that keeps the elements: this one, or the next wider one for those that MLX
    /// does not have.
    pub const fn carrier(self) -> Self {
        match self {
            Self::U2 | Self::U4 => Self::U8,
            Self::S2 | Self::S4 => Self::S8,
            Self::F8E5M2 | Self::F8E4M3FN => Self::F16,
            own => own,
        }
    }

    /// The type of MLX's that results of this one are computed in before they are narrowed to it.
    pub(crate) const fn working(self) -> Self {
        match self {
            Self::F8E5M2 | Self::F8E4M3FN => Self::F32,
            other => other.carrier(),
        }
    }

    /// Whether MLX does not have this type, so that another one [carries](Self::carrier) it.
    pub const fn is_narrow(self) -> bool {
        matches!(
            self,
            Self::U2 | Self::U4 | Self::S2 | Self::S4 | Self::F8E5M2 | Self::F8E4M3FN
        )
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
    ///
    /// Of two kinds of floats that Nx ranks alike, the first one's counts.
    pub fn merge(self, other: Self) -> Option<Self> {
        let ((kind, bits), (other_kind, other_bits)) = (self.nx(), other.nx());
        if kind == other_kind {
            return Some(if bits >= other_bits { self } else { other });
        }
        let (low, high) = if self.rank() < other.rank() {
            (self, other)
        } else {
            (other, self)
        };
        match (low.nx(), high.nx()) {
            (("u", bits), ("s", signed)) => Self::from_nx("s", signed.max((bits * 2).min(64))),
            (("f", bits), ("c", complex)) => Self::from_nx("c", complex.max(bits * 2)),
            _ => Some(high),
        }
    }

    /// Which of two kinds a merger is of: the higher one.
    const fn rank(self) -> u8 {
        match self.kind() {
            Kind::Unsigned => 0,
            Kind::Signed => 1,
            Kind::Float if matches!(self, Self::Bf16) => 2,
            Kind::Float => 3,
            Kind::Complex => 4,
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
        match (self.kind(), self) {
            (_, Self::U64) => Self::S64,
            (Kind::Unsigned, _) => Self::U32,
            (Kind::Signed, Self::S64) => Self::S64,
            (Kind::Signed, _) => Self::S32,
            _ => self,
        }
    }

    /// How MLX keeps the elements.
    pub(crate) const fn to_mlx(self) -> sys::mlx_dtype {
        match self {
            Self::U2 | Self::U4 | Self::U8 => sys::mlx_dtype__MLX_UINT8,
            Self::U16 => sys::mlx_dtype__MLX_UINT16,
            Self::U32 => sys::mlx_dtype__MLX_UINT32,
            Self::U64 => sys::mlx_dtype__MLX_UINT64,
            Self::S2 | Self::S4 | Self::S8 => sys::mlx_dtype__MLX_INT8,
            Self::S16 => sys::mlx_dtype__MLX_INT16,
            Self::S32 => sys::mlx_dtype__MLX_INT32,
            Self::S64 => sys::mlx_dtype__MLX_INT64,
            Self::F8E5M2 | Self::F8E4M3FN | Self::F16 => sys::mlx_dtype__MLX_FLOAT16,
            Self::Bf16 => sys::mlx_dtype__MLX_BFLOAT16,
            Self::F32 => sys::mlx_dtype__MLX_FLOAT32,
            Self::F64 => sys::mlx_dtype__MLX_FLOAT64,
            Self::C64 => sys::mlx_dtype__MLX_COMPLEX64,
        }
    }

    /// MLX's own type; none for its bool, which Nx does not have.
    pub(crate) const fn from_mlx(dtype: sys::mlx_dtype) -> Option<Self> {
        match dtype {
            sys::mlx_dtype__MLX_UINT8 => Some(Self::U8),
            sys::mlx_dtype__MLX_UINT16 => Some(Self::U16),
            sys::mlx_dtype__MLX_UINT32 => Some(Self::U32),
            sys::mlx_dtype__MLX_UINT64 => Some(Self::U64),
            sys::mlx_dtype__MLX_INT8 => Some(Self::S8),
            sys::mlx_dtype__MLX_INT16 => Some(Self::S16),
            sys::mlx_dtype__MLX_INT32 => Some(Self::S32),
            sys::mlx_dtype__MLX_INT64 => Some(Self::S64),
            sys::mlx_dtype__MLX_FLOAT16 => Some(Self::F16),
            sys::mlx_dtype__MLX_BFLOAT16 => Some(Self::Bf16),
            sys::mlx_dtype__MLX_FLOAT32 => Some(Self::F32),
            sys::mlx_dtype__MLX_FLOAT64 => Some(Self::F64),
            sys::mlx_dtype__MLX_COMPLEX64 => Some(Self::C64),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nx() {
            // Nx's name of this kind says the size already.
            (kind, _) if *self == Self::F8E4M3FN => f.write_str(kind),
            (kind, bits) => write!(f, "{kind}{bits}"),
        }
    }
}
