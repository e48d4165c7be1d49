//! The byte-level BPE tokenizer that a GGUF file carries in its metadata.

use crate::metadata::Metadata;
use ahash::AHashMap;
use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence};
use tokenizers::{AddedToken, Tokenizer as Bpe};

/// The token type that a GGUF file gives to tokens that text never contains, such as `<|im_end|>`.
const CONTROL: u32 = 3;

/// Text to tokens and back.
pub struct Tokenizer {
    bpe: Bpe,
    ends: Vec<u32>,
}

impl Tokenizer {
    /// From the keys `tokenizer.ggml.*` of a file whose tokenizer is GPT-2's with single digits, as SmolLM's is.
    ///
    /// # Errors
    /// A missing key, another kind of tokenizer, merges that name no token.
    pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer> {
        for (key, known) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "smollm")] {
            let got = metadata.string(key)?;
            ensure!(got == known, "{key} is {got:?}; this example reads {known:?} only");
        }
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let merges = metadata.strings("tokenizer.ggml.merges")?;
        let kinds = metadata.numbers("tokenizer.ggml.token_type")?;
        let control: Vec<&str> =
            tokens.iter().zip(&kinds).filter(|&(_, &kind)| kind == CONTROL).map(|(token, _)| *token).collect();
        let unknown = metadata.number("tokenizer.ggml.unknown_token_id")?;
        let mut tokenizer = Tokenizer::new(&tokens, &merges, &control, tokens.get(unknown).copied())?;
        tokenizer.ends = vec![metadata.number("tokenizer.ggml.eos_token_id")? as u32];
        tokenizer.ends.extend(tokenizer.bpe.token_to_id("<|endoftext|>"));
        Ok(tokenizer)
    }

    /// `merges` are pairs with a space between; `control` tokens are found in text before anything is split; `unknown` stands
    /// for bytes that have no token.
    fn new(tokens: &[&str], merges: &[&str], control: &[&str], unknown: Option<&str>) -> Result<Tokenizer> {
        let vocab: AHashMap<String, u32> = tokens.iter().map(|token| token.to_string()).zip(0..).collect();
        let merges = merges
            .iter()
            .map(|pair| {
                let (left, right) =
                    pair.split_once(' ').with_context(|| format!("merge {pair:?} is not two tokens"))?;
                Ok((left.to_string(), right.to_string()))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut model = BPE::builder().vocab_and_merges(vocab, merges);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown.to_string());
        }
        let mut bpe = Bpe::new(model.build().map_err(|e| anyhow!("tokenizer: {e}"))?);
        let bytes = ByteLevel::new(false, true, true);
        bpe.with_pre_tokenizer(Some(Sequence::new(vec![Digits::new(true).into(), bytes.into()])));
        bpe.with_decoder(Some(bytes));
        bpe.add_special_tokens(&control.iter().map(|&token| AddedToken::from(token, true)).collect::<Vec<_>>());
        Ok(Tokenizer { bpe, ends: Vec::new() })
    }

    /// The tokens of a text. Control tokens written in it count as themselves.
    ///
    /// # Errors
    /// A byte without a token, where the vocabulary has no unknown token either.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.bpe.encode(text, false).map_err(|e| anyhow!("tokenizer: {e}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, with control tokens written out. Half a UTF-8 character becomes U+FFFD.
    ///
    /// # Errors
    /// What the tokenizer's decoder reports.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.bpe.decode(tokens, false).map_err(|e| anyhow!("tokenizer: {e}"))
    }

    /// Whether the text ends with this token.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte's character, a few merges, one control token.
    fn tiny() -> Tokenizer {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut tokens: Vec<String> = ["<|end|>", "th", "the", "Ġthe", "12"].map(String::from).to_vec();
        tokens.extend(alphabet.iter().map(char::to_string));
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        Tokenizer::new(&tokens, &["t h", "th e", "Ġ the", "1 2"], &["<|end|>"], None).unwrap()
    }

    #[test]
    fn text_comes_back_from_its_tokens() {
        let tokenizer = tiny();
        for text in ["", " ", "the the", "tabs\tand\n\nlines", "naïve 日本 🦀", "a<|end|>b", "1234"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn merges_apply_in_their_order() {
        assert_eq!(tiny().encode("the the").unwrap(), [2, 3]);
    }

    #[test]
    fn a_control_token_is_one_token() {
        assert_eq!(tiny().encode("the<|end|>").unwrap(), [2, 0]);
    }

    #[test]
    fn digits_stay_single_even_where_a_merge_would_join_them() {
        assert_eq!(tiny().encode("12").unwrap().len(), 2);
    }

    #[test]
    fn a_merge_that_is_not_a_pair_is_named() {
        let error = Tokenizer::new(&["a"], &["a"], &[], None).err().unwrap();
        assert!(error.to_string().contains("\"a\""), "{error}");
    }
}
