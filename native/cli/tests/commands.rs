//! The commands on recorded programs, and all that they print.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use emily_core::{Device, Stream, file::Tensors, install_error_handler};
use tempfile::TempDir;

/// Exit status, standard output, standard error.
type Outcome = (i32, String, String);

fn emily(arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_emily"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().expect("emily was killed"),
        text(output.stdout),
        text(output.stderr),
    )
}

fn program(name: &str) -> String {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/golden/programs");
    place.join(name).to_str().unwrap().to_owned()
}

/// A NumPy file of f32 or other elements.
fn npy(folder: &TempDir, name: &str, descr: &str, shape: &str, bytes: &[u8]) -> PathBuf {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    let path = folder.path().join(name);
    let file = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), bytes].concat();
    fs::write(&path, file).unwrap();
    path
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn input(name: &str, file: &Path) -> String {
    format!("{name}={}", file.display())
}

#[test]
fn run_prints_small_results_and_writes_all() {
    let folder = TempDir::new().unwrap();
    // A pulse, whose spectrum is even; the program passes a band.
    let pulse: Vec<f32> = (0..32)
        .map(|at| if at % 16 == 0 { 1.0 } else { 0.0 })
        .collect();
    let signal = npy(&folder, "signal.npy", "<f4", "(2, 16)", &floats(&pulse));
    let results = folder.path().join("results.safetensors");
    let (status, printed, errors) = emily(&[
        "run",
        &program("fourier"),
        "--device",
        "cpu",
        "--input",
        &input("arg0", &signal),
        "--output",
        results.to_str().unwrap(),
    ]);
    assert_eq!((status, &errors[..]), (0, ""));
    let row = "[1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0]";
    let (spectrum, filtered) = printed.split_once('\n').unwrap();
    assert_eq!(spectrum, format!("0: f32[2][16] [{row}, {row}]"));
    assert!(
        filtered.starts_with("1: f32[2][16] [[0.375, "),
        "{filtered}"
    );

    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let tensors = Tensors::open(&results).unwrap();
    let ty = tensors.tensor_type("0").unwrap();
    assert_eq!(ty.to_string(), "f32[2][16]");
    let read = tensors.read(&stream, &[("0", &ty)]).unwrap();
    assert_eq!(read[0].bytes().unwrap()[..4], 1.0_f32.to_le_bytes());

    // What one program wrote, another one reads.
    let (status, again, _) = emily(&[
        "run",
        &program("fourier"),
        "--input",
        &format!("arg0={}:1", results.display()),
    ]);
    assert_eq!(status, 0);
    assert!(again.starts_with("0: f32[2][16] [[1.0"), "{again}");
}

#[test]
fn run_converts_only_if_asked() {
    let folder = TempDir::new().unwrap();
    let doubles: Vec<u8> = [0.5_f64; 15]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let x = npy(&folder, "x.npy", "<f8", "(3, 5)", &doubles);
    let arguments = [
        "run",
        &program("narrow"),
        "--device",
        "cpu",
        "--input",
        &input("arg1", &x),
    ];
    let (status, printed, errors) = emily(&arguments);
    assert_eq!((status, &printed[..]), (1, ""));
    assert_eq!(
        errors,
        "error: expected input arg1 to be f32[3][5], got: f64[3][5] (--cast converts it)\n"
    );
    let (status, printed, errors) = emily(&[&arguments[..], &["--cast"]].concat());
    assert_eq!((status, &errors[..]), (0, ""));
    // Half the sums of columns by their scales, with offset and bias.
    let row = "[5.0, -4.5, 1.875]";
    assert_eq!(
        printed,
        format!("result: f32[3][3] [{row}, {row}, {row}]\n")
    );
}

#[test]
fn run_says_what_it_lacks() {
    let folder = TempDir::new().unwrap();
    let short = npy(&folder, "short.npy", "<f4", "(2, 6)", &floats(&[0.0; 12]));
    let text = folder.path().join("x.txt");
    let mlp = program("mlp");
    for (inputs, expected) in [
        (
            vec![],
            "expected --input arg1=FILE, with f32[4][6], got: none".to_owned(),
        ),
        (
            vec![input("x", &short)],
            "expected inputs arg1, got: x".to_owned(),
        ),
        (
            vec![input("arg1", &short)],
            "expected input arg1 to be f32[4][6], got: f32[2][6]".to_owned(),
        ),
        (
            vec![input("arg1", &short), input("arg1", &short)],
            "expected one --input arg1=FILE, got: several".to_owned(),
        ),
        (
            vec![input("arg1", &text)],
            format!(
                "input arg1: expected a .npy or a .safetensors file, got: {}",
                text.display()
            ),
        ),
        (
            vec![format!("arg1={mlp}/weights.safetensors:w")],
            format!(
                "input arg1: {mlp}/weights.safetensors: expected a tensor \"w\", got: none of that name"
            ),
        ),
    ] {
        let mut arguments = vec!["run", &mlp];
        for input in &inputs {
            arguments.extend(["--input", input]);
        }
        let (status, printed, errors) = emily(&arguments);
        assert_eq!(
            (status, printed, errors),
            (1, String::new(), format!("error: {expected}\n"))
        );
    }
}

