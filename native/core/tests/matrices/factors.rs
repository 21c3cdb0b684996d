//! Factors multiply to the matrix, and have the form that they must have.

use std::cmp::Ordering;

use emily_core::{Op, QrMode, TransformA, Type};

use crate::{SIZES, TYPES, dense::Dense, one, stream};

/// Regular, and positive definite: Hermitian with a heavy diagonal.
fn definite(size: usize, ty: Type) -> Dense {
    let half = Dense::random(size, size, 3, ty);
    let heavy = Dense::diagonal(size, |row| 2.0 * size as f64 + row as f64);
    half.plus(&half.adjoint()).plus(&heavy)
}

fn each(mut test: impl FnMut(usize, Type, f64, &str)) {
    for size in SIZES {
        for (ty, allowed) in TYPES {
            test(
                size,
                ty,
                allowed * size as f64,
                &format!("{size} rows of {ty}"),
            );
        }
    }
}

#[test]
fn cholesky() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        let x = definite(size, ty);
        let factor = &one(&Op::Cholesky, &[&x], ty, &stream)[0];
        let lower = factor.masked(|row, column| row >= column);
        factor.assert_near(&lower, 0.0, what);
        factor
            .times(&factor.adjoint())
            .assert_near(&x, allowed, what);
    });
}

#[test]
fn cholesky_looks_at_the_lower_triangle_alone() {
    let stream = stream();
    for size in [3, 40] {
        let x = definite(size, Type::F32);
        let half = x.masked(|row, column| row >= column);
        let whole = &one(&Op::Cholesky, &[&x], Type::F32, &stream)[0];
        let factor = &one(&Op::Cholesky, &[&half], Type::F32, &stream)[0];
        factor.assert_near(whole, 0.0, "the lower triangle");
    }
}

#[test]
fn lu() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        let x = Dense::random(size, size, 5, ty);
        let [p, l, u] = &one(&Op::Lu, &[&x], ty, &stream)[..] else {
            panic!("expected three factors");
        };
        p.adjoint()
            .times(p)
            .assert_near(&Dense::identity(size), 0.0, what);
        l.assert_near(&l.masked(|row, column| row >= column), 0.0, what);
        u.assert_near(&u.masked(|row, column| row <= column), 0.0, what);
        assert!((0..size).all(|at| l.at(at, at) == (1.0, 0.0)), "{what}");
        // Each pivot is the greatest of its column.
        let greatest = l.elements.iter().map(|(re, im)| re.hypot(*im));
        assert!(greatest.fold(0.0, f64::max) < 1.0 + 1e-6, "{what}");
        p.times(l).times(u).assert_near(&x, allowed, what);
    });
}

#[test]
fn qr() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        for (rows, columns) in [(size, size), (size + 3, size), (size, size + 3)] {
            for mode in [QrMode::Reduced, QrMode::Complete] {
                let x = Dense::random(rows, columns, 7, ty);
                let [q, r] = &one(&Op::Qr { mode }, &[&x], ty, &stream)[..] else {
                    panic!("expected two factors");
                };
                let inner = if mode == QrMode::Complete {
                    rows
                } else {
                    rows.min(columns)
                };
                assert_eq!((q.columns, r.rows), (inner, inner), "{what}");
                q.adjoint()
                    .times(q)
                    .assert_near(&Dense::identity(inner), allowed, what);
                r.assert_near(&r.masked(|row, column| row <= column), 0.0, what);
                q.times(r).assert_near(&x, allowed, what);
                if ty != Type::C64 {
                    let reflected = if rows > columns { columns } else { rows - 1 };
                    assert!((0..reflected).all(|at| r.at(at, at).0 >= 0.0), "{what}");
                }
            }
        }
    });
}

#[test]
fn eigh() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        let half = Dense::random(size, size, 9, ty);
        let x = half.plus(&half.adjoint());
        let [values, vectors] = &one(&Op::Eigh, &[&x], ty, &stream)[..] else {
            panic!("expected values and vectors");
        };
        let magnitudes: Vec<f64> = values.elements.iter().map(|value| value.0.abs()).collect();
        assert!(magnitudes.is_sorted_by(|x, y| *x >= y - allowed), "{what}");
        let unit = vectors.adjoint().times(vectors);
        unit.assert_near(&Dense::identity(size), allowed, what);
        if size != 3 || ty == Type::C64 {
            assert_positive(vectors, what);
        }
        let diagonal = Dense::diagonal(size, |at| values.elements[at].0);
        let product = vectors.times(&diagonal).times(&vectors.adjoint());
        product.assert_near(&x, allowed, what);
    });
}

