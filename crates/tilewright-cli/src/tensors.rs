//! Tensors in safetensors files: read with every check that a foreign file needs, rounded, and written.

use crate::error::CliError;
use crate::output::OutputFile;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
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

/// Element types that a tensor may have.
#[derive(Clone, Copy)]
pub struct Kinds(&'static [Dtype]);

/// Numbers of activations.
pub const FLOATS: Kinds = Kinds(&[Dtype::F32, Dtype::F16, Dtype::BF16]);
/// Numbers of one type.
pub const SINGLES: Kinds = Kinds(&[Dtype::F32]);
/// Words of codes.
pub const WORDS: Kinds = Kinds(&[Dtype::U32]);
/// True or false.
pub const BITS: Kinds = Kinds(&[Dtype::BOOL, Dtype::U8]);
/// Cells of a mask.
pub const CELLS: Kinds = Kinds(&[Dtype::BOOL, Dtype::U8, Dtype::F32, Dtype::F16, Dtype::BF16]);
/// Every type that is a float and has no narrower form here.
pub const WIDE_FLOATS: Kinds = Kinds(&[Dtype::F64]);

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

    /// Whether there is a tensor of this name and one of these types.
    pub fn is(&self, name: &str, kinds: Kinds) -> bool {
        self.entries.get(name).is_some_and(|entry| kinds.0.contains(&entry.dtype))
    }

    /// The type of a tensor's elements, if it is there.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        Some(self.entries.get(name)?.dtype)
    }

    /// The extents of a tensor.
    ///
    /// # Errors
    /// A tensor that is absent.
    pub fn shape(&self, name: &str) -> Result<&[usize], CliError> {
        Ok(&self.entry(name)?.shape)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.range.len()).sum()
    }

    /// A tensor of one of these types, in the file's shape.
    ///
    /// # Errors
    /// A tensor that is absent, of another element type, or of rank above 4.
    pub fn tensor(&self, name: &str, kinds: Kinds) -> Result<Tensor, CliError> {
        self.tensor_as(name, kinds, &self.entry(name)?.shape)
    }

    /// The same in another shape of as many elements.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_as(&self, name: &str, kinds: Kinds, shape: &[usize]) -> Result<Tensor, CliError> {
        let entry = self.entry(name)?;
        let bytes = self.data(entry);
        let wrong = |wanted: String| CliError::Tensor { name: name.to_string(), got: describe_entry(entry), wanted };
        if shape.len() > 4 {
            return Err(wrong("rank 4 or less".to_string()));
        }
        if !kinds.0.contains(&entry.dtype) {
            return Err(wrong(kinds.to_string()));
        }
        let tensor = match entry.dtype {
            Dtype::F32 => Tensor::from_slice(&decode(bytes, f32::from_le_bytes), shape),
            Dtype::F16 => Tensor::from_slice(&decode(bytes, f16::from_le_bytes), shape),
            Dtype::BF16 => Tensor::from_slice(&decode(bytes, bf16::from_le_bytes), shape),
            Dtype::U32 => Tensor::from_slice(&decode(bytes, u32::from_le_bytes), shape),
            Dtype::U8 => Tensor::from_slice(bytes, shape),
            Dtype::BOOL => Tensor::from_slice(&decode(bytes, |[byte]| byte != 0), shape),
            _ => return Err(wrong(kinds.to_string())),
        };
        tensor.map_err(|error| wrong(format!("a smaller tensor ({error})")))
    }

    /// A tensor of I32, U32 or I64 numbers of this shape, where `None` is any extent.
    ///
    /// # Errors
    /// A tensor that is absent, of another element type or shape.
    pub fn integers(&self, name: &str, shape: &[Option<usize>]) -> Result<Vec<i64>, CliError> {
        let entry = self.entry(name)?;
        let bytes = self.data(entry);
        let wrong = |wanted: String| CliError::Tensor { name: name.to_string(), got: describe_entry(entry), wanted };
        let numbers: Vec<i64> = match entry.dtype {
            Dtype::I32 => decode(bytes, i32::from_le_bytes).into_iter().map(i64::from).collect(),
            Dtype::U32 => decode(bytes, u32::from_le_bytes).into_iter().map(i64::from).collect(),
            Dtype::I64 => decode(bytes, i64::from_le_bytes),
            _ => return Err(wrong("I32, U32 or I64".to_string())),
        };
        let matches = |(wanted, got): (&Option<usize>, &usize)| wanted.is_none_or(|wanted| wanted == *got);
        if entry.shape.len() != shape.len() || !shape.iter().zip(&entry.shape).all(matches) {
            let axes: Vec<String> = shape.iter().map(|n| n.map_or("any".to_string(), |n| n.to_string())).collect();
            return Err(wrong(format!("shape [{}], the first axis counting batch entries,", axes.join(", "))));
        }
        Ok(numbers)
    }

    /// A tensor to be written as it is, whatever it holds.
    ///
    /// # Errors
    /// A tensor that is absent.
    pub fn copy(&self, name: &str) -> Result<Written<'_>, CliError> {
        let entry = self.entry(name)?;
        let (dtype, shape) = (entry.dtype, entry.shape.clone());
        Ok(Written { name: name.to_string(), dtype, shape, bytes: Cow::Borrowed(self.data(entry)) })
    }

    /// Element type and shape of a tensor, for messages.
    pub fn show(&self, name: &str) -> String {
        self.entries.get(name).map_or("missing".to_string(), describe_entry)
    }

    fn entry(&self, name: &str) -> Result<&Entry, CliError> {
        let found = || self.names().map(str::to_string).collect();
        self.entries.get(name).ok_or_else(|| CliError::MissingTensor { name: name.to_string(), found: found() })
    }

    fn data(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.range.clone()] // `parse` checked the range
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, dtype) in self.0.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{dtype:?}")?;
        }
        Ok(())
    }
}

