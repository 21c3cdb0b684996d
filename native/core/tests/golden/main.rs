//! Every operation against what `Nx.BinaryBackend` computed, recorded in `test/golden/`, or MLX's Python package,
//! where Nx has no such operation.
//!
//! `mix emily.golden` records, and `test/recorder/mlx/quantized.py`. Each operation is a test of its own here, and
//! [`every_operation_is_tested`] fails where [`emily_core::Op`], this list and the files differ.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod case;
mod compare;
mod elements;
mod quantized;
mod replay;
mod tolerance;
mod types;

use std::collections::BTreeSet;

macro_rules! operations {
    ($($name:ident)+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];

        $(
            #[test]
            fn $name() {
                replay::operation(stringify!($name));
            }
        )+
    };
}

operations! {
    constant iota eye

    as_type reshape squeeze broadcast transpose reverse slice concatenate stack bitcast

    pad dynamic_slice put_slice dynamic_put_slice gather indexed_add indexed_put take
    take_along_axis

    exp expm1 log log1p sigmoid cos sin tan cosh sinh tanh acos asin atan acosh asinh atanh sqrt
    rsqrt cbrt erf erfc erf_inv abs ceil floor round negate sign conjugate real imag is_nan
    is_infinity bitwise_not count_leading_zeros population_count logical_not phase

    add subtract multiply pow remainder divide quotient atan2 min max bitwise_and bitwise_or
    bitwise_xor left_shift right_shift equal not_equal greater less greater_equal less_equal
    logical_and logical_or logical_xor

    select clip

    sum product reduce_max reduce_min all any argmax argmin reduce all_close

    cumulative_sum cumulative_product cumulative_min cumulative_max

    dot sort argsort top_k

    window_sum window_product window_max window_min window_reduce window_scatter_max
    window_scatter_min

    conv fft ifft fft2 ifft2 rfft irfft

    softmax layer_norm rms_norm rotary_embedding rms_norm_rotary_embedding rope attention
    activation dot_add

    quantize dequantize quantized_matmul gather_qmm

    triangular_solve solve cholesky determinant qr eigh svd lu
}

#[test]
fn every_operation_is_tested() {
    let tested: BTreeSet<String> = TESTED.iter().map(ToString::to_string).collect();
    assert_eq!(
        known_to_serde(),
        tested,
        "operations and their tests differ"
    );
    let mut recorded = case::recorded(case::folder());
    recorded.extend(case::recorded(case::of_mlx()));
    assert_eq!(recorded, tested, "golden files and tests differ");
}

/// The names of all operations: serde lists them when it meets one that it does not know.
fn known_to_serde() -> BTreeSet<String> {
    let error = serde_json::from_str::<emily_core::Op>("\"?\"").unwrap_err();
    let text = error.to_string();
    let (_, names) = text.split_once("expected one of ").unwrap();
    let quoted = names.split('`').skip(1).step_by(2);
    // What is checked gives what it gives otherwise, and Nx has no such thing to record.
    quoted
        .filter(|&name| name != "checked")
        .map(ToOwned::to_owned)
        .collect()
}
