//! Reductions with a function of the caller's.
//!
//! Nx asks that the function is associative and lets it be called in any order, so the elements are
//! combined in pairs, all pairs at once: the graph grows with the logarithm of their number. The
//! order of the elements is kept; each call gets the later ones first, as `Nx.BinaryBackend` passes
//! the element before the accumulator.
//!
//! A function such as a sum of squares is not associative, but becomes so once each element is
//! squared; see [`Program::accumulation`]. Of windows Nx asks nothing, so other functions go through
//! those of common sizes one element after another.

use std::{borrow::Cow, cell::RefCell};

use super::{axes, cast::cast, windows::Windows};
use crate::{Array, Error, Op, Program, Result, Stream, TensorType, check::Checks, mlx::Mlx};

/// The most elements of a window that are taken one after another.
const IN_ORDER: i32 = 256;

/// `inputs` are the tensor, the accumulator, and whatever else the function uses.
pub(super) fn reduce(
    program: &Program,
    axes: Option<&[usize]>,
    inputs: &[&Array],
    stream: &Stream,
    out: &TensorType,
    checks: &mut Checks,
) -> Result<Array> {
    let fold = Fold::new(program, inputs, stream, out, checks)?;
    let x = inputs[0];
    let rank = x.shape().rank();
    let reduced = axes.map_or_else(|| (0..rank).collect(), <[usize]>::to_vec);
    axes::checked(&reduced, rank)?;
    let kept = axes::remaining(rank, [&reduced, &[]]);
    let result = fold.rows(&fold.flattened(x, &reduced, &kept)?)?;
    fold.finished(&result)
}

/// Each window of the tensor, with the accumulator around it.
pub(super) fn window_reduce(
    op: &Op,
    program: &Program,
    inputs: &[&Array],
    stream: &Stream,
    out: &TensorType,
    checks: &mut Checks,
) -> Result<Array> {
    let fold = Fold::new(program, inputs, stream, out, checks)?;
    let windows = Windows::of(op, &inputs[0].shape())?;
    windows.check_memory(out.ty)?;
    let x = cast(fold.mlx(), inputs[0], out.ty)?;
    let view = windows.view(fold.mlx(), &windows.pad(fold.mlx(), &x, &fold.acc)?)?;
    let (rank, all) = (x.shape().rank(), view.shape().rank());
    let (kept, reduced): (Vec<_>, Vec<_>) = (0..all).partition(|&axis| axis < rank);
    let rows = fold.flattened(&view, &reduced, &kept)?;
    let result = if !fold.associative && rows.shape().dims()[0] <= IN_ORDER {
        fold.in_order(&rows)?
    } else {
        fold.rows(&rows)?
    };
    fold.finished(&result)
}

struct Fold<'a> {
    /// What becomes of each element first.
    each: Option<Program>,
    program: Cow<'a, Program>,
    /// Whether the program is known to be so.
    associative: bool,
    acc: Array,
    captured: &'a [&'a Array],
    stream: &'a Stream,
    out: &'a TensorType,
    checks: RefCell<&'a mut Checks>,
}

