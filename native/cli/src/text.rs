//! Tensors as text.

use anyhow::{Result, anyhow};
use emily_core::{Op, Tensor, TensorType, Type};

/// More elements than this are not shown.
const MOST_SHOWN: usize = 32;

/// The type and shape, and the elements if they are few.
pub fn tensor(tensor: &Tensor) -> Result<String> {
    let ty = tensor.tensor_type();
    if ty.shape.size() > MOST_SHOWN {
        return Ok(ty.to_string());
    }
    let elements = elements(tensor)?;
    let dims: Vec<usize> = ty.shape.dims().iter().map(|&dim| dim as usize).collect();
    Ok(format!("{ty} {}", nested(&elements, &dims)))
}

/// The elements of a tensor of whatever type, as text, in types that Rust has.
fn elements(tensor: &Tensor) -> Result<Vec<String>> {
    let ty = tensor.tensor_type();
    let wide = match ty.ty {
        Type::F64 | Type::C64 | Type::U64 => ty.ty,
        ty if ty.is_integer() => Type::S64,
        _ => Type::F32,
    };
    let wide = TensorType {
        ty: wide,
        shape: ty.shape,
    };
    let wide = Tensor::apply(tensor.stream(), &Op::AsType, Some(&wide), &[tensor])?.readable()?;
    let bytes = wide
        .bytes()
        .ok_or_else(|| anyhow!("expected elements, got: none"))?;
    let size = wide.tensor_type().ty.bits() as usize / 8;
    Ok(bytes
        .chunks_exact(size)
        .map(|bytes| element(wide.tensor_type().ty, bytes))
        .collect())
}

fn element(ty: Type, bytes: &[u8]) -> String {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let single = |bytes: &[u8]| f32::from_bits(word(bytes) as u32);
    match ty {
        Type::U64 => word(bytes).to_string(),
        Type::F64 => format!("{:?}", f64::from_bits(word(bytes))),
        Type::F32 => format!("{:?}", single(bytes)),
        Type::C64 => format!("{:?}{:+?}i", single(&bytes[..4]), single(&bytes[4..])),
        _ => (word(bytes) as i64).to_string(),
    }
}

/// `[[1, 2], [3, 4]]`
fn nested(elements: &[String], dims: &[usize]) -> String {
    let Some((&first, rest)) = dims.split_first() else {
        return elements.concat();
    };
    let size = rest.iter().product::<usize>();
    let parts = (0..first).map(|at| {
        let part = elements.get(at * size..(at + 1) * size);
        nested(part.unwrap_or_default(), rest)
    });
    format!("[{}]", parts.collect::<Vec<_>>().join(", "))
}

/// `1.2 MiB`
pub fn bytes(count: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// `12.3 µs`
pub fn seconds(seconds: f64) -> String {
    match seconds {
        long if long >= 1.0 => format!("{long:.2} s"),
        long if long >= 1e-3 => format!("{:.2} ms", long * 1e3),
        short => format!("{:.1} µs", short * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use emily_core::{Device, Shape, Stream, install_error_handler};

    use super::*;

    #[test]
    fn elements_of_each_type_are_shown() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        for (ty, dims, bytes, shown) in [
            (
                Type::U8,
                vec![2, 2],
                vec![1, 2, 3, 255],
                "u8[2][2] [[1, 2], [3, 255]]",
            ),
            (Type::S4, vec![3], vec![0x1f, 0x70], "s4[3] [1, -1, 7]"),
            (Type::Bf16, vec![], vec![0xc0, 0x3f], "bf16 1.5"),
            (
                Type::C64,
                vec![1],
                [1.0_f32, -2.5].map(f32::to_le_bytes).concat(),
                "c64[1] [1.0-2.5i]",
            ),
            (
                Type::U64,
                vec![1],
                vec![255; 8],
                "u64[1] [18446744073709551615]",
            ),
            (Type::F64, vec![0, 2], vec![], "f64[0][2] []"),
        ] {
            let shape = Shape::new(&dims).unwrap();
            let given = Tensor::from_bytes(&stream, &TensorType { ty, shape }, &bytes).unwrap();
            assert_eq!(tensor(&given).unwrap(), shown);
        }
        let many = TensorType {
            ty: Type::U8,
            shape: Shape::new(&[33]).unwrap(),
        };
        let many = Tensor::from_bytes(&stream, &many, &[0; 33]).unwrap();
        assert_eq!(tensor(&many).unwrap(), "u8[33]");
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)].join(" "),
            "0 B 1023 B 1.5 KiB 5.0 GiB"
        );
        assert_eq!(
            [seconds(2.5e-6), seconds(0.0125), seconds(3.0)].join(" "),
            "2.5 µs 12.50 ms 3.00 s"
        );
    }
}
