//! The two small files beside an asset: its checksum and the signature over that.

use std::{fs, io::Read, path::Path};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// Neither small file is larger, so a reader need not hold more.
pub const MAX_BYTES: u64 = 16 << 10;

/// The sidecar's name.
pub fn name(asset: &str) -> String {
    format!("{asset}.sha256")
}

/// The signature's name.
pub fn signature_name(asset: &str) -> String {
    format!("{asset}.sha256.minisig")
}

/// The sidecar's text, as `sha256sum` writes it.
pub fn text(sha256: &str, asset: &str) -> String {
    format!("{sha256}  {asset}\n")
}

/// The checksum in the sidecar of `asset`; any other form than [`text`]'s is refused.
pub fn parse(bytes: &[u8], asset: &str) -> Result<String> {
    let form = "64 lower-case hexadecimal digits, two spaces, a file name and a line feed";
    let Some((sha256, named)) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
        .and_then(|line| line.split_once("  "))
        .filter(|(sha256, named)| is_sha256(sha256) && !named.contains('\n'))
    else {
        bail!("expected {form}, got: {:?}", String::from_utf8_lossy(bytes));
    };
    if named != asset {
        bail!("expected the checksum of {asset}, got that of: {named}");
    }
    Ok(sha256.to_owned())
}

/// Whether `text` has the form of a checksum.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of the file at `path`.
pub fn sha256_of(path: &Path) -> Result<String> {
    let context = || format!("hashing {}", path.display());
    let mut file = fs::File::open(path).with_context(context)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn a_sidecar_reads_back() {
        let sha256 = "0123456789abcdef".repeat(4);
        assert_eq!(
            parse(text(&sha256, "a.tar.gz").as_bytes(), "a.tar.gz").unwrap(),
            sha256
        );
    }

    #[test]
    fn other_forms_are_refused() {
        let sha256 = "0123456789abcdef".repeat(4);
        for (bytes, message) in [
            (format!("{sha256}  b.tar.gz\n"), "got that of: b.tar.gz"),
            (format!("{sha256} *a.tar.gz\n"), "expected 64 lower-case"),
            (format!("{sha256}  a.tar.gz"), "expected 64 lower-case"),
            (format!("{sha256}  a.tar.gz\r\n"), "got that of: a.tar.gz\r"),
            (
                format!("{sha256}  a.tar.gz\n{sha256}  b\n"),
                "expected 64 lower-case",
            ),
            (
                format!("{}  a.tar.gz\n", sha256.to_uppercase()),
                "expected 64 lower-case",
            ),
            (
                format!("{}  a.tar.gz\n", &sha256[1..]),
                "expected 64 lower-case",
            ),
            (String::new(), "expected 64 lower-case"),
        ] {
            let error = parse(bytes.as_bytes(), "a.tar.gz").unwrap_err().to_string();
            assert!(error.contains(message), "{bytes:?}: {error}");
        }
    }
}
