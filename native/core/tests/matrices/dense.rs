//! Matrices in plain Rust, to compare with.

use emily_core::{Error, Shape, Stream, Tensor, TensorType, Type};

#[derive(Clone, Debug)]
pub struct Dense {
    pub rows: usize,
    pub columns: usize,
    /// In row-major order, real and imaginary parts.
    pub elements: Vec<(f64, f64)>,
}

impl Dense {
    pub fn new(rows: usize, columns: usize, element: impl Fn(usize, usize) -> (f64, f64)) -> Self {
        let places = (0..rows * columns).map(|at| (at / columns, at % columns));
        Self {
            rows,
            columns,
            elements: places.map(|(row, column)| element(row, column)).collect(),
        }
    }

    /// Numbers from -1 to 1 that depend on `seed`; the imaginary parts are zero where `ty` is real.
    pub fn random(rows: usize, columns: usize, seed: u64, ty: Type) -> Self {
        let number = |at: u64| {
            let mut bits = (at ^ (seed << 40)).wrapping_add(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // As many bits as f32 holds.
            ((bits >> 44) as f64 / f64::from(1 << 19)) - 1.0
        };
        Self::new(rows, columns, |row, column| {
            let at = 2 * (row * columns + column) as u64;
            let imaginary = if ty == Type::C64 { number(at + 1) } else { 0.0 };
            (number(at), imaginary)
        })
    }

    pub fn identity(size: usize) -> Self {
        Self::diagonal(size, |_| 1.0)
    }

    pub fn diagonal(size: usize, value: impl Fn(usize) -> f64) -> Self {
        Self::new(size, size, |row, column| {
            (if row == column { value(row) } else { 0.0 }, 0.0)
        })
    }

    pub fn at(&self, row: usize, column: usize) -> (f64, f64) {
        self.elements[row * self.columns + column]
    }

    pub fn adjoint(&self) -> Self {
        Self::new(self.columns, self.rows, |row, column| {
            let (re, im) = self.at(column, row);
            (re, -im)
        })
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self::new(self.rows, self.columns, |row, column| {
            let (x, y) = (self.at(row, column), other.at(row, column));
            (x.0 + y.0, x.1 + y.1)
        })
    }

    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows);
        Self::new(self.rows, other.columns, |row, column| {
            (0..self.columns).fold((0.0, 0.0), |sum, inner| {
                let (x, y) = (self.at(row, inner), other.at(inner, column));
                (sum.0 + x.0 * y.0 - x.1 * y.1, sum.1 + x.0 * y.1 + x.1 * y.0)
            })
        })
    }

    /// Only what `keeps`, by row and column.
    pub fn masked(&self, keeps: impl Fn(usize, usize) -> bool) -> Self {
        Self::new(self.rows, self.columns, |row, column| {
            if keeps(row, column) {
                self.at(row, column)
            } else {
                (0.0, 0.0)
            }
        })
    }

    pub fn is_nan(&self) -> bool {
        self.elements.iter().all(|(re, _)| re.is_nan())
    }

    /// That no element differs by more than `allowed`.
    pub fn assert_near(&self, other: &Self, allowed: f64, what: &str) {
        assert_eq!(
            (self.rows, self.columns),
            (other.rows, other.columns),
            "{what}"
        );
        let pairs = self.elements.iter().zip(&other.elements);
        for (at, (x, y)) in pairs.enumerate() {
            let distance = (x.0 - y.0).hypot(x.1 - y.1);
            assert!(distance <= allowed, "{what}, element {at}: {x:?} and {y:?}");
        }
    }
}

/// A batch of matrices of one size as a tensor.
pub fn tensor(stream: &Stream, ty: Type, batch: &[Dense]) -> Tensor {
    let elements = batch.iter().flat_map(|matrix| &matrix.elements);
    let bytes: Vec<u8> = match ty {
        Type::F64 => elements.flat_map(|(re, _)| re.to_ne_bytes()).collect(),
        Type::C64 => elements
            .flat_map(|(re, im)| [*re as f32, *im as f32])
            .flat_map(f32::to_ne_bytes)
            .collect(),
        _ => elements
            .flat_map(|(re, _)| (*re as f32).to_ne_bytes())
            .collect(),
    };
    let dims = [batch.len(), batch[0].rows, batch[0].columns].map(|size| size as i64);
    let shape = Shape::new(&dims).unwrap();
    Tensor::from_bytes(stream, &TensorType { ty, shape }, &bytes).unwrap()
}

/// The matrices of a batch; a batch of vectors becomes matrices of one row.
pub fn read(tensor: &Tensor) -> Result<Vec<Dense>, Error> {
    let TensorType { ty, shape } = tensor.tensor_type();
    let readable = tensor.readable()?;
    let bytes = readable.bytes().unwrap();
    let word = |bytes: &[u8]| f64::from(f32::from_ne_bytes(bytes.try_into().unwrap()));
    let elements: Vec<(f64, f64)> = match ty {
        Type::F64 => bytes
            .chunks_exact(8)
            .map(|bytes| (f64::from_ne_bytes(bytes.try_into().unwrap()), 0.0))
            .collect(),
        Type::C64 => bytes
            .chunks_exact(8)
            .map(|bytes| (word(&bytes[..4]), word(&bytes[4..])))
            .collect(),
        Type::F32 => bytes
            .chunks_exact(4)
            .map(|bytes| (word(bytes), 0.0))
            .collect(),
        other => panic!("expected a result of a type that is compared, got: {other}"),
    };
    let dims: Vec<usize> = shape.dims().iter().map(|&dim| dim as usize).collect();
    let (rows, columns) = match dims[..] {
        [_, rows, columns] => (rows, columns),
        [_, columns] => (1, columns),
        _ => (1, 1),
    };
    let matrices = elements.chunks_exact(rows * columns);
    Ok(matrices
        .map(|elements| Dense {
            rows,
            columns,
            elements: elements.to_vec(),
        })
        .collect())
}
