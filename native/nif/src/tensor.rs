//! What can be done with tensors.

use std::sync::Arc;

use emily_core::{
    Op, Shape, Tensor, TensorType, Type, can_adopt, guarded, is_view, operations, tensor_at,
};
use rustler::{
    Atom, Binary, Encoder, Env, Error, NifResult, Reference, ResourceArc, Term,
    types::tuple::{get_tuple, make_tuple},
};

use smallvec::{SmallVec, smallvec};

use crate::{
    binary::Kept,
    handle::{Given, TensorRef, in_place},
    inspect::inspect,
    list::{check, decode_list},
    raise::{argument, failed},
    reply::from_worker,
    stream::StreamRef,
    timeslice::Timeslice,
};

mod atoms {
    rustler::atoms! { ok, already_deallocated, pending, copy, nil, c, live, deallocated, elsewhere }
}

/// A tensor of the bytes of `binary`, on a scheduler: for those that are copied in well under 1 ms, if they
/// cannot be read in place.
#[rustler::nif]
fn from_binary<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    binary: Binary<'a>,
    shape: Term<'a>,
    ty: Term<'a>,
) -> NifResult<ResourceArc<TensorRef>> {
    let _turn = Timeslice::begin(env);
    let ty = tensor_type_of(ty, shape)?;
    match adopted(&stream, binary, &ty)? {
        Some(tensor) => Ok(tensor),
        None => copied(&stream, binary, &ty),
    }
}

/// A tensor with a copy of `binary`, off the schedulers: for large ones.
#[rustler::nif(schedule = "DirtyCpu")]
fn copy_binary<'a>(
    stream: Given<StreamRef>,
    binary: Binary<'a>,
    shape: Term<'a>,
    ty: Term<'a>,
) -> NifResult<ResourceArc<TensorRef>> {
    copied(&stream, binary, &tensor_type_of(ty, shape)?)
}

/// A tensor that reads the bytes of `binary` in place, or `:copy` if that cannot be.
///
/// `head` is what the binary begins with: to look at all of it may mean to copy it.
#[rustler::nif]
fn adopt_binary<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    binary: Term<'a>,
    head: Binary<'a>,
    shape: Term<'a>,
    ty: Term<'a>,
) -> NifResult<Term<'a>> {
    let _turn = Timeslice::begin(env);
    let ty = tensor_type_of(ty, shape)?;
    let adopted = match Kept::new(head) {
        Some(_) => adopted(&stream, binary.decode()?, &ty)?,
        None => None,
    };
    Ok(adopted.map_or_else(|| atoms::copy().encode(env), |tensor| tensor.encode(env)))
}

fn copied(
    stream: &StreamRef,
    binary: Binary<'_>,
    ty: &TensorType,
) -> NifResult<ResourceArc<TensorRef>> {
    let tensor = Tensor::from_bytes(&stream.0, ty, &binary).map_err(failed)?;
    Ok(TensorRef::make(tensor))
}

fn adopted(
    stream: &StreamRef,
    binary: Binary<'_>,
    ty: &TensorType,
) -> NifResult<Option<ResourceArc<TensorRef>>> {
    let Some(kept) = can_adopt(ty, &binary).then(|| Kept::new(binary)).flatten() else {
        return Ok(None);
    };
    let tensor = Tensor::adopt(&stream.0, ty, kept).map_err(failed)?;
    Ok(Some(TensorRef::make(tensor)))
}

/// The result of an operation, to be computed when it is needed; a tuple where there are several.
///
/// `op` is `:name` or `{:name, %{attribute: value}}`; `out` is `{type, shape}`, a list of such for
/// several results, or nil where the inputs tell it.
#[rustler::nif(name = "op")]
fn apply<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    op: Term<'a>,
    out: Term<'a>,
    inputs: Term<'a>,
) -> NifResult<Term<'a>> {
    let _turn = Timeslice::begin(env);
    let op = decode_op(env, op)?;
    let outs = decode_outs(out)?;
    let inputs: SmallVec<[Term<'a>; 4]> = decode_list(inputs, reference_only).map_err(|_| {
        argument(format!(
            "expected a list of tensors as inputs, got: {}",
            inspect(inputs)
        ))
    })?;
    let inputs: SmallVec<[Arc<Tensor>; 4]> = inputs
        .into_iter()
        .map(|input| input.decode::<Given<TensorRef>>()?.get())
        .collect::<NifResult<_>>()?;
    let inputs: SmallVec<[&Tensor; 4]> = inputs.iter().map(AsRef::as_ref).collect();
    let results = Tensor::apply_all(&stream.0, &op, outs.as_deref(), &inputs).map_err(failed)?;
    let results = results
        .into_iter()
        .map(|tensor| TensorRef::make(tensor).encode(env));
    let results: SmallVec<[Term<'a>; 3]> = results.collect();
    Ok(match results[..] {
        [only] => only,
        _ => make_tuple(env, &results),
    })
}

