//! What a keyring says of signatures: `test/golden/keyring.json`, which the installer in Elixir
//! answers alike (`test/emily/artifact/keyring_test.exs`).
//!
//! `cargo test -p xtask --test distribution -- --ignored record_keyring_cases` records it again, with
//! keys that nobody has afterwards.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use xtask::{
    keygen::{self, KeyPair},
    keyring::Keyring,
    signing::{self, SecretKey},
};

const ASSET: &str = "a.tar.gz";
const SIDECAR: &str = "the text of a sidecar\n";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../test/golden/keyring.json")
}

/// What is refused of `case`, or nothing.
fn refusal(case: &Value) -> Option<String> {
    let text = case["keys"].to_string();
    let signature = case["signature"].as_str().unwrap().as_bytes();
    let version = case["version"].as_str().unwrap();
    let error = Keyring::from_text(&text)
        .and_then(|keyring| {
            keyring
                .verify(SIDECAR.as_bytes(), signature, ASSET, version)
                .map(|_| ())
        })
        .err()?;
    Some(error.root_cause().to_string())
}

#[test]
fn signatures_are_believed_as_recorded() {
    let golden: Value = serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 15, "{}", cases.len());
    for case in cases {
        let refusal = refusal(case);
        match &case["refusal"] {
            Value::Null => assert_eq!(refusal, None, "{}", case["name"]),
            Value::Bool(_) => assert!(refusal.is_some(), "{}", case["name"]),
            expected => assert_eq!(refusal.as_deref(), expected.as_str(), "{}", case["name"]),
        }
    }
}

fn id(pair: &KeyPair) -> String {
    signing::key_id(pair.public.lines().nth(1).unwrap()).unwrap()
}

