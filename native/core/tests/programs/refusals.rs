//! Files that are no programs, and what is said of them.

use emily_core::{Device, Stream, file::ProgramFile, install_error_handler};

/// A loop that adds 1 to a counter for as long as it is less than a limit.
const PROGRAM: &str = r#"{"format":"emily program","version":1,
  "interface":{"parameters":[{"name":"x","type":"s64","shape":[]},{"name":"most","type":"s64","shape":[]}],
    "inputs":[{"parameter":0},{"parameter":1}],"results":["result"],
    "containers":{"arguments":[{"tensor":{}},{"tensor":{}}],"result":{"tensor":{}}}},
  "program":{"inputs":[{"type":"s64","shape":[]},{"type":"s64","shape":[]}],"outputs":[2],
    "instructions":[{"op":{"while":{
      "condition":{"inputs":[{"type":"s64","shape":[]},{"type":"s64","shape":[]}],"outputs":[2],
        "instructions":[{"op":"less","outs":[{"type":"u8","shape":[]}],"inputs":[0,1]}]},
      "body":{"inputs":[{"type":"s64","shape":[]},{"type":"s64","shape":[]}],"outputs":[3],
        "instructions":[
          {"op":{"constant":{"value":1}},"outs":[{"type":"s64","shape":[]}],"inputs":[]},
          {"op":"add","outs":[{"type":"s64","shape":[]}],"inputs":[0,2]}]}}},
      "outs":[{"type":"s64","shape":[]}],"inputs":[0,1]}]}}"#;

/// A file without tensors.
const EMPTY: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn refused(graph: &str, weights: &[u8]) -> String {
    let file = ProgramFile::read(graph.as_bytes(), weights.to_vec());
    let loaded = file.and_then(|file| file.load(&stream(), 1000));
    loaded
        .err()
        .expect("expected an error, got: a program")
        .to_string()
}

fn changed(from: &str, to: &str) -> String {
    assert!(PROGRAM.contains(from), "{from}");
    refused(&PROGRAM.replacen(from, to, 1), EMPTY)
}

#[test]
fn a_long_loop_ends_with_an_error() {
    let stream = stream();
    let file = ProgramFile::read(PROGRAM.as_bytes(), EMPTY.to_vec()).unwrap();
    let program = file.load(&stream, 1000).unwrap();
    let run = |most: i64| {
        let numbers = [0, most].map(|number| {
            let ty = &program.interface().parameters[0].tensor;
            emily_core::Tensor::from_bytes(&stream, ty, &number.to_ne_bytes())
                .unwrap()
                .into()
        });
        program.run(&stream, &numbers)
    };
    let result = run(10).unwrap()[0].readable().unwrap();
    assert_eq!(result.bytes().unwrap(), 10_i64.to_ne_bytes());
    assert_eq!(
        run(1_000_000_000).err().unwrap().to_string(),
        "expected the program to end within 1000 steps, got: one that goes on"
    );
}

