//! Runs the built `tile` on files made for it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod caches;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of `tile` left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `tile` without a terminal.
pub fn tile<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tile"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("CLICOLOR_FORCE")
        .env_remove("RUST_BACKTRACE")
        .env_remove("COLUMNS");
    let output = command.output().expect("tile starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tile prints UTF-8");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Tensors of a safetensors file.
#[derive(Clone, Default)]
pub struct Tensors(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn raw(mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensors {
        self.0.insert(name.to_string(), (dtype, shape.to_vec(), bytes));
        self
    }

    pub fn float(self, name: &str, dtype: Dtype, shape: &[usize], values: &[f64]) -> Tensors {
        let bytes = values.iter().flat_map(|&x| match dtype {
            Dtype::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f64(x).to_le_bytes().to_vec(),
            Dtype::F64 => x.to_le_bytes().to_vec(),
            _ => (x as f32).to_le_bytes().to_vec(),
        });
        self.raw(name, dtype, shape, bytes.collect())
    }

    pub fn i32(self, name: &str, values: &[i32]) -> Tensors {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.raw(name, Dtype::I32, &[values.len()], bytes)
    }

    pub fn without(mut self, name: &str) -> Tensors {
        self.0.remove(name);
        self
    }

    pub fn write(&self, path: &Path) {
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape"))
        });
        let metadata = [("model".to_string(), "anything".to_string())].into();
        safetensors::serialize_to_file(views, Some(metadata), path).expect("the file can be written");
    }

    pub fn read(path: &Path) -> Tensors {
        let bytes = std::fs::read(path).expect("the output is there");
        let file = SafeTensors::deserialize(&bytes).expect("the output is a safetensors file");
        let entry = |(name, view): (String, TensorView<'_>)| {
            (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        Tensors(file.tensors().into_iter().map(entry).collect())
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.0[name].2
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].1
    }

    pub fn dtype(&self, name: &str) -> Dtype {
        self.0[name].0
    }

    /// The numbers of a float tensor.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let (dtype, _, bytes) = &self.0[name];
        match dtype {
            Dtype::F16 => bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            Dtype::BF16 => bytes.chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            Dtype::F32 => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
            other => panic!("{other:?} is no float"),
        }
    }
}

/// Numbers between -1 and 1 that look random and are the same everywhere.
pub fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Sizes of a problem. Everything is laid out `[B,H,L,D]`, or `[B,L,H,D]` where `sequence_major`.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub batch: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub q_len: usize,
    pub kv_len: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub sequence_major: bool,
}

pub const SMALL: Sizes = Sizes {
    batch: 2,
    q_heads: 4,
    kv_heads: 2,
    q_len: 5,
    kv_len: 9,
    head_dim: 16,
    value_dim: 24,
    sequence_major: false,
};

impl Sizes {
    /// The shape of a tensor of so many heads and tokens.
    pub fn shape(&self, heads: usize, len: usize, dim: usize) -> [usize; 4] {
        if self.sequence_major { [self.batch, len, heads, dim] } else { [self.batch, heads, len, dim] }
    }

    pub fn q_shape(&self) -> [usize; 4] {
        self.shape(self.q_heads, self.q_len, self.head_dim)
    }

    pub fn o_shape(&self) -> [usize; 4] {
        self.shape(self.q_heads, self.q_len, self.value_dim)
    }

    /// q, k and v of these element types.
    pub fn tensors(&self, q: Dtype, kv: Dtype) -> Tensors {
        let make = |to: Tensors, name, dtype, shape: [usize; 4], seed| {
            to.float(name, dtype, &shape, &noise(shape.iter().product(), seed))
        };
        let to = make(Tensors::default(), "q", q, self.q_shape(), 1);
        let to = make(to, "k", kv, self.shape(self.kv_heads, self.kv_len, self.head_dim), 2);
        make(to, "v", kv, self.shape(self.kv_heads, self.kv_len, self.value_dim), 3)
    }

    fn at(&self, shape: [usize; 4], batch: usize, head: usize, row: usize) -> usize {
        let [_, outer, inner, dim] = shape;
        let (x, y) = if self.sequence_major { (row, head) } else { (head, row) };
        ((batch * outer + x) * inner + y) * dim
    }

    /// `o`, laid out as q, and `lse [B,H,L]` in f64. `last` gives the last key that a row of a batch entry sees,
    /// exclusive.
    pub fn attention(&self, t: &Tensors, scale: f64, last: impl Fn(usize, usize) -> usize) -> (Vec<f64>, Vec<f64>) {
        let seen = |at: &Pair, score| if at.key < last(at.batch, at.row) { score } else { f64::NEG_INFINITY };
        self.attention_with(t, scale, seen, |_| f64::NEG_INFINITY)
    }

