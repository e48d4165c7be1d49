//! `tile`: runs, tests, measures and inspects the attention kernels of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tilewright_cli::main(tilewright::attention::library())
}