#[test]
fn a_program_that_goes_on_fails() {
    let folder = TempDir::new().unwrap();
    let x = npy(&folder, "x.npy", "<f4", "(5,)", &floats(&[0.5; 5]));
    let most = npy(
        &folder,
        "most.npy",
        "<i4",
        "()",
        &1_000_000_000_i32.to_le_bytes(),
    );
    let y = npy(&folder, "y.npy", "<f4", "(3,)", &floats(&[0.5; 3]));
    let (status, _, errors) = emily(&[
        "run",
        &program("control_flow"),
        "--max-steps",
        "5000",
        "--input",
        &input("arg0.0", &x),
        "--input",
        &input("arg0.1", &most),
        "--input",
        &input("arg1", &y),
    ]);
    assert_eq!(status, 1);
    assert_eq!(
        errors,
        "error: expected the program to end within 5000 steps, got: one that goes on\n"
    );
}

#[test]
fn inspect_tells_what_is_there() {
    let (status, printed, errors) = emily(&["inspect", &program("narrow")]);
    assert_eq!((status, &errors[..]), (0, ""));
    assert_eq!(
        printed,
        "inputs\n  arg1  f32[3][5]  60 B\n\
         outputs\n  result  f32[3][3]  36 B\n\
         weights, 18 B\n  arg0.signed  s4[5][3]  8 B\n  arg0.scale   f8[3]  3 B\n  arg0.offset  u2[3]  1 B\n  \
         arg0.bias    bf16[3]  6 B\n\
         operations, 7\n       3 as_type\n       2 add\n       1 dot\n       1 multiply\n"
    );
    let (status, printed, _) = emily(&["inspect", "--json", &program("narrow")]);
    assert_eq!(status, 0);
    let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(summary["weight_bytes"], 18);
    assert_eq!(summary["operations"]["as_type"], 3);
    assert_eq!(
        summary["inputs"][0],
        serde_json::json!({"name": "arg1", "type": "f32", "shape": [3, 5], "bytes": 60})
    );
}

#[test]
fn what_is_no_program_is_refused() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().to_str().unwrap();
    for command in ["inspect", "run", "bench"] {
        let missing =
            format!("error: {place}/program.json: No such file or directory (os error 2)\n");
        assert_eq!(emily(&[command, place]), (1, String::new(), missing));
    }
    fs::write(folder.path().join("program.json"), "{").unwrap();
    fs::write(folder.path().join("weights.safetensors"), "").unwrap();
    let (status, _, errors) = emily(&["inspect", place]);
    assert_eq!(status, 1);
    assert_eq!(
        errors,
        format!("error: {place}/weights.safetensors: expected a header's size, got: 0 bytes\n")
    );
}

#[test]
fn bench_measures_every_program() {
    for name in ["mlp", "fourier", "attention", "narrow", "mlp_training_step"] {
        let (status, printed, errors) =
            emily(&["bench", &program(name), "--iterations", "3", "--json"]);
        assert_eq!((status, &errors[..]), (0, ""));
        let measured: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(measured["iterations"], 3);
        let (median, p95) = (&measured["median"], &measured["p95"]);
        assert!(median.as_f64().unwrap() > 0.0 && p95.as_f64() >= median.as_f64());
    }
    let (status, printed, _) = emily(&["bench", &program("mlp"), "--iterations", "2"]);
    let words: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        (status, words),
        (0, vec!["runs", "median", "p95", "operations"])
    );
}

#[test]
fn the_command_line_has_help_and_a_version() {
    let (status, help, _) = emily(&["--help"]);
    assert_eq!(status, 0);
    for command in [
        "run      Run a program",
        "inspect  Tell what",
        "bench    Measure a program",
    ] {
        assert!(help.contains(command), "{help}");
    }
    let version = format!("emily {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(emily(&["--version"]), (0, version, String::new()));
    let (status, _, errors) = emily(&["frobnicate"]);
    assert_eq!(status, 2);
    assert!(
        errors.starts_with("error: unrecognized subcommand 'frobnicate'"),
        "{errors}"
    );
}
