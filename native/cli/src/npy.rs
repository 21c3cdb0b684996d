//! NumPy's file of one array: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use anyhow::{Context, Result, anyhow, bail};
use emily_core::{Shape, TensorType, Type};

const MAGIC: &[u8] = b"\x93NUMPY";

/// An array of a file's bytes.
#[derive(Debug)]
pub struct Array<'a> {
    /// Its type and shape.
    pub ty: TensorType,
    /// Its elements, in row-major order.
    pub bytes: &'a [u8],
}

/// The array in these bytes.
///
/// # Errors
///
/// If they are not those of a NumPy file, or the array is of a type that Nx does not have, in Fortran's
/// order, or cut short.
pub fn read(file: &[u8]) -> Result<Array<'_>> {
    let rest = file
        .strip_prefix(MAGIC)
        .ok_or_else(|| anyhow!("expected a NumPy file, got: another one"))?;
    let (header, bytes) = divided(rest).context("expected a NumPy file, got: one cut short")?;
    let header = std::str::from_utf8(header).context("the header")?;
    if field(header, "fortran_order")? != "False" {
        bail!("expected an array in C's order, got: one in Fortran's");
    }
    let descr = field(header, "descr")?.trim_matches(['\'', '"']);
    let ty = element_type(descr)
        .ok_or_else(|| anyhow!("expected an array of a type of Nx, got: {descr}"))?;
    let shape = Shape::new(&dims(field(header, "shape")?)?)?;
    let ty = TensorType { ty, shape };
    if bytes.len() != ty.bytes() {
        bail!(
            "expected {} bytes for {ty}, got: {}",
            ty.bytes(),
            bytes.len()
        );
    }
    Ok(Array { ty, bytes })
}

/// The header, and what comes after it.
fn divided(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = rest.split_at_checked(2)?;
    let wide = version[0] > 1;
    let (length, rest) = rest.split_at_checked(if wide { 4 } else { 2 })?;
    let mut bytes = [0; 4];
    bytes[..length.len()].copy_from_slice(length);
    rest.split_at_checked(u32::from_le_bytes(bytes) as usize)
}

/// The text of a field of the header, a literal of Python's: `{'descr': '<f4', 'shape': (2, 3), }`.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str> {
    let found = header.split_once(&format!("'{name}':"));
    let (_, rest) = found.ok_or_else(|| anyhow!("expected a field {name}, got: {header:?}"))?;
    let rest = rest.trim_start();
    let end = match rest.starts_with('(') {
        true => rest.find(')').map(|end| end + 1),
        false => rest.find([',', '}']),
    };
    let end = end.ok_or_else(|| anyhow!("expected an end of {name}, got: {header:?}"))?;
    Ok(rest[..end].trim())
}

fn dims(text: &str) -> Result<Vec<i64>> {
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    let inner = inner.ok_or_else(|| anyhow!("expected a tuple of sizes, got: {text}"))?;
    let sizes = inner
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    let dims = sizes.map(|size| {
        size.parse()
            .map_err(|_| anyhow!("expected a size, got: {size}"))
    });
    dims.collect()
}

fn element_type(descr: &str) -> Option<Type> {
    let (order, name) = descr.split_at_checked(1)?;
    // A byte has no order; this host's is little-endian, as every one that MLX runs on.
    if !["<", "|", "="].contains(&order) {
        return None;
    }
    Some(match name {
        "b1" | "u1" => Type::U8,
        "u2" => Type::U16,
        "u4" => Type::U32,
        "u8" => Type::U64,
        "i1" => Type::S8,
        "i2" => Type::S16,
        "i4" => Type::S32,
        "i8" => Type::S64,
        "f2" => Type::F16,
        "f4" => Type::F32,
        "f8" => Type::F64,
        "c8" => Type::C64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, bytes: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), bytes].concat()
    }

    #[test]
    fn reads_what_numpy_writes() {
        for (header, ty, size) in [
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n",
                "f32[2][3]",
                24,
            ),
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n",
                "u8[3]",
                3,
            ),
            (
                "{'descr': '<c8', 'fortran_order': False, 'shape': (), }\n",
                "c64",
                8,
            ),
            (
                "{'descr': '<i8', 'fortran_order': False, 'shape': (0, 4), }\n",
                "s64[0][4]",
                0,
            ),
        ] {
            let file = file(header, &vec![7; size]);
            let array = read(&file).unwrap();
            assert_eq!(
                (array.ty.to_string(), array.bytes.len()),
                (ty.to_owned(), size)
            );
        }
        let header = b"{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }";
        let length = (header.len() as u32).to_le_bytes();
        let second = [MAGIC, &[2, 0], &length, header, &[5]].concat();
        assert_eq!(read(&second).unwrap().bytes, [5]);
    }

    #[test]
    fn refuses_what_is_no_array() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        let whole = file(header, &[0; 8]);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        for (from, to, text) in [
            ("<f4", ">f4", "expected an array of a type of Nx, got: >f4"),
            (
                "False",
                "True",
                "expected an array in C's order, got: one in Fortran's",
            ),
            ("(2,)", "(3,)", "expected 12 bytes for f32[3], got: 8"),
            ("(2,)", "(x,)", "expected a size, got: x"),
            ("'shape'", "'form'", "expected a field shape"),
        ] {
            let error = read(&file(&header.replace(from, to), &[0; 8])).unwrap_err();
            assert!(format!("{error:#}").starts_with(text), "{error:#}");
        }
    }
}
