//! Faults that only values show: an index out of range, a singular matrix.
//!
//! A lazy operation cannot look at values, so what must hold of them becomes one more lazy array. It
//! is computed together with the result, and whoever reads the result, or anything made from it,
//! gets the error instead.

use std::{
    collections::HashSet,
    mem,
    panic::RefUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use smallvec::SmallVec;

use crate::{Array, Error, Result, mlx::Mlx};

/// One condition, a scalar of MLX's bool.
struct Check {
    holds: Array,
    expected: String,
    explanation: Mutex<Option<Explanation>>,
}

/// Finds out which values broke a condition, and says so in place of what was expected. It is called
/// once at most, after everything is computed, and may compute more.
pub(crate) type Explanation = Box<dyn FnOnce() -> Result<String> + Send>;

/// Makes the operation's error of what was expected.
type Failure = Box<dyn Fn(String) -> Error + Send + Sync + RefUnwindSafe>;

/// What an operation under construction asks of the values that it will meet.
#[derive(Default)]
pub(crate) struct Checks(SmallVec<[Check; 1]>);

impl Checks {
    /// Asks that `holds`, a scalar of MLX's bool, is true; `expected` is the error's text if it is not.
    pub(crate) fn require(&mut self, holds: Array, expected: impl Into<String>) {
        self.0.push(Check {
            holds,
            expected: expected.into(),
            explanation: Mutex::new(None),
        });
    }

    /// Has the failure of what was asked last explained, if anything was asked.
    pub(crate) fn explain_last(&mut self, explanation: impl FnOnce() -> Explanation) {
        if let Some(check) = self.0.last_mut() {
            check.explanation = Mutex::new(Some(explanation()));
        }
    }

    /// Asks what `others` ask, too.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl Check {
    /// The explanation, which holds on to what it will look at.
    fn take_explanation(&self) -> Option<Explanation> {
        let explanation = self.explanation.lock();
        explanation.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the error says.
    fn reason(&self) -> String {
        let expected = &self.expected;
        self.take_explanation().map_or_else(
            || expected.clone(),
            |explain| {
                let unknown = |error| format!("{expected} (looking closer failed: {error})");
                explain().unwrap_or_else(unknown)
            },
        )
    }
}

/// The checks of one operation.
struct Own {
    checks: SmallVec<[Check; 1]>,
    failure: Failure,
}

/// What must hold for a tensor to be read; it is shared by all tensors that depend on the same.
#[derive(Clone, Default)]
pub(crate) struct Pending(Option<Arc<Node>>);

/// The checks of one operation, and those of its inputs.
struct Node {
    own: Option<Own>,
    inputs: Mutex<SmallVec<[Arc<Self>; 2]>>,
    outcome: OnceLock<Result<()>>,
}

impl Pending {
    /// What an operation with `checks` has pending: theirs, and what its inputs have pending.
    /// `failure` is called only if there are checks.
    pub(crate) fn new<'a>(
        inputs: impl IntoIterator<Item = &'a Self>,
        checks: Checks,
        failure: impl FnOnce() -> Failure,
    ) -> Self {
        let mut parents: SmallVec<[Arc<Node>; 2]> = SmallVec::new();
        for node in inputs.into_iter().filter_map(|input| input.0.as_ref()) {
            let known = parents.iter().any(|parent| Arc::ptr_eq(parent, node));
            if !known && !node.holds() {
                parents.push(Arc::clone(node));
            }
        }
        if checks.0.is_empty() && parents.len() < 2 {
            return Self(parents.pop());
        }
        let own = (!checks.0.is_empty()).then(|| Own {
            failure: failure(),
            checks: checks.0,
        });
        Self(Some(Arc::new(Node {
            own,
            inputs: Mutex::new(parents),
            outcome: OnceLock::new(),
        })))
    }

    /// Whether nothing is to be looked at any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.as_ref().is_none_or(|root| root.holds())
    }

    /// Whether anything has to hold.
    pub(crate) const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// What has to be computed and looked at before tensors with each of `all` may be read.
    pub(crate) fn all_hold<'a>(
        all: impl IntoIterator<Item = &'a Self>,
        mlx: Mlx,
    ) -> Result<Verdicts> {
        let nodes = all.into_iter().map(|pending| match &pending.0 {
            Some(root) if !root.holds() => root.unsettled(),
            _ => Vec::new(),
        });
        let nodes: SmallVec<[_; 4]> = nodes.collect();
        // Outputs of one program ask much the same.
        let mut seen = HashSet::new();
        let mut array: Option<Array> = None;
        for node in nodes.iter().flatten() {
            if !seen.insert(Arc::as_ptr(node)) {
                continue;
            }
            for check in node.checks() {
                array = Some(match array {
                    Some(array) => mlx.logical_and(&array, &check.holds)?,
                    // A node of this stream's own, so that waiting for the stream waits for it.
                    None => mlx.logical_and(&check.holds, &check.holds)?,
                });
            }
        }
        Ok(Verdicts { nodes, array })
    }
}

