//! SiLU and GELU, and what they are multiplied with in gated layers.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    layout::widened,
    product::Product,
};
use crate::{ActivationFunction, Op};

pub(in crate::program::passes) const ACTIVATION: Pattern = Pattern {
    ends: |op| matches!(op, Op::Divide | Op::Multiply),
    find,
};

/// `sqrt(2 / pi)`
const ROOT: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    if !is_float(graph.ty(value).ty) {
        return None;
    }
    if let Some(x) = quotient(graph, value) {
        return fused(graph, value, ActivationFunction::Silu, &[x]);
    }
    let parts = Product::of(graph, value, None)?;
    parts.factors.iter().find_map(|&factor| {
        let bend = Bend::of(graph, factor)?;
        let product = Product::of(graph, value, Some(bend.of))?;
        let others = product.without(&[factor, bend.of])?;
        let inputs: Vec<_> = [bend.of].into_iter().chain(others).collect();
        let fits = product.is(bend.times) && inputs.len() <= 2;
        fits.then(|| fused(graph, value, bend.function, &inputs))?
    })
}

fn fused<'g, 'a>(
    graph: &'g Graph<'a>,
    value: usize,
    function: ActivationFunction,
    inputs: &[usize],
) -> Option<Fusion<'g, 'a>> {
    let out = graph.ty(value);
    if inputs.iter().any(|&x| graph.dims(x) != out.shape.dims()) {
        return None;
    }
    let mut fusion = Fusion::of(graph);
    let inputs = inputs.iter().map(|&x| widened(&mut fusion, x, out.ty));
    let inputs: Vec<_> = inputs.collect::<Option<_>>()?;
    fusion.add(Op::Activation { function }, &inputs)?;
    Some(fusion)
}

/// `x / (1 + exp(-x))`
fn quotient(graph: &Graph, value: usize) -> Option<usize> {
    let (Op::Divide, &[x, by]) = graph.op(value)? else {
        return None;
    };
    let (Op::Exp, &[inner]) = graph.op(one_more(graph, by)?)? else {
        return None;
    };
    match graph.op(inner)? {
        (Op::Negate, &[y]) => (y == x).then_some(x),
        _ => None,
    }
}

/// `x` of `1 + x`
fn one_more(graph: &Graph, value: usize) -> Option<usize> {
    let pairs = graph.pairs(value, |op| *op == Op::Add);
    let found = pairs.into_iter().find(|(_, one)| graph.is(*one, 1.0));
    found.map(|(x, _)| x)
}

/// What a tensor is multiplied with to be bent by a function, which takes a number besides.
struct Bend {
    function: ActivationFunction,
    of: usize,
    times: f64,
}

impl Bend {
    fn of(graph: &Graph, value: usize) -> Option<Self> {
        if let (Op::Sigmoid, &[of]) = graph.op(value)? {
            let function = ActivationFunction::Silu;
            let times = 1.0;
            return Some(Self {
                function,
                of,
                times,
            });
        }
        let (function, of) = match graph.op(one_more(graph, value)?)? {
            (Op::Erf, &[inner]) => (
                ActivationFunction::Gelu,
                scaled(graph, inner, FRAC_1_SQRT_2)?,
            ),
            (Op::Tanh, &[inner]) => (ActivationFunction::GeluTanh, cubic(graph, inner)?),
            _ => return None,
        };
        let times = 0.5;
        Some(Self {
            function,
            of,
            times,
        })
    }
}

/// What is multiplied with a number, and with nothing else.
fn scaled(graph: &Graph, value: usize, by: f64) -> Option<usize> {
    let x = match graph.op(value)? {
        (Op::Multiply, &[x, y]) if graph.number(x).is_some() => y,
        (Op::Multiply | Op::Divide, &[x, y]) if graph.number(y).is_some() => x,
        _ => return None,
    };
    Product::of(graph, value, Some(x))?.is(by).then_some(x)
}

