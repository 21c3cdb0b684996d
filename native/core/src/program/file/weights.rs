//! Tensors in safetensors files.

use std::{borrow::Cow, fmt, fs, path::Path};

use safetensors::tensor::{Dtype, Metadata, TensorInfo, View};

use super::{
    distinct::Distinct,
    reading::{Destination, Readable, fill},
};
use crate::{Error, Result, Shape, Stream, Tensor, TensorType, Type};

/// A header larger than this is none: it has room for a hundred thousand tensors.
const LARGEST_HEADER: u64 = 16 << 20;

/// The tensors of one file. No more of it is in memory than the tensors that are being read, and these are read to
/// where MLX computes with them.
pub struct Tensors {
    /// Its path, for errors.
    path: String,
    metadata: Metadata,
    /// Where the header ends.
    start: u64,
    data: Box<dyn Readable>,
}

impl Tensors {
    /// The tensors of the file at `path`.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is no safetensors file, or was cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = fs::File::open(path).map_err(|error| io(&name, &error))?;
        Self::new(name, file)
    }

    /// The tensors in `data`, which errors call `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn new(path: String, data: impl Readable + 'static) -> Result<Self> {
        let broken = |text: String| Error::argument(format!("{path}: {text}"));
        let size = data.size().map_err(|error| io(&path, &error))?;
        let mut length = [0; 8];
        data.read_exact_at(&mut length, 0)
            .map_err(|_| broken(format!("expected a header's size, got: {size} bytes")))?;
        let length = u64::from_le_bytes(length);
        let start = length.checked_add(8).filter(|&start| start <= size);
        let Some(start) = start.filter(|_| length <= LARGEST_HEADER) else {
            let most = LARGEST_HEADER.min(size.saturating_sub(8));
            return Err(broken(format!(
                "expected a header of at most {most} bytes, got: one of {length}"
            )));
        };
        let mut header = vec![0; length as usize];
        data.read_exact_at(&mut header, 8)
            .map_err(|error| io(&path, &error))?;
        let malformed = |error| broken(format!("expected a safetensors header, got: {error}"));
        // A map takes the last of several entries.
        serde_json::from_slice::<Distinct>(&header).map_err(malformed)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(malformed)?;
        let end = start.checked_add(metadata.data_len() as u64);
        if end != Some(size) {
            return Err(broken(format!(
                "expected {} bytes of tensors, got: {}",
                metadata.data_len(),
                size - start
            )));
        }
        Ok(Self {
            path,
            metadata,
            start,
            data: Box::new(data),
        })
    }

    /// The names of the tensors, in the order in which they lie in the file.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The type and shape of the tensor of this name.
    ///
    /// # Errors
    ///
    /// If there is none, or it is of a type that Nx does not have.
    pub fn tensor_type(&self, name: &str) -> Result<TensorType> {
        let info = self.info(name)?;
        let ty = from_dtype(info.dtype).ok_or_else(|| {
            self.broken(format!(
                "expected {name} to be of a type of Nx, got: {}",
                info.dtype
            ))
        })?;
        Ok(TensorType {
            ty,
            shape: shape(info).map_err(|error| self.broken(error.to_string()))?,
        })
    }

    /// That there is a tensor of this name, type and shape.
    pub(super) fn check(&self, name: &str, ty: &TensorType) -> Result<()> {
        let info = self.info(name)?;
        let (dtype, dims) = stored(ty);
        // Booleans are bytes of 0 and 1.
        let same = info.dtype == dtype || (info.dtype == Dtype::BOOL && dtype == Dtype::U8);
        if same && info.shape == dims {
            return Ok(());
        }
        Err(self.broken(format!(
            "expected {name} to be {dtype} {dims:?}, for {ty}, got: {} {:?}",
            info.dtype, info.shape
        )))
    }

    /// The tensors of these names, types and shapes, on the stream's device.
    ///
    /// # Errors
    ///
    /// If the file has no such tensor or cannot be read, the device lacks a type, or memory the room.
    pub fn read(&self, stream: &Stream, wanted: &[(&str, &TensorType)]) -> Result<Vec<Tensor>> {
        let about = |name: &str, error: Error| self.broken(format!("{name}: {error}"));
        let mut destinations = Vec::with_capacity(wanted.len());
        for &(name, ty) in wanted {
            self.check(name, ty)?;
            let from = self.start + self.info(name)?.data_offsets.0 as u64;
            let destination = Destination::new(stream, ty.clone(), from);
            destinations.push(destination.map_err(|error| about(name, error))?);
        }
        fill(&*self.data, &mut destinations).map_err(|error| io(&self.path, &error))?;
        let tensors = wanted
            .iter()
            .zip(destinations)
            .map(|((name, _), destination)| {
                let tensor = destination.into_tensor(stream);
                tensor.map_err(|error| about(name, error))
            });
        tensors.collect()
    }

    /// The path of a file in the same folder, for errors.
    pub(super) fn beside(&self, name: &str) -> String {
        Path::new(&self.path)
            .with_file_name(name)
            .display()
            .to_string()
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).ok_or_else(|| {
            self.broken(format!(
                "expected a tensor {name:?}, got: none of that name"
            ))
        })
    }

    fn broken(&self, text: String) -> Error {
        Error::argument(format!("{}: {text}", self.path))
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        formatter.debug_tuple("Tensors").field(&names).finish()
    }
}

