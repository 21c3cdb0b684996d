//! Addresses in this process, handed out and taken in.

use std::io;

use crate::{
    Error, Result, Stream, Tensor, TensorType,
    mlx::{memory_limit, too_large},
};

/// A page's size or a fraction of it, on every system.
const PAGE: usize = 4096;

/// A tensor with a copy of the memory at `address`, row-major and in the host's byte order.
///
/// Nobody says for how long the memory will be there and stay as it is, so it cannot be read in place. Call
/// it off the schedulers.
///
/// # Errors
///
/// If there is no memory to read at `address`. Whether what is read is what the caller meant, nobody
/// can know.
pub fn tensor_at(stream: &Stream, ty: &TensorType, address: usize) -> Result<Tensor> {
    if ty.bytes() > memory_limit() {
        return Err(too_large(ty));
    }
    if !is_readable(address, ty.bytes()) {
        return Err(Error::argument(format!(
            "expected :address to have {} bytes that can be read, got: {address:#x}",
            ty.bytes()
        )));
    }
    // SAFETY: each of the pages was just read.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, ty.bytes()) };
    Tensor::from_bytes(stream, ty, bytes)
}

/// Whether each page of the range can be read. The system call answers that without a signal: it
/// copies a byte of each page into a pipe, and says which address it could not read.
fn is_readable(address: usize, len: usize) -> bool {
    let Some(end) = address.checked_add(len) else {
        return false;
    };
    if address == 0 {
        return false;
    }
    let Ok((mut reader, writer)) = io::pipe() else {
        return false;
    };
    let first = address / PAGE * PAGE;
    let mut pages = (first..end).step_by(PAGE).map(|page| page.max(address));
    pages.all(|page| probe(page, &mut reader, &writer))
}

#[cfg(unix)]
fn probe(address: usize, reader: &mut io::PipeReader, writer: &io::PipeWriter) -> bool {
    use std::{io::Read, os::fd::AsRawFd};

    // SAFETY: the descriptor is open; an address that cannot be read makes the call fail.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, 1) };
    written == 1 && reader.read_exact(&mut [0]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Shape, Type, install_error_handler};

    fn bytes_at(address: usize, len: i64) -> Result<Vec<u8>> {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let ty = TensorType {
            ty: Type::U8,
            shape: Shape::new(&[len]).unwrap(),
        };
        let tensor = tensor_at(&stream, &ty, address)?;
        Ok(tensor.bytes().unwrap().to_vec())
    }

    #[test]
    fn copies_what_lies_at_an_address() {
        let numbers: Vec<u8> = (0..20_000).map(|at| (at % 251) as u8).collect();
        let address = numbers.as_ptr() as usize;
        assert_eq!(bytes_at(address, 20_000).unwrap(), numbers);
        assert_eq!(bytes_at(address + 3, 5).unwrap(), numbers[3..8]);
        assert!(bytes_at(address, 0).unwrap().is_empty());
    }

    #[test]
    fn refuses_addresses_without_memory() {
        for (address, len) in [
            (0, 4),
            (0, 0),
            (64, 4),
            (usize::MAX - 2, 4),
            (usize::MAX - 3, 4),
        ] {
            let error = bytes_at(address, len).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "expected :address to have {len} bytes that can be read, got: {address:#x}"
                )
            );
        }
    }
}
