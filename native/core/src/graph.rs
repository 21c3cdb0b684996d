//! What is still to be computed of lazy graphs.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_void},
    sync::PoisonError,
};

use mlx_sys as sys;

use crate::{Result, Tensor, error::take_message, eval::LOCK, mlx::ArrayList};

/// How many operations of MLX's, by its names, computing `tensors` takes still.
///
/// This is for measuring what programs cost. Checks of values that computing a tensor may add are not
/// in it.
///
/// # Errors
///
/// If MLX fails.
pub fn operations(tensors: &[&Tensor]) -> Result<BTreeMap<String, usize>> {
    unsafe extern "C" fn count(context: *mut c_void, name: *const c_char) {
        // SAFETY: both are as `operations` and the graph gave them, and live for this call.
        let (counts, name) = unsafe {
            let counts = context.cast::<BTreeMap<String, usize>>();
            (&mut *counts, CStr::from_ptr(name))
        };
        *counts
            .entry(name.to_string_lossy().into_owned())
            .or_default() += 1;
    }

    let roots = ArrayList::new(tensors.iter().map(|tensor| tensor.array()))?;
    let mut counts = BTreeMap::new();
    let _walk = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the list and the counts live for this call, and the lock makes this the only walk.
    let status =
        unsafe { sys::emily_graph_visit(roots.raw(), Some(count), (&raw mut counts).cast()) };
    match status {
        0 => Ok(counts),
        _ => Err(take_message()),
    }
}

/// Whether MLX's operation of this name only looks at its input's memory in another way, as a rule.
pub fn is_view(name: &str) -> bool {
    // Some names go on with a type.
    let first = name.split(' ').next();
    matches!(
        first.unwrap_or_default(),
        "AsStrided"
            | "Broadcast"
            | "BroadcastAxes"
            | "ExpandDims"
            | "Flatten"
            | "Reshape"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Transpose"
            | "Unflatten"
            | "View"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Op, Stream, TensorType, Type, install_error_handler};

    #[test]
    fn shared_operations_count_once_and_computed_ones_not_at_all() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let ty = TensorType {
            ty: Type::F32,
            shape: crate::Shape::new(&[2]).unwrap(),
        };
        let x = Tensor::from_bytes(&stream, &ty, &[0; 8]).unwrap();
        let apply =
            |op: Op, inputs: &[&Tensor]| Tensor::apply(&stream, &op, Some(&ty), inputs).unwrap();
        let exp = apply(Op::Exp, &[&x]);
        let sum = apply(Op::Add, &[&exp, &exp]);
        let product = apply(Op::Multiply, &[&exp, &sum]);

        let names = |tensors: &[&Tensor]| -> Vec<(String, usize)> {
            operations(tensors).unwrap().into_iter().collect()
        };
        let one = |name: &str| (name.to_owned(), 1);
        let all = vec![one("Add"), one("Exp"), one("Multiply")];
        assert_eq!(names(&[&product]), all);
        assert_eq!(names(&[&product, &sum]), all);

        sum.eval().unwrap();
        assert_eq!(names(&[&product]), vec![one("Multiply")]);
        assert_eq!(names(&[&x]), vec![]);
    }

    #[test]
    fn views_are_told_from_what_computes() {
        assert!(is_view("Transpose") && is_view("View uint32"));
        assert!(!is_view("Matmul") && !is_view("Copy") && !is_view("SliceUpdate"));
    }
}
