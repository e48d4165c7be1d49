//! Tensors in safetensors files: read with every check that a foreign file needs, rounded, and written.

use crate::error::CliError;
use crate::output::OutputFile;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tilewright::prelude::{Elem, Tensor};

/// A safetensors file in memory. Its metadata is ignored.
pub struct TensorFile {
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorFile {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`CliError::Unreadable`], and [`CliError::Foreign`] for a truncated or foreign file.
    pub fn read(path: &Path) -> Result<TensorFile, CliError> {
        let unreadable = |reason: String| CliError::Unreadable { path: path.to_path_buf(), reason };
        let metadata = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if !metadata.is_file() {
            return Err(unreadable("it is not a regular file".to_string()));
        }
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        TensorFile::parse(path, bytes)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<TensorFile, CliError> {
        let foreign = |reason: String| CliError::Foreign { path: path.to_path_buf(), reason };
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| foreign(format!("{error} ({} bytes)", bytes.len())))?;
        let start = header + 8; // `read_metadata` checked that both lie in the file
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let range = start + from..start + to;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), range })
        });
        let entries: BTreeMap<String, Entry> = entries.collect();
        if let Some(name) = entries.iter().find(|(_, e)| bytes.get(e.range.clone()).is_none()).map(|(name, _)| name) {
            return Err(foreign(format!("tensor `{name}` reaches past the end of the file ({} bytes)", bytes.len())));
        }
        Ok(TensorFile { bytes, entries })
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor of f32, f16 or bf16, in the file's shape.
    ///
    /// # Errors
    /// A tensor that is absent, of another element type, or of rank above 4.
    pub fn floats(&self, name: &'static str) -> Result<Tensor, CliError> {
        let entry = self.entry(name)?;
        let (shape, bytes) = (&entry.shape, &self.bytes[entry.range.clone()]); // `parse` checked the range
        let wrong = |wanted: String| CliError::Tensor { name: name.to_string(), got: describe(entry), wanted };
        if shape.len() > 4 {
            return Err(wrong("rank 3 or 4".to_string()));
        }
        let tensor = match entry.dtype {
            Dtype::F32 => Tensor::from_slice(&decode(bytes, f32::from_le_bytes), shape),
            Dtype::F16 => Tensor::from_slice(&decode(bytes, f16::from_le_bytes), shape),
            Dtype::BF16 => Tensor::from_slice(&decode(bytes, bf16::from_le_bytes), shape),
            _ => return Err(wrong("F32, F16 or BF16".to_string())),
        };
        tensor.map_err(|error| wrong(format!("a smaller tensor ({error})")))
    }

    /// A tensor `[entries]` of I32, U32 or I64 numbers, one a batch entry.
    ///
    /// # Errors
    /// A tensor that is absent, of another element type, shape, or with a number that does not fit 32 bits.
    pub fn integers(&self, name: &'static str, entries: usize) -> Result<Vec<i32>, CliError> {
        let entry = self.entry(name)?;
        let bytes = &self.bytes[entry.range.clone()]; // `parse` checked the range
        let wrong = |got: String, wanted: String| CliError::Tensor { name: name.to_string(), got, wanted };
        let numbers: Vec<i64> = match entry.dtype {
            Dtype::I32 => decode(bytes, i32::from_le_bytes).into_iter().map(i64::from).collect(),
            Dtype::U32 => decode(bytes, u32::from_le_bytes).into_iter().map(i64::from).collect(),
            Dtype::I64 => decode(bytes, i64::from_le_bytes),
            _ => return Err(wrong(describe(entry), "I32, U32 or I64".to_string())),
        };
        if entry.shape != [entries] {
            return Err(wrong(describe(entry), format!("shape [{entries}], one number a batch entry,")));
        }
        let narrow = |(at, x): (usize, i64)| {
            i32::try_from(x).map_err(|_| wrong(format!("{x} at [{at}]"), "a number of keys".to_string()))
        };
        numbers.into_iter().enumerate().map(narrow).collect()
    }

    fn entry(&self, name: &'static str) -> Result<&Entry, CliError> {
        let missing = || CliError::MissingTensor { name, found: self.names().map(str::to_string).collect() };
        self.entries.get(name).ok_or_else(missing)
    }
}

