//! What every Nx operation means on MLX, and the streams that evaluate it.
//!
//! [`Op`] names an operation with its attributes, [`Tensor::apply`] adds it to MLX's lazy graph with
//! Nx's exact semantics, and a [`Stream`] evaluates graphs on a thread of its own. Nothing here knows the
//! BEAM; the NIF, program files and tests all go through the same three.

mod adopted;
mod array;
mod check;
mod error;
mod eval;
mod graph;
mod infer;
mod leave;
mod lower;
mod memory;
mod mlx;
mod number;
mod op;
mod packing;
mod part;
mod pointer;
mod program;
mod stream;
mod tensor_type;
mod types;
mod unfilled;

#[cfg(feature = "rustler")]
mod decode;

pub use adopted::{Source, can_adopt};
pub use array::Array;
pub use error::{Error, Failure, Result, guarded, install_error_handler};
pub use eval::Tensor;
pub use graph::{is_view, operations};
pub use infer::{Outputs, infer, infer_all};
pub use leave::leave;
pub use memory::{
    Memory, clear_cache, held_memory, memory, reset_peak_memory, set_cache_limit, set_wired_limit,
};
pub use mlx::{mlx_version, set_memory_limit};
pub use number::{NonFinite, Number};
pub use op::{
    ActivationFunction, Assertion, Direction, Op, QrMode, QuantizationMode, TieBreak, TransformA,
};
pub use part::Flight;
pub use pointer::tensor_at;
pub use program::{
    Call, Clause, Executable, Instruction, Kernels, Pass, Pause, Program, Replay, Step, file,
};
pub use stream::{Device, Stream, check_wanted};
pub use tensor_type::{Shape, TensorType};
pub use types::{Kind, Type};
