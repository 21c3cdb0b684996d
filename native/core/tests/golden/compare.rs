//! Results beside what was recorded.

use emily_core::Type;

use crate::{
    elements::{Element, elements},
    tolerance::Tolerance,
};

/// An element that differs too much.
pub struct Difference {
    pub index: usize,
    pub expected: Element,
    pub got: Element,
}

/// All elements of `got` that are not what was expected.
pub fn differences(ty: Type, expected: &[u8], got: &[u8], tolerance: Tolerance) -> Vec<Difference> {
    let pairs = elements(ty, expected).into_iter().zip(elements(ty, got));
    pairs
        .enumerate()
        .filter(|(_, (expected, got))| !near(*expected, *got, tolerance))
        .map(|(index, (expected, got))| Difference {
            index,
            expected,
            got,
        })
        .collect()
}

fn near(expected: Element, got: Element, tolerance: Tolerance) -> bool {
    match (expected, got) {
        (Element::Float(expected), Element::Float(got)) => {
            parts_near(&[expected], &[got], tolerance)
        }
        (Element::Complex(re, im), Element::Complex(got_re, got_im)) => {
            parts_near(&[re, im], &[got_re, got_im], tolerance)
        }
        _ => expected == got,
    }
}

/// A complex number is as near as its parts are, measured by its magnitude.
fn parts_near(expected: &[f64], got: &[f64], tolerance: Tolerance) -> bool {
    let finite = expected.iter().filter(|part| part.is_finite());
    // Not the root of the squares, which leave f64's range where f64 itself does not.
    let magnitude = finite.map(|part| part.abs()).sum::<f64>();
    let allowed = tolerance.relative.mul_add(magnitude, tolerance.absolute);
    let mut parts = expected.iter().zip(got);
    parts.all(|(&expected, &got)| part_near(expected, got, allowed, tolerance.signed_zero))
}

fn part_near(expected: f64, got: f64, allowed: f64, signed_zero: bool) -> bool {
    if !expected.is_finite() {
        return expected == got || (expected.is_nan() && got.is_nan());
    }
    if signed_zero && expected == 0.0 {
        return got == 0.0 && expected.is_sign_negative() == got.is_sign_negative();
    }
    (expected - got).abs() <= allowed
}
