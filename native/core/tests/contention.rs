//! Threads that build, evaluate, read and drop the same tensors on several streams at once.
//!
//! The detectors of memory errors and of data races watch this test (`cargo xtask test --sanitize`).
//! MLX keeps no freed buffer meanwhile, so that whoever still uses one is seen.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use emily_core::{
    Device, Op, Shape, Stream, Tensor, TensorType, Type, clear_cache, held_memory,
    install_error_handler, set_cache_limit,
};

const THREADS: u64 = 8;
const STREAMS: usize = 3;
const STEPS: usize = 150;
const TENSORS: usize = 12;
const SIDE: i64 = 16;

/// A tensor and the number that all its elements are.
#[derive(Clone)]
struct Known {
    tensor: Arc<Tensor>,
    value: i64,
}

/// What the threads share.
struct Shared {
    streams: RwLock<Vec<Stream>>,
    tensors: RwLock<Vec<Known>>,
}

/// A number from 0 and below `end`; each thread has its own sequence (Knuth's MMIX generator).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn square() -> TensorType {
    TensorType {
        ty: Type::S64,
        shape: Shape::new(&[SIDE, SIDE]).unwrap(),
    }
}

fn filled(stream: &Stream, value: i64) -> Known {
    let bytes = value.to_ne_bytes().repeat((SIDE * SIDE) as usize);
    let tensor = Tensor::from_bytes(stream, &square(), &bytes).unwrap();
    Known {
        tensor: Arc::new(tensor),
        value,
    }
}

fn apply(stream: &Stream, op: &Op, inputs: &[&Tensor]) -> Tensor {
    Tensor::apply(stream, op, None, inputs).unwrap()
}

impl Shared {
    fn stream(&self, draw: &mut Draw) -> Stream {
        self.streams.read().unwrap()[draw.below(STREAMS)].clone()
    }

    fn tensor(&self, draw: &mut Draw) -> Known {
        self.tensors.read().unwrap()[draw.below(TENSORS)].clone()
    }

    /// Makes a tensor from two of the shared ones, without computing it.
    fn build(&self, draw: &mut Draw) -> Known {
        let stream = self.stream(draw);
        let (a, b) = (self.tensor(draw), self.tensor(draw));
        let (tensor, value) = match draw.below(5) {
            0 => (
                apply(&stream, &Op::Add, &[&a.tensor, &b.tensor]),
                a.value.wrapping_add(b.value),
            ),
            1 => (
                apply(&stream, &Op::Subtract, &[&a.tensor, &b.tensor]),
                a.value.wrapping_sub(b.value),
            ),
            2 => (
                apply(&stream, &Op::Max, &[&a.tensor, &b.tensor]),
                a.value.max(b.value),
            ),
            3 => {
                let turned = Op::Transpose { axes: vec![1, 0] };
                (apply(&stream, &turned, &[&a.tensor]), a.value)
            }
            _ => {
                let rows = rows(&stream, SIDE - 1);
                let taken = apply(&stream, &Op::Take { axis: 0 }, &[&a.tensor, &rows]);
                (taken, a.value)
            }
        };
        Known {
            tensor: Arc::new(tensor),
            value,
        }
    }

    /// Takes a row that is not there, which only the evaluation can tell.
    fn fault(&self, draw: &mut Draw) -> Arc<Tensor> {
        let stream = self.stream(draw);
        let (a, b) = (self.tensor(draw), self.tensor(draw));
        let rows = rows(&stream, SIDE);
        let taken = apply(&stream, &Op::Take { axis: 0 }, &[&a.tensor, &rows]);
        Arc::new(apply(&stream, &Op::Add, &[&taken, &b.tensor]))
    }

    /// One step of a thread. A job that it leaves to a stream answers over `answers` if all went well.
    fn step(&self, draw: &mut Draw, answers: &Answers) {
        match draw.below(10) {
            0 => read(self.tensor(draw), answers),
            1 => refuse(self.fault(draw), answers),
            2 => locate(self.tensor(draw), answers),
            3 => {
                let known = self.tensor(draw);
                if let Some(bytes) = known.tensor.bytes() {
                    assert_all(bytes, known.value);
                }
            }
            4 => {
                let fresh = filled(&self.stream(draw), draw.below(1000) as i64);
                self.put(draw, fresh);
            }
            5 => {
                let fresh = Stream::new(Device::Cpu).unwrap();
                self.streams.write().unwrap()[draw.below(STREAMS)] = fresh;
            }
            6 => drop(self.build(draw)),
            7 => {
                held_memory().unwrap();
                clear_cache().unwrap();
            }
            _ => {
                let built = self.build(draw);
                if draw.below(2) == 0 {
                    read(built.clone(), answers);
                }
                self.put(draw, built);
            }
        }
    }

