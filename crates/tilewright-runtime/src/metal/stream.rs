//! Streams, which are command queues, and events on them.

use super::in_flight::{InFlight, Submitted, wait_for};
use super::system::{Gpu, Queue, Signal};
use super::{Command, MetalError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A command queue. What is submitted runs in that order. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stream(Arc<Shared>);

struct Shared {
    gpu: Arc<Gpu>,
    queue: Queue,
    running: InFlight,
    /// Held while something is submitted, so that points and queue are in one order.
    last: Mutex<Arc<Point>>,
}

/// A place between two submissions that took time.
#[derive(Default)]
struct Point {
    before: Option<Submitted>,
    after: OnceLock<Submitted>,
}

/// A point on a stream.
pub(crate) struct Event {
    point: Arc<Point>,
    signal: Signal,
    /// What was not finished when the event was made.
    before: Vec<Submitted>,
}

impl Stream {
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Stream, MetalError> {
        let queue = gpu.queue().ok_or_else(|| memory("a command queue"))?;
        Ok(Stream(Arc::new(Shared { gpu: gpu.clone(), queue, running: InFlight::default(), last: Mutex::default() })))
    }

    pub fn fork(&self) -> Result<Stream, MetalError> {
        Stream::new(&self.0.gpu)
    }

    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.0.gpu
    }

    /// Submits a command and returns at once. `what` names it in errors.
    ///
    /// # Safety
    /// A launch's tensors and numbers are what the program takes, and lead to no place outside of the memory given; a copy
    /// stays in both memories. Until it is done, nobody else writes what the command uses, or reads what it writes, but
    /// commands of this stream, or of others that wait for it.
    pub(super) unsafe fn submit(&self, command: Command<'_>, what: &Arc<str>) -> Result<Submitted, MetalError> {
        let takes_time = match command {
            Command::Launch { .. } | Command::Copy { .. } => true,
            Command::Signal(_) | Command::Wait(_) => false,
        };
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's promise is the same.
        let commands = unsafe { self.0.queue.commit(command) };
        let submitted = Submitted::new(commands.ok_or_else(|| memory("a command buffer"))?, what.clone());
        self.0.running.add(std::slice::from_ref(&submitted));
        if takes_time {
            last.after.get_or_init(|| submitted.clone());
            *last = Arc::new(Point { before: Some(submitted.clone()), after: OnceLock::new() });
        }
        Ok(submitted)
    }

    pub fn synchronize(&self) -> Result<(), MetalError> {
        self.0.running.wait()
    }

    /// Somebody was told how this ended.
    pub(super) fn forget(&self, submitted: Submitted) {
        self.0.running.forget(&[submitted]);
    }

    pub fn event(&self) -> Result<Event, MetalError> {
        let signal = self.0.gpu.signal().ok_or_else(|| memory("an event"))?;
        let point = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = self.0.running.now();
        // SAFETY: it uses no memory.
        unsafe { self.submit(Command::Signal(&signal), &Arc::from("an event")) }?;
        Ok(Event { point, signal, before })
    }

    /// What is submitted from now on runs after that point, of this or another stream.
    pub fn wait(&self, event: &Event) -> Result<(), MetalError> {
        // SAFETY: it uses no memory.
        unsafe { self.submit(Command::Wait(&event.signal), &Arc::from("waiting for an event")) }.map(|_| ())
    }
}

impl Event {
    pub fn synchronize(&self) -> Result<(), MetalError> {
        wait_for(&self.before)
    }

    /// From where the GPU began with what was submitted after the earlier point, to where it ended with what was submitted
    /// before this one. Metal's clock knows command buffers, not points between them.
    pub fn since(&self, earlier: &Event) -> Result<Duration, MetalError> {
        earlier.synchronize()?;
        self.synchronize()?;
        let (Some(first), Some(last)) = (earlier.point.after.get(), &self.point.before) else {
            return Ok(Duration::ZERO);
        };
        // Below zero where nothing was submitted between the two.
        let seconds = last.wait()?.end - first.wait()?.start;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO))
    }
}

fn memory(what: &str) -> MetalError {
    MetalError::Memory { what: what.to_string() }
}
