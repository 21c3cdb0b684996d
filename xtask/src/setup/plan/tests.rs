//! Plans for machines that are not at hand.

use super::*;
use crate::setup::{apt::Source, facts::Elixir};

/// A machine of this distribution with nothing but apt.
fn bare(id: &str, version: &str) -> Facts {
    let release = [("ID", id), ("VERSION_ID", version)];
    Facts {
        os: "linux".into(),
        release: release
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        apt: true,
        root: true,
        sources: vec![Source {
            uris: "http://mirror.invalid/debian".into(),
            suites: vec!["bookworm".into()],
            components: "main".into(),
            signed_by: None,
        }],
        ..Facts::default()
    }
}

/// The plan for everyday work.
fn make(facts: &Facts) -> Plan {
    super::make(facts, &Need::everyday(&facts.os))
}

fn elixir(minor: u32, otp: u32, absent: &[&str], by_hand: bool) -> Option<Elixir> {
    let absent = absent.iter().map(ToString::to_string).collect();
    Some(Elixir {
        version: (1, minor),
        otp,
        absent,
        by_hand,
    })
}

/// A machine that lacks nothing.
fn ready(id: &str, version: &str) -> Facts {
    Facts {
        git: true,
        pip: true,
        compiler: true,
        format: true,
        libclang: true,
        openblas: true,
        elixir: elixir(18, 27, &[], false),
        ..bare(id, version)
    }
}

fn commands(facts: &Facts) -> Vec<String> {
    let shown = make(facts).steps.into_iter().map(|step| step.to_string());
    shown
        .map(|text| text.replace("env DEBIAN_FRONTEND=noninteractive ", ""))
        .collect()
}

const BEAM: &str = "elixir erlang-crypto erlang-dev erlang-eunit erlang-inets erlang-parsetools \
                    erlang-public-key erlang-ssl erlang-syntax-tools erlang-tools erlang-xmerl";
const INSTALL: &str = "apt-get install --yes --no-install-recommends";
const NATIVE: &str = "git python3 python3-pip g++ libfmt-dev libclang-dev libopenblas-pthread-dev";
const WRITES: [&str; 2] = [
    "write /etc/apt/sources.list.d/emily-trixie.sources",
    "write /etc/apt/preferences.d/emily-trixie",
];

#[test]
fn a_ready_machine_is_left_alone() {
    for (id, version) in [
        ("debian", "12"),
        ("debian", "13"),
        ("ubuntu", "22.04"),
        ("arch", ""),
    ] {
        let plan = make(&ready(id, version));
        assert!(
            plan.is_empty() && plan.steps.is_empty() && plan.notes.is_empty(),
            "{id}"
        );
        assert_eq!(
            plan.to_string(),
            "everything that Emily is built with is here\n"
        );
    }
}

#[test]
fn debian_12_takes_elixir_from_debian_13_after_all_else() {
    let expected = [
        WRITES[0].to_owned(),
        WRITES[1].to_owned(),
        "apt-get update".to_owned(),
        format!("{INSTALL} {NATIVE}"),
        format!("{INSTALL} -t trixie {BEAM}"),
    ];
    assert_eq!(commands(&bare("debian", "12")), expected);
}

#[test]
fn debian_12_with_a_newer_libc_takes_everything_from_debian_13() {
    let facts = Facts {
        compiler: false,
        newer_libc: true,
        ..ready("debian", "12")
    };
    let expected = [
        WRITES[0],
        WRITES[1],
        "apt-get update",
        &format!("{INSTALL} -t trixie g++"),
    ];
    assert_eq!(commands(&facts), expected);
}

#[test]
fn debian_12_that_lacks_no_elixir_gets_no_newer_suite() {
    let facts = Facts {
        format: false,
        fmt: false,
        ..ready("debian", "12")
    };
    assert_eq!(
        commands(&facts),
        ["apt-get update".to_owned(), format!("{INSTALL} libfmt-dev")]
    );
    assert_eq!(make(&facts).notes, [OWN_SUITES]);
}

