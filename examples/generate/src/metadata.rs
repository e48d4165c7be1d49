//! Typed access to the metadata of a GGUF file. Every error names the key.

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;

/// Key and value pairs of a GGUF file.
pub struct Metadata(pub HashMap<String, Value>);

impl Metadata {
    fn value(&self, key: &str) -> Result<&Value> {
        self.0.get(key).with_context(|| format!("the model file has no {key}"))
    }

    fn list(&self, key: &str) -> Result<&Vec<Value>> {
        self.value(key)?.to_vec().with_context(|| format!("{key} is no list"))
    }

    /// A count or an index.
    ///
    /// # Errors
    /// No such key, or not a 32-bit number.
    pub fn number(&self, key: &str) -> Result<usize> {
        Ok(self.value(key)?.to_u32().with_context(|| format!("{key} is no count"))? as usize)
    }

    /// A real number.
    ///
    /// # Errors
    /// No such key, or not an f32.
    pub fn real(&self, key: &str) -> Result<f32> {
        self.value(key)?.to_f32().with_context(|| format!("{key} is no real number"))
    }

    /// A text.
    ///
    /// # Errors
    /// No such key, or not a text.
    pub fn string(&self, key: &str) -> Result<&str> {
        Ok(self.value(key)?.to_string().with_context(|| format!("{key} is no text"))?)
    }

    /// A list of texts.
    ///
    /// # Errors
    /// No such key, or something else in the list.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.list(key)?
            .iter()
            .map(|value| Ok(value.to_string().with_context(|| format!("{key} is no list of texts"))?.as_str()))
            .collect()
    }

    /// A list of small numbers, such as token types.
    ///
    /// # Errors
    /// No such key, or something else in the list.
    pub fn numbers(&self, key: &str) -> Result<Vec<u32>> {
        let number = |value: &Value| value.to_i32().map(|n| n as u32).or_else(|_| value.to_u32());
        self.list(key)?
            .iter()
            .map(|value| number(value).with_context(|| format!("{key} is no list of counts")))
            .collect()
    }
}
