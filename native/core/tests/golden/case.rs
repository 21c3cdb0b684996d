//! The golden files. `Emily.Golden.Case` in the recorder says what each field means.

use std::{collections::BTreeSet, fs, io::Read, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use emily_core::{Op, Shape, TensorType, Type};
use flate2::read::GzDecoder;
use serde::{Deserialize, Deserializer, de::Error};

const EXTENSION: &str = ".jsonl.gz";

#[derive(Deserialize)]
pub struct Case {
    pub op: Op,
    pub inputs: Vec<Input>,
    #[serde(alias = "out", deserialize_with = "one_or_more")]
    pub outs: Vec<Recorded>,
    pub infer: bool,
}

impl Case {
    /// Whether an input or a result is of this type.
    pub fn uses(&self, ty: Type) -> bool {
        let inputs = self.inputs.iter().map(|input| &input.tensor);
        inputs.chain(&self.outs).any(|tensor| tensor.ty == ty)
    }
}

#[derive(Deserialize)]
pub struct Input {
    #[serde(flatten)]
    pub tensor: Recorded,
    pub base: Option<Shape>,
    pub view: Option<Op>,
}

#[derive(Deserialize)]
pub struct Recorded {
    #[serde(rename = "type")]
    ty: Type,
    shape: Shape,
    #[serde(deserialize_with = "bytes")]
    pub data: Vec<u8>,
}

impl Recorded {
    pub fn tensor_type(&self) -> TensorType {
        TensorType {
            ty: self.ty,
            shape: self.shape.clone(),
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Recorded>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Outs {
        More(Vec<Recorded>),
        One(Recorded),
    }
    Ok(match Outs::deserialize(deserializer)? {
        Outs::More(outs) => outs,
        Outs::One(out) => vec![out],
    })
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(D::Error::custom)
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/golden")
}

/// Where those are that MLX's Python package computed, bit for bit.
pub fn of_mlx() -> PathBuf {
    folder().join("mlx/quantized")
}

/// The operations that have a file in the folder.
pub fn recorded(folder: PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(EXTENSION).map(ToOwned::to_owned))
        .collect()
}

/// The cases of one operation.
pub fn read(name: &str) -> Vec<Case> {
    let file = format!("{name}{EXTENSION}");
    let paths = [folder(), of_mlx()].map(|folder| folder.join(&file));
    let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let cases: Vec<Case> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(!cases.is_empty(), "{name} has no cases");
    cases
}
