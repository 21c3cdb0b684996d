//! Axes as attributes, checked before anything is indexed with them.

use crate::{Error, Result};

/// `axes` for MLX; each must be below `rank` and appear once.
pub(crate) fn checked(axes: &[usize], rank: usize) -> Result<Vec<i32>> {
    // Before they are compared with each other, which takes long for a long list.
    if axes.len() > rank {
        return Err(Error::argument(format!(
            "expected :axes to be distinct and below the rank, {rank}, got: {} axes",
            axes.len()
        )));
    }
    let distinct = axes
        .iter()
        .enumerate()
        .all(|(at, axis)| !axes[..at].contains(axis));
    if !distinct || axes.iter().any(|&axis| axis >= rank) {
        return Err(Error::argument(format!(
            "expected :axes to be distinct and below the rank, {rank}, got: {axes:?}"
        )));
    }
    Ok(axes.iter().map(|&axis| axis as i32).collect())
}

/// `axis` for MLX; it must be below `rank`.
pub(crate) fn checked_one(axis: usize, rank: usize) -> Result<i32> {
    if axis >= rank {
        return Err(Error::argument(format!(
            "expected :axis to be below the rank, {rank}, got: {axis}"
        )));
    }
    Ok(axis as i32)
}

/// `axes` for MLX; they must be all of those below `rank`, in any order.
pub(crate) fn permutation(axes: &[usize], rank: usize) -> Result<Vec<i32>> {
    if axes.len() != rank {
        return Err(Error::argument(format!(
            "expected :axes to be all {rank} axes, got: {} of them",
            axes.len()
        )));
    }
    checked(axes, rank)
}

/// The axes of a tensor of `rank` that are in none of the lists, in order.
pub(crate) fn remaining(rank: usize, lists: [&[usize]; 2]) -> Vec<usize> {
    (0..rank)
        .filter(|axis| lists.iter().all(|list| !list.contains(axis)))
        .collect()
}
