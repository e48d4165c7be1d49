//! Tensors: strided windows into host memory or into memory of a device.

use crate::error::TensorError;
use crate::gpu::Window;
use half::{bf16, f16};
use tilewright_ir::{Elem, MAX_VIEW_RANK};

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose slices hold the elements of a tensor. Sealed: every bit pattern that a kernel can store is valid.
pub trait HostElement: Copy + Default + Send + Sync + sealed::Sealed + 'static {
    /// The element type of the kernel language.
    const ELEM: Elem;
}

macro_rules! host_elements {
    ($($rust:ty => $elem:ident),*) => { $(
        impl sealed::Sealed for $rust {}
        impl HostElement for $rust {
            const ELEM: Elem = Elem::$elem;
        }
    )* };
}
host_elements!(f32 => F32, f16 => F16, bf16 => Bf16, i32 => I32, u32 => U32, i8 => I8, u8 => U8, bool => Bool);

/// Element type, shape and strides of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    pub elem: Elem,
    /// At most [`MAX_VIEW_RANK`].
    rank: u8,
    pub shape: [usize; MAX_VIEW_RANK],
    /// In elements.
    pub strides: [usize; MAX_VIEW_RANK],
}

impl Layout {
    pub fn contiguous(elem: Elem, shape: &[usize]) -> Result<Layout, TensorError> {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            let stride = strides[axis].checked_mul(shape[axis].max(1));
            strides[axis - 1] = stride.ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })?;
        }
        Layout::new(elem, shape, &strides)
    }

    pub fn new(elem: Elem, shape: &[usize], strides: &[usize]) -> Result<Layout, TensorError> {
        let rank = shape.len();
        if rank != strides.len() || rank > MAX_VIEW_RANK {
            return Err(TensorError::Rank { rank, strides: strides.len() });
        }
        let mut layout = Layout { elem, rank: rank as u8, shape: [1; MAX_VIEW_RANK], strides: [0; MAX_VIEW_RANK] };
        layout.shape[..rank].copy_from_slice(shape);
        layout.strides[..rank].copy_from_slice(strides);
        let bytes = layout.reach().and_then(|n| n.checked_mul(elem.bytes()));
        // Repeated memory too must be countable: a copy of the tensor as f64 is a reference's input.
        let addressable =
            bytes.is_some_and(|b| isize::try_from(b).is_ok()) && layout.count() <= isize::MAX as usize / 8;
        if !addressable || shape.iter().any(|&e| e > i32::MAX as usize) {
            return Err(TensorError::TooLarge { shape: shape.to_vec() });
        }
        Ok(layout)
    }

    /// How many axes there are.
    pub fn rank(&self) -> usize {
        self.rank.into()
    }

    /// One past the last element that it reaches, in elements; `None` when that overflows.
    pub fn reach(&self) -> Option<usize> {
        let extents = || self.shape.iter().zip(&self.strides).take(self.rank());
        if extents().any(|(&extent, _)| extent == 0) {
            return Some(0);
        }
        extents().try_fold(1usize, |reach, (&extent, &stride)| reach.checked_add((extent - 1).checked_mul(stride)?))
    }

    /// How many elements there are.
    pub fn count(&self) -> usize {
        let extents = &self.shape[..self.rank()];
        if extents.contains(&0) { 0 } else { extents.iter().fold(1, |n: usize, &e| n.saturating_mul(e)) }
    }

    /// From one entry of an axis to the next, in elements; 0 where there is no next one, whatever the tensor was made with.
    pub fn stride(&self, axis: usize) -> isize {
        let steps = self.shape[axis] > 1 && self.count() > 0;
        if steps { self.strides[axis] as isize } else { 0 } // inside the memory, whose bytes an isize counts
    }

    /// Refuses memory of fewer elements than it reaches.
    fn check(&self, elements: usize) -> Result<(), TensorError> {
        self.check_from(0, elements * self.elem.bytes()).map(|_| ())
    }

    /// As `check` for memory of this many bytes from element `first` on; how many bytes lie before that element.
    fn check_from(&self, first: usize, bytes: usize) -> Result<usize, TensorError> {
        let elements = bytes / self.elem.bytes();
        match self.reach().and_then(|reach| reach.checked_add(first)) {
            Some(needed) if needed <= elements => Ok(first * self.elem.bytes()),
            needed => Err(TensorError::Length {
                shape: self.shape[..self.rank()].to_vec(),
                needed: needed.unwrap_or(usize::MAX),
                got: elements,
            }),
        }
    }

    /// Bytes from the first element to the end of the last one.
    pub fn span_bytes(&self) -> usize {
        self.reach().unwrap_or(0) * self.elem.bytes() // `new` checked both
    }

    /// Whether no two coordinates share an element: sorted by stride, each axis steps over all of the faster ones.
    fn is_injective(&self) -> bool {
        if self.count() == 0 {
            return true;
        }
        let mut axes: Vec<(usize, usize)> = (0..self.rank()).map(|a| (self.strides[a], self.shape[a])).collect();
        axes.retain(|&(_, extent)| extent > 1);
        axes.sort_unstable();
        let mut reach = 1usize;
        axes.iter().all(|&(stride, extent)| {
            let steps_over = stride >= reach;
            reach = reach.saturating_add((extent - 1).saturating_mul(stride));
            steps_over
        })
    }
}

