//! What an operation is given.

use crate::{Array, Kind, TensorType, Type};

/// An input of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub array: &'a Array,
    /// Nx's type; MLX's own may be a wider one that carries it.
    pub ty: Type,
    /// Whether the elements can be read now.
    pub ready: bool,
}

/// Looking at more elements than this costs a scheduler more than checking them later.
const MOST_ELEMENTS: usize = 4096;

impl Operand<'_> {
    pub(super) fn tensor_type(&self) -> TensorType {
        TensorType {
            ty: self.ty,
            shape: self.array.shape(),
        }
    }

    /// The elements of a small integer tensor that can be read without waiting, in row-major order.
    /// A u64 beyond i64 becomes i64's greatest number.
    pub(crate) fn ready_elements(&self) -> Option<Vec<i64>> {
        let size = self.array.shape().size();
        if !self.ready || size > MOST_ELEMENTS || !self.array.is_row_contiguous() {
            return None;
        }
        if size == 0 {
            return Some(Vec::new());
        }
        macro_rules! read {
            ($($ty:ident as $element:ty),+) => {
                match self.array.ty() {
                    $(Type::$ty => {
                        // SAFETY: the array is computed and row-major, so `size` elements of its type
                        // lie at its address; MLX aligns its buffers for every element type.
                        let elements = unsafe {
                            std::slice::from_raw_parts(self.array.data().cast::<$element>(), size)
                        };
                        let whole = |&element| i64::try_from(element).unwrap_or(i64::MAX);
                        Some(elements.iter().map(whole).collect())
                    })+
                    _ => None,
                }
            };
        }
        read!(
            U8 as u8, U16 as u16, U32 as u32, U64 as u64, S8 as i8, S16 as i16, S32 as i32,
            S64 as i64
        )
    }

    /// Which elements of a small tensor are zero, in row-major order, if they can be read without
    /// waiting.
    pub(crate) fn ready_zeros(&self) -> Option<Vec<bool>> {
        let (ty, size) = (self.array.ty(), self.array.shape().size());
        if !self.ready || size == 0 || size > MOST_ELEMENTS || !self.array.is_row_contiguous() {
            return None;
        }
        // SAFETY: the array is computed and row-major, so the bytes of its elements lie at its address.
        let bytes = unsafe { std::slice::from_raw_parts(self.array.data(), size * ty.bytes()) };
        let parts = if ty.kind() == Kind::Complex { 2 } else { 1 };
        let part = |bytes: &[u8]| {
            let sign = if ty.is_inexact() { 0x7f } else { 0xff };
            let (rest, most) = bytes.split_at(bytes.len() - 1);
            rest.iter().all(|&byte| byte == 0) && most.iter().all(|&byte| byte & sign == 0)
        };
        let zero = |bytes: &[u8]| bytes.chunks_exact(ty.bytes() / parts).all(part);
        Some(bytes.chunks_exact(ty.bytes()).map(zero).collect())
    }
}
