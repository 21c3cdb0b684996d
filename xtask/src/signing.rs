//! Signing a sidecar, and checking its signature: minisign, prehashed.

use std::{fs, io::Cursor, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{failure::Failure, settings, sidecar};

/// The secret half, which signs releases.
pub struct SecretKey(minisign::SecretKey);

/// The public half, which ships in the package.
#[derive(Debug)]
pub struct PublicKey {
    /// As minisign prints it.
    pub id: String,
    key: minisign_verify::PublicKey,
}

/// The comment that a signature vouches for. It names the file, so that the signature of one
/// asset cannot stand in for another's.
fn trusted_comment(asset: &str) -> String {
    format!("file:{}", sidecar::name(asset))
}

impl SecretKey {
    /// The key in `file`, else the one that `EMILY_SECRET_KEY` holds.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        match (file, settings::secret_key()) {
            (Some(path), _) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                Self::from_text(&text).with_context(|| format!("reading {}", path.display()))
            }
            (None, Some(text)) => Self::from_text(&text).context("reading EMILY_SECRET_KEY"),
            (None, None) => Err(Failure::new(
                "no secret key to sign with: neither --secret-key nor EMILY_SECRET_KEY is given",
                "cargo xtask keygen --secret-key FILE",
            )
            .into()),
        }
    }

    /// Reads minisign's two-line form, without a password.
    pub fn from_text(text: &str) -> Result<Self> {
        let key = minisign::SecretKeyBox::from_string(text)
            .and_then(|key| key.into_secret_key(Some(String::new())))
            .map_err(|error| {
                anyhow!("expected a minisign secret key without a password: {error}")
            })?;
        Ok(Self(key))
    }

    /// The signature over the bytes of the sidecar of `asset`.
    pub fn sign(&self, sidecar: &[u8], asset: &str) -> Result<String> {
        let comment = trusted_comment(asset);
        minisign::sign(
            None,
            &self.0,
            Cursor::new(sidecar),
            Some(&comment),
            Some("signature from Emily's release key"),
        )
        .map(|signature| signature.into_string())
        .with_context(|| format!("signing {}", sidecar::name(asset)))
    }
}

impl PublicKey {
    /// The key in `file`, minisign's two lines.
    pub fn load(file: &Path) -> Result<Self> {
        let context = || format!("reading {}", file.display());
        let text = fs::read_to_string(file).with_context(context)?;
        Self::from_text(&text).with_context(context)
    }

    /// Reads minisign's two-line form.
    pub fn from_text(text: &str) -> Result<Self> {
        let lines: Vec<_> = text.trim_end().lines().collect();
        match lines.as_slice() {
            [comment, encoded] if comment.starts_with("untrusted comment:") => {
                Self::from_encoded(encoded)
            }
            _ => bail!("expected a minisign public key of two lines"),
        }
    }

    /// Reads the second line of that form.
    pub fn from_encoded(encoded: &str) -> Result<Self> {
        let key = minisign_verify::PublicKey::from_base64(encoded)
            .map_err(|error| anyhow!("expected a minisign public key: {error}"))?;
        let id = key_id(encoded).context("expected a minisign public key")?;
        Ok(Self { id, key })
    }

    /// Fails unless `signature` is this key's, over `sidecar`, made for `asset`.
    pub fn verify(&self, sidecar: &[u8], signature: &[u8], asset: &str) -> Result<()> {
        let text = std::str::from_utf8(signature).context("expected a minisign signature")?;
        if !has_signature_form(text) {
            bail!("expected a minisign signature of four lines");
        }
        let signature = minisign_verify::Signature::decode(text)
            .map_err(|error| anyhow!("expected a minisign signature: {error}"))?;
        self.key
            .verify(sidecar, &signature, false)
            .map_err(|error| anyhow!("the signature does not hold: {error}"))?;
        let expected = trusted_comment(asset);
        if signature.trusted_comment() != expected {
            bail!(
                "expected the signature's trusted comment to be {expected}, got: {}",
                signature.trusted_comment()
            );
        }
        Ok(())
    }
}

/// Whether a text has the four lines of a signature, each with its line feed, and nothing else.
fn has_signature_form(text: &str) -> bool {
    let lines: Vec<_> = text.split('\n').collect();
    matches!(lines.as_slice(), [comment, _, _, _, ""] if comment.starts_with("untrusted comment: "))
        && !text.contains('\r')
}

/// The identifier in an encoded key or signature, as minisign prints it.
pub fn key_id(encoded: &str) -> Option<String> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let id = bytes.get(2..10)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}
