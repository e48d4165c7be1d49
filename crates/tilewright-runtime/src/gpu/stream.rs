//! Streams, events and recorded graphs.

use crate::cuda::cudarc::driver::CudaStream;
use crate::error::DeviceError;
use crate::{cuda, metal};
use std::sync::Arc;
use std::time::Duration;

/// An order in which a GPU works: what is put on a stream runs after what was put on it before, while the host goes on. Cheap
/// to clone. On an NVIDIA GPU a stream of CUDA, on an Apple GPU a command queue of Metal.
#[derive(Clone)]
pub struct Stream(pub(crate) Of<cuda::Stream, metal::Stream>);

/// A point on a stream, to wait for and to measure from.
pub struct Event(Of<cuda::Event, metal::Event>);

/// Launches that were recorded once and run again with one call. Keeps their memory and code.
pub struct Graph(cuda::Graph);

/// Whose it is.
#[derive(Clone)]
pub(crate) enum Of<C, M> {
    Cuda(C),
    Metal(M),
}

impl Stream {
    /// The caller's stream, for example candle's. Work is put on it in the caller's order, and it is never waited for but
    /// where a function says so. It must not be recording.
    pub fn of(stream: Arc<CudaStream>) -> Stream {
        Stream(Of::Cuda(cuda::Stream::of(stream)))
    }

    /// A new stream of the same GPU, which does not wait for the default one.
    ///
    /// # Errors
    /// What the GPU's driver says.
    pub fn fork(&self) -> Result<Stream, DeviceError> {
        Ok(Stream(match &self.0 {
            Of::Cuda(stream) => Of::Cuda(stream.fork()?),
            Of::Metal(stream) => Of::Metal(stream.fork()?),
        }))
    }

    /// The stream as cudarc knows it; `None` for one of an Apple GPU.
    pub fn cuda(&self) -> Option<&CudaStream> {
        match &self.0 {
            Of::Cuda(stream) => Some(stream.cuda()),
            Of::Metal(_) => None,
        }
    }

    /// Waits until all that was put on it is done.
    ///
    /// # Errors
    /// What failed on the GPU since it was last asked.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        match &self.0 {
            Of::Cuda(stream) => stream.synchronize(),
            Of::Metal(stream) => Ok(stream.synchronize()?),
        }
    }

    /// The point after all that was put on it so far.
    ///
    /// # Errors
    /// What the GPU's driver says.
    pub fn event(&self) -> Result<Event, DeviceError> {
        Ok(Event(match &self.0 {
            Of::Cuda(stream) => Of::Cuda(stream.event()?),
            Of::Metal(stream) => Of::Metal(stream.event()?),
        }))
    }

    /// What is put on this stream from now on runs after that point of another one. The host does not wait.
    ///
    /// # Errors
    /// A point on a stream of another GPU, and what the GPU's driver says.
    pub fn wait(&self, event: &Event) -> Result<(), DeviceError> {
        match (&self.0, &event.0) {
            (Of::Cuda(stream), Of::Cuda(event)) => stream.wait(event),
            (Of::Metal(stream), Of::Metal(event)) => Ok(stream.wait(event)?),
            (Of::Cuda(_), Of::Metal(_)) | (Of::Metal(_), Of::Cuda(_)) => Err(self.foreign()),
        }
    }

    /// Whether [`capture`](Self::capture) is there: on NVIDIA GPUs.
    pub fn can_record(&self) -> bool {
        matches!(self.0, Of::Cuda(_))
    }

    /// Records what `launches` puts on the stream that it is given, without running it. Every pipeline must have been launched
    /// with tensors of the same alignment or have been compiled, and all tensors must be in memory of the device.
    ///
    /// # Errors
    /// What `launches` returns, and what the driver cannot record. [`DeviceError::Without`] on an Apple GPU, where nothing is
    /// recorded.
    pub fn capture<E: From<DeviceError>>(&self, launches: impl FnOnce(&Stream) -> Result<(), E>) -> Result<Graph, E> {
        match &self.0 {
            Of::Cuda(stream) => stream.capture(|recorder| launches(&Stream(Of::Cuda(recorder.clone())))).map(Graph),
            Of::Metal(_) => Err(DeviceError::Without { device: "metal", what: "graphs of recorded launches" }.into()),
        }
    }

    /// Why something of another GPU cannot be used with this stream.
    pub(crate) fn foreign(&self) -> DeviceError {
        let (device, what) = match &self.0 {
            Of::Cuda(_) => ("metal", "stream of an NVIDIA GPU"),
            Of::Metal(_) => ("cuda", "stream of an Apple GPU"),
        };
        DeviceError::Without { device, what }
    }
}

impl Event {
    /// Waits until the GPU has come to this point.
    ///
    /// # Errors
    /// What failed on the GPU before.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        match &self.0 {
            Of::Cuda(event) => event.synchronize(),
            Of::Metal(event) => Ok(event.synchronize()?),
        }
    }

    /// The GPU's time from an earlier point to this one; waits for both. NVIDIA: resolution about half a microsecond. Apple:
    /// from where the GPU began with what was put on the stream after the earlier point; 0 where nothing was.
    ///
    /// # Errors
    /// What failed on the GPU before; a point on a stream of another GPU.
    pub fn since(&self, earlier: &Event) -> Result<Duration, DeviceError> {
        match (&self.0, &earlier.0) {
            (Of::Cuda(event), Of::Cuda(earlier)) => event.since(earlier),
            (Of::Metal(event), Of::Metal(earlier)) => Ok(event.since(earlier)?),
            (Of::Cuda(_), Of::Metal(_)) => Err(DeviceError::Without { device: "cuda", what: "events of an Apple GPU" }),
            (Of::Metal(_), Of::Cuda(_)) => {
                Err(DeviceError::Without { device: "metal", what: "events of an NVIDIA GPU" })
            }
        }
    }
}

impl Graph {
    /// Runs what was recorded, after what was put on this stream before. The host does not wait.
    ///
    /// # Errors
    /// A stream of an Apple GPU, and what the driver says.
    pub fn launch(&self, stream: &Stream) -> Result<(), DeviceError> {
        match &stream.0 {
            Of::Cuda(stream) => self.0.launch(stream),
            Of::Metal(_) => Err(stream.foreign()),
        }
    }
}