/// The outcomes that an evaluation will tell.
pub(crate) struct Verdicts {
    /// Those that each tensor waits for; inputs before what is made from them.
    nodes: SmallVec<[Vec<Arc<Node>>; 4]>,
    array: Option<Array>,
}

impl Verdicts {
    /// What must be computed before [`Self::settle`]; none where each outcome is known already.
    pub(crate) const fn array(&self) -> Option<&Array> {
        self.array.as_ref()
    }

    /// For each tensor, in their order, the first failure of what it waited for, if there was one.
    ///
    /// # Safety
    ///
    /// [`Self::array`] must have been evaluated, and its device must have finished.
    pub(crate) unsafe fn settle(&self) -> impl Iterator<Item = Result<()>> {
        // SAFETY: the caller vouches for the array that depends on each of the checks.
        self.nodes.iter().map(|nodes| unsafe { settle(nodes) })
    }
}

/// Notes for each node what came out, and returns the first failure.
///
/// # Safety
///
/// The array that depends on their checks must have been computed.
unsafe fn settle(nodes: &[Arc<Node>]) -> Result<()> {
    let mut first = Ok(());
    for node in nodes {
        // Others who need this outcome wait for it: an explanation is given once.
        // SAFETY: the caller vouches for the array that depends on each of the checks.
        let outcome = node.outcome.get_or_init(|| unsafe { node.evaluate() });
        node.checks()
            .iter()
            .for_each(|check| drop(check.take_explanation()));
        if first.is_ok() {
            first.clone_from(outcome);
        }
        if outcome.is_ok() {
            mem::take(&mut *node.inputs());
        }
    }
    first
}

impl Node {
    fn holds(&self) -> bool {
        matches!(self.outcome.get(), Some(Ok(())))
    }

    fn checks(&self) -> &[Check] {
        self.own.as_ref().map_or(&[], |own| &own.checks)
    }

    fn inputs(&self) -> MutexGuard<'_, SmallVec<[Arc<Self>; 2]>> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node and those that it depends on, without what is known to hold; inputs come first.
    fn unsettled(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut seen = HashSet::new();
        let mut ordered = Vec::new();
        // Each node twice: on the way to its inputs, and after them.
        let mut path = vec![(Arc::clone(self), false)];
        while let Some((node, after_inputs)) = path.pop() {
            if after_inputs {
                ordered.push(node);
                continue;
            }
            if node.holds() || !seen.insert(Arc::as_ptr(&node)) {
                continue;
            }
            let inputs = node.inputs().clone();
            path.push((node, true));
            path.extend(inputs.into_iter().map(|input| (input, false)));
        }
        ordered
    }

    /// # Safety
    ///
    /// All checks' arrays must have been computed.
    unsafe fn evaluate(&self) -> Result<()> {
        if let Some(Err(error)) = self
            .inputs()
            .iter()
            .find_map(|input| input.outcome.get().filter(|outcome| outcome.is_err()))
        {
            return Err(error.clone());
        }
        let Some(own) = &self.own else {
            return Ok(());
        };
        let mut checks = own.checks.iter();
        // SAFETY: a computed scalar of MLX's bool has its one byte there.
        let failed = checks.find(|check| unsafe { *check.holds.data() } == 0);
        failed.map_or(Ok(()), |check| Err((own.failure)(check.reason())))
    }
}

