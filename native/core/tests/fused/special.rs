//! What is not finite, and what is huge.

use emily_core::{Device, Type};

use crate::{
    cases::{FUNCTIONS, LAYOUTS, activation, layer_norm, rms_norm, softmax},
    numbers::{Numbers, TYPES},
    on_each_device,
};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[test]
fn a_row_with_what_is_not_finite_is_as_the_formula_says() {
    on_each_device(|stream| {
        let [plain, ..] = LAYOUTS;
        for ty in TYPES {
            let mut values = Numbers::drawn(3, ty, &[4, 11], 2.0).values;
            (values[3], values[11 + 4], values[22 + 10]) = (NAN, INF, -INF);
            let x = Numbers::new(&[4, 11], values);
            layer_norm(ty, x.clone()).check(stream, plain);
            rms_norm(ty, x.clone(), 1).check(stream, plain);
            softmax(ty, x).check(stream, plain);
        }
    });
}

#[test]
fn softmax_of_nothing_but_minus_infinity_is_not_a_number() {
    on_each_device(|stream| {
        for ty in TYPES {
            let case = softmax(ty, Numbers::new(&[2, 3], vec![-INF; 6]));
            assert!(case.expected.values.iter().all(|x| x.is_nan()));
            case.check(stream, LAYOUTS[0]);
        }
    });
}

#[test]
fn softmax_does_not_overflow() {
    on_each_device(|stream| {
        for ty in TYPES {
            let x = Numbers::new(&[2, 3], vec![6e4, 5.9e4, -6e4, -6e4, -6e4, -5.9e4]);
            let rounded = x.values.iter().map(|&x| crate::numbers::rounded(ty, x));
            let x = Numbers::new(&[2, 3], rounded.collect());
            softmax(ty, x).check(stream, LAYOUTS[0]);
        }
    });
}

#[test]
fn activations_keep_what_is_not_finite_and_vanish_far_below_zero() {
    on_each_device(|stream| {
        for ty in TYPES {
            for function in FUNCTIONS {
                let values = vec![
                    0.0, -0.0, INF, NAN, 3e4, -3e4, 90.0, -90.0, -30.0, 1e-3, -1e-3,
                ];
                let rounded = values.iter().map(|&x| crate::numbers::rounded(ty, x));
                let x = Numbers::new(&[11], rounded.collect());
                activation(ty, function, x, false).check(stream, LAYOUTS[0]);
            }
        }
    });
}

/// -inf times the 0 that the functions end with is not a number, and neither is what MLX composes.
#[test]
fn activations_of_minus_infinity_are_not_numbers() {
    on_each_device(|stream| {
        if stream.device() == Device::Gpu {
            return;
        }
        for function in FUNCTIONS {
            let mut case = activation(Type::F32, function, Numbers::new(&[1], vec![-INF]), false);
            case.expected.values = vec![NAN];
            case.check(stream, LAYOUTS[0]);
        }
    });
}