/// A tensor of the output.
pub struct Written<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl Written<'_> {
    /// A tensor under this name.
    pub fn tensor(name: &str, tensor: &Tensor) -> Written<'static> {
        Written::shaped(name.to_string(), tensor, tensor.shape().to_vec())
    }

    /// The same in another shape of as many elements.
    pub fn shaped(name: String, tensor: &Tensor, shape: Vec<usize>) -> Written<'static> {
        let (dtype, bytes) = encode(tensor);
        Written { name, dtype, shape, bytes: Cow::Owned(bytes) }
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes tensors; the file appears whole or not at all.
///
/// # Errors
/// [`CliError::Unwritable`].
pub fn write(output: &OutputFile, tensors: &[Written<'_>]) -> Result<(), CliError> {
    let mut views = Vec::new();
    for Written { name, dtype, shape, bytes } in tensors {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
        views.push((name.as_str(), view.map_err(|error| CliError::Failed(error.to_string()))?));
    }
    let file = safetensors::serialize(views, None).map_err(|error| CliError::Failed(error.to_string()))?;
    output.write(|to| to.write_all(&file))
}

/// The same tensor with each element rounded to nearest-even in another type; `None` where that is its type already.
pub fn rounded(tensor: &Tensor, to: Elem) -> Result<Option<Tensor>, CliError> {
    if tensor.elem() == to {
        return Ok(None);
    }
    Ok(Some(Tensor::from_f64(to, &tensor.to_f64(), tensor.shape())?))
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

/// Element type and shape, for messages.
pub fn describe(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.elem(), tensor.shape())
}

fn describe_entry(entry: &Entry) -> String {
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
        let x = file.tensor("x", FLOATS).unwrap();
        assert_eq!(x.to_f64(), [1.0, -2.0]);
        assert!(rounded(&x, Elem::Bf16).unwrap().is_none());
        let wide = rounded(&x, Elem::F32).unwrap().unwrap();
        assert_eq!(encode(&wide).1, [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
        assert_eq!(encode(&x), (Dtype::BF16, vec![0x80, 0x3f, 0x00, 0xc0]));
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let x = Tensor::from_slice(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 2049.0f32], &[3]).unwrap();
        let to = |elem| rounded(&x, elem).unwrap().unwrap().to_f64();
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
    fn integers_of_another_shape_are_refused() {
        let header = r#"{"kv_len":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        let file = parse(header, &(1i64 << 40).to_le_bytes()).unwrap();
        assert_eq!(file.integers("kv_len", &[Some(1)]).unwrap(), [1 << 40]);
        assert_eq!(file.integers("kv_len", &[None]).unwrap(), [1 << 40]);
        assert!(file.integers("kv_len", &[Some(2)]).is_err());
        assert!(file.integers("kv_len", &[Some(1), None]).is_err());
    }

    #[test]
    fn a_type_that_is_not_asked_for_is_refused_by_name() {
        let file = parse(HALF, &[0; 4]).unwrap();
        let error = file.tensor("x", CELLS).and(file.tensor("x", BITS)).unwrap_err().to_string();
        assert_eq!(error, "tensor `x` is BF16 [2]; BOOL or U8 is needed");
    }

    #[test]
    fn paths_and_kinds_are_told_apart() {
        assert!(matches!(TensorFile::read(Path::new("/")), Err(CliError::Unreadable { .. })));
        assert!(matches!(TensorFile::read(Path::new("absent.safetensors")), Err(CliError::Unreadable { .. })));
    }
}