/// Writes named tensors; the file appears whole or not at all.
///
/// # Errors
/// [`CliError::Unwritable`].
pub fn write(output: &OutputFile, tensors: &[(&str, &[usize], &Tensor)]) -> Result<(), CliError> {
    let encoded: Vec<(Dtype, Vec<u8>)> = tensors.iter().map(|(_, _, t)| encode(t)).collect();
    let mut views = Vec::new();
    for ((name, shape, _), (dtype, bytes)) in tensors.iter().zip(&encoded) {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), bytes);
        views.push((*name, view.map_err(|error| CliError::Failed(error.to_string()))?));
    }
    let file = safetensors::serialize(views, None).map_err(|error| CliError::Failed(error.to_string()))?;
    output.write(|to| to.write_all(&file))
}

/// The same tensor with each element rounded to nearest-even in another type; `None` where that is its type already.
pub fn rounded(tensor: &Tensor, to: Elem) -> Result<Option<Tensor>, CliError> {
    if tensor.elem() == to {
        return Ok(None);
    }
    Ok(Some(Tensor::from_f64(to, &tensor.view().to_f64(), tensor.shape())?))
}

fn decode<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

/// The bytes as the file holds them, little-endian.
fn encode(tensor: &Tensor) -> (Dtype, Vec<u8>) {
    let mut bytes = tensor.as_bytes().to_vec();
    if cfg!(target_endian = "big") {
        bytes.chunks_mut(tensor.elem().bytes()).for_each(<[u8]>::reverse);
    }
    let dtype = match tensor.elem() {
        Elem::F32 => Dtype::F32,
        Elem::F16 => Dtype::F16,
        Elem::Bf16 => Dtype::BF16,
        Elem::I32 => Dtype::I32,
        Elem::U32 => Dtype::U32,
        Elem::I8 => Dtype::I8,
        Elem::U8 => Dtype::U8,
        Elem::Bool => Dtype::BOOL,
    };
    (dtype, bytes)
}

fn describe(entry: &Entry) -> String {
    format!("{:?} {:?}", entry.dtype, entry.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, data: &[u8]) -> Result<TensorFile, CliError> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        TensorFile::parse(Path::new("in.safetensors"), bytes)
    }

    const HALF: &str = r#"{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;

    #[test]
    fn elements_survive_a_round_trip_through_rounding_and_bytes() {
        let file = parse(HALF, &[0x80, 0x3f, 0x00, 0xc0]).unwrap();
        let x = file.floats("x").unwrap();
        assert_eq!(x.view().to_f64(), [1.0, -2.0]);
        assert!(rounded(&x, Elem::Bf16).unwrap().is_none());
        let wide = rounded(&x, Elem::F32).unwrap().unwrap();
        assert_eq!(encode(&wide).1, [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
        assert_eq!(encode(&x), (Dtype::BF16, vec![0x80, 0x3f, 0x00, 0xc0]));
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let x = Tensor::from_slice(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 2049.0f32], &[3]).unwrap();
        let to = |elem| rounded(&x, elem).unwrap().unwrap().view().to_f64();
        assert_eq!(to(Elem::Bf16), [1.0, 1.0 + 4.0 / 256.0, 2048.0]);
        assert_eq!(to(Elem::F16), [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 2048.0]);
    }

    #[test]
    fn files_cut_anywhere_are_refused() {
        let mut whole = (HALF.len() as u64).to_le_bytes().to_vec();
        whole.extend_from_slice(HALF.as_bytes());
        whole.extend_from_slice(&[0; 4]);
        assert!(TensorFile::parse(Path::new("x"), whole.clone()).is_ok());
        for len in 0..whole.len() {
            let cut = TensorFile::parse(Path::new("x"), whole[..len].to_vec());
            assert!(matches!(cut, Err(CliError::Foreign { .. })), "a file of {len} bytes was read");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let header = r#"{"kv_len":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        let of = |n: i64| parse(header, &n.to_le_bytes()).unwrap().integers("kv_len", 1);
        assert_eq!(of(7).unwrap(), [7]);
        assert!(of(1 << 40).is_err());
        assert!(parse(header, &[0; 8]).unwrap().integers("kv_len", 2).is_err());
    }

    #[test]
    fn paths_and_kinds_are_told_apart() {
        assert!(matches!(TensorFile::read(Path::new("/")), Err(CliError::Unreadable { .. })));
        assert!(matches!(TensorFile::read(Path::new("absent.safetensors")), Err(CliError::Unreadable { .. })));
    }
}
