//! Runs `.tile` files on whatever runs kernels: kernels with what they must compute, worked out by hand from the meaning
//! of the ops.
//!
//! A file holds cases. A case starts with `// case: what it shows`, and then come, before or after the kernel:
//!
//! ```text
//! // run: grid=2,1,1 x=f32[2,3]{1,2,3,4,5,6} n=3 y=f32[4]{9}
//! // expect y: 1 2 3 NaN
//! // expect y ~1e-6: 1 2 3 4
//! // as interp ~1e-5
//! // error: a part of the message
//! // only: interp
//! ```
//!
//! `run` gives the arguments by name; the grid is one program unless it says so. A tensor is filled with the values in
//! braces, over and over; without braces with zeros. `x=f32[2,3]/1,2+4{…}` also gives strides and an offset, and then the
//! braces hold the data. Each `expect` is about the `run` above it and lists all elements, row-major; they must be equal,
//! or within the number after `~`. `as interp` is about all outputs of the `run` above it: what the reference interpreter
//! computes, within that error relative to the element or 1, whichever is larger. A case with `error` must not parse or not verify. A case with `only` is
//! about one device and skipped on others: the interpreter keeps more digits than a float type has, devices need not.

use crate::interp::{Arg, Tensor, run};
use crate::kernel::{Access, Kernel, RegionId};
use crate::text::parse;
use crate::types::Elem;
use crate::verify::verify;
use std::collections::BTreeSet;
use std::path::Path;

/// Runs a kernel over a grid; gives back the arguments after the run, or why there are none.
pub type Runner<'r> = dyn FnMut(&Kernel, [u32; 3], &[Arg]) -> Result<Vec<Arg>, String> + 'r;

/// What came of a folder of files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many cases there were.
    pub cases: usize,
    /// How many elements were compared.
    pub compared: usize,
    /// The names of the ops in the cases that ran.
    pub ops: BTreeSet<&'static str>,
    /// The names of the cases for another device.
    pub skipped: Vec<String>,
    /// File, case and problem, one for each case that failed.
    pub failures: Vec<String>,
}

/// Checks every case of every `.tile` file of a folder on the device of this name.
///
/// # Errors
/// A folder or file that cannot be read. Cases that fail are in the report.
pub fn check_folder(folder: &Path, device: &str, runner: &mut Runner<'_>) -> std::io::Result<Report> {
    let mut report = Report::default();
    let mut paths: Vec<_> = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "tile"));
    paths.sort();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for case in Case::split(&std::fs::read_to_string(&path)?) {
            report.cases += 1;
            if case.only().is_some_and(|only| only != device) {
                report.skipped.push(case.name);
                continue;
            }
            match case.check(runner) {
                Ok(checked) => {
                    report.compared += checked.compared;
                    report.ops.extend(checked.ops);
                }
                Err(problem) => report.failures.push(format!("{file}: {}: {problem}", case.name)),
            }
        }
    }
    Ok(report)
}

/// One case of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The case behind as many empty lines as lines stand before it in the file.
    pub text: String,
}

/// What a case that passed compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// How many elements; 0 for a case that must be refused.
    pub compared: usize,
    /// The names of the ops of its kernel.
    pub ops: BTreeSet<&'static str>,
}

impl Case {
    /// The cases of a file. What stands before the first one is a comment on the file.
    pub fn split(text: &str) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("// case:") {
                cases.push(Case { name: name.trim().to_string(), text: "\n".repeat(i) });
            }
            if let Some(case) = cases.last_mut() {
                case.text += line;
                case.text.push('\n');
            }
        }
        cases
    }

    /// The one device that the case is about, if it says so.
    pub fn only(&self) -> Option<&str> {
        self.text.lines().find_map(|l| l.trim().strip_prefix("// only:")).map(str::trim)
    }

    /// Runs the case and compares.
    ///
    /// # Errors
    /// The first thing that is not as the case says, or a case that compares nothing.
    pub fn check(&self, runner: &mut Runner<'_>) -> Result<Checked, String> {
        let parsed = parse(&self.text).map_err(|e| e.to_string()).and_then(|kernel| match verify(&kernel) {
            Ok(()) => Ok(kernel),
            Err(errors) => Err(errors.to_string()),
        });
        let lines = || self.text.lines().map(str::trim);
        let mut wanted = lines().filter_map(|l| l.strip_prefix("// error:")).peekable();
        if wanted.peek().is_some() {
            let message = parsed.err().ok_or("there is no error")?;
            return match wanted.find(|w| !message.contains(w.trim())) {
                Some(missing) => Err(format!("the error does not say `{}`\n{message}", missing.trim())),
                None => Ok(Checked::default()),
            };
        }
        let kernel = parsed?;
        let mut ran = None;
        let mut checked = Checked::default();
        for line in lines() {
            if let Some(given) = line.strip_prefix("// run:") {
                let (grid, given) = arguments(&kernel, given)?;
                let got = runner(&kernel, grid, &given)?;
                ran = Some((grid, given, got));
            }
            if let Some(expected) = line.strip_prefix("// expect ") {
                let (_, _, got) = ran.as_ref().ok_or("`expect` before `run`")?;
                checked.compared += expect(&kernel, got, expected)?;
            }
            if let Some(tolerance) = line.strip_prefix("// as interp") {
                let (grid, given, got) = ran.as_ref().ok_or("`as interp` before `run`")?;
                let tolerance = match tolerance.trim().strip_prefix('~') {
                    Some(tolerance) => number(tolerance)?,
                    None => 0.0,
                };
                checked.compared += as_interp(&kernel, *grid, given, got, tolerance)?;
            }
        }
        if checked.compared == 0 {
            return Err("nothing was compared".to_string());
        }
        names(&kernel, Kernel::BODY, &mut checked.ops);
        Ok(checked)
    }
}

