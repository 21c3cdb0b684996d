//! Running programs.

use std::{mem, sync::Arc};

use smallvec::SmallVec;

use super::{
    Executable, Program, Step,
    executable::Plan,
    fusion::{self, Fused, Parts, Segment},
    known::{self, Known},
};
use crate::{Error, Result, Stream, Tensor, TensorType, error::list};

/// A program under way: its operations become nodes of MLX's graph, one after another.
///
/// Nothing here waits for a device. Where the way on depends on a value that is not computed yet,
/// [`Self::advance`] says what to compute first.
pub struct Replay {
    executable: Arc<Executable>,
    stream: Stream,
    /// The program, and the programs in it that are under way, each in the instruction where the one
    /// before stands.
    frames: Vec<Frame>,
    /// A predicate's value, of the program that has just ended, and which of its instruction's programs it was.
    decision: Option<(Value, usize)>,
    /// Operations since what is carried through a loop was last given to MLX.
    pending: usize,
    /// How many steps there were.
    steps: u64,
    /// What the program has become for the stream, if it is to be fused and that was made.
    fused: Option<Arc<Fused>>,
}

/// What a program has come to.
pub enum Pause {
    /// The results; they may still have to be computed.
    Done(Vec<Arc<Tensor>>),
    /// To be computed before it goes on.
    Compute(Vec<Arc<Tensor>>),
    /// To be computed; it goes on whether that is done or only begun.
    Begin(Vec<Arc<Tensor>>),
    /// To be called, and the results given to [`Replay::resume`].
    Call(Call),
    /// It could go on, but has done as much as it was allowed to.
    Busy,
}

/// A call of a function of whoever runs the program.
pub struct Call {
    /// Which one.
    pub number: usize,
    /// What it is given.
    pub inputs: Vec<Arc<Tensor>>,
    /// What it is to give.
    pub outs: Vec<TensorType>,
}

/// A tensor, and its number if that is known without computing it.
#[derive(Clone)]
struct Value {
    tensor: Arc<Tensor>,
    known: Option<Known>,
}

impl From<Arc<Tensor>> for Value {
    fn from(tensor: Arc<Tensor>) -> Self {
        let known = known::of_tensor(&tensor);
        Self { tensor, known }
    }
}

struct Frame {
    /// Which of the programs of the instruction before it.
    part: usize,
    /// The next instruction.
    at: usize,
    values: Vec<Option<Value>>,
    /// What the programs of the instruction get next.
    passed: Vec<Value>,
}

/// Whoever allows for so many operations at a time can wait for more.
const PATIENT: usize = 1 << 12;

/// The graph of a loop may grow to this many operations before MLX begins to compute it.
const MOST_PENDING: usize = 1000;

impl Replay {
    /// The program's start, on `stream`.
    ///
    /// # Errors
    ///
    /// If `inputs` are not what the program takes.
    pub fn new(
        executable: &Arc<Executable>,
        stream: &Stream,
        inputs: impl IntoIterator<Item = Arc<Tensor>>,
    ) -> Result<Self> {
        let inputs: Vec<_> = inputs.into_iter().collect();
        check("program", "take", executable.program().inputs(), &inputs)?;
        let (executable, inputs) = executable.chosen(stream, inputs)?;
        let fused = executable.ready(stream);
        let mut replay = Self {
            executable,
            stream: stream.clone(),
            frames: Vec::new(),
            decision: None,
            pending: 0,
            steps: 0,
            fused,
        };
        replay.enter(0, inputs.into_iter().map(Value::from).collect());
        Ok(replay)
    }

    /// What runs: of several programs that give the same the one that is best for the inputs.
    pub fn program(&self) -> &Program {
        self.executable.program()
    }

    /// Where the program computes.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether the program is to be fused, and was not yet for this stream. It can run nevertheless,
    /// operation by operation.
    pub fn is_unprepared(&self) -> bool {
        self.fused.is_none() && self.executable.is_fused()
    }

    /// Fuses the program for this stream, once and for all; on the host's processor a C++ compiler makes
    /// kernels for it, which takes a second or so. Returns why the program runs operation by operation, if
    /// it has to. Not to be called in the middle of a run.
    pub fn prepare(&mut self) -> Option<String> {
        if self.is_unprepared() {
            fusion::make(&self.executable.fusions(), &self.stream);
            self.fused = self.executable.ready(&self.stream);
        }
        self.fused.as_ref()?.skipped.clone()
    }

