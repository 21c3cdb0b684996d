//! How types, shapes and numbers look to the BEAM.

use std::cell::Cell;

use rustler::{Atom, Decoder, Encoder, Env, Error, NifResult, Term};

use crate::{NonFinite, Number, Op, Program, Shape, Step, TensorType, Type, program::Unchecked};

mod atoms {
    rustler::atoms! {
        u, s, f, f8_e4m3fn, bf, c, nan, infinity, neg_infinity, nil,
        cond, clauses, last, while_ = "while", condition, body, call, number
    }
}

/// `{:f, 32}`
impl<'a> Decoder<'a> for Type {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (kind, bits): (Atom, u64) = term.decode()?;
        Self::ALL
            .into_iter()
            .find(|ty| ty.bits() == bits && kind_atom(*ty) == kind)
            .ok_or(Error::BadArg)
    }
}

impl Encoder for Type {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (kind_atom(*self), self.bits()).encode(env)
    }
}

fn kind_atom(ty: Type) -> Atom {
    match ty.nx().0 {
        "u" => atoms::u(),
        "s" => atoms::s(),
        "f" => atoms::f(),
        "f8_e4m3fn" => atoms::f8_e4m3fn(),
        "bf" => atoms::bf(),
        _ => atoms::c(),
    }
}

/// A list of sizes.
impl<'a> Decoder<'a> for Shape {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let dims: Vec<i64> = term.decode()?;
        Self::new(&dims).map_err(|error| Error::Term(Box::new(error.to_string())))
    }
}

impl Encoder for Shape {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.dims().encode(env)
    }
}

/// `{{:f, 32}, [2, 3]}`
impl<'a> Decoder<'a> for TensorType {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (ty, shape) = term.decode()?;
        Ok(Self { ty, shape })
    }
}

impl Encoder for TensorType {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (self.ty, &self.shape).encode(env)
    }
}

/// `%{inputs: [{type, shape}], instructions: [%{op: …, outs: […], inputs: [0]}], outputs: [1]}`
impl<'a> Decoder<'a> for Program {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let program: Unchecked = nested(|| term.decode()).ok_or(Error::BadArg)??;
        Self::try_from(program).map_err(|error| Error::RaiseTerm(Box::new(error.to_string())))
    }
}

/// `{:cond, %{clauses: …, last: …}}`, `{:while, %{condition: …, body: …}}`, `{:call, %{number: …}}`, or an
/// operation.
impl<'a> Decoder<'a> for Step {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let Ok((name, fields)) = term.decode::<(Atom, Term<'a>)>() else {
            return Op::decode(term).map(Self::Op);
        };
        let field = |name: Atom| fields.map_get(name);
        if name == atoms::cond() {
            let clauses = field(atoms::clauses())?.decode()?;
            let last = field(atoms::last())?.decode()?;
            return Ok(Self::Cond { clauses, last });
        }
        if name == atoms::while_() {
            let condition = field(atoms::condition())?.decode()?;
            let body = field(atoms::body())?.decode()?;
            return Ok(Self::While { condition, body });
        }
        if name == atoms::call() {
            let number = field(atoms::number())?.decode()?;
            return Ok(Self::Call { number });
        }
        Op::decode(term).map(Self::Op)
    }
}

impl Encoder for Step {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let fields: Vec<(Atom, Term<'a>)> = match self {
            Self::Op(op) => return op.encode(env),
            Self::Cond { clauses, last } => vec![
                (atoms::clauses(), clauses.encode(env)),
                (atoms::last(), last.encode(env)),
            ],
            Self::While { condition, body } => vec![
                (atoms::condition(), condition.encode(env)),
                (atoms::body(), body.encode(env)),
            ],
            Self::Call { number } => vec![(atoms::number(), number.encode(env))],
        };
        let name = match self {
            Self::Cond { .. } => atoms::cond(),
            Self::While { .. } => atoms::while_(),
            _ => atoms::call(),
        };
        let fields = Term::map_from_pairs(env, &fields);
        (name, fields.unwrap_or_else(|_| atoms::nil().encode(env))).encode(env)
    }
}

impl Encoder for Program {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        Unchecked::from(self.clone()).encode(env)
    }
}

/// An integer, a float, `:nan`, `:infinity`, `:neg_infinity`, or `{real, imaginary}` of such.
impl<'a> Decoder<'a> for Number {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        // Not through this decoder again: a term may be nested as deep as its sender likes.
        if let Ok((real, imaginary)) = term.decode::<(Term<'a>, Term<'a>)>() {
            return Ok(Self::Complex(part(real)?.real(), part(imaginary)?.real()));
        }
        part(term)
    }
}

fn part(term: Term<'_>) -> NifResult<Number> {
    if let Ok(value) = term.decode::<i64>() {
        return Ok(Number::Integer(value.into()));
    }
    if let Ok(value) = term.decode::<u64>() {
        return Ok(Number::Integer(value.into()));
    }
    if let Ok(value) = term.decode::<f64>() {
        return Ok(Number::Float(value));
    }
    let atom: Atom = term.decode()?;
    let kind = [
        (atoms::nan(), NonFinite::Nan),
        (atoms::infinity(), NonFinite::Infinity),
        (atoms::neg_infinity(), NonFinite::NegInfinity),
    ];
    let found = kind.into_iter().find(|(name, _)| *name == atom);
    found
        .map(|(_, kind)| Number::NonFinite(kind))
        .ok_or(Error::BadArg)
}

impl Encoder for Number {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match *self {
            Self::Integer(value) => value.encode(env),
            Self::Float(value) => value.encode(env),
            Self::NonFinite(NonFinite::Nan) => atoms::nan().encode(env),
            Self::NonFinite(NonFinite::Infinity) => atoms::infinity().encode(env),
            Self::NonFinite(NonFinite::NegInfinity) => atoms::neg_infinity().encode(env),
            Self::Complex(real, imaginary) => (Self::from(real), Self::from(imaginary)).encode(env),
        }
    }
}

/// How deep programs may lie in the attributes of a program's operations.
const DEEPEST: usize = 16;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs `decode` of a program that comes from outside; programs in it may come to this again, but not
/// for ever: each takes its part of the stack.
fn nested<T>(decode: impl FnOnce() -> T) -> Option<T> {
    struct Level;
    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    (DEPTH.get() <= DEEPEST).then(decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_in_programs_end_somewhere() {
        fn dive(levels: usize) -> Option<usize> {
            nested(|| {
                if levels == 0 {
                    Some(0)
                } else {
                    dive(levels - 1)
                }
            })
            .flatten()
        }
        assert_eq!(dive(DEEPEST - 1), Some(0));
        assert_eq!(dive(DEEPEST), None);
        assert_eq!(DEPTH.get(), 0);
    }
}
