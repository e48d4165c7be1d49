//! `tile quantize` and `tile dequantize`: tensors of a file to affine codes, and back.

use crate::error::CliError;
use crate::output::{self, OutputFile};
use crate::tensors::{self, FLOATS, TensorFile, WIDE_FLOATS, WORDS, Written};
use serde::Serialize;
use std::path::PathBuf;
use tilewright::attention::cache::{self, CodeTensors, Codes};
use tilewright::attention::{Affine, Bits, Group, QuantError, Rounding};
use tilewright::prelude::{Device, Tensor};

/// Flags of both commands.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The safetensors file to read.
    input: PathBuf,
    /// Where to write, as safetensors.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Bits of one code: 4 or 8.
    #[arg(long, value_name = "N", value_parser = bits)]
    bits: Bits,
    /// Consecutive values that share a scale and a bias: 32, 64 or 128.
    #[arg(long, value_name = "N", value_parser = group, default_value = "64")]
    group: Group,
    /// How encoding rounds a number halfway between two codes; both decode alike.
    #[arg(long, value_name = "even|away", value_parser = rounding, default_value = "even")]
    rounding: Rounding,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// A path that is no UTF-8 is shown with replacement characters.
    output: String,
    format: String,
    /// Tensors that were encoded or decoded, by the name without suffix.
    converted: &'a [String],
    /// Tensors that are as they were.
    copied: usize,
    /// Of all tensors.
    bytes_read: usize,
    bytes_written: usize,
}

/// The tensors of the output, and the names of those that are not copies.
#[derive(Default)]
struct Converted<'a> {
    tensors: Vec<Written<'a>>,
    names: Vec<String>,
    copied: usize,
}

/// The suffixes of a tensor's codes.
const W: &str = ".w";
const SCALES: &str = ".scales";
const BIASES: &str = ".biases";

/// Encodes every float tensor of the file.
pub fn quantise(args: &Args) -> Result<(), CliError> {
    convert(args, "encoded", encode)
}

/// Decodes every tensor of codes of the file.
pub fn dequantise(args: &Args) -> Result<(), CliError> {
    convert(args, "decoded", decode)
}

/// Reads a width of codes.
pub fn bits(text: &str) -> Result<Bits, String> {
    Bits::ALL.into_iter().find(|bits| bits.to_string() == text).ok_or_else(|| "4 or 8 is needed".to_string())
}

/// Reads the size of a group.
pub fn group(text: &str) -> Result<Group, String> {
    Group::ALL.into_iter().find(|group| group.to_string() == text).ok_or_else(|| "32, 64 or 128 is needed".to_string())
}

fn rounding(text: &str) -> Result<Rounding, String> {
    text.parse().map_err(|error: QuantError| error.to_string())
}

type Conversion = for<'a> fn(&Args, &'a TensorFile, &Device) -> Result<Converted<'a>, CliError>;

fn convert(args: &Args, done: &str, conversion: Conversion) -> Result<(), CliError> {
    let file = TensorFile::read(&args.input)?;
    let device = Device::cpu();
    let Converted { tensors, names, copied } = conversion(args, &file, &device)?;
    tensors::write(&OutputFile::check(&args.output)?, &tensors)?;
    let report = Report {
        output: args.output.display().to_string(),
        format: args.format().to_string(),
        converted: &names,
        copied,
        bytes_read: file.bytes(),
        bytes_written: tensors.iter().map(Written::bytes).sum(),
    };
    if args.json {
        return output::json(&report);
    }
    let Report { format, bytes_read, bytes_written, .. } = &report;
    let s = if names.len() == 1 { "" } else { "s" };
    output::line(format!(
        "{done} {} tensor{s} ({format}), copied {copied}; {bytes_read} bytes are {bytes_written} now",
        names.len(),
    ))
}

