//! Streams, events and recorded graphs.

use super::driver::Named;
use super::memory::Buffer;
use super::pipeline::Module;
use crate::error::DeviceError;
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, result, sys};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An order in which a GPU works: what is put on a stream runs after what was put on it before, while the host goes on. Cheap
/// to clone.
#[derive(Clone)]
pub struct Stream(Arc<Shared>);

struct Shared {
    stream: Arc<CudaStream>,
    /// Whether the stream ends with this. cudarc's own streams wait for the whole context when the first one is made.
    owned: bool,
    /// While a graph is recorded: what its launches use. `None` else.
    recording: Option<Mutex<Vec<Kept>>>,
}

/// What a launch uses and a graph keeps.
pub(super) enum Kept {
    Buffer(Arc<Buffer>),
    Module(#[expect(dead_code, reason = "held so that the code stays loaded")] Arc<Module>),
}

/// A point on a stream, to wait for and to measure from.
pub struct Event(CudaEvent);

/// Launches that were recorded once and run again with one call. Keeps their memory and code.
pub struct Graph {
    graph: Mutex<CudaGraph>,
    context: Arc<CudaContext>,
    kept: Vec<Kept>,
    /// The streams that it was launched on.
    streams: Mutex<Vec<Stream>>,
}

// SAFETY: a CUDA graph may be used from any thread, by one at a time; the mutex sees to that.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Stream {
    /// The caller's stream, for example candle's. Work is put on it in the caller's order, and it is never waited for but
    /// where a function says so. It must not be recording.
    pub fn of(stream: Arc<CudaStream>) -> Stream {
        Stream(Arc::new(Shared { stream, owned: false, recording: None }))
    }

    /// A new stream of the same GPU, which does not wait for the default one.
    ///
    /// # Errors
    /// What the driver says.
    pub fn fork(&self) -> Result<Stream, DeviceError> {
        Stream::new(self.context(), None)
    }

    pub(super) fn new(context: &Arc<CudaContext>, recording: Option<Mutex<Vec<Kept>>>) -> Result<Stream, DeviceError> {
        context.bind_to_thread().named("cuCtxSetCurrent")?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).named("cuStreamCreate")?;
        // SAFETY: of this context, and `Shared` ends it when its last user is gone.
        let stream = unsafe { context.wrap_borrowed_stream(stream) };
        Ok(Stream(Arc::new(Shared { stream, owned: true, recording })))
    }

    /// The stream as cudarc knows it.
    pub fn cuda(&self) -> &CudaStream {
        &self.0.stream
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        self.0.stream.context()
    }

    /// Waits until all that was put on it is done.
    ///
    /// # Errors
    /// What failed on the GPU since it was last asked.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.0.stream.synchronize().named("cuStreamSynchronize")
    }

    /// The point after all that was put on it so far.
    ///
    /// # Errors
    /// What the driver says.
    pub fn event(&self) -> Result<Event, DeviceError> {
        let event = self.context().new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).named("cuEventCreate")?;
        event.record(&self.0.stream).named("cuEventRecord")?;
        Ok(Event(event))
    }

    /// What is put on this stream from now on runs after that point of another one. The host does not wait.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait(&self, event: &Event) -> Result<(), DeviceError> {
        self.0.stream.wait(&event.0).named("cuStreamWaitEvent")
    }

    /// Records what `launches` puts on the stream that it is given, without running it. Every pipeline must have been launched
    /// with tensors of the same alignment or have been compiled, and all tensors must be in memory of the device.
    ///
    /// # Errors
    /// What `launches` returns, and what the driver cannot record.
    pub fn capture<E: From<DeviceError>>(&self, launches: impl FnOnce(&Stream) -> Result<(), E>) -> Result<Graph, E> {
        let recorder = Stream::new(self.context(), Some(Mutex::default()))?;
        let stream = &recorder.0.stream;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).named("cuStreamBeginCapture")?;
        let launched = launches(&recorder);
        let ended = stream.end_capture(sys::CUgraphInstantiate_flags(0)).named("cuStreamEndCapture");
        launched?;
        let nothing = || DeviceError::Call { call: "cuStreamEndCapture", reason: "nothing was recorded".into() };
        let graph = Mutex::new(ended?.ok_or_else(nothing)?);
        let kept = recorder.0.recording.as_ref().map(|kept| std::mem::take(&mut *lock(kept))).unwrap_or_default();
        Ok(Graph { graph, context: self.context().clone(), kept, streams: Mutex::default() })
    }

    /// Whether it is one of ours that records: a launch on it runs on none but those of the graph.
    pub(super) fn is_recorder(&self) -> bool {
        self.0.recording.is_some()
    }

    /// Whether launches are recorded and not run, by [`capture`](Self::capture) or by the stream's owner.
    pub(super) fn is_recording(&self) -> Result<bool, DeviceError> {
        let status = self.0.stream.capture_status().named("cuStreamIsCapturing")?;
        Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
    }

    /// # Errors
    /// [`DeviceError::Capturing`] while launches are recorded.
    pub(super) fn not_recording(&self, what: &'static str) -> Result<(), DeviceError> {
        if self.is_recording()? { Err(DeviceError::Capturing { what }) } else { Ok(()) }
    }

    /// Keeps what a launch uses for as long as the graph lives that records it; does nothing on other streams.
    pub(super) fn keep(&self, used: impl FnOnce(&mut Vec<Kept>)) {
        if let Some(kept) = &self.0.recording {
            used(&mut lock(kept));
        }
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Stream) -> bool {
        self.0.stream == other.0.stream
    }
}

impl Event {
    /// Waits until the GPU has come to this point.
    ///
    /// # Errors
    /// What failed on the GPU before.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.0.synchronize().named("cuEventSynchronize")
    }

    /// The GPU's time from an earlier point to this one; waits for both. Resolution: about half a microsecond.
    ///
    /// # Errors
    /// What failed on the GPU before.
    pub fn since(&self, earlier: &Event) -> Result<Duration, DeviceError> {
        let milliseconds = earlier.0.elapsed_ms(&self.0).named("cuEventElapsedTime")?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Graph {
    /// Runs what was recorded, after what was put on this stream before. The host does not wait.
    ///
    /// # Errors
    /// What the driver says.
    pub fn launch(&self, stream: &Stream) -> Result<(), DeviceError> {
        self.context.bind_to_thread().named("cuCtxSetCurrent")?;
        let mut streams = lock(&self.streams);
        if !streams.contains(stream) {
            streams.push(stream.clone());
        }
        let graph = lock(&self.graph);
        // SAFETY: the graph is instantiated and used by one thread at a time; what it uses lives as long as `self`, and what
        // it wrote or read is released after the streams that it ran on (`Drop`).
        unsafe { sys::cuGraphLaunch(graph.cu_graph_exec(), stream.cuda().cu_stream()) }.result().named("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let streams = std::mem::take(&mut *lock(&self.streams));
        for kept in &self.kept {
            if let Kept::Buffer(buffer) = kept {
                streams.iter().for_each(|stream| buffer.used_on(stream));
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.owned && self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: made by `Stream::new`, and this was its last user; what is on it still runs. A failure leaves nothing to do.
            let _ = unsafe { result::stream::destroy(self.stream.cu_stream()) };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
