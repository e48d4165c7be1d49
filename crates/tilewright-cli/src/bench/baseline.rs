//! Reports that are kept by name, and what became slower since.

use super::report::{FORMAT, Report};
use crate::error::CliError;
use crate::output::{self, BAD, FAINT, GOOD, OutputFile, paint};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use tilewright::runtime::cache_folder;

/// The name of a kept report: letters, digits, `-`, `_` and `.`, not at its beginning.
#[derive(Clone, Debug)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.chars().all(fits) {
            true => Ok(Name(text.to_string())),
            false => Err("1 to 100 letters, digits, `-`, `_` and `.` (not first) are needed".to_string()),
        }
    }
}

impl Name {
    /// Its file, in a folder that may not exist.
    fn path(&self) -> Result<PathBuf, CliError> {
        let folder = cache_folder().ok_or_else(|| CliError::Unreadable {
            path: PathBuf::from(format!("baseline {}", self.0)),
            reason: "the user has no cache folder; set TILEWRIGHT_CACHE to one".to_string(),
        })?;
        Ok(folder.join("bench").join(format!("{}.json", self.0)))
    }

    /// Where a report of this name is kept; checked before anything is measured.
    ///
    /// # Errors
    /// A folder that cannot be made or written.
    pub fn output(&self) -> Result<OutputFile, CliError> {
        let path = self.path()?;
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)
            .map_err(|error| CliError::Unwritable { path: folder.to_path_buf(), reason: error.to_string() })?;
        OutputFile::check(&path)
    }

    /// The report of this name.
    ///
    /// # Errors
    /// [`CliError::Baseline`] where there is none, or it is damaged.
    pub fn load(&self) -> Result<Baseline, CliError> {
        let path = self.path()?;
        let unusable = |reason: String| CliError::Baseline { name: self.0.clone(), path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
        let baseline: Baseline = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if baseline.format != FORMAT {
            return Err(unusable(format!("it has the layout `{}`, and {FORMAT} is needed", baseline.format)));
        }
        let good = |row: &Timed| row.seconds.is_finite() && row.seconds > 0.0;
        if let Some(row) = baseline.rows.iter().find(|row| !good(row)) {
            return Err(unusable(format!("{} took {} s in it", row.case, row.seconds)));
        }
        Ok(baseline)
    }
}

/// What a kept report is read for.
#[derive(Deserialize, Debug)]
pub struct Baseline {
    format: String,
    device: String,
    instructions: String,
    threads: usize,
    rows: Vec<Timed>,
}

#[derive(Deserialize, Debug)]
struct Timed {
    case: String,
    seconds: f64,
}

/// What became of the cases.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// Cases of both: name, seconds before and now.
    pub both: Vec<(String, f64, f64)>,
    /// Cases of the baseline that did not run now.
    pub only_before: Vec<String>,
    /// Cases that the baseline does not have.
    pub only_now: Vec<String>,
}

impl Comparison {
    fn of(before: &[Timed], now: &[(&str, f64)]) -> Comparison {
        let old: BTreeMap<&str, f64> = before.iter().map(|row| (row.case.as_str(), row.seconds)).collect();
        let mut comparison = Comparison::default();
        for (case, seconds) in now {
            match old.get(case) {
                Some(before) => comparison.both.push((case.to_string(), *before, *seconds)),
                None => comparison.only_now.push(case.to_string()),
            }
        }
        let ran = |row: &&Timed| now.iter().any(|(case, _)| *case == row.case);
        comparison.only_before = before.iter().filter(|row| !ran(row)).map(|row| row.case.clone()).collect();
        comparison
    }

    /// The cases that take more than `percent` longer than before.
    fn slower(&self, percent: f64) -> impl Iterator<Item = &(String, f64, f64)> {
        self.both.iter().filter(move |(_, before, now)| *now > before * (1.0 + percent / 100.0))
    }
}

impl Baseline {
    /// Prints how the report stands beside this one; on standard error where the report itself went to standard output.
    ///
    /// # Errors
    /// [`CliError::Slower`] where a case became slower by more than `percent`; [`CliError::NothingToCompare`].
    pub fn compare(&self, name: &Name, report: &Report, percent: f64, quiet: bool) -> Result<(), CliError> {
        let was = (self.device.as_str(), self.instructions.as_str(), self.threads);
        let is = (report.device, report.instructions, report.threads);
        if was != is {
            output::warn(format!("baseline `{}` was measured on {was:?}, this run on {is:?}", name.0));
        }
        let now: Vec<(&str, f64)> = report.rows.iter().map(|row| (row.case.as_str(), row.times.seconds)).collect();
        let comparison = Comparison::of(&self.rows, &now);
        let say = |line: String| if quiet { Ok(()) } else { output::line(line) };
        say(format!("against baseline `{}`:", name.0))?;
        let slower: Vec<&String> = comparison.slower(percent).map(|(case, ..)| case).collect();
        for (case, before, now) in &comparison.both {
            let change = 100.0 * (now / before - 1.0);
            let line = format!("  {case}: {} -> {}, {change:+.1} %", output::duration(*before), output::duration(*now));
            let style = if slower.contains(&case) {
                BAD
            } else if change < -percent {
                GOOD
            } else {
                FAINT
            };
            say(paint(style, line))?;
        }
        for (what, cases) in [("not run now", &comparison.only_before), ("not in the baseline", &comparison.only_now)] {
            if !cases.is_empty() {
                say(format!("  {what}: {}", cases.join(", ")))?;
            }
        }
        if comparison.both.is_empty() {
            return Err(CliError::NothingToCompare { name: name.0.clone() });
        }
        match slower.is_empty() {
            true => Ok(()),
            false => Err(CliError::Slower { cases: slower.into_iter().cloned().collect(), percent }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(rows: &[(&str, f64)]) -> Vec<Timed> {
        rows.iter().map(|(case, seconds)| Timed { case: case.to_string(), seconds: *seconds }).collect()
    }

    #[test]
    fn a_case_is_slower_only_past_the_threshold() {
        let before = timed(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("gone", 1.0)]);
        let comparison = Comparison::of(&before, &[("a", 1.049), ("b", 1.06), ("c", 0.2), ("new", 9.0)]);
        assert_eq!(comparison.slower(5.0).map(|row| row.0.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(comparison.slower(4.0).count(), 2);
        assert_eq!(
            (comparison.both.len(), &comparison.only_before, &comparison.only_now),
            (3, &vec!["gone".to_string()], &vec!["new".to_string()])
        );
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        for name in ["", "..", ".x", "a/b", "a\\b", "ä", "a b"] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        assert!("main-2026.1_x".parse::<Name>().is_ok());
    }
}