/// Where the elements of a tensor lie.
#[derive(Clone, Copy)]
pub(crate) enum Memory<'a> {
    Host(&'a [u8]),
    Gpu(Window<'a>),
}

/// Where the elements of an output lie; nobody else uses them meanwhile.
pub(crate) enum MemoryMut<'a> {
    Host(&'a mut [u8]),
    Gpu(Window<'a>),
}

impl Memory<'_> {
    fn bytes(&self) -> usize {
        match self {
            Memory::Host(bytes) => bytes.len(),
            Memory::Gpu(window) => window.bytes(),
        }
    }

    /// Without the first `bytes`, of which there are as many.
    fn after(self, bytes: usize) -> Self {
        match self {
            Memory::Host(all) => Memory::Host(&all[bytes..]),
            Memory::Gpu(window) => Memory::Gpu(window.after(bytes)),
        }
    }
}

impl MemoryMut<'_> {
    /// The same memory, to be read.
    pub fn as_read(&self) -> Memory<'_> {
        match self {
            MemoryMut::Host(bytes) => Memory::Host(bytes),
            MemoryMut::Gpu(window) => Memory::Gpu(*window),
        }
    }

    fn after(self, bytes: usize) -> Self {
        match self {
            MemoryMut::Host(all) => MemoryMut::Host(&mut all[bytes..]),
            MemoryMut::Gpu(window) => MemoryMut::Gpu(window.after(bytes)),
        }
    }
}

/// A tensor that is read: element type, shape, strides in elements, and borrowed memory of the host or of a device.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    pub(crate) layout: Layout,
    pub(crate) memory: Memory<'a>,
}

/// A tensor that is written. No two of its elements share memory.
pub struct TensorViewMut<'a> {
    pub(crate) layout: Layout,
    pub(crate) memory: MemoryMut<'a>,
}

impl<'a> TensorView<'a> {
    /// A contiguous tensor over a host slice.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the slice is shorter than the shape; rank above 4; axes above 2^31 - 1.
    pub fn from_slice<T: HostElement>(data: &'a [T], shape: &[usize]) -> Result<Self, TensorError> {
        let layout = Layout::contiguous(T::ELEM, shape)?;
        layout.check(data.len())?;
        Ok(TensorView { layout, memory: Memory::Host(bytes_of(data)) })
    }

    /// A contiguous tensor over raw bytes in native order.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice), and [`TensorError::Alignment`].
    pub fn from_bytes(elem: Elem, bytes: &'a [u8], shape: &[usize]) -> Result<Self, TensorError> {
        let layout = Layout::contiguous(elem, shape)?;
        layout.check(bytes.len() / elem.bytes())?;
        if !(bytes.as_ptr() as usize).is_multiple_of(elem.bytes()) {
            return Err(TensorError::Alignment { elem });
        }
        Ok(TensorView { layout, memory: Memory::Host(bytes) })
    }