fn reference_only(term: Term<'_>) -> NifResult<Term<'_>> {
    if term.is_ref() {
        Ok(term)
    } else {
        Err(Error::BadArg)
    }
}

/// `{type, shape}`.
#[rustler::nif]
fn tensor_type(tensor: Given<TensorRef>) -> NifResult<(Type, Shape)> {
    let TensorType { ty, shape } = tensor.get()?.tensor_type();
    Ok((ty, shape))
}

/// Gives the tensor's memory up, unless operations that were noted before still need it.
///
/// `:ok`, or `:already_deallocated`. The system may take its time, hence off the schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn deallocate(tensor: Given<TensorRef>) -> Atom {
    match tensor.take() {
        Some(_) => atoms::ok(),
        None => atoms::already_deallocated(),
    }
}

/// What is behind a tensor's reference: `:live`, `:deallocated`, or `:elsewhere` where it has lost its
/// meaning on the way.
#[rustler::nif]
fn presence(tensor: Term<'_>) -> Atom {
    match tensor.decode::<Given<TensorRef>>() {
        Ok(tensor) if tensor.get().is_ok() => atoms::live(),
        Ok(_) => atoms::deallocated(),
        Err(_) => atoms::elsewhere(),
    }
}

/// `[{name, count, view?}]` of MLX's operations that computing the tensors takes still: walking a graph of any size
/// takes its time, hence off the schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn graph_operations(tensors: Term<'_>) -> NifResult<Vec<(String, usize, bool)>> {
    let tensors: SmallVec<[_; 4]> =
        decode_list(tensors, |term| term.decode::<Given<TensorRef>>()?.get())?;
    let tensors: SmallVec<[&Tensor; 4]> = tensors.iter().map(AsRef::as_ref).collect();
    let counts = operations(&tensors).map_err(failed)?;
    let counted = |(name, count): (String, usize)| {
        let view = is_view(&name);
        (name, count, view)
    };
    Ok(counts.into_iter().map(counted).collect())
}

/// `:ok` if the tensor is computed already, else `:pending` and a message `{reference, {:ok, :ok}}`.
#[rustler::nif]
fn eval(env: Env<'_>, tensor: Given<TensorRef>, reference: Reference<'_>) -> NifResult<Atom> {
    let tensor = tensor.get()?;
    if tensor.is_ready() {
        return Ok(atoms::ok());
    }
    let stream = tensor.stream().clone();
    from_worker(
        env,
        &stream,
        reference,
        move || tensor.eval(),
        |env, ()| atoms::ok().encode(env),
    )?;
    Ok(atoms::pending())
}

/// Begins to compute the tensor; whoever reads it later gets the error, if there is one. If nobody can
/// read it any more when its turn comes, it is left as it is.
#[rustler::nif]
fn async_eval(tensor: Given<TensorRef>) -> NifResult<Atom> {
    let tensor = tensor.get()?;
    if !tensor.is_ready() {
        let unread = Arc::downgrade(&tensor);
        let job = move || {
            if let Some(tensor) = unread.upgrade() {
                let _ = guarded(|| tensor.eval());
            }
        };
        tensor.stream().submit(job).map_err(failed)?;
    }
    Ok(atoms::ok())
}

/// `{:ok, binary}` if the elements can be read in place, else `:pending` and a message
/// `{reference, {:ok, binary}}`. The binary is MLX's own memory.
#[rustler::nif]
fn read<'a>(
    env: Env<'a>,
    tensor: Given<TensorRef>,
    reference: Reference<'a>,
) -> NifResult<Term<'a>> {
    let _turn = Timeslice::begin(env);
    let tensor = tensor.get()?;
    if tensor.bytes().is_some() {
        return Ok((atoms::ok(), in_place(env, tensor)).encode(env));
    }
    let stream = tensor.stream().clone();
    from_worker(
        env,
        &stream,
        reference,
        move || tensor.readable(),
        |env, readable| in_place(env, Arc::new(readable)),
    )?;
    Ok(atoms::pending().encode(env))
}