/// `x` of `sqrt(2 / pi) * (x + 0.044715 * x ** 3)`, or of `sqrt(2 / pi) * x * (1 + 0.044715 * x ** 2)`.
fn cubic(graph: &Graph, value: usize) -> Option<usize> {
    const BY: f64 = 0.044_715;
    if let Some(sum) = scaled(graph, value, ROOT) {
        let pairs = graph.pairs(sum, |op| *op == Op::Add);
        let found = pairs
            .into_iter()
            .find(|&(x, cube)| is_power(graph, cube, x, 3, BY));
        if let Some((x, _)) = found {
            return Some(x);
        }
    }
    let product = Product::of(graph, value, None)?;
    product.factors.iter().find_map(|&factor| {
        let square = one_more(graph, factor)?;
        let others = product.without(&[factor])?;
        let x = *others.first().filter(|_| others.len() == 1)?;
        (product.is(ROOT) && is_power(graph, square, x, 2, BY)).then_some(x)
    })
}

/// Whether a value is a power of x, times a number.
fn is_power(graph: &Graph, value: usize, x: usize, power: usize, times: f64) -> bool {
    let Some(product) = Product::of(graph, value, Some(x)) else {
        return false;
    };
    let mut exponent = 0;
    for &factor in &product.factors {
        exponent += match graph.op(factor) {
            _ if factor == x => 1,
            Some((Op::Pow, &[of, by])) if of == x && graph.is(by, 2.0) => 2,
            Some((Op::Pow, &[of, by])) if of == x && graph.is(by, 3.0) => 3,
            _ => return false,
        };
    }
    product.is(times) && exponent == power
}

#[cfg(test)]
mod tests {
    use super::{super::sketch::Sketch, *};
    use crate::program::passes::Pass;

    fn tensors(ty: &str) -> Sketch {
        Sketch::new(&[&format!("{ty}[3][8]"), &format!("{ty}[3][8]")])
    }

    fn silu(sketch: &mut Sketch, x: usize) -> usize {
        let sigmoid = sketch.op(Op::Sigmoid, &[x]);
        sketch.op(Op::Multiply, &[sigmoid, x])
    }

    /// As Axon has it.
    fn gelu(sketch: &mut Sketch, x: usize) -> usize {
        let [root, one, two] = [2_f64.sqrt(), 1.0, 2.0].map(|number| sketch.number(number, x));
        let inner = sketch.op(Op::Divide, &[x, root]);
        let erf = sketch.op(Op::Erf, &[inner]);
        let sum = sketch.op(Op::Add, &[one, erf]);
        let product = sketch.op(Op::Multiply, &[sum, x]);
        sketch.op(Op::Divide, &[product, two])
    }

    /// As Bumblebee has it, with a number that Nx makes an f32 of whatever the input is.
    fn gelu_tanh(sketch: &mut Sketch, x: usize, root: &str) -> usize {
        let [by, three, one, half] = [0.044_715, 3.0, 1.0, 0.5].map(|it| sketch.number(it, x));
        let root = sketch.step(crate::program::passes::samples::constant(ROOT, root));
        let cube = sketch.op(Op::Pow, &[x, three]);
        let cube = sketch.op(Op::Multiply, &[by, cube]);
        let sum = sketch.op(Op::Add, &[x, cube]);
        let inner = sketch.op(Op::Multiply, &[root, sum]);
        let tanh = sketch.op(Op::Tanh, &[inner]);
        let sum = sketch.op(Op::Add, &[one, tanh]);
        let product = sketch.op(Op::Multiply, &[sum, x]);
        sketch.op(Op::Multiply, &[half, product])
    }

    #[test]
    fn is_found_as_libraries_have_it() {
        for ty in ["f32", "bf16", "f16"] {
            for form in 0..4 {
                let mut sketch = tensors(ty);
                let result = match form {
                    0 => silu(&mut sketch, 0),
                    1 => gelu(&mut sketch, 0),
                    2 => gelu_tanh(&mut sketch, 0, ty),
                    _ => {
                        let one = sketch.number(1.0, 0);
                        let negative = sketch.op(Op::Negate, &[0]);
                        let exp = sketch.op(Op::Exp, &[negative]);
                        let sum = sketch.op(Op::Add, &[exp, one]);
                        sketch.op(Op::Divide, &[0, sum])
                    }
                };
                let left = sketch.fused(Pass::Activation, result);
                assert_eq!(left, ["activation"], "{ty} {form}");
            }
        }
        let mut sketch = tensors("bf16");
        let result = gelu_tanh(&mut sketch, 0, "f32");
        let left = sketch.fused(Pass::Activation, result);
        assert_eq!(left, ["as_type", "activation"]);
    }

