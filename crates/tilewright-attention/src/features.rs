//! The features of the library: one file each, with hooks, f64 reference and test cases.

mod alibi;
mod causal;
pub(crate) mod mask;
mod per_head;
mod sinks;
mod softcap;
mod tree;
mod window;

pub use alibi::Alibi;
pub use causal::Causal;
pub use mask::{ClassMap, ClassifiedMask, Mask};
pub use sinks::Sinks;
pub use softcap::Softcap;
pub use tree::Tree;
pub use window::Window;

use crate::attention::Extents;
use crate::cases::Case;
use crate::feature::Features;

/// A feature of the library as data: what text, proofs and random cases need to know of it.
#[derive(Clone, Copy, Debug)]
pub struct FeatureEntry {
    /// How text names it, and how it shows.
    pub name: &'static str,
    /// The feature that text says: what stands between the parentheses of `name(…)`, empty where there are none.
    pub parse: fn(&str) -> Result<Features, String>,
    /// Values of it to try in problems of these extents; never none. Each is proved, and mixed into random cases.
    pub samples: fn(&Extents) -> Vec<Features>,
    /// Its test cases.
    pub cases: fn() -> Vec<Case>,
}

/// Every feature of the library.
pub fn all() -> Vec<FeatureEntry> {
    vec![causal::ENTRY, window::ENTRY, mask::ENTRY, tree::ENTRY, softcap::ENTRY, sinks::ENTRY, alibi::ENTRY]
}

/// Features as text: `none`, or names joined by `+`.
pub(crate) fn parse(text: &str) -> Result<Features, String> {
    if text == "none" {
        return Ok(Features::none());
    }
    text.split('+').try_fold(Features::none(), |features, text| Ok(features.and(parse_one(text.trim())?)))
}

fn parse_one(text: &str) -> Result<Features, String> {
    let split = text.split_once('(').and_then(|(name, rest)| Some((name, rest.strip_suffix(')')?)));
    let (name, of) = split.unwrap_or((text, ""));
    let entries = all();
    match entries.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.parse)(of),
        None => {
            let known: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
            Err(format!("`{text}` is no feature; there are none, {}", known.join(", ")))
        }
    }
}

/// Holds the text of a feature that takes nothing in parentheses against that.
fn bare(name: &str, of: &str) -> Result<(), String> {
    match of {
        "" => Ok(()),
        of => Err(format!("`{name}` takes nothing in parentheses, not `{of}`: what it needs comes at launch")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_lang::SpecValue;

    #[test]
    fn every_sample_is_read_back_from_what_it_shows() {
        let extents = Case::new("any").extents();
        for entry in all() {
            let samples = (entry.samples)(&extents);
            assert!(!samples.is_empty(), "{}", entry.name);
            for sample in samples {
                let shown = sample.to_string();
                assert!(shown.starts_with(entry.name), "{shown}");
                assert_eq!(parse(&shown).unwrap().to_string(), shown);
            }
        }
        assert_eq!(Features::parse("none").unwrap().to_string(), "none");
    }

    #[test]
    fn text_that_names_no_feature_is_refused() {
        for text in ["", "Causal", "causal(3)", "causal+", "causal+none", "window(4"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