    /// Puts a tensor in another one's place, which may be dropped here while others compute with it.
    fn put(&self, draw: &mut Draw, known: Known) {
        let place = draw.below(TENSORS);
        let old = {
            let mut tensors = self.tensors.write().unwrap();
            std::mem::replace(&mut tensors[place], known)
        };
        drop(old);
    }
}

/// As many lazy row numbers as there are rows, each of them `number`.
fn rows(stream: &Stream, number: i64) -> Tensor {
    let ty = TensorType {
        ty: Type::S64,
        shape: Shape::new(&[SIDE]).unwrap(),
    };
    let halves = [number / 2, number - number / 2].map(|half| {
        let bytes = half.to_ne_bytes().repeat(SIDE as usize);
        Tensor::from_bytes(stream, &ty, &bytes).unwrap()
    });
    apply(stream, &Op::Add, &[&halves[0], &halves[1]])
}

fn assert_all(bytes: &[u8], value: i64) {
    let mut elements = bytes.chunks_exact(8);
    assert_eq!(elements.len() as i64, SIDE * SIDE);
    assert!(elements.all(|element| element == value.to_ne_bytes()));
}

/// How jobs tell that they are done. A job that panics tells nothing.
#[derive(Clone)]
struct Answers {
    sender: Sender<()>,
    due: Arc<AtomicUsize>,
}

impl Answers {
    /// Runs `job` with the tensor on its stream, as the NIF does.
    fn run(&self, tensor: Arc<Tensor>, job: impl FnOnce(&Tensor) + Send + 'static) {
        self.due.fetch_add(1, Ordering::Relaxed);
        let sender = self.sender.clone();
        let stream = tensor.stream().clone();
        let job = move || {
            job(&tensor);
            drop(tensor);
            sender.send(()).unwrap();
        };
        stream.submit(job).unwrap();
    }
}

fn read(known: Known, answers: &Answers) {
    let value = known.value;
    answers.run(known.tensor, move |tensor| {
        assert_all(tensor.readable().unwrap().bytes().unwrap(), value);
    });
}

fn locate(known: Known, answers: &Answers) {
    answers.run(known.tensor, |tensor| {
        let address = tensor.address().unwrap();
        assert_eq!(tensor.address().unwrap(), address);
    });
}

/// Expects the evaluation to fail, each time.
fn refuse(fault: Arc<Tensor>, answers: &Answers) {
    answers.run(fault, |tensor| {
        for _ in 0..2 {
            let error = tensor.eval().unwrap_err().to_string();
            assert!(
                error.starts_with("take failed: expected each index"),
                "{error}"
            );
        }
    });
}

#[test]
fn threads_share_all_that_they_build_evaluate_read_and_drop() {
    install_error_handler();
    set_cache_limit(0).unwrap();
    let before = held_memory().unwrap();
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| Stream::new(Device::Cpu).unwrap())
        .collect();
    let tensors = (0..TENSORS).map(|at| filled(&streams[at % STREAMS], at as i64));
    let shared = Shared {
        tensors: RwLock::new(tensors.collect()),
        streams: RwLock::new(streams),
    };
    let (sender, done) = channel();
    let answers = Answers {
        sender,
        due: Arc::default(),
    };
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (shared, answers) = (&shared, answers.clone());
            scope.spawn(move || {
                let mut draw = Draw(seed);
                for _ in 0..STEPS {
                    shared.step(&mut draw, &answers);
                }
            });
        }
    });
    for known in shared.tensors.into_inner().unwrap() {
        read(known, &answers);
    }
    let due = answers.due.load(Ordering::Relaxed);
    drop(answers);
    assert_eq!(done.iter().count(), due, "a job has panicked");
    assert_eq!(held_memory().unwrap(), before, "memory is left");
}
