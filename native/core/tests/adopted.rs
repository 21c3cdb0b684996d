//! Memory that tensors read in place: it is never written to, and given up when nothing needs it.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
};

use emily_core::{
    Device, Op, Shape, Source, Stream, Tensor, TensorType, Type, can_adopt, install_error_handler,
    memory,
};

const COUNT: usize = 1 << 14;

/// What is adopted is counted for the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> impl Drop {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn floats(count: usize) -> TensorType {
    TensorType {
        ty: Type::F32,
        shape: Shape::new(&[count as i64]).unwrap(),
    }
}

/// Numbers that somebody else owns and looks at.
#[derive(Clone)]
struct Numbers(Arc<[u64]>);

impl Numbers {
    fn new() -> Self {
        let floats = (0..COUNT).map(|at| ((at % 100) as f32).to_ne_bytes());
        let bytes: Vec<u8> = floats.flatten().collect();
        let words = bytes.chunks_exact(8);
        Self(
            words
                .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
                .collect(),
        )
    }

    /// How many have them, the caller among them.
    fn owners(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

// SAFETY: the numbers stay where they are, and nobody writes to them.
unsafe impl Source for Numbers {
    fn bytes(&self) -> &[u8] {
        // SAFETY: eight bytes for each word.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 8) }
    }
}

fn adopt(stream: &Stream, source: &Numbers) -> Tensor {
    assert!(can_adopt(&floats(COUNT), source.bytes()));
    Tensor::adopt(stream, &floats(COUNT), source.clone()).unwrap()
}

fn apply(stream: &Stream, op: &Op, inputs: &[&Tensor]) -> Tensor {
    Tensor::apply(stream, op, None, inputs).unwrap()
}

/// Evaluates on the stream's thread, as the NIF does, and waits.
fn bytes(stream: &Stream, tensor: Tensor) -> Vec<u8> {
    let (sender, receiver) = channel();
    let job = move || {
        let bytes = tensor
            .readable()
            .map(|tensor| tensor.bytes().unwrap().to_vec());
        drop(tensor);
        sender.send(bytes).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap().unwrap()
}

#[test]
fn it_is_read_in_place() {
    let (_alone, stream, numbers) = (alone(), stream(), Numbers::new());
    let before = memory().unwrap();
    let tensor = adopt(&stream, &numbers);
    assert_eq!(tensor.bytes().unwrap().as_ptr(), numbers.bytes().as_ptr());
    let during = memory().unwrap();
    assert_eq!(during.adopted, before.adopted + 4 * COUNT);
    assert_eq!(during.active, before.active);
    drop(tensor);
    assert_eq!(numbers.owners(), 1);
    assert_eq!(memory().unwrap().adopted, before.adopted);
}

#[test]
fn what_does_not_fit_is_copied() {
    let (_alone, stream, numbers) = (alone(), stream(), Numbers::new());
    for (count, skipped) in [(COUNT - 1, 4), (100, 0), (100, 3)] {
        let bytes = &numbers.bytes()[skipped..skipped + 4 * count];
        assert!(!can_adopt(&floats(count), bytes));
    }
    assert!(!can_adopt(&floats(COUNT + 1), numbers.bytes()));
    assert!(Tensor::adopt(&stream, &floats(COUNT + 1), numbers.clone()).is_err());
    let narrow = TensorType {
        ty: Type::U4,
        shape: Shape::new(&[8 * COUNT as i64]).unwrap(),
    };
    let tensor = Tensor::adopt(&stream, &narrow, numbers.clone()).unwrap();
    assert_eq!(numbers.owners(), 1);
    assert_eq!(bytes(&stream, tensor), numbers.bytes());
}

#[test]
fn operations_write_elsewhere() {
    let (_alone, stream, numbers) = (alone(), stream(), Numbers::new());
    let before = numbers.bytes().to_vec();
    let part = Op::Slice {
        starts: vec![1],
        lengths: vec![COUNT - 1],
        strides: vec![1],
    };
    for op in [
        Op::Negate,
        Op::Exp,
        Op::Abs,
        Op::Floor,
        Op::Sort {
            axis: 0,
            direction: emily_core::Direction::Desc,
        },
        Op::CumulativeSum {
            axis: 0,
            reverse: false,
        },
    ] {
        for view in [None, Some(&part)] {
            // All that refers to the numbers when it is computed is the graph.
            let tensor = adopt(&stream, &numbers);
            let tensor = view.map_or(tensor, |view| {
                apply(&stream, view, &[&adopt(&stream, &numbers)])
            });
            let chain = apply(&stream, &Op::Negate, &[&apply(&stream, &op, &[&tensor])]);
            drop(tensor);
            assert_eq!(numbers.owners(), 2, "{op:?}");
            let result = bytes(&stream, chain);
            assert!(result.iter().any(|&byte| byte > 0));
            assert!(numbers.bytes() == before, "{op:?}");
            assert_eq!(numbers.owners(), 1, "{op:?}");
        }
    }
}

#[test]
fn graphs_and_views_keep_it() {
    let (_alone, stream, numbers) = (alone(), stream(), Numbers::new());
    let shaped = TensorType {
        ty: Type::F32,
        shape: Shape::new(&[2, COUNT as i64 / 2]).unwrap(),
    };
    let lazy = apply(&stream, &Op::Negate, &[&adopt(&stream, &numbers)]);
    assert_eq!(numbers.owners(), 2);
    drop(lazy);
    assert_eq!(numbers.owners(), 1);

    let tensor = adopt(&stream, &numbers);
    let view = Tensor::apply(&stream, &Op::Reshape, Some(&shaped), &[&tensor]).unwrap();
    drop(tensor);
    view.eval().unwrap();
    assert_eq!(numbers.owners(), 2);
    let again = Tensor::apply(&stream, &Op::Reshape, Some(&floats(COUNT)), &[&view]).unwrap();
    drop(view);
    assert!(bytes(&stream, again) == numbers.bytes());
    assert_eq!(numbers.owners(), 1);
}

/// A source that holds a tensor, as a binary does that was read from one.
struct Nested(Tensor);

// SAFETY: the tensor keeps its bytes where they are.
unsafe impl Source for Nested {
    fn bytes(&self) -> &[u8] {
        self.0.bytes().unwrap()
    }
}

#[test]
fn a_long_chain_of_sources_ends_without_overflowing_the_stack() {
    let (_alone, stream, numbers) = (alone(), stream(), Numbers::new());
    let mut tensor = adopt(&stream, &numbers);
    for _ in 0..100_000 {
        tensor = Tensor::adopt(&stream, &floats(COUNT), Nested(tensor)).unwrap();
    }
    assert_eq!(numbers.owners(), 2);
    drop(tensor);
    assert_eq!(numbers.owners(), 1);
}

#[test]
fn threads_that_race_to_drop_it_leave_nothing() {
    let (_alone, numbers) = (alone(), Numbers::new());
    let streams = [stream(), stream()];
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (stream, numbers, done) = (&streams[number % 2], &numbers, &done);
            scope.spawn(move || {
                for step in 0..200 {
                    let tensor = adopt(stream, numbers);
                    let graph = apply(stream, &Op::Negate, &[&tensor]);
                    // The tensor and what is made of it end on two threads at once.
                    let other = thread::spawn(move || drop(tensor));
                    if step % 4 == 0 {
                        let result = bytes(stream, graph);
                        assert_eq!(result[4..8], (-1.0_f32).to_ne_bytes());
                    } else {
                        drop(graph);
                    }
                    other.join().unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 1600);
    assert_eq!(numbers.owners(), 1);
    assert!(numbers.bytes() == Numbers::new().bytes());
}
