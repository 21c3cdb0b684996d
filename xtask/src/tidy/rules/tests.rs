use super::*;

#[test]
fn each_rule_sees_what_breaks_it() {
    let long = "x\n".repeat(MAX_LINES + 1);
    let left = ["# TO", "DO: later"].concat();
    let key = format!("RWRTY0Iy{}", "A".repeat(204));
    let open_key = format!("RWQAAEIy{}", "A".repeat(204));
    let cases: [(Rule, Tree, &[&str]); 17] = [
        (
            release_keys,
            [(
                "release/keys.json",
                r#"{"schema": 1, "keys": [{"id": "E7620F1842B4E81F", "from": "0.1.0", "before": "0.2.0",
                    "public": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"}]}"#,
            )]
            .into(),
            &["no key of release/keys.json signs 0.8.0-dev"],
        ),
        (
            version,
            [("mix.exs", "  @version \"9.9.9\"\n")].into(),
            &["expected @version in mix.exs to be 0.8.0-dev, as in Cargo.toml, got: 9.9.9"],
        ),
        (
            variables_documented,
            [
                (
                    "README.md",
                    "EMILY_TWO is in the text only\n| `EMILY_ONE` | what it does |\n",
                ),
                (
                    "lib/a.ex",
                    "\"EMILY_ONE\", \"EMILY_TWO\", EMILY_ alone, NOT_EMILY_X",
                ),
            ]
            .into(),
            &["EMILY_TWO, used in lib/a.ex, has no row in README.md's table"],
        ),
        (
            variables_read_once,
            [
                ("lib/a.ex", "System.get_env(\"EMILY_A\")"),
                ("lib/emily/settings.ex", "System.get_env(\"EMILY_A\")"),
                ("mix.exs", "System.get_env(\"EMILY_A\")"),
                ("native/mlx-sys/build.rs", "env::var(\"EMILY_A\")"),
                ("native/nif/src/a.rs", "const A: &str = \"EMILY_A\";"),
                (
                    "xtask/src/a.rs",
                    "\"set EMILY_A\"\n#[cfg(test)]\nmod tests { x(\"EMILY_A\") }",
                ),
                ("xtask/src/a/tests.rs", "\"EMILY_A\""),
                ("xtask/src/settings.rs", "const A: &str = \"EMILY_A\";"),
            ]
            .into(),
            &[
                "lib/a.ex spells \"EMILY_A\"; its language's settings module does",
                "native/nif/src/a.rs spells \"EMILY_A\"; its language's settings module does",
            ],
        ),
        (
            file_length,
            [("a.rs", long.as_str()), ("a.lock", long.as_str())].into(),
            &["a.rs has 501 lines, of at most 500; split it by concept"],
        ),
        (
            module_names,
            [
                ("lib/utils.ex", ""),
                ("src/common/a.rs", ""),
                ("lib/commons.ex", ""),
            ]
            .into(),
            &[
                "lib/utils.ex; name the thing it holds",
                "src/common/a.rs; name the thing it holds",
            ],
        ),
        (
            nothing_left,
            [("a.ex", left.as_str())].into(),
            &["a.ex:1: do it, or keep it out of the code"],
        ),
        (
            secret_keys,
            [
                ("test/a.key", key.as_str()),
                ("test/b.key", open_key.as_str()),
                ("a.rs", "RWRTY0Iy, RWQAAEIy"),
            ]
            .into(),
            &[
                "test/a.key holds a minisign secret key: remove it, and never use it again",
                "test/b.key holds a minisign secret key: remove it, and never use it again",
            ],
        ),
        (
            bare_folders,
            [
                (
                    "lib/emily/native/a.ex",
                    "  @doc \"\"\"\n  As Nx.add/2.\n  \"\"\"\n  # Nx\n  Nx.add(a, b)\n",
                ),
                (
                    "lib/emily/doctor/b.ex",
                    "\"keep Nx on Emily\"\n:telemetry.execute([])\n",
                ),
                ("lib/emily/backend.ex", "Nx.add(a, b)"),
            ]
            .into(),
            &[
                "lib/emily/doctor/b.ex:2: what needs Nx or telemetry belongs elsewhere in lib/",
                "lib/emily/native/a.ex:5: what needs Nx or telemetry belongs elsewhere in lib/",
            ],
        ),
        (
            workflows::logic,
            [(
                ".github/workflows/a.yml",
                "    - run: cargo xtask test\n    - run: |\n        x\n      run: a && b\n",
            )]
            .into(),
            &[
                ".github/workflows/a.yml:2: what a step decides belongs into xtask",
                ".github/workflows/a.yml:4: what a step decides belongs into xtask",
            ],
        ),
        (
            bare_folders,
            [("lib/emily/native.ex", "def next, do: :ok\n")].into(),
            &[],
        ),
        (
            variables_documented,
            [("README.md", "| EMILY_A |"), ("lib/a.ex", "EMILY_A")].into(),
            &[],
        ),
        (
            workflows::logic,
            [(".github/workflows/a.yml", "    runs-on: ubuntu-22.04\n")].into(),
            &[],
        ),
        (
            workflows::pins,
            [(
                ".github/workflows/a.yml",
                "  - uses: a/b@v4\n  - uses: a/b@0123456789012345678901234567890123456789\n  \
                 - uses: ./own\n  \
                 - uses: a/b@0123456789abcdef0123456789abcdef01234567 # v4.2.2\n",
            )]
            .into(),
            &[
                ".github/workflows/a.yml:1: expected an action at a commit, with # and its version, \
                 got: a/b@v4",
                ".github/workflows/a.yml:2: expected an action at a commit, with # and its version, \
                 got: a/b@0123456789012345678901234567890123456789",
            ],
        ),
        (
            workflows::permissions,
            [(
                ".github/workflows/a.yml",
                "permissions: write-all\njobs:\n  one:\n    runs-on: x\n  # Another.\n  two:\n    \
                 permissions:\n      contents: read\n",
            )]
            .into(),
            &[
                ".github/workflows/a.yml: expected permissions: {} at the top",
                ".github/workflows/a.yml: the job one does not say its permissions",
            ],
        ),
        (
            workflows::permissions,
            [(
                ".github/workflows/a.yml",
                "permissions: {}\njobs:\n  one:\n    permissions:\n      contents: read\n",
            )]
            .into(),
            &[],
        ),
        (
            workflows::cells,
            [(
                ".github/workflows/a.yml",
                "# the cpu and cuda12\n    runs-on: ubuntu-22.04 # as cpu\n      variant: [cuda13]\n      \
                 - run: cargo install x-cpu-y\n",
            )]
            .into(),
            &[
                ".github/workflows/a.yml:2: ubuntu-22.04 is release/targets.json's to say; take it \
                 from the matrix",
                ".github/workflows/a.yml:3: cuda13 is release/targets.json's to say; take it from \
                 the matrix",
            ],
        ),
    ];
    for (rule, tree, expected) in cases {
        assert_eq!(rule(&tree), expected);
    }
}

