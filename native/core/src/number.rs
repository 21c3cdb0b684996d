//! Numbers as attributes, and their bytes in each type.

use serde::{Deserialize, Serialize};

use crate::{Array, Result, Shape, TensorType, Type};

/// A number of Nx: an integer, a float, `:nan` or an infinity, or a complex number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// An integer from -2^63 to 2^64 - 1.
    Integer(#[serde(with = "integer")] i128),
    /// A finite float.
    Float(f64),
    /// A float that JSON and the BEAM have no number for.
    NonFinite(NonFinite),
    /// A real and an imaginary part.
    Complex(#[serde(with = "part")] f64, #[serde(with = "part")] f64),
}

/// `:nan`, `:infinity` and `:neg_infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// Not a number.
    Nan,
    /// Positive infinity.
    Infinity,
    /// Negative infinity.
    NegInfinity,
}

impl NonFinite {
    const fn value(self) -> f64 {
        match self {
            Self::Nan => f64::NAN,
            Self::Infinity => f64::INFINITY,
            Self::NegInfinity => f64::NEG_INFINITY,
        }
    }
}

impl Number {
    /// The real part.
    pub(crate) fn real(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) | Self::Complex(value, _) => value,
            Self::NonFinite(kind) => kind.value(),
        }
    }

    /// The integer, wrapped to 64 bits; a float is truncated toward zero.
    fn integer(self) -> u64 {
        match self {
            Self::Integer(value) => value as u64,
            other => other.real() as i128 as u64,
        }
    }

    /// One element of `ty`, in the host's byte order.
    pub(crate) fn bytes(self, ty: Type) -> Vec<u8> {
        let mut bytes = match ty {
            Type::F16 | Type::Bf16 | Type::F32 => (self.real() as f32).to_ne_bytes().to_vec(),
            Type::F64 => self.real().to_ne_bytes().to_vec(),
            Type::C64 => {
                let imaginary = if let Self::Complex(_, im) = self {
                    im
                } else {
                    0.0
                };
                [
                    (self.real() as f32).to_ne_bytes(),
                    (imaginary as f32).to_ne_bytes(),
                ]
                .concat()
            }
            _ => self.integer().to_le_bytes()[..ty.bytes()].to_vec(),
        };
        if ty.is_integer() && cfg!(target_endian = "big") {
            bytes.reverse();
        }
        bytes
    }

    /// A scalar of `ty`, or of its carrier. The half types are rounded by MLX, so theirs is an f32.
    pub(crate) fn scalar(self, ty: Type) -> Result<Array> {
        let ty = ty.carrier();
        let ty = TensorType {
            ty: if ty.is_half() { Type::F32 } else { ty },
            shape: Shape::default(),
        };
        Array::from_bytes(&ty, &self.bytes(ty.ty))
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_nan() {
            Self::NonFinite(NonFinite::Nan)
        } else if value.is_infinite() {
            Self::NonFinite(if value > 0.0 {
                NonFinite::Infinity
            } else {
                NonFinite::NegInfinity
            })
        } else {
            Self::Float(value)
        }
    }
}

/// A part of a complex number, which JSON has no number for where it is not finite.
mod part {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{NonFinite, Number};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Number::from(*value).serialize(serializer)
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Part {
        Finite(f64),
        NonFinite(NonFinite),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(match Part::deserialize(deserializer)? {
            Part::Finite(value) => value,
            Part::NonFinite(kind) => kind.value(),
        })
    }
}

/// serde's untagged enums buffer numbers of at most 64 bits.
mod integer {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};

    pub fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(value) = i64::try_from(*value) {
            return serializer.serialize_i64(value);
        }
        let value = u64::try_from(*value).map_err(S::Error::custom)?;
        serializer.serialize_u64(value)
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word {
        Signed(i64),
        Unsigned(u64),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        match Word::deserialize(deserializer) {
            Ok(Word::Signed(value)) => Ok(value.into()),
            Ok(Word::Unsigned(value)) => Ok(value.into()),
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}