    /// The same with any change of the scores, where minus infinity blocks, and a sink logit for each head. A row that
    /// sees nothing is zero.
    pub fn attention_with(
        &self,
        t: &Tensors,
        scale: f64,
        score: impl Fn(&Pair, f64) -> f64,
        sink: impl Fn(usize) -> f64,
    ) -> (Vec<f64>, Vec<f64>) {
        let (q, k, v) = (t.values("q"), t.values("k"), t.values("v"));
        let k_shape = self.shape(self.kv_heads, self.kv_len, self.head_dim);
        let v_shape = self.shape(self.kv_heads, self.kv_len, self.value_dim);
        let mut o = vec![0.0; self.o_shape().iter().product()];
        let mut lse = Vec::new();
        for batch in 0..self.batch {
            for head in 0..self.q_heads {
                let kv_head = head / (self.q_heads / self.kv_heads);
                for row in 0..self.q_len {
                    let query = &q[self.at(self.q_shape(), batch, head, row)..][..self.head_dim];
                    let weight = |key: usize| {
                        let at =
                            Pair { batch, head, row, key, position: (self.kv_len + row) as i64 - self.q_len as i64 };
                        let key = &k[self.at(k_shape, batch, kv_head, key)..][..self.head_dim];
                        score(&at, scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>()).exp()
                    };
                    let weights: Vec<f64> = (0..self.kv_len).map(weight).collect();
                    let sum: f64 = weights.iter().sum::<f64>() + sink(head).exp();
                    lse.push(sum.ln());
                    let out = self.at(self.o_shape(), batch, head, row);
                    for (key, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                        let value = &v[self.at(v_shape, batch, kv_head, key)..][..self.value_dim];
                        o[out..].iter_mut().zip(value).for_each(|(o, v)| *o += weight / sum * v);
                    }
                }
            }
        }
        (o, lse)
    }
}

/// A query row and a key.
pub struct Pair {
    pub batch: usize,
    pub head: usize,
    pub row: usize,
    pub key: usize,
    /// Of the query, where the last one is at the last key.
    pub position: i64,
}

impl Pair {
    /// How far the key lies behind the query; negative where it lies before it.
    pub fn distance(&self) -> i64 {
        self.key as i64 - self.position
    }
}

/// Fails unless every element is within `bound`; fails for NaN, other lengths and for nothing.
pub fn assert_close(got: &[f64], wanted: &[f64], bound: f64) {
    assert_eq!(got.len(), wanted.len());
    assert!(!got.is_empty(), "nothing was compared");
    for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let same = got == wanted; // infinities
        assert!(same || (got - wanted).abs() <= bound, "[{index}] is {got} and should be {wanted} within {bound}");
    }
}

/// A folder with an input file, and a place for the output.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new(tensors: &Tensors) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().expect("a temporary folder") };
        tensors.write(&bench.input());
        bench
    }

    pub fn input(&self) -> PathBuf {
        self.folder.path().join("in.safetensors")
    }

    pub fn output(&self) -> PathBuf {
        self.folder.path().join("out.safetensors")
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn attend(&self, flags: &[&str]) -> Outcome {
        self.run("attend", flags)
    }

    /// Any command that reads the input and writes the output.
    pub fn run(&self, command: &str, flags: &[&str]) -> Outcome {
        let mut args = vec![command.into(), self.input().into_os_string(), "-o".into(), self.output().into_os_string()];
        args.extend(flags.iter().map(|f| f.into()));
        tile(args)
    }
}

/// Runs `tile attend` on these tensors and gives what it wrote.
pub fn attend(tensors: &Tensors, flags: &[&str]) -> Tensors {
    let bench = Bench::new(tensors);
    let outcome = bench.attend(flags);
    assert_eq!(outcome.code, Some(0), "{flags:?}: {outcome:?}");
    assert_eq!(bench.files(), ["in.safetensors", "out.safetensors"]);
    Tensors::read(&bench.output())
}

/// `tile attend` must end with this code and one error that says `needle`, write nothing, and keep an old output.
pub fn refuses(tensors: &Tensors, flags: &[&str], code: i32, needle: &str) {
    refuses_file(&Bench::new(tensors), flags, code, needle);
}

/// As [`refuses`], for a file that is there.
pub fn refuses_file(bench: &Bench, flags: &[&str], code: i32, needle: &str) {
    command_refuses(bench, "attend", flags, code, needle);
}

/// As [`refuses_file`], for any command that reads the input and writes the output.
pub fn command_refuses(bench: &Bench, command: &str, flags: &[&str], code: i32, needle: &str) {
    let before = bench.files();
    let outcome = bench.run(command, flags);
    assert_eq!(outcome.code, Some(code), "{flags:?} {needle}: {outcome:?}");
    assert!(outcome.stderr.contains(needle), "{flags:?}: {needle:?} is not in {:?}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("error:").count(), 1, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert_eq!(bench.files(), before, "a failure left a file");

    std::fs::write(bench.output(), "old").expect("an old output");
    assert_eq!(bench.run(command, flags).code, Some(code));
    assert_eq!(std::fs::read(bench.output()).expect("the old output"), b"old");
    std::fs::remove_file(bench.output()).expect("the old output");
}
