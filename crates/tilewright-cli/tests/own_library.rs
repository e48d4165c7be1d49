//! A binary with a library of its own: the commands know that list and no other.

use std::process::ExitCode;
use tilewright::attention::cases::{Case, TestCase};
use tilewright::attention::{Causal, KernelEntry, Library};
use tilewright::lang::prelude::*;

/// Doubles `width` elements a program.
#[kernel(entry(E in [f32, f16]))]
fn double<E: Float>(x: View<E, 1>, y: ViewMut<E, 1>, width: usize) {
    let [block] = program_id();
    y.store(block * width, x.load(block * width, [width]) * 2.0);
}

fn my_cases() -> Vec<Case> {
    vec![Case::new("my_shape").lengths(3, 5).feature(Causal)]
}

fn run(arguments: &[&str]) -> ExitCode {
    let cases = || my_cases().into_iter().map(TestCase::from).collect();
    let entry = KernelEntry { cases, benches: my_cases, ..KernelEntry::new(&DOUBLE, "doubles what it reads") };
    tilewright_cli::run(&Library { entries: vec![entry] }, [&["mine"], arguments].concat())
}

#[test]
fn commands_know_the_kernels_and_cases_of_the_library_that_they_are_given() {
    let good: [&[&str]; 4] = [
        &["inspect"],
        &["inspect", "double", "--types", "f16", "--set", "width=8"],
        &["test", "my_shape", "--device", "interp"],
        &["bench", "my_shape", "--list"],
    ];
    for arguments in good {
        assert_eq!(run(arguments), ExitCode::SUCCESS, "{arguments:?}");
    }
    let refused: [&[&str]; 7] = [
        &["inspect", "attention_forward"],
        &["inspect", "double"],
        &["inspect", "double", "--types", "bf16", "--set", "width=8"],
        &["inspect", "double", "--types", "f16", "--set", "rows=8"],
        &["test", "causal_square"],
        &["bench", "verify"],
        &["build", "-o", "nothing_is_exported"],
    ];
    for arguments in refused {
        assert_eq!(run(arguments), ExitCode::from(2), "{arguments:?}");
    }
}