fn encode<'a>(args: &Args, file: &'a TensorFile, device: &Device) -> Result<Converted<'a>, CliError> {
    let mut to = Converted::default();
    for name in file.names() {
        // Floats that cannot be encoded are refused below.
        if !file.is(name, FLOATS) && !file.is(name, WIDE_FLOATS) {
            to.copy(name, file)?;
            continue;
        }
        let (shape, rows, dim) = rows(file, name)?;
        let refuse = |error| CliError::Quantise { name: name.to_string(), error };
        let (words, groups) = (args.format().words(dim).map_err(refuse)?, args.format().groups(dim).map_err(refuse)?);
        let x = file.tensor_as(name, FLOATS, &[1, 1, rows, dim])?;
        let codes = match rows * dim {
            0 => CodeTensors::zeros(args.format(), x.elem(), [1, 1, rows], dim)?,
            _ => cache::quantise(device, x.view(), args.format(), args.rounding)?,
        };
        for (suffix, tensor, last) in
            [(W, &codes.w, words), (SCALES, &codes.scales, groups), (BIASES, &codes.biases, groups)]
        {
            let part = format!("{name}{suffix}");
            if file.has(&part) {
                return Err(CliError::Both { one: part, other: name.to_string() });
            }
            to.tensors.push(Written::shaped(part, tensor, [shape, &[last]].concat()));
        }
        to.names.push(name.to_string());
    }
    Ok(to)
}

fn decode<'a>(args: &Args, file: &'a TensorFile, device: &Device) -> Result<Converted<'a>, CliError> {
    let mut to = Converted::default();
    let format = args.format();
    let has_codes = |name: &str| file.is(&format!("{name}{W}"), WORDS);
    for name in file.names() {
        let scale_of = name.strip_suffix(SCALES).or(name.strip_suffix(BIASES));
        let Some(base) = name.strip_suffix(W).filter(|base| has_codes(base)) else {
            if !scale_of.is_some_and(has_codes) {
                to.copy(name, file)?;
            }
            continue;
        };
        if file.has(base) {
            return Err(CliError::Both { one: name.to_string(), other: base.to_string() });
        }
        let (shape, rows, words) = self::rows(file, name)?;
        let (scales, biases) = (format!("{base}{SCALES}"), format!("{base}{BIASES}"));
        let (scale_shape, _, groups) = self::rows(file, &scales)?;
        let (bias_shape, _, bias_groups) = self::rows(file, &biases)?;
        let wrong =
            |name: &str, wanted: String| Err(CliError::Tensor { name: name.to_string(), got: file.show(name), wanted });
        if words != groups * format.words_per_group() || scale_shape != shape {
            let wanted = format!("{} words of {format} for each group of `{scales}`", format.words_per_group());
            return wrong(name, wanted);
        }
        if bias_groups != groups || bias_shape != shape || file.dtype(&biases) != file.dtype(&scales) {
            return wrong(&biases, format!("{}, as `{scales}` is,", file.show(&scales)));
        }
        let part = |name: &str, kinds, last| file.tensor_as(name, kinds, &[1, 1, rows, last]);
        let w = part(name, WORDS, words)?;
        let (scales, biases) = (part(&scales, FLOATS, groups)?, part(&biases, FLOATS, groups)?);
        let dim = groups * format.group.size();
        let x = match rows * dim {
            0 => Tensor::zeros(scales.elem(), &[1, 1, rows, dim])?,
            _ => {
                cache::dequantise(device, Codes { w: w.view(), scales: scales.view(), biases: biases.view(), format })?
            }
        };
        to.tensors.push(Written::shaped(base.to_string(), &x, [shape, &[dim]].concat()));
        to.names.push(base.to_string());
    }
    Ok(to)
}

/// All axes but the last, how many rows they make, and the last.
fn rows<'a>(file: &'a TensorFile, name: &str) -> Result<(&'a [usize], usize, usize), CliError> {
    match file.shape(name)?.split_last() {
        Some((&last, outer)) => Ok((outer, outer.iter().product(), last)),
        None => Err(CliError::Tensor {
            name: name.to_string(),
            got: file.show(name),
            wanted: "a last axis to be cut into groups".to_string(),
        }),
    }
}

impl Args {
    fn format(&self) -> Affine {
        Affine { bits: self.bits, group: self.group }
    }
}

impl<'a> Converted<'a> {
    fn copy(&mut self, name: &str, file: &'a TensorFile) -> Result<(), CliError> {
        self.tensors.push(file.copy(name)?);
        self.copied += 1;
        Ok(())
    }
}