    /// The same memory under other extents and strides (in elements), for example a sequence-major tensor seen head-major.
    ///
    /// # Errors
    /// When the new shape reaches past the memory.
    pub fn with_strides(self, shape: &[usize], strides: &[usize]) -> Result<Self, TensorError> {
        self.window(0, shape, strides)
    }

    /// A part of the same memory: from element `first` on, under these extents and strides (in elements). `first` counts from
    /// where this view's memory starts.
    ///
    /// # Errors
    /// When the part reaches past the memory.
    pub fn window(self, first: usize, shape: &[usize], strides: &[usize]) -> Result<Self, TensorError> {
        let layout = Layout::new(self.layout.elem, shape, strides)?;
        let skip = layout.check_from(first, self.memory.bytes())?;
        Ok(TensorView { layout, memory: self.memory.after(skip) })
    }

    /// The bytes of the host memory that the view is over, from its first element on; `None` for memory of a device.
    pub fn host_bytes(&self) -> Option<&'a [u8]> {
        match self.memory {
            Memory::Host(bytes) => Some(bytes),
            Memory::Gpu(_) => None,
        }
    }
}

impl<'a> TensorViewMut<'a> {
    /// A contiguous output over a host slice.
    ///
    /// # Errors
    /// As [`TensorView::from_slice`].
    pub fn from_slice<T: HostElement>(data: &'a mut [T], shape: &[usize]) -> Result<Self, TensorError> {
        let layout = Layout::contiguous(T::ELEM, shape)?;
        layout.check(data.len())?;
        Ok(TensorViewMut { layout, memory: MemoryMut::Host(bytes_of_mut(data)) })
    }

    /// A contiguous output over raw bytes in native order.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice), and [`TensorError::Alignment`].
    pub fn from_bytes(elem: Elem, bytes: &'a mut [u8], shape: &[usize]) -> Result<Self, TensorError> {
        let TensorView { layout, .. } = TensorView::from_bytes(elem, bytes, shape)?;
        Ok(TensorViewMut { layout, memory: MemoryMut::Host(bytes) })
    }

    /// The same memory under other extents and strides (in elements).
    ///
    /// # Errors
    /// When the new shape reaches past the memory, or two elements would share memory.
    pub fn with_strides(self, shape: &[usize], strides: &[usize]) -> Result<Self, TensorError> {
        self.window(0, shape, strides)
    }

    /// A part of the same memory, as [`TensorView::window`].
    ///
    /// # Errors
    /// When the part reaches past the memory, or two elements would share memory.
    pub fn window(self, first: usize, shape: &[usize], strides: &[usize]) -> Result<Self, TensorError> {
        let layout = Layout::new(self.layout.elem, shape, strides)?;
        let skip = layout.check_from(first, self.memory.as_read().bytes())?;
        if !layout.is_injective() {
            return Err(TensorError::Overlap { shape: shape.to_vec(), strides: strides.to_vec() });
        }
        Ok(TensorViewMut { layout, memory: self.memory.after(skip) })
    }

    /// The same output, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> TensorViewMut<'_> {
        let memory = match &mut self.memory {
            MemoryMut::Host(bytes) => MemoryMut::Host(bytes),
            MemoryMut::Gpu(window) => MemoryMut::Gpu(*window),
        };
        TensorViewMut { layout: self.layout, memory }
    }

    /// What it holds now.
    pub fn as_read(&self) -> TensorView<'_> {
        TensorView { layout: self.layout, memory: self.memory.as_read() }
    }
}

macro_rules! describe {
    ($($view:ident),*) => { $(
        impl $view<'_> {
            /// The element type.
            pub fn elem(&self) -> Elem {
                self.layout.elem
            }

            /// Extents, outermost first.
            pub fn shape(&self) -> &[usize] {
                &self.layout.shape[..self.layout.rank()]
            }

            /// Distance between neighbours along each axis, in elements.
            pub fn strides(&self) -> &[usize] {
                &self.layout.strides[..self.layout.rank()]
            }
        }

        impl std::fmt::Debug for $view<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}{:?} strides {:?}", self.elem(), self.shape(), self.strides())
            }
        }
    )* };
}
describe!(TensorView, TensorViewMut);

