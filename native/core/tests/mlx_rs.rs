//! mlx-rs on the crate in this tree that stands in for its `mlx-sys`.

// It does not compile for Linux on arm64 (Cargo.toml).
#![cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use mlx_rs::{Array, Device, DeviceType};

#[test]
fn multiplies_matrices() {
    Device::set_default(&Device::new(DeviceType::Cpu, 0));
    let a = Array::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    let b = Array::from_slice(&[1.0_f32, 0.0, -1.0, 2.0, 0.5, 1.0], &[3, 2]);
    let product = a.matmul(&b).unwrap();
    product.eval().unwrap();
    assert_eq!(product.shape(), &[2, 2]);
    assert_eq!(product.as_slice::<f32>(), &[0.5, 7.0, 2.0, 16.0]);
}

/// mlx-c names the half types on Arm alone.
#[test]
fn reads_half_floats() {
    let x = Array::from_slice(&[0.5_f32, -2.0], &[2]);
    let half = x.as_dtype(mlx_rs::Dtype::Float16).unwrap();
    half.eval().unwrap();
    let expected = [0.5, -2.0].map(half::f16::from_f32);
    assert_eq!(half.as_slice::<half::f16>(), &expected);
    assert_eq!(
        half.sum(None).unwrap().item_exact::<half::f16>(),
        half::f16::from_f32(-1.5)
    );
}
