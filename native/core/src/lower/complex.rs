//! Functions of complex numbers that MLX has of real numbers alone, or not on each device.

use super::unary::{refused, same_type};
use crate::{Array, Device, Op, Result, Type, mlx::Mlx};

/// Nx refuses some of them too.
pub(super) fn of_complex(mlx: Mlx, op: &Op, x: &Array) -> Result<Array> {
    let one = mlx.scalar(1, Type::C64)?;
    match op {
        Op::Expm1 => mlx.subtract(&mlx.exp(x)?, &one),
        Op::Sigmoid => mlx.divide(&one, &mlx.add(&one, &mlx.exp(&mlx.negative(x)?)?)?),
        Op::Erf | Op::Erfc | Op::ErfInv | Op::Ceil | Op::Floor | Op::Round | Op::BitwiseNot => {
            Err(refused(op, Type::C64))
        }
        Op::Acosh if mlx.device() == Device::Gpu => acosh(mlx, x),
        Op::Asinh if mlx.device() == Device::Gpu => turned(mlx, x, Mlx::asin),
        Op::Atanh if mlx.device() == Device::Gpu => turned(mlx, x, Mlx::atan),
        _ => same_type(mlx, op, x, Type::C64),
    }
}

/// The hyperbolic function of `x` is that of the circle, a quarter turn back, of `x` a quarter turn on.
fn turned(mlx: Mlx, x: &Array, function: fn(Mlx, &Array) -> Result<Array>) -> Result<Array> {
    let on = pair(mlx, &mlx.negative(&mlx.imag(x)?)?, &mlx.real(x)?)?;
    let result = function(mlx, &on)?;
    pair(
        mlx,
        &mlx.imag(&result)?,
        &mlx.negative(&mlx.real(&result)?)?,
    )
}

/// The arc cosine, a quarter turn to the side where the real part is not negative.
fn acosh(mlx: Mlx, x: &Array) -> Result<Array> {
    let acos = mlx.acos(x)?;
    let (angle, imaginary) = (mlx.real(&acos)?, mlx.imag(x)?);
    let zero = mlx.scalar(0, Type::F32)?;
    // The sign of a zero counts; it is that of the zero's reciprocal.
    let reciprocal = mlx.divide(&mlx.scalar(1, Type::F32)?, &imaginary)?;
    let below = mlx.logical_or(
        &mlx.less(&imaginary, &zero)?,
        &mlx.less(&reciprocal, &zero)?,
    )?;
    let angle = mlx.select(&below, &mlx.negative(&angle)?, &angle)?;
    pair(mlx, &mlx.abs(&mlx.imag(&acos)?)?, &angle)
}

/// Complex numbers of their parts: the parts lie beside each other.
fn pair(mlx: Mlx, real: &Array, imaginary: &Array) -> Result<Array> {
    let shape = real.shape();
    let parts = mlx.stack(&[real.clone(), imaginary.clone()], shape.rank() as i32)?;
    let complex = mlx.view(&mlx.contiguous(&parts)?, Type::C64)?;
    mlx.reshape(&complex, shape.dims())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Number, Stream, install_error_handler};

    fn values(stream: &Stream, array: &Array) -> Vec<(f32, f32)> {
        let ty = array.tensor_type();
        let tensor =
            crate::Tensor::pending(stream, array.clone(), &ty, crate::check::Pending::default());
        let readable = tensor.readable().unwrap();
        let parts: Vec<f32> = readable
            .bytes()
            .unwrap()
            .chunks(4)
            .map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap()))
            .collect();
        parts.chunks(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// Where MLX has the function itself, the way that GPUs take must give the same.
    #[test]
    fn inverse_hyperbolic_functions_agree_with_mlx_on_the_cpu() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let mlx = stream.mlx();
        type Function = fn(Mlx, &Array) -> Result<Array>;
        let functions: [(&str, Function, Function); 3] = [
            ("acosh", acosh, Mlx::acosh),
            ("asinh", |mlx, x| turned(mlx, x, Mlx::asin), Mlx::asinh),
            ("atanh", |mlx, x| turned(mlx, x, Mlx::atan), Mlx::atanh),
        ];
        let parts = [-3.5, -0.75, -0.0, 0.0, 0.25, 2.0];
        for (name, ours, theirs) in functions {
            for (re, im) in parts.iter().flat_map(|re| parts.map(|im| (*re, im))) {
                let number = Number::Complex(re, im);
                let x = mlx
                    .broadcast_to(&number.scalar(Type::C64).unwrap(), &[2])
                    .unwrap();
                let got = values(&stream, &ours(mlx, &x).unwrap());
                let expected = values(&stream, &theirs(mlx, &x).unwrap());
                for (got, expected) in got.iter().zip(&expected) {
                    let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
                    assert!(
                        near(got.0, expected.0) && near(got.1, expected.1),
                        "{name} of ({re}, {im}): {got:?}, expected {expected:?}"
                    );
                }
            }
        }
    }
}