/// A tensor with a copy of the memory at `address`; it may be large, hence off the schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn from_address(
    stream: Given<StreamRef>,
    address: Term<'_>,
    shape: Term<'_>,
    ty: Term<'_>,
) -> NifResult<ResourceArc<TensorRef>> {
    let ty = tensor_type_of(ty, shape)?;
    let place: usize = address.decode().map_err(|_| {
        argument(format!(
            "expected :address to be an address of this machine, got: {}",
            inspect(address)
        ))
    })?;
    let tensor = tensor_at(&stream.0, &ty, place).map_err(failed)?;
    Ok(TensorRef::make(tensor))
}

/// `:pending`, and a message `{reference, {:ok, address}}` with where the elements are, in row-major
/// order, for as long as the tensor lives.
#[rustler::nif]
fn address(env: Env<'_>, tensor: Given<TensorRef>, reference: Reference<'_>) -> NifResult<Atom> {
    let tensor = tensor.get()?;
    let stream = tensor.stream().clone();
    from_worker(
        env,
        &stream,
        reference,
        move || tensor.address(),
        |env, address| address.encode(env),
    )?;
    Ok(atoms::pending())
}

fn decode_type(ty: Term<'_>) -> NifResult<Type> {
    ty.decode().map_err(|_| {
        let double_complex = (atoms::c(), 128);
        if ty.decode::<(Atom, u64)>().is_ok_and(|ty| ty == double_complex) {
            return argument(
                "expected :type to be a type of MLX's (instead of {:c, 128} use {:c, 64}), got: {:c, 128}",
            );
        }
        let known: Vec<_> = Type::ALL
            .iter()
            .map(|ty| format!("{{:{}, {}}}", ty.nx().0, ty.nx().1))
            .collect();
        argument(format!(
            "expected :type to be one of {}, got: {}",
            known.join(", "),
            inspect(ty)
        ))
    })
}

fn tensor_type_of(ty: Term<'_>, shape: Term<'_>) -> NifResult<TensorType> {
    Ok(TensorType {
        ty: decode_type(ty)?,
        shape: decode_shape(shape)?,
    })
}

fn decode_shape(shape: Term<'_>) -> NifResult<Shape> {
    let dims: SmallVec<[i64; 6]> = decode_list(shape, Term::decode).map_err(|_| {
        argument(format!(
            "expected :shape to be a list of sizes below 2^63, got: {}",
            inspect(shape)
        ))
    })?;
    Shape::new(&dims).map_err(failed)
}

fn decode_outs(out: Term<'_>) -> NifResult<Option<SmallVec<[TensorType; 1]>>> {
    if out.is_atom() && out.decode::<Atom>()? == atoms::nil() {
        return Ok(None);
    }
    if out.is_list() {
        return decode_list(out, decode_out).map(Some);
    }
    decode_out(out).map(|out| Some(smallvec![out]))
}

fn decode_out(out: Term<'_>) -> NifResult<TensorType> {
    let (ty, shape): (Term<'_>, Term<'_>) = out.decode().map_err(|_| {
        argument(format!(
            "expected the output to be {{type, shape}}, a list of such or nil, got: {}",
            inspect(out)
        ))
    })?;
    tensor_type_of(ty, shape)
}

fn decode_op<'a>(env: Env<'a>, op: Term<'a>) -> NifResult<Op> {
    let well_formed =
        op.is_atom() || get_tuple(op).is_ok_and(|fields| fields.len() == 2 && fields[1].is_map());
    if !well_formed {
        return Err(argument(format!(
            "expected an operation as :name or {{:name, attributes}}, got: {}",
            inspect(op)
        )));
    }
    check(op).and_then(|()| op.decode()).map_err(|error| {
        let detail = match error {
            Error::RaiseTerm(text) => text.encode(env).decode::<String>().ok(),
            _ => None,
        };
        argument(detail.map_or_else(
            || {
                format!(
                    "expected an operation that Emily has, with its attributes, got: {}",
                    inspect(op)
                )
            },
            |detail| {
                format!(
                    "expected an operation with its attributes, got: {} ({detail})",
                    inspect(op)
                )
            },
        ))
    })
}
