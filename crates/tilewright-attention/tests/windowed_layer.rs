//! A layer with a sliding window of 512, Gemma's, by every way: prefill, decode token by token through a ring of 512 slots,
//! and verify in steps of eight through a ring of 519.
//!
//! The twin is made from a seed. A captured layer (safetensors with q, k, v and o, `[heads, tokens, 256]` f32) is held against
//! its stored `o` when `TILEWRIGHT_GEMMA_LAYER` names the file.

use std::env;
use std::fs;
use tilewright_attention::cache::{CacheShape, KvCache};
use tilewright_attention::cases::{GemmaTwin, gemma_twin};
use tilewright_attention::reference::{Bound, Problem, attention, compare_elements};
use tilewright_attention::{Attention, AttentionError, Window};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor, TensorView};

const HEADS: usize = GemmaTwin::Q_HEADS;
const DIM: usize = GemmaTwin::HEAD_DIM;
const WINDOW: usize = GemmaTwin::WINDOW;

/// A layer: q `[4, tokens, 256]`, k and v `[1, tokens, 256]`, and what o should be, where it is known.
struct Layer {
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    stored: Option<Vec<f64>>,
}

impl Layer {
    fn twin() -> Layer {
        let tokens = 640;
        let GemmaTwin { q, k, v } = gemma_twin(tokens);
        Layer { tokens, q, k, v, stored: None }
    }

    fn captured() -> Option<Layer> {
        let bytes = fs::read(env::var_os("TILEWRIGHT_GEMMA_LAYER")?).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |name: &str| -> Vec<f32> {
            let numbers =
                file.tensor(name).unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            numbers.collect()
        };
        let tokens = file.tensor("q").unwrap().shape()[1];
        assert_eq!(file.tensor("q").unwrap().shape(), [HEADS, tokens, DIM]);
        let stored = read("o").into_iter().map(f64::from).collect();
        Some(Layer { tokens, q: read("q"), k: read("k"), v: read("v"), stored: Some(stored) })
    }

    /// `heads` heads of some tokens, as `[1, heads, count, 256]`.
    fn part<'a>(&self, of: &'a [f32], heads: usize, first: usize, count: usize) -> TensorView<'a> {
        let strides = [heads * self.tokens * DIM, self.tokens * DIM, DIM, 1];
        let from = &of[first * DIM..][..(heads - 1) * self.tokens * DIM + count * DIM];
        let flat = TensorView::from_slice(from, &[from.len()]).unwrap();
        flat.with_strides(&[1, heads, count, DIM], &strides).unwrap()
    }

    fn request(&self) -> Attention<'_> {
        let all = |of, heads| self.part(of, heads, 0, self.tokens);
        Attention::new(all(&self.q, HEADS), all(&self.k, 1), all(&self.v, 1)).window(Window::last(WINDOW))
    }

    /// Holds o, `[4, tokens, 256]`, against the reference and against what was stored.
    fn check(&self, way: &str, o: &[f64]) {
        let problem = Problem::of(&self.request()).unwrap();
        let reference = attention(&problem);
        let bound = Bound::of(&problem, &reference);
        let found = compare_elements(o, &reference.o, |r| bound.o(r));
        assert!(found.hold() && found.compared == HEADS * self.tokens * DIM, "{way}: {found:?}");
        if let Some(stored) = &self.stored {
            let found = compare_elements(o, stored, |r| bound.o_of_rounded(r));
            assert!(found.hold(), "{way}, against the file: {found:?}");
            println!("{way}: error {:e} of {:e} against the stored o", found.error, found.bound);
        }
    }

    /// Appends `step` tokens at a time to a ring and attends with their queries; gives o, `[4, tokens, 256]`.
    fn through_a_ring(&self, capacity: usize, step: usize, device: &Device) -> Result<Vec<f64>, AttentionError> {
        let shape = CacheShape { batch: 1, kv_heads: 1, capacity, head_dim: DIM, value_dim: DIM, elem: Elem::F32 };
        let mut cache = KvCache::builder(shape).ring(WINDOW).build().unwrap();
        let mut all = vec![f64::NAN; HEADS * self.tokens * DIM];
        for first in (0..self.tokens).step_by(step) {
            let count = step.min(self.tokens - first);
            cache.append(device, self.part(&self.k, 1, first, count), self.part(&self.v, 1, first, count)).unwrap();
            let q = self.part(&self.q, HEADS, first, count);
            let request = Attention::over(q, cache.view()).kv_len(cache.kv_len()).window(Window::last(WINDOW));
            let o = request.run(device)?.o.to_f64();
            for head in 0..HEADS {
                let to = (head * self.tokens + first) * DIM;
                all[to..to + count * DIM].copy_from_slice(&o[head * count * DIM..][..count * DIM]);
            }
        }
        Ok(all)
    }

    fn check_every_way(&self) {
        let device = Device::cpu();
        let prefill: Tensor = self.request().run(&device).unwrap().o;
        self.check("prefill", &prefill.to_f64());
        self.check("decode", &self.through_a_ring(512, 1, &device).unwrap());
        self.check("verify", &self.through_a_ring(519, 8, &device).unwrap());
        let error = self.through_a_ring(512, 8, &device).unwrap_err();
        assert!(matches!(error, AttentionError::RingCapacity { capacity: 512, needed: 519, .. }), "{error}");
    }
}

#[test]
fn a_twin_of_gemmas_windowed_layer_is_right_by_prefill_decode_and_verify() {
    Layer::twin().check_every_way();
}

#[test]
fn a_captured_layer_is_right_by_prefill_decode_and_verify() {
    match Layer::captured() {
        Some(layer) => layer.check_every_way(),
        None => println!("skipped: TILEWRIGHT_GEMMA_LAYER names no file"),
    }
}
