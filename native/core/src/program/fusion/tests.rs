use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{
    Executable, Instruction, Op, Replay, Tensor, TensorType, Type,
    program::passes::{random, samples::*},
};

/// A folder of its own for each use, gone in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(env::temp_dir().join(format!("emily-kernels-{}-{number}", process::id())))
    }

    fn kernels(&self, compiler: &str) -> Kernels {
        Kernels {
            compiler: compiler.to_owned(),
            folder: self.0.clone(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Programs that are fused with one run of the compiler, which takes far less time.
fn fused(programs: &[Program], stream: &Stream, folder: &Folder) -> Vec<Arc<Executable>> {
    let fused = programs.iter().map(|program| {
        let executable = Executable::from(program.clone());
        Arc::new(executable.fused(folder.kernels("g++")))
    });
    let fused: Vec<_> = fused.collect();
    let fusions: Vec<_> = fused.iter().flat_map(|program| program.fusions()).collect();
    make(&fusions, stream);
    fused
}

/// The programs' bytes one by one, which are those of the fused ones too.
fn agree(programs: &[(Program, Vec<Arc<Tensor>>)], stream: &Stream) {
    let folder = Folder::new();
    let alone: Vec<_> = programs
        .iter()
        .map(|(program, _)| program.clone())
        .collect();
    for (fused, (program, inputs)) in fused(&alone, stream, &folder).iter().zip(programs) {
        let ready = fused.ready(stream).unwrap();
        assert_eq!(ready.skipped, None);
        let plain = Arc::new(Executable::from(program.clone()));
        let bits = |executable: &Arc<Executable>| {
            let results = ran(executable, inputs, stream).0.into_iter();
            let typed = results.zip(program.output_types());
            typed
                .map(|(bytes, out)| with_one_nan(bytes, out.ty))
                .collect::<Vec<_>>()
        };
        let (given, expected) = (bits(fused), bits(&plain));
        // What the same formulas give with the one compiler and with the other.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(given, expected, "{program:?}");
        }
    }
}

/// Elements with one pattern of bits for what is not a number: its sign means nothing.
fn with_one_nan(mut bytes: Vec<u8>, ty: Type) -> Vec<u8> {
    // The bits of infinity, without the sign. Beyond them lies what is no number.
    let (width, infinity) = match ty {
        Type::F8E5M2 => (1, 0x7c),
        Type::F8E4M3FN => (1, 0x7e),
        Type::F16 => (2, 0x7c00),
        Type::Bf16 => (2, 0x7f80),
        Type::F32 | Type::C64 => (4, 0x7f80_0000),
        Type::F64 => (8, 0x7ff0_0000_0000_0000),
        _ => return bytes,
    };
    for element in bytes.chunks_mut(width) {
        let mut bits = [0; 8];
        bits[..width].copy_from_slice(element);
        let magnitude = u64::from_ne_bytes(bits) & !(1 << (8 * width - 1));
        if magnitude > infinity {
            element.fill(0xff);
        }
    }
    bytes
}

#[test]
fn random_programs_give_the_same_bits_fused() {
    let stream = stream();
    let drawn: Vec<_> = (0..150)
        .map(|seed| random::program(seed, &stream))
        .collect();
    agree(&drawn, &stream);
}

/// Small numbers, and such as have the functions of a type do something else.
fn numbers(text: &str, stream: &Stream) -> Arc<Tensor> {
    let values = tensor_of("f32[24]", stream, |at| {
        [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            2.5,
            -3.25,
            7.0,
            100.0,
            1e-3,
            f32::INFINITY,
            f32::NAN,
        ][at % 12]
    });
    let shaped = TensorType {
        shape: ty(text).shape,
        ty: Type::F32,
    };
    let values = Tensor::apply(stream, &Op::Reshape, Some(&shaped), &[&values]).unwrap();
    let values = Tensor::apply(stream, &Op::AsType, Some(&ty(text)), &[&values]).unwrap();
    values.eval().unwrap();
    Arc::new(values)
}

fn tensor_of(text: &str, stream: &Stream, element: impl Fn(usize) -> f32) -> Tensor {
    let out = ty(text);
    let bytes = (0..out.shape.size()).flat_map(|at| element(at).to_ne_bytes());
    Tensor::from_bytes(stream, &out, &bytes.collect::<Vec<_>>()).unwrap()
}

#[test]
fn each_operation_gives_the_same_bits_fused_for_each_type() {
    let stream = stream();
    let mut programs = Vec::new();
    for (number, element) in Type::ALL.into_iter().enumerate() {
        let ty = TensorType {
            ty: element,
            shape: ty("f32[4][6]").shape,
        };
        let input = numbers(&ty.to_string(), &stream);
        // A share of all, which takes a compiler long enough; each operation and each type is among them.
        for op in elementwise().into_iter().skip(number % 6).step_by(6) {
            let inputs = vec![ty.clone(); op.arity().unwrap()];
            let Ok(out) = crate::infer(&op, &inputs) else {
                continue;
            };
            let twice = |op: &Op, from: usize| Instruction {
                op: op.clone().into(),
                outs: vec![out.clone()],
                inputs: vec![from; op.arity().unwrap()],
            };
            // Something comes before it and after it.
            let steps = vec![twice(&op, 0), twice(&Op::Add, 1), twice(&Op::Multiply, 2)];
            let Ok(program) = Program::new(vec![ty.clone()], steps, vec![3]) else {
                continue;
            };
            let plain = Arc::new(Executable::from(program.clone()));
            let inputs = vec![Arc::clone(&input)];
            if Replay::new(&plain, &stream, inputs.clone())
                .unwrap()
                .advance(9)
                .is_ok()
            {
                programs.push((program, inputs));
            }
        }
    }
    assert!(programs.len() > 100, "{}", programs.len());
    agree(&programs, &stream);
}

#[test]
fn layouts_and_broadcasts_are_followed() {
    let stream = stream();
    let input = |text| Arc::new(tensor_of(text, &stream, |at| at as f32 / 3.0 - 7.0));
    let broadcast = |axes: &[usize], out, from: usize| {
        op(
            Op::Broadcast {
                axes: axes.to_vec(),
            },
            out,
            &[from],
        )
    };
    let transpose = |axes: &[usize], out, from: usize| {
        op(
            Op::Transpose {
                axes: axes.to_vec(),
            },
            out,
            &[from],
        )
    };
    let wide = "f32[3][5][4]";
    let cases = [
        // A row, a column, a scalar and something turned around.
        (
            vec!["f32[4]", "f32[3][1][1]", "f32", "f32[4][5][3]"],
            vec![
                broadcast(&[2], wide, 0),
                broadcast(&[0, 1, 2], wide, 1),
                op(Op::Exp, "f32", &[2]),
                op(Op::Add, wide, &[4, 5]),
                transpose(&[2, 1, 0], wide, 3),
                op(Op::Multiply, wide, &[7, 8]),
                op(Op::Subtract, wide, &[9, 6]),
                op(Op::Sin, wide, &[10]),
            ],
            vec![11, 7],
        ),
        // All turned around the same way.
        (
            vec!["f32[2][3]", "f32[2][3]"],
            vec![
                transpose(&[1, 0], "f32[3][2]", 0),
                transpose(&[1, 0], "f32[3][2]", 1),
                op(Op::Add, "f32[3][2]", &[2, 3]),
                op(Op::Cos, "f32[3][2]", &[4]),
                op(Op::Reverse { axes: vec![0] }, "f32[3][2]", &[5]),
                op(Op::Negate, "f32[3][2]", &[6]),
                op(Op::Sin, "f32[3][2]", &[7]),
            ],
            vec![8],
        ),
        // Nothing, and one number.
        (
            vec!["f32[0][3]", "f32[1][1]"],
            vec![
                op(Op::Exp, "f32[0][3]", &[0]),
                op(Op::Sin, "f32[0][3]", &[2]),
                op(Op::Exp, "f32[1][1]", &[1]),
                op(Op::Sin, "f32[1][1]", &[4]),
                op(Op::Add, "f32[0][3]", &[3, 5]),
            ],
            vec![6, 5],
        ),
        // One number in front of all elements, and no input at all.
        (
            vec![],
            vec![
                constant(0.5, "f32"),
                op(Op::Exp, "f32", &[0]),
                op(Op::Log, "f32", &[1]),
                broadcast(&[], "f32[7]", 2),
                op(Op::Sin, "f32[7]", &[3]),
                op(Op::Add, "f32[7]", &[4, 2]),
            ],
            vec![5],
        ),
    ];
    let programs = cases.map(|(types, steps, outputs)| {
        let inputs = types.iter().map(|text| input(text)).collect();
        (program(&types, steps, &outputs), inputs)
    });
    agree(&programs, &stream);
}

/// So many operations, each on the result of the one before and on an input of its own.
fn chain(count: usize) -> Program {
    let types = vec!["f32[9]"; count + 1];
    let sums = (0..count).map(|at| {
        op(
            Op::Add,
            "f32[9]",
            &[if at == 0 { 0 } else { count + at }, at + 1],
        )
    });
    program(&types, sums.collect(), &[2 * count])
}

#[test]
fn long_stretches_and_many_inputs_become_a_few_operations() {
    let stream = stream();
    for (count, left) in [(2, 1), (30, 1), (100, 1), (700, 6)] {
        let (before, after) = chain(count).fused_counts(&stream).unwrap();
        assert_eq!(before, count);
        assert!(after <= left, "{after}");
    }
    let inputs =
        |count| (0..=count).map(|at| Arc::new(tensor_of("f32[9]", &stream, |_| at as f32)));
    agree(
        &[30, 700].map(|count| (chain(count), inputs(count).collect())),
        &stream,
    );
}

#[test]
fn one_library_serves_all_shapes_and_lasts_as_long_as_what_uses_it() {
    let (stream, folder) = (stream(), Folder::new());
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        maps.contains(folder.0.to_str().unwrap())
    };
    for size in 2..8 {
        let shape = format!("f32[{size}]");
        let steps = vec![op(Op::Exp, &shape, &[0]), op(Op::Tanh, &shape, &[1])];
        let executable = Executable::from(program(&[&shape], steps, &[2]));
        let executable = Arc::new(executable.fused(folder.kernels("g++")));
        let input = Arc::new(tensor_of(&shape, &stream, |_| 0.5));
        let mut replay = Replay::new(&executable, &stream, [input]).unwrap();
        assert!(replay.is_unprepared());
        assert_eq!(replay.prepare(), None);
        let Ok(crate::Pause::Done(results)) = replay.advance(usize::MAX) else {
            panic!("expected one operation");
        };
        drop((replay, executable));
        assert_eq!(mapped(), cfg!(target_os = "linux"));
        results[0].eval().unwrap();
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    assert!(!mapped());
}

/// Why a program runs operation by operation with this compiler.
fn reason(compiler: &str, folder: &Folder, stream: &Stream) -> String {
    let inputs: Vec<_> = (0..3)
        .map(|at| Arc::new(tensor_of("f32[9]", stream, |_| at as f32)))
        .collect();
    let executable = Arc::new(Executable::from(chain(2)).fused(folder.kernels(compiler)));
    let mut replay = Replay::new(&executable, stream, inputs.clone()).unwrap();
    let reason = replay.prepare().unwrap();
    let plain = Arc::new(Executable::from(chain(2)));
    assert_eq!(
        ran(&executable, &inputs, stream),
        ran(&plain, &inputs, stream)
    );
    reason
}

#[test]
fn without_a_compiler_that_works_operations_run_one_by_one() {
    use std::os::unix::fs::PermissionsExt;

    let (stream, folder, tools) = (stream(), Folder::new(), Folder::new());
    fs::create_dir_all(&tools.0).unwrap();
    let script = |name: &str, text: &str| {
        let path = tools.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let absent = reason("no-such-compiler", &folder, &stream);
    assert!(
        absent.starts_with("no-such-compiler cannot be run: "),
        "{absent}"
    );
    let fails = script("fails", "echo 'disk full' >&2; exit 1");
    assert_eq!(
        reason(&fails, &folder, &stream),
        format!("{fails} made no library: disk full")
    );
    // The last argument is where the library goes.
    let garbage = script("garbage", "for last; do :; done; echo rubbish > \"$last\"");
    let text = reason(&garbage, &folder, &stream);
    assert!(
        text.starts_with(&format!("what {garbage} made cannot be loaded: ")),
        "{text}"
    );
    // Nothing is left that the next process would find.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let text = reason("g++", &folder, &stream);
    assert!(
        text.contains("alone, got: user") && text.ends_with("mode 777"),
        "{text}"
    );
}

#[test]
fn what_must_hold_of_values_is_asked_of_what_depends_on_them() {
    let (stream, folder) = (stream(), Folder::new());
    let square = "f32[2][2]";
    let steps = vec![
        op(Op::Cholesky, square, &[0]),
        op(Op::Exp, square, &[2]),
        op(Op::Sin, square, &[1]),
        op(Op::Add, square, &[3, 3]),
        op(Op::Cos, square, &[4]),
    ];
    let program = program(&[square, square], steps, &[5, 6]);
    let executable = Arc::new(Executable::from(program).fused(folder.kernels("g++")));
    let inputs = [-1.0, 2.0].map(|number| Arc::new(tensor_of(square, &stream, |_| number)));
    let mut replay = Replay::new(&executable, &stream, inputs).unwrap();
    assert_eq!(replay.prepare(), None);
    let Ok(crate::Pause::Done(results)) = replay.advance(usize::MAX) else {
        panic!("expected results");
    };
    let error = results[0].eval().unwrap_err().to_string();
    assert!(error.contains("cholesky"), "{error}");
    results[1].eval().unwrap();
}

#[test]
fn a_loop_with_a_known_counter_waits_for_nothing() {
    let (stream, folder) = (stream(), Folder::new());
    let types = ["f32", "s32"];
    let condition = vec![integer(50, "s32"), op(Op::Less, "u8", &[1, 2])];
    let body = vec![
        op(Op::Sin, "f32", &[0]),
        op(Op::Exp, "f32", &[2]),
        integer(1, "s32"),
        op(Op::Add, "s32", &[1, 4]),
    ];
    let looped = crate::Step::While {
        condition: program(&types, condition, &[3]),
        body: program(&types, body, &[3, 5]),
    };
    let steps = vec![integer(0, "s32"), step(looped, &types, &[0, 1])];
    let whole = program(&["f32"], steps, &[2]);
    let input = Arc::new(tensor_of("f32", &stream, |_| 0.5));
    let executable = Arc::new(Executable::from(whole.clone()).fused(folder.kernels("g++")));
    let mut replay = Replay::new(&executable, &stream, [Arc::clone(&input)]).unwrap();
    replay.prepare();
    assert!(matches!(
        replay.advance(usize::MAX),
        Ok(crate::Pause::Done(_))
    ));
    agree(&[(whole, vec![input])], &stream);
}
