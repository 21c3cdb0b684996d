//! The bytes of types that MLX does not have, as Nx writes them, and the elements that carry them.

use crate::{TensorType, Type};

/// The carried elements of `bytes`, as bytes in the host's order.
pub(crate) fn unpack(ty: &TensorType, bytes: &[u8]) -> Vec<u8> {
    match ty.ty {
        Type::F8E5M2 => bytes.iter().flat_map(|&code| wide_e5m2(code)).collect(),
        Type::F8E4M3FN => bytes.iter().flat_map(|&code| wide_e4m3fn(code)).collect(),
        narrow => fields(narrow, bytes).take(ty.shape.size()).collect(),
    }
}

/// The elements that `carried` holds, as bytes in the host's order; the last byte is filled with
/// zeros.
pub(crate) fn pack(ty: Type, carried: &[u8]) -> Box<[u8]> {
    let halves = || {
        let halves = carried.chunks_exact(2);
        halves.map(|half| u16::from_ne_bytes([half[0], half[1]]))
    };
    match ty {
        Type::F8E5M2 => halves().map(narrow_e5m2).collect(),
        Type::F8E4M3FN => halves().map(narrow_e4m3fn).collect(),
        _ => joined(ty.bits() as u32, carried),
    }
}

/// Elements of less than a byte, the first one in the byte's highest bits.
fn fields(ty: Type, bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bits = ty.bits() as u32;
    let signed = ty.nx().0 == "s";
    bytes.iter().flat_map(move |&byte| {
        (0..8 / bits).map(move |at| {
            let highest = byte << (at * bits);
            if signed {
                (highest as i8 >> (8 - bits)) as u8
            } else {
                highest >> (8 - bits)
            }
        })
    })
}

fn joined(bits: u32, carried: &[u8]) -> Box<[u8]> {
    let mask = (1_u8 << bits) - 1;
    let bytes = carried.chunks((8 / bits) as usize);
    bytes
        .map(|elements| {
            let places = (0..8 / bits).map(|at| 8 - bits - at * bits);
            let placed = elements.iter().zip(places);
            placed.fold(0, |byte, (element, place)| byte | (element & mask) << place)
        })
        .collect()
}

/// The upper half of an f16.
fn wide_e5m2(code: u8) -> [u8; 2] {
    (u16::from(code) << 8).to_ne_bytes()
}

fn narrow_e5m2(half: u16) -> u8 {
    let code = (half >> 8) as u8;
    // What makes it no number may all lie in the lower half.
    let infinite = code & 0x7f == 0x7c;
    if infinite && half & 0xff > 0 {
        code | 2
    } else {
        code
    }
}

/// The exponent of an f16 is by 8 greater, and below the least normal number an f16 still is normal.
fn wide_e4m3fn(code: u8) -> [u8; 2] {
    let sign = u16::from(code & 0x80) << 8;
    let magnitude = u16::from(code & 0x7f);
    let wide = match magnitude {
        0x7f => 0x7e00,
        8.. => (magnitude << 7) + (8 << 10),
        0 => 0,
        // A multiple of 2^-9, whose highest bit goes without saying.
        _ => {
            let highest = magnitude.ilog2() as u16;
            ((highest + 6) << 10) | ((magnitude << (10 - highest)) & 0x3ff)
        }
    };
    (sign | wide).to_ne_bytes()
}

fn narrow_e4m3fn(half: u16) -> u8 {
    let sign = (half >> 8) as u8 & 0x80;
    let magnitude = half & 0x7fff;
    let exponent = magnitude >> 10;
    let code = match exponent {
        31 => 0x7f,
        9.. => (magnitude >> 7) - (8 << 3),
        6.. => (0x400 | (magnitude & 0x3ff)) >> (16 - exponent),
        _ => 0,
    };
    sign | code as u8
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::Shape;

    fn tensor(ty: Type, size: usize) -> TensorType {
        let shape = Shape::new(&[size as i64]).unwrap();
        TensorType { ty, shape }
    }

    #[test]
    fn elements_share_bytes_the_first_one_in_the_highest_bits() {
        for (ty, bytes, elements) in [
            (Type::U2, vec![0b00_01_10_11], vec![0, 1, 2, 3]),
            (Type::S2, vec![0b00_01_10_11], vec![0, 1, -2, -1]),
            (Type::U4, vec![0x12, 0xf0], vec![1, 2, 15]),
            (Type::S4, vec![0x78, 0xf0], vec![7, -8, -1]),
            (Type::S4, vec![], vec![]),
        ] {
            let ty = tensor(ty, elements.len());
            let carried: Vec<u8> = elements
                .iter()
                .map(|&element: &i32| element as u8)
                .collect();
            assert_eq!(unpack(&ty, &bytes), carried, "{ty}");
            assert_eq!(*pack(ty.ty, &carried), bytes, "{ty}");
        }
    }

    #[test]
    fn each_f8_is_the_f16_of_its_value_and_comes_back() {
        let value = |bytes: [u8; 2]| f16::from_ne_bytes(bytes).to_f64();
        for code in 0..=u8::MAX {
            let sign = if code < 0x80 { 1.0 } else { -1.0 };
            let scaled = |fraction: u8, exponent: u8, bias: i32| {
                let whole = f64::from(code & ((1 << fraction) - 1)) / f64::from(1 << fraction);
                let normal = if exponent > 0 { 1.0 } else { 0.0 };
                sign * (normal + whole) * 2_f64.powi(i32::from(exponent.max(1)) - bias)
            };
            let (e5m2, e4m3fn) = (wide_e5m2(code), wide_e4m3fn(code));
            match (code & 0x7f, (code >> 2) & 0x1f, (code >> 3) & 0xf) {
                (0x7d.., ..) => assert!(value(e5m2).is_nan()),
                (0x7c, ..) => assert_eq!(value(e5m2), sign * f64::INFINITY),
                (_, exponent, _) => assert_eq!(value(e5m2), scaled(2, exponent, 15)),
            }
            match (code & 0x7f, (code >> 3) & 0xf) {
                (0x7f, _) => assert!(value(e4m3fn).is_nan()),
                (_, exponent) => assert_eq!(value(e4m3fn), scaled(3, exponent, 7)),
            }
            assert_eq!(narrow_e5m2(u16::from_ne_bytes(e5m2)), code);
            assert_eq!(narrow_e4m3fn(u16::from_ne_bytes(e4m3fn)), code);
        }
        assert_eq!(narrow_e5m2(0x7c01), 0x7e);
    }
}
