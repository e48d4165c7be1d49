//! Walks the steps of a program for one point of the grid.

use super::ahead::Coming;
use super::isa::Kernels;
use super::memory::{Place, Places, View};
use super::pairs::Panels;
use super::rows::{self, Codes, Reader};
use crate::device::Grid;
use tilewright_compile::cpu::{Arithmetic, Lane, LaneIndex, Pack, PackSource, Program, Rows, Step, ViewIndex, Window};
use tilewright_ir::Elem;
use tilewright_ir::op::Reduce;

/// Lanes that start on a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// The working memory of one thread. It only grows, so a launch after the first allocates nothing.
#[derive(Default)]
pub(super) struct Workspace {
    lines: Vec<Line>,
    views: Vec<View>,
}

// SAFETY: the pointers in `views` are written anew by every launch before they are read, and never kept.
unsafe impl Send for Workspace {}

/// One launch, as the threads share it.
pub(super) struct Launch<'p> {
    pub program: &'p Program,
    pub kernels: &'static Kernels,
    pub grid: Grid,
    /// The lanes of scalar arguments, and their bits.
    pub scalars: Vec<(LaneIndex, u32)>,
    /// The views of tensor arguments.
    pub views: Vec<(ViewIndex, View)>,
}

// SAFETY: the views point to tensors that the caller of the launch has borrowed until it returns; outputs overlap no other
// tensor because they are borrowed mutably.
unsafe impl Sync for Launch<'_> {}

impl Launch<'_> {
    /// Makes a workspace ready for this launch.
    pub fn prepare(&self, workspace: &mut Workspace) {
        let lines = (self.program.lanes as usize).div_ceil(16);
        if workspace.lines.len() < lines {
            workspace.lines.resize(lines, Line([0; 16]));
        }
        let views = self.program.views as usize;
        if workspace.views.len() < views {
            workspace.views.resize(views, View::EMPTY);
        }
        let lanes = workspace.lines.as_mut_ptr().cast::<u32>();
        for &(lane, bits) in self.program.constants.iter().chain(&self.scalars) {
            // SAFETY: the lowering counted these lanes.
            unsafe { *lanes.add(lane as usize) = bits };
        }
        for &(at, view) in &self.views {
            workspace.views[at as usize] = view;
        }
    }

    /// Runs the program at one point of the grid.
    pub fn run(&self, workspace: &mut Workspace, point: Grid) {
        let (lanes, views) = (workspace.lines.as_mut_ptr().cast(), &mut workspace.views[..]);
        let mut thread = Thread { launch: self, lanes, views, point, coming: Coming::NOTHING };
        thread.steps(&self.program.steps);
    }
}

struct Thread<'l> {
    launch: &'l Launch<'l>,
    lanes: *mut u32,
    views: &'l mut [View],
    point: Grid,
    /// What follows in memory after what was packed last.
    coming: Coming,
}

