//! Reads a tar archive entry by entry, as strictly as the Elixir installer does.
//!
//! The crate that packs archives would read them too, but it takes forms that nobody writes here:
//! headers without a format, sizes that are not octal, archives without an end. Both verifiers must
//! say the same of every archive.

use std::io::{self, Read};

use tar::Header;

const BLOCK: usize = 512;

/// An entry's header, with what is needed of it read.
pub struct Entry {
    /// The header as it is.
    pub header: Header,
    /// The whole name.
    pub name: Vec<u8>,
    /// How many bytes follow.
    pub size: u64,
}

/// A stream of entries.
pub struct Entries<R> {
    source: R,
    /// What is left of the entry before.
    left: u64,
    padding: u64,
}

impl<R: Read> Entries<R> {
    /// The entries of the tar archive that `source` gives.
    pub fn new(source: R) -> Self {
        Self {
            source,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry, after what was not read of the one before; none at the archive's end.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        self.skip(self.left + self.padding)?;
        let mut block = [0; BLOCK];
        self.source.read_exact(&mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            self.left = 0;
            self.padding = 0;
            return Ok(None);
        }
        let entry = read(&block)?;
        self.left = entry.size;
        self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
        Ok(Some(entry))
    }

    /// What stands behind the end.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.source.by_ref().take(count), &mut io::sink())?;
        if skipped == count {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Reads the bytes of the entry that came last.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn read(block: &[u8; BLOCK]) -> io::Result<Entry> {
    let sum = octal(&block[148..156], "checksum")?;
    let counted: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            u64::from(if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            })
        })
        .sum();
    if sum != counted {
        return Err(io::Error::other("a header's checksum does not match"));
    }
    if &block[257..262] != b"ustar" {
        return Err(io::Error::other("a header is neither ustar nor GNU"));
    }
    let size = octal(&block[124..136], "size")?;
    octal(&block[100..108], "mode")?;
    let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
    let name = if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    };
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    Ok(Entry { header, name, size })
}

/// A field up to its first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8], what: &str) -> io::Result<u64> {
    let digits = trimmed(text(field));
    let is_octal = !digits.is_empty() && digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
    if !is_octal {
        return Err(io::Error::other(format!(
            "a header's {what} is no octal number"
        )));
    }
    // Twelve digits at most.
    Ok(digits
        .iter()
        .fold(0, |number, digit| number * 8 + u64::from(digit - b'0')))
}

/// A field without the spaces on either side; other white space stays.
fn trimmed(field: &[u8]) -> &[u8] {
    let start = field.iter().position(|byte| *byte != b' ');
    let end = field.iter().rposition(|byte| *byte != b' ');
    match (start, end) {
        (Some(start), Some(end)) => &field[start..=end],
        _ => &[],
    }
}
