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

/// The elements of little-endian `bytes`; what fills the last byte counts as elements too.
pub fn elements(ty: Type, bytes: &[u8]) -> Vec<Element> {
    if ty.bits() < 8 {
        let fields = bytes.iter().flat_map(|&byte| fields(ty, byte));
        return fields.map(Element::Integer).collect();
    }
    let size = ty.bits() as usize / 8;
    bytes
        .chunks_exact(size)
        .map(|bytes| element(ty, bytes))
        .collect()
}

/// The integers in a byte, the first one in its highest bits.
fn fields(ty: Type, byte: u8) -> impl Iterator<Item = i128> {
    let bits = ty.bits();
    let places = (0..8 / bits).map(move |at| 8 - bits - at * bits);
    places.map(move |place| {
        let field = i128::from(byte >> place) & ((1 << bits) - 1);
        let negative = ty.nx().0 == "s" && field >= 1 << (bits - 1);
        if negative { field - (1 << bits) } else { field }
    })
}

/// 4 bits of exponent, 3 of fraction, no infinities.
fn e4m3fn(code: u8) -> f64 {
    let sign = if code < 0x80 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(code >> 3 & 0xf), f64::from(code & 7));
    sign * match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * 2_f64.powi(-9),
        _ => (8.0 + fraction) * 2_f64.powi(exponent - 10),
    }
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
        Type::U2 | Type::U4 | Type::S2 | Type::S4 => unreachable!("{ty} has no bytes of its own"),
        Type::F8E5M2 => Element::Float(f16::from_le_bytes([0, bytes[0]]).into()),
        Type::F8E4M3FN => Element::Float(e4m3fn(bytes[0])),
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
