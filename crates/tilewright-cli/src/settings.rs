//! Tile shapes and the sharing of their work, as options give them.

use crate::error::CliError;
use tilewright::lang::ir::{Schedule, Work};

/// Sets the fields that `name=number,…` names; `None` where one is unknown or no number.
fn set(text: &str, fields: &mut [(&str, &mut u32)]) -> Option<()> {
    for part in text.split(',') {
        let (name, number) = part.split_once('=')?;
        let (_, field) = fields.iter_mut().find(|(known, _)| *known == name)?;
        **field = number.parse().ok()?;
    }
    Some(())
}

/// Reads `rows=4,columns=1,stages=2,blocks=2`; what is left out is as tuned, or 1.
pub(crate) fn work(text: &str, tuned: Option<Work>) -> Result<Work, CliError> {
    let mut work = tuned.unwrap_or(Work { rows: 1, columns: 1, stages: 1, blocks: 1 });
    let Work { rows, columns, stages, blocks } = &mut work;
    let read = set(text, &mut [("rows", rows), ("columns", columns), ("stages", stages), ("blocks", blocks)]);
    match read {
        Some(()) if work.is_possible() => Ok(work),
        Some(()) | None => Err(CliError::Setting {
            text: format!("--work {text}"),
            wanted: format!(
                "rows=N,columns=N,stages=N,blocks=N or some of them: powers of two for rows and columns, together at most \
                 {most}, up to 8 stages and {most} blocks",
                most = Work::MOST
            ),
        }),
    }
}

/// Reads `heads=4,queries=1,keys=64`; what is left out is 1.
pub(crate) fn tile(text: &str) -> Result<Schedule, CliError> {
    let mut tile = Schedule { heads: 1, queries: 1, keys: 1 };
    let Schedule { heads, queries, keys } = &mut tile;
    match set(text, &mut [("heads", heads), ("queries", queries), ("keys", keys)]) {
        Some(()) => Ok(tile),
        None => Err(CliError::Setting {
            text: format!("--tile {text}"),
            wanted: "heads=N,queries=N,keys=N or some of them".to_string(),
        }),
    }
}
