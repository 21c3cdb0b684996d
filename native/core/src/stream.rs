//! Streams: a queue of MLX's, and the thread that evaluates on it.

use std::{
    cell::RefCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use mlx_sys as sys;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Type, error::take_message, eval, mlx::Mlx, part::Pace};

/// A kind of processor that MLX computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// Metal or CUDA.
    Gpu,
}

impl Device {
    const fn to_mlx(self) -> sys::mlx_device_type {
        match self {
            Self::Cpu => sys::mlx_device_type__MLX_CPU,
            Self::Gpu => sys::mlx_device_type__MLX_GPU,
        }
    }

    /// The devices of this host that the MLX library was built for.
    pub fn available() -> Vec<Self> {
        [Self::Cpu, Self::Gpu]
            .into_iter()
            .filter(|device| device.is_available())
            .collect()
    }

    /// Why the device cannot hold `ty`, if it cannot: MLX computes with 64-bit floats on the host alone.
    pub(crate) fn refusal(self, ty: Type) -> Option<Error> {
        (ty == Type::F64 && self == Self::Gpu).then(|| {
            Error::argument(
                "expected :type to be a type that the gpu has (MLX has no f64 there: use f32, or a CPU backend \
                 with device: :cpu), got: {:f, 64}",
            )
        })
    }

    fn is_available(self) -> bool {
        let mut available = false;
        // SAFETY: the device handle is made and freed here; `available` is writable.
        unsafe {
            let handle = sys::mlx_device_new_type(self.to_mlx(), 0);
            let status = sys::mlx_device_is_available(&raw mut available, handle);
            sys::mlx_device_free(handle);
            status == 0 && available
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// What a stream's thread is to do, and whether anybody still waits for it.
struct Job {
    run: Box<dyn FnOnce() + Send>,
    wanted: Wanted,
}

type Wanted = Box<dyn Fn() -> bool + Send>;

thread_local! {
    /// Of the job that this thread runs.
    static WANTED: RefCell<Option<Wanted>> = const { RefCell::new(None) };
}

impl Job {
    /// Runs the job, unless nobody waits for it any more.
    fn perform(self) {
        if !(self.wanted)() {
            return;
        }
        WANTED.set(Some(self.wanted));
        // A job answers for its own failures; what is left is a bug, which must not end the thread
        // that others wait for.
        let _ = catch_unwind(AssertUnwindSafe(self.run));
        WANTED.set(None);
    }
}

/// Goes on only if somebody waits for what this thread computes.
///
/// # Errors
///
/// If nobody does.
pub fn check_wanted() -> Result<()> {
    if WANTED.with_borrow(|wanted| wanted.as_ref().is_none_or(|wanted| wanted())) {
        return Ok(());
    }
    Err(Error::Stream("nobody waits for it any more".to_owned()))
}

/// A queue of MLX's with the thread that evaluates on it.
///
/// Graphs may be built on a stream from any thread. Clones are the same stream; when the last one
/// is dropped its thread waits for the next stream of the same device, because MLX never gives up
/// the thread that it starts for each of its own streams.
#[derive(Clone)]
pub struct Stream(Arc<Lease>);

/// A worker in use; gives it back when dropped.
struct Lease(Option<Worker>);

struct Worker {
    device: Device,
    mlx_stream: MlxStream,
    /// A GPU's second stream, on the host's processor.
    host: Option<MlxStream>,
    /// Whether anything was ever to be computed there.
    host_used: AtomicBool,
    pace: Pace,
    jobs: Sender<Job>,
}

struct MlxStream(sys::mlx_stream);

// SAFETY: the handle is a heap-allocated index and device that nothing changes after its making.
unsafe impl Send for MlxStream {}
// SAFETY: as above.
unsafe impl Sync for MlxStream {}

impl MlxStream {
    fn new(device: Device) -> Result<Self> {
        // A stream that MLX binds to its maker's thread could not be walked through by another
        // stream's evaluation. This one can, as long as no two evaluations walk at once, which the
        // lock sees to; walks also read the table that MLX notes the new stream in.
        let _no_walk = eval::LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the device handle is made and freed here.
        let stream = unsafe {
            let handle = sys::mlx_device_new_type(device.to_mlx(), 0);
            let stream = sys::mlx_stream_new_thread_unsafe(handle);
            sys::mlx_device_free(handle);
            stream
        };
        if stream.ctx.is_null() {
            return Err(take_message());
        }
        Ok(Self(stream))
    }
}

impl Drop for MlxStream {
    fn drop(&mut self) {
        // SAFETY: the handle is owned and not used again; MLX's own queue stays.
        unsafe { sys::mlx_stream_free(self.0) };
    }
}

/// Workers that no stream uses.
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

impl Stream {
    /// A stream on `device`.
    ///
    /// # Errors
    ///
    /// If the host has no such device, or no thread can be started.
    pub fn new(device: Device) -> Result<Self> {
        let idle = {
            // Held no longer than this: streams are dropped on schedulers.
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            let fit = idle.iter().position(|worker| worker.device == device);
            fit.map(|index| idle.swap_remove(index))
        };
        let worker = idle.map_or_else(|| Worker::start(device), Ok)?;
        Ok(Self(Arc::new(Lease(Some(worker)))))
    }

    /// Where this stream computes.
    pub fn device(&self) -> Device {
        self.worker().device
    }

    /// A number that no other stream has as long as this one is there; the one after it may have it.
    pub(crate) fn number(&self) -> usize {
        self.worker().mlx_stream.0.ctx as usize
    }

    /// MLX's functions on this stream.
    pub(crate) fn mlx(&self) -> Mlx {
        let worker = self.worker();
        Mlx::new(worker.mlx_stream.0, worker.device)
    }

    /// MLX's functions on the host's processor, for what MLX computes nowhere else; the results can
    /// be used on this stream.
    pub(crate) fn host(&self) -> Mlx {
        let worker = self.worker();
        worker.host_used.store(true, Ordering::Release);
        Mlx::new(
            worker.host.as_ref().unwrap_or(&worker.mlx_stream).0,
            Device::Cpu,
        )
    }

    /// Runs `job` on the stream's thread after what was submitted before it.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        self.submit_while(|| true, job)
    }

    /// As [`Self::submit`], for as long as somebody waits for the job: once `wanted` says no, it is left
    /// out, or what it evaluates fails after the part that is being computed.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub fn submit_while(
        &self,
        wanted: impl Fn() -> bool + Send + 'static,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let job = Job {
            run: Box::new(job),
            wanted: Box::new(wanted),
        };
        self.worker()
            .jobs
            .send(job)
            .map_err(|_| Error::Stream(format!("the thread of {self} has ended")))
    }

