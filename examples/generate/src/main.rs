//! A small language model that generates text with tilewright's attention; README.md says how to run it.

mod attention;
mod check;
mod decode;
mod draft;
mod metadata;
mod model;
mod perplexity;
mod tokenizer;

use anyhow::{Context, Result, ensure};
use attention::{Backend, Cache, CacheKind};
use clap::{Parser, ValueEnum};
use decode::{Request, Run};
use model::{Model, Weights};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokenizer::Tokenizer;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model/SmolLM2-135M-Instruct.Q4_1.gguf");

/// Generates text with SmolLM2-135M-Instruct, its attention computed by tilewright.
#[derive(Parser)]
struct Arguments {
    /// What to do with the prompt
    #[arg(value_enum, default_value = "text")]
    mode: Mode,
    /// The model, a GGUF file
    #[arg(long, default_value = MODEL)]
    model: PathBuf,
    /// The text to go on with
    #[arg(long, conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// A file that holds the prompt
    #[arg(long)]
    prompt_file: Option<PathBuf>,
    /// Put the prompt as a user's message to the assistant
    #[arg(long)]
    chat: bool,
    /// How many tokens to generate
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Who computes attention
    #[arg(long, value_enum, default_value = "tilewright")]
    attention: Backend,
    /// How keys and values are kept
    #[arg(long, value_enum, default_value = "dense")]
    cache: CacheKind,
    /// How weights are multiplied with
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// Draft up to so many tokens from the text so far and verify them in one step
    #[arg(long, default_value_t = 0)]
    speculate: usize,
    /// Compare the tokens with those of plain attention instead of printing text; exit status 1 where they differ
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Generate text greedily
    Text,
    /// The prompt's perplexity with each kind of cache
    Perplexity,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let prompt = arguments.prompt_text()?;
    let (model, tokenizer) = Model::load(&arguments.model, arguments.weights)?;
    let prompt = tokenizer.encode(&prompt)?;
    ensure!(!prompt.is_empty(), "the prompt is empty");
    ensure!(arguments.tokens > 0, "--tokens is 0; it takes at least one");
    println!("prompt: {} tokens", prompt.len());
    match arguments.mode {
        Mode::Text if arguments.check => arguments.check(&model, &tokenizer, &prompt),
        Mode::Text => arguments.text(&model, &tokenizer, &prompt),
        Mode::Perplexity => arguments.perplexity(&model, &prompt),
    }
}

impl Arguments {
    fn prompt_text(&self) -> Result<String> {
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            (None, None) => "The capital of France is".to_string(),
        };
        Ok(if self.chat { format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n") } else { text })
    }

    fn request<'a>(&self, prompt: &'a [u32], speculate: usize) -> Request<'a> {
        Request { prompt, tokens: self.tokens, speculate, keep_logits: self.check }
    }

    fn text(&self, model: &Model, tokenizer: &Tokenizer, prompt: &[u32]) -> Result<ExitCode> {
        let request = self.request(prompt, self.speculate);
        let mut cache = model.cache(self.attention, self.cache, request.capacity())?;
        let (mut tokens, mut shown) = (Vec::new(), 0);
        let run = decode::greedy(model, &mut cache, request, |token| {
            if tokenizer.is_end(token) {
                return Ok(false);
            }
            tokens.push(token);
            let text = tokenizer.decode(&tokens)?;
            // A character may take several tokens.
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                print!("{}", &text[shown..]);
                std::io::stdout().flush()?;
                shown = text.len();
            }
            Ok(true)
        })?;
        println!();
        report("generated", &run, self.speculate);
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self, model: &Model, tokenizer: &Tokenizer, prompt: &[u32]) -> Result<ExitCode> {
        ensure!(
            self.attention == Backend::Tilewright,
            "plain attention is what --check compares with; leave out --attention"
        );
        ensure!(
            self.weights == Weights::F32,
            "--check needs --weights f32: rounding activations to 8 bits makes a last digit of attention a large step of a logit"
        );
        let request = self.request(prompt, 0);
        let mut cache = model.cache(Backend::Plain, CacheKind::Dense, request.capacity())?;
        let plain = decode::greedy(model, &mut cache, request, |_| Ok(true))?;
        report("plain", &plain, 0);

        let own_cache = |capacity: usize| -> Result<Cache> { model.cache(self.attention, self.cache, capacity) };
        let mut right = true;
        let lengths = [0, self.speculate];
        for &speculate in if self.speculate == 0 { &lengths[..1] } else { &lengths } {
            let request = self.request(prompt, speculate);
            let run = decode::greedy(model, &mut own_cache(request.capacity())?, request, |_| Ok(true))?;
            report("tilewright", &run, speculate);
            let departure = check::departure(&plain.tokens, &plain.logits, &run.tokens)?;
            // Up to the first other token both runs are over the same text.
            let shared = departure.as_ref().map_or(plain.tokens.len(), |departure| departure.at + 1);
            right &= self.differ(&plain.logits[..shared], &run.logits[..shared])?;
            if let Some(departure) = departure {
                let other = run.tokens[departure.at];
                println!("  token {} is {:?} instead; plain logits:", departure.at, tokenizer.decode(&[other])?);
                for (token, logit) in departure.top {
                    println!("    {logit:.6} {:?}", tokenizer.decode(&[token])?);
                }
                right &= departure.is_tie(other);
                println!("    {}", if departure.is_tie(other) { "a tie: rounding" } else { "no tie: an error" });
            }
        }
        println!("tilewright over the plain tokens:");
        let logits = decode::forced(model, &mut own_cache(request.capacity())?, prompt, &plain.tokens)?;
        right &= self.differ(&plain.logits, &logits)?;
        Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Prints how logits over the same text differ, and says whether it is rounding.
    fn differ(&self, plain: &[Vec<f32>], other: &[Vec<f32>]) -> Result<bool> {
        let check::Difference { tokens, disagreements, largest } = check::difference(plain, other)?;
        let rounding = largest <= check::ROUNDING;
        let verdict = if rounding { "rounding" } else { "more than rounding" };
        println!("  {disagreements} of {tokens} tokens differ, logits by at most {largest:.1e}: {verdict}");
        Ok(rounding)
    }

    fn perplexity(&self, model: &Model, prompt: &[u32]) -> Result<ExitCode> {
        println!("| attention | cache | perplexity |\n| --- | --- | --- |");
        for (backend, kind) in [
            (Backend::Plain, CacheKind::Dense),
            (Backend::Tilewright, CacheKind::Dense),
            (Backend::Tilewright, CacheKind::Int8),
            (Backend::Tilewright, CacheKind::Int4),
        ] {
            let cell = match model.cache(backend, kind, prompt.len()) {
                Ok(mut cache) => format!("{:.4}", perplexity::perplexity(model, &mut cache, prompt)?),
                Err(reason) => format!("{reason}"),
            };
            println!("| {backend} | {kind} | {cell} |");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(name: &str, run: &Run, speculate: usize) {
    let prefill = run.prefill.as_secs_f64();
    print!("{name}: {} tokens, {:.1} tokens/s, prompt in {prefill:.2} s", run.tokens.len(), run.rate());
    if speculate > 0 {
        let (proposed, held) = run.drafts;
        print!("; drafts of up to {speculate}: {proposed} proposed, {held} accepted");
    }
    println!();
}