impl<'a> Fold<'a> {
    fn new(
        program: &'a Program,
        inputs: &'a [&'a Array],
        stream: &'a Stream,
        out: &'a TensorType,
        checks: &'a mut Checks,
    ) -> Result<Self> {
        let scalars = inputs[1..].iter().all(|input| input.shape().rank() == 0);
        if inputs.len() < 2 || !scalars {
            return Err(Error::argument(
                "expected a tensor, an accumulator, and what the function uses, all but the first scalars",
            ));
        }
        program.check_elementwise(inputs.len())?;
        let (each, program, associative) = match program.accumulation() {
            Some(parts) => (parts.each, Cow::Owned(parts.join), true),
            None => (None, Cow::Borrowed(program), false),
        };
        Ok(Self {
            each,
            program,
            associative,
            acc: cast(stream.mlx(), inputs[1], out.ty)?,
            captured: &inputs[2..],
            stream,
            out,
            checks: RefCell::new(checks),
        })
    }

    fn mlx(&self) -> Mlx {
        self.stream.mlx()
    }

    /// The reduced axes as the first one, the others as the second, of what becomes of each element.
    fn flattened(&self, x: &Array, reduced: &[usize], kept: &[usize]) -> Result<Array> {
        let shape = x.shape();
        let size = |axes: &[usize]| -> i64 {
            let sizes = axes.iter().map(|&axis| i64::from(shape.dims()[axis]));
            sizes.product()
        };
        let dims = crate::Shape::new(&[size(reduced), size(kept)])?;
        let order: Vec<i32> = reduced
            .iter()
            .chain(kept)
            .map(|&axis| axis as i32)
            .collect();
        let x = self
            .mlx()
            .transpose(&cast(self.mlx(), x, self.out.ty)?, &order)?;
        let x = self.mlx().reshape(&x, dims.dims())?;
        match &self.each {
            Some(each) => self.run(each, &x, &self.acc),
            None => Ok(x),
        }
    }

    /// All rows as one, the accumulator with the first, then with the second, and so on.
    fn in_order(&self, x: &Array) -> Result<Array> {
        let shape = x.shape();
        let (count, width) = (shape.dims()[0], shape.dims()[1]);
        let mut acc = self.mlx().broadcast_to(&self.acc, &[1, width])?;
        for row in 0..count {
            let element = self.mlx().slice(x, &[row, 0], &[row + 1, width], &[1, 1])?;
            acc = self.call(&element, &acc)?;
        }
        Ok(acc)
    }

    /// All rows as one, in pairs.
    fn rows(&self, x: &Array) -> Result<Array> {
        let mut x = x.clone();
        loop {
            let shape = x.shape();
            let (count, width) = (shape.dims()[0], shape.dims()[1]);
            match count {
                0 => return self.mlx().broadcast_to(&self.acc, &[1, width]),
                1 => return self.call(&x, &self.acc),
                _ => {}
            }
            let even = count / 2 * 2;
            let every_other =
                |first: i32, stop: i32| self.mlx().slice(&x, &[first, 0], &[stop, width], &[2, 1]);
            let pairs = self.call(&every_other(1, even)?, &every_other(0, even)?)?;
            x = if even == count {
                pairs
            } else {
                let last = self.mlx().slice(&x, &[even, 0], &[count, width], &[1, 1])?;
                self.mlx().concatenate(&[pairs, last], 0)?
            };
        }
    }

    fn call(&self, element: &Array, acc: &Array) -> Result<Array> {
        self.run(&self.program, element, acc)
    }

    fn run(&self, program: &Program, element: &Array, acc: &Array) -> Result<Array> {
        let mut inputs = vec![element, acc];
        inputs.extend(self.captured);
        let result = program.map(&inputs, self.stream, &mut self.checks.borrow_mut())?;
        let result = cast(self.mlx(), &result, self.out.ty)?;
        // A function may leave its arguments aside and give a scalar.
        self.mlx().broadcast_to(&result, element.shape().dims())
    }

    fn finished(&self, result: &Array) -> Result<Array> {
        self.mlx().shaped(result, &self.out.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Instruction, Shape, Tensor, Type, install_error_handler};

    #[test]
    fn what_a_function_asks_of_its_values_is_asked_of_the_reduction() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let ty = |dims: &[i64]| TensorType {
            ty: Type::C64,
            shape: Shape::new(dims).unwrap(),
        };
        let angle = Instruction {
            op: Op::Atan2.into(),
            outs: vec![ty(&[])],
            inputs: vec![0, 1],
        };
        let fun = Program::new(vec![ty(&[]), ty(&[])], vec![angle], vec![2]).unwrap();
        let reduce = Op::Reduce {
            axes: None,
            keep_axes: false,
            fun,
        };
        let acc = Tensor::from_bytes(&stream, &ty(&[]), &[0; 8]).unwrap();
        for (imaginary, real) in [(0.0_f32, true), (1.0, false)] {
            let parts = [1.0, 0.0, 2.0, imaginary].map(f32::to_ne_bytes).concat();
            let x = Tensor::from_bytes(&stream, &ty(&[2]), &parts).unwrap();
            let result = Tensor::apply(&stream, &reduce, Some(&ty(&[])), &[&x, &acc]).unwrap();
            assert_eq!(result.eval().is_ok(), real);
        }
    }
}