    /// How fast this stream's device was with its work so far.
    pub(crate) fn pace(&self) -> &Pace {
        &self.worker().pace
    }

    /// Waits until the device, and the host for it, have done everything that was scheduled on this
    /// stream.
    pub(crate) fn synchronize(&self) -> Result<()> {
        let worker = self.worker();
        let used = worker.host_used.load(Ordering::Acquire);
        let host = worker.host.as_ref().filter(|_| used);
        for stream in host.into_iter().chain([&worker.mlx_stream]) {
            // SAFETY: the handle is live. On the CPU this only enqueues a task and waits for it.
            if unsafe { sys::mlx_synchronize(stream.0) } != 0 {
                return Err(take_message());
            }
        }
        Ok(())
    }

    #[allow(clippy::expect_used, reason = "only `Lease::drop` takes the worker")]
    fn worker(&self) -> &Worker {
        self.0
            .0
            .as_ref()
            .expect("a lease holds its worker until it is dropped")
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stream {:p}", self.device(), Arc::as_ptr(&self.0))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            IDLE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(worker);
        }
    }
}

impl Worker {
    fn start(device: Device) -> Result<Self> {
        if !device.is_available() {
            let known: Vec<_> = Device::available()
                .iter()
                .map(|known| format!(":{known}"))
                .collect();
            return Err(Error::argument(format!(
                "expected :device to be {} on this host, got: :{device}",
                known.join(" or ")
            )));
        }
        let mlx_stream = MlxStream::new(device)?;
        let host = match device {
            Device::Cpu => None,
            Device::Gpu => Some(MlxStream::new(Device::Cpu)?),
        };
        let (jobs, queue) = channel::<Job>();
        thread::Builder::new()
            .name(format!("emily-{device}"))
            .spawn(move || {
                queue.into_iter().for_each(Job::perform);
            })
            .map_err(|error| {
                Error::Stream(format!(
                    "could not start a thread for a {device} stream: {error}"
                ))
            })?;
        Ok(Self {
            device,
            mlx_stream,
            host,
            host_used: AtomicBool::new(false),
            pace: Pace::new(),
            jobs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f64_is_refused_where_there_is_none() {
        assert_eq!(
            Device::Gpu.refusal(Type::F64).unwrap().to_string(),
            "expected :type to be a type that the gpu has (MLX has no f64 there: use f32, or a CPU backend \
                 with device: :cpu), got: {:f, 64}"
        );
        assert!(Device::Gpu.refusal(Type::F32).is_none());
        for ty in Type::ALL {
            assert!(Device::Cpu.refusal(ty).is_none(), "{ty}");
        }
    }
}
