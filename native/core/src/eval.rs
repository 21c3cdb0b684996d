//! Tensors, and computing them.

use std::{
    slice,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use smallvec::SmallVec;

use crate::{
    Array, Error, Op, Result, Stream, TensorType, Type,
    adopted::{Guard, Source, adopt, can_adopt, sweep},
    check::{Checks, Pending},
    infer::{Outputs, infer_all},
    lower::{Lowered, Operand, lower},
    mlx::{memory_limit, too_large},
    packing::pack,
    part::{Flight, evaluate},
    unfilled::Unfilled,
};

/// Held while MLX walks a lazy graph.
///
/// MLX marks and detaches nodes as it walks, so two walks over graphs that share nodes must not
/// happen at once. Waiting for the device happens outside of it.
pub(crate) static LOCK: Mutex<()> = Mutex::new(());

/// An array with the stream that computes it.
pub struct Tensor {
    array: Array,
    /// Nx's type; MLX's own may be a wider one that carries it.
    ty: Type,
    stream: Stream,
    /// Set once the elements can be read; from then on no thread asks MLX about the array's state.
    ready: AtomicBool,
    pending: Pending,
    /// A row-major copy whose address somebody has.
    pinned: OnceLock<Array>,
    /// The bytes of elements that MLX carries in a wider type, once they were read.
    packed: OnceLock<Box<[u8]>>,
    /// How many operations computing it takes, or more where some of them share inputs.
    graph: u32,
    /// The last field, so that it is dropped after all references to the array.
    _guard: Guard,
}

/// Giving an operation of a lazy graph up takes as long as giving back so much memory.
const BYTES_PER_OPERATION: usize = 2048;

/// Packing more elements than this takes a scheduler too long.
const MOST_PACKED: usize = 1 << 16;

impl Tensor {
    /// A tensor with a copy of `bytes`: row-major, in the host's byte order, and packed as Nx does, with
    /// zeros in what is left of the last byte.
    ///
    /// # Errors
    ///
    /// If the byte count is not the type's, or the device does not have the type.
    pub fn from_bytes(stream: &Stream, ty: &TensorType, bytes: &[u8]) -> Result<Self> {
        if let Some(error) = stream.device().refusal(ty.ty) {
            return Err(error);
        }
        let array = Array::from_bytes(ty, bytes)?;
        Ok(Self::new(stream, array, ty.ty, true, Pending::default()))
    }

    /// A tensor of the bytes of `source`, as [`Self::from_bytes`] takes them. Where [`can_adopt`] holds,
    /// they are read in place, and `source` lives until nothing needs them any more; else they are
    /// copied.
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`].
    pub fn adopt(stream: &Stream, ty: &TensorType, source: impl Source) -> Result<Self> {
        if !can_adopt(ty, source.bytes()) {
            return Self::from_bytes(stream, ty, source.bytes());
        }
        let (array, guard) = adopt(ty, source)?;
        let tensor = Self::new(stream, array, ty.ty, true, Pending::default());
        Ok(Self {
            _guard: guard,
            ..tensor
        })
    }

    /// A tensor of the elements that were written to MLX's memory.
    pub(crate) fn filled(stream: &Stream, ty: Type, memory: Unfilled) -> Self {
        Self::new(stream, memory.into_array(), ty, true, Pending::default())
    }

    /// The result of `op`, to be computed on `stream` when it is first needed.
    ///
    /// `out` is the result's type and shape; where it is absent they are inferred as Nx does.
    ///
    /// # Errors
    ///
    /// If the inputs or attributes do not fit the operation, MLX refuses it, or it gives several
    /// results.
    pub fn apply(
        stream: &Stream,
        op: &Op,
        out: Option<&TensorType>,
        inputs: &[&Self],
    ) -> Result<Self> {
        let mut results = Self::apply_all(stream, op, out.map(slice::from_ref), inputs)?;
        match (results.pop(), results.is_empty()) {
            (Some(result), true) => Ok(result),
            _ => Err(Error::argument(format!(
                "expected an operation with one output, got: {}",
                op.name()
            ))),
        }
    }

    /// The results of `op`, to be computed on `stream` when they are first needed.
    ///
    /// `outs` are the results' types and shapes; where they are absent they are inferred as Nx does.
    ///
    /// # Errors
    ///
    /// If the inputs or attributes do not fit the operation, or MLX refuses it.
    pub fn apply_all(
        stream: &Stream,
        op: &Op,
        outs: Option<&[TensorType]>,
        inputs: &[&Self],
    ) -> Result<SmallVec<[Self; 1]>> {
        let inferred: Outputs;
        let outs = match outs {
            Some(outs) => outs,
            None => {
                let types: Vec<_> = inputs.iter().map(|tensor| tensor.tensor_type()).collect();
                inferred = infer_all(op, &types)?;
                &inferred
            }
        };
        let operands: SmallVec<[Operand<'_>; 4]> =
            inputs.iter().map(|tensor| tensor.operand()).collect();
        let Lowered { arrays, checks } = lower(op, outs, &operands, stream)?;
        let pending = Pending::new(inputs.iter().map(|input| &input.pending), checks, || {
            let (op, outs) = (op.clone(), outs.to_vec());
            let types: Vec<_> = inputs.iter().map(|tensor| tensor.tensor_type()).collect();
            let stream = stream.to_string();
            Box::new(move |reason| Error::Mlx(reason).in_operation(&op, &outs, &types, &stream))
        });
        let graph = inputs.iter().fold(1_u32, |sum, input| {
            sum.saturating_add(if input.is_ready() { 0 } else { input.graph })
        });
        let results = arrays.into_iter().zip(outs);
        let result = |(array, out)| Self {
            graph,
            ..Self::pending(stream, array, out, pending.clone())
        };
        Ok(results.map(result).collect())
    }

    /// A tensor that a graph of so many operations gives, which depends on these of its inputs.
    pub(crate) fn traced<'a>(
        stream: &Stream,
        array: Array,
        out: &TensorType,
        inputs: impl IntoIterator<Item = &'a Self>,
        operations: usize,
    ) -> Self {
        let mut graph = u32::try_from(operations).unwrap_or(u32::MAX);
        let mut asking: SmallVec<[&Pending; 4]> = SmallVec::new();
        for input in inputs {
            if !input.is_ready() {
                graph = graph.saturating_add(input.graph);
            }
            asking.extend(input.has_checks().then_some(&input.pending));
        }
        let pending = Pending::new(asking, Checks::default(), || Box::new(Error::Mlx));
        Self {
            graph,
            ..Self::pending(stream, array, out, pending)
        }
    }

    /// Whether values must be as some operation asks for this tensor to be read.
    pub(crate) const fn has_checks(&self) -> bool {
        self.pending.is_some()
    }

    /// A tensor that is still to be computed.
    pub(crate) fn pending(
        stream: &Stream,
        array: Array,
        out: &TensorType,
        pending: Pending,
    ) -> Self {
        Self::new(stream, array, out.ty, false, pending)
    }

    fn new(stream: &Stream, array: Array, ty: Type, ready: bool, pending: Pending) -> Self {
        Self {
            array,
            ty,
            stream: stream.clone(),
            ready: AtomicBool::new(ready),
            pending,
            pinned: OnceLock::new(),
            packed: OnceLock::new(),
            graph: 1,
            _guard: Guard::default(),
        }
    }

    fn operand(&self) -> Operand<'_> {
        Operand {
            array: &self.array,
            ty: self.ty,
            ready: self.is_ready(),
        }
    }

    /// The element of an integer scalar that can be read without waiting.
    pub(crate) fn ready_integer(&self) -> Option<i64> {
        self.operand().ready_elements()?.pop()
    }

    /// Whether the element of a scalar that can be read without waiting is zero.
    pub(crate) fn is_zero(&self) -> Option<bool> {
        self.operand().ready_zeros()?.pop()
    }

    /// The element type and shape.
    pub fn tensor_type(&self) -> TensorType {
        TensorType {
            ty: self.ty,
            shape: self.array.shape(),
        }
    }

    pub(crate) const fn array(&self) -> &Array {
        &self.array
    }

    /// The stream that computes this tensor.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether the elements can be read without waiting.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What it takes to give this tensor up, about: bytes of memory to give back, where nothing else
    /// uses them.
    pub fn burden(&self) -> usize {
        if self.is_ready() {
            self.tensor_type().memory()
        } else {
            BYTES_PER_OPERATION.saturating_mul(self.graph as usize)
        }
    }

    /// Computes the tensor and waits for it. Call it on a stream's thread, never on a scheduler.
    ///
    /// # Errors
    ///
    /// If MLX fails, or a value that the tensor depends on is none that its operation can work with.
    pub fn eval(&self) -> Result<()> {
        Self::eval_all(&[self])
    }

    /// Computes tensors together and waits for them, as [`Self::eval`] does.
    ///
    /// # Errors
    ///
    /// That of the first tensor that has one; the others of its stream are computed nevertheless.
    pub fn eval_all(tensors: &[&Self]) -> Result<()> {
        let waiting = tensors.iter().filter(|tensor| !tensor.is_ready());
        let mut waiting: SmallVec<[&Self; 4]> = waiting.copied().collect();
        while let Some(stream) = waiting.first().map(|tensor| &tensor.stream) {
            let (together, others): (SmallVec<[&Self; 4]>, _) = waiting
                .iter()
                .copied()
                .partition(|tensor| tensor.stream == *stream);
            let outcome = Self::compute(stream, &together);
            // What was computed lets go of its inputs.
            sweep();
            outcome?;
            waiting = others;
        }
        Ok(())
    }

    /// Has MLX compute tensors, without waiting for the last of it. Call it on a stream's thread.
    ///
    /// Where values are still to be looked at it waits, so that whatever is wrong with them is told.
    ///
    /// # Errors
    ///
    /// As [`Self::eval_all`].
    pub fn launch_all(tensors: &[&Self], flight: &mut Flight) -> Result<()> {
        let Some(stream) = tensors.first().map(|tensor| &tensor.stream) else {
            return Ok(());
        };
        let plain = |tensor: &&Self| tensor.stream == *stream && tensor.pending.is_settled();
        if !tensors.iter().all(plain) {
            return Self::eval_all(tensors);
        }
        let outcome = flight.launch(stream, tensors.iter().map(|tensor| &tensor.array));
        // What is under way lets go of its inputs.
        sweep();
        outcome.map_err(|error| error.in_evaluation(&tensors[0].tensor_type(), &stream.to_string()))
    }

    /// Computes tensors of one stream.
    fn compute(stream: &Stream, tensors: &[&Self]) -> Result<()> {
        let failed = |tensor: &Self, error: Error| {
            error.in_evaluation(&tensor.tensor_type(), &stream.to_string())
        };
        let verdicts =
            Pending::all_hold(tensors.iter().map(|tensor| &tensor.pending), stream.mlx())
                .map_err(|error| failed(tensors[0], error))?;
        let arrays = tensors.iter().map(|tensor| &tensor.array);
        evaluate(stream, arrays.chain(verdicts.array()))
            .map_err(|error| failed(tensors[0], error))?;
        let mut first = Ok(());
        // SAFETY: the array was evaluated above, on this stream, which has finished.
        let outcomes = unsafe { verdicts.settle() };
        for (tensor, outcome) in tensors.iter().zip(outcomes) {
            match outcome {
                Ok(()) => tensor.ready.store(true, Ordering::Release),
                Err(error) => first = first.and(Err(failed(tensor, error))),
            }
        }
        first
    }

    /// This tensor with its elements in row-major order, computed and ready to be read.
    ///
    /// # Errors
    ///
    /// As [`Self::eval`].
    pub fn readable(&self) -> Result<Self> {
        self.eval()?;
        if self.array.is_row_contiguous() {
            return Ok(self.with(self.array.clone(), true).packed());
        }
        let ty = self.tensor_type();
        if ty.memory() > memory_limit() {
            return Err(too_large(&ty));
        }
        let copy = self.with(self.stream.mlx().contiguous(&self.array)?, false);
        copy.eval()?;
        Ok(copy.packed())
    }

    /// Where the elements' bytes are, as in [`Self::bytes`]; they stay there for as long as the tensor
    /// lives. Call it on a stream's thread.
    ///
    /// # Errors
    ///
    /// As [`Self::eval`].
    pub fn address(&self) -> Result<usize> {
        let mut readable = self.readable()?;
        if let Some(packed) = readable.packed.take() {
            return Ok(self.packed.get_or_init(|| packed).as_ptr() as usize);
        }
        let array = self.pinned.get_or_init(|| readable.array);
        // SAFETY: the array is computed. Its buffer is not given to others while it is pinned.
        Ok(unsafe { array.data() } as usize)
    }

    /// The same elements in another array.
    fn with(&self, array: Array, ready: bool) -> Self {
        Self::new(&self.stream, array, self.ty, ready, Pending::default())
    }

    /// This tensor with the bytes of its narrow elements, if it has such.
    fn packed(self) -> Self {
        if let (true, Some(carried)) = (self.ty.is_narrow(), self.carried()) {
            self.packed.get_or_init(|| pack(self.ty, carried));
        }
        self
    }

    /// The elements' bytes, in the host's byte order and packed as Nx does, if they can be had without
    /// waiting; after [`Self::readable`] they always can. They are read in place but for types that
    /// MLX does not have.
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.ty.is_narrow() {
            return self.carried();
        }
        if let Some(packed) = self.packed.get() {
            return Some(packed);
        }
        let few = self.array.shape().size() <= MOST_PACKED;
        let carried = self.carried().filter(|_| few)?;
        Some(self.packed.get_or_init(|| pack(self.ty, carried)))
    }

    /// The bytes of the elements that MLX keeps.
    fn carried(&self) -> Option<&[u8]> {
        if !self.is_ready() || !self.array.is_row_contiguous() {
            return None;
        }
        let len = self.tensor_type().carried().bytes();
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: the array is computed and row-major, so `len` bytes lie at its address. They stay
        // and do not change while `self` lives: MLX reuses a buffer only when no other reference to
        // its array is left.
        Some(unsafe { slice::from_raw_parts(self.array.data(), len) })
    }
}
