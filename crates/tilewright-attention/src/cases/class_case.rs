//! Cases of the kernel that classifies a mask's tiles.

use super::{CaseError, CaseReport};
use crate::features::Mask;
use crate::reference::{Mismatch, compare_elements};
use tilewright_ir::Schedule;
use tilewright_runtime::Device;

/// A mask and a tile shape: the classes of its tiles are those of its cells, exactly.
#[derive(Clone, Debug)]
pub struct ClassCase {
    name: String,
    mask: Mask,
    schedule: Schedule,
}

impl ClassCase {
    /// Tiles of so many queries and keys.
    pub fn new(name: impl Into<String>, mask: Mask, queries: u32, keys: u32) -> ClassCase {
        ClassCase { name: name.into(), mask, schedule: Schedule { heads: 1, queries, keys } }
    }

    /// `classes_of_edges/bool`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.name, self.mask.tensor().elem())
    }

    /// Runs the kernel on a device and compares every class.
    ///
    /// # Errors
    /// What was refused, or the first wrong class; a mask without tiles is wrong.
    pub fn run(&self, device: &Device) -> Result<CaseReport, CaseError> {
        let name = self.name();
        let classified = match self.mask.classify(device, self.schedule) {
            Ok(classified) => classified,
            Err(error) => return Err(CaseError::Refused { name, error }),
        };
        let classes = classified.map().classes().to_f64();
        let found = compare_elements(&classes, &self.wanted(), |_| 0.0).refuse("classes");
        let found = found.and_then(|found| if found.compared > 0 { Ok(found) } else { Err(Mismatch::Empty) });
        let found = found.map_err(|error| CaseError::Wrong { name: self.name(), error })?;
        let kernel = format!("attention_classify {} of {}", self.mask.tensor().elem(), self.schedule);
        Ok(CaseReport { name, error: 0.0, bound: 0.0, share: 0.0, compared: found.compared, kernel })
    }

    /// 0 where every cell of a tile blocks, 2 where every cell leaves its score as it is, else 1.
    fn wanted(&self) -> Vec<f64> {
        let [batch, heads, queries, keys] = self.mask.shape();
        let cells = self.mask.tensor().to_f64();
        let added = self.mask.tensor().elem().is_float();
        let blocks = |cell: f64| cell == if added { f64::NEG_INFINITY } else { 0.0 };
        let leaves = |cell: f64| if added { cell == 0.0 } else { cell != 0.0 };
        let [of_rows, of_keys] = [self.schedule.queries, self.schedule.keys].map(|n| n as usize);
        let of_rows = if queries == 1 { 1 } else { of_rows };
        let mut classes = Vec::new();
        for plane in 0..batch * heads {
            for row in (0..queries).step_by(of_rows) {
                for key in (0..keys).step_by(of_keys) {
                    let rows = row..queries.min(row + of_rows);
                    let columns = move || key..keys.min(key + of_keys);
                    let at = |row, key| cells[(plane * queries + row) * keys + key];
                    let tile: Vec<f64> = rows.flat_map(|row| columns().map(move |key| at(row, key))).collect();
                    let class = match () {
                        () if tile.iter().all(|&cell| blocks(cell)) => 0.0,
                        () if tile.iter().all(|&cell| leaves(cell)) => 2.0,
                        () => 1.0,
                    };
                    classes.push(class);
                }
            }
        }
        classes
    }
}
