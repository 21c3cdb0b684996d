//! Programs with what is known of them before they run.

use std::sync::Arc;

use super::{
    Pass, Program, Step,
    fusion::{Fused, Fusion, Kernels},
    liveness::Liveness,
    prepared::{Call, Prepared},
};
use crate::{Result, Stream, Tensor};

/// A program that can be run as often as one likes.
pub struct Executable {
    program: Program,
    plan: Plan,
    most_steps: u64,
    prepared: Option<Prepared>,
    fusion: Option<Fusion>,
}

/// When a program's values can be given up, and those of the programs in it.
pub(super) struct Plan {
    liveness: Liveness,
    /// For each instruction the plans of its programs.
    parts: Vec<Vec<Plan>>,
}

impl From<Program> for Executable {
    fn from(program: Program) -> Self {
        let plan = Plan::of(&program);
        Self {
            program,
            plan,
            most_steps: u64::MAX,
            prepared: None,
            fusion: None,
        }
    }
}

impl Executable {
    /// A program that fails after so many steps: operations, and beginnings of programs in it. A loop
    /// in a program of unknown origin may go on for ever.
    pub fn limited(program: Program, most_steps: u64) -> Self {
        Self {
            most_steps,
            ..program.into()
        }
    }

    /// A program after these passes, which computes once what is the same in call after call: with
    /// [`Pass::Constants`] what depends on no input, with [`Pass::Projections`] joined matrices.
    ///
    /// # Errors
    ///
    /// As [`Program::optimized`].
    pub fn optimized(program: Program, passes: &[Pass]) -> Result<Self> {
        let others = passes.iter().copied();
        let others: Vec<_> = others.filter(|&pass| pass != Pass::Projections).collect();
        let (program, _) = program.optimized(&others)?;
        Self::from(program).preparing(passes)
    }

    /// The same program, which computes once what these passes find.
    pub(super) fn preparing(mut self, passes: &[Pass]) -> Result<Self> {
        let closed = match passes.contains(&Pass::Constants) {
            true => Prepared::closed(&self.program, self.most_steps)?,
            false => None,
        };
        let joining = |mut executable: Self| {
            if passes.contains(&Pass::Projections) {
                let (program, most_steps) = (&executable.program, executable.most_steps);
                executable.prepared = Prepared::joined(program, most_steps)?;
            }
            Ok(executable)
        };
        let Some(closed) = closed else {
            return joining(self);
        };
        self.prepared = Some(closed.then(joining)?);
        Ok(self)
    }

    /// What to run, and on what, for a call with these inputs.
    pub(super) fn chosen(
        self: &Arc<Self>,
        stream: &Stream,
        inputs: Vec<Arc<Tensor>>,
    ) -> Result<Call> {
        let prepared = match &self.prepared {
            Some(prepared) => prepared.take(stream, &inputs)?,
            None => None,
        };
        match prepared {
            Some((rest, inputs)) => rest.chosen(stream, inputs),
            None => Ok((Arc::clone(self), inputs)),
        }
    }

    /// Gives up what it has computed for later calls. What is large should not be deallocated just anywhere.
    pub fn clear(&self) -> Vec<Arc<Tensor>> {
        self.prepared
            .as_ref()
            .map(Prepared::clear)
            .unwrap_or_default()
    }

    /// The same program with its operations on elements put together, see
    /// [`Replay::prepare`](super::Replay::prepare).
    #[must_use]
    pub fn fused(mut self, kernels: Kernels) -> Self {
        self.fuse(&Arc::new(kernels));
        self
    }

    fn fuse(&mut self, kernels: &Arc<Kernels>) {
        self.fusion = Some(Fusion::new(kernels));
        if let Some(rest) = self.prepared.as_mut().and_then(Prepared::rest_mut) {
            rest.fuse(kernels);
        }
    }

    /// How the program is fused, and those that may run in its place.
    pub(super) fn fusions(&self) -> Vec<(&Program, &Fusion)> {
        let own = self.fusion.as_ref().map(|fusion| (&self.program, fusion));
        let rest = self.prepared.as_ref().map(Prepared::rest);
        let others = rest.map(Self::fusions).unwrap_or_default();
        own.into_iter().chain(others).collect()
    }

    /// What was made for this stream, if anything was.
    pub(super) fn ready(&self, stream: &Stream) -> Option<Arc<Fused>> {
        self.fusion.as_ref()?.ready(stream)
    }

    pub(super) const fn is_fused(&self) -> bool {
        self.fusion.is_some()
    }

    pub(super) const fn most_steps(&self) -> u64 {
        self.most_steps
    }

    /// What it does.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Plan {
    fn of(program: &Program) -> Self {
        let instructions = program.instructions().iter();
        Self {
            liveness: Liveness::of(program),
            parts: instructions
                .map(|instruction| instruction.op.parts().map(Self::of).collect())
                .collect(),
        }
    }

    pub(super) fn part(&self, at: usize, part: usize) -> Option<&Self> {
        self.parts.get(at)?.get(part)
    }

    /// What nothing needs after the instruction at this place.
    pub(super) fn released(&self, at: usize) -> &[usize] {
        self.liveness.after.get(at).map_or(&[], Vec::as_slice)
    }
}

impl Step {
    /// The programs in it, in the order in which they are tried: a predicate comes before its body.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Program> {
        let (clauses, others): (&[_], [Option<&Program>; 2]) = match self {
            Self::Cond { clauses, last } => (clauses, [Some(last), None]),
            Self::While { condition, body } => (&[], [Some(condition), Some(body)]),
            Self::Call { .. } | Self::Op(_) => (&[], [None, None]),
        };
        let clauses = clauses
            .iter()
            .flat_map(|clause| [&clause.predicate, &clause.body]);
        clauses.chain(others.into_iter().flatten())
    }

    pub(super) fn part(&self, part: usize) -> Option<&Program> {
        self.parts().nth(part)
    }

    /// Whether what follows depends on the value that this part gives.
    pub(super) fn decides(&self, part: usize) -> bool {
        match self {
            Self::Cond { clauses, .. } => part < 2 * clauses.len() && part.is_multiple_of(2),
            Self::While { .. } => part == 0,
            Self::Call { .. } | Self::Op(_) => false,
        }
    }
}
