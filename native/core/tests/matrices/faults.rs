//! What cannot be computed is an error that names the operation and what it was given.

use emily_core::{Op, Tensor, TensorType, TransformA, Type};

use crate::{
    TYPES,
    dense::{Dense, tensor},
    run, stream,
};

const TRIANGULAR: Op = Op::TriangularSolve {
    lower: true,
    left_side: true,
    transform_a: TransformA::None,
};

#[test]
fn singular_systems() {
    let stream = stream();
    for (ty, _) in TYPES {
        for size in [1, 3, 40] {
            let zeros = Dense::diagonal(size, |row| if row == size / 2 { 0.0 } else { 1.0 });
            // Beside a regular one.
            let batch = [Dense::identity(size), zeros];
            let a = tensor(&stream, ty, &batch);
            let b = tensor(&stream, ty, &[Dense::identity(size), Dense::identity(size)]);
            let error = run(&Op::Solve, &[&a, &b], &stream).unwrap_err().to_string();
            let expected = format!(
                "solve failed: expected matrices that can be inverted, got: a singular one\n  \
                 inputs: {ty}[2][{size}][{size}], {ty}[2][{size}][{size}]\n"
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn singular_triangles_are_seen_at_once_or_later() {
    let stream = stream();
    let a = tensor(&stream, Type::F32, &[Dense::diagonal(3, |row| row as f64)]);
    let b = tensor(&stream, Type::F32, &[Dense::identity(3)]);
    let error = Tensor::apply(&stream, &TRIANGULAR, None, &[&a, &b])
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "can't solve for singular matrix");

    let negated = Tensor::apply(&stream, &Op::Negate, None, &[&a]).unwrap();
    let error = run(&TRIANGULAR, &[&negated, &b], &stream)
        .unwrap_err()
        .to_string();
    let expected = "triangular_solve failed: expected matrices that can be inverted, got: a \
                    singular one\n  inputs: f32[1][3][3], f32[1][3][3]\n";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn matrices_that_are_not_positive_definite() {
    let stream = stream();
    for (ty, _) in TYPES {
        for size in [1, 3, 40, 70] {
            for wrong in [0.0, -1.0] {
                let last = Dense::diagonal(size, |row| if row + 1 == size { wrong } else { 2.0 });
                let batch = [Dense::identity(size), last];
                let x = tensor(&stream, ty, &batch);
                // Nx's own steps, which all but LAPACK's matrices go through, take semidefinite ones.
                if wrong == 0.0 && (size <= 8 || ty == Type::C64) {
                    assert!(run(&Op::Cholesky, &[&x], &stream).is_ok());
                    continue;
                }
                let error = run(&Op::Cholesky, &[&x], &stream).unwrap_err().to_string();
                let expected = format!(
                    "cholesky failed: expected positive definite matrices, got: one that is not\n  \
                     inputs: {ty}[2][{size}][{size}]\n"
                );
                assert!(error.starts_with(&expected), "{error}");
            }
        }
    }
}

#[test]
fn shapes_that_are_no_matrices() {
    let stream = stream();
    let zeros = |dims: &[i64]| {
        let shape = emily_core::Shape::new(dims).unwrap();
        let ty = TensorType {
            ty: Type::F32,
            shape,
        };
        Tensor::from_bytes(&stream, &ty, &vec![0; ty.bytes()]).unwrap()
    };
    let (vector, wide, square, empty) =
        (zeros(&[3]), zeros(&[2, 3]), zeros(&[3, 3]), zeros(&[0, 0]));
    let other = zeros(&[2, 3, 3]);
    let complex = tensor(&stream, Type::C64, &[Dense::identity(2)]);
    let svd = Op::Svd {
        full_matrices: true,
    };
    for (op, inputs, expected) in [
        (
            Op::Cholesky,
            vec![&vector],
            "expected cholesky of a matrix or a batch of matrices with elements, got: f32[3]",
        ),
        (
            Op::Eigh,
            vec![&empty],
            "expected eigh of a matrix or a batch of matrices with elements, got: f32[0][0]",
        ),
        (
            Op::Lu,
            vec![&wide],
            "expected lu of square matrices, got: f32[2][3]",
        ),
        (
            Op::Determinant,
            vec![&wide],
            "expected determinant of square matrices, got: f32[2][3]",
        ),
        (
            svd,
            vec![&complex],
            "expected svd of real matrices, got: c64[1][2][2]",
        ),
        (
            Op::Solve,
            vec![&square, &other],
            "expected solve of matrices and of vectors or matrices that fit them, got: f32[3][3], f32[2][3][3]",
        ),
        (
            TRIANGULAR,
            vec![&square, &wide],
            "expected triangular_solve of matrices and of vectors or matrices that fit them, got: f32[3][3], f32[2][3]",
        ),
    ] {
        let error = Tensor::apply_all(&stream, &op, None, &inputs)
            .err()
            .unwrap();
        assert_eq!(error.to_string(), expected);
    }
    let out = square.tensor_type();
    let told = Tensor::apply(&stream, &Op::Determinant, Some(&out), &[&square]);
    assert_eq!(
        told.err().unwrap().to_string(),
        "expected determinant of f32[3][3] to give f32, got: f32[3][3]"
    );
}

#[test]
fn batches_without_matrices_are_empty() {
    let stream = stream();
    let shape = emily_core::Shape::new(&[0, 3, 3]).unwrap();
    let ty = TensorType {
        ty: Type::F32,
        shape,
    };
    let none = Tensor::from_bytes(&stream, &ty, &[]).unwrap();
    for op in [Op::Eigh, Op::Lu, Op::Cholesky, Op::Determinant] {
        let results = Tensor::apply_all(&stream, &op, None, &[&none]).unwrap();
        assert!(
            results
                .iter()
                .all(|result| result.tensor_type().shape.size() == 0)
        );
    }
}

#[test]
fn matrices_that_lapack_cannot_count() {
    let stream = stream();
    let ones = |ty, dims: &[i64]| {
        let shape = emily_core::Shape::new(dims).unwrap();
        let value = emily_core::Number::Float(1.0);
        let out = TensorType { ty, shape };
        Tensor::apply(&stream, &Op::Constant { value }, Some(&out), &[]).unwrap()
    };
    let svd = |full_matrices| Op::Svd { full_matrices };
    let rows = "expected matrices of at most 16384 rows or columns, got: 16385";
    for (op, ty, dims, expected) in [
        (Op::Eigh, Type::F32, &[16_385, 16_385][..], rows),
        (svd(false), Type::F32, &[16_385, 16_386], rows),
        (
            Op::Eigh,
            Type::C64,
            &[2049, 2049],
            "expected matrices of at most 2048 rows or columns, got: 2049",
        ),
        (
            svd(true),
            Type::F32,
            &[3, 30_000, 2],
            "expected matrices of fewer than 2147483648 elements together, got: f64[3][30000][30000]",
        ),
        (
            Op::Lu,
            Type::F32,
            &[46_341, 46_341],
            "expected matrices of fewer than 2147483648 elements together, got: f32[1][46341][46341]",
        ),
    ] {
        let error = Tensor::apply_all(&stream, &op, None, &[&ones(ty, dims)])
            .err()
            .unwrap();
        let error = error.to_string();
        // Less memory refuses them before.
        assert!(
            error == expected || error.contains("which is what memory allows"),
            "{error}"
        );
    }
}
