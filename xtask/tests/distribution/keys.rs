//! Keys, sidecars and signatures.

use std::{fs, os::unix::fs::PermissionsExt as _};

use xtask::{
    keygen,
    signing::{PublicKey, SecretKey},
};

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

#[test]
fn key_files_are_private_and_public() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let (secret, public) = (folder.path().join("new/key"), repository.join("key.pub"));
    let pair = keygen::write(&secret, &public, &repository).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), pair.secret);
    assert_eq!(fs::read_to_string(&public).unwrap(), pair.public);
    assert_eq!(
        fs::metadata(&secret).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(pair.public.lines().count(), 2);

    let signature = SecretKey::load(Some(&secret))
        .unwrap()
        .sign(SIDECAR, ASSET)
        .unwrap();
    PublicKey::load(Some(&public))
        .unwrap()
        .verify(SIDECAR, signature.as_bytes(), ASSET)
        .unwrap();
}

#[test]
fn a_secret_key_never_lands_in_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repository");
    fs::create_dir(&repository).unwrap();
    std::os::unix::fs::symlink(&repository, folder.path().join("link")).unwrap();
    let public = folder.path().join("key.pub");
    for secret in [
        "repository/key",
        "repository/new/key",
        "link/key",
        "repository/../repository/key",
    ] {
        let error = keygen::write(&folder.path().join(secret), &public, &repository)
            .err()
            .unwrap_or_else(|| panic!("{secret}"));
        let text = error.to_string();
        assert!(
            text.starts_with("a secret key must not be inside the repository\n"),
            "{text}"
        );
        assert!(text.contains("Run next: cargo xtask keygen"), "{text}");
    }
    assert!(fs::read_dir(&repository).unwrap().next().is_none());
    assert!(!public.exists());
}

#[test]
fn a_key_never_replaces_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let (there, new) = (folder.path().join("there"), folder.path().join("new"));
    fs::write(&there, "precious").unwrap();
    for (secret, public) in [(&there, &new), (&new, &there)] {
        let error = keygen::write(secret, public, &repository)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("a key is never written over an existing file\n"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&there).unwrap(), "precious");
        assert!(!new.exists());
    }
}

#[test]
fn anything_but_a_key_is_refused() {
    for text in ["", "one line", "untrusted comment: x\nnot base64!\n"] {
        assert!(PublicKey::from_text(text).is_err(), "{text:?}");
        assert!(SecretKey::from_text(text).is_err(), "{text:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("emily.pub");
    let error = PublicKey::load(Some(&missing)).err().unwrap().to_string();
    assert!(
        error.starts_with("there is no public key to verify with\n"),
        "{error}"
    );
    assert!(
        error.ends_with("Run next: cargo xtask keygen --secret-key FILE"),
        "{error}"
    );
}
