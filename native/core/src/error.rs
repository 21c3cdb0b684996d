//! What can go wrong, and MLX's messages on their way here.

use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Once,
};

use mlx_sys as sys;

use crate::{Op, TensorType};

/// A call that could not be carried out. None of them leaves anything half done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The caller's arguments do not fit; the text says what was expected and what came.
    #[error("{0}")]
    Argument(String),
    /// MLX refused or failed.
    #[error("{0}")]
    Mlx(String),
    /// An operation failed.
    #[error("{0}")]
    Operation(Box<Failure>),
    /// A stream has no thread.
    #[error("{0}")]
    Stream(String),
}

/// What is needed to find the call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{op} failed: {reason}\n  inputs: {inputs}\n  output: {output}\n  attributes: {attributes}\n  stream: {stream}"
)]
pub struct Failure {
    /// Nx's name of the operation.
    pub op: String,
    /// MLX's message.
    pub reason: String,
    /// The inputs' types and shapes.
    pub inputs: String,
    /// The output's type and shape.
    pub output: String,
    /// The operation's attributes.
    pub attributes: String,
    /// The stream it was meant for.
    pub stream: String,
}

/// The result of a call into this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::Argument(text.into())
    }

    /// Adds what was being computed to an error of MLX's. Which node of the graph failed, MLX does not
    /// tell.
    pub(crate) fn in_evaluation(self, out: &TensorType, stream: &str) -> Self {
        match self {
            Self::Mlx(reason) => Self::Operation(Box::new(Failure {
                op: "eval".to_owned(),
                reason,
                inputs: "all that the tensor depends on".to_owned(),
                output: out.to_string(),
                attributes: "none".to_owned(),
                stream: stream.to_owned(),
            })),
            other => other,
        }
    }

    /// Adds the operation to an error of MLX's; arguments' errors already say enough.
    pub(crate) fn in_operation(
        self,
        op: &Op,
        outs: &[TensorType],
        inputs: &[TensorType],
        stream: &str,
    ) -> Self {
        match self {
            Self::Mlx(reason) => Self::Operation(Box::new(Failure {
                op: op.name(),
                reason,
                inputs: list(inputs),
                output: list(outs),
                attributes: op.attributes(),
                stream: stream.to_owned(),
            })),
            other => other,
        }
    }
}

/// Runs `work` and turns a panic, which is a bug of ours, into an error that says so.
///
/// # Errors
///
/// What `work` returns, or that it panicked.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Err(Error::Mlx(format!("a bug in Emily: {text}")))
    })
}

/// `f32[2][3], s64[4]`, or `none`.
pub(crate) fn list(types: &[TensorType]) -> String {
    if types.is_empty() {
        return "none".to_owned();
    }
    types
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

thread_local! {
    /// What MLX said on this thread since [`take_message`] was last called.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces mlx-c's error handler, which ends the process, by one that keeps the message for the
/// call that failed. Must run before any other call into MLX; once is enough.
pub fn install_error_handler() {
    static INSTALLED: Once = Once::new();
    // mlx-c guards its handler by nothing, and another thread's call may be failing meanwhile.
    INSTALLED.call_once(|| {
        // SAFETY: `keep_message` is a function of the expected type that never unwinds, and there is
        // no data to keep alive.
        unsafe { sys::mlx_set_error_handler(Some(keep_message), ptr::null_mut(), None) };
    });
}

unsafe extern "C" fn keep_message(message: *const c_char, _data: *mut c_void) {
    // SAFETY: mlx-c passes a NUL-terminated string that lives until this returns.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // mlx-c appends where in its own sources the exception was caught, which helps nobody.
    let text = text.rsplit_once(" at ").map_or(&*text, |(text, _)| text);
    MESSAGE.with_borrow_mut(|kept| *kept = Some(text.to_owned()));
}

/// The error of the MLX call that just failed on this thread.
pub(crate) fn take_message() -> Error {
    let message = MESSAGE.with_borrow_mut(Option::take);
    Error::Mlx(message.unwrap_or_else(|| "MLX failed and gave no reason".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, Type};

    fn ty() -> TensorType {
        TensorType {
            ty: Type::F32,
            shape: Shape::new(&[2]).unwrap(),
        }
    }

    #[test]
    fn panics_become_errors_that_carry_the_operation() {
        for (work, text) in [
            (guarded::<()>(|| panic!("a text")), "a text"),
            (guarded::<()>(|| panic!("number {}", 7)), "number 7"),
            (guarded::<()>(|| std::panic::panic_any(7)), "no message"),
        ] {
            let error =
                work.unwrap_err()
                    .in_operation(&Op::Add, &[ty()], &[ty(), ty()], "cpu stream");
            assert_eq!(
                error.to_string(),
                format!(
                    "add failed: a bug in Emily: {text}\n  inputs: f32[2], f32[2]\n  output: f32[2]\n  \
                     attributes: none\n  stream: cpu stream"
                )
            );
        }
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }

    #[test]
    fn failures_of_evaluation_name_the_tensor() {
        let error = Error::Mlx("no memory".into()).in_evaluation(&ty(), "cpu stream");
        let Error::Operation(failure) = error else {
            panic!("expected an operation's failure, got: {error:?}");
        };
        assert_eq!(failure.op, "eval");
        assert_eq!(failure.reason, "no memory");
        assert_eq!(failure.output, "f32[2]");
    }
}
