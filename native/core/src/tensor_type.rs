//! A tensor's element type and shape.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{Error, Result, Type};

/// Far beyond what anyone computes with; it keeps what is done for each axis short.
const MOST_AXES: usize = 128;

/// The size of each axis, checked to fit MLX: each in 32 bits, the element count in 60.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<i64>", into = "Vec<i64>")]
pub struct Shape(SmallVec<[i32; 6]>);

impl Shape {
    /// The shape with these axis sizes.
    ///
    /// # Errors
    ///
    /// If there are more than 128 axes, if a size is negative or over 2^31 - 1, or if the element
    /// count is 2^60 or more.
    pub fn new(dims: &[i64]) -> Result<Self> {
        if dims.len() > MOST_AXES {
            return Err(Error::argument(format!(
                "expected :shape to have at most {MOST_AXES} axes, got: {}",
                dims.len()
            )));
        }
        let size = |&dim: &i64| i32::try_from(dim).ok().filter(|dim| *dim >= 0);
        let sizes: Option<_> = dims.iter().map(size).collect();
        // Leaves room for the widest element, whose byte count must fit too; an axis without
        // elements does not make up for the others.
        let count = dims
            .iter()
            .try_fold(1_i64, |count, &dim| count.checked_mul(dim.max(1)));
        match (sizes, count) {
            (Some(sizes), Some(count)) if count < 1 << 60 => Ok(Self(sizes)),
            _ => Err(Error::argument(format!(
                "expected :shape to be sizes from 0 to 2147483647 with a product below 2^60, got: {dims:?}"
            ))),
        }
    }

    /// For sizes that are known to fit because an MLX array already has them.
    pub(crate) fn trusted(dims: &[i32]) -> Self {
        Self(SmallVec::from_slice(dims))
    }

    /// The axis sizes.
    pub fn dims(&self) -> &[i32] {
        &self.0
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        self.0.iter().map(|&dim| dim as usize).product()
    }
}

impl TryFrom<Vec<i64>> for Shape {
    type Error = Error;

    fn try_from(dims: Vec<i64>) -> Result<Self> {
        Self::new(&dims)
    }
}

impl From<Shape> for Vec<i64> {
    fn from(shape: Shape) -> Self {
        shape.0.into_iter().map(i64::from).collect()
    }
}

/// What is known of a tensor before it is computed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// The element type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// The size of each axis.
    pub shape: Shape,
}

impl TensorType {
    /// The size of a row-major buffer of this tensor, in bytes. Elements of less than a byte lie
    /// beside each other in one, the first one in its highest bits, as Nx packs them.
    pub fn bytes(&self) -> usize {
        let size = self.shape.size();
        match self.ty.bits() {
            bits if bits < 8 => size.div_ceil((8 / bits) as usize),
            bits => size * (bits / 8) as usize,
        }
    }

    /// The bytes that MLX needs to compute it.
    pub(crate) fn memory(&self) -> usize {
        self.shape.size().saturating_mul(self.ty.working().bytes())
    }

    /// The same shape of the elements that MLX keeps.
    pub(crate) fn carried(&self) -> Self {
        Self {
            ty: self.ty.carrier(),
            shape: self.shape.clone(),
        }
    }
}

/// As Nx prints it: `f32[2][3]`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ty)?;
        self.shape.0.iter().try_for_each(|dim| write!(f, "[{dim}]"))
    }
}

#[cfg(test)]
impl TensorType {
    /// The type and shape that a message shows so, such as `f32[2][3]`.
    pub(crate) fn read(text: &str) -> Self {
        let (name, dims) = text.split_once('[').unwrap_or((text, ""));
        let dims = dims.split(['[', ']']).filter(|dim| !dim.is_empty());
        let dims: Vec<i64> = dims.map(|dim| dim.parse().unwrap()).collect();
        let mut types = Type::ALL.into_iter();
        Self {
            ty: types.find(|ty| ty.to_string() == name).unwrap(),
            shape: Shape::new(&dims).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_sizes_that_mlx_cannot_hold() {
        for dims in [
            vec![-1],
            vec![2, -3],
            vec![1 << 31],
            vec![i64::MAX],
            vec![(1 << 31) - 1, (1 << 31) - 1],
            vec![1 << 20, 1 << 20, 1 << 20, 1 << 20],
            vec![0, 1 << 30, 1 << 30],
        ] {
            let error = Shape::new(&dims).unwrap_err().to_string();
            assert!(error.ends_with(&format!("got: {dims:?}")), "{error}");
        }
    }

    #[test]
    fn refuses_more_axes_than_anyone_needs() {
        assert_eq!(Shape::new(&[1; 128]).unwrap().rank(), 128);
        assert_eq!(
            Shape::new(&[1; 129]).unwrap_err().to_string(),
            "expected :shape to have at most 128 axes, got: 129"
        );
    }

    #[test]
    fn counts_elements_and_bytes() {
        let shape = Shape::new(&[2, 3]).unwrap();
        let tensor = TensorType {
            ty: Type::S16,
            shape,
        };
        assert_eq!((tensor.shape.size(), tensor.bytes()), (6, 12));
        assert_eq!(tensor.to_string(), "s16[2][3]");
        for (ty, size, bytes) in [
            (Type::U2, 9, 3),
            (Type::S4, 3, 2),
            (Type::S4, 0, 0),
            (Type::F8E5M2, 3, 3),
        ] {
            let shape = Shape::new(&[size]).unwrap();
            assert_eq!(TensorType { ty, shape }.bytes(), bytes, "{size} of {ty}");
        }
        assert_eq!(Shape::new(&[]).unwrap().size(), 1);
        assert_eq!(Shape::new(&[4, 0]).unwrap().size(), 0);
    }
}