#[test]
fn broken_data_is_named() {
    let mut targets = Targets::load().unwrap();
    assert_eq!(targets_consistent(&targets), Breaks::new());
    targets
        .targets
        .get_mut("macos-arm64")
        .unwrap()
        .default_variant = "cpu".into();
    let cpu = targets.variants.get_mut("cpu").unwrap();
    cpu.files
        .retain(|file| file != "libemily.so" && file != "manifest.json");
    cpu.floors.clear();
    cpu.targets = vec!["linux-x86_64".into(), "beos".into()];
    assert_eq!(
        targets_consistent(&targets),
        [
            "linux-arm64's default variant, cpu, is not built for it",
            "macos-arm64's default variant, cpu, is not built for it",
            "cpu does not ship libemily.so",
            "cpu is for beos, which is not a target",
            "cpu does not ship manifest.json",
            "cpu declares no floor",
        ]
    );

    let targets = Targets::load().unwrap();
    let mut pin = Pin::load().unwrap();
    assert_eq!(pin_consistent(&pin, &targets), Breaks::new());
    pin.mlx_c.krate.sha256 = "AB".into();
    pin.mlx.revision = Some("0".repeat(40));
    pin.mlx_c.revision = Some("0123abc".into());
    assert_eq!(
        pin_consistent(&pin, &targets),
        [
            "mlx-c's revision is no whole commit: 0123abc",
            "mlx-c's crate has no sha256: AB",
        ]
    );
}
