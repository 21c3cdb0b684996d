//! `release/keys.json`: the public keys that sign releases, each with the versions that it signs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    signing::{self, PublicKey},
    workspace,
};

/// The list's place, in the repository and in the package.
pub const NAME: &str = "release/keys.json";
/// The form described here; a reader refuses any other.
const SCHEMA: u32 = 1;

/// The list as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entries {
    schema: u32,
    /// A key each.
    pub keys: Vec<Entry>,
}

/// One key as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// As minisign prints it: it says which key made a signature.
    pub id: String,
    /// The second line of minisign's public key file.
    pub public: String,
    /// The first version that the key signs.
    pub from: String,
    /// The first version that it no longer signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Why the key is good for nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
}

/// The keys that a signature may be by.
#[derive(Debug)]
pub struct Keyring(Vec<Key>);

/// A public key and what it is good for.
#[derive(Debug)]
pub struct Key {
    /// As minisign prints it.
    pub id: String,
    public: PublicKey,
    from: Option<Version>,
    before: Option<Version>,
    retired: Option<String>,
}

impl Entries {
    /// Reads the list in the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        Self::parse(&text).with_context(context)
    }

    /// The list in the file at `path`; without such a file, one without keys.
    pub fn load_or_none(path: &Path) -> Result<Self> {
        if path.exists() {
            return Self::load(path);
        }
        Ok(Self {
            schema: SCHEMA,
            keys: vec![],
        })
    }

    fn parse(text: &str) -> Result<Self> {
        let entries: Self = serde_json::from_str(text).context("expected a list of keys")?;
        ensure!(
            entries.schema == SCHEMA,
            "expected a list of keys, schema {SCHEMA}, got: {}",
            entries.schema
        );
        Ok(entries)
    }

    /// The list's text.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A list of the key in `public`, minisign's two lines, which signs every version.
    pub fn of(public: &str) -> Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            keys: vec![Entry::new(public, "0.0.0-0")?],
        })
    }
}

impl Entry {
    /// The key in `public`, minisign's two lines, which signs from version `from` on.
    pub fn new(public: &str, from: &str) -> Result<Self> {
        let encoded = public.lines().nth(1).unwrap_or_default();
        Ok(Self {
            id: signing::key_id(encoded).context("expected a minisign public key")?,
            public: encoded.to_owned(),
            from: from.to_owned(),
            before: None,
            retired: None,
        })
    }
}

impl Keyring {
    /// The key in `file`, minisign's two lines, for every version; else the repository's list.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let path = file.map_or_else(Self::default_path, Path::to_owned);
        let missing = || {
            Failure::new(
                "there is no public key to verify with",
                "cargo xtask keygen --secret-key FILE",
            )
            .fact("path", path.display())
        };
        if !path.exists() {
            return Err(missing().into());
        }
        let keyring = match file {
            Some(_) => PublicKey::load(&path).map(Self::of),
            None => Entries::load(&path).and_then(|entries| Self::new(&entries)),
        }?;
        if keyring.is_empty() {
            return Err(missing().into());
        }
        Ok(keyring)
    }

    /// Where the repository keeps the list.
    pub fn default_path() -> PathBuf {
        workspace::root().join(NAME)
    }

    /// The keys of a list's text.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::new(&Entries::parse(text)?)
    }

    /// The keys of a list.
    pub fn new(entries: &Entries) -> Result<Self> {
        let mut keys: Vec<Key> = Vec::new();
        for entry in &entries.keys {
            let key = Key::new(entry).with_context(|| format!("the key {}", entry.id))?;
            ensure!(
                keys.iter().all(|other| other.id != key.id),
                "expected each key once, got: {} twice",
                key.id
            );
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// One key, which signs every version.
    pub fn of(public: PublicKey) -> Self {
        Self(vec![Key {
            id: public.id.clone(),
            public,
            from: None,
            before: None,
            retired: None,
        }])
    }

    /// The key that made `signature` over `sidecar` for `asset`, if it signs `version`.
    pub fn verify(
        &self,
        sidecar: &[u8],
        signature: &[u8],
        asset: &str,
        version: &str,
    ) -> Result<&Key> {
        let text = std::str::from_utf8(signature).context("expected a minisign signature")?;
        let encoded = text.lines().nth(1).unwrap_or_default();
        let id = signing::key_id(encoded).context("expected a minisign signature")?;
        let Some(key) = self.0.iter().find(|key| key.id == id) else {
            bail!(
                "expected a signature by {}, got: one by the key {id}",
                self.names()
            );
        };
        key.check(version)?;
        key.public.verify(sidecar, signature, asset)?;
        Ok(key)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some key signs `version`.
    pub fn signs(&self, version: &str) -> bool {
        self.0.iter().any(|key| key.check(version).is_ok())
    }

    fn names(&self) -> String {
        let ids: Vec<_> = self.0.iter().map(|key| key.id.as_str()).collect();
        match ids.as_slice() {
            [id] => format!("the key {id}"),
            ids => format!("one of the keys {}", ids.join(", ")),
        }
    }
}

impl Key {
    fn new(entry: &Entry) -> Result<Self> {
        let version = |text: &String| {
            Version::parse(text)
                .with_context(|| format!("expected a version such as 1.2.3, got: {text:?}"))
        };
        let public = PublicKey::from_encoded(&entry.public)?;
        ensure!(
            public.id == entry.id,
            "expected the key {}, got: the key {}",
            entry.id,
            public.id
        );
        Ok(Self {
            id: entry.id.clone(),
            public,
            from: Some(version(&entry.from)?),
            before: entry.before.as_ref().map(version).transpose()?,
            retired: entry.retired.clone(),
        })
    }

    /// Fails unless the key signs `version`.
    fn check(&self, version: &str) -> Result<()> {
        if let Some(reason) = &self.retired {
            bail!(
                "expected a signature by a key that is in use, got: one by the key {}, which is \
                 retired: {reason}",
                self.id
            );
        }
        if self.from.is_none() && self.before.is_none() {
            return Ok(());
        }
        // Versions that differ in what was added about the build are one version.
        let signs = Version::parse(version).is_ok_and(|version| {
            let from = self.from.as_ref();
            let before = self.before.as_ref();
            from.is_none_or(|from| version.cmp_precedence(from).is_ge())
                && before.is_none_or(|before| version.cmp_precedence(before).is_lt())
        });
        ensure!(
            signs,
            "expected a signature by a key for version {version}, got: one by the key {}, which \
             is for versions {}",
            self.id,
            self.range()
        );
        Ok(())
    }

    fn range(&self) -> String {
        let shown =
            |word, version: &Option<Version>| version.as_ref().map(|v| format!("{word} {v}"));
        let ends = [shown("from", &self.from), shown("before", &self.before)];
        ends.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}
