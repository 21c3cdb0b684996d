//! Operations that stand for several.

use super::{
    cast::cast,
    compare::truth,
    dot::{Side, dot_add},
};
use crate::{
    ActivationFunction, Array, Device, Error, Op, Result, Stream, TensorType, Type, infer,
    infer::mask_and_sinks,
    mlx::{Mlx, fits_one_kernel, fits_rotary, fits_short_attention, is_cuda},
};

pub(super) fn lower(
    op: &Op,
    out: &TensorType,
    inputs: &[&Array],
    stream: &Stream,
) -> Result<Array> {
    let types: Vec<_> = inputs.iter().map(|input| input.tensor_type()).collect();
    infer(op, &types)?;
    let mlx = stream.mlx();
    match (op, inputs) {
        (Op::Softmax, [x]) => mlx.softmax(x),
        (Op::LayerNorm { epsilon }, [x, gamma, beta]) => mlx.layer_norm(x, gamma, beta, *epsilon),
        (Op::RmsNorm { epsilon }, [x]) => mlx.rms_norm(x, None, *epsilon),
        (Op::RmsNorm { epsilon }, [x, gamma]) => match mlx.device() {
            Device::Gpu if gamma.shape().rank() > 1 => {
                mlx.multiply(&mlx.rms_norm(x, None, *epsilon)?, gamma)
            }
            _ => mlx.rms_norm(x, Some(gamma), *epsilon),
        },
        (Op::RotaryEmbedding, [x, cosines, sines]) => turned(mlx, x, [cosines, sines], None),
        (Op::RmsNormRotaryEmbedding { epsilon }, [x, gamma, cosines, sines]) => {
            turned(mlx, x, [cosines, sines], Some((gamma, *epsilon)))
        }
        (
            Op::Rope {
                dims,
                traditional,
                base,
                scale,
            },
            [x, offset, frequencies @ ..],
        ) => {
            let frequencies = frequencies.first().copied();
            mlx.rope(x, offset, frequencies, (*dims, *traditional, *base, *scale))
        }
        (Op::Attention { scale, sinks }, [query, key, value, more @ ..]) => {
            let (mask, sinks) = mask_and_sinks(more, *sinks);
            let inputs = [*query, *key, *value];
            attended(mlx, inputs, mask.copied(), sinks.copied(), *scale)
        }
        (Op::Activation { function }, [x, factor @ ..]) => {
            let factor = factor.first().copied();
            if mlx.device() == Device::Cpu || fits_one_kernel(x) {
                return mlx.activation(*function, x, factor);
            }
            let active = activated(mlx, *function, x)?;
            factor.map_or(Ok(active.clone()), |factor| mlx.multiply(&active, factor))
        }
        (
            Op::DotAdd {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            [a, b, c],
        ) => dot_add(
            mlx,
            &Side {
                array: a,
                contract: contract_a,
                batch: batch_a,
            },
            &Side {
                array: b,
                contract: contract_b,
                batch: batch_b,
            },
            c,
            out,
        ),
        _ => Err(Error::argument(format!(
            "expected {} to take other inputs",
            op.name()
        ))),
    }
}

fn attended(
    mlx: Mlx,
    [query, key, value]: [&Array; 3],
    mask: Option<&Array>,
    sinks: Option<&Array>,
    scale: f64,
) -> Result<Array> {
    let inputs = [query, key, value];
    if mlx.device() == Device::Cpu {
        return mlx.attention(inputs, mask, sinks, scale);
    }
    if let (Some(mask), None) = (mask, sinks)
        && is_cuda()
        && fits_short_attention(query, key, value)
    {
        return mlx.short_attention(inputs, mask, scale);
    }
    let mask = mask.map(|mask| match mask.ty() {
        Type::U8 => truth(mlx, mask),
        _ => cast(mlx, mask, query.ty()),
    });
    let sinks = sinks.map(|sinks| cast(mlx, sinks, query.ty()));
    let (mask, sinks) = (mask.transpose()?, sinks.transpose()?);
    mlx.attention(inputs, mask.as_ref(), sinks.as_ref(), scale)
}

/// A rotary embedding, of the RMS norm where there is a gamma and an epsilon.
fn turned(
    mlx: Mlx,
    x: &Array,
    [cosines, sines]: [&Array; 2],
    norm: Option<(&Array, f64)>,
) -> Result<Array> {
    if mlx.device() == Device::Cpu || fits_rotary(x) {
        return mlx.rotary(x, [cosines, sines], norm);
    }
    let x = &match norm {
        Some((gamma, epsilon)) => mlx.rms_norm(x, Some(gamma), epsilon)?,
        None => x.clone(),
    };
    let shape = x.shape();
    let axis = shape.rank() - 1;
    let (size, strides) = (shape.dims()[axis], vec![1; shape.rank()]);
    let (mut middle, mut end) = (vec![0; shape.rank()], shape.dims().to_vec());
    let start = middle.clone();
    middle[axis] = size / 2;
    let second = mlx.slice(x, &middle, &end, &strides)?;
    end[axis] = size / 2;
    let first = mlx.slice(x, &start, &end, &strides)?;
    let rotated = mlx.concatenate(&[mlx.negative(&second)?, first], axis as i32)?;
    mlx.add(&mlx.multiply(x, cosines)?, &mlx.multiply(&rotated, sines)?)
}

fn activated(mlx: Mlx, function: ActivationFunction, x: &Array) -> Result<Array> {
    let number = |value: f64| mlx.scalar(value, x.ty());
    let half_of = |y: &Array| -> Result<Array> {
        let half = mlx.multiply(x, &number(0.5)?)?;
        mlx.multiply(&half, &mlx.add(&number(1.0)?, y)?)
    };
    match function {
        ActivationFunction::Silu => mlx.multiply(x, &mlx.sigmoid(x)?),
        ActivationFunction::Gelu => {
            let root = number(std::f64::consts::FRAC_1_SQRT_2)?;
            half_of(&mlx.erf(&mlx.multiply(x, &root)?)?)
        }
        ActivationFunction::GeluTanh => {
            let cube = mlx.multiply(&mlx.square(x)?, x)?;
            let inner = mlx.add(x, &mlx.multiply(&cube, &number(0.044_715)?)?)?;
            let root = number(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2)?;
            half_of(&mlx.tanh(&mlx.multiply(&inner, &root)?)?)
        }
    }
}