/// A contiguous tensor in memory that a device can use.
#[derive(Clone)]
pub struct Tensor {
    layout: Layout,
    /// Words, so that every element type is aligned.
    words: Vec<u64>,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// Rank above 4, or a size that cannot be indexed or that the system does not give.
    pub fn zeros(elem: Elem, shape: &[usize]) -> Result<Tensor, TensorError> {
        let layout = Layout::contiguous(elem, shape)?;
        let bytes = layout.count() * elem.bytes(); // `Layout::new` checked that this fits
        let words = bytes.div_ceil(8);
        // Asked for first, because a refused `vec!` would end the process; `vec!` takes pages that are zero already.
        let room = Vec::<u64>::new().try_reserve_exact(words);
        room.map_err(|_| TensorError::TooLarge { shape: shape.to_vec() })?;
        Ok(Tensor { layout, words: vec![0; words] })
    }

    /// A copy of a host slice.
    ///
    /// # Errors
    /// As [`TensorView::from_slice`].
    pub fn from_slice<T: HostElement>(data: &[T], shape: &[usize]) -> Result<Tensor, TensorError> {
        TensorView::from_slice(data, shape)?;
        let mut tensor = Tensor::zeros(T::ELEM, shape)?;
        let bytes = tensor.layout.count() * T::ELEM.bytes();
        tensor.as_bytes_mut().copy_from_slice(&bytes_of(data)[..bytes]);
        Ok(tensor)
    }

    /// The element type.
    pub fn elem(&self) -> Elem {
        self.layout.elem
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape[..self.layout.rank()]
    }

    /// To be read by a launch.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { layout: self.layout, memory: Memory::Host(self.as_bytes()) }
    }

    /// To be written by a launch.
    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        TensorViewMut { layout: self.layout, memory: MemoryMut::Host(self.as_bytes_mut()) }
    }

    /// The bytes in row-major order.
    pub fn as_bytes(&self) -> &[u8] {
        let bytes = self.layout.count() * self.layout.elem.bytes();
        &bytes_of_words(&self.words)[..bytes]
    }

    /// The bytes in row-major order, to be overwritten.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.layout.count() * self.layout.elem.bytes();
        &mut bytes_of_words_mut(&mut self.words)[..bytes]
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// [`TensorError::Element`] when it holds another type.
    pub fn to_vec<T: HostElement>(&self) -> Result<Vec<T>, TensorError> {
        if self.layout.elem != T::ELEM {
            return Err(TensorError::Element { wanted: T::ELEM, got: self.layout.elem });
        }
        let mut out = vec![T::default(); self.layout.count()];
        let bytes = self.as_bytes();
        match T::ELEM {
            // A bool must be 0 or 1 in Rust, and any byte may stand in a tensor.
            Elem::Bool => {
                bytes_of_mut(&mut out).iter_mut().zip(bytes).for_each(|(to, &from)| *to = u8::from(from != 0))
            }
            _ => bytes_of_mut(&mut out).copy_from_slice(bytes),
        }
        Ok(out)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.elem(), self.shape())
    }
}

fn bytes_of<T: HostElement>(data: &[T]) -> &[u8] {
    // SAFETY: sealed elements have no padding, and any initialised memory may be read as bytes.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), std::mem::size_of_val(data)) }
}

fn bytes_of_mut<T: HostElement>(data: &mut [T]) -> &mut [u8] {
    // SAFETY: as above; writers store only valid patterns of the element type (bool is stored as 0 or 1).
    unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), std::mem::size_of_val(data)) }
}

fn bytes_of_words(words: &[u64]) -> &[u8] {
    // SAFETY: words have no padding.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), std::mem::size_of_val(words)) }
}

fn bytes_of_words_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: words have no padding, and every bit pattern is a word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), std::mem::size_of_val(words)) }
}
