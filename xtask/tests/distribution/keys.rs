//! Keys, sidecars and signatures.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use xtask::{
    keygen::{self, KeyPair, Plan},
    keyring::{Entries, Keyring},
    sign::sign,
    signing::{PublicKey, SecretKey},
};

use crate::world::{World, names};

const ASSET: &str = "a.tar.gz";
const SIDECAR: &[u8] = b"text of a sidecar";

#[test]
fn a_signature_holds_for_its_key_file_and_text_alone() {
    let (ours, theirs) = (keygen::generate().unwrap(), keygen::generate().unwrap());
    let secret = SecretKey::from_text(&ours.secret).unwrap();
    let public = PublicKey::from_text(&ours.public).unwrap();
    let signature = secret.sign(SIDECAR, ASSET).unwrap();
    public.verify(SIDECAR, signature.as_bytes(), ASSET).unwrap();

    let lines: Vec<_> = signature.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2], "trusted comment: file:a.tar.gz.sha256");

    let foreign = SecretKey::from_text(&theirs.secret)
        .unwrap()
        .sign(SIDECAR, ASSET)
        .unwrap();
    let retitled = signature.replace("file:a.tar.gz", "file:b.tar.gz");
    for (sidecar, signature, asset, reason) in [
        (
            b"another text".as_slice(),
            signature.clone(),
            ASSET,
            "the signature does not hold",
        ),
        (SIDECAR, foreign, ASSET, "the signature does not hold"),
        (SIDECAR, retitled, "b.tar.gz", "the signature does not hold"),
        (
            SIDECAR,
            signature.clone(),
            "b.tar.gz",
            "got: file:a.tar.gz.sha256",
        ),
        (
            SIDECAR,
            lines[..2].join("\n"),
            ASSET,
            "expected a minisign signature",
        ),
        (
            SIDECAR,
            String::new(),
            ASSET,
            "expected a minisign signature",
        ),
    ] {
        let error = public
            .verify(sidecar, signature.as_bytes(), asset)
            .unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{reason}: {error:#}");
    }
    assert!(public.verify(SIDECAR, b"\xff", ASSET).is_err());
}

#[test]
fn a_signature_without_the_hash_step_is_refused() {
    // minisign's older form signs the text itself; the algorithm's name is all that tells.
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let pair = keygen::generate().unwrap();
    let secret = SecretKey::from_text(&pair.secret).unwrap();
    let public = PublicKey::from_text(&pair.public).unwrap();
    let signature = secret.sign(SIDECAR, ASSET).unwrap();
    let mut lines: Vec<_> = signature.lines().map(str::to_owned).collect();
    let mut bytes = STANDARD.decode(&lines[1]).unwrap();
    assert_eq!(&bytes[..2], b"ED");
    bytes[..2].copy_from_slice(b"Ed");
    lines[1] = STANDARD.encode(bytes);
    assert!(
        public
            .verify(SIDECAR, lines.join("\n").as_bytes(), ASSET)
            .is_err()
    );
}

/// A repository with an empty list of keys, and a plan for a first one.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("repository")).unwrap();
        fs::write(
            folder.path().join("repository/keys.json"),
            "{\"schema\": 1, \"keys\": []}",
        )
        .unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, secret: &str, from: &str, rotate: bool) -> anyhow::Result<KeyPair> {
        keygen::write(&Plan {
            secret: &self.path(secret),
            keys: &self.path("repository/keys.json"),
            repository: &self.path("repository"),
            from,
            rotate,
        })
    }

    fn entries(&self) -> Entries {
        Entries::load(&self.path("repository/keys.json")).unwrap()
    }

    /// What is said of a signature by the key in `secret` for `version`; nothing if it holds.
    fn verdict(&self, secret: &str, version: &str) -> String {
        let signature = SecretKey::load(Some(&self.path(secret)))
            .unwrap()
            .sign(SIDECAR, ASSET)
            .unwrap();
        Keyring::new(&self.entries())
            .unwrap()
            .verify(SIDECAR, signature.as_bytes(), ASSET, version)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }
}

