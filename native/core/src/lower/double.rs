//! Functions of f64 that MLX's CPU backend computes in f32, from those that it does not.
//!
//! The rest of MLX's functions, `expm1`, `tan` and `log` among them, call C's for f64.

use crate::{Array, Result, Type, mlx::Mlx};

/// The functions of `x`, which is f64.
pub(super) struct Double<'a> {
    mlx: Mlx,
    x: &'a Array,
}

impl<'a> Double<'a> {
    pub(super) const fn new(mlx: Mlx, x: &'a Array) -> Self {
        Self { mlx, x }
    }

    fn constant(&self, value: f64) -> Result<Array> {
        self.mlx.scalar(value, Type::F64)
    }

    fn half(&self) -> Result<Array> {
        self.mlx.multiply(self.x, &self.constant(0.5)?)
    }

    fn negative(&self) -> Result<Array> {
        self.mlx.less(self.x, &self.constant(0.0)?)
    }

    /// The square of exp(x / 2), so that results below the least normal number are not lost, where
    /// exp(x / 2) is expm1(x / 2) + 1, or its inverse for negative numbers, whose expm1 is near -1.
    pub(super) fn exp(&self) -> Result<Array> {
        let mlx = self.mlx;
        let one = self.constant(1.0)?;
        let growth = mlx.add(&mlx.expm1(&mlx.abs(&self.half()?)?)?, &one)?;
        let root = mlx.select(&self.negative()?, &mlx.divide(&one, &growth)?, &growth)?;
        mlx.square(&root)
    }

    /// 2t / (1 + t²), where t is tan(x / 2): exact to the last places near zeros too, but for numbers
    /// so small that their half has fewer digits; those are their own sine.
    pub(super) fn sin(&self) -> Result<Array> {
        let mlx = self.mlx;
        let tangent = mlx.tan(&self.half()?)?;
        let below = mlx.add(&self.constant(1.0)?, &mlx.square(&tangent)?)?;
        let sine = mlx.divide(&mlx.add(&tangent, &tangent)?, &below)?;
        let small = mlx.less(&mlx.abs(self.x)?, &self.constant(1e-9)?)?;
        mlx.select(&small, self.x, &sine)
    }

    /// sin(x) / tan(x), which is as good near zeros, where (1 - t²) / (1 + t²) is not; that in turn
    /// has no quotient of zeros at 0.
    pub(super) fn cos(&self) -> Result<Array> {
        let mlx = self.mlx;
        let tangent = mlx.tan(&self.half()?)?;
        let square = mlx.square(&tangent)?;
        let one = self.constant(1.0)?;
        let near_one = mlx.divide(&mlx.subtract(&one, &square)?, &mlx.add(&one, &square)?)?;
        let quotient = mlx.divide(&self.sin()?, &mlx.tan(self.x)?)?;
        let small = mlx.less(&square, &self.constant(0.25)?)?;
        mlx.select(&small, &near_one, &quotient)
    }

    /// 1 / (1 + exp(-x)).
    pub(super) fn sigmoid(&self) -> Result<Array> {
        let mlx = self.mlx;
        let decay = Double::new(mlx, &mlx.negative(self.x)?).exp()?;
        let one = self.constant(1.0)?;
        mlx.divide(&one, &mlx.add(&one, &decay)?)
    }

    /// The Maclaurin series from -1 to 1, and what `erfc`, the complement, leaves beyond.
    pub(super) fn erf(&self, erfc: fn(Mlx, &Array) -> Result<Array>) -> Result<Array> {
        let mlx = self.mlx;
        let one = self.constant(1.0)?;
        let magnitude = mlx.abs(self.x)?;
        let beyond = mlx.subtract(&one, &erfc(mlx, &magnitude)?)?;
        let beyond = mlx.select(&self.negative()?, &mlx.negative(&beyond)?, &beyond)?;

        let square = mlx.square(self.x)?;
        let mut sum = self.constant(0.0)?;
        for n in (0..ERF_TERMS).rev() {
            let coefficient = self.constant(erf_coefficient(n))?;
            sum = mlx.add(&mlx.multiply(&sum, &square)?, &coefficient)?;
        }
        let series = mlx.multiply(self.x, &sum)?;
        mlx.select(&mlx.less(&magnitude, &one)?, &series, &beyond)
    }

