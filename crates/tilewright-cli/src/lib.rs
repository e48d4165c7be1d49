//! The command line `tile` as a library, for binaries with kernels, features and cases of their own.
//!
//! A binary passes its own [`Library`]; `test`, `bench`, `tune`, `inspect` and `build` know nothing but that list.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use tilewright::attention::cases::{Case, TestCase};
//! use tilewright::attention::{Causal, KernelEntry, library};
//! use tilewright::lang::prelude::*;
//!
//! /// Doubles `width` elements a program.
//! #[kernel(entry(E in [f32, f16]))]
//! fn double<E: Float>(x: View<E, 1>, y: ViewMut<E, 1>, width: usize) {
//!     let [block] = program_id();
//!     y.store(block * width, x.load(block * width, [width]) * 2.0);
//! }
//!
//! fn main() -> ExitCode {
//!     let mut library = library();
//!     // `inspect double --types f16 --set width=8`
//!     library.entries.push(KernelEntry::new(&DOUBLE, "doubles what it reads"));
//!     // `test my_shape` and `bench my_shape`: attention as one's own model calls it.
//!     const MINE: fn() -> Vec<Case> = || vec![Case::new("my_shape").heads(24, 8).lengths(512, 512).dims(80, 80).feature(Causal)];
//!     let attention = library.entries[0];
//!     let cases = || MINE().into_iter().map(TestCase::from).collect();
//!     library.entries[0] = KernelEntry { cases, benches: MINE, ..attention };
//!     tilewright_cli::main(library)
//! }
//! ```

mod attend;
mod bench;
mod build;
mod check;
mod devices;
mod error;
mod inspect;
mod output;
mod quantise;
mod settings;
mod tensors;
mod test;
mod tune;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;
use tilewright::attention::Library;

/// Attention kernels written once in Rust.
#[derive(Parser, Debug)]
#[command(name = "tile", version, about, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Attend(attend::Args),
    /// Encodes every float tensor of a safetensors file as affine codes.
    ///
    /// NAME becomes NAME.w (u32 words of codes), NAME.scales and NAME.biases; its last axis must divide by the group.
    /// Other tensors are copied.
    Quantize(quantise::Args),
    /// Decodes affine codes of a safetensors file.
    ///
    /// NAME.w, NAME.scales and NAME.biases become NAME, in the type of the scales. Other tensors are copied.
    Dequantize(quantise::Args),
    Bench(bench::Args),
    Test(test::Args),
    Tune(tune::Args),
    Inspect(inspect::Args),
    Build(build::Args),
    Devices(devices::Args),
}

/// Runs the command that the process was started with, with the kernels of this library: the whole `main` of a binary.
///
/// 0 is success; 2 is bad usage, input or combination; 1 is an absent device, an unwritable output, a failed run, or a
/// result outside of its error bound.
pub fn main(library: Library) -> ExitCode {
    run(&library, std::env::args_os())
}

/// Runs the command of these arguments, the first of which is the binary's name. Exit codes are those of [`main`].
pub fn run<T: Into<OsString> + Clone>(library: &Library, arguments: impl IntoIterator<Item = T>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(usage) => {
            // Nowhere is left to say that the terminal is closed.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let result = match &cli.command {
        Command::Attend(args) => attend::run(args),
        Command::Quantize(args) => quantise::quantise(args),
        Command::Dequantize(args) => quantise::dequantise(args),
        Command::Bench(args) => bench::run(args, library),
        Command::Test(args) => test::run(args, library),
        Command::Tune(args) => tune::run(args, library),
        Command::Inspect(args) => inspect::run(args, library),
        Command::Build(args) => build::run(args, library),
        Command::Devices(args) => devices::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
