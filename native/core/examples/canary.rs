//! Makes one mistake on purpose, so that a detector that misses it is found out.
//!
//! `cargo xtask test --sanitize` runs it before the tests and expects a report of each mistake.

use std::{env, hint::black_box, mem, process::ExitCode, sync::Barrier, thread};

use emily_core::{
    Array, Device, Result, Shape, Stream, Tensor, TensorType, Type, install_error_handler,
    set_cache_limit,
};
use mlx_sys as sys;

type Mistake = fn() -> Result<()>;

const MISTAKES: [(&str, Mistake); 6] = [
    ("freed-in-rust", read_what_rust_freed),
    ("freed-in-cpp", read_what_cpp_freed),
    ("freed-by-mlx", read_what_mlx_freed),
    ("leak", leak),
    ("race-in-rust", race_in_rust),
    ("race-in-cpp", race_in_cpp),
];

fn main() -> ExitCode {
    install_error_handler();
    let name = env::args().nth(1).unwrap_or_default();
    let known = MISTAKES.map(|(known, _)| known);
    let made = match MISTAKES.iter().find(|(known, _)| *known == name) {
        Some((_, mistake)) => mistake().map_err(|error| error.to_string()),
        None => Err(format!(
            "expected a mistake to be one of {}, got: {name}",
            known.join(", ")
        )),
    };
    if let Err(text) = &made {
        eprintln!("{text}");
    }
    // What was asked for is made without a crash: what the status says beyond that is the detector's.
    if made.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    }
}

fn bytes(len: i64) -> Result<TensorType> {
    Ok(TensorType {
        ty: Type::U8,
        shape: Shape::new(&[len])?,
    })
}

/// The address of a number that two threads change.
#[derive(Clone, Copy)]
struct Address(*mut u64);

// SAFETY: none; that is the mistake.
unsafe impl Send for Address {}

impl Address {
    fn add(self) {
        for _ in 0..1000 {
            // SAFETY: the number lives, but another thread writes it as well.
            unsafe { self.0.write_volatile(self.0.read_volatile() + 1) };
        }
    }
}

/// A handle of mlx-c's that one thread changes and another one uses.
#[derive(Clone, Copy)]
struct Handle(sys::mlx_array);

// SAFETY: none; that is the mistake.
unsafe impl Send for Handle {}

impl Handle {
    fn set(mut self, to: [Self; 2]) {
        for number in 0..1000 {
            // SAFETY: the handles live, but another thread reads the one that is set.
            unsafe { sys::mlx_array_set(&raw mut self.0, to[number % 2].0) };
        }
    }

    fn look(self) {
        for _ in 0..1000 {
            // SAFETY: the handle lives, but another thread sets it.
            black_box(unsafe { sys::mlx_array_ndim(self.0) });
        }
    }
}

fn read_what_rust_freed() -> Result<()> {
    let numbers = black_box(vec![1_u8; 64]);
    let address = numbers.as_ptr();
    drop(numbers);
    // SAFETY: none, it was freed.
    black_box(unsafe { address.read_volatile() });
    Ok(())
}

fn read_what_cpp_freed() -> Result<()> {
    // SAFETY: not of the last call, whose handle was freed.
    black_box(unsafe {
        let array = sys::mlx_array_new_int(7);
        sys::mlx_array_free(array);
        sys::mlx_array_ndim(array)
    });
    Ok(())
}

fn read_what_mlx_freed() -> Result<()> {
    set_cache_limit(0)?;
    let stream = Stream::new(Device::Cpu)?;
    let tensor = Tensor::from_bytes(&stream, &bytes(4096)?, &[1; 4096])?;
    let address = tensor.address()? as *const u8;
    drop(tensor);
    // SAFETY: none, the tensor's memory went with it.
    black_box(unsafe { address.read_volatile() });
    Ok(())
}

fn leak() -> Result<()> {
    for _ in 0..8 {
        mem::forget(black_box(Array::from_bytes(&bytes(4096)?, &[1; 4096])?));
    }
    Ok(())
}

/// Runs both at once: of threads that never meet a detector may see nothing.
fn race(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            start.wait();
            one();
        });
        scope.spawn(move || {
            start.wait();
            other();
        });
    });
}

fn race_in_rust() -> Result<()> {
    let mut number = 0;
    let address = Address(&raw mut number);
    race(move || address.add(), move || address.add());
    black_box(number);
    Ok(())
}

fn race_in_cpp() -> Result<()> {
    // SAFETY: the handles live until the threads have ended; that one of them changes what the other
    // one reads is the mistake. Both arrays stay alive, so nothing worse comes of it.
    unsafe {
        let arrays = [7, 8].map(|number| Handle(sys::mlx_array_new_int(number)));
        let mut copy = Handle(sys::mlx_array_new());
        sys::mlx_array_set(&raw mut copy.0, arrays[0].0);
        race(move || copy.set(arrays), move || copy.look());
        for handle in [copy, arrays[0], arrays[1]] {
            sys::mlx_array_free(handle.0);
        }
    }
    Ok(())
}
