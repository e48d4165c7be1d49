//! The Llama architecture over the weights of a GGUF file. Everything but attention is candle's.

use crate::attention::{Backend, Cache, Heads};
use crate::metadata::Metadata;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, ensure};
use candle_core::quantized::{QMatMul, QTensor, gguf_file};
use candle_core::{Device, Module, Tensor};
use candle_nn::ops::{rms_norm, silu};
use candle_nn::rotary_emb::rope_i;
use clap::ValueEnum;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tilewright::prelude::Encoding;

/// How the weights of linear layers are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// Expanded to f32 once
    F32,
    /// As stored; activations are rounded to 8 bits for each product
    Stored,
}

struct Config {
    layers: usize,
    heads: Heads,
    eps: f32,
    rope_base: f32,
    context: usize,
}

struct Layer {
    attention_norm: Tensor,
    q: QMatMul,
    k: QMatMul,
    v: QMatMul,
    o: QMatMul,
    mlp_norm: Tensor,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

/// A model on the CPU.
pub struct Model {
    config: Config,
    /// `[vocabulary, width]`
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: QMatMul,
    /// `[context, head_dim / 2]` each
    cos: Tensor,
    sin: Tensor,
}

impl Model {
    /// Reads a model and its tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read, another architecture than Llama's, missing weights.
    pub fn load(path: &Path, weights: Weights) -> Result<(Model, Tokenizer)> {
        let mut file = File::open(path)
            .with_context(|| format!("cannot open {}; examples/generate/fetch downloads it", path.display()))?;
        let mut content = gguf_file::Content::read(&mut file)?;
        let metadata = Metadata(std::mem::take(&mut content.metadata));
        let config = Config::read(&metadata)?;
        let device = Device::Cpu;
        let mut tensor = |name: &str| -> Result<Arc<QTensor>> {
            Ok(Arc::new(content.tensor(&mut file, &format!("{name}.weight"), &device)?))
        };
        let linear = |stored: Arc<QTensor>| -> Result<QMatMul> {
            Ok(match weights {
                Weights::F32 => QMatMul::Tensor(stored.dequantize(&device)?),
                Weights::Stored => QMatMul::QTensor(stored),
            })
        };
        let embedding = tensor("token_embd")?;
        let layers = (0..config.layers).map(|layer| {
            let mut tensor = |name: &str| tensor(&format!("blk.{layer}.{name}"));
            Ok(Layer {
                attention_norm: tensor("attn_norm")?.dequantize(&device)?,
                q: linear(tensor("attn_q")?)?,
                k: linear(tensor("attn_k")?)?,
                v: linear(tensor("attn_v")?)?,
                o: linear(tensor("attn_output")?)?,
                mlp_norm: tensor("ffn_norm")?.dequantize(&device)?,
                gate: linear(tensor("ffn_gate")?)?,
                up: linear(tensor("ffn_up")?)?,
                down: linear(tensor("ffn_down")?)?,
            })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let (cos, sin) = rotations(&config, &device)?;
        let model = Model {
            layers,
            norm: tensor("output_norm")?.dequantize(&device)?,
            // The head's weights are the embedding's.
            head: linear(embedding.clone())?,
            embedding: embedding.dequantize(&device)?,
            config,
            cos,
            sin,
        };
        Ok((model, Tokenizer::from_metadata(&metadata)?))
    }

    /// A cache for this model, with room for `capacity` positions.
    ///
    /// # Errors
    /// As [`Cache::new`]; more positions than the model knows.
    pub fn cache(&self, backend: Backend, encoding: Encoding, capacity: usize) -> Result<Cache> {
        let context = self.config.context;
        ensure!(capacity <= context, "{capacity} positions; this model knows {context}");
        Cache::new(backend, encoding, self.config.heads, self.config.layers, capacity)
    }

    /// What the model makes of tokens at the positions after the cache's: `[tokens, width]`, for [`logits`](Model::logits). Their
    /// keys and values are in the cache afterwards.
    ///
    /// # Errors
    /// No room in the cache; what candle or the attention reports.
    pub fn forward(&self, tokens: &[u32], cache: &mut Cache) -> Result<Tensor> {
        let Heads { q_heads, kv_heads, head_dim } = self.config.heads;
        let (start, len) = (cache.len()?, tokens.len());
        let (cos, sin) = (self.cos.narrow(0, start, len)?, self.sin.narrow(0, start, len)?);
        let split = |x: Tensor, heads: usize| x.reshape((1, len, heads, head_dim))?.transpose(1, 2)?.contiguous();
        let norm = |x: &Tensor, weight: &Tensor| rms_norm(x, weight, self.config.eps);

        let mut x = self.embedding.index_select(&Tensor::new(tokens, self.embedding.device())?, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = norm(&x, &layer.attention_norm)?;
            let q = rope_i(&split(layer.q.forward(&normed)?, q_heads)?, &cos, &sin)?;
            let k = rope_i(&split(layer.k.forward(&normed)?, kv_heads)?, &cos, &sin)?;
            let v = split(layer.v.forward(&normed)?, kv_heads)?;
            let attended = cache.attend(index, &q, &k, &v)?;
            let attended = attended.transpose(1, 2)?.reshape((len, q_heads * head_dim))?;
            x = (x + layer.o.forward(&attended)?)?;

            let normed = norm(&x, &layer.mlp_norm)?;
            let gated = (silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        Ok(norm(&x, &self.norm)?)
    }

    /// The score of every token as the next one, a row for each of the last `rows` rows of `x`.
    ///
    /// # Errors
    /// Fewer rows than asked for; what candle reports.
    pub fn logits(&self, x: &Tensor, rows: usize) -> Result<Vec<Vec<f32>>> {
        let len = x.dim(0)?;
        ensure!(rows <= len, "{rows} rows of logits out of {len}");
        Ok(self.head.forward(&x.narrow(0, len - rows, rows)?)?.to_vec2()?)
    }
}

impl Config {
    fn read(metadata: &Metadata) -> Result<Config> {
        let architecture = metadata.string("general.architecture")?;
        ensure!(architecture == "llama", "the architecture is {architecture:?}; this example knows \"llama\" only");
        let width = metadata.number("llama.embedding_length")?;
        let q_heads = metadata.number("llama.attention.head_count")?;
        let kv_heads = metadata.number("llama.attention.head_count_kv")?;
        let head_dim = metadata.number("llama.rope.dimension_count")?;
        ensure!(q_heads * head_dim == width, "{q_heads} heads of {head_dim} rotated elements; the width is {width}");
        Ok(Config {
            layers: metadata.number("llama.block_count")?,
            heads: Heads { q_heads, kv_heads, head_dim },
            eps: metadata.real("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: metadata.real("llama.rope.freq_base")?,
            context: metadata.number("llama.context_length")?,
        })
    }
}

/// Cosine and sine of position times frequency. GGUF files of this architecture rotate neighbouring elements.
fn rotations(config: &Config, device: &Device) -> Result<(Tensor, Tensor)> {
    let head_dim = config.heads.head_dim;
    let angles = (0..config.context).flat_map(|position| {
        (0..head_dim / 2)
            .map(move |pair| position as f64 * f64::from(config.rope_base).powf(-2.0 * pair as f64 / head_dim as f64))
    });
    let angles: Vec<f64> = angles.collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
        Tensor::from_vec(values, (config.context, head_dim / 2), device)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}
