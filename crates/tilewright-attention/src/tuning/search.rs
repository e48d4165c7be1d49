//! What a search for better schedules asks of the tables: which schedules are worth measuring, and as which row one is
//! written.

use super::{Choice, MAX_ROWS, MAX_VERIFY, Machine, Row, SHARED_ROWS, choose, gpu, needed, packed_heads};
use crate::attention::{Attention, Extents};
use crate::cache::{Format, Placement};
use crate::error::AttentionError;
use std::fmt;
use tilewright_ir::{Elem, Schedule, Work};
use tilewright_runtime::DeviceInfo;

/// A problem as the tables see it.
#[derive(Clone, Debug)]
pub struct Tuning {
    shape: Extents,
    types: [Elem; 2],
    cache: Format,
    /// Whether masks leave some.
    holes: bool,
    machine: Machine,
}

/// One way to serve a problem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The tile shape.
    pub schedule: Schedule,
    /// How the threads of a GPU share it; `None` on a CPU.
    pub work: Option<Work>,
    /// Of the table's row: there may be fewer in a tile.
    pub(super) rows: u32,
}

/// Ways to serve a problem that are worth compiling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidates {
    /// The table's choice, then others: the more alike, the earlier.
    pub kept: Vec<Candidate>,
    /// Why others are not, and how many.
    pub refused: Vec<(&'static str, usize)>,
    /// Those that differ more from the table's choice than any that is kept.
    pub left_out: usize,
}

/// Why a schedule is not measured that no row can bring into its table.
pub(super) const NO_ROW: &str = "what no row of the table says";

impl Tuning {
    /// The problem of a request on a device.
    ///
    /// # Errors
    /// Every way in which the request breaks the contract.
    pub fn of(request: &Attention<'_>, device: &DeviceInfo) -> Result<Tuning, AttentionError> {
        Ok(Tuning {
            shape: request.check()?.shape,
            types: [request.q().elem(), request.cache().elem()],
            cache: request.cache().format(),
            holes: request.features().leave_holes(),
            machine: Machine::of(device),
        })
    }

    /// What the table chooses, and others that a row would make it choose: at most `limit` of them, at least one.
    pub fn candidates(&self, limit: usize) -> Candidates {
        let chosen = self.chosen();
        let (mut kept, refused) = match self.gpu() {
            None => self.of_cpu(),
            Some((table, wanted, limits)) => gpu::candidates(&wanted, table, limits),
        };
        kept.retain(|candidate| !candidate.same(&chosen));
        kept.sort_by(|one, other| chosen.distance(one).total_cmp(&chosen.distance(other)));
        kept.insert(0, chosen);
        let left_out = kept.len().saturating_sub(limit.max(1));
        kept.truncate(limit.max(1));
        Candidates { kept, refused, left_out }
    }

    /// The row that makes the table choose this, in the words of the table; `None` where no row does.
    pub fn row(&self, candidate: &Candidate) -> Option<String> {
        match self.gpu() {
            None => self.cpu_row(candidate).map(|row| row.to_string()),
            Some((table, wanted, _)) => gpu::row_of(&wanted, table, candidate).map(|row| row.to_string()),
        }
    }

    /// What the table chooses.
    pub fn chosen(&self) -> Candidate {
        let Tuning { shape, types, cache, holes, machine } = self;
        let Choice { schedule, work, .. } = choose(shape, *types, (cache, *holes), *machine);
        let rows = self.gpu().map_or(schedule.rows(), |(table, wanted, _)| wanted.rows_of(table));
        Candidate { schedule, work, rows }
    }

