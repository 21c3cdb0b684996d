//! MLX's factorizations, which are LAPACK's, and what works on the last two axes.

use mlx_sys as sys;

use super::Mlx;
use crate::{Array, Result, error::take_message};

impl Mlx {
    /// The elements along the diagonals of the matrices in the last two axes.
    pub(crate) fn diagonal(self, x: &Array) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::from_call(|out| unsafe { sys::mlx_diagonal(out, x.raw(), 0, -2, -1, self.0) })
    }

    /// The matrices with zeros above the diagonal that is `k` above the main one.
    pub(crate) fn tril(self, x: &Array, k: i32) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe { sys::mlx_tril(out, x.raw(), k, self.0) })
    }

    /// The matrices with zeros below the diagonal that is `k` above the main one.
    pub(crate) fn triu(self, x: &Array, k: i32) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe { sys::mlx_triu(out, x.raw(), k, self.0) })
    }

    /// The lower triangular factors. Where a matrix is not positive definite, the factor's diagonal
    /// is not positive throughout.
    pub(crate) fn cholesky(self, x: &Array) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe { sys::mlx_linalg_cholesky(out, x.raw(), false, self.0) })
    }

    /// Orthonormal columns and upper triangular factors, both reduced.
    pub(crate) fn qr(self, x: &Array) -> Result<(Array, Array)> {
        // SAFETY: the handle is live and the results' are writable.
        let (q, r) = pair(|q, r| unsafe { sys::mlx_linalg_qr(q, r, x.raw(), self.0) })?;
        Ok((self.alone(q)?, self.alone(r)?))
    }

    /// Ascending eigenvalues, and eigenvectors as columns, of the matrices' lower triangles. On what
    /// is not finite LAPACK fails, which ends the process.
    pub(crate) fn eigh(self, x: &Array) -> Result<(Array, Array)> {
        // SAFETY: the handle is live, the results' are writable, and the text ends with a NUL.
        let (values, vectors) = pair(|values, vectors| unsafe {
            sys::mlx_linalg_eigh(values, vectors, x.raw(), c"L".as_ptr(), self.0)
        })?;
        Ok((self.alone(values)?, self.alone(vectors)?))
    }

    /// The full U, the descending singular values, and the full V transposed. On what is not finite
    /// LAPACK fails, which ends the process.
    pub(crate) fn svd(self, x: &Array) -> Result<[Array; 3]> {
        // SAFETY: the handle is live and the list is writable.
        let parts = triple(|list| unsafe { sys::mlx_linalg_svd(list, x.raw(), true, self.0) })?;
        self.each_alone(parts)
    }

    /// The row of L that each row of the matrix is in, L and U.
    pub(crate) fn lu(self, x: &Array) -> Result<[Array; 3]> {
        // SAFETY: the handle is live and the list is writable.
        let parts = triple(|list| unsafe { sys::mlx_linalg_lu(list, x.raw(), self.0) })?;
        self.each_alone(parts)
    }

    fn each_alone(self, [a, b, c]: [Array; 3]) -> Result<[Array; 3]> {
        Ok([self.alone(a)?, self.alone(b)?, self.alone(c)?])
    }

    /// One of several results of a function as an array that does not know of the others.
    ///
    /// Whoever copies or drops a reference to such a result looks at the others' references, which an
    /// evaluation on another thread clears. The node in between shares the memory and computes nothing.
    pub(super) fn alone(self, x: Array) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::from_call(|out| unsafe { sys::mlx_stop_gradient(out, x.raw(), self.0) })
    }
}

/// Calls an mlx-c function that fills two arrays and returns a status.
fn pair(
    call: impl FnOnce(*mut sys::mlx_array, *mut sys::mlx_array) -> i32,
) -> Result<(Array, Array)> {
    let mut first = None;
    let second = Array::from_call(|second| {
        let mut status = 1;
        first = Some(Array::from_call(|first| {
            status = call(first, second);
            status
        }));
        status
    });
    match (first, second) {
        // The first one has taken MLX's message.
        (Some(Err(error)), _) | (_, Err(error)) => Err(error),
        (Some(Ok(first)), Ok(second)) => Ok((first, second)),
        (None, Ok(_)) => Err(take_message()),
    }
}

/// Calls an mlx-c function that fills a list with three arrays and returns a status.
fn triple(call: impl FnOnce(*mut sys::mlx_vector_array) -> i32) -> Result<[Array; 3]> {
    // SAFETY: makes an empty list, which the call fills.
    let mut list = super::ArrayList(unsafe { sys::mlx_vector_array_new() });
    if call(&raw mut list.0) != 0 {
        return Err(take_message());
    }
    // SAFETY: the list is live, the result's handle is writable, and MLX checks the index.
    let element =
        |index| Array::from_call(|out| unsafe { sys::mlx_vector_array_get(out, list.0, index) });
    Ok([element(0)?, element(1)?, element(2)?])
}
