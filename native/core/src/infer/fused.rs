//! Operations that stand for several.

use super::{
    merged,
    shapes::{broadcast, common, contracted},
};
use crate::{Error, Op, Result, Shape, TensorType, Type, error::list};

/// The type and sizes of the result of a fused operation.
pub(super) fn result(op: &Op, inputs: &[TensorType]) -> Result<(Type, Vec<i32>)> {
    check_types(op, inputs)?;
    let first = |x: &TensorType| (x.ty, x.shape.dims().to_vec());
    match (op, inputs) {
        (Op::Softmax | Op::RmsNorm { .. } | Op::Activation { .. }, [x]) => {
            has_axes(op, x)?;
            Ok(first(x))
        }
        (Op::LayerNorm { .. }, [x, gamma, beta]) => {
            has_axes(op, x)?;
            let fits = |y: &TensorType| y.shape.rank() == 1 && ends_with(&x.shape, &y.shape);
            expect(
                fits(gamma) && fits(beta),
                op,
                inputs,
                "as long as its last axis",
            )?;
            Ok(first(x))
        }
        (Op::RmsNorm { .. }, [x, gamma]) => {
            has_axes(op, x)?;
            let fits = gamma.shape.rank() > 0 && ends_with(&x.shape, &gamma.shape);
            expect(fits, op, inputs, "with the sizes of its last axes")?;
            Ok(first(x))
        }
        (Op::RmsNormRotaryEmbedding { .. }, [x, gamma, cosines, sines]) => {
            let fits = gamma.shape.rank() == 1 && ends_with(&x.shape, &gamma.shape);
            expect(
                fits,
                op,
                inputs,
                "of which the second is as long as the first's last axis",
            )?;
            result(
                &Op::RotaryEmbedding,
                &[x.clone(), cosines.clone(), sines.clone()],
            )
        }
        (Op::RotaryEmbedding, [x, cosines, sines]) => {
            has_axes(op, x)?;
            let even = x.shape.dims().last().is_some_and(|size| size % 2 == 0);
            expect(
                even,
                op,
                inputs,
                "of which the first has a last axis of even size",
            )?;
            let dims = broadcast(op, &[x, cosines, sines])?;
            expect(
                dims == x.shape.dims(),
                op,
                inputs,
                "that broadcast to the first",
            )?;
            Ok(first(x))
        }
        (Op::Rope { dims, base, .. }, [x, offset, frequencies @ ..]) => {
            turned(op, inputs, *dims, offset)?;
            let half = [*dims as i32 / 2];
            let fit = match (base, frequencies) {
                (Some(base), []) => base.is_finite() && *base > 0.0,
                (None, [frequencies]) => frequencies.shape.dims() == half,
                _ => false,
            };
            let what = "and a base above 0, or a frequency for each pair of features";
            expect(fit, op, inputs, what)?;
            Ok(first(x))
        }
        (Op::Activation { .. }, [x, factor]) => {
            expect(x.shape == factor.shape, op, inputs, "of equal shape")?;
            Ok(first(x))
        }
        (Op::Attention { sinks, .. }, [query, key, value, more @ ..])
            if more.len() < 2 + usize::from(*sinks) =>
        {
            let (mask, given) = mask_and_sinks(more, *sinks);
            let dims = attended(op, inputs, [query, key, value], mask)?;
            let fits = match given {
                Some(sinks) => sinks.shape.dims() == &dims[1..2],
                None => !sinks,
            };
            expect(fits, op, inputs, "and sinks for each of the query's heads")?;
            Ok((query.ty, dims))
        }
        (
            Op::DotAdd {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            [a, b, c],
        ) => {
            let dims = contracted(a, b, contract_a, batch_a, contract_b, batch_b)?;
            let product = Shape::trusted(&dims);
            let sum = common([&product, &c.shape].into_iter());
            expect(
                sum.as_ref() == Some(&dims),
                op,
                inputs,
                "of which the last broadcasts to the product",
            )?;
            Ok((merged(op, inputs)?, dims))
        }
        _ => expect(false, op, inputs, "of another number").map(|()| (Type::F32, Vec::new())),
    }
}

/// What attention has beside query, key and value, of two inputs at most.
pub(crate) fn mask_and_sinks<T>(more: &[T], sinks: bool) -> (Option<&T>, Option<&T>) {
    match more.split_last() {
        Some((sinks_, mask)) if sinks => (mask.first(), Some(sinks_)),
        _ => (more.first(), None),
    }
}

/// Of the types that their kernels have, all the same but for a mask.
fn check_types(op: &Op, inputs: &[TensorType]) -> Result<()> {
    // A mask is of bytes or of any float, and sinks are of any float.
    let any_float = |at: usize| matches!(op, Op::Attention { .. }) && at >= 3;
    let bytes = |at: usize| match op {
        Op::Attention { sinks, .. } => at == 3 && !(*sinks && inputs.len() == 4),
        _ => false,
    };
    let rope = matches!(op, Op::Rope { .. });
    let mut types = inputs.iter().enumerate();
    let first = inputs.first().map(|input| input.ty);
    let fit = types.all(|(at, input)| match input.ty {
        ty if rope && at == 1 => ty == Type::S32,
        Type::F32 if rope && at == 2 => true,
        Type::U8 => bytes(at),
        ty @ (Type::Bf16 | Type::F16 | Type::F32) => any_float(at) || Some(ty) == first,
        _ => false,
    });
    expect(fit, op, inputs, "of one of the types bf16, f16 and f32")
}

fn turned(op: &Op, inputs: &[TensorType], dims: usize, offset: &TensorType) -> Result<()> {
    let x = &inputs[0].shape;
    let features = x.dims().last().map_or(0, |&size| size as usize);
    let fit = x.rank() >= 3 && dims > 0 && dims.is_multiple_of(2) && dims <= features;
    expect(
        fit,
        op,
        inputs,
        "with three axes or more and an even number of features to turn",
    )?;
    let fit = offset.shape.rank() == 0 || offset.shape.dims() == &x.dims()[..1];
    expect(
        fit,
        op,
        inputs,
        "and a position, or one for each index of the first axis",
    )
}

fn has_axes(op: &Op, x: &TensorType) -> Result<()> {
    let axes = x.shape.rank() > 0 || matches!(op, Op::Activation { .. });
    expect(axes, op, std::slice::from_ref(x), "with at least one axis")
}

fn ends_with(shape: &Shape, end: &Shape) -> bool {
    shape.dims().ends_with(end.dims())
}

fn attended(
    op: &Op,
    inputs: &[TensorType],
    [query, key, value]: [&TensorType; 3],
    mask: Option<&TensorType>,
) -> Result<Vec<i32>> {
    let (
        &[batch, heads, positions, features],
        &[key_batch, key_heads, seen, key_features],
        &[value_batch, value_heads, value_seen, value_features],
    ) = (query.shape.dims(), key.shape.dims(), value.shape.dims())
    else {
        return expect(false, op, inputs, "with four axes").map(|()| Vec::new());
    };
    let fit = batch == key_batch
        && batch == value_batch
        && key_heads == value_heads
        && seen == value_seen
        && features == key_features
        && (heads == 0 || (key_heads > 0 && heads % key_heads == 0));
    expect(fit, op, inputs, "of query, key and value that fit")?;
    if let Some(mask) = mask {
        let scores = Shape::trusted(&[batch, heads, positions, seen]);
        let fits = common([&scores, &mask.shape].into_iter());
        expect(
            fits.as_deref() == Some(scores.dims()),
            op,
            inputs,
            "and a mask that broadcasts to the scores",
        )?;
    }
    Ok(vec![batch, heads, positions, value_features])
}

fn expect(fit: bool, op: &Op, inputs: &[TensorType], what: &str) -> Result<()> {
    if fit {
        return Ok(());
    }
    let (name, given) = (op.name(), list(inputs));
    Err(Error::argument(format!(
        "expected {name} of tensors {what}, got: {given}"
    )))
}

#[cfg(test)]
mod tests {
    use crate::{ActivationFunction, Op, TensorType, infer};

    fn tensors(types: &[&str]) -> Vec<TensorType> {
        types.iter().map(|ty| TensorType::read(ty)).collect()
    }

    #[test]
    fn results_have_the_shape_of_what_they_are_of() {
        let [attention, sinking] = [false, true].map(|sinks| Op::Attention { scale: 1.0, sinks });
        let rms_norm = Op::RmsNorm { epsilon: 1e-6 };
        let silu = Op::Activation {
            function: ActivationFunction::Silu,
        };
        for (op, inputs, out) in [
            (&Op::Softmax, &["f32[2][3]"][..], "f32[2][3]"),
            (&rms_norm, &["bf16[2][3][4]", "bf16[3][4]"], "bf16[2][3][4]"),
            (&rms_norm, &["f16[2]"], "f16[2]"),
            (&silu, &["f32", "f32"], "f32"),
            (
                &attention,
                &[
                    "f32[1][4][5][6]",
                    "f32[1][2][7][6]",
                    "f32[1][2][7][8]",
                    "u8[5][7]",
                ],
                "f32[1][4][5][8]",
            ),
            (
                &sinking,
                &[
                    "bf16[1][4][5][6]",
                    "bf16[1][2][7][6]",
                    "bf16[1][2][7][8]",
                    "f32[4]",
                ],
                "bf16[1][4][5][8]",
            ),
            (
                &Op::RotaryEmbedding,
                &["f32[2][3][4]", "f32[3][4]", "f32[1][4]"],
                "f32[2][3][4]",
            ),
            (
                &Op::RmsNormRotaryEmbedding { epsilon: 1e-6 },
                &["f32[2][3][4]", "f32[4]", "f32[3][4]", "f32[1][4]"],
                "f32[2][3][4]",
            ),
        ] {
            let inferred = infer(op, &tensors(inputs)).unwrap();
            assert_eq!(inferred, TensorType::read(out), "{op:?}");
        }
    }

    #[test]
    fn turned_pairs_need_frequencies() {
        let rope = |dims, base| Op::Rope {
            dims,
            traditional: false,
            base,
            scale: 1.0,
        };
        let types = tensors(&["bf16[2][3][8]", "s32[2]"]);
        assert_eq!(infer(&rope(8, Some(1e4)), &types).unwrap(), types[0]);
        let with = tensors(&["f32[2][3][8]", "s32", "f32[2]"]);
        assert_eq!(infer(&rope(4, None), &with).unwrap(), with[0]);
        for (op, types, problem) in [
            (rope(8, None), &types, "or a frequency for each pair"),
            (rope(8, Some(-1.0)), &types, "a base above 0"),
            (rope(4, Some(1e4)), &with, "or a frequency for each pair"),
            (rope(3, Some(1e4)), &types, "an even number of features"),
            (rope(10, Some(1e4)), &types, "an even number of features"),
            (
                rope(8, Some(1e4)),
                &tensors(&["f32[2][3][8]", "s32[3]"]),
                "and a position",
            ),
            (
                rope(8, Some(1e4)),
                &tensors(&["f32[2][3][8]", "f32"]),
                "of one of the types",
            ),
        ] {
            let error = infer(&op, types).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let layer_norm = Op::LayerNorm { epsilon: 1e-5 };
        let [attention, sinking] = [false, true].map(|sinks| Op::Attention { scale: 1.0, sinks });
        for (op, inputs, problem) in [
            (&Op::Softmax, &["f32"][..], "with at least one axis"),
            (
                &Op::Softmax,
                &["f64[2]"],
                "of one of the types bf16, f16 and f32",
            ),
            (
                &layer_norm,
                &["f32[2]", "f32[2]", "f32[1]"],
                "as long as its last axis",
            ),
            (
                &layer_norm,
                &["f32[2]", "f16[2]", "f32[2]"],
                "of one of the types",
            ),
            (
                &Op::RotaryEmbedding,
                &["f32[3]", "f32[3]", "f32[3]"],
                "even size",
            ),
            (
                &Op::RotaryEmbedding,
                &["f32[2]", "f32[3][2]", "f32[2]"],
                "broadcast to the first",
            ),
            (
                &attention,
                &["f32[1]", "f32[1]", "f32[1]"],
                "with four axes",
            ),
            (
                &attention,
                &["f32[1][3][5][6]", "f32[1][2][7][6]", "f32[1][2][7][8]"],
                "of query, key and value that fit",
            ),
            (
                &attention,
                &[
                    "f32[1][2][5][6]",
                    "f32[1][2][7][6]",
                    "f32[1][2][7][8]",
                    "u8[4][7]",
                ],
                "and a mask that broadcasts",
            ),
            (
                &sinking,
                &[
                    "f32[1][2][5][6]",
                    "f32[1][2][7][6]",
                    "f32[1][2][7][8]",
                    "f32[5][7]",
                    "f32[3]",
                ],
                "and sinks for each of the query's heads",
            ),
            (
                &sinking,
                &["f32[1][2][5][6]", "f32[1][2][7][6]", "f32[1][2][7][8]"],
                "and sinks for each of the query's heads",
            ),
            (
                &sinking,
                &[
                    "f32[1][2][5][6]",
                    "f32[1][2][7][6]",
                    "f32[1][2][7][8]",
                    "u8[2]",
                ],
                "of one of the types bf16, f16 and f32",
            ),
            (
                &attention,
                &[
                    "f32[1][2][5][6]",
                    "f32[1][2][7][6]",
                    "f32[1][2][7][8]",
                    "u8[5][7]",
                    "f32[2]",
                ],
                "of another number",
            ),
        ] {
            let error = infer(op, &tensors(inputs)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
