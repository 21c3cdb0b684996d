use crate::{
    Op,
    program::passes::{Pass, patterns::sketch::Sketch},
};

/// How a program of attention is written.
#[derive(Clone, Copy)]
struct Style {
    /// Heads come before positions in what is given.
    heads_first: bool,
    scaled: Scaled,
    mask: Mask,
    /// How many of the query's heads look at each of the key's, by repeating those.
    groups: i32,
    /// The softmax is one operation already.
    softmax: bool,
    /// The softmax is of f32 whatever the rest is of.
    wide: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Scaled {
    Not,
    Scores,
    Divided,
    Query,
}

#[derive(Clone, Copy, PartialEq)]
enum Mask {
    None,
    Added,
    Twice,
    Kept(f64),
    Hidden(f64),
}

const STYLE: Style = Style {
    heads_first: true,
    scaled: Scaled::Scores,
    mask: Mask::None,
    groups: 1,
    softmax: false,
    wide: false,
};

const POSITIONS: [i32; 2] = [5, 7];
const HEADS: i32 = 4;

/// Query, key, value, a mask of the type, one of booleans, and a bias of heads.
fn sketch(ty: &str, style: Style) -> Sketch {
    let side = |positions: i32, heads: i32| {
        if style.heads_first {
            format!("{ty}[2][{heads}][{positions}][8]")
        } else {
            format!("{ty}[2][{positions}][{heads}][8]")
        }
    };
    let [query, key] = POSITIONS;
    let keys = side(key, HEADS / style.groups);
    let inputs = [
        side(query, HEADS),
        keys.clone(),
        keys,
        format!("{ty}[2][1][1][{key}]"),
        format!("u8[1][1][{query}][{key}]"),
        format!("{ty}[1][{HEADS}][{query}][{key}]"),
    ];
    Sketch::new(&inputs.each_ref().map(String::as_str))
}

fn dims(sketch: &Sketch, x: usize, dims: &[i32]) -> String {
    let dims: String = dims.iter().map(|dim| format!("[{dim}]")).collect();
    format!("{}{dims}", sketch.ty(x))
}

/// Each head several times, as by `Nx.new_axis`, `Nx.tile` and `Nx.flatten`.
fn repeated(sketch: &mut Sketch, x: usize, style: Style) -> usize {
    if style.groups == 1 {
        return x;
    }
    let axis = if style.heads_first { 1 } else { 2 };
    let mut wide = sketch.dims(x);
    wide.insert(axis + 1, 1);
    let narrow = dims(sketch, x, &wide);
    let new = sketch.to(Op::Reshape, &narrow, &[x]);
    wide[axis + 1] = style.groups;
    let all = dims(sketch, x, &wide);
    let axes = (0..5).collect();
    let tiled = sketch.to(Op::Broadcast { axes }, &all, &[new]);
    wide.remove(axis + 1);
    wide[axis] *= style.groups;
    let flat = dims(sketch, x, &wide);
    sketch.to(Op::Reshape, &flat, &[tiled])
}

fn heads_first(sketch: &mut Sketch, x: usize, style: Style) -> usize {
    if style.heads_first {
        return x;
    }
    let axes = vec![0, 2, 1, 3];
    sketch.op(Op::Transpose { axes }, &[x])
}

fn dot(contract_a: usize, contract_b: usize) -> Op {
    Op::Dot {
        contract_a: vec![contract_a],
        batch_a: vec![0, 1],
        contract_b: vec![contract_b],
        batch_b: vec![0, 1],
    }
}

fn softmax(sketch: &mut Sketch, x: usize) -> usize {
    let axis = sketch.dims(x).len() - 1;
    let max = sketch.max(x, axis);
    let shifted = sketch.op(Op::Subtract, &[x, max]);
    let exp = sketch.op(Op::Exp, &[shifted]);
    let sum = sketch.sum(exp, axis);
    sketch.op(Op::Divide, &[exp, sum])
}

fn masked(sketch: &mut Sketch, scores: usize, mask: Mask) -> usize {
    match mask {
        Mask::None => scores,
        Mask::Added => sketch.op(Op::Add, &[scores, 3]),
        Mask::Twice => {
            let biased = sketch.op(Op::Add, &[5, scores]);
            sketch.op(Op::Add, &[biased, 3])
        }
        Mask::Kept(number) => {
            let number = sketch.number(number, scores);
            let out = dims(sketch, scores, &sketch.dims(scores));
            sketch.to(Op::Select, &out, &[4, scores, number])
        }
        Mask::Hidden(number) => {
            let number = sketch.number(number, scores);
            let out = dims(sketch, scores, &sketch.dims(scores));
            sketch.to(Op::Select, &out, &[4, number, scores])
        }
    }
}

/// The weights and the values.
fn weights(sketch: &mut Sketch, style: Style) -> [usize; 2] {
    let [key, value] = [1, 2].map(|x| repeated(sketch, x, style));
    let [mut query, key, value] = [0, key, value].map(|x| heads_first(sketch, x, style));
    if style.scaled == Scaled::Query {
        let scale = sketch.number(0.25, 0);
        query = sketch.op(Op::Multiply, &[scale, query]);
    }
    let mut scores = sketch.op(dot(3, 3), &[query, key]);
    scores = match style.scaled {
        Scaled::Scores => {
            let scale = sketch.number(0.25, 0);
            sketch.op(Op::Multiply, &[scale, scores])
        }
        Scaled::Divided => {
            let by = sketch.number(4.0, 0);
            sketch.op(Op::Divide, &[scores, by])
        }
        _ => scores,
    };
    if style.wide {
        scores = sketch.as_type(scores, "f32");
    }
    scores = masked(sketch, scores, style.mask);
    let mut weights = match style.softmax {
        true => sketch.op(Op::Softmax, &[scores]),
        false => softmax(sketch, scores),
    };
    if style.wide {
        let ty = sketch.ty(0).to_string();
        weights = sketch.as_type(weights, &ty);
    }
    [weights, value]
}

fn attention(sketch: &mut Sketch, style: Style) -> usize {
    let [weights, value] = weights(sketch, style);
    let result = sketch.op(dot(3, 2), &[weights, value]);
    heads_first(sketch, result, style)
}

fn left(ty: &str, style: Style) -> Vec<String> {
    let mut sketch = sketch(ty, style);
    let result = attention(&mut sketch, style);
    let left = sketch.fused(Pass::Attention, result);
    left.into_iter()
        .filter(|name| name != "transpose")
        .collect()
}

#[test]
fn is_found_however_it_is_scaled() {
    for ty in ["f32", "bf16", "f16"] {
        for scaled in [Scaled::Not, Scaled::Scores, Scaled::Divided, Scaled::Query] {
            for heads_first in [true, false] {
                let style = Style {
                    scaled,
                    heads_first,
                    ..STYLE
                };
                assert_eq!(left(ty, style), ["attention"], "{ty}");
            }
        }
    }
}

#[test]
fn is_found_however_it_is_masked() {
    let select: &[&str] = &["constant", "constant", "select", "attention"];
    for (mask, expected) in [
        (Mask::Added, &["attention"][..]),
        (Mask::Twice, &["add", "attention"]),
        (Mask::Kept(-1e30), select),
        (Mask::Hidden(-1e9), select),
        (Mask::Kept(f64::from(f32::MIN)), select),
    ] {
        let style = Style { mask, ..STYLE };
        assert_eq!(left("f32", style), expected);
        let softmax = true;
        assert_eq!(left("f32", Style { softmax, ..style }), expected);
    }
    for mask in [Mask::Kept(-1e30), Mask::Added] {
        assert!(left("bf16", Style { mask, ..STYLE }).contains(&"attention".into()));
    }
}

#[test]
fn casts_around_the_softmax_go() {
    for ty in ["bf16", "f16"] {
        for softmax in [true, false] {
            let style = Style {
                wide: true,
                softmax,
                ..STYLE
            };
            assert_eq!(left(ty, style), ["attention"]);
        }
        // The mask is made narrower, and stays finite.
        let style = Style {
            wide: true,
            mask: Mask::Kept(f64::from(f32::MIN)),
            ..STYLE
        };
        assert!(left(ty, style).contains(&"attention".into()));
    }
}

/// As a number of f32 in place of scores makes of all that comes after them.
#[test]
fn a_mask_may_make_the_rest_wider() {
    let side = "bf16[2][4][5][8]";
    let mut sketch = Sketch::new(&[side, side, side, "f32[5][5]"]);
    let scores = sketch.op(dot(3, 3), &[0, 1]);
    let scores = sketch.op(Op::Add, &[scores, 3]);
    let weights = softmax(&mut sketch, scores);
    let result = sketch.op(dot(3, 2), &[weights, 2]);
    let left = sketch.fused(Pass::Attention, result);
    assert_eq!(left, ["as_type", "as_type", "as_type", "attention"]);
}

#[test]
fn repeated_heads_are_not_repeated() {
    for heads_first in [true, false] {
        for groups in [2, 4] {
            let style = Style {
                heads_first,
                groups,
                ..STYLE
            };
            assert_eq!(left("f32", style), ["attention"], "{heads_first} {groups}");
        }
    }
}

/// The batch axes of a product need not be the first ones.
#[test]
fn is_found_without_transposes() {
    let mut sketch = Sketch::new(&["f32[2][5][4][8]", "f32[2][7][4][8]", "f32[2][7][4][8]"]);
    let scores = Op::Dot {
        contract_a: vec![3],
        batch_a: vec![0, 2],
        contract_b: vec![3],
        batch_b: vec![0, 2],
    };
    let scores = sketch.op(scores, &[0, 1]);
    let weights = softmax(&mut sketch, scores);
    let outer = Op::Dot {
        contract_a: vec![3],
        batch_a: vec![0, 1],
        contract_b: vec![1],
        batch_b: vec![0, 2],
    };
    let result = sketch.op(outer, &[weights, 2]);
    let left = sketch.fused(Pass::Attention, result);
    assert_eq!(left[3..], ["attention"]);
}

/// Of one head, or of one sequence; and with the values first.
#[test]
fn is_found_with_fewer_axes() {
    for batch in 0..2 {
        for values_first in [false, true] {
            let inputs = ["[5][8]", "[7][8]", "[7][6]"].map(|dims| match batch {
                0 => format!("f32{dims}"),
                _ => format!("f32[2]{dims}"),
            });
            let mut sketch = Sketch::new(&inputs.each_ref().map(String::as_str));
            let axes: Vec<_> = (0..batch).collect();
            let dot = |a: usize, b: usize| Op::Dot {
                contract_a: vec![batch + a],
                batch_a: axes.clone(),
                contract_b: vec![batch + b],
                batch_b: axes.clone(),
            };
            let scores = sketch.op(dot(1, 1), &[0, 1]);
            let weights = softmax(&mut sketch, scores);
            let result = match values_first {
                true => sketch.op(dot(0, 1), &[2, weights]),
                false => sketch.op(dot(1, 0), &[weights, 2]),
            };
            let left = sketch.fused(Pass::Attention, result);
            assert!(left.contains(&"attention".into()), "{left:?}");
            assert!(!left.contains(&"exp".into()), "{left:?}");
        }
    }
}

#[test]
fn weights_that_are_needed_stay() {
    let mut sketch = sketch("f32", STYLE);
    let [weights, value] = weights(&mut sketch, STYLE);
    let result = sketch.op(dot(3, 2), &[weights, value]);
    let program = sketch.program(&[result, weights]);
    let passes = [Pass::Attention, Pass::Softmax];
    let (_, found) = program.optimized(&passes).unwrap();
    assert_eq!(found, [(Pass::Attention, 0), (Pass::Softmax, 1)]);
}

/// A query that is needed as it is scaled is scaled once.
#[test]
fn a_scaled_query_may_be_needed() {
    let style = Style {
        scaled: Scaled::Query,
        ..STYLE
    };
    let mut sketch = sketch("f32", style);
    let result = attention(&mut sketch, style);
    // The number of the scale comes first.
    let scaled = 7;
    let program = sketch.program(&[result, scaled]);
    let (fused, _) = program.clone().optimized(&[Pass::Attention]).unwrap();
    crate::program::passes::patterns::sketch::agree(&program, &fused);
    let names = crate::program::passes::patterns::sketch::names(&fused);
    assert_eq!(names, ["constant", "multiply", "attention"]);
}

#[test]
fn almost_attention_is_none() {
    let none = |sketch: Sketch, result: usize| {
        let left = sketch.left(Pass::Attention, result);
        assert!(!left.contains(&"attention".into()), "{left:?}");
    };
    // The mask is scaled, too.
    let mut masked_first = sketch("f32", STYLE);
    let scores = masked_first.op(dot(3, 3), &[0, 1]);
    let scores = masked_first.op(Op::Add, &[scores, 3]);
    let scale = masked_first.number(0.25, 0);
    let scores = masked_first.op(Op::Multiply, &[scores, scale]);
    let weights_ = softmax(&mut masked_first, scores);
    let result = masked_first.op(dot(3, 2), &[weights_, 2]);
    none(masked_first, result);

    // What is not looked at still has some weight.
    let style = Style {
        mask: Mask::Kept(-2.0),
        ..STYLE
    };
    let mut weak = sketch("f32", style);
    let result = attention(&mut weak, style);
    none(weak, result);

    // The weights are scaled by head, or the softmax is along the queries.
    let mut scaled = Sketch::new(&[
        "f32[2][4][5][8]",
        "f32[2][4][5][8]",
        "f32[2][4][5][8]",
        "f32[1][4][1][1]",
    ]);
    let scores = scaled.op(dot(3, 3), &[0, 1]);
    let weights_ = softmax(&mut scaled, scores);
    let weights_ = scaled.op(Op::Multiply, &[weights_, 3]);
    let result = scaled.op(dot(3, 2), &[weights_, 2]);
    none(scaled, result);

    let mut turned = Sketch::new(&["f32[2][4][5][8]", "f32[2][4][5][8]", "f32[2][4][5][8]"]);
    let scores = turned.op(dot(3, 3), &[0, 1]);
    let weights_ = softmax(&mut turned, scores);
    let result = turned.op(dot(2, 2), &[weights_, 2]);
    none(turned, result);

    for ty in ["f64", "c64"] {
        let mut wide = Sketch::new(&[&format!("{ty}[2][4][5][8]")]);
        let scores = wide.op(dot(3, 3), &[0, 0]);
        let exp = wide.op(Op::Exp, &[scores]);
        let sum = wide.sum(exp, 3);
        let weights_ = wide.op(Op::Divide, &[exp, sum]);
        let result = wide.op(dot(3, 2), &[weights_, 0]);
        none(wide, result);
    }
}