    /// The table of a GPU, what it is asked, and what such GPUs have.
    fn gpu(&self) -> Option<(&'static [gpu::Row], gpu::Wanted<'_>, gpu::Limits)> {
        let (table, shared_bytes, multiprocessors, limits) = match self.machine {
            Machine::Cpu { .. } => return None,
            Machine::Cuda { shared_bytes, multiprocessors } => {
                (gpu::CUDA, shared_bytes, multiprocessors, gpu::Limits::CUDA)
            }
            Machine::Metal => (gpu::METAL, gpu::ALL_FIT, usize::MAX, gpu::Limits::METAL),
        };
        let &Tuning { ref shape, types, ref cache, holes, .. } = self;
        Some((table, gpu::Wanted { shape, types, cache, holes, shared_bytes, multiprocessors }, limits))
    }

    /// Shapes of tiles of a CPU, and how many others cannot be chosen. What none may be, the check of a request says.
    fn of_cpu(&self) -> (Vec<Candidate>, Vec<(&'static str, usize)>) {
        const QUERIES: [u32; 6] = [16, 32, 64, 96, 128, 256];
        const KEYS: [u32; 6] = [32, 64, 96, 128, 256, 512];
        const KEYS_OF_FEW: [u32; 7] = [32, 64, 128, 256, 512, 1024, 2048];
        let (needed, group) = (needed(&self.shape), self.shape.q_heads / self.shape.kv_heads);
        let few = self.shape.q_len <= MAX_VERIFY;
        let rows: Vec<(u32, u32)> = match few {
            true => {
                (1..=MAX_ROWS / needed).filter(|&n| group.is_multiple_of(n as usize)).map(|n| (n, needed)).collect()
            }
            false => {
                let tiles = |queries| [1, packed_heads(group, queries, SHARED_ROWS)].map(|heads| (heads, queries));
                let mut rows: Vec<_> = QUERIES.into_iter().filter(|&n| n <= needed).flat_map(tiles).collect();
                rows.dedup();
                rows
            }
        };
        let keys = if few { &KEYS_OF_FEW[..] } else { &KEYS[..] };
        let each = |(heads, queries)| keys.iter().map(move |&keys| Schedule { heads, queries, keys });
        let all = rows.into_iter().flat_map(each);
        let all = all.map(|schedule| Candidate { schedule, work: None, rows: schedule.rows() });
        let (kept, unsaid): (Vec<_>, Vec<_>) = all.partition(|candidate| self.cpu_row(candidate).is_some());
        let refused = (!unsaid.is_empty()).then_some((NO_ROW, unsaid.len()));
        (kept, refused.into_iter().collect())
    }

    fn cpu_row(&self, candidate: &Candidate) -> Option<Row> {
        let Machine::Cpu { threads, tiles } = self.machine else { return None };
        let present = Row::of(&self.shape, self.types, tiles);
        let Schedule { queries, keys, .. } = candidate.schedule;
        let rows = match (self.shape.q_len <= MAX_VERIFY, self.cache.placement) {
            (false, _) => vec![
                Row { queries, keys, ..*present },
                Row { queries, shared: None, keys, ..*present },
                Row { shared: Some(queries), keys, ..*present },
            ],
            (true, Placement::Contiguous | Placement::Ring) => vec![Row { decode: keys, ..*present }],
            (true, Placement::Paged { .. }) => vec![Row { decode_pages: keys, ..*present }],
        };
        let serves = |row: &Row| row.choice(&self.shape, &self.cache, threads).0 == candidate.schedule;
        [*present].into_iter().chain(rows).find(serves)
    }
}

impl Candidate {
    /// Whether both are compiled to the same.
    pub fn same(&self, other: &Candidate) -> bool {
        (self.schedule, self.work) == (other.schedule, other.work)
    }

