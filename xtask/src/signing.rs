//! Signing a sidecar, and checking its signature: minisign, prehashed.

use std::{fs, io::Cursor, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{failure::Failure, settings, sidecar, workspace};

/// The secret half, which signs releases.
pub struct SecretKey(minisign::SecretKey);

/// The public half, which ships in the package.
pub struct PublicKey(minisign_verify::PublicKey);

/// The public key's file, within the repository.
const PUBLIC_KEY: &str = "release/emily.pub";
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
    /// The key in `file`, else the repository's own.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let path = file.map_or_else(Self::default_path, Path::to_owned);
        if !path.exists() {
            return Err(Failure::new(
                "there is no public key to verify with",
                "cargo xtask keygen --secret-key FILE",
            )
            .fact("path", path.display())
            .into());
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::from_text(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Where the repository keeps the public key.
    pub fn default_path() -> std::path::PathBuf {
        workspace::root().join(PUBLIC_KEY)
    }

    /// Reads minisign's two-line form.
    pub fn from_text(text: &str) -> Result<Self> {
        minisign_verify::PublicKey::decode(text)
            .map(Self)
            .map_err(|error| anyhow!("expected a minisign public key: {error}"))
    }

    /// Fails unless `signature` is this key's, over `sidecar`, made for `asset`.
    pub fn verify(&self, sidecar: &[u8], signature: &[u8], asset: &str) -> Result<()> {
        let text = std::str::from_utf8(signature).context("expected a minisign signature")?;
        let signature = minisign_verify::Signature::decode(text)
            .map_err(|error| anyhow!("expected a minisign signature: {error}"))?;
        self.0
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
