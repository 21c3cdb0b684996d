//! From a file to memory, by several threads at a time.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use crate::{Error, Result, Stream, Tensor, TensorType, unfilled::Unfilled};

/// Threads that read together. A disk, too, is faster with several readers.
const READERS: usize = 4;
/// Bytes that a thread reads at a time.
const PART: usize = 8 << 20;
/// Fewer bytes than these are read sooner than a thread starts.
const LEAST_SHARED: usize = 1 << 20;

/// What can be read from any place, by several threads at a time.
pub trait Readable: Send + Sync {
    /// How many bytes there are.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    fn size(&self) -> io::Result<u64>;

    /// Reads as many bytes as `buffer` has from the place `offset`.
    ///
    /// # Errors
    ///
    /// If there are fewer, or they cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Readable for fs::File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Readable for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| Some(from..from.checked_add(buffer.len())?));
        let bytes = range.and_then(|range| self.get(range));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Where a tensor's bytes go.
pub(super) struct Destination {
    ty: TensorType,
    /// Where they are in the file.
    from: u64,
    memory: Memory,
}

enum Memory {
    Mlx(Unfilled),
    /// Of elements that MLX carries in a wider type, and of none.
    Packed(Vec<u8>),
}

impl Destination {
    /// Room for a tensor of which the bytes are at `from`.
    pub fn new(stream: &Stream, ty: TensorType, from: u64) -> Result<Self> {
        if let Some(error) = stream.device().refusal(ty.ty) {
            return Err(error);
        }
        let memory = if ty.ty.is_narrow() || ty.bytes() == 0 {
            Memory::Packed(packed(&ty)?)
        } else {
            Memory::Mlx(Unfilled::new(&ty)?)
        };
        Ok(Self { ty, from, memory })
    }

    /// The tensor, with what was read.
    pub fn into_tensor(self, stream: &Stream) -> Result<Tensor> {
        match self.memory {
            Memory::Mlx(memory) => Ok(Tensor::filled(stream, self.ty.ty, memory)),
            Memory::Packed(bytes) => Tensor::from_bytes(stream, &self.ty, &bytes),
        }
    }

    fn parts(&mut self) -> impl Iterator<Item = (u64, &mut [u8])> {
        let bytes = match &mut self.memory {
            Memory::Mlx(memory) => memory.bytes_mut(),
            Memory::Packed(bytes) => bytes,
        };
        let from = self.from;
        let parts = bytes.chunks_mut(PART).enumerate();
        parts.map(move |(number, part)| (from + (number * PART) as u64, part))
    }
}

/// Zeros, or an error where there is no memory for them: a file's size may be a claim, too.
fn packed(ty: &TensorType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(ty.bytes())
        .map_err(|error| Error::argument(format!("expected memory for {ty}, got: {error}")))?;
    bytes.resize(ty.bytes(), 0);
    Ok(bytes)
}

/// Reads what belongs there.
pub(super) fn fill(data: &dyn Readable, destinations: &mut [Destination]) -> io::Result<()> {
    let mut parts: Vec<_> = destinations
        .iter_mut()
        .flat_map(Destination::parts)
        .collect();
    parts.sort_unstable_by_key(|(from, _)| *from);
    let bytes: usize = parts.iter().map(|(_, part)| part.len()).sum();
    let helpers = if bytes < LEAST_SHARED { 0 } else { READERS - 1 };
    let parts = Mutex::new(parts.into_iter());
    let failure = OnceLock::new();
    let next = || match failure.get() {
        Some(_) => None,
        None => parts.lock().unwrap_or_else(PoisonError::into_inner).next(),
    };
    let read = || {
        while let Some((from, part)) = next() {
            if let Err(error) = data.read_exact_at(part, from) {
                // Of several failures one is enough.
                let _ = failure.set(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread can be had, there are fewer.
            let _ = thread::Builder::new().spawn_scoped(scope, read);
        }
        read();
    });
    failure.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{super::Tensors, *};
    use crate::{Device, install_error_handler};

    fn stream() -> Stream {
        install_error_handler();
        Stream::new(Device::Cpu).unwrap()
    }

    /// A file whose header claims what the rest need not hold.
    fn file(entries: &str, size: u64) -> Claim {
        let header = format!("{{{entries}}}");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        Claim {
            size: bytes.len() as u64 + size,
            header: bytes,
            reads: AtomicUsize::new(0),
        }
    }

    struct Claim {
        header: Vec<u8>,
        size: u64,
        reads: AtomicUsize,
    }

    impl Readable for &'static Claim {
        fn size(&self) -> io::Result<u64> {
            Ok(self.size)
        }

        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            if offset < self.header.len() as u64 {
                return self.header.read_exact_at(buffer, offset);
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            Err(io::Error::other("the disk is on fire"))
        }
    }

    fn leaked(entries: &str, size: u64) -> &'static Claim {
        Box::leak(Box::new(file(entries, size)))
    }

    fn refusal(claim: &'static Claim, names: &[&str]) -> String {
        let tensors = Tensors::new("x".into(), claim).unwrap();
        let types: Vec<_> = names
            .iter()
            .map(|name| tensors.tensor_type(name).unwrap())
            .collect();
        let wanted: Vec<_> = names.iter().copied().zip(&types).collect();
        let error = tensors.read(&stream(), &wanted).err().unwrap();
        error.to_string()
    }

    #[test]
    fn a_tensor_that_no_memory_holds_is_an_error() {
        let most = 1_u64 << 50;
        for ty in ["U8", "F8_E4M3"] {
            let entry = format!(
                r#""a":{{"dtype":"{ty}","shape":[{}, {}],"data_offsets":[0,{most}]}}"#,
                1 << 25,
                1 << 25
            );
            let claim = leaked(&entry, most);
            let error = refusal(claim, &["a"]);
            assert!(error.starts_with("x: a: expected "), "{error}");
            assert_eq!(claim.reads.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn reading_ends_with_the_first_failure() {
        let part = PART as u64;
        let entry = format!(
            r#""a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}},"b":{{"dtype":"U8","shape":[1],"data_offsets":[{0},{1}]}}"#,
            100 * part,
            100 * part + 1
        );
        let claim = leaked(&entry, 100 * part + 1);
        assert_eq!(refusal(claim, &["b"]), "x: the disk is on fire");
        assert_eq!(claim.reads.swap(0, Ordering::Relaxed), 1);
        assert_eq!(refusal(claim, &["a", "b"]), "x: the disk is on fire");
        assert!(claim.reads.load(Ordering::Relaxed) <= READERS);
    }
}