    /// Winitzki's approximation, which is off by less than 1/300, bettered by steps of Halley's; where
    /// there is no such number, what MLX says.
    pub(super) fn erf_inv(&self, erfc: fn(Mlx, &Array) -> Result<Array>) -> Result<Array> {
        let mlx = self.mlx;
        let one = self.constant(1.0)?;
        let magnitude = mlx.abs(self.x)?;
        let mut inverse = self.winitzki()?;
        for _ in 0..HALLEY_STEPS {
            inverse = halley(mlx, &inverse, &magnitude, erfc)?;
        }
        let inverse = mlx.select(&self.negative()?, &mlx.negative(&inverse)?, &inverse)?;
        mlx.select(
            &mlx.less(&magnitude, &one)?,
            &inverse,
            &mlx.erf_inv(self.x)?,
        )
    }

    /// √(√(a² - b) - a), where b = ln(1 - x²) / 0.147 and a = 2 / (0.147 π) + ln(1 - x²) / 2, without
    /// the difference of what is nearly equal.
    fn winitzki(&self) -> Result<Array> {
        let mlx = self.mlx;
        let logarithm = mlx.log1p(&mlx.negative(&mlx.square(self.x)?)?)?;
        let a = mlx.multiply(&logarithm, &self.constant(0.5)?)?;
        let a = mlx.add(&a, &self.constant(2.0 / (WINITZKI * std::f64::consts::PI))?)?;
        let b = mlx.multiply(&logarithm, &self.constant(1.0 / WINITZKI)?)?;
        let root = mlx.sqrt(&mlx.subtract(&mlx.square(&a)?, &b)?)?;
        mlx.sqrt(&mlx.divide(&mlx.negative(&b)?, &mlx.add(&root, &a)?)?)
    }
}

const WINITZKI: f64 = 0.147;

/// Each triples the digits.
const HALLEY_STEPS: i32 = 3;

/// Nearer to the number whose error function is `target`, which is not negative.
fn halley(
    mlx: Mlx,
    y: &Array,
    target: &Array,
    erfc: fn(Mlx, &Array) -> Result<Array>,
) -> Result<Array> {
    let double = Double::new(mlx, y);
    let one = double.constant(1.0)?;
    // Of numbers near 1 the complement has the digits.
    let low = mlx.subtract(&double.erf(erfc)?, target)?;
    let high = mlx.subtract(&mlx.subtract(&one, target)?, &erfc(mlx, y)?)?;
    let near_zero = mlx.less(target, &double.constant(0.5)?)?;
    let error = mlx.select(&near_zero, &low, &high)?;
    let growth = Double::new(mlx, &mlx.square(y)?).exp()?;
    let scale = double.constant(1.0 / std::f64::consts::FRAC_2_SQRT_PI)?;
    let step = mlx.multiply(&mlx.multiply(&error, &growth)?, &scale)?;
    let below = mlx.add(&one, &mlx.multiply(y, &step)?)?;
    mlx.subtract(y, &mlx.divide(&step, &below)?)
}

/// The term after the last one is below 2^-60 at 1.
const ERF_TERMS: i32 = 20;

/// 2/√π · (-1)ⁿ / (n! (2n + 1))
fn erf_coefficient(n: i32) -> f64 {
    let factorial: f64 = (1..=n).map(f64::from).product();
    let sign = if n % 2 == 0 { 1.0 } else { -1.0 };
    sign * std::f64::consts::FRAC_2_SQRT_PI / (factorial * f64::from(2 * n + 1))
}
