//! Where the buffers of a program lie in shared memory: buffers that are never needed at the same time share bytes.

use super::program::{BufferId, DotOperand, Program, Slot, Step};
use std::collections::BTreeMap;

/// A program that needs more shared memory than there is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "kernel `{kernel}` needs {needed} bytes of shared memory a block, and {limit} are there; use smaller tiles or fewer stages"
)]
pub struct TooMuchShared {
    /// The kernel.
    pub kernel: String,
    /// What it needs.
    pub needed: u32,
    /// What a block may have.
    pub limit: u32,
}

/// Buffers start at multiples of this many bytes.
const ALIGN: u32 = 16;

/// Sets the offsets of all buffers and the bytes of the program. Call it before barriers are put in: shared bytes need them.
///
/// Buffers that are used in a loop keep their bytes for all of it, so that no barrier is needed there; where that does not fit
/// the limit, buffers that are written and then read in each pass keep theirs from the one to the other.
///
/// # Errors
/// More than `limit` bytes are needed. The offsets are set all the same.
pub fn plan(program: &mut Program, limit: u32) -> Result<(), TooMuchShared> {
    for narrow in [false, true] {
        let mut lives = BTreeMap::new();
        lifetimes(program, &program.steps, narrow, &mut 0, &mut lives);
        place(program, &lives);
        if program.shared_bytes <= limit {
            return Ok(());
        }
    }
    Err(TooMuchShared { kernel: program.name.clone(), needed: program.shared_bytes, limit })
}

/// When a buffer is needed, in numbers of steps.
#[derive(Clone, Copy, Debug)]
struct Life {
    first: u32,
    last: u32,
    /// The outermost loop around it, where the walk is now: what it widens to when it is used outside too.
    around: (u32, u32),
    /// Whether the first thing done to it is to write all of it: nothing of an earlier pass is needed.
    fresh: bool,
}

impl Life {
    fn widened(self) -> Life {
        Life { first: self.first.min(self.around.0), last: self.last.max(self.around.1), ..self }
    }

    /// This one and a later one.
    fn and(self, later: Life) -> Life {
        let (a, b) = (self.widened(), later.widened());
        let (first, last) = (a.first.min(b.first), a.last.max(b.last));
        Life { first, last, around: (first, last), fresh: self.fresh }
    }
}

fn merge(into: &mut BTreeMap<BufferId, Life>, buffer: BufferId, life: Life) {
    into.entry(buffer).and_modify(|known| *known = known.and(life)).or_insert(life);
}

fn lifetimes(program: &Program, steps: &[Step], narrow: bool, clock: &mut u32, out: &mut BTreeMap<BufferId, Life>) {
    for step in steps {
        *clock += 1;
        let now = *clock;
        let mut touch = |buffer: BufferId, fresh: bool| {
            merge(out, buffer, Life { first: now, last: now, around: (now, now), fresh });
        };
        let whole = |slot: &Slot| slot.ahead == 0;
        match step {
            Step::Put { to, .. } => touch(to.buffer, whole(to)),
            Step::Clear(to) => touch(to.buffer, whole(to)),
            Step::Copy(copy) => touch(copy.to.buffer, whole(&copy.to)),
            Step::Get { from, .. } => touch(from.buffer, false),
            Step::Dot(dot) => {
                touch(dot.b.buffer, false);
                let codes = dot.codes.iter().flat_map(|codes| [&codes.scales, &codes.biases]);
                codes.for_each(|slot| touch(slot.buffer, false));
                if let DotOperand::Shared(a) = &dot.a {
                    touch(a.buffer, false);
                }
            }
            Step::Fold(fold) => fold.exchange.into_iter().for_each(|buffer| touch(buffer, true)),
            Step::Combine(fold) => fold.exchange.into_iter().for_each(|buffer| touch(buffer, false)),
            Step::For(step) => {
                let mut inside = BTreeMap::new();
                lifetimes(program, &step.body, narrow, clock, &mut inside);
                *clock += 1;
                for (buffer, life) in inside {
                    let life = Life { around: (now, *clock), ..life };
                    let stays = narrow && life.fresh && program.buffers[buffer.index()].slots == 1;
                    merge(out, buffer, if stays { life } else { life.widened() });
                }
            }
            Step::If { then, otherwise, .. } => {
                for steps in [then, otherwise] {
                    let mut inside = BTreeMap::new();
                    lifetimes(program, steps, narrow, clock, &mut inside);
                    for (buffer, life) in inside {
                        // Used on both ways, or kept from before: it may be read where nothing was written.
                        merge(out, buffer, Life { fresh: false, ..life });
                    }
                }
            }
            Step::Let(..)
            | Step::Set(..)
            | Step::Map(_)
            | Step::Assign { .. }
            | Step::Reorder { .. }
            | Step::Scale { .. }
            | Step::Tanh { .. }
            | Step::Load(_)
            | Step::Store(_)
            | Step::Commit
            | Step::Wait(_)
            | Step::Barrier => {}
        }
    }
}

/// Largest first, each as low as those that live with it allow.
fn place(program: &mut Program, lives: &BTreeMap<BufferId, Life>) {
    let mut order: Vec<BufferId> = lives.keys().copied().collect();
    order.sort_by_key(|buffer| std::cmp::Reverse(program.buffers[buffer.index()].bytes()));
    let mut placed: Vec<BufferId> = Vec::new();
    program.shared_bytes = 0;
    for id in order {
        let (own, bytes) = (lives[&id], program.buffers[id.index()].bytes());
        let mut taken: Vec<(u32, u32)> = placed
            .iter()
            .filter(|other| lives[other].first <= own.last && own.first <= lives[other].last)
            .map(|other| &program.buffers[other.index()])
            .map(|buffer| (buffer.offset, buffer.offset + buffer.bytes()))
            .collect();
        taken.sort_unstable();
        let offset = taken.iter().fold(
            0,
            |at: u32, &(from, to)| {
                if at + bytes <= from { at } else { at.max(to.next_multiple_of(ALIGN)) }
            },
        );
        program.buffers[id.index()].offset = offset;
        program.shared_bytes = program.shared_bytes.max((offset + bytes).next_multiple_of(ALIGN));
        placed.push(id);
    }
}