#[test]
fn later_releases_suffice_themselves() {
    for (id, version) in [("debian", "13"), ("debian", ""), ("ubuntu", "25.10")] {
        let expected = [
            "apt-get update".to_owned(),
            format!("{INSTALL} {NATIVE} {BEAM}"),
        ];
        assert_eq!(commands(&bare(id, version)), expected, "{id} {version}");
        assert_eq!(make(&bare(id, version)).notes, [OWN_SUITES]);
    }
}

#[test]
fn an_older_ubuntu_is_told_where_elixir_can_be_had() {
    for version in ["22.04", "24.04", "25.04"] {
        let plan = make(&bare("ubuntu", version));
        let notes = [elixir_elsewhere(), OWN_SUITES.to_owned()];
        assert_eq!(plan.notes, notes, "{version}");
        assert_eq!(
            plan.steps[1].to_string(),
            format!("env DEBIAN_FRONTEND=noninteractive {INSTALL} {NATIVE}")
        );
    }
}

#[test]
fn a_build_of_mlx_takes_more() {
    let facts = ready("debian", "13");
    let plan = super::make(&facts, &Need::SOURCE);
    assert_eq!(
        plan.missing,
        [Need::Cmake, Need::Fmt, Need::Json, Need::BlasHeaders]
    );
    assert_eq!(
        plan.steps[1].to_string(),
        format!(
            "env DEBIAN_FRONTEND=noninteractive {INSTALL} \
             cmake ninja-build libfmt-dev nlohmann-json3-dev liblapacke-dev"
        )
    );
    let mac = Facts {
        os: "macos".into(),
        cmake: true,
        ..facts
    };
    assert!(super::make(&mac, &Need::SOURCE).is_empty());
}

#[test]
fn what_counts_as_missing() {
    for (found, expected) in [
        (None, vec![Need::Elixir, Need::Otp]),
        (elixir(14, 25, &[], false), vec![Need::Elixir]),
        (elixir(18, 26, &[], false), vec![Need::Elixir]),
        (elixir(18, 27, &["ssl"], false), vec![Need::Otp]),
        (elixir(19, 28, &[], true), vec![]),
    ] {
        let facts = Facts {
            elixir: found.clone(),
            ..ready("debian", "13")
        };
        assert_eq!(make(&facts).missing, expected, "{found:?}");
    }
    let either = Facts {
        format: false,
        fmt: true,
        ..ready("debian", "12")
    };
    assert!(make(&either).is_empty());
}

#[test]
fn an_elixir_that_apt_did_not_install_is_left_to_its_owner() {
    let facts = Facts {
        elixir: elixir(18, 27, &["ssl"], true),
        ..ready("debian", "12")
    };
    let plan = make(&facts);
    assert!(plan.steps.is_empty());
    assert_eq!(
        plan.notes,
        [
            "The Elixir in PATH (1.18 on OTP 27, without ssl) does not come from apt. Upgrade it the way it was\n\
          installed, to Elixir 1.18 on a complete OTP 27 or newer."
        ]
    );
}

#[test]
fn macos_and_unknown_systems_get_words_only() {
    let mac = Facts {
        os: "macos".into(),
        openblas: true,
        ..Facts::default()
    };
    let plan = make(&mac);
    assert!(plan.steps.is_empty());
    assert_eq!(
        plan.notes,
        [
            "Apple's command line tools: xcode-select --install",
            "CMake: brew install cmake",
            "Python 3 with pip: brew install python",
            "Elixir with OTP: brew install elixir",
        ]
    );
    let other = Facts {
        apt: false,
        ..bare("fedora", "42")
    };
    assert!(make(&other).steps.is_empty());
    assert_eq!(make(&other).notes.len(), 1);
}

#[test]
fn the_plan_says_what_it_changes() {
    let facts = Facts {
        elixir: None,
        root: false,
        sudo: true,
        ..ready("debian", "12")
    };
    let text = make(&facts).to_string();
    for part in [
        "  - Elixir 1.18 or newer, on OTP 27 or newer\n",
        "libc6",
        "installed packages that stand in the way are removed",
        "The plan, with sudo:\n  1. write /etc/apt/sources.list.d/emily-trixie.sources\n",
        "     | Suites: trixie\n",
        "  3. env DEBIAN_FRONTEND=noninteractive apt-get update\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}
