//! How long each operation takes next to the same of plain ones, in one run, at sizes of real models:
//! BERT-base, a small transformer, one token of a decoder. Nothing is asserted: it is a table to look at.
//!
//! `cargo test --release -p emily-core --test fused speed -- --ignored --nocapture`

use std::time::{Duration, Instant};

use emily_core::{ActivationFunction, Device, Op, Stream, Tensor, Type, install_error_handler};

use crate::{
    composed::Plain,
    numbers::{Numbers, apply},
    on,
};

/// The least time of many, in which what else the machine does hardly shows.
fn least(run: impl Fn() -> Tensor) -> Duration {
    let times = (0..40).map(|_| {
        let start = Instant::now();
        run().eval().unwrap();
        start.elapsed()
    });
    times.min().unwrap()
}

fn compare(what: &str, ty: Type, fused: impl Fn() -> Tensor, plain: impl Fn() -> Tensor) {
    let (fused, plain) = (
        least(fused).as_secs_f64() * 1e6,
        least(plain).as_secs_f64() * 1e6,
    );
    let ratio = plain / fused;
    println!("{what:<32} {ty:?}: {fused:>8.1} µs, plain {plain:>8.1} µs, {ratio:>5.1} times");
}

/// A stream with a type, and tensors of drawn numbers.
struct Bench<'a> {
    stream: &'a Stream,
    ty: Type,
}

impl Bench<'_> {
    fn drawn(&self, dims: &[usize]) -> Tensor {
        Numbers::drawn(1, self.ty, dims, 2.0).tensor(self.stream, self.ty)
    }

    fn run(&self, what: &str, op: &Op, inputs: &[&Tensor], plain: impl Fn(&Plain<'_>) -> Tensor) {
        let (stream, ty) = (self.stream, self.ty);
        let fused = || apply(stream, op, inputs);
        compare(what, ty, fused, || plain(&Plain { stream, ty }));
    }

    fn norms(&self, dims: &[usize]) {
        let x = self.drawn(dims);
        let gamma = self.drawn(&dims[dims.len() - 1..]);
        let layer = Op::LayerNorm { epsilon: 1e-5 };
        self.run(
            &format!("layer norm {dims:?}"),
            &layer,
            &[&x, &gamma, &gamma],
            |plain| plain.layer_norm(&x, &gamma, &gamma),
        );
        let rms = Op::RmsNorm { epsilon: 1e-6 };
        self.run(
            &format!("RMS norm {dims:?}"),
            &rms,
            &[&x, &gamma],
            |plain| plain.rms_norm(&x, &gamma),
        );
    }

    fn softmax(&self, dims: &[usize]) {
        let x = self.drawn(dims);
        self.run(&format!("softmax {dims:?}"), &Op::Softmax, &[&x], |plain| {
            plain.softmax(&x)
        });
    }

    fn activations(&self, dims: &[usize]) {
        let (x, y) = (self.drawn(dims), self.drawn(dims));
        for function in [
            ActivationFunction::Silu,
            ActivationFunction::Gelu,
            ActivationFunction::GeluTanh,
        ] {
            let op = Op::Activation { function };
            self.run(&format!("{function:?} {dims:?}"), &op, &[&x], |plain| {
                plain.activation(function, &x)
            });
            self.run(
                &format!("gated {function:?} {dims:?}"),
                &op,
                &[&x, &y],
                |plain| plain.of(&Op::Multiply, &[&plain.activation(function, &x), &y]),
            );
        }
    }

    fn rotary(&self, dims: &[usize]) {
        let (x, table) = (self.drawn(dims), self.drawn(&dims[dims.len() - 1..]));
        let inputs = [&x, &table, &table];
        self.run(
            &format!("rotary {dims:?}"),
            &Op::RotaryEmbedding,
            &inputs,
            |plain| plain.rotary(&x, &table, &table),
        );
    }

    fn attention(&self, [heads, positions, seen, features]: [usize; 4]) {
        let query = self.drawn(&[1, heads, positions, features]);
        let key = self.drawn(&[1, heads, seen, features]);
        let what = format!("attention {heads}: {positions}, {seen}, {features}");
        let op = Op::Attention {
            scale: 0.125,
            sinks: false,
        };
        self.run(&what, &op, &[&query, &key, &key], |plain| {
            plain.attention([&query, &key, &key], 0.125)
        });
    }

    /// Next to the same product of f32, which is MLX's own with BLAS where there are more than a few rows.
    fn product(&self, rows: usize, depth: usize, columns: usize, transposed: bool) {
        let dims = if transposed {
            [columns, depth]
        } else {
            [depth, columns]
        };
        let dot = Op::Dot {
            contract_a: vec![1],
            batch_a: vec![],
            contract_b: vec![usize::from(transposed)],
            batch_b: vec![],
        };
        let (a, b) = (self.drawn(&[rows, depth]), self.drawn(&dims));
        let of = |ty| {
            let wide = |dims| Numbers::drawn(1, ty, dims, 2.0).tensor(self.stream, ty);
            (wide(&[rows, depth]), wide(&dims))
        };
        let (wide_a, wide_b) = of(Type::F32);
        let turned = if transposed { ", transposed" } else { "" };
        self.run(
            &format!("product {rows} {depth} {columns}{turned}"),
            &dot,
            &[&a, &b],
            |plain| plain.of(&dot, &[&wide_a, &wide_b]),
        );
    }
}

#[test]
#[ignore = "a table to look at"]
fn speed() {
    install_error_handler();
    for device in Device::available() {
        on(&Stream::new(device).unwrap(), |stream| {
            println!("on {stream}");
            for ty in [Type::F32, Type::Bf16] {
                let bench = Bench { stream, ty };
                bench.norms(&[128, 768]);
                bench.norms(&[16, 256]);
                bench.norms(&[1, 1024]);
                bench.softmax(&[12, 128, 128]);
                bench.activations(&[128, 3072]);
                bench.activations(&[1, 3072]);
                bench.rotary(&[1, 16, 1, 128]);
                bench.attention([12, 128, 128, 64]);
                bench.attention([4, 16, 16, 64]);
                bench.attention([16, 1, 256, 128]);
                for transposed in [false, true] {
                    bench.product(1, 1024, 3072, transposed);
                    bench.product(4, 1024, 3072, transposed);
                    bench.product(8, 1024, 3072, transposed);
                    bench.product(16, 1024, 3072, transposed);
                    bench.product(128, 1024, 3072, transposed);
                }
            }
        });
    }
}