    /// Goes on, for about `most` operations.
    ///
    /// # Errors
    ///
    /// If an operation refuses what it is given. The program is over then.
    pub fn advance(&mut self, most: usize) -> Result<Pause> {
        let mut left = most;
        loop {
            if let Some((value, part)) = self.decision.take() {
                match value.is_true() {
                    Some(answer) => self.decide(part, answer)?,
                    None => {
                        let tensor = Arc::clone(&value.tensor);
                        self.decision = Some((value, part));
                        return Ok(Pause::Compute(vec![tensor]));
                    }
                }
                continue;
            }
            let fused = self.fused.clone();
            let segment = fused.as_deref().and_then(|fused| self.segment(fused));
            let cost = segment.map_or(1, Segment::cost);
            // What is more than may be done at all is done where the most may be.
            if left == 0 || cost > left && (left < most || most < PATIENT) {
                return Ok(Pause::Busy);
            }
            left = left.saturating_sub(cost);
            if let Some(segment) = segment {
                self.pass(segment)?;
                continue;
            }
            self.count(1)?;
            if let Some(pause) = self.step()? {
                return Ok(pause);
            }
        }
    }

    /// Counts steps, of which there may be a limited number.
    fn count(&mut self, steps: usize) -> Result<()> {
        let most = self.executable.most_steps();
        self.steps += steps as u64;
        if self.steps <= most {
            return Ok(());
        }
        Err(Error::argument(format!(
            "expected the program to end within {most} steps, got: one that goes on"
        )))
    }

    /// The segment that begins where the program stands.
    fn segment<'a>(&self, fused: &'a Fused) -> Option<&'a Segment> {
        let mut parts: &Parts = fused.parts.as_ref()?;
        for pair in self.frames.windows(2) {
            parts = parts.part(pair[0].at, pair[1].part)?;
        }
        parts.segment(self.frames.last()?.at)
    }

    /// A segment of the program, in place of its instructions.
    fn pass(&mut self, segment: &Segment) -> Result<()> {
        self.count(segment.length())?;
        self.pending += segment.cost();
        let executable = Arc::clone(&self.executable);
        let (_, plan) = self.place(&executable)?;
        let frame = self.frames.last_mut().ok_or_else(ended)?;
        let inputs: Vec<_> = segment
            .inputs()
            .iter()
            .map(|&input| Ok(frame.value(input)?.tensor))
            .collect::<Result<_>>()?;
        let known = |value: usize| frame.values.get(value)?.as_ref()?.known;
        let given = segment.run(&self.stream, &inputs, known)?;
        let values = frame.values.len() + segment.given();
        frame.values.resize_with(values, || None);
        for result in given {
            frame.values[result.value] = Some(Value {
                tensor: result.tensor,
                known: result.known,
            });
        }
        for _ in 0..segment.length() {
            frame.release(plan);
            frame.at += 1;
        }
        Ok(())
    }

    /// One instruction, or the end of a program.
    fn step(&mut self) -> Result<Option<Pause>> {
        let executable = Arc::clone(&self.executable);
        let (program, plan) = self.place(&executable)?;
        let frame = self.frames.last_mut().ok_or_else(ended)?;
        let Some(instruction) = program.instructions().get(frame.at) else {
            return self.leave(program);
        };
        let inputs: SmallVec<[Value; 4]> = instruction
            .inputs
            .iter()
            .map(|&input| frame.value(input))
            .collect::<Result<_>>()?;
        match &instruction.op {
            Step::Op(op) => {
                self.pending += 1;
                let known = known::fold(op, &instruction.outs, inputs.iter().map(|x| x.known));
                let tensors: SmallVec<[&Tensor; 4]> =
                    inputs.iter().map(|input| &*input.tensor).collect();
                let outs = Tensor::apply_all(&self.stream, op, Some(&instruction.outs), &tensors)?;
                let outs = outs.into_iter().map(|tensor| Value {
                    tensor: Arc::new(tensor),
                    known,
                });
                frame.go_on(plan, outs);
            }
            Step::Cond { .. } | Step::While { .. } => {
                frame.release(plan);
                frame.passed = inputs.into_vec();
                let first = match &instruction.op {
                    // Without clauses there is nothing to decide.
                    Step::Cond { clauses, .. } => clauses.is_empty().then_some(0),
                    _ => None,
                };
                let passed = frame.passed.clone();
                self.enter(first.unwrap_or(0), passed);
            }
            Step::Call { number } => {
                let inputs = inputs.into_iter().map(|input| input.tensor);
                return Ok(Some(Pause::Call(Call {
                    number: *number,
                    inputs: inputs.collect(),
                    outs: instruction.outs.clone(),
                })));
            }
        }
        Ok(None)
    }

    /// Gives the results of a call.
    ///
    /// # Errors
    ///
    /// If they are not what the program expects of it.
    pub fn resume(&mut self, results: Vec<Arc<Tensor>>) -> Result<()> {
        let executable = Arc::clone(&self.executable);
        let (program, plan) = self.place(&executable)?;
        let frame = self.frames.last_mut().ok_or_else(ended)?;
        let instruction = program.instructions().get(frame.at).ok_or_else(ended)?;
        if !matches!(instruction.op, Step::Call { .. }) {
            return Err(ended());
        }
        check("function", "give", &instruction.outs, &results)?;
        frame.go_on(plan, results.into_iter().map(Value::from));
        Ok(())
    }

    /// The program that is under way, and its plan.
    fn place<'a>(&self, executable: &'a Executable) -> Result<(&'a Program, &'a Plan)> {
        let mut place = (executable.program(), executable.plan());
        for pair in self.frames.windows(2) {
            let (outer, inner) = (&pair[0], &pair[1]);
            let instruction = place.0.instructions().get(outer.at).ok_or_else(ended)?;
            let program = instruction.op.part(inner.part).ok_or_else(ended)?;
            let plan = place.1.part(outer.at, inner.part).ok_or_else(ended)?;
            place = (program, plan);
        }
        Ok(place)
    }

    fn enter(&mut self, part: usize, inputs: Vec<Value>) {
        self.frames.push(Frame {
            part,
            at: 0,
            values: inputs.into_iter().map(Some).collect(),
            passed: Vec::new(),
        });
    }

    /// The end of a program: of the whole one, of a predicate or of a body.
    fn leave(&mut self, program: &Program) -> Result<Option<Pause>> {
        let frame = self.frames.pop().ok_or_else(ended)?;
        let outputs = program.outputs.iter().map(|&output| frame.value(output));
        let mut outputs: Vec<Value> = outputs.collect::<Result<_>>()?;
        let executable = Arc::clone(&self.executable);
        if self.frames.is_empty() {
            let tensors = outputs.into_iter().map(|value| value.tensor);
            return Ok(Some(Pause::Done(tensors.collect())));
        }
        let (outer, plan) = self.place(&executable)?;
        let above = self.frames.last_mut().ok_or_else(ended)?;
        let step = &outer.instructions().get(above.at).ok_or_else(ended)?.op;
        if step.decides(frame.part) {
            self.decision = outputs.pop().map(|value| (value, frame.part));
            return Ok(None);
        }
        let Step::While { .. } = step else {
            above.passed.clear();
            above.go_on(plan, outputs);
            return Ok(None);
        };
        let carried = outputs.len();
        above.passed.splice(..carried, outputs);
        let passed = above.passed.clone();
        let grown = self.pending >= MOST_PENDING;
        let roots = grown.then(|| {
            let carried = passed[..carried].iter();
            carried.map(|value| Arc::clone(&value.tensor)).collect()
        });
        self.enter(0, passed);
        if grown {
            self.pending = 0;
        }
        Ok(roots.map(Pause::Begin))
    }

    /// What follows from a predicate: a body, the next predicate, or the end of the instruction.
    fn decide(&mut self, part: usize, answer: bool) -> Result<()> {
        let executable = Arc::clone(&self.executable);
        let (program, plan) = self.place(&executable)?;
        let frame = self.frames.last_mut().ok_or_else(ended)?;
        let instruction = program.instructions().get(frame.at).ok_or_else(ended)?;
        match &instruction.op {
            Step::While { .. } if !answer => {
                let mut passed = mem::take(&mut frame.passed);
                passed.truncate(instruction.outs.len());
                frame.go_on(plan, passed);
            }
            Step::While { .. } => {
                let passed = frame.passed.clone();
                self.enter(part + 1, passed);
            }
            // The body of this clause is the next part, the one after that the next predicate or the
            // last body.
            _ => {
                let passed = frame.passed.clone();
                self.enter(part + if answer { 1 } else { 2 }, passed);
            }
        }
        Ok(())
    }
}

