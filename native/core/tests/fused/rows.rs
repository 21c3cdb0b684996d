//! Norms, softmax, rotary embeddings and activations against f64.

use emily_core::{Stream, Type};

use crate::{
    cases::{
        Case, FUNCTIONS, LAYOUTS, activation, layer_norm, normal_rotary, rms_norm, rotary, softmax,
    },
    numbers::{Numbers, TYPES},
    on_each_device,
};

/// One element, less than a register, not a multiple of one, several shares of a thread.
const SHAPES: [&[usize]; 7] = [
    &[1],
    &[1, 1, 2],
    &[5, 3],
    &[2, 3, 8],
    &[2, 3, 17],
    &[4, 768],
    &[300, 130],
];

fn each(test: impl Fn(Type, Numbers) -> Case + Clone + Send + 'static) {
    on_each_device(move |stream: &Stream| {
        for ty in TYPES {
            for dims in SHAPES {
                // Enough for two threads is much for this side; one type will do.
                if dims[0] > 100 && ty != Type::F32 {
                    continue;
                }
                let case = test(ty, Numbers::drawn(1, ty, dims, 5.0));
                for layout in LAYOUTS {
                    case.check(stream, layout);
                }
            }
        }
    });
}

#[test]
fn layer_norms_are_right() {
    each(layer_norm);
}

#[test]
fn rms_norms_are_right() {
    each(|ty, x| rms_norm(ty, x, 0));
    each(|ty, x| rms_norm(ty, x, 1));
    each(|ty, x| {
        let axes = x.dims.len().min(2);
        rms_norm(ty, x, axes)
    });
}

#[test]
fn softmax_is_right() {
    each(softmax);
}

#[test]
fn activations_are_right() {
    for function in FUNCTIONS {
        for gated in [false, true] {
            each(move |ty, x| activation(ty, function, x, gated));
        }
    }
}

#[test]
fn activations_of_scalars_are_right() {
    on_each_device(|stream| {
        let [plain, ..] = LAYOUTS;
        for ty in TYPES {
            for function in FUNCTIONS {
                let x = Numbers::new(&[], vec![0.75]);
                activation(ty, function, x.clone(), false).check(stream, plain);
                activation(ty, function, x, true).check(stream, plain);
            }
        }
    });
}

#[test]
fn rotary_embeddings_are_right() {
    on_each_device(|stream| {
        for ty in TYPES {
            for (dims, table) in [
                (&[2][..], &[2][..]),
                (&[3, 6], &[3, 6]),
                (&[2, 4, 3, 10], &[3, 10]),
                (&[2, 3, 4, 16], &[3, 1, 16]),
                (&[2, 3, 4, 16], &[2, 1, 4, 16]),
                (&[1, 16, 1, 128], &[1, 1, 1, 128]),
                (&[2, 4], &[1, 1]),
                (&[40, 24, 66], &[24, 66]),
            ] {
                for make in [rotary, normal_rotary] {
                    let case = make(ty, Numbers::drawn(2, ty, dims, 5.0), table);
                    for layout in LAYOUTS {
                        case.check(stream, layout);
                    }
                }
            }
        }
    });
}