/// A long lazy chain ends node by node: one inside the other would overflow the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut orphans = mem::take(&mut *self.inputs());
        while let Some(orphan) = orphans.pop() {
            if let Some(node) = Arc::into_inner(orphan) {
                orphans.extend(mem::take(&mut *node.inputs()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, Weak},
        thread,
    };

    use super::*;
    use crate::{Device, Stream, TensorType, Type, eval::Tensor, install_error_handler};

    fn flag(stream: &Stream, holds: bool) -> Array {
        let mlx = stream.mlx();
        let scalar = mlx.scalar(i64::from(holds), Type::U8).unwrap();
        let zero = mlx.scalar(0, Type::U8).unwrap();
        mlx.not_equal(&scalar, &zero).unwrap()
    }

    fn node(stream: &Stream, name: &str, holds: bool, inputs: &[&Pending]) -> Pending {
        let mut checks = Checks::default();
        checks.require(flag(stream, holds), "expected better");
        let name = name.to_owned();
        Pending::new(inputs.iter().copied(), checks, || {
            Box::new(move |reason| Error::Mlx(format!("{name}: {reason}")))
        })
    }

    fn made_from(inputs: &[&Pending]) -> Pending {
        Pending::new(inputs.iter().copied(), Checks::default(), || {
            panic!("no check can fail")
        })
    }

    /// Reads a tensor that has `pending`.
    fn read(stream: &Stream, pending: &Pending) -> Result<()> {
        let ty = TensorType {
            ty: Type::U8,
            shape: crate::Shape::default(),
        };
        let tensor = Tensor::pending(stream, flag(stream, true), &ty, pending.clone());
        tensor.eval()
    }

    fn text(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn whatever_depends_on_a_failure_fails_with_it_each_time() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let (good, bad) = (
            node(&stream, "good", true, &[]),
            node(&stream, "bad", false, &[]),
        );
        let late = node(&stream, "late", false, &[&good, &bad]);
        let mixed = made_from(&[&good, &late, &bad]);

        assert!(read(&stream, &good).is_ok());
        for _ in 0..2 {
            assert!(text(read(&stream, &mixed)).contains("bad: expected better"));
            assert!(text(read(&stream, &bad)).contains("bad: expected better"));
        }
        assert!(read(&stream, &good).is_ok());
        let own = node(&stream, "own", false, &[&good]);
        assert!(text(read(&stream, &own)).contains("own: expected better"));
    }

    #[test]
    fn what_several_tensors_depend_on_is_asked_once() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let check = node(&stream, "check", true, &[]);
        let other = node(&stream, "other", true, &[]);
        let both = made_from(&[&check, &other]);
        let asked = |all: &[&Pending]| {
            let verdicts = Pending::all_hold(all.iter().copied(), stream.mlx()).unwrap();
            let array = verdicts.array().unwrap().clone();
            let ty = array.tensor_type();
            let all = Tensor::pending(&stream, array, &ty, Pending::default());
            crate::operations(&[&all]).unwrap()["LogicalAnd"]
        };
        assert_eq!(asked(&[&check]), 1);
        assert_eq!(asked(&[&both]), 2);
        assert_eq!(asked(&[&both, &check, &both, &other]), 2);
    }

    #[test]
    fn what_is_known_to_hold_is_not_carried_on() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        assert!(made_from(&[&Pending::default()]).0.is_none());
        let check = node(&stream, "check", true, &[]);
        assert!(made_from(&[&check, &check]).0.is_some());
        read(&stream, &made_from(&[&check])).unwrap();
        assert!(made_from(&[&check]).0.is_none());
    }

    /// A check whose explanation is `text`, and what the explanation holds on to.
    fn explained(stream: &Stream, holds: bool, text: Result<String>) -> (Pending, Weak<()>) {
        let mut checks = Checks::default();
        checks.require(flag(stream, holds), "expected better");
        let kept = Arc::new(());
        let watched = Arc::downgrade(&kept);
        checks.explain_last(|| {
            Box::new(move || {
                drop(kept);
                text
            })
        });
        let pending = Pending::new([], checks, || Box::new(Error::Argument));
        (pending, watched)
    }

    #[test]
    fn a_failure_is_explained_once_for_all() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let (bad, kept) = explained(&stream, false, Ok("expected 1, got: 2".to_owned()));
        let late = made_from(&[&bad]);
        assert_eq!(kept.strong_count(), 1);
        for pending in [&late, &bad, &late] {
            assert_eq!(text(read(&stream, pending)), "expected 1, got: 2");
        }
        assert_eq!(kept.strong_count(), 0);
        let (bad, _) = explained(&stream, false, Err(Error::Mlx("no memory".to_owned())));
        assert_eq!(
            text(read(&stream, &bad)),
            "expected better (looking closer failed: no memory)"
        );
    }

    #[test]
    fn all_who_wait_for_a_failure_get_its_explanation() {
        install_error_handler();
        let streams: Vec<_> = (0..4).map(|_| Stream::new(Device::Cpu).unwrap()).collect();
        for _ in 0..50 {
            let (bad, _) = explained(&streams[0], false, Ok("expected 1, got: 2".to_owned()));
            let together = Barrier::new(streams.len());
            thread::scope(|scope| {
                for stream in &streams {
                    let (bad, together) = (&bad, &together);
                    scope.spawn(move || {
                        let late = made_from(&[bad]);
                        together.wait();
                        assert_eq!(text(read(stream, &late)), "expected 1, got: 2");
                    });
                }
            });
        }
    }

    #[test]
    fn what_holds_keeps_nothing_for_an_explanation() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let (good, kept) = explained(&stream, true, Ok("never said".to_owned()));
        assert_eq!(kept.strong_count(), 1);
        assert!(read(&stream, &good).is_ok());
        assert_eq!(kept.strong_count(), 0);
    }

    #[test]
    fn a_long_chain_ends_without_overflowing_the_stack() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let first = node(&stream, "first", true, &[]);
        let mut last = first.clone();
        for _ in 0..200_000 {
            let fresh = Pending(Some(Arc::new(Node {
                own: None,
                inputs: Mutex::new(SmallVec::new()),
                outcome: OnceLock::new(),
            })));
            last = made_from(&[&last, &fresh]);
        }
        drop(last);
        assert!(read(&stream, &first).is_ok());
    }
}