/// Writes tensors, which must be readable, to a safetensors file.
///
/// # Errors
///
/// If the file cannot be written.
pub fn save_tensors(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| {
        let (dtype, shape) = stored(&tensor.tensor_type());
        let bytes = tensor.bytes().ok_or_else(|| {
            Error::argument(format!(
                "expected {name} to be computed, got: one that is not"
            ))
        })?;
        Ok((
            *name,
            Stored {
                dtype,
                shape,
                bytes,
            },
        ))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    safetensors::serialize_to_file(views, None, path)
        .map_err(|error| Error::argument(format!("{}: {error}", path.display())))
}

struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// How safetensors files have it: elements of less than a byte, which they have no type for, as the
/// bytes that hold them.
fn stored(ty: &TensorType) -> (Dtype, Vec<usize>) {
    let dtype = match ty.ty {
        Type::U2 | Type::U4 | Type::S2 | Type::S4 => return (Dtype::U8, vec![ty.bytes()]),
        Type::U8 => Dtype::U8,
        Type::U16 => Dtype::U16,
        Type::U32 => Dtype::U32,
        Type::U64 => Dtype::U64,
        Type::S8 => Dtype::I8,
        Type::S16 => Dtype::I16,
        Type::S32 => Dtype::I32,
        Type::S64 => Dtype::I64,
        Type::F8E5M2 => Dtype::F8_E5M2,
        Type::F8E4M3FN => Dtype::F8_E4M3,
        Type::F16 => Dtype::F16,
        Type::Bf16 => Dtype::BF16,
        Type::F32 => Dtype::F32,
        Type::F64 => Dtype::F64,
        Type::C64 => Dtype::C64,
    };
    let dims = ty.shape.dims().iter().map(|&dim| dim as usize);
    (dtype, dims.collect())
}

fn from_dtype(dtype: Dtype) -> Option<Type> {
    let scalar = |ty| TensorType {
        ty,
        shape: Shape::default(),
    };
    let mut types = Type::ALL.into_iter().filter(|ty| ty.bits() >= 8);
    match dtype {
        Dtype::BOOL => Some(Type::U8),
        _ => types.find(|&ty| stored(&scalar(ty)).0 == dtype),
    }
}

fn shape(info: &TensorInfo) -> Result<Shape> {
    let dims = info
        .shape
        .iter()
        .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX));
    Shape::new(&dims.collect::<Vec<_>>())
}

pub(super) fn io(path: &str, error: &std::io::Error) -> Error {
    Error::argument(format!("{path}: {error}"))
}
