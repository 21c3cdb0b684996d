//! What this library is and what it found.

use emily_core::{Device, mlx_version};
use rustler::NifMap;

/// Facts for the doctor.
#[derive(NifMap)]
struct Info {
    version: String,
    mlx: String,
    nif: String,
    devices: Vec<Device>,
}

/// The library's version, MLX's version, the NIF version it was built for, and the devices found.
#[rustler::nif]
fn info() -> Result<Info, String> {
    Ok(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mlx: mlx_version().map_err(|error| error.to_string())?,
        // The feature `nif_version_2_17` of rustler in Cargo.toml.
        nif: "2.17".to_owned(),
        devices: Device::available(),
    })
}