fn entry(pair: &KeyPair, rest: Value) -> Value {
    let mut entry = json!({"id": id(pair), "public": pair.public.lines().nth(1)});
    for (name, value) in rest.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

fn sign(pair: &KeyPair) -> String {
    let key = SecretKey::from_text(&pair.secret).unwrap();
    key.sign(SIDECAR.as_bytes(), ASSET).unwrap()
}

#[test]
#[ignore = "records the cases anew"]
fn record_keyring_cases() {
    let [old, new, lost, stranger] = std::array::from_fn(|_| keygen::generate().unwrap());
    let list = |keys: Vec<Value>| json!({"schema": 1, "keys": keys});
    let keys = list(vec![
        entry(&old, json!({"from": "0.8.0-dev", "before": "1.0.0"})),
        entry(&new, json!({"from": "0.9.0-rc.2"})),
        entry(
            &lost,
            json!({"from": "0.8.0", "retired": "lost with a laptop"}),
        ),
    ]);
    let one = list(vec![entry(&old, json!({"from": "0.8.0"}))]);
    let range = |version: &str, pair: &KeyPair, range: &str| {
        json!(format!(
            "expected a signature by a key for version {version}, got: one by the key {}, which \
             is for versions {range}",
            id(pair)
        ))
    };
    let case = |name: &str, keys: &Value, pair: &KeyPair, version: &str, refusal: Value| json!({"name": name, "keys": keys, "version": version, "signature": sign(pair), "refusal": refusal});
    let whole = "from 0.8.0-dev and before 1.0.0";
    let stranger_id = id(&stranger);
    let mut cases = vec![
        case(
            "the first version of a range",
            &keys,
            &old,
            "0.8.0-dev",
            Value::Null,
        ),
        case("within a range", &keys, &old, "0.10.3", Value::Null),
        case(
            "just before the end",
            &keys,
            &old,
            "1.0.0-rc.1",
            Value::Null,
        ),
        case("the end", &keys, &old, "1.0.0", range("1.0.0", &old, whole)),
        case(
            "after the end",
            &keys,
            &old,
            "1.2.0",
            range("1.2.0", &old, whole),
        ),
        case(
            "before the start",
            &keys,
            &old,
            "0.7.9",
            range("0.7.9", &old, whole),
        ),
        case("no end", &keys, &new, "27.0.0", Value::Null),
        case(
            "the end of a build's name",
            &keys,
            &old,
            "1.0.0+b",
            range("1.0.0+b", &old, whole),
        ),
        case(
            "pre-releases by number",
            &keys,
            &new,
            "0.9.0-rc.10",
            Value::Null,
        ),
        case(
            "an earlier pre-release",
            &keys,
            &new,
            "0.9.0-rc.1",
            range("0.9.0-rc.1", &new, "from 0.9.0-rc.2"),
        ),
        case(
            "no version",
            &keys,
            &new,
            "1.0",
            range("1.0", &new, "from 0.9.0-rc.2"),
        ),
        case(
            "a retired key",
            &keys,
            &lost,
            "0.8.0",
            json!(format!(
                "expected a signature by a key that is in use, got: one by the key {}, which is \
             retired: lost with a laptop",
                id(&lost)
            )),
        ),
        case(
            "an unknown key",
            &keys,
            &stranger,
            "0.9.0",
            json!(format!(
                "expected a signature by one of the keys {}, {}, {}, got: one by the key {stranger_id}",
                id(&old),
                id(&new),
                id(&lost)
            )),
        ),
        case(
            "another key than the one",
            &one,
            &stranger,
            "0.9.0",
            json!(format!(
                "expected a signature by the key {}, got: one by the key {stranger_id}",
                id(&old)
            )),
        ),
    ];
    let two = list(vec![one["keys"][0].clone(), one["keys"][0].clone()]);
    let twice = format!("expected each key once, got: {} twice", id(&old));
    cases.push(case("a key twice", &two, &old, "0.9.0", json!(twice)));
    let mut mistaken = one.clone();
    mistaken["keys"][0]["id"] = json!(stranger_id);
    let other = format!("expected the key {stranger_id}, got: the key {}", id(&old));
    cases.push(case(
        "another key's name",
        &mistaken,
        &old,
        "0.9.0",
        json!(other),
    ));
    for (name, field, value) in [
        ("a schema of the future", "/schema", json!(2)),
        ("a version that is none", "/keys/0/from", json!("0.8")),
        ("an end that is none", "/keys/0/before", json!("soon")),
        ("a key that is none", "/keys/0/public", json!("RWQ")),
        ("a reason that is none", "/keys/0/retired", json!(true)),
    ] {
        let mut keys = one.clone();
        if let Some(place) = keys.pointer_mut(field) {
            *place = value;
        } else {
            keys["keys"][0][field.rsplit('/').next().unwrap()] = value;
        }
        cases.push(case(name, &keys, &old, "0.9.0", json!(true)));
    }
    let mut retitled = case(
        "another file's signature",
        &keys,
        &old,
        "0.9.0",
        json!(true),
    );
    retitled["signature"] = json!(sign(&old).replace("file:a", "file:b"));
    let mut renamed = case(
        "a stranger's signature by a known name",
        &keys,
        &stranger,
        "0.9.0",
        json!(true),
    );
    renamed["signature"] = json!(with_id(&sign(&stranger), &sign(&old)));
    cases.extend([retitled, renamed]);
    let golden = json!({"asset": ASSET, "sidecar": SIDECAR, "cases": cases});
    fs::write(
        path(),
        serde_json::to_string_pretty(&golden).unwrap() + "\n",
    )
    .unwrap();
}

/// `signature` with the key's identifier of `other`.
fn with_id(signature: &str, other: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = |text: &str| STANDARD.decode(text.lines().nth(1).unwrap()).unwrap();
    let mut changed = bytes(signature);
    changed[2..10].copy_from_slice(&bytes(other)[2..10]);
    let mut lines: Vec<_> = signature.lines().map(str::to_owned).collect();
    lines[1] = STANDARD.encode(changed);
    lines.join("\n") + "\n"
}