fn names(kernel: &Kernel, region: RegionId, into: &mut BTreeSet<&'static str>) {
    for inst in kernel.insts(region) {
        into.insert(inst.op.name());
        inst.op.regions().into_iter().for_each(|r| names(kernel, r, into));
    }
}

fn arguments(kernel: &Kernel, given: &str) -> Result<([u32; 3], Vec<Arg>), String> {
    let mut grid = [1; 3];
    let mut args: Vec<Option<Arg>> = vec![None; kernel.params.len()];
    for word in given.split_whitespace() {
        let (name, value) = word.split_once('=').ok_or(format!("`{word}` is not name=value"))?;
        if name == "grid" {
            let counts: Option<Vec<u32>> = value.split(',').map(|n| n.parse().ok()).collect();
            grid = counts.and_then(|c| c.try_into().ok()).ok_or(format!("`{value}` is no grid"))?;
            continue;
        }
        let i = kernel.params.iter().position(|p| p.name == name).ok_or(format!("no parameter `{name}`"))?;
        let arg = if value.contains('[') { Arg::Tensor(tensor(value)?) } else { Arg::Scalar(number(value)?) };
        if args[i].replace(arg).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
    }
    let missing = args.iter().position(Option::is_none).map(|i| &kernel.params[i].name);
    match missing {
        Some(name) => Err(format!("`{name}` is not given")),
        None => Ok((grid, args.into_iter().flatten().collect())),
    }
}

/// `f32[2,3]/1,2+4{1,2,3}`.
fn tensor(text: &str) -> Result<Tensor, String> {
    let wrong = || format!("`{text}` is no tensor");
    let (elem, rest) = text.split_once('[').ok_or_else(wrong)?;
    let (shape, rest) = rest.split_once(']').ok_or_else(wrong)?;
    let (layout, values) = rest.split_once('{').unwrap_or((rest, "0}"));
    let elem = Elem::from_name(elem).ok_or_else(wrong)?;
    let shape: Vec<usize> = list(shape).ok_or_else(wrong)?;
    let values: Vec<f64> =
        values.strip_suffix('}').ok_or_else(wrong)?.split(',').map(number).collect::<Result<_, _>>()?;
    if let Some(layout) = layout.strip_prefix('/') {
        let (strides, offset) = layout.split_once('+').unwrap_or((layout, "0"));
        let strides = list(strides).ok_or_else(wrong)?;
        let offset = offset.parse().map_err(|_| wrong())?;
        return Ok(Tensor { elem, shape, strides, offset, data: values });
    }
    let count = shape.iter().product();
    Tensor::new(elem, &shape, values.into_iter().cycle().take(count)).map_err(|e| e.to_string())
}

fn list<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').filter(|n| !n.is_empty()).map(|n| n.trim().parse().ok()).collect()
}

/// A decimal number, NaN, inf, or `0x` and hexadecimal digits.
fn number(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(f64::from),
        None => text.parse().ok(),
    };
    parsed.ok_or(format!("`{text}` is no number"))
}

fn expect(kernel: &Kernel, args: &[Arg], line: &str) -> Result<usize, String> {
    let (what, values) = line.split_once(':').ok_or(format!("`{line}` has no values"))?;
    let (name, tolerance) = match what.split_once('~') {
        Some((name, tolerance)) => (name.trim(), number(tolerance.trim())?),
        None => (what.trim(), 0.0),
    };
    let i = kernel.params.iter().position(|p| p.name == name).ok_or(format!("no parameter `{name}`"))?;
    let found = args.get(i).and_then(Arg::tensor).ok_or(format!("`{name}` is no tensor"))?.to_vec();
    let wanted: Vec<f64> = values.split_whitespace().map(number).collect::<Result<_, _>>()?;
    let same = |(w, f): (&f64, &f64)| w == f || (w.is_nan() && f.is_nan()) || (w - f).abs() <= tolerance;
    if wanted.len() != found.len() || !wanted.iter().zip(&found).all(same) {
        return Err(format!("`{name}` is\n  {found:?}, expected\n  {wanted:?}"));
    }
    Ok(found.len())
}

fn as_interp(kernel: &Kernel, grid: [u32; 3], given: &[Arg], got: &[Arg], tolerance: f64) -> Result<usize, String> {
    let mut expected = given.to_vec();
    run(kernel, grid, &mut expected).map_err(|e| e.to_string())?;
    let mut compared = 0;
    for (i, param) in kernel.params.iter().enumerate().filter(|(_, p)| p.access == Access::Write) {
        let name = &param.name;
        let wanted = expected.get(i).and_then(Arg::tensor).ok_or(format!("`{name}` is no tensor"))?.to_vec();
        let found = got.get(i).and_then(Arg::tensor).ok_or(format!("`{name}` is no tensor"))?.to_vec();
        let same =
            |w: f64, f: f64| w == f || (w.is_nan() && f.is_nan()) || (w - f).abs() <= tolerance * w.abs().max(1.0);
        let wrong = wanted.iter().zip(&found).position(|(&w, &f)| !same(w, f));
        if wanted.len() != found.len() || wrong.is_some() {
            return Err(format!(
                "`{name}` is, from element {} on,\n  {found:?}, expected\n  {wanted:?}",
                wrong.unwrap_or(0)
            ));
        }
        compared += found.len();
    }
    Ok(compared)
}
