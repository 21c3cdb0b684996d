//! Products of matrices, and sums with them, against f64.

use emily_core::{Device, Op, Stream, Tensor, Type};

use crate::{
    cases::{LAYOUTS, Layout},
    numbers::{Numbers, TYPES, apply, assert_near, rounded},
    on_each_device, oracle,
};

/// Rows, depth, columns: a number, one row, few rows, blocks of rows, of columns and of the depth with
/// something left over.
const SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 3, 5],
    [1, 60, 1100],
    [2, 17, 33],
    [3, 64, 16],
    [7, 40, 70],
    [8, 5, 9],
    [9, 31, 130],
    [20, 520, 18],
    [270, 8, 9],
];

fn dot(batch: usize, transposed: bool, added: bool) -> Op {
    let contract_b = vec![batch + usize::from(transposed)];
    let (contract_a, batch): (_, Vec<usize>) = (vec![batch + 1], (0..batch).collect());
    let (batch_a, batch_b) = (batch.clone(), batch);
    if added {
        return Op::DotAdd {
            contract_a,
            batch_a,
            contract_b,
            batch_b,
        };
    }
    Op::Dot {
        contract_a,
        batch_a,
        contract_b,
        batch_b,
    }
}

/// The last two axes the other way around.
fn turned(x: &Numbers) -> Numbers {
    let rank = x.dims.len();
    let (rows, columns) = (x.dims[rank - 2], x.dims[rank - 1]);
    let mut dims = x.dims.clone();
    dims.swap(rank - 2, rank - 1);
    let at = |index: usize| {
        let (matrix, place) = (index / (rows * columns), index % (rows * columns));
        x.values[matrix * rows * columns + place % rows * columns + place / rows]
    };
    Numbers::new(&dims, (0..x.values.len()).map(at).collect())
}

struct Product {
    ty: Type,
    a: Numbers,
    b: Numbers,
    c: Option<Numbers>,
}

impl Product {
    fn drawn(ty: Type, batch: &[usize], [rows, depth, columns]: [usize; 3]) -> Self {
        let a = Numbers::drawn(31, ty, &[batch, &[rows, depth]].concat(), 2.0);
        let b = Numbers::drawn(32, ty, &[batch, &[depth, columns]].concat(), 2.0);
        Self { ty, a, b, c: None }
    }

    fn check(&self, stream: &Stream, layout: Layout, transposed: bool) {
        let ty = self.ty;
        let expected = oracle::product(&self.a, &self.b, self.c.as_ref());
        let b = if transposed {
            turned(&self.b)
        } else {
            self.b.clone()
        };
        let of = |x: &Numbers| layout.tensor(stream, ty, x);
        let inputs: Vec<Tensor> = [of(&self.a), of(&b)]
            .into_iter()
            .chain(self.c.as_ref().map(of))
            .collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let op = dot(self.a.dims.len() - 2, transposed, self.c.is_some());
        let got = Numbers::read(&apply(stream, &op, &inputs));
        let (a, b) = (&self.a.dims, &b.dims);
        let what = format!("{} of {a:?} and {b:?} {layout:?} on {stream}", op.name());
        let depth = self.a.width() as f64;
        let unit = match (stream.device(), ty) {
            (Device::Cpu, _) => 2_f64.powi(-23),
            (Device::Gpu, Type::Bf16) => 2_f64.powi(-7),
            (Device::Gpu, _) => 2_f64.powi(-10),
        };
        assert_near(&what, ty, &got, &expected, (unit, 2.0 * unit * depth));
    }
}

#[test]
fn products_are_right() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in SIZES {
                for layout in LAYOUTS {
                    for transposed in [false, true] {
                        Product::drawn(ty, &[], sizes).check(stream, layout, transposed);
                    }
                }
            }
        }
    });
}

#[test]
fn products_of_batches_are_right() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in [SIZES[1], SIZES[3], SIZES[7]] {
                for layout in LAYOUTS {
                    Product::drawn(ty, &[3], sizes).check(stream, layout, false);
                    Product::drawn(ty, &[2, 2], sizes).check(stream, layout, true);
                }
            }
        }
    });
}

#[test]
fn sums_with_products_are_right() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in [SIZES[1], SIZES[3], SIZES[5], SIZES[7]] {
                let [rows, _, columns] = sizes;
                for dims in [&[columns][..], &[rows, columns], &[rows, 1], &[1], &[]] {
                    let c = Some(Numbers::drawn(33, ty, dims, 8.0));
                    let product = Product {
                        c,
                        ..Product::drawn(ty, &[], sizes)
                    };
                    product.check(stream, LAYOUTS[0], false);
                    product.check(stream, LAYOUTS[1], true);
                }
            }
        }
    });
}

#[test]
fn what_is_not_finite_stays_in_its_row_and_column() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in [SIZES[2], SIZES[5], SIZES[7]] {
                let mut product = Product::drawn(ty, &[], sizes);
                product.a.values[1] = f64::NAN;
                *product.b.values.last_mut().unwrap() = f64::INFINITY;
                product.check(stream, LAYOUTS[0], false);
                product.check(stream, LAYOUTS[0], true);
            }
        }
    });
}

/// What narrow floats would lose on the way is not lost: the sum is one of f32.
#[test]
fn sums_of_narrow_floats_are_wider() {
    on_each_device(|stream| {
        for ty in [Type::F16, Type::Bf16] {
            for rows in [1, 20] {
                let a = Numbers::new(&[rows, 2048], vec![1.0; rows * 2048]);
                let b = Numbers::new(&[2048, 1], vec![rounded(ty, 1.0 / 1024.0); 2048]);
                let product = Product { ty, a, b, c: None };
                product.check(stream, LAYOUTS[0], false);
                product.check(stream, LAYOUTS[0], true);
            }
        }
    });
}
