//! The elements of a buffer, read without loss.

use std::fmt;

use emily_core::Type;
use half::{bf16, f16};

#[derive(Clone, Copy, PartialEq)]
pub enum Element {
    Integer(i128),
    Float(f64),
    Complex(f64, f64),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Complex(re, im) => write!(f, "({re:?}, {im:?})"),
        }
    }
}

/// The elements of little-endian `bytes`.
pub fn elements(ty: Type, bytes: &[u8]) -> Vec<Element> {
    bytes
        .chunks_exact(ty.bytes())
        .map(|bytes| element(ty, bytes))
        .collect()
}

fn element(ty: Type, bytes: &[u8]) -> Element {
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().unwrap())
        };
    }
    match ty {
        Type::U8 => Element::Integer(read!(u8).into()),
        Type::U16 => Element::Integer(read!(u16).into()),
        Type::U32 => Element::Integer(read!(u32).into()),
        Type::U64 => Element::Integer(read!(u64).into()),
        Type::S8 => Element::Integer(read!(i8).into()),
        Type::S16 => Element::Integer(read!(i16).into()),
        Type::S32 => Element::Integer(read!(i32).into()),
        Type::S64 => Element::Integer(read!(i64).into()),
        Type::F16 => Element::Float(read!(f16).into()),
        Type::Bf16 => Element::Float(read!(bf16).into()),
        Type::F32 => Element::Float(read!(f32).into()),
        Type::F64 => Element::Float(read!(f64)),
        Type::C64 => {
            let part = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
            Element::Complex(part(&bytes[..4]), part(&bytes[4..]))
        }
    }
}