    /// How often a number of one must be doubled or halved to make the other.
    fn distance(&self, other: &Candidate) -> f64 {
        let numbers = |of: &Candidate| {
            let Candidate { schedule: Schedule { heads, queries, keys }, work, .. } = *of;
            let work = work.unwrap_or(Work { rows: 1, columns: 1, stages: 1, blocks: 1 });
            [heads, queries, keys, work.rows, work.columns, work.stages, work.blocks].map(|n| f64::from(n).log2())
        };
        numbers(self).iter().zip(numbers(other)).map(|(one, other)| (one - other).abs()).sum()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { schedule, work, .. } = self;
        write!(f, "{schedule}")?;
        work.map_or(Ok(()), |work| write!(f, " {work}"))
    }
}

/// As it stands in the table.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { max_dim, queries, shared, keys, decode, decode_pages } = self;
        match *max_dim {
            usize::MAX => f.write_str("Row { max_dim: usize::MAX, ")?,
            dim => write!(f, "Row {{ max_dim: {dim}, ")?,
        }
        write!(
            f,
            "queries: {queries}, shared: {shared:?}, keys: {keys}, decode: {decode}, decode_pages: {decode_pages} }},"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::TABLE;
    use super::*;
    use crate::cases::Case;
    use crate::library;

    fn tuning(q_len: usize, machine: Machine) -> Tuning {
        let shape =
            Extents { batch: 1, q_heads: 32, kv_heads: 8, q_len, capacity: 4096, head_dim: 128, value_dim: 128 };
        Tuning { shape, types: [Elem::Bf16; 2], cache: Format::DENSE, holes: false, machine }
    }

    const CPU: Machine = Machine::Cpu { threads: 2, tiles: false };
    const CPU_WITH_TILES: Machine = Machine::Cpu { threads: 2, tiles: true };
    const H200: Machine = Machine::Cuda { shared_bytes: 227 << 10, multiprocessors: 132 };

    #[test]
    fn a_row_is_written_as_it_stands_in_the_table() {
        let text = include_str!("../tuning.rs");
        for row in &TABLE {
            assert!(text.lines().any(|line| line.trim() == row.to_string()), "{row}");
        }
    }

    /// Figures stand above their row as `// CASE: FIGURE`.
    #[test]
    fn a_figure_in_a_table_is_of_a_case_of_the_library_that_its_row_serves() {
        let entries = library().entries;
        let cpu: Vec<Case> = entries.iter().flat_map(|entry| (entry.benches)()).collect();
        let gpu: Vec<Case> = entries.iter().flat_map(|entry| (entry.gpu_benches)()).collect();
        let tables = [
            (include_str!("../tuning.rs"), CPU, &cpu, TABLE.len() - 1),
            (include_str!("tiles.rs"), CPU_WITH_TILES, &cpu, 1),
            (include_str!("gpu.rs"), H200, &gpu, 9),
        ];
        for (text, machine, cases, least) in tables {
            let (mut figures, mut rows) = (Vec::new(), 0);
            for line in text.lines().map(str::trim) {
                let figure = line.strip_prefix("// ").and_then(|text| text.split_once(": "));
                match figure.filter(|(name, _)| name.contains('/')) {
                    Some((name, _)) => figures.push(name),
                    None if line.starts_with("//") => {}
                    None => {
                        rows += usize::from(!figures.is_empty());
                        for name in figures.drain(..) {
                            let case = cases.iter().find(|case| case.name() == name);
                            let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
                            let (q, kv) = case.elements();
                            // None of these cases has a mask with holes.
                            let (shape, cache) = (case.extents(), case.format());
                            let tuning = Tuning { shape, types: [q, kv], cache, holes: false, machine };
                            assert_eq!(tuning.row(&tuning.chosen()).as_deref(), Some(line), "{name}");
                        }
                    }
                }
            }
            assert!(rows >= least, "{rows} rows of {machine:?} have a figure");
        }
    }

    #[test]
    fn the_tables_choice_comes_first_and_nothing_comes_twice() {
        for machine in [CPU, H200, Machine::Metal] {
            for q_len in [1, 8, 64, 65, 2048] {
                let tuning = tuning(q_len, machine);
                let Candidates { kept, refused, left_out } = tuning.candidates(100);
                assert!(kept[0].same(&tuning.chosen()), "{machine:?} {q_len}");
                assert!((7..=100).contains(&kept.len()), "{machine:?} {q_len}: {}", kept.len());
                assert!(refused.iter().all(|(_, n)| *n > 0));
                for (at, one) in kept.iter().enumerate() {
                    assert!(kept[at + 1..].iter().all(|other| !one.same(other)), "{machine:?} {q_len}: {one}");
                }
                let all = tuning.candidates(usize::MAX);
                assert_eq!((all.kept.len(), all.left_out), (kept.len() + left_out, 0), "{machine:?} {q_len}");
                assert_eq!(tuning.candidates(0).kept, kept[..1], "at least the table's choice");
            }
        }
    }

    #[test]
    fn a_row_of_a_candidate_makes_the_table_choose_it() {
        for machine in [CPU, H200, Machine::Metal] {
            for q_len in [1, 8, 2048] {
                let tuning = tuning(q_len, machine);
                let all = tuning.candidates(usize::MAX).kept;
                for candidate in &all {
                    let chosen = match tuning.gpu() {
                        None => {
                            let row = tuning.cpu_row(candidate).expect("a row");
                            (row.choice(&tuning.shape, &tuning.cache, 2).0, None)
                        }
                        Some((table, wanted, _)) => {
                            let row = gpu::row_of(&wanted, table, candidate).expect("a row");
                            let Choice { schedule, work, .. } = gpu::choose(&wanted, &gpu::with(&wanted, table, row));
                            (schedule, work)
                        }
                    };
                    assert_eq!(chosen, (candidate.schedule, candidate.work), "{machine:?} {q_len}");
                }
                let least = if machine == CPU { 7 } else { 50 };
                assert!(all.len() >= least, "{machine:?} {q_len}: {} have a row", all.len());
            }
        }
    }

    #[test]
    fn a_schedule_that_another_row_would_displace_has_no_row() {
        // 32 rows are wanted. Were the row that has them one of 16, that of 64 would serve instead.
        let tuning = tuning(8, H200);
        let chosen = tuning.chosen();
        assert_eq!(chosen.schedule.rows(), 32);
        let schedule = Schedule { heads: 2, ..chosen.schedule };
        let fewer = Candidate { schedule, rows: 16, ..chosen };
        assert_eq!(tuning.row(&fewer), None);
        let Candidates { kept, refused, .. } = tuning.candidates(usize::MAX);
        assert!(kept.iter().all(|one| one.schedule.rows() == 32));
        assert!(refused.iter().any(|(why, count)| *why == NO_ROW && *count > 50), "{refused:?}");
    }

    #[test]
    fn rows_of_a_cpu_differ_in_what_was_searched() {
        let row = |q_len, heads, queries, keys, cache| {
            let tuning = Tuning { cache, ..tuning(q_len, CPU) };
            tuning.row(&Candidate { schedule: Schedule { heads, queries, keys }, work: None, rows: heads * queries })
        };
        let text = |row: Row| Some(row.to_string());
        assert_eq!(
            row(2048, 1, 64, 512, Format::DENSE),
            text(Row { queries: 64, shared: None, keys: 512, ..TABLE[1] })
        );
        assert_eq!(row(2048, 4, 32, 96, Format::DENSE), text(Row { shared: Some(32), keys: 96, ..TABLE[1] }));
        assert_eq!(row(2048, 2, 32, 96, Format::DENSE), None, "two of the four heads of a group");
        assert_eq!(row(1, 4, 1, 1024, Format::DENSE), text(Row { decode: 1024, ..TABLE[1] }));
        let paged = Format { placement: Placement::Paged { page_size: 16 }, ..Format::DENSE };
        assert_eq!(row(1, 4, 1, 1024, paged), text(Row { decode_pages: 1024, ..TABLE[1] }));
        assert_eq!(row(1, 2, 1, 1024, Format::DENSE), None, "two of the four heads of a group");
    }
}
