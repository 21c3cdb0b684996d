//! Graphs built and evaluated by many threads at once, and the threads behind streams.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use emily_core::{
    Device, Op, QrMode, Shape, Stream, Tensor, TensorType, Type, install_error_handler,
};

const THREADS: usize = 64;
const STREAMS: usize = 4;

fn f32s(dims: &[i64]) -> TensorType {
    TensorType {
        ty: Type::F32,
        shape: Shape::new(dims).unwrap(),
    }
}

/// A stream on the GPU, where there is one.
fn stream() -> Stream {
    install_error_handler();
    let device = *Device::available().last().unwrap();
    Stream::new(device).unwrap()
}

/// A square matrix with `side` rows of numbers that depend on `seed`.
fn matrix(stream: &Stream, side: i64, seed: i64) -> Tensor {
    let numbers = (0..side * side).map(|at| ((at * 7 + seed * 13) % 31) as f32 / 8.0 - 2.0);
    let bytes: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
    Tensor::from_bytes(stream, &f32s(&[side, side]), &bytes).unwrap()
}

fn apply(stream: &Stream, op: &Op, inputs: &[&Tensor]) -> Tensor {
    Tensor::apply(stream, op, None, inputs).unwrap()
}

fn product(stream: &Stream, a: &Tensor, b: &Tensor) -> Tensor {
    let dot = Op::Dot {
        contract_a: vec![1],
        batch_a: vec![],
        contract_b: vec![0],
        batch_b: vec![],
    };
    apply(stream, &dot, &[a, b])
}

/// Evaluates on the stream's thread, as the NIF does, and waits.
fn bytes(stream: &Stream, tensor: Tensor) -> Vec<u8> {
    let (sender, receiver) = channel();
    let job = move || {
        let bytes = tensor
            .readable()
            .map(|tensor| tensor.bytes().unwrap().to_vec());
        sender.send(bytes).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap().unwrap()
}

/// A chain on `stream` that begins at `shared`, which other threads build on as well.
fn chain(stream: &Stream, shared: &Tensor, number: usize) -> Vec<u8> {
    let own = matrix(stream, 24, number as i64);
    let mut x = product(stream, shared, &own);
    for _ in 0..8 {
        x = apply(
            stream,
            &Op::Tanh,
            &[&apply(stream, &Op::Add, &[&x, shared])],
        );
        x = product(stream, &x, &own);
    }
    bytes(stream, x)
}

/// A lazy tensor that nobody has evaluated.
fn lazy(stream: &Stream) -> Tensor {
    let base = matrix(stream, 24, 5);
    apply(stream, &Op::Sin, &[&product(stream, &base, &base)])
}

#[test]
fn many_threads_compute_what_one_does() {
    let streams: Vec<Stream> = (0..STREAMS).map(|_| stream()).collect();
    let expected: Vec<_> = (0..THREADS)
        .map(|number| chain(&streams[0], &lazy(&streams[0]), number))
        .collect();

    // Each round starts from a tensor that is not computed yet, so that all threads race to it.
    for round in 0..4 {
        let shared = lazy(&streams[round % STREAMS]);
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (stream, shared) = (&streams[number % STREAMS], &shared);
                    scope.spawn(move || chain(stream, shared, number))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(results == expected, "round {round} differs");
    }
}

#[test]
fn tensors_outlive_the_handle_of_their_stream() {
    let expected = {
        let stream = stream();
        bytes(&stream, lazy(&stream))
    };
    let first = stream();
    let tensor = lazy(&first);
    drop(first);
    let second = stream();
    let copy = apply(
        &second,
        &Op::Negate,
        &[&apply(&second, &Op::Negate, &[&tensor])],
    );
    assert_eq!(bytes(&second, copy), expected);
    drop(second);
    assert_eq!(bytes(&tensor.stream().clone(), tensor), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_streams_need_no_thousand_threads() {
    let count = || fs::read_dir("/proc/self/task").unwrap().count();
    bytes(&stream(), lazy(&stream()));
    let before = count();
    for seed in 0..1000 {
        let stream = stream();
        let x = matrix(&stream, 2, seed);
        bytes(&stream, apply(&stream, &Op::Exp, &[&x]));
    }
    // The other tests of this file run beside this one, with a thread for each of theirs.
    let most = before + THREADS + 4 * STREAMS;
    assert!(count() <= most, "{} threads, {before} before", count());
}

/// A graph of many operations on many elements, none of which takes long.
fn long(stream: &Stream) -> Tensor {
    let iota = Op::Iota { axis: None };
    let mut x = Tensor::apply(stream, &iota, Some(&f32s(&[1 << 17])), &[]).unwrap();
    for _ in 0..400 {
        x = apply(stream, &Op::Sin, &[&x]);
    }
    x
}

/// Computes a small graph on `stream`, and says for how long.
fn quick(stream: &Stream) -> Duration {
    let x = lazy(stream);
    let start = Instant::now();
    bytes(stream, x);
    start.elapsed()
}

#[test]
fn a_long_evaluation_lets_others_have_their_turns() {
    let (slow, other) = (stream(), stream());
    quick(&other);
    let (sender, done) = channel();
    let tensor = long(&slow);
    let start = Instant::now();
    let job = move || {
        tensor.eval().unwrap();
        sender.send(()).unwrap();
    };
    slow.submit(job).unwrap();

    let mut waits = Vec::new();
    while done.try_recv().is_err() {
        waits.push(quick(&other));
    }
    let (whole, longest) = (start.elapsed(), waits.iter().max().unwrap());
    assert!(waits.len() > 10, "{} turns", waits.len());
    assert!(*longest < whole / 4, "waited {longest:?} of {whole:?}");
}

#[test]
fn what_is_computed_in_parts_is_the_same() {
    let stream = stream();
    // Wide, deep, with results that are used far apart, operations with several results, and more than
    // one part's work.
    let base = matrix(&stream, 512, 3);
    let qr = Op::Qr {
        mode: QrMode::Reduced,
    };
    let eval = |tensor: &Tensor| tensor.eval().unwrap();
    let build = |each: &dyn Fn(&Tensor)| {
        let mut kept = vec![apply(&stream, &Op::Sin, &[&base])];
        for step in 0..60 {
            let x = product(&stream, &kept[step], &kept[step / 3]);
            let x = apply(&stream, &Op::Tanh, &[&x]);
            let factors = Tensor::apply_all(&stream, &qr, None, &[&x]).unwrap();
            let x = apply(&stream, &Op::Add, &[&factors[step % 2], &x]);
            each(&x);
            kept.push(x);
        }
        let axis = Op::Concatenate { axis: 0 };
        let all: Vec<_> = kept.iter().collect();
        bytes(&stream, Tensor::apply(&stream, &axis, None, &all).unwrap())
    };
    let at_once = build(&|_| {});
    assert!(at_once == build(&eval));
}
