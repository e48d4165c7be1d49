//! One kernel on its way to files.

use super::manifest::Artefact;
use super::select::Selected;
use super::{Args, Emit};
use crate::error::CliError;
use std::collections::BTreeMap;
use tilewright::attention::formula::{Formula, Notation};
use tilewright::lang::SpecText;
use tilewright::lang::ir::Elem;
use tilewright_compile::gpu::{self, Access16, Argument, ArgumentSlot, Arguments, Dialect, Source, Target};
use tilewright_compile::pass;

/// A kernel, its arguments and its sources.
pub struct Built<'s> {
    pub selected: &'s Selected<'s>,
    /// The values of its specialisation.
    pub text: &'s SpecText,
    pub arguments: Arguments,
    /// Of each tensor parameter, in the order of the pointers.
    pub facts: Vec<Access16>,
    sources: BTreeMap<&'static str, Result<Source, String>>,
    /// The files that were made of it.
    pub artefacts: Vec<Artefact>,
}

/// The GPUs that the flags ask for.
///
/// # Errors
/// A compute capability that is unknown, and nothing but a manifest.
pub fn targets(args: &Args) -> Result<Vec<Target>, CliError> {
    let any = |of: &[Emit]| args.emit.iter().any(|emit| of.contains(emit));
    let mut targets = Vec::new();
    if any(&[Emit::Cuda, Emit::Ptx, Emit::Cubin]) {
        let shared_bytes = CUDA_SHARED.iter().find(|(compute, _)| *compute == args.compute).map(|(_, kib)| kib << 10);
        let shared_bytes = shared_bytes.ok_or_else(|| CliError::Setting {
            text: format!("--compute {}", args.compute),
            wanted: format!("one of {}", CUDA_SHARED.map(|(compute, _)| compute.to_string()).join(", ")),
        })?;
        targets.push(Target { dialect: Dialect::Cuda, compute: args.compute, shared_bytes });
    }
    if any(&[Emit::Msl, Emit::Swift]) {
        targets.push(Target { dialect: Dialect::Msl, compute: 0, shared_bytes: METAL_SHARED });
    }
    if targets.is_empty() {
        let wanted = "something for it to describe: msl, swift, cuda, ptx or cubin".to_string();
        return Err(CliError::Setting { text: "--emit manifest".to_string(), wanted });
    }
    Ok(targets)
}

/// Compute capabilities times ten, and the KiB of shared memory that a block may have.
const CUDA_SHARED: [(u32, u32); 10] =
    [(80, 163), (86, 99), (87, 163), (89, 99), (90, 227), (100, 227), (103, 227), (110, 227), (120, 99), (121, 99)];

/// Bytes of threadgroup memory on all Apple GPUs that Metal 3.1 serves.
const METAL_SHARED: u32 = 32 << 10;

impl<'s> Built<'s> {
    /// Traces and compiles; else why that cannot be. `aligned`: rows of whole 16 bytes may be taken to be aligned.
    pub fn new(selected: &'s Selected<'s>, aligned: bool) -> Result<Built<'s>, String> {
        let text = selected.text.as_ref().map_err(ToString::to_string)?;
        let traced = selected.entry.spec.trace(text).map_err(|error| error.to_string())?;
        let mut kernel = pass::run_gpu(traced, None).map_err(|error| error.to_string())?;
        // Kernels of one Metal library need names of their own.
        kernel.name = selected.name.replace("__", "_").into();
        let arguments = Arguments::of(&kernel);
        let facts = facts(selected, text, &arguments, aligned);
        let compile = |target: &Target| {
            let source = gpu::compile(&kernel, target, &facts).map_err(|error| error.to_string());
            (dialect_name(target.dialect), source)
        };
        let sources = selected.targets.iter().map(compile).collect();
        Ok(Built { selected, text, arguments, facts, sources, artefacts: Vec::new() })
    }

    /// The source for a dialect, or why there is none.
    pub fn source(&self, dialect: Dialect) -> Result<&Source, String> {
        let source = self.sources.get(dialect_name(dialect));
        let source = source.ok_or_else(|| format!("no {} source was asked for", dialect_name(dialect)))?;
        source.as_ref().map_err(Clone::clone)
    }

    /// The shape of a tensor parameter, where the export says it.
    pub fn shape(&self, name: &str) -> Option<&'static [Formula]> {
        shape(self.selected, name)
    }

    /// Tensor parameters, in the order of their pointers.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.arguments.params.iter().filter_map(|Argument { name, slot }| match *slot {
            ArgumentSlot::View { pointer, elem, rank, strides, lens, .. } => {
                let aligned = self.facts.get(pointer as usize) == Some(&Access16::Aligned);
                Some(Tensor { name, elem, rank: usize::from(rank), strides, lens, aligned })
            }
            ArgumentSlot::Scalar { .. } => None,
        })
    }

    /// Scalar parameters: name, element type, byte offset.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, Elem, u32)> {
        self.arguments.params.iter().filter_map(|Argument { name, slot }| match *slot {
            ArgumentSlot::Scalar { elem, at } => Some((name.as_str(), elem, at)),
            ArgumentSlot::View { .. } => None,
        })
    }

    /// What must be multiples of what, of the tensors that there are.
    pub fn multiples(&self) -> impl Iterator<Item = &'static (Formula, Formula)> {
        let there = |formula: &Formula| {
            let mut there = true;
            formula.walk(&mut |part| {
                if let Formula::Axis(name, _) = part {
                    there &= self.tensors().any(|tensor| tensor.name == *name);
                }
            });
            there
        };
        self.selected.export.multiples.iter().filter(move |(a, b)| there(a) && there(b))
    }
}

/// A tensor parameter.
pub struct Tensor<'b> {
    pub name: &'b str,
    pub elem: Elem,
    pub rank: usize,
    /// Byte offset of its strides.
    pub strides: u32,
    /// Byte offset of its extents.
    pub lens: u32,
    /// Whether its rows must be contiguous and start at multiples of 16 bytes.
    pub aligned: bool,
}

fn shape(selected: &Selected<'_>, name: &str) -> Option<&'static [Formula]> {
    selected.export.shapes.iter().find(|(of, _)| *of == name).map(|(_, shape)| *shape)
}

/// Aligned are tensors whose rows are known to be whole 16 bytes.
fn facts(selected: &Selected<'_>, text: &SpecText, arguments: &Arguments, aligned: bool) -> Vec<Access16> {
    let fact = |Argument { name, slot }: &Argument| {
        let ArgumentSlot::View { elem, .. } = *slot else { return None };
        let row = match shape(selected, name).and_then(<[_]>::last) {
            Some(Formula::Value(value)) => text.get(*value).and_then(|value| value.parse::<usize>().ok()),
            _ => None,
        };
        let whole = row.is_some_and(|row| (row * elem.bytes()).is_multiple_of(16));
        Some(if whole && aligned { Access16::Aligned } else { Access16::Any })
    };
    arguments.params.iter().filter_map(fact).collect()
}

fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Cuda => "CUDA",
        Dialect::Msl => "Metal",
    }
}

/// Formulas as the manifest has them: specialisation values as numbers, `ceil_div`, `min`, `*` and `/`.
pub struct Text<'b>(pub &'b SpecText);

impl Notation for Text<'_> {
    fn value(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| name.to_string())
    }

    fn number(&self, name: &str) -> String {
        name.to_string()
    }

    fn axis(&self, tensor: &str, axis: usize) -> String {
        format!("{tensor}.shape[{axis}]")
    }

    fn ceil_div(&self) -> &'static str {
        "ceil_div"
    }
}
