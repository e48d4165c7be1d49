//! `tile build`: kernels as files, ahead of time.
//!
//! For each chosen specialisation: the source, machine code where its compiler is present, an entry of `manifest.json`
//! ([`manifest::Manifest`] is its schema) and a struct of `Tilewright.swift`.

mod kernel;
mod machine;
mod manifest;
mod select;
mod swift;

use crate::error::CliError;
use crate::output::{self, BAD, FAINT, GOOD, OutputFile, Progress, paint};
use kernel::Built;
use machine::Nvrtc;
use manifest::{Absent, Artefact, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright::attention::Library;
use tilewright_compile::gpu::Dialect;

/// Writes kernels as files: source, machine code, a manifest and Swift wrappers.
///
/// A file is called KERNEL__TYPES__hHEADDIM__VALUES, after all values of its specialisation.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kernels whose name, or whose file's name, holds this [default: all].
    filter: Option<String>,
    /// What to write. `ptx` and `cubin` need NVRTC.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cuda,msl,swift,manifest")]
    emit: Vec<Emit>,
    /// Element types of q and o and of k and v where they differ, as in `bf16,f32-f16` [default: f16,bf16].
    #[arg(long, value_name = "TYPE[-TYPE],…")]
    types: Option<String>,
    /// Head dims, with the value dim where it differs, as in `128,192-128` [default: 64,96,128,256,512].
    #[arg(long, value_name = "DIM[-DIM],…")]
    head_dims: Option<String>,
    /// A value of the specialisation, as in `features=causal+softcap` or `cache=paged(16)`, for all kernels that have it.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Compute capability of CUDA sources, times ten.
    #[arg(long, value_name = "N", default_value_t = 90)]
    compute: u32,
    /// Serve tensors of any strides and addresses. Without it, rows of whole 16 bytes must be contiguous and start at
    /// multiples of 16 bytes; the manifest says of which tensors.
    #[arg(long)]
    any_layout: bool,
    /// The folder, made if it is absent. Other files in it stay.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What can be written of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// The Metal Shading Language, 3.1.
    Msl,
    /// CUDA C++.
    Cuda,
    /// What drivers compile for a GPU of this capability or any later one.
    Ptx,
    /// Machine code for one architecture.
    Cubin,
    /// `Tilewright.swift`, a struct for each kernel in Metal.
    Swift,
    /// `manifest.json`.
    Manifest,
}

impl Emit {
    /// The language that it is, or is compiled from; `None` for what describes kernels.
    fn dialect(self) -> Option<Dialect> {
        match self {
            Emit::Msl => Some(Dialect::Msl),
            Emit::Cuda | Emit::Ptx | Emit::Cubin => Some(Dialect::Cuda),
            Emit::Swift | Emit::Manifest => None,
        }
    }

    /// As on the command line.
    fn name(self) -> &'static str {
        match self {
            Emit::Msl => "msl",
            Emit::Cuda => "cuda",
            Emit::Ptx => "ptx",
            Emit::Cubin => "cubin",
            Emit::Swift => "swift",
            Emit::Manifest => "manifest",
        }
    }

    /// What a file's name ends with.
    fn extension(self) -> &'static str {
        match self {
            Emit::Msl => "metal",
            Emit::Cuda => "cu",
            Emit::Ptx => "ptx",
            Emit::Cubin => "cubin",
            Emit::Swift => "swift",
            Emit::Manifest => "json",
        }
    }
}

#[derive(Serialize)]
struct Report<'r> {
    written: &'r [String],
    absent: &'r [Absent],
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    let emit = |wanted: Emit| args.emit.contains(&wanted);
    let nvrtc = Nvrtc::load(&args.emit)?;
    let selected = select::select(args, &kernel::targets(args)?, library)?;
    make_folder(&args.output)?;

    let (mut kernels, mut absent, mut files) = (Vec::new(), Vec::new(), Files::new(&args.output));
    let progress = Progress::new("building", selected.len());
    for of in &selected {
        match Built::new(of, !args.any_layout) {
            Ok(mut built) => {
                for emit in args.emit.iter().copied() {
                    let Some(dialect) = emit.dialect().filter(|dialect| of.is_for(*dialect)) else { continue };
                    let file = format!("{}.{}", of.name, emit.extension());
                    let made = built.source(dialect).and_then(|source| {
                        let bytes = match (emit, &nvrtc) {
                            (Emit::Cubin, Some(nvrtc)) => nvrtc.cubin(source, args.compute)?,
                            (Emit::Ptx, Some(nvrtc)) => nvrtc.ptx(source, args.compute)?,
                            _ => source.text.clone().into_bytes(),
                        };
                        Ok((Artefact::new(source, emit, &file, &bytes, args.compute), bytes))
                    });
                    match made {
                        Ok((artefact, bytes)) => {
                            built.artefacts.push(artefact);
                            files.write(file, emit, &bytes)?;
                        }
                        Err(reason) => absent.push(Absent { name: of.name.clone(), emit, reason }),
                    }
                }
                // Without a Metal source there is no struct; one line says so.
                if emit(Emit::Swift)
                    && !emit(Emit::Msl)
                    && of.is_for(Dialect::Msl)
                    && let Err(reason) = built.source(Dialect::Msl)
                {
                    absent.push(Absent { name: of.name.clone(), emit: Emit::Swift, reason });
                }
                kernels.push(built);
            }
            Err(reason) => absent.push(Absent { name: of.name.clone(), emit: Emit::Manifest, reason }),
        }
        progress.step();
    }
    drop(progress);

    if emit(Emit::Swift) {
        files.write("Tilewright.swift".to_string(), Emit::Swift, swift::file(&kernels)?.as_bytes())?;
    }
    if emit(Emit::Manifest) {
        let text = output::to_json(&Manifest::new(&kernels, &absent))?;
        files.write("manifest.json".to_string(), Emit::Manifest, (text + "\n").as_bytes())?;
    }
    report(args, &files, &absent)
}

fn report(args: &Args, files: &Files<'_>, absent: &[Absent]) -> Result<(), CliError> {
    if args.json {
        output::json(&Report { written: &files.written, absent })?;
    } else {
        let counts: Vec<String> = files.counts.iter().map(|(emit, count)| format!("{count} {}", emit.name())).collect();
        let total = files.written.len();
        output::line(paint(GOOD, format!("wrote {total} files to {}: {}", args.output.display(), counts.join(", "))))?;
        for Absent { name, emit, reason } in absent {
            output::line(format!("{} {} {}: {reason}", paint(BAD, "absent"), paint(FAINT, emit.name()), name))?;
        }
    }
    match absent.len() {
        0 => Ok(()),
        failed => Err(CliError::NotBuilt { failed, of: failed + files.written.len() }),
    }
}

/// The files of a run.
struct Files<'r> {
    folder: &'r Path,
    written: Vec<String>,
    counts: BTreeMap<Emit, usize>,
}

impl Files<'_> {
    fn new(folder: &Path) -> Files<'_> {
        Files { folder, written: Vec::new(), counts: BTreeMap::new() }
    }

    fn write(&mut self, name: String, emit: Emit, bytes: &[u8]) -> Result<(), CliError> {
        OutputFile::check(&self.folder.join(&name))?.write(|to| to.write_all(bytes))?;
        self.written.push(name);
        *self.counts.entry(emit).or_insert(0) += 1;
        Ok(())
    }
}

fn make_folder(path: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(path)
        .map_err(|error| CliError::Unwritable { path: path.to_path_buf(), reason: error.to_string() })
}
