//! Operations whose values are looked at.

use std::slice;

use super::{Assertion, Op};
use crate::{Error, Result};

impl Op {
    /// The operation itself, whatever must hold of its values.
    pub const fn plain(&self) -> &Self {
        let mut op = self;
        while let Self::Checked { op: inner, .. } = op {
            op = inner;
        }
        op
    }

    /// The axes of the first input that the second one has indices into.
    pub(crate) const fn indexed_axes(&self) -> Option<&[usize]> {
        match self {
            Self::Gather { axes } | Self::IndexedAdd { axes } | Self::IndexedPut { axes } => {
                Some(axes.as_slice())
            }
            Self::Take { axis } | Self::TakeAlongAxis { axis } => Some(slice::from_ref(axis)),
            _ => None,
        }
    }

    /// That what must hold is something that can be asked of the operation, and is asked once.
    pub(crate) fn check_assertions(&self) -> Result<()> {
        let Self::Checked { op, of, .. } = self else {
            return Ok(());
        };
        if let Self::Checked { op, .. } = &**op {
            return Err(Error::argument(format!(
                "expected :checked of an operation that is not, got: a checked {}",
                op.name()
            )));
        }
        if of.contains(&Assertion::Bounds) && op.indexed_axes().is_none() {
            return Err(Error::argument(format!(
                "expected :bounds of an operation that takes indices, got: {}",
                op.name()
            )));
        }
        Ok(())
    }
}