#[test]
fn a_loop_of_nothing_ends_too() {
    let text = PROGRAM.replace(
        r#""outputs":[2],
        "instructions":[{"op":"less""#,
        r#""outputs":[1],
        "instructions":[{"op":"less""#,
    );
    let body = text.replace(r#""outputs":[3]"#, r#""outputs":[0]"#);
    assert_ne!(body, PROGRAM);
    let stream = stream();
    let file = ProgramFile::read(body.as_bytes(), EMPTY.to_vec()).unwrap();
    let program = file.load(&stream, 100_000).unwrap();
    let ty = &program.interface().parameters[0].tensor;
    let one = || {
        emily_core::Tensor::from_bytes(&stream, ty, &1_i64.to_ne_bytes())
            .unwrap()
            .into()
    };
    let error = program.run(&stream, &[one(), one()]).err().unwrap();
    assert!(error.to_string().contains("within 100000 steps"), "{error}");
}

#[test]
fn errors_name_the_instruction() {
    for (from, to, text) in [
        (
            r#""inputs":[0,2]}]"#,
            r#""inputs":[0,3]}]"#,
            "program.json: expected instruction 1, add, to take values below 3, got: 3 at line 12 column 75",
        ),
        (
            r#""op":"add","outs":[{"type":"s64","#,
            r#""op":"dot","outs":[{"type":"s64","#,
            "program.json: invalid type: unit variant, expected struct variant at line 12 column",
        ),
        (
            r#""op":"add","#,
            r#""op":{"sum":{"axes":null,"keep_axes":false}},"#,
            "program.json: expected instruction 1, sum, to take 1 inputs and give 1 outputs, got: 2 and 1",
        ),
        (
            r#""op":"add","outs":[{"type":"s64","#,
            r#""op":"less","outs":[{"type":"s64","#,
            "program.json: instruction 0, while: body, instruction 1, less: expected less of s64, s64 to give",
        ),
        (
            r#""op":{"while":{"#,
            r#""op":{"whilst":{"#,
            "program.json: unknown variant `whilst`, expected one of",
        ),
        (
            r#""outs":[{"type":"s64","shape":[]}],"inputs":[0,1]}]}}"#,
            r#""outs":[{"type":"s64","shape":[2]}],"inputs":[0,1]}]}}"#,
            "program.json: expected instruction 0, while, to begin with inputs of s64[2], got: s64, s64",
        ),
    ] {
        let error = changed(from, to);
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn errors_name_what_goes_in_and_out() {
    for (from, to, text) in [
        (
            "emily program",
            "a program",
            r#"expected :format to be "emily program", got: "a program""#,
        ),
        (
            r#""version":1"#,
            r#""version":2"#,
            "expected :version to be 1, which this Emily reads, got: 2",
        ),
        (
            r#""name":"most""#,
            r#""name":"x""#,
            r#"expected the parameters to have names of their own, got: "x""#,
        ),
        (
            r#"["result"]"#,
            r#"[""]"#,
            r#"expected the results to have names of their own, got: """#,
        ),
        (r#"["result"]"#, "[]", "expected 1 results, got: 0"),
        (
            r#"{"parameter":1}"#,
            r#"{"parameter":2}"#,
            "expected input 1 to be a parameter below 2, got: 2",
        ),
        (
            r#""name":"x","type":"s64""#,
            r#""name":"x","type":"f32""#,
            "expected input 0, parameter x, to be s64, got: f32",
        ),
        (
            r#"[{"tensor":{}},{"tensor":{}}]"#,
            r#"[{"tensor":{}}]"#,
            "expected the arguments to hold each parameter, got: none for s64",
        ),
        (
            r#""result":{"tensor":{}}"#,
            r#""result":{"tuple":[{"tensor":{}},{"tensor":{}}]}"#,
            "expected the containers to be of the program's tensors, got: more",
        ),
        (
            r#""result":{"tensor":{}}"#,
            r#""result":{"tensor":{"vectorized":[["rows",2]]}}"#,
            r#"expected names and vectorized axes of s64, got: [] and [("rows", 2)]"#,
        ),
        (
            r#""result":{"tensor":{}}"#,
            r#""result":{"map":[[{"atom":"a"},{"tensor":{}}],[{"atom":"a"},{"tuple":[]}]]}"#,
            "expected 2 keys of a map, got: 1",
        ),
    ] {
        assert_eq!(changed(from, to), format!("program.json: {text}"));
    }
    assert_eq!(
        changed(r#"{"parameter":1}"#, r#"{"weight":"w"}"#),
        r#"weights.safetensors: expected a tensor "w", got: none of that name"#
    );
}

#[test]
fn calls_of_functions_are_refused() {
    let call = r#"{"op":{"call":{"number":0}},"outs":[{"type":"s64","shape":[]}],"inputs":[0,2]}"#;
    let add = r#"{"op":"add","outs":[{"type":"s64","shape":[]}],"inputs":[0,2]}"#;
    assert_eq!(
        changed(add, call),
        "program.json: instruction 0, while: body, instruction 1, call: expected a program that runs alone, \
         got: a call of a function"
    );
}

#[test]
fn absurd_shapes_are_refused() {
    let constant = |shape: &str| {
        changed(
            r#"{"op":{"constant":{"value":1}},"outs":[{"type":"s64","shape":[]}]"#,
            &format!(
                r#"{{"op":{{"iota":{{"axis":null}}}},"outs":[{{"type":"s64","shape":{shape}}}]"#
            ),
        )
    };
    let vast = constant("[2000000000,2000000]");
    assert!(
        vast.starts_with("program.json: instruction 0, while: body, instruction 0, iota: "),
        "{vast}"
    );
    for shape in ["[2147483648]", "[-1]", "[2147483647,2147483647]"] {
        let error = constant(shape);
        assert!(
            error.contains("with a product below 2^60, got: ["),
            "{error}"
        );
    }
}

#[test]
fn nesting_ends_somewhere() {
    for (open, close) in [("[", "]"), (r#"{"tuple":["#, "]}")] {
        let depth = 100_000;
        let deep = open.repeat(depth) + &close.repeat(depth);
        let error = changed(r#""result":{"tensor":{}}"#, &format!(r#""result":{deep}"#));
        assert!(
            error.contains("recursion limit exceeded") || error.contains("expected"),
            "{error}"
        );
    }
    let mut program = r#"{"inputs":[],"outputs":[],"instructions":[]}"#.to_owned();
    for _ in 0..2000 {
        program = format!(
            r#"{{"inputs":[],"outputs":[],"instructions":[{{"op":{{"cond":{{"clauses":[],"last":{program}}}}},"outs":[],"inputs":[]}}]}}"#
        );
    }
    let start = PROGRAM.find(r#""program""#).unwrap();
    let graph = format!(r#"{}"program":{program}}}"#, &PROGRAM[..start]);
    assert!(refused(&graph, EMPTY).contains("recursion limit exceeded"));
}

#[test]
fn weights_that_are_none_are_refused() {
    let header = |text: &str, size: u64| [&size.to_le_bytes()[..], text.as_bytes()].concat();
    let one = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for (weights, text) in [
        (vec![], "expected a header's size, got: 0 bytes"),
        (
            header("{}", u64::MAX),
            "expected a header of at most 2 bytes, got: one of 18446744073709551615",
        ),
        (
            header("{}", 1 << 40),
            "expected a header of at most 2 bytes, got: one of 1099511627776",
        ),
        (header("[]", 2), "expected a safetensors header, got: "),
        (
            header(one, one.len() as u64),
            "expected 8 bytes of tensors, got: 0",
        ),
        (
            header(&one.replace("[0,8]", "[0,7]"), one.len() as u64),
            "expected a safetensors header, got: invalid shape, data type, or offset for tensor",
        ),
        (
            header(
                &one.replace("[2]", "[9223372036854775807,9]"),
                one.len() as u64 + 20,
            ),
            "expected a safetensors header, got: overflow",
        ),
    ] {
        let error = refused(PROGRAM, &weights);
        assert!(
            error.starts_with(&format!("weights.safetensors: {text}")),
            "{error}"
        );
    }
}
