//! Evaluates the formulas of a manifest, and the same expressions in Swift, from their text.

use std::collections::BTreeMap;

/// Shapes of tensors and numbers, by name.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    pub shapes: BTreeMap<String, Vec<u64>>,
    pub numbers: BTreeMap<String, u64>,
}

/// The value of a formula.
pub fn evaluate(text: &str, launch: &Launch) -> u64 {
    let tokens = tokens(text);
    let mut parser = Parser { tokens: &tokens, at: 0, launch };
    let value = parser.product();
    assert_eq!(parser.at, tokens.len(), "`{text}` goes on");
    value
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        if c != ' ' {
            tokens.push(c.to_string());
        }
    }
    tokens.extend((!word.is_empty()).then_some(word));
    tokens
}

struct Parser<'t> {
    tokens: &'t [String],
    at: usize,
    launch: &'t Launch,
}

impl Parser<'_> {
    fn takes(&mut self, wanted: &str) -> bool {
        let there = self.tokens.get(self.at).is_some_and(|token| token == wanted);
        self.at += usize::from(there);
        there
    }

    fn wants(&mut self, wanted: &str) {
        assert!(self.takes(wanted), "`{wanted}` is missing in {:?} at {}", self.tokens, self.at);
    }

    /// Left to right, as both languages have it.
    fn product(&mut self) -> u64 {
        let mut value = self.atom();
        loop {
            if self.takes("*") {
                value *= self.atom();
            } else if self.takes("/") {
                value /= self.atom();
            } else {
                return value;
            }
        }
    }

    fn atom(&mut self) -> u64 {
        if self.takes("(") {
            let value = self.product();
            self.wants(")");
            return value;
        }
        let word = self.tokens[self.at].clone();
        self.at += 1;
        if let Ok(number) = word.parse() {
            return number;
        }
        if let Some(tensor) = word.strip_suffix(".shape") {
            self.wants("[");
            let axis = self.product() as usize;
            self.wants("]");
            return self.launch.shapes[tensor][axis];
        }
        if !self.takes("(") {
            return self.launch.numbers[&word];
        }
        let a = self.product();
        let b = self.takes(",").then(|| self.product());
        self.wants(")");
        match (word.as_str(), b) {
            ("ceil_div" | "ceilDiv", Some(b)) => a.div_ceil(b),
            ("min", Some(b)) => a.min(b),
            ("Int", None) => a,
            other => panic!("{other:?} is no function of formulas"),
        }
    }
}
