//! Integers that are known without computing anything: the counters of loops.
//!
//! A loop whose condition depends on such alone is followed on the host, which never waits for the
//! device to know whether there is another round.

use super::Op;
use crate::{Kind, Number, Tensor, TensorType, Type};

/// A known integer scalar's value.
pub(super) type Known = i128;

/// What an integer scalar is, if it can be read now.
pub(super) fn of_tensor(tensor: &Tensor) -> Option<Known> {
    let ty = tensor.tensor_type();
    if ty.shape.rank() > 0 || !is_counted(ty.ty) {
        return None;
    }
    tensor.ready_integer().map(Known::from)
}

/// What an operation on known integers gives, where that is as simple as it looks.
pub(super) fn fold(
    op: &Op,
    outs: &[TensorType],
    inputs: impl Iterator<Item = Option<Known>>,
) -> Option<Known> {
    let [out] = outs else {
        return None;
    };
    if out.shape.rank() > 0 || !is_counted(out.ty) {
        return None;
    }
    // No more than three, and an early end where one is not known.
    let mut known = [0; 3];
    let mut count = 0;
    for input in inputs {
        *known.get_mut(count)? = input?;
        count += 1;
    }
    let flag = |holds: bool| Some(Known::from(holds));
    let value = match (op, &known[..count]) {
        (
            Op::Constant {
                value: Number::Integer(value),
            },
            [],
        ) => Some(*value),
        (Op::AsType | Op::Reshape | Op::Squeeze | Op::Broadcast { .. }, [x]) => Some(*x),
        (Op::Negate, [x]) => x.checked_neg(),
        (Op::LogicalNot, [x]) => flag(*x == 0),
        (Op::Add, [x, y]) => x.checked_add(*y),
        (Op::Subtract, [x, y]) => x.checked_sub(*y),
        (Op::Multiply, [x, y]) => x.checked_mul(*y),
        (Op::Min, [x, y]) => Some(*x.min(y)),
        (Op::Max, [x, y]) => Some(*x.max(y)),
        (Op::Equal, [x, y]) => flag(x == y),
        (Op::NotEqual, [x, y]) => flag(x != y),
        (Op::Less, [x, y]) => flag(x < y),
        (Op::LessEqual, [x, y]) => flag(x <= y),
        (Op::Greater, [x, y]) => flag(x > y),
        (Op::GreaterEqual, [x, y]) => flag(x >= y),
        (Op::LogicalAnd, [x, y]) => flag(*x != 0 && *y != 0),
        (Op::LogicalOr, [x, y]) => flag(*x != 0 || *y != 0),
        (Op::Select, [predicate, x, y]) => Some(if *predicate != 0 { *x } else { *y }),
        _ => None,
    };
    // What does not fit the type would wrap around; whoever counts that far may wait.
    value.filter(|value| fits(*value, out.ty))
}

/// The integer types that MLX has; between u64 and signed ones Nx compares in another type than either.
pub(super) fn is_counted(ty: Type) -> bool {
    matches!(ty.kind(), Kind::Unsigned | Kind::Signed) && !ty.is_narrow() && ty != Type::U64
}

/// Whether a type of integers has this one.
pub(super) fn fits(value: Known, ty: Type) -> bool {
    let bits = ty.bits();
    if ty.kind() == Kind::Unsigned {
        (0..1 << bits).contains(&value)
    } else {
        (-(1 << (bits - 1))..1 << (bits - 1)).contains(&value)
    }
}
