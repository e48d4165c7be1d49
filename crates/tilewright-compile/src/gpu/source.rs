//! What rendering a kernel for a GPU gives: text, and all that a launch needs to know of it.

use std::collections::HashSet;
use tilewright_ir::op::Memory;
use tilewright_ir::{Access, Elem, Kernel, Op, Type, ValueId};

/// The language that is rendered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// CUDA C++ for NVRTC, compute capability 8.0 and later.
    Cuda,
    /// The Metal Shading Language, 3.1 and later.
    Msl,
}

/// A rendered kernel.
///
/// Its parameters are, in this order: a pointer for each view parameter of the kernel, to the element at index 0 of all axes;
/// then one struct `Args` by value (`constant Args&` in Metal), which [`arguments`](Source::arguments) describes. In Metal the
/// pointers have buffer indices 0, 1, … and the struct the next one.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// What `text` is written in.
    pub dialect: Dialect,
    /// The whole source; nothing is included but what comes with the compiler.
    pub text: String,
    /// The name of the kernel function.
    pub entry: String,
    /// Threads of a block (threadgroup): whole warps (simdgroups) of 32.
    pub threads: u32,
    /// Bytes of shared (threadgroup) memory of a block. CUDA: dynamic, given at launch. Metal: declared in the source.
    pub shared_bytes: u32,
    /// The struct `Args`.
    pub arguments: Arguments,
}

/// The layout of the struct `Args`: 64-bit strides of all views first, then 32-bit lengths, then scalars, so that nothing is
/// padded but the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// For each parameter of the kernel, in order.
    pub params: Vec<Argument>,
    /// Bytes of the struct: a multiple of 8, and at least 8.
    pub bytes: u32,
}

/// Where a parameter stands in the struct `Args`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// The kernel's name for it.
    pub name: String,
    /// Its place.
    pub slot: ArgumentSlot,
}

/// Where the numbers of a parameter stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgumentSlot {
    /// A tensor.
    View {
        /// The position of its pointer among the pointers.
        pointer: u32,
        /// Its element type.
        elem: Elem,
        /// How many axes it has.
        rank: u8,
        /// Whether the kernel writes it.
        access: Access,
        /// The byte offset of `int64 stride[rank]`, in elements.
        strides: u32,
        /// The byte offset of `int32 len[rank]`.
        lens: u32,
    },
    /// A number of 4 bytes: `float` for floats, `int` or `unsigned` for integers and bool.
    Scalar {
        /// Its element type in the kernel.
        elem: Elem,
        /// Its byte offset.
        at: u32,
    },
}

/// What is known of the tensors that a kernel is specialised for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Access16 {
    /// Nothing: elements are read and written one by one.
    Any,
    /// As aligned, but with 4 in place of 16: rows are copied 4 bytes at a time.
    Words,
    /// The last axis has stride 1, its length in bytes is a multiple of 16, and so are the address of the first element and
    /// all other strides in bytes: rows are read and written 16 bytes at a time.
    Aligned,
}

impl Access16 {
    /// What the tensors of a kernel mostly are, for each view parameter in order: as wide as their tiles allow, but for tables of
    /// i32, whose number of entries follows the request.
    pub fn likely(kernel: &Kernel) -> Vec<Access16> {
        let types = kernel.params.iter().map(|param| (param.value, kernel.ty(param.value)));
        let views = types.filter_map(|(value, ty)| match ty {
            Type::View { elem: Elem::I32, .. } | Type::View { rank: 0, .. } => Some(Access16::Any),
            Type::View { elem, .. } => Some(match narrowest_row(kernel, value).map(|row| row * elem.bytes()) {
                Some(bytes) if bytes % 4 != 0 => Access16::Any,
                Some(bytes) if bytes % 16 != 0 => Access16::Words,
                Some(_) | None => Access16::Aligned,
            }),
            Type::Tile { .. } => None,
        });
        views.collect()
    }
}

/// The fewest columns of a tile that is read from a tensor or written to it.
fn narrowest_row(kernel: &Kernel, tensor: ValueId) -> Option<usize> {
    let insts = || kernel.regions.iter().flat_map(|region| &region.insts);
    let mut views = HashSet::from([tensor]);
    let mut found = None;
    // Views are made before they are used, and in regions that come before those of their uses.
    for inst in insts() {
        let Op::Memory(op) = &inst.op else { continue };
        if !inst.operands.first().is_some_and(|view| views.contains(view)) {
            continue;
        }
        let tile = match op {
            Memory::At { .. } | Memory::Limit { .. } => {
                views.extend(&inst.results);
                continue;
            }
            Memory::Load { .. } | Memory::Gather { .. } => inst.results.first(),
            Memory::Store => inst.operands.get(1),
            Memory::Len { .. } => continue,
        };
        let columns = tile.and_then(|tile| kernel.ty(*tile).shape()).and_then(|shape| shape.extents().next_back());
        found = [found, columns].into_iter().flatten().min();
    }
    found
}

impl Arguments {
    /// The layout for the parameters of a kernel.
    pub fn of(kernel: &Kernel) -> Arguments {
        let types = || kernel.params.iter().map(|p| kernel.ty(p.value));
        let ranks =
            || types().filter_map(|ty| if let Type::View { rank, .. } = ty { Some(u32::from(rank)) } else { None });
        let all: u32 = ranks().sum();
        let (mut strides, mut lens, mut scalars) = (0, 8 * all, 12 * all);
        let mut pointer = 0;
        let take = |from: &mut u32, bytes: u32| {
            let at = *from;
            *from += bytes;
            at
        };
        let params = kernel.params.iter().map(|param| {
            let slot = match kernel.ty(param.value) {
                Type::View { elem, rank } => ArgumentSlot::View {
                    pointer: take(&mut pointer, 1),
                    elem,
                    rank,
                    access: param.access,
                    strides: take(&mut strides, 8 * u32::from(rank)),
                    lens: take(&mut lens, 4 * u32::from(rank)),
                },
                Type::Tile { elem, .. } => ArgumentSlot::Scalar { elem, at: take(&mut scalars, 4) },
            };
            Argument { name: param.name.to_string(), slot }
        });
        let params: Vec<Argument> = params.collect();
        Arguments { params, bytes: scalars.next_multiple_of(8).max(8) }
    }
}