#[test]
fn a_key_is_private_and_public() {
    let repository = Repository::new();
    let pair = repository.write("new/key", "0.8.0", false).unwrap();
    let secret = repository.path("new/key");
    assert_eq!(fs::read_to_string(&secret).unwrap(), pair.secret);
    assert_eq!(
        fs::metadata(&secret).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let [entry] = repository.entries().keys.try_into().unwrap();
    assert_eq!(pair.public.lines().nth(1), Some(entry.public.as_str()));
    assert!(pair.public.contains(&entry.id), "{}", pair.public);
    assert_eq!(
        (entry.from.as_str(), entry.before, entry.retired),
        ("0.8.0", None, None)
    );
    assert_eq!(repository.verdict("new/key", "0.8.0"), "");
}

#[test]
fn keys_are_added_rotated_and_retired() {
    let repository = Repository::new();
    repository.write("old", "0.8.0-dev", false).unwrap();
    // Both are good from the second one's first version on.
    repository.write("spare", "0.9.0", false).unwrap();
    assert_eq!(repository.verdict("old", "0.9.0"), "");
    assert_eq!(repository.verdict("spare", "0.9.0+linux"), "");
    let ids = |repository: &Repository| -> Vec<String> {
        let keys = repository.entries().keys;
        keys.into_iter().map(|key| key.id).collect()
    };
    let [old, spare] = ids(&repository).try_into().unwrap();
    assert_eq!(
        repository.verdict("spare", "0.9.0-rc.1"),
        format!(
            "expected a signature by a key for version 0.9.0-rc.1, got: one by the key {spare}, \
             which is for versions from 0.9.0"
        )
    );

    repository.write("new", "1.0.0", true).unwrap();
    let said = |id: &str, range: &str| {
        format!(
            "expected a signature by a key for version 1.0.0, got: one by the key {id}, which is \
             for versions {range}"
        )
    };
    assert_eq!(
        repository.verdict("old", "1.0.0"),
        said(&old, "from 0.8.0-dev and before 1.0.0")
    );
    assert_eq!(
        repository.verdict("spare", "1.0.0"),
        said(&spare, "from 0.9.0 and before 1.0.0")
    );
    for (secret, version) in [("old", "0.8.3"), ("spare", "1.0.0-rc.1"), ("new", "1.0.0")] {
        assert_eq!(repository.verdict(secret, version), "", "{secret}");
    }

    let keys = repository.path("repository/keys.json");
    keygen::retire(&keys, &spare, "lost with a laptop").unwrap();
    assert_eq!(
        repository.verdict("spare", "0.9.0"),
        format!(
            "expected a signature by a key that is in use, got: one by the key {spare}, which is \
             retired: lost with a laptop"
        )
    );
    assert_eq!(repository.verdict("old", "0.9.0"), "");

    let error = keygen::retire(&keys, "0123456789ABCDEF", "").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "expected --retire to be one of {}, got: 0123456789ABCDEF",
            ids(&repository).join(", ")
        )
    );
}

#[test]
fn a_key_that_signed_nothing_is_retired_and_not_rotated() {
    let repository = Repository::new();
    repository.write("first", "0.9.0", false).unwrap();
    let text = fs::read_to_string(repository.path("repository/keys.json")).unwrap();
    let error = repository.write("second", "0.9.0", true).err().unwrap();
    let id = &repository.entries().keys[0].id;
    assert!(
        error.to_string().ends_with(&format!(
            "Run next: cargo xtask keygen --retire {id} --reason \"never used\""
        )),
        "{error}"
    );
    assert!(!repository.path("second").exists());
    assert_eq!(
        fs::read_to_string(repository.path("repository/keys.json")).unwrap(),
        text
    );
}

#[test]
fn a_secret_key_never_lands_in_the_repository() {
    let repository = Repository::new();
    std::os::unix::fs::symlink(repository.path("repository"), repository.path("link")).unwrap();
    for secret in [
        "repository/key",
        "repository/new/key",
        "link/key",
        "repository/../repository/key",
    ] {
        let error = repository
            .write(secret, "0.8.0", false)
            .err()
            .unwrap_or_else(|| panic!("{secret}"));
        let text = error.to_string();
        assert!(
            text.starts_with("a secret key must not be inside the repository\n"),
            "{text}"
        );
        assert!(text.contains("Run next: cargo xtask keygen"), "{text}");
    }
    assert_eq!(names(&repository.path("repository")), ["keys.json"]);
    assert!(repository.entries().keys.is_empty());
}

#[test]
fn a_key_never_replaces_a_file() {
    let repository = Repository::new();
    fs::write(repository.path("there"), "precious").unwrap();
    let error = repository.write("there", "0.8.0", false).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("a key is never written over an existing file\n"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(repository.path("there")).unwrap(),
        "precious"
    );
    assert!(repository.entries().keys.is_empty());
}

#[test]
fn anything_but_a_key_is_refused() {
    for text in ["", "one line", "untrusted comment: x\nnot base64!\n"] {
        assert!(PublicKey::from_text(text).is_err(), "{text:?}");
        assert!(SecretKey::from_text(text).is_err(), "{text:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("emily.pub");
    let error = Keyring::load(Some(&missing)).err().unwrap().to_string();
    assert!(
        error.starts_with("there is no public key to verify with\n"),
        "{error}"
    );
    assert!(
        error.ends_with("Run next: cargo xtask keygen --secret-key FILE"),
        "{error}"
    );
}

#[test]
fn what_was_released_unsigned_is_signed_elsewhere() {
    let (world, signed) = World::released();
    let keyring = world.keyring();
    let (key, stranger) = (world.secret_key(), keygen::generate().unwrap());
    let stranger = SecretKey::from_text(&stranger.secret).unwrap();
    let asset = world.publish_unsigned(&world.sources()).unwrap();
    assert_eq!(asset.sha256, signed.sha256);
    // The signature of the release before is gone.
    assert!(!asset.signature.exists());

    let sign = |key: &SecretKey| sign(&asset.tarball, &world.targets, key, &keyring);
    let error = format!("{:#}", sign(&stranger).unwrap_err());
    assert!(
        error.starts_with(&format!(
            "nobody would believe this signature of {}: expected a signature by the key",
            world.asset()
        )),
        "{error}"
    );
    assert!(!asset.signature.exists());

    sign(&key).unwrap();
    let text = fs::read(&asset.sidecar).unwrap();
    let signature = fs::read(&asset.signature).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    keyring
        .verify(&text, &signature, &world.asset(), version)
        .unwrap();

    fs::write(&asset.tarball, b"another").unwrap();
    let error = sign(&key).unwrap_err().to_string();
    assert!(error.starts_with("expected the sha256 of "), "{error}");
}
