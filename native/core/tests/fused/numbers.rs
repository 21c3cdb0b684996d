//! Tensors of floats, as f64 on this side.

use emily_core::{Op, Shape, Stream, Tensor, TensorType, Type};
use half::{bf16, f16};

/// The types that the operations have.
pub const TYPES: [Type; 3] = [Type::F32, Type::F16, Type::Bf16];

/// A tensor's sizes and elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Numbers {
    pub fn new(dims: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len());
        let dims = dims.to_vec();
        Self { dims, values }
    }

    /// Numbers from -`most` to `most`, always the same for a seed (Knuth's MMIX generator), that `ty` holds
    /// exactly.
    pub fn drawn(seed: u64, ty: Type, dims: &[usize], most: f64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let part = (state >> 33) as f64 / f64::from(1_u32 << 31);
            rounded(ty, (2.0 * part - 1.0) * most)
        };
        let values = (0..dims.iter().product()).map(|_| next()).collect();
        Self::new(dims, values)
    }

    /// The last axis.
    pub fn width(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.width().max(1))
    }

    /// The element at the place that `index` has in a tensor of the sizes `dims`, to which this one
    /// broadcasts.
    pub fn broadcast_at(&self, dims: &[usize], mut index: usize) -> f64 {
        let (mut at, mut stride) = (0, 1);
        for axis in (0..dims.len()).rev() {
            let place = index % dims[axis];
            index /= dims[axis];
            if let Some(own) = (axis + self.dims.len()).checked_sub(dims.len()) {
                at += stride * if self.dims[own] == 1 { 0 } else { place };
                stride *= self.dims[own];
            }
        }
        self.values[at]
    }

    pub fn tensor_type(&self, ty: Type) -> TensorType {
        let dims: Vec<i64> = self.dims.iter().map(|&size| size as i64).collect();
        let shape = Shape::new(&dims).unwrap();
        TensorType { ty, shape }
    }

    pub fn tensor(&self, stream: &Stream, ty: Type) -> Tensor {
        let bytes: Vec<u8> = self.values.iter().flat_map(|&x| encoded(ty, x)).collect();
        Tensor::from_bytes(stream, &self.tensor_type(ty), &bytes).unwrap()
    }

    /// The same numbers as a part of a wider tensor's rows, so that they have gaps between them.
    pub fn sliced(&self, stream: &Stream, ty: Type) -> Tensor {
        let width = self.width();
        let row = |row: &[f64]| [&[7.0, 7.0], row, &[7.0]].concat();
        let mut dims = self.dims.clone();
        *dims.last_mut().unwrap() = width + 3;
        let wide = Self::new(&dims, self.rows().flat_map(row).collect());
        let mut starts = vec![0; dims.len()];
        *starts.last_mut().unwrap() = 2;
        let slice = Op::Slice {
            starts,
            lengths: self.dims.clone(),
            strides: vec![1; dims.len()],
        };
        apply(stream, &slice, &[&wide.tensor(stream, ty)])
    }

    /// The same numbers as a transposed view, so that neighbours in the last axis are not neighbours in
    /// memory.
    pub fn transposed(&self, stream: &Stream, ty: Type) -> Tensor {
        let (rows, width) = (self.values.len() / self.width().max(1), self.width());
        let at = |index: usize| self.values[index % rows * width + index / rows];
        let (width_first, rest) = ([&[width], &self.dims[..self.dims.len() - 1]].concat(), 1..);
        let turned = Self::new(&width_first, (0..self.values.len()).map(at).collect());
        let mut axes: Vec<usize> = rest.take(self.dims.len() - 1).collect();
        axes.push(0);
        apply(
            stream,
            &Op::Transpose { axes },
            &[&turned.tensor(stream, ty)],
        )
    }

    pub fn read(tensor: &Tensor) -> Self {
        let ty = tensor.tensor_type();
        let readable = tensor.readable().unwrap();
        let bytes = readable.bytes().unwrap();
        let width = ty.ty.bytes();
        let values = bytes.chunks(width).map(|bytes| decoded(ty.ty, bytes));
        let dims: Vec<usize> = ty.shape.dims().iter().map(|&size| size as usize).collect();
        Self::new(&dims, values.collect())
    }
}

pub fn apply(stream: &Stream, op: &Op, inputs: &[&Tensor]) -> Tensor {
    Tensor::apply(stream, op, None, inputs).unwrap()
}

/// The nearest number of the type.
pub fn rounded(ty: Type, x: f64) -> f64 {
    decoded(ty, &encoded(ty, x))
}

fn encoded(ty: Type, x: f64) -> Vec<u8> {
    match ty {
        Type::U8 => vec![x as u8],
        Type::F16 => f16::from_f64(x).to_ne_bytes().to_vec(),
        Type::Bf16 => bf16::from_f64(x).to_ne_bytes().to_vec(),
        _ => (x as f32).to_ne_bytes().to_vec(),
    }
}

fn decoded(ty: Type, bytes: &[u8]) -> f64 {
    match ty {
        Type::F16 => f16::from_ne_bytes(bytes.try_into().unwrap()).to_f64(),
        Type::Bf16 => bf16::from_ne_bytes(bytes.try_into().unwrap()).to_f64(),
        _ => f64::from(f32::from_ne_bytes(bytes.try_into().unwrap())),
    }
}

/// A type's distance from 1 to the next number.
pub fn unit(ty: Type) -> f64 {
    match ty {
        Type::F16 => 2_f64.powi(-10),
        Type::Bf16 => 2_f64.powi(-7),
        _ => 2_f64.powi(-23),
    }
}

/// That two tensors agree: to the nearest number of the type, and `relative` of the expected one and
/// `absolute` beside. What is not finite must be the same.
pub fn assert_near(
    what: &str,
    ty: Type,
    got: &Numbers,
    expected: &Numbers,
    (relative, absolute): (f64, f64),
) {
    assert_eq!(got.dims, expected.dims, "{what}");
    for (at, (&got, &expected)) in got.values.iter().zip(&expected.values).enumerate() {
        let expected = if expected.is_finite() {
            expected
        } else {
            rounded(ty, expected)
        };
        let allowed = expected.abs() * (unit(ty) + relative) + absolute;
        let same = got == rounded(ty, expected) || (got.is_nan() && expected.is_nan());
        assert!(
            same || (got - expected).abs() <= allowed,
            "{what} of {ty:?} at {at}: expected {expected:e}, got {got:e}, {:.1} of what is allowed",
            (got - expected).abs() / allowed
        );
    }
}