    #[test]
    fn other_forms_are_found() {
        // 0.5 * (x * (1 + erf(x * sqrt(1 / 2))))
        let mut sketch = tensors("f32");
        let [root, one, half] = [FRAC_1_SQRT_2, 1.0, 0.5].map(|number| sketch.number(number, 0));
        let inner = sketch.op(Op::Multiply, &[root, 0]);
        let erf = sketch.op(Op::Erf, &[inner]);
        let sum = sketch.op(Op::Add, &[erf, one]);
        let halves = sketch.op(Op::Multiply, &[half, 0]);
        let result = sketch.op(Op::Multiply, &[halves, sum]);
        assert_eq!(sketch.fused(Pass::Activation, result), ["activation"]);

        // sqrt(2 / pi) * x * (1 + 0.044715 * x * x)
        let mut sketch = tensors("f32");
        let [root, by, one, half] = [ROOT, 0.044_715, 1.0, 0.5].map(|it| sketch.number(it, 0));
        let square = sketch.op(Op::Multiply, &[0, 0]);
        let square = sketch.op(Op::Multiply, &[by, square]);
        let sum = sketch.op(Op::Add, &[one, square]);
        let scaled = sketch.op(Op::Multiply, &[root, 0]);
        let inner = sketch.op(Op::Multiply, &[scaled, sum]);
        let tanh = sketch.op(Op::Tanh, &[inner]);
        let sum = sketch.op(Op::Add, &[one, tanh]);
        let product = sketch.op(Op::Multiply, &[0, sum]);
        let result = sketch.op(Op::Multiply, &[half, product]);
        assert_eq!(sketch.fused(Pass::Activation, result), ["activation"]);
    }

    #[test]
    fn gates_are_taken_in() {
        for ty in ["f32", "bf16"] {
            let mut sketch = tensors(ty);
            let active = silu(&mut sketch, 0);
            let result = sketch.op(Op::Multiply, &[1, active]);
            assert_eq!(sketch.fused(Pass::Activation, result), ["activation"]);

            let mut sketch = tensors(ty);
            let active = gelu(&mut sketch, 0);
            let result = sketch.op(Op::Multiply, &[active, 1]);
            assert_eq!(sketch.fused(Pass::Activation, result), ["activation"]);
        }
        // What is activated may be a product itself, and what it is multiplied with smaller.
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[8]"]);
        let product = sketch.op(Op::Multiply, &[0, 1]);
        let active = silu(&mut sketch, product);
        let result = sketch.op(Op::Multiply, &[1, active]);
        let left = sketch.fused(Pass::Activation, result);
        assert_eq!(left, ["multiply", "activation", "multiply"]);
    }

    #[test]
    fn almost_an_activation_is_none() {
        let none = |sketch: Sketch, result: usize| {
            let left = sketch.left(Pass::Activation, result);
            assert!(!left.contains(&"activation".into()), "{left:?}");
        };
        // Of another tensor.
        let mut sketch = tensors("f32");
        let sigmoid = sketch.op(Op::Sigmoid, &[1]);
        let result = sketch.op(Op::Multiply, &[0, sigmoid]);
        none(sketch, result);

        // With another number in it.
        let mut sketch = tensors("f32");
        let by = sketch.number(1.702, 0);
        let scaled = sketch.op(Op::Multiply, &[by, 0]);
        let sigmoid = sketch.op(Op::Sigmoid, &[scaled]);
        let result = sketch.op(Op::Multiply, &[0, sigmoid]);
        none(sketch, result);

        // Not halved.
        let mut sketch = tensors("f32");
        let [root, one] = [2_f64.sqrt(), 1.0].map(|number| sketch.number(number, 0));
        let inner = sketch.op(Op::Divide, &[0, root]);
        let erf = sketch.op(Op::Erf, &[inner]);
        let sum = sketch.op(Op::Add, &[one, erf]);
        let result = sketch.op(Op::Multiply, &[sum, 0]);
        none(sketch, result);

        // The sigmoid is needed, too.
        let mut sketch = tensors("f32");
        let sigmoid = sketch.op(Op::Sigmoid, &[0]);
        let product = sketch.op(Op::Multiply, &[0, sigmoid]);
        let result = sketch.op(Op::Subtract, &[product, sigmoid]);
        none(sketch, result);

        let mut sketch = tensors("f64");
        let result = silu(&mut sketch, 0);
        none(sketch, result);
    }
}
