//! Core's errors as Elixir exceptions.

use emily_core::Error;
use rustler::{Encoder, Env, Term};

mod atoms {
    rustler::atoms! {
        struct_ = "__struct__",
        exception = "__exception__",
        argument_error = "Elixir.ArgumentError",
        emily_error = "Elixir.Emily.Error",
        message, op, reason, inputs, output, attributes, stream, nil
    }
}

/// An exception struct, to be raised by the NIF or sent to the caller, who raises it.
pub struct Exception(Error);

impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Exception> for rustler::Error {
    fn from(exception: Exception) -> Self {
        Self::RaiseTerm(Box::new(exception))
    }
}

/// An `ArgumentError` with this message.
pub fn argument(message: impl Into<String>) -> rustler::Error {
    Exception(Error::Argument(message.into())).into()
}

/// `error` as a NIF's failure.
pub fn failed(error: Error) -> rustler::Error {
    Exception(error).into()
}

impl Encoder for Exception {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let module = match &self.0 {
            Error::Argument(_) => atoms::argument_error(),
            _ => atoms::emily_error(),
        };
        let mut fields = vec![
            (atoms::struct_(), module.encode(env)),
            (atoms::exception(), true.encode(env)),
        ];
        match &self.0 {
            Error::Argument(text) => fields.push((atoms::message(), text.encode(env))),
            Error::Operation(failure) => fields.extend([
                (atoms::reason(), failure.reason.encode(env)),
                (atoms::op(), failure.op.encode(env)),
                (atoms::inputs(), failure.inputs.encode(env)),
                (atoms::output(), failure.output.encode(env)),
                (atoms::attributes(), failure.attributes.encode(env)),
                (atoms::stream(), failure.stream.encode(env)),
            ]),
            Error::Mlx(reason) | Error::Stream(reason) => {
                fields.push((atoms::reason(), reason.encode(env)));
                for absent in [
                    atoms::op(),
                    atoms::inputs(),
                    atoms::output(),
                    atoms::attributes(),
                    atoms::stream(),
                ] {
                    fields.push((absent, atoms::nil().encode(env)));
                }
            }
        }
        Term::map_from_pairs(env, &fields).unwrap_or_else(|_| self.0.to_string().encode(env))
    }
}