impl Frame {
    fn value(&self, number: usize) -> Result<Value> {
        let value = self.values.get(number).and_then(Option::as_ref);
        value.cloned().ok_or_else(ended)
    }

    /// Notes what the instruction gave, and goes to the next one.
    fn go_on(&mut self, plan: &Plan, outs: impl IntoIterator<Item = Value>) {
        self.values.extend(outs.into_iter().map(Some));
        self.release(plan);
        self.at += 1;
    }

    /// Gives up what nothing needs after this instruction.
    fn release(&mut self, plan: &Plan) {
        for &number in plan.released(self.at) {
            if let Some(value) = self.values.get_mut(number) {
                *value = None;
            }
        }
    }
}

impl Value {
    /// Whether a predicate holds, if that is known.
    fn is_true(&self) -> Option<bool> {
        match self.known {
            Some(number) => Some(number != 0),
            None => self.tensor.is_zero().map(|zero| !zero),
        }
    }
}

fn check(what: &str, does: &str, expected: &[TensorType], given: &[Arc<Tensor>]) -> Result<()> {
    let given: Vec<_> = given.iter().map(|tensor| tensor.tensor_type()).collect();
    if given == expected {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected the {what} to {does} {}, got: {}",
        list(expected),
        list(&given)
    )))
}

fn ended() -> Error {
    Error::argument("expected a program that waits for this, got: one that does not")
}
