//! Memory that is taken over, and threads that compute at once.

use std::{sync::Arc, thread};

use emily_core::{
    ActivationFunction, Device, Op, Source, Stream, Tensor, Type, install_error_handler,
};

use crate::{
    cases::{Case, LAYOUTS, activation, layer_norm, normal_rotary, rms_norm, rotary, softmax},
    numbers::{Numbers, TYPES, apply, assert_near},
    on, on_each_device, oracle,
};

/// Results that nobody holds are computed over; the tensor at the beginning is not.
#[test]
fn chains_compute_in_their_own_memory() {
    on_each_device(|stream| {
        for ty in TYPES {
            let x = Numbers::drawn(4, ty, &[33, 64], 3.0);
            let start = x.tensor(stream, ty);
            let silu = Op::Activation {
                function: ActivationFunction::Silu,
            };
            let chain = [Op::Softmax, Op::RmsNorm { epsilon: 1e-6 }, silu];
            let mut last = apply(stream, &chain[0], &[&start]);
            for op in &chain[1..] {
                last = apply(stream, op, &[&last]);
            }
            let expected = oracle::rms_norm(&oracle::softmax(&x), None, 1e-6);
            let expected = oracle::activation(ActivationFunction::Silu, &expected, None);
            let near = (8.0 * crate::numbers::unit(ty), 1e-6);
            assert_near("a chain", ty, &Numbers::read(&last), &expected, near);
            assert_eq!(Numbers::read(&start), x);
        }
    });
}

/// One tensor as each of the inputs: nothing may be computed in it.
#[test]
fn a_tensor_may_be_both_inputs() {
    on_each_device(|stream| {
        for ty in TYPES {
            let x = Numbers::drawn(5, ty, &[9, 40], 3.0);
            // Not at hand yet, so that only the operation itself holds it.
            let held = x.tensor(stream, ty);
            let lazy = apply(
                stream,
                &Op::Negate,
                &[&apply(stream, &Op::Negate, &[&held])],
            );
            let silu = Op::Activation {
                function: ActivationFunction::Silu,
            };
            let squared = apply(stream, &silu, &[&lazy, &lazy]);
            drop(lazy);
            let expected = oracle::activation(ActivationFunction::Silu, &x, Some(&x));
            assert_near(
                "a square",
                ty,
                &Numbers::read(&squared),
                &expected,
                (1e-5, 1e-6),
            );
        }
    });
}

fn all_cases() -> Vec<Case> {
    let x = |seed, ty| Numbers::drawn(seed, ty, &[48, 3, 256], 4.0);
    let of = |ty| {
        [
            layer_norm(ty, x(6, ty)),
            rms_norm(ty, x(7, ty), 2),
            softmax(ty, x(8, ty)),
            rotary(ty, x(9, ty), &[3, 256]),
            normal_rotary(ty, x(10, ty), &[3, 256]),
            activation(ty, ActivationFunction::Gelu, x(10, ty), true),
        ]
    };
    TYPES.into_iter().flat_map(of).collect()
}

/// Streams share the threads that help them. All must get what one alone gets, to the bit.
#[test]
fn streams_at_once_give_what_one_gives() {
    install_error_handler();
    let cases = Arc::new(all_cases());
    let alone = results(&Stream::new(Device::Cpu).unwrap(), &cases);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let cases = Arc::clone(&cases);
            thread::spawn(move || {
                let stream = Stream::new(Device::Cpu).unwrap();
                (0..3).map(|_| results(&stream, &cases)).collect::<Vec<_>>()
            })
        })
        .collect();
    for thread in threads {
        for together in thread.join().unwrap() {
            assert_eq!(together, alone);
        }
    }
}

fn results(stream: &Stream, cases: &Arc<Vec<Case>>) -> Vec<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let cases = Arc::clone(cases);
    on(stream, move |stream| {
        let compute = |case: &Case| {
            let inputs = case.tensors(stream, LAYOUTS[1]);
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let result = apply(stream, &case.op, &inputs).readable().unwrap();
            result.bytes().unwrap().to_vec()
        };
        sender.send(cases.iter().map(compute).collect()).unwrap();
    });
    receiver.recv().unwrap()
}

/// Bytes that somebody else can look at.
struct Lent(Arc<[u64]>);

// SAFETY: numbers that nobody changes, behind a count of who has them.
unsafe impl Source for Lent {
    fn bytes(&self) -> &[u8] {
        // SAFETY: numbers are readable as bytes, eight times as many.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 8) }
    }
}

/// What is adopted has a guard's reference beside, so nothing is computed in it.
#[test]
fn adopted_memory_stays_as_it_is() {
    on_each_device(|stream| {
        let ones = u64::from(1_f32.to_bits()) << 32 | u64::from(1_f32.to_bits());
        let words: Arc<[u64]> = vec![ones; 1 << 13].into();
        let dims = [1 << 14];
        let ty = Numbers::new(&dims, vec![0.0; 1 << 14]).tensor_type(Type::F32);
        let tensor = Tensor::adopt(stream, &ty, Lent(Arc::clone(&words))).unwrap();
        let result = apply(stream, &Op::Softmax, &[&tensor]);
        drop(tensor);
        let expected = Numbers::new(&dims, vec![1.0 / 16384.0; 1 << 14]);
        assert_near(
            "a softmax",
            Type::F32,
            &Numbers::read(&result),
            &expected,
            (1e-5, 0.0),
        );
        assert!(words.iter().all(|&word| word == ones));
    });
}
