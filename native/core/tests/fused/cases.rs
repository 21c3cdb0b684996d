//! An operation with inputs and what it should give, whatever the inputs' layout.

use emily_core::{ActivationFunction, Device, Op, Stream, Tensor, Type};

use crate::{
    numbers::{Numbers, apply, assert_near, unit},
    oracle,
};

pub struct Case {
    pub op: Op,
    pub ty: Type,
    pub inputs: Vec<Numbers>,
    pub expected: Numbers,
    /// Beside one unit of the type.
    pub tolerance: (f64, f64),
}

/// How an input lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    Plain,
    Sliced,
    Transposed,
}

pub const LAYOUTS: [Layout; 3] = [Layout::Plain, Layout::Sliced, Layout::Transposed];

impl Layout {
    pub fn tensor(self, stream: &Stream, ty: Type, x: &Numbers) -> Tensor {
        match self {
            _ if x.dims.is_empty() => x.tensor(stream, ty),
            Self::Plain => x.tensor(stream, ty),
            Self::Sliced => x.sliced(stream, ty),
            Self::Transposed => x.transposed(stream, ty),
        }
    }
}

impl Case {
    /// That the operation gives what it should on inputs of the layout, and leaves them as they are.
    pub fn check(&self, stream: &Stream, layout: Layout) {
        let inputs = self.tensors(stream, layout);
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let got = Numbers::read(&apply(stream, &self.op, &inputs));
        let what = format!(
            "{:?} of {:?} {:?} on {stream}",
            self.op,
            self.shapes(),
            layout
        );
        let (relative, absolute) = self.tolerance;
        // MLX's kernels for GPUs round in between.
        let near = match stream.device() {
            Device::Cpu => (relative, absolute),
            Device::Gpu => (
                relative + 2.0 * unit(self.ty),
                absolute + 4.0 * unit(self.ty),
            ),
        };
        assert_near(&what, self.ty, &got, &self.expected, near);
        for (tensor, input) in inputs.iter().zip(&self.inputs) {
            let after = Numbers::read(tensor);
            assert!(same(&after, input), "{what} changed its input");
        }
    }

    pub fn tensors(&self, stream: &Stream, layout: Layout) -> Vec<Tensor> {
        let inputs = self.inputs.iter();
        inputs
            .map(|input| layout.tensor(stream, self.ty, input))
            .collect()
    }

    fn shapes(&self) -> Vec<&[usize]> {
        self.inputs.iter().map(|input| &input.dims[..]).collect()
    }
}

fn same(a: &Numbers, b: &Numbers) -> bool {
    let mut pairs = a.values.iter().zip(&b.values);
    a.dims == b.dims && pairs.all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

pub const FUNCTIONS: [ActivationFunction; 3] = [
    ActivationFunction::Silu,
    ActivationFunction::Gelu,
    ActivationFunction::GeluTanh,
];

/// Sums in f32 have an error that grows with what is summed, not with the sum.
const OF_SUMS: f64 = 4e-6;

pub fn layer_norm(ty: Type, x: Numbers) -> Case {
    let width = [x.width()];
    let gamma = Numbers::drawn(11, ty, &width, 2.0);
    let beta = Numbers::drawn(12, ty, &width, 2.0);
    Case {
        op: Op::LayerNorm { epsilon: 1e-5 },
        ty,
        expected: oracle::layer_norm(&x, &gamma, &beta, 1e-5),
        inputs: vec![x, gamma, beta],
        tolerance: (OF_SUMS, OF_SUMS),
    }
}

/// With a gamma of the last `axes` axes, if that is not 0.
pub fn rms_norm(ty: Type, x: Numbers, axes: usize) -> Case {
    let gamma = (axes > 0).then(|| {
        let sizes = x.dims[x.dims.len() - axes..].to_vec();
        Numbers::drawn(13, ty, &sizes, 2.0)
    });
    Case {
        op: Op::RmsNorm { epsilon: 1e-6 },
        ty,
        expected: oracle::rms_norm(&x, gamma.as_ref(), 1e-6),
        inputs: [x].into_iter().chain(gamma).collect(),
        tolerance: (OF_SUMS, 0.0),
    }
}

pub fn softmax(ty: Type, x: Numbers) -> Case {
    Case {
        op: Op::Softmax,
        ty,
        expected: oracle::softmax(&x),
        inputs: vec![x],
        tolerance: (OF_SUMS, 1e-7),
    }
}

/// With tables of the sizes `table`.
pub fn rotary(ty: Type, x: Numbers, table: &[usize]) -> Case {
    let cosines = Numbers::drawn(14, ty, table, 1.0);
    let sines = Numbers::drawn(15, ty, table, 1.0);
    Case {
        op: Op::RotaryEmbedding,
        ty,
        expected: oracle::rotary(&x, &cosines, &sines),
        inputs: vec![x, cosines, sines],
        tolerance: (0.0, 1e-6),
    }
}

/// As [`rotary`], of normalized rows, which are rounded before they are turned.
pub fn normal_rotary(ty: Type, x: Numbers, table: &[usize]) -> Case {
    let plain = rotary(ty, x, table);
    let [x, cosines, sines] = plain.inputs.try_into().unwrap_or_else(|_| unreachable!());
    let gamma = Numbers::drawn(17, ty, &[x.width()], 2.0);
    let normal = oracle::rms_norm(&x, Some(&gamma), 1e-6);
    let unit = match ty {
        Type::Bf16 => 2.0_f64.powi(-8),
        Type::F16 => 2.0_f64.powi(-11),
        _ => 2.0_f64.powi(-24),
    };
    let largest = normal
        .values
        .iter()
        .fold(0.0, |most: f64, x| most.max(x.abs()));
    Case {
        op: Op::RmsNormRotaryEmbedding { epsilon: 1e-6 },
        ty,
        expected: oracle::rotary(&normal, &cosines, &sines),
        inputs: vec![x, gamma, cosines, sines],
        tolerance: (OF_SUMS, 1e-6 + 4.0 * unit * largest),
    }
}

pub fn activation(ty: Type, function: ActivationFunction, x: Numbers, gated: bool) -> Case {
    let factor = gated.then(|| Numbers::drawn(16, ty, &x.dims, 3.0));
    Case {
        op: Op::Activation { function },
        ty,
        expected: oracle::activation(function, &x, factor.as_ref()),
        inputs: [x].into_iter().chain(factor).collect(),
        tolerance: (2e-6, 1e-7),
    }
}
