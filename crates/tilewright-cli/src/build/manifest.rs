//! `manifest.json`: what a host in any language needs to know to launch the kernels.

use super::Emit;
use super::kernel::{Built, Text};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tilewright::attention::formula::Formula;
use tilewright::lang::ir::{Access, Elem};
use tilewright_compile::gpu::{Access16, Argument, ArgumentSlot, Dialect, Source};

/// The whole file.
#[derive(Serialize)]
pub struct Manifest<'b> {
    /// Of this layout: 1. It changes when a field changes its meaning or goes away.
    schema: u32,
    /// Of the library that made it.
    tilewright: &'static str,
    kernels: Vec<Kernel<'b>>,
    /// What was asked for and is not there.
    absent: &'b [Absent],
}

/// One kernel: a function with all specialisation values fixed.
#[derive(Serialize)]
struct Kernel<'b> {
    /// Of its files, without extension.
    name: &'b str,
    /// In the library.
    kernel: &'static str,
    summary: &'static str,
    /// Element types and specialisation values.
    specialisation: &'b BTreeMap<String, String>,
    /// Parameters in the kernel's order.
    parameters: Vec<Parameter<'b>>,
    arguments: ArgumentStruct,
    /// Threadgroups (blocks) along x, y and z. A formula has numbers, `NAME.shape[AXIS]`, names of scalar parameters and of
    /// `numbers`, `*`, `/` (which rounds down), `ceil_div(a, b)`, `min(a, b)`. If one is 0 there is nothing to launch.
    grid: [String; 3],
    /// Numbers that only the grid depends on, and what they are.
    numbers: BTreeMap<&'static str, &'static str>,
    /// Pairs of formulas: the first must be a multiple of the second.
    multiples: Vec<[String; 2]>,
    artefacts: &'b [Artefact],
}

/// The struct of arguments, which follows the buffers of the tensors. All that is not at an offset of a parameter is padding.
#[derive(Serialize)]
struct ArgumentStruct {
    /// Its size.
    bytes: u32,
    /// In Metal, its buffer index; in CUDA, its position among the kernel's parameters, by value.
    index: usize,
}

/// A parameter of the kernel.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Parameter<'b> {
    /// A tensor: a buffer, and numbers in the struct.
    Tensor {
        name: &'b str,
        elem: &'static str,
        /// `read` or `write`.
        access: &'static str,
        rank: u8,
        /// In Metal, its buffer index; in CUDA, the position of the pointer. It points to the element at index 0 of all axes.
        index: u32,
        /// Byte offset of `rank` strides, i64, in elements.
        strides_at: u32,
        /// Byte offset of `rank` extents, i32.
        lens_at: u32,
        /// Formulas of its extents; a free one is its own. Left out where the library does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        shape: Option<Vec<String>>,
        /// Whether the last axis must have stride 1, and the address and all other strides be multiples of 16 bytes.
        aligned: bool,
    },
    /// A number in the struct.
    Scalar {
        name: &'b str,
        elem: &'static str,
        /// How it lies in the struct, in 4 bytes: f32, i32 or u32.
        stored: &'static str,
        /// Byte offset.
        at: u32,
    },
}

/// A file with code.
#[derive(Serialize)]
pub struct Artefact {
    emit: Emit,
    file: String,
    /// Of the file's bytes, in hexadecimal digits.
    sha256: String,
    /// The function to launch.
    entry: String,
    /// Threads of a threadgroup (block), along x.
    threads: u32,
    /// Bytes of threadgroup (shared) memory. In CUDA it is given at launch, in Metal declared in the source.
    shared_bytes: u32,
    /// `metal 3.1`, or ten times the compute capability as in `compute 90`.
    target: String,
}

/// What was asked for and could not be made.
#[derive(Clone, Serialize)]
pub struct Absent {
    /// Of the kernel's files.
    pub name: String,
    pub emit: Emit,
    pub reason: String,
}

impl<'b> Manifest<'b> {
    pub fn new(kernels: &'b [Built<'_>], absent: &'b [Absent]) -> Manifest<'b> {
        Manifest {
            schema: 1,
            tilewright: env!("CARGO_PKG_VERSION"),
            kernels: kernels.iter().map(kernel).collect(),
            absent,
        }
    }
}

impl Artefact {
    /// A file with these bytes, made of a source.
    pub fn new(source: &Source, emit: Emit, file: &str, bytes: &[u8], compute: u32) -> Artefact {
        let mut sha256 = String::new();
        for byte in Sha256::digest(bytes) {
            sha256.push_str(&format!("{byte:02x}"));
        }
        Artefact {
            emit,
            file: file.to_string(),
            sha256,
            entry: source.entry.clone(),
            threads: source.threads,
            shared_bytes: source.shared_bytes,
            target: match source.dialect {
                Dialect::Cuda => format!("compute {compute}"),
                Dialect::Msl => "metal 3.1".to_string(),
            },
        }
    }
}

fn kernel<'b>(built: &'b Built<'_>) -> Kernel<'b> {
    let export = built.selected.export;
    let text = |formula: &Formula| formula.write(&Text(built.text));
    let parameters = built.arguments.params.iter().map(|Argument { name, slot }| match *slot {
        ArgumentSlot::View { pointer, elem, rank, access, strides, lens } => Parameter::Tensor {
            name,
            elem: elem.name(),
            access: match access {
                Access::Read => "read",
                Access::Write => "write",
            },
            rank,
            index: pointer,
            strides_at: strides,
            lens_at: lens,
            shape: built.shape(name).map(|shape| shape.iter().map(text).collect()),
            aligned: built.facts.get(pointer as usize) == Some(&Access16::Aligned),
        },
        ArgumentSlot::Scalar { elem, at } => Parameter::Scalar { name, elem: elem.name(), stored: stored(elem), at },
    });
    Kernel {
        name: &built.selected.name,
        kernel: built.selected.entry.name(),
        summary: built.selected.entry.summary,
        specialisation: built.text,
        parameters: parameters.collect(),
        arguments: ArgumentStruct { bytes: built.arguments.bytes, index: built.facts.len() },
        grid: export.grid.each_ref().map(text),
        numbers: export.numbers.iter().copied().collect(),
        multiples: built.multiples().map(|(a, b)| [text(a), text(b)]).collect(),
        artefacts: &built.artefacts,
    }
}

/// How a scalar of this type lies in the struct.
pub fn stored(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => "f32",
        Elem::I32 | Elem::I8 => "i32",
        Elem::U32 | Elem::U8 | Elem::Bool => "u32",
    }
}
