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
use check::Departure;
use clap::{Parser, ValueEnum};
use decode::{Request, Run};
use model::{Model, Weights};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tilewright::prelude::Encoding;
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
    /// How many numbers of a head share a scale in int8 and int4 caches: 32 or 64
    #[arg(long, default_value_t = 64)]
    group: usize,
    /// How weights are multiplied with
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// Draft up to so many tokens from the text so far and verify them in one step
    #[arg(long, default_value_t = 0)]
    speculate: usize,
    /// Compare with plain attention instead of printing text; exit status 1 where more than rounding differs
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
        let mut cache = model.cache(self.attention, self.cache.encoding(self.group)?, request.capacity())?;
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
        ensure!(self.attention == Backend::Tilewright, "--check is of tilewright; leave out --attention");
        ensure!(
            self.weights == Weights::F32,
            "--check needs --weights f32: rounding activations to 8 bits makes a last digit of attention a large step of a logit"
        );
        match self.cache {
            CacheKind::Dense => self.check_dense(model, tokenizer, prompt),
            CacheKind::Int8 | CacheKind::Int4 => self.check_codes(model, tokenizer, prompt),
        }
    }

    fn check_dense(&self, model: &Model, tokenizer: &Tokenizer, prompt: &[u32]) -> Result<ExitCode> {
        let request = self.request(prompt, 0);
        let mut cache = model.cache(Backend::Plain, Encoding::Stored, request.capacity())?;
        let plain = decode::greedy(model, &mut cache, request, |_| Ok(true))?;
        report("plain", &plain, 0);

        let mut right = true;
        let lengths = [0, self.speculate];
        for &speculate in if self.speculate == 0 { &lengths[..1] } else { &lengths } {
            let request = self.request(prompt, speculate);
            let mut cache = model.cache(Backend::Tilewright, Encoding::Stored, request.capacity())?;
            let run = decode::greedy(model, &mut cache, request, |_| Ok(true))?;
            report("tilewright", &run, speculate);
            let departure = check::departure(&plain.tokens, &plain.logits, &run.tokens)?;
            // Up to the first other token both runs are over the same text.
            let shared = departure.as_ref().map_or(plain.tokens.len(), |departure| departure.at + 1);
            right &= self.differ(&plain.logits[..shared], &run.logits[..shared])?;
            if let Some(departure) = departure {
                let other = run.tokens[departure.at];
                show(tokenizer, &departure, other)?;
                right &= departure.is_tie(other);
                println!("    {}", if departure.is_tie(other) { "a tie: rounding" } else { "no tie: an error" });
            }
        }
        println!("tilewright over the plain tokens:");
        let mut cache = model.cache(Backend::Tilewright, Encoding::Stored, request.capacity())?;
        let logits = decode::forced(model, &mut cache, prompt, &plain.tokens)?;
        right &= self.differ(&plain.logits, &logits)?;
        Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Each layer's attention is compared with plain attention, without drafts and with them. Where drafts change a token is
    /// shown and no more: a last digit of a key may change its code, and the next layers amplify that.
    fn check_codes(&self, model: &Model, tokenizer: &Tokenizer, prompt: &[u32]) -> Result<ExitCode> {
        let (one, mut right) = self.compared_run(model, prompt, 0)?;
        if self.speculate > 0 {
            let (drafts, drafts_right) = self.compared_run(model, prompt, self.speculate)?;
            right &= drafts_right;
            match check::departure(&one.tokens, &one.logits, &drafts.tokens)? {
                None => println!("  0 of {} tokens differ from those without drafts", one.tokens.len()),
                Some(departure) => show(tokenizer, &departure, drafts.tokens[departure.at])?,
            }
        }
        Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// A run, and whether the attention of every layer and step was plain attention's over the decoded cache.
    fn compared_run(&self, model: &Model, prompt: &[u32], speculate: usize) -> Result<(Run, bool)> {
        let request = self.request(prompt, speculate);
        let encoding = self.cache.encoding(self.group)?;
        let plain = model.cache(Backend::Plain, Encoding::Stored, request.capacity())?;
        let tilewright = model.cache(Backend::Tilewright, encoding, request.capacity())?;
        let mut cache = Cache::compared(plain, tilewright, encoding);
        let run = decode::greedy(model, &mut cache, request, |_| Ok(true))?;
        report(&format!("tilewright, {}", self.cache), &run, speculate);
        let largest = cache.largest_difference()?;
        let right = largest <= check::ATTENTION_ROUNDING;
        println!(
            "  attention differs from plain attention over the decoded cache by at most {largest:.1e}: {}",
            verdict(right)
        );
        Ok((run, right))
    }

    /// Prints how logits over the same text differ, and says whether it is rounding.
    fn differ(&self, plain: &[Vec<f32>], other: &[Vec<f32>]) -> Result<bool> {
        let check::Difference { tokens, disagreements, largest } = check::difference(plain, other)?;
        let rounding = largest <= check::ROUNDING;
        println!("  {disagreements} of {tokens} tokens differ, logits by at most {largest:.1e}: {}", verdict(rounding));
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
            let mut cache = model.cache(backend, kind.encoding(self.group)?, prompt.len())?;
            println!("| {backend} | {kind} | {:.4} |", perplexity::perplexity(model, &mut cache, prompt)?);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints where a run leaves the one that the departure has the logits of.
fn show(tokenizer: &Tokenizer, departure: &Departure, other: u32) -> Result<()> {
    println!("  token {} is {:?} instead; the largest logits:", departure.at, tokenizer.decode(&[other])?);
    for (token, logit) in departure.top {
        println!("    {logit:.6} {:?}", tokenizer.decode(&[token])?);
    }
    Ok(())
}

fn verdict(rounding: bool) -> &'static str {
    if rounding { "rounding" } else { "more than rounding" }
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
