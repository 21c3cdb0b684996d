//! Tensors, and computing them.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use mlx_sys as sys;

use crate::{
    Array, Op, Result, Stream, TensorType,
    error::take_message,
    infer, lower,
    mlx::{ArrayList, memory_limit, too_large},
};

/// Held while MLX walks a lazy graph.
///
/// MLX marks and detaches nodes as it walks, so two walks over graphs that share nodes must not
/// happen at once. Waiting for the device happens outside of it.
pub(crate) static LOCK: Mutex<()> = Mutex::new(());

/// An array with the stream that computes it.
pub struct Tensor {
    array: Array,
    stream: Stream,
    /// Set once the elements can be read; from then on no thread asks MLX about the array's state.
    ready: AtomicBool,
}

impl Tensor {
    /// A tensor with a copy of `bytes`, row-major and in the host's byte order.
    ///
    /// # Errors
    ///
    /// If the byte count is not the type's.
    pub fn from_bytes(stream: &Stream, ty: &TensorType, bytes: &[u8]) -> Result<Self> {
        let array = Array::from_bytes(ty, bytes)?;
        Ok(Self {
            array,
            stream: stream.clone(),
            ready: AtomicBool::new(true),
        })
    }

    /// The result of `op`, to be computed on `stream` when it is first needed.
    ///
    /// `out` is the result's type and shape; where it is absent they are inferred as Nx does.
    ///
    /// # Errors
    ///
    /// If the inputs or attributes do not fit the operation, or MLX refuses it.
    pub fn apply(
        stream: &Stream,
        op: &Op,
        out: Option<&TensorType>,
        inputs: &[&Self],
    ) -> Result<Self> {
        let inferred;
        let out = match out {
            Some(out) => out,
            None => {
                let types: Vec<_> = inputs.iter().map(|tensor| tensor.tensor_type()).collect();
                inferred = infer(op, &types)?;
                &inferred
            }
        };
        let arrays: Vec<_> = inputs.iter().map(|tensor| &tensor.array).collect();
        let array = lower(op, out, &arrays, stream)?;
        Ok(Self {
            array,
            stream: stream.clone(),
            ready: AtomicBool::new(false),
        })
    }

    /// The element type and shape.
    pub fn tensor_type(&self) -> TensorType {
        self.array.tensor_type()
    }

    /// The stream that computes this tensor.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether the elements can be read without waiting.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Computes the tensor and waits for it. Call it on a stream's thread, never on a scheduler.
    ///
    /// # Errors
    ///
    /// If MLX fails.
    pub fn eval(&self) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        self.compute()
            .map_err(|error| error.in_evaluation(&self.tensor_type(), &self.stream.to_string()))?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    fn compute(&self) -> Result<()> {
        let list = ArrayList::new([&self.array])?;
        {
            let _walk = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the list is live, and the lock makes this the only walk.
            if unsafe { sys::mlx_async_eval(list.raw()) } != 0 {
                return Err(take_message());
            }
        }
        self.stream.synchronize()
    }

    /// This tensor with its elements in row-major order, computed and ready to be read.
    ///
    /// # Errors
    ///
    /// If MLX fails.
    pub fn readable(&self) -> Result<Self> {
        self.eval()?;
        if self.array.is_row_contiguous() {
            let array = self.array.clone();
            return Ok(Self {
                array,
                stream: self.stream.clone(),
                ready: AtomicBool::new(true),
            });
        }
        let ty = self.tensor_type();
        if ty.bytes() > memory_limit() {
            return Err(too_large(&ty));
        }
        let array = self.stream.mlx().contiguous(&self.array)?;
        let copy = Self {
            array,
            stream: self.stream.clone(),
            ready: AtomicBool::new(false),
        };
        copy.eval()?;
        Ok(copy)
    }

    /// The elements' bytes, in the host's byte order, if they can be read in place without waiting;
    /// after [`Self::readable`] they always can.
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.is_ready() || !self.array.is_row_contiguous() {
            return None;
        }
        let len = self.tensor_type().bytes();
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: the array is computed and row-major, so `len` bytes lie at its address. They stay
        // and do not change while `self` lives: MLX reuses a buffer only when no other reference to
        // its array is left.
        Some(unsafe { std::slice::from_raw_parts(self.array.data(), len) })
    }
}
