//! The same of plain operations, as programs have it before passes look at them.

use emily_core::{ActivationFunction, Number, Op, Shape, Stream, Tensor, TensorType, Type};

use crate::numbers::apply;

/// Makes operations on tensors of one type.
pub struct Plain<'a> {
    pub stream: &'a Stream,
    pub ty: Type,
}

impl Plain<'_> {
    pub fn of(&self, op: &Op, inputs: &[&Tensor]) -> Tensor {
        apply(self.stream, op, inputs)
    }

    fn number(&self, value: f64) -> Tensor {
        let shape = Shape::new(&[]).unwrap();
        let out = TensorType { ty: self.ty, shape };
        let value = Number::Float(value);
        Tensor::apply(self.stream, &Op::Constant { value }, Some(&out), &[]).unwrap()
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        self.of(&Op::Add, &[x, y])
    }

    fn multiply(&self, x: &Tensor, y: &Tensor) -> Tensor {
        self.of(&Op::Multiply, &[x, y])
    }

    fn scaled(&self, x: &Tensor, by: f64) -> Tensor {
        self.multiply(x, &self.number(by))
    }

    fn last(x: &Tensor) -> usize {
        x.tensor_type().shape.rank() - 1
    }

    fn sum(&self, x: &Tensor) -> Tensor {
        let axes = Some(vec![Self::last(x)]);
        self.of(
            &Op::Sum {
                axes,
                keep_axes: true,
            },
            &[x],
        )
    }

    fn mean(&self, x: &Tensor) -> Tensor {
        let count = f64::from(x.tensor_type().shape.dims()[Self::last(x)]);
        self.of(&Op::Divide, &[&self.sum(x), &self.number(count)])
    }

    pub fn layer_norm(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
        let off = self.of(&Op::Subtract, &[x, &self.mean(x)]);
        let variance = self.mean(&self.multiply(&off, &off));
        let scale = self.of(&Op::Rsqrt, &[&self.add(&variance, &self.number(1e-5))]);
        let normal = self.multiply(&off, &self.multiply(&scale, gamma));
        self.add(&normal, beta)
    }

    pub fn rms_norm(&self, x: &Tensor, gamma: &Tensor) -> Tensor {
        let mean = self.mean(&self.multiply(x, x));
        let scale = self.of(&Op::Rsqrt, &[&self.add(&mean, &self.number(1e-6))]);
        self.multiply(&self.multiply(x, &scale), gamma)
    }

    pub fn softmax(&self, x: &Tensor) -> Tensor {
        let axes = Some(vec![Self::last(x)]);
        let most = self.of(
            &Op::ReduceMax {
                axes,
                keep_axes: true,
            },
            &[x],
        );
        let powers = self.of(&Op::Exp, &[&self.of(&Op::Subtract, &[x, &most])]);
        self.of(&Op::Divide, &[&powers, &self.sum(&powers)])
    }

    pub fn activation(&self, function: ActivationFunction, x: &Tensor) -> Tensor {
        match function {
            ActivationFunction::Silu => self.multiply(x, &self.of(&Op::Sigmoid, &[x])),
            ActivationFunction::Gelu => {
                let erf = self.of(
                    &Op::Erf,
                    &[&self.scaled(x, std::f64::consts::FRAC_1_SQRT_2)],
                );
                self.multiply(&self.scaled(x, 0.5), &self.add(&erf, &self.number(1.0)))
            }
            ActivationFunction::GeluTanh => {
                let cube = self.multiply(&self.multiply(x, x), x);
                let inner = self.add(x, &self.scaled(&cube, 0.044_715));
                let tanh = self.of(&Op::Tanh, &[&self.scaled(&inner, 0.797_884_560_8)]);
                self.multiply(&self.scaled(x, 0.5), &self.add(&tanh, &self.number(1.0)))
            }
        }
    }

    fn half(&self, x: &Tensor, second: bool) -> Tensor {
        let shape = x.tensor_type().shape;
        let mut lengths: Vec<usize> = shape.dims().iter().map(|&size| size as usize).collect();
        let mut starts = vec![0; lengths.len()];
        let (length, start) = (lengths.last_mut().unwrap(), starts.last_mut().unwrap());
        *length /= 2;
        *start = if second { *length } else { 0 };
        let strides = vec![1; lengths.len()];
        self.of(
            &Op::Slice {
                starts,
                lengths,
                strides,
            },
            &[x],
        )
    }

    pub fn rotary(&self, x: &Tensor, cosines: &Tensor, sines: &Tensor) -> Tensor {
        let second = self.of(&Op::Negate, &[&self.half(x, true)]);
        let axis = Self::last(x);
        let turned = self.of(&Op::Concatenate { axis }, &[&second, &self.half(x, false)]);
        self.add(&self.multiply(x, cosines), &self.multiply(&turned, sines))
    }

    /// With as many heads of the key and the value as of the query.
    pub fn attention(&self, [query, key, value]: [&Tensor; 3], scale: f64) -> Tensor {
        let dot = |contract: [usize; 2]| Op::Dot {
            contract_a: vec![contract[0]],
            batch_a: vec![0, 1],
            contract_b: vec![contract[1]],
            batch_b: vec![0, 1],
        };
        let scores = self.scaled(&self.of(&dot([3, 3]), &[query, key]), scale);
        self.of(&dot([3, 2]), &[&self.softmax(&scores), value])
    }
}
