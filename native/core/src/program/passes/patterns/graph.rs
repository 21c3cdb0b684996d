//! Programs as patterns look at them.

use smallvec::{SmallVec, smallvec};

use crate::{
    Number, Op, TensorType, Type,
    program::{Instruction, Program, Step},
};

/// More than any pattern has.
const MOST_PARTS: usize = 64;

/// How far [`Graph::same`] looks.
const DEEPEST: usize = 4;

/// A program's values: what gives each of them, who uses it, and which number it is if that is known.
pub(super) struct Graph<'a> {
    program: &'a Program,
    types: Vec<&'a TensorType>,
    /// Of each value, the instruction that gives it; none for inputs.
    sources: Vec<Option<usize>>,
    /// Of each value, where in `users` those begin that use it.
    first_user: Vec<usize>,
    users: Vec<usize>,
    is_output: Vec<bool>,
    numbers: Vec<Option<f64>>,
}

impl<'a> Graph<'a> {
    /// `given` says of each input which number it is, if that is known.
    pub(super) fn new(program: &'a Program, given: &[Option<f64>]) -> Self {
        let types: Vec<_> = program.values().collect();
        let mut sources = vec![None; program.inputs.len()];
        for (at, step) in program.instructions.iter().enumerate() {
            sources.extend(step.outs.iter().map(|_| Some(at)));
        }
        let mut is_output = vec![false; types.len()];
        for &output in &program.outputs {
            is_output[output] = true;
        }
        let (first_user, users) = users(program, types.len());
        let mut graph = Self {
            program,
            types,
            sources,
            first_user,
            users,
            is_output,
            numbers: given.to_vec(),
        };
        for step in &program.instructions {
            let number = graph.number_of(step);
            graph.numbers.extend(step.outs.iter().map(|_| number));
        }
        graph
    }

    fn number_of(&self, step: &Instruction) -> Option<f64> {
        let [out] = &step.outs[..] else {
            return None;
        };
        match (&step.op, &step.inputs[..]) {
            (Step::Op(Op::Constant { value }), []) => match value {
                Number::Complex(..) => None,
                Number::Integer(_) => Some(value.real()),
                _ => is_float(out.ty).then(|| value.real()),
            },
            (Step::Op(Op::Reshape | Op::Squeeze | Op::Broadcast { .. }), [x]) => self.numbers[*x],
            (Step::Op(Op::AsType), [x]) if is_float(out.ty) => self.numbers[*x],
            _ => None,
        }
    }

    /// How many values there are; new ones have numbers from here on.
    pub(super) fn count(&self) -> usize {
        self.types.len()
    }