#[test]
fn svd() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        if ty == Type::C64 {
            return;
        }
        for (rows, columns) in [(size, size), (size + 3, size), (size, size + 3)] {
            for full_matrices in [true, false] {
                let x = Dense::random(rows, columns, 11, ty);
                let op = Op::Svd { full_matrices };
                let [u, values, vt] = &one(&op, &[&x], ty, &stream)[..] else {
                    panic!("expected three factors");
                };
                let values: Vec<f64> = values.elements.iter().map(|value| value.0).collect();
                assert!(values.is_sorted_by(|x, y| x >= y), "{what}");
                let left = Dense::identity(if full_matrices { rows } else { size });
                u.adjoint().times(u).assert_near(&left, allowed, what);
                let right = Dense::identity(if full_matrices { columns } else { size });
                vt.times(&vt.adjoint()).assert_near(&right, allowed, what);
                assert_positive(
                    &if rows < columns {
                        u.clone()
                    } else {
                        vt.adjoint()
                    },
                    what,
                );
                let middle = Dense::new(u.columns, vt.rows, |row, column| {
                    (if row == column { values[row] } else { 0.0 }, 0.0)
                });
                u.times(&middle).times(vt).assert_near(&x, allowed, what);
            }
        }
    });
}

/// That the greatest element of each column is real and positive.
fn assert_positive(vectors: &Dense, what: &str) {
    for column in 0..vectors.columns {
        let elements = (0..vectors.rows).map(|row| vectors.at(row, column));
        let magnitude = |x: &(f64, f64)| x.0.hypot(x.1);
        let greatest = elements.clone().map(|x| magnitude(&x)).fold(0.0, f64::max);
        let positive = |x: (f64, f64)| x.0 > 0.0 && x.1.abs() < 1e-5;
        let near = elements
            .into_iter()
            .filter(|x| magnitude(x) > 0.9999 * greatest);
        assert!(near.into_iter().any(positive), "{what}, column {column}");
    }
}

#[test]
fn systems() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        let x = definite(size, ty);
        let b = Dense::random(size, 4, 13, ty);
        let solution = &one(&Op::Solve, &[&x, &b], ty, &stream)[0];
        x.times(solution).assert_near(&b, allowed, what);
    });
}

#[test]
fn triangular_systems() {
    let stream = stream();
    each(|size, ty, allowed, what| {
        let x = definite(size, ty);
        for (lower, left_side, transform_a) in [
            (true, true, TransformA::None),
            (false, true, TransformA::Transpose),
            (false, false, TransformA::None),
            (true, false, TransformA::Conjugate),
        ] {
            let op = Op::TriangularSolve {
                lower,
                left_side,
                transform_a,
            };
            let (rows, columns) = if left_side { (size, 4) } else { (4, size) };
            let b = Dense::random(rows, columns, 13, ty);
            let solution = &one(&op, &[&x, &b], ty, &stream)[0];
            let triangle = x.masked(|row, column| (row >= column) == lower || row == column);
            let adjoint = triangle.adjoint();
            let a = match transform_a {
                TransformA::None => triangle,
                TransformA::Transpose => {
                    Dense::new(size, size, |row, column| triangle.at(column, row))
                }
                TransformA::Conjugate => {
                    Dense::new(size, size, |row, column| adjoint.at(column, row))
                }
            };
            let product = if left_side {
                a.times(solution)
            } else {
                solution.times(&a)
            };
            product.assert_near(&b, allowed, what);
        }
    });
}

#[test]
fn determinants() {
    let stream = stream();
    each(|size, ty, _, what| {
        // An odd permutation of a triangle whose determinant is 1.
        let random = Dense::random(size, size, 17, ty);
        let triangle = Dense::new(size, size, |row, column| {
            let (re, im) = random.at(row, column);
            match row.cmp(&column) {
                Ordering::Greater => (re / size as f64, im / size as f64),
                Ordering::Equal => (1.0, 0.0),
                Ordering::Less => (0.0, 0.0),
            }
        });
        let exchanged = |row: usize| match row {
            0 if size > 1 => 1,
            1 => 0,
            row => row,
        };
        let x = Dense::new(size, size, |row, column| {
            triangle.at(exchanged(row), column)
        });
        let value = &one(&Op::Determinant, &[&x], ty, &stream)[0];
        let expected = if size > 1 { -1.0 } else { 1.0 };
        value.assert_near(&Dense::new(1, 1, |_, _| (expected, 0.0)), 1e-2, what);
    });
}
