//! A product of matrices with something added to it, such as a bias or what went around a layer.

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
};
use crate::Op;

pub(in crate::program::passes) const DOT_ADD: Pattern = Pattern {
    ends: |op| *op == Op::Add,
    find,
};

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let out = graph.ty(value);
    let pairs = graph.pairs(value, |op| *op == Op::Add);
    pairs.into_iter().find_map(|(product, added)| {
        let (
            Op::Dot {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            &[a, b],
        ) = graph.op(product)?
        else {
            return None;
        };
        let fits = graph.ty(product) == out
            && is_float(out.ty)
            && graph.is_used_once(product)
            && graph.number(added).is_none()
            && [a, b, added].iter().all(|&x| graph.ty(x).ty == out.ty);
        let op = Op::DotAdd {
            contract_a: contract_a.clone(),
            batch_a: batch_a.clone(),
            contract_b: contract_b.clone(),
            batch_b: batch_b.clone(),
        };
        let mut fusion = Fusion::of(graph);
        fusion.add(op, &[a, b, added]).filter(|_| fits)?;
        Some(fusion)
    })
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use crate::{Op, program::passes::Pass};

    fn dot(sketch: &mut Sketch, a: usize, b: usize) -> usize {
        let axis = sketch.dims(a).len() - 1;
        let product = Op::Dot {
            contract_a: vec![axis],
            batch_a: vec![],
            contract_b: vec![0],
            batch_b: vec![],
        };
        sketch.op(product, &[a, b])
    }

    #[test]
    fn biases_and_what_goes_around_a_layer_are_taken_in() {
        for ty in ["f32", "bf16", "f16"] {
            for added in ["[5]", "[2][3][5]", "[1][1][5]", ""] {
                let inputs = ["[2][3][8]", "[8][5]", added].map(|dims| format!("{ty}{dims}"));
                for turned in [false, true] {
                    let mut sketch = Sketch::new(&inputs.each_ref().map(String::as_str));
                    let product = dot(&mut sketch, 0, 1);
                    let inputs = if turned { [2, product] } else { [product, 2] };
                    let result = sketch.op(Op::Add, &inputs);
                    let left = sketch.fused(Pass::DotAdd, result);
                    assert_eq!(left, ["dot_add"], "{ty} {added}");
                }
            }
        }
    }

    #[test]
    fn the_first_sum_takes_the_product() {
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[8][5]", "f32[5]", "f32[3][5]"]);
        let product = dot(&mut sketch, 0, 1);
        let sum = sketch.op(Op::Add, &[product, 2]);
        let result = sketch.op(Op::Add, &[sum, 3]);
        assert_eq!(sketch.fused(Pass::DotAdd, result), ["dot_add", "add"]);
    }

    #[test]
    fn almost_a_sum_is_none() {
        for (inputs, what) in [
            (["f32[3][8]", "f32[8][5]", "f32[2][3][5]"], "a larger sum"),
            (["bf16[3][8]", "bf16[8][5]", "f32[5]"], "another type"),
            (["f64[3][8]", "f64[8][5]", "f64[5]"], "no kernel's type"),
            (["s32[3][8]", "s32[8][5]", "s32[5]"], "integers"),
        ] {
            let mut sketch = Sketch::new(&inputs);
            let product = dot(&mut sketch, 0, 1);
            let result = sketch.op(Op::Add, &[product, 2]);
            assert_eq!(sketch.left(Pass::DotAdd, result), ["dot", "add"], "{what}");
        }
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[8][5]", "f32[5]"]);
        let product = dot(&mut sketch, 0, 1);
        let sum = sketch.op(Op::Add, &[product, 2]);
        let result = sketch.op(Op::Multiply, &[sum, product]);
        let left = sketch.left(Pass::DotAdd, result);
        assert_eq!(left, ["dot", "add", "multiply"]);
    }
}
