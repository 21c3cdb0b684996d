//! Values that LAPACK fails on, or that leave it a choice.

use emily_core::{Op, QrMode, Type};

use crate::{
    TYPES,
    dense::{Dense, tensor},
    one, run, stream,
};

fn factorizations(ty: Type) -> Vec<Op> {
    let mut ops = vec![
        Op::Cholesky,
        Op::Eigh,
        Op::Lu,
        Op::Determinant,
        Op::Qr {
            mode: QrMode::Complete,
        },
        Op::Qr {
            mode: QrMode::Reduced,
        },
    ];
    if ty != Type::C64 {
        let svd = |full_matrices| Op::Svd { full_matrices };
        ops.extend([svd(true), svd(false)]);
    }
    ops
}

/// The first is unharmed by what stands in the others of its batch.
#[test]
fn what_is_not_finite_gives_nan() {
    let stream = stream();
    for (ty, allowed) in TYPES {
        for size in [4, 40] {
            let good = Dense::diagonal(size, |row| 1.0 + row as f64 / size as f64);
            let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let mut batch = vec![good.clone()];
            // Not in a place that no step reads any more.
            batch.extend(bad.map(|value| {
                Dense::new(size, size, |row, column| match (row, column) {
                    (0, 0) => (value, 0.0),
                    place => good.at(place.0, place.1),
                })
            }));
            for op in factorizations(ty) {
                let together = run(&op, &[&tensor(&stream, ty, &batch)], &stream).unwrap();
                let alone = one(&op, &[&good], ty, &stream);
                for (index, (results, good)) in together.iter().zip(&alone).enumerate() {
                    results[0].assert_near(good, allowed * size as f64, &op.name());
                    let permutation = matches!(op, Op::Lu) && index == 0;
                    let nan = &results[1];
                    assert!(
                        permutation || nan.elements.iter().any(|(re, _)| re.is_nan()),
                        "{op:?} of {size} rows of {ty}"
                    );
                }
            }
        }
    }
}

#[test]
fn large_matrices_with_nan_are_nan_throughout() {
    let stream = stream();
    let x = Dense::new(40, 40, |_, _| (f64::NAN, 0.0));
    for op in factorizations(Type::F32) {
        let results = one(&op, &[&x], Type::F32, &stream);
        let last = results.last().unwrap();
        let determinant = matches!(op, Op::Determinant);
        assert!(
            determinant || last.is_nan() || matches!(op, Op::Lu | Op::Qr { .. }),
            "{op:?}"
        );
        assert!(last.elements.iter().any(|(re, _)| re.is_nan()), "{op:?}");
    }
}

#[test]
fn zeros_and_repeated_values() {
    let stream = stream();
    for (ty, allowed) in TYPES {
        for size in [1, 2, 3, 40] {
            let (zero, identity) = (Dense::diagonal(size, |_| 0.0), Dense::identity(size));
            let [values, vectors] = &one(&Op::Eigh, &[&zero], ty, &stream)[..] else {
                panic!("expected values and vectors");
            };
            vectors.assert_near(&identity, 0.0, "eigenvectors of zeros");
            assert!(values.elements.iter().all(|value| *value == (0.0, 0.0)));
            let [_, vectors] = &one(&Op::Eigh, &[&identity], ty, &stream)[..] else {
                panic!("expected values and vectors");
            };
            vectors.assert_near(&identity, 0.0, "eigenvectors of the identity");

            let ones = Dense::new(size, size, |_, _| (1.0, 0.0));
            let [p, l, u] = &one(&Op::Lu, &[&ones], ty, &stream)[..] else {
                panic!("expected three factors");
            };
            p.times(l)
                .times(u)
                .assert_near(&ones, allowed, "factors of ones");
            let reduced = Op::Qr {
                mode: QrMode::Reduced,
            };
            let [q, r] = &one(&reduced, &[&ones], ty, &stream)[..] else {
                panic!("expected two factors");
            };
            q.times(r).assert_near(&ones, allowed, "factors of ones");
            q.adjoint()
                .times(q)
                .assert_near(&identity, allowed * 10.0, "an orthonormal factor");
            let determinant = one(&Op::Determinant, &[&zero], ty, &stream);
            determinant[0].assert_near(&Dense::diagonal(1, |_| 0.0), 0.0, "no determinant");
        }
    }
}

#[test]
fn singular_vectors_of_zeros_are_those_of_the_identity() {
    let stream = stream();
    for (rows, columns) in [(3, 3), (3, 4), (4, 3), (40, 42)] {
        let zeros = Dense::new(rows, columns, |_, _| (0.0, 0.0));
        let op = Op::Svd {
            full_matrices: true,
        };
        let [u, values, vt] = &one(&op, &[&zeros], Type::F32, &stream)[..] else {
            panic!("expected three factors");
        };
        u.assert_near(&Dense::identity(rows), 0.0, "U of zeros");
        vt.assert_near(&Dense::identity(columns), 0.0, "V of zeros");
        assert!(values.elements.iter().all(|value| *value == (0.0, 0.0)));
    }
}

/// What a type's extremes make of squares and norms.
#[test]
fn extreme_numbers_end_nothing() {
    let stream = stream();
    for (ty, _) in TYPES {
        let most = if ty == Type::F64 {
            f64::MAX
        } else {
            f64::from(f32::MAX)
        };
        let least = if ty == Type::F64 { 5e-324 } else { 1e-45 };
        for value in [most, -most, least, 1e-30] {
            for size in [3, 40] {
                let x = Dense::random(size, size, 19, ty);
                let x = Dense::new(size, size, |row, column| {
                    let (re, im) = x.at(row, column);
                    (re * value, im * value)
                });
                for op in factorizations(ty) {
                    // Whatever comes out: an answer, or that a matrix is not positive definite.
                    let results = run(
                        &op,
                        &[&tensor(&stream, ty, std::slice::from_ref(&x))],
                        &stream,
                    );
                    assert!(results.is_ok() || matches!(op, Op::Cholesky), "{op:?}");
                }
            }
        }
    }
}