    pub(super) fn ty(&self, value: usize) -> &'a TensorType {
        self.types[value]
    }

    pub(super) fn dims(&self, value: usize) -> &'a [i32] {
        self.types[value].shape.dims()
    }

    /// The operation whose only result a value is, and its inputs. What is checked for debugging is an
    /// operation of its own, so that no pattern has it.
    pub(super) fn op(&self, value: usize) -> Option<(&'a Op, &'a [usize])> {
        let step = &self.program.instructions[self.sources[value]?];
        match (&step.op, &step.outs[..]) {
            (Step::Op(op), [_]) => Some((op, &step.inputs)),
            _ => None,
        }
    }

    /// The number that all elements of a value are, as far as that is known.
    pub(super) fn number(&self, value: usize) -> Option<f64> {
        self.numbers[value]
    }

    /// Whether all elements of a value are this number, as exactly as its type can tell.
    pub(super) fn is(&self, value: usize, expected: f64) -> bool {
        let off = |number: f64| (number - expected).abs();
        let most = expected.abs() * tolerance(self.types[value].ty);
        self.number(value).is_some_and(|number| off(number) <= most)
    }

    /// Both inputs of an operation whose order does not matter, either way around.
    pub(super) fn pairs(&self, value: usize, is: fn(&Op) -> bool) -> SmallVec<[(usize, usize); 2]> {
        match self.op(value) {
            Some((op, &[x, y])) if is(op) => smallvec![(x, y), (y, x)],
            _ => smallvec![],
        }
    }

    /// Whether two values are computed in the same way.
    pub(super) fn same(&self, one: usize, other: usize) -> bool {
        self.same_within(one, other, DEEPEST)
    }

    fn same_within(&self, one: usize, other: usize, depth: usize) -> bool {
        if one == other {
            return true;
        }
        let (Some((a, of_a)), Some((b, of_b))) = (self.op(one), self.op(other)) else {
            return false;
        };
        let pairs = || of_a.iter().zip(of_b);
        depth > 0
            && a == b
            && self.ty(one) == self.ty(other)
            && of_a.len() == of_b.len()
            && pairs().all(|(&x, &y)| self.same_within(x, y, depth - 1))
    }

    /// Whether a value is used once, and only by the program itself.
    pub(super) fn is_used_once(&self, value: usize) -> bool {
        !self.is_output[value] && self.users_of(value).len() == 1
    }

    fn users_of(&self, value: usize) -> &[usize] {
        &self.users[self.first_user[value]..self.first_user[value + 1]]
    }

    /// The instructions that lead from `leaves` to the instruction at `root`, if they are needed for
    /// nothing else, so that nothing is computed twice if one operation takes the place of all. True
    /// are those that are needed for nothing else indeed; the others only lay leaves out in another way.
    pub(super) fn between(&self, root: usize, leaves: &[usize]) -> Option<Vec<(usize, bool)>> {
        let mut parts: Vec<usize> = Vec::new();
        let mut next: Vec<usize> = self.program.instructions[root].inputs.clone();
        while let Some(value) = next.pop() {
            if leaves.contains(&value) {
                continue;
            }
            let Some(at) = self.sources[value] else {
                // An input that is no leaf would be forgotten, unless it is a number.
                self.number(value)?;
                continue;
            };
            if parts.contains(&at) {
                continue;
            }
            match self.op(value) {
                None | Some((Op::Checked { .. }, _)) => return None,
                Some((_, inputs)) => next.extend(inputs),
            }
            parts.push(at);
            if parts.len() > MOST_PARTS {
                return None;
            }
        }
        parts.sort_unstable();
        let mut marked: Vec<(usize, bool)> = Vec::with_capacity(parts.len());
        for &at in &parts {
            let own = !self.is_laid_out(at, leaves, &marked);
            if own && !self.is_used_by(at, root, &parts) {
                return None;
            }
            marked.push((at, own));
        }
        Some(marked)
    }

    /// Whether an instruction only lays out leaves, or a number.
    fn is_laid_out(&self, at: usize, leaves: &[usize], before: &[(usize, bool)]) -> bool {
        let step = &self.program.instructions[at];
        let cheap = matches!(
            step.op,
            Step::Op(
                Op::Constant { .. }
                    | Op::AsType
                    | Op::Reshape
                    | Op::Squeeze
                    | Op::Broadcast { .. }
                    | Op::Transpose { .. }
            )
        );
        cheap
            && step.inputs.iter().all(|input| {
                let source = self.sources[*input];
                leaves.contains(input) || source.is_none_or(|from| before.contains(&(from, false)))
            })
    }

    fn is_used_by(&self, at: usize, root: usize, parts: &[usize]) -> bool {
        // Patterns have operations of one result alone.
        let value = self.sources.partition_point(|source| *source < Some(at));
        let users = self.users_of(value);
        let inside = |user: &usize| *user == root || parts.binary_search(user).is_ok();
        !self.is_output[value] && users.len() <= 2 * MOST_PARTS && users.iter().all(inside)
    }
}

/// The users of all values in a row, and where those of each begin.
fn users(program: &Program, count: usize) -> (Vec<usize>, Vec<usize>) {
    let inputs = || {
        let steps = program.instructions.iter().enumerate();
        steps.flat_map(|(at, step)| step.inputs.iter().map(move |&input| (at, input)))
    };
    let mut first = vec![0; count + 1];
    for (_, input) in inputs() {
        first[input + 1] += 1;
    }
    for value in 0..count {
        first[value + 1] += first[value];
    }
    let mut users = vec![0; first[count]];
    let mut next = first.clone();
    for (at, input) in inputs() {
        users[next[input]] = at;
        next[input] += 1;
    }
    (first, users)
}

/// The types that fused operations have.
pub(super) const fn is_float(ty: Type) -> bool {
    matches!(ty, Type::Bf16 | Type::F16 | Type::F32)
}

/// What numbers may be off by as a part of themselves, since they were rounded to a type.
pub(super) const fn tolerance(ty: Type) -> f64 {
    match ty {
        Type::Bf16 => 4e-3,
        Type::F16 => 5e-4,
        _ => 1e-6,
    }
}
