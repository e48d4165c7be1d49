//! One launch in many ways, which must all agree.

use crate::{Arg, Blocks, CopyTiming, Grid, Harness, HarnessError, LaneOrder, Options, Run, Sanitizer};
use tilewright_compile::gpu::Source;

/// How thoroughly a kernel is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checks {
    /// Runs without a sanitizer. The first one's results are kept; the others must give the same bytes.
    pub runs: Vec<Run>,
    /// Runs of their own with each of these, in forward and reverse order.
    pub sanitizers: Vec<Sanitizer>,
    /// What the thread sanitizer takes blocks for.
    pub blocks: Blocks,
}

impl Checks {
    /// One run in forward order: for numbers.
    pub fn once() -> Checks {
        Checks { runs: vec![Run::default()], sanitizers: vec![], blocks: Blocks::Apart }
    }

    /// Forward, reverse and random order, copies at the latest and at the earliest.
    pub fn orders() -> Checks {
        let run = |order, copies| Run { order, copies, ..Run::default() };
        let runs = vec![
            run(LaneOrder::Forward, CopyTiming::Late),
            run(LaneOrder::Reverse, CopyTiming::Late),
            run(LaneOrder::Forward, CopyTiming::AtOnce),
            run(LaneOrder::Random(1), CopyTiming::AtOnce),
        ];
        Checks { runs, ..Checks::once() }
    }

    /// [`orders`](Checks::orders), and both sanitizers.
    pub fn all() -> Checks {
        Checks { sanitizers: vec![Sanitizer::Address, Sanitizer::Thread], ..Checks::orders() }
    }
}

impl Harness {
    /// Compiles a kernel (or finds it compiled) and launches it in every way that `checks` says. The outputs are those of
    /// the first run.
    ///
    /// # Errors
    /// As [`compile`](Harness::compile) and [`Module::launch`](crate::Module::launch), and [`HarnessError::Unsteady`].
    pub fn launch(
        &self,
        source: &Source,
        grid: Grid,
        args: &mut [Arg<'_>],
        checks: &Checks,
    ) -> Result<(), HarnessError> {
        let before = outputs(args);
        let sanitized = checks.sanitizers.iter().flat_map(|&sanitizer| {
            [LaneOrder::Forward, LaneOrder::Reverse]
                .map(|order| (Some(sanitizer), Run { order, blocks: checks.blocks, ..Run::default() }))
        });
        let mut first: Option<Vec<Vec<u8>>> = None;
        for (sanitizer, run) in checks.runs.iter().map(|&run| (None, run)).chain(sanitized) {
            restore(args, &before);
            self.compile(source, Options { sanitizer })?.launch(grid, args, run)?;
            let after = outputs(args);
            let Some(first) = &first else {
                first = Some(after);
                continue;
            };
            let differs = |(a, b): (&Vec<u8>, &Vec<u8>)| a.iter().zip(b).position(|(x, y)| x != y);
            let found = first.iter().zip(&after).map(differs).enumerate().find_map(|(i, at)| Some((i, at?)));
            if let Some((output, byte)) = found {
                return Err(HarnessError::Unsteady { kernel: source.entry.clone(), output, byte, run });
            }
        }
        if let Some(first) = &first {
            restore(args, first);
        }
        Ok(())
    }
}

fn outputs(args: &[Arg<'_>]) -> Vec<Vec<u8>> {
    let written = |arg: &Arg<'_>| match arg {
        Arg::Write(tensor) => Some(tensor.bytes.to_vec()),
        Arg::Read(_) | Arg::Scalar(_) => None,
    };
    args.iter().filter_map(written).collect()
}

fn restore(args: &mut [Arg<'_>], saved: &[Vec<u8>]) {
    let written = args.iter_mut().filter_map(|arg| match arg {
        Arg::Write(tensor) => Some(tensor),
        Arg::Read(_) | Arg::Scalar(_) => None,
    });
    for (tensor, bytes) in written.zip(saved) {
        tensor.bytes.copy_from_slice(bytes);
    }
}