impl Thread<'_> {
    /// A pointer to a lane that the lowering placed.
    fn lane(&self, at: LaneIndex) -> *mut u32 {
        debug_assert!(at < self.launch.program.lanes);
        // SAFETY: `prepare` made room for every lane of the program.
        unsafe { self.lanes.add(at as usize) }
    }

    fn get(&self, at: LaneIndex) -> i32 {
        // SAFETY: as above.
        unsafe { *self.lane(at) as i32 }
    }

    fn set(&self, at: LaneIndex, value: i32) {
        // SAFETY: as above.
        unsafe { *self.lane(at) = value as u32 };
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let kernels = self.launch.kernels;
        match step {
            Step::ProgramId { axis, dst } => self.set(*dst, self.point[*axis as usize] as i32),
            Step::ProgramCount { axis, dst } => self.set(*dst, self.launch.grid[*axis as usize] as i32),
            Step::ViewLen { view, axis, dst } => self.set(*dst, self.views[*view as usize].len[*axis as usize]),
            Step::ViewAt { view, axis, index, dst } => {
                self.views[*dst as usize] = self.views[*view as usize].at(*axis as usize, self.get(*index));
            }
            Step::Limit { view, axis, first, last, dst } => {
                let (first, last) = (self.get(*first), self.get(*last));
                self.views[*dst as usize] = self.views[*view as usize].limit(*axis as usize, first, last);
            }
            // SAFETY: these kernels are for this processor; the lowering gave each tile, and the indices, their lanes.
            Step::Load { window, dst } => self.window(window, None, |p| unsafe { (kernels.load)(p, self.lane(*dst)) }),
            Step::Gather { window, axis, indices, dst } => {
                let indices = (*axis as usize, self.lane(*indices).cast_const());
                // SAFETY: as above.
                self.window(window, Some(indices), |p| unsafe { (kernels.load)(p, self.lane(*dst)) });
            }
            Step::Store { window, src } => {
                // SAFETY: as above; the verifier lets only outputs be stored to.
                self.window(window, None, |p| unsafe { (kernels.store)(p, self.lane(*src)) })
            }
            // SAFETY: these kernels are for this processor; the lowering placed all lanes inside the arena.
            Step::Vector(vector) => unsafe { (kernels.vector)(vector, self.lanes, &self.places()) },
            Step::Pack(pack) => self.coming = self.pack(pack),
            Step::Pair { src, dst, rows, columns } => {
                if let Some(pairs) = kernels.pairs {
                    // SAFETY: as above; pairs are asked for where the processor has them.
                    unsafe { (pairs.pair)(self.lane(*src), self.lane(*dst), *rows, *columns) }
                }
            }
            Step::Dot(dot) => {
                let run = kernels.pairs.filter(|_| dot.pairs).map_or(kernels.dot, |pairs| pairs.dot);
                // SAFETY: as above.
                unsafe { run(dot, self.lanes, &mut self.coming) }
            }
            Step::DotRows(dot) => {
                let run = match dot.by {
                    Arithmetic::Numbers => None,
                    Arithmetic::Pairs => kernels.pairs.map(|pairs| pairs.dot_rows),
                    Arithmetic::Bytes => kernels.dot_bytes,
                };
                let run = run.unwrap_or(kernels.dot_rows);
                // SAFETY: as above; the rows are as wide as the lowering says.
                self.reader(&dot.b, |rows| unsafe { run(dot, rows, self.lanes) });
            }
            Step::Decode { rows, count, columns, dst } => {
                // SAFETY: as above.
                self.reader(rows, |rows| unsafe { (kernels.decode)(rows, *count, *columns, self.lane(*dst).cast()) });
            }
            Step::Transpose { src, dst, outer, rows, cols } => {
                self.transpose(*src, *dst, [*outer, *rows, *cols].map(|x| x as usize));
            }
            Step::Reduce { op, lane, elem, src, dst, outer, extent, inner } => {
                self.reduce(op, *lane, *elem, *src, *dst, [*outer, *extent, *inner].map(|x| x as usize));
            }
            Step::Broadcast { src, dst, from, to } => {
                self.broadcast(*src, *dst, from.map(|x| x as usize), to.map(|x| x as usize))
            }
            // SAFETY: these kernels are for this processor; the lowering made room for the words and for all of their codes.
            Step::Unpack { src, dst, words, bits } => unsafe {
                (kernels.unpack)(self.lane(*src), self.lane(*dst), *words, *bits);
            },
            // SAFETY: both hold `lanes` lanes.
            Step::Copy { src, dst, lanes } => unsafe {
                std::ptr::copy(self.lane(*src), self.lane(*dst), *lanes as usize);
            },
            Step::For { first, last, step, counter, body } => {
                let (mut at, last, step) = (self.get(*first), self.get(*last), self.get(*step));
                while step > 0 && at < last {
                    self.set(*counter, at);
                    self.steps(body);
                    match at.checked_add(step) {
                        Some(next) => at = next,
                        None => break, // past every i32, so past the end
                    }
                }
            }
            Step::If { cond, then, otherwise } => {
                let branch = if self.get(*cond) != 0 { then } else { otherwise };
                self.steps(branch);
            }
        }
    }

    fn window(&self, window: &Window, indices: Option<(usize, *const u32)>, f: impl FnOnce(&Place<'_>)) {
        f(&self.place(window, indices));
    }

    fn place(&self, window: &Window, indices: Option<(usize, *const u32)>) -> Place<'_> {
        // SAFETY: the lowering counted the views and lanes.
        unsafe { self.places().of(window, indices) }
    }

    fn places(&self) -> Places<'_> {
        Places { views: self.views, lanes: self.lanes }
    }

    /// Where rows are in memory; lanes have no place there.
    fn stored(&self, source: &PackSource) -> Option<Place<'_>> {
        match source {
            PackSource::Window(window) => Some(self.place(window, None)),
            PackSource::Gather { window, axis, indices } => {
                Some(self.place(window, Some((*axis as usize, self.lane(*indices).cast_const()))))
            }
            PackSource::Lanes(_) => None,
        }
    }

    fn reader(&self, rows: &Rows, f: impl FnOnce(&Reader<'_>)) {
        let reader = match rows {
            Rows::Stored(source) => self.stored(source).map(|place| Reader::Stored(rows::Rows::new(place))),
            Rows::Codes(codes) => {
                let [words, scales, biases] =
                    [&codes.words, &codes.scales, &codes.biases].map(|part| self.stored(part).map(rows::Rows::new));
                words.zip(scales).zip(biases).map(|((words, scales), biases)| {
                    Reader::Codes(Codes {
                        words,
                        scales,
                        biases,
                        bits: codes.bits,
                        group: codes.group as usize,
                        rounds: codes.rounds,
                    })
                })
            }
        };
        if let Some(reader) = reader {
            f(&reader); // the lowering makes none of lanes
        }
    }

    /// What follows in memory is likely the next to be packed.
    fn pack(&self, pack: &Pack) -> Coming {
        let Pack { source, transposed, pairs, k, n, keep, dst } = pack;
        let (rows, cols) = if *transposed { (*n, *k) } else { (*k, *n) };
        let kernels = self.launch.kernels;
        let (dst, panel) = (self.lane(*dst), kernels.target.panel);
        let keep = keep.map(|keep| self.lane(keep).cast_const());
        // SAFETY: these kernels are for this processor, which has pairs where they are asked for; the lowering made room for the
        // panels, and gave the indices and the rows to keep their lanes.
        let run = |source: &Place<'_>| unsafe {
            match (*pairs, kernels.pairs) {
                (false, _) => {
                    let run = if *transposed { kernels.pack_transposed } else { kernels.pack_rows };
                    run(source, dst.cast(), *k, *n, panel);
                }
                (true, Some(kernels)) => {
                    let run = if *transposed { kernels.pack_transposed } else { kernels.pack_rows };
                    run(source, Panels { dst, k: *k as usize, n: *n as usize, panel: panel as usize });
                }
                (true, None) => {} // never lowered for this processor
            }
        };
        match (self.stored(source), source) {
            (Some(place), _) => {
                let coming = Coming::after(&place);
                run(&place.keeping(keep));
                coming
            }
            (None, PackSource::Lanes(lanes)) => {
                let view = View::of_lanes(self.lane(*lanes), rows, cols);
                run(&Place::new(&view, &[0, 0], &[rows, cols], None).keeping(keep));
                Coming::NOTHING
            }
            (None, PackSource::Window(_) | PackSource::Gather { .. }) => Coming::NOTHING, // these have a place
        }
    }

    fn transpose(&self, src: LaneIndex, dst: LaneIndex, [outer, rows, cols]: [usize; 3]) {
        let (src, dst) = (self.lane(src), self.lane(dst));
        for plane in 0..outer {
            for row in 0..rows {
                for col in 0..cols {
                    let base = plane * rows * cols;
                    // SAFETY: both tiles have outer * rows * cols lanes.
                    unsafe { *dst.add(base + col * rows + row) = *src.add(base + row * cols + col) };
                }
            }
        }
    }

    fn broadcast(&self, src: LaneIndex, dst: LaneIndex, from: [usize; 3], to: [usize; 3]) {
        let (src, dst) = (self.lane(src), self.lane(dst));
        let along = |axis: usize, at: usize| if from[axis] == 1 { 0 } else { at };
        for i in 0..to[0] {
            for j in 0..to[1] {
                for k in 0..to[2] {
                    let at = (along(0, i) * from[1] + along(1, j)) * from[2] + along(2, k);
                    // SAFETY: the shapes are those of the two tiles.
                    unsafe { *dst.add((i * to[1] + j) * to[2] + k) = *src.add(at) };
                }
            }
        }
    }

    fn reduce(
        &self,
        op: &Reduce,
        lane: Lane,
        elem: Elem,
        src: LaneIndex,
        dst: LaneIndex,
        [outer, extent, inner]: [usize; 3],
    ) {
        let (src, dst) = (self.lane(src), self.lane(dst));
        let start = tilewright_compile::cpu::lane_bits(
            match op {
                Reduce::Sum { .. } => 0.0,
                Reduce::Max { .. } => elem.least(),
                Reduce::Min { .. } => elem.greatest(),
            },
            elem,
        );
        let float = f32::from_bits;
        let shape = [outer, extent, inner];
        // SAFETY: the source has outer * extent * inner lanes, the result outer * inner.
        unsafe {
            match (op, lane) {
                (Reduce::Sum { .. }, Lane::Float) => {
                    fold(src, dst, shape, start, |a, b| (float(a) + float(b)).to_bits());
                }
                (Reduce::Sum { .. }, Lane::Signed | Lane::Unsigned | Lane::Mask) => match elem {
                    Elem::I8 => fold(src, dst, shape, start, |a, b| a.wrapping_add(b) as i8 as i32 as u32),
                    Elem::U8 => fold(src, dst, shape, start, |a, b| a.wrapping_add(b) & 0xff),
                    Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::I32 | Elem::U32 | Elem::Bool => {
                        fold(src, dst, shape, start, u32::wrapping_add);
                    }
                },
                (Reduce::Max { .. }, Lane::Float) => {
                    fold(src, dst, shape, start, |a, b| super::math::max(float(a), float(b)).to_bits());
                }
                (Reduce::Max { .. }, Lane::Signed) => {
                    fold(src, dst, shape, start, |a, b| (a as i32).max(b as i32) as u32);
                }
                (Reduce::Max { .. }, Lane::Unsigned | Lane::Mask) => fold(src, dst, shape, start, u32::max),
                (Reduce::Min { .. }, Lane::Float) => {
                    fold(src, dst, shape, start, |a, b| super::math::min(float(a), float(b)).to_bits());
                }
                (Reduce::Min { .. }, Lane::Signed) => {
                    fold(src, dst, shape, start, |a, b| (a as i32).min(b as i32) as u32);
                }
                (Reduce::Min { .. }, Lane::Unsigned | Lane::Mask) => fold(src, dst, shape, start, u32::min),
            }
        }
    }
}

/// Folds the middle axis, row after row: neighbours are folded side by side.
///
/// # Safety
/// `outer * extent * inner` lanes in `src`, `outer * inner` in `dst`.
#[inline(always)]
unsafe fn fold(
    src: *const u32,
    dst: *mut u32,
    [outer, extent, inner]: [usize; 3],
    start: u32,
    f: impl Fn(u32, u32) -> u32,
) {
    for plane in 0..outer {
        // SAFETY: the caller's promise; the two do not overlap.
        unsafe {
            let to = std::slice::from_raw_parts_mut(dst.add(plane * inner), inner);
            to.fill(start);
            for row in 0..extent {
                let from = std::slice::from_raw_parts(src.add((plane * extent + row) * inner), inner);
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = f(*to, from);
                }
            }
        }
    }
}
