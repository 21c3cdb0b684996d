//! Lists from outside. `rustler` panics where one is improper, so each is looked at before it is
//! decoded.

use rustler::{Error, MapIterator, NifResult, Term, TermType, types::tuple::get_tuple};
use smallvec::{Array, SmallVec};

use crate::{inspect::inspect, raise::argument};

/// Programs in programs lie this deep at most; the walk's part of the stack is bounded by it.
const DEPTH: usize = 128;

/// More than any operation has in its attributes. A small term may refer to its parts so often that
/// reading it would never end.
const TERMS: usize = 1 << 20;

/// What `decode` makes of the elements of a list, on the stack if they are few.
pub fn decode_list<'a, T, const FEW: usize>(
    list: Term<'a>,
    decode: impl Fn(Term<'a>) -> NifResult<T>,
) -> NifResult<SmallVec<[T; FEW]>>
where
    [T; FEW]: Array<Item = T>,
{
    let (mut rest, mut found) = (list, SmallVec::new());
    while let Some((head, tail)) = cell(rest) {
        found.push(decode(head)?);
        rest = tail;
    }
    if rest.is_empty_list() {
        return Ok(found);
    }
    Err(argument(format!(
        "expected a proper list, got: {}",
        inspect(list)
    )))
}

/// The first element of a list that is not empty, and the rest.
pub fn cell(list: Term<'_>) -> Option<(Term<'_>, Term<'_>)> {
    list.list_get_cell().ok()
}

/// As [`TERMS`], of a program: about a million operations.
const PROGRAM_TERMS: usize = 1 << 24;

/// That all lists in `term` are proper, and that reading it ends soon.
pub fn check(term: Term<'_>) -> NifResult<()> {
    let mut left = TERMS;
    if is_sound(term, DEPTH, &mut left) {
        Ok(())
    } else {
        Err(Error::BadArg)
    }
}

/// The same of a program.
pub fn check_program(program: Term<'_>) -> NifResult<()> {
    let mut left = PROGRAM_TERMS;
    if is_sound(program, DEPTH, &mut left) {
        return Ok(());
    }
    Err(argument(format!(
        "expected a program of proper lists, with at most a million operations, in which others do not lie \
         deep, got: {}",
        inspect(program)
    )))
}

fn is_sound(term: Term<'_>, depth: usize, left: &mut usize) -> bool {
    if depth == 0 || *left == 0 {
        return false;
    }
    *left -= 1;
    let mut sound = |term| is_sound(term, depth - 1, left);
    match term.get_type() {
        TermType::List => {
            let mut rest = term;
            while let Some((head, tail)) = cell(rest) {
                if !sound(head) {
                    return false;
                }
                rest = tail;
            }
            rest.is_empty_list()
        }
        TermType::Tuple => get_tuple(term).unwrap_or_default().into_iter().all(sound),
        TermType::Map => {
            let pairs = MapIterator::new(term).into_iter().flatten();
            pairs.into_iter().all(|(_, value)| sound(value))
        }
        _ => true,
    }
}
