//! How the specialisation of a kernel is completed where text gives only some of its values.

use super::{TYPES, Tuned};
use crate::attention::Extents;
use crate::cache::{Decoding, Format};
use crate::error::{AttentionError, MAX_HEAD_DIM};
use crate::feature::Features;
use crate::kernels::Factor;
use crate::tuning::{self, Choice, Coding, MAX_VERIFY, Machine};
use tilewright_ir::{Elem, Schedule};
use tilewright_lang::{SpecText, SpecValue};

type Completed = Result<SpecText, AttentionError>;

/// Whose tiles text is completed with where it names no machine: any processor with enough to do.
const ONE_THREAD: Machine = Machine::Cpu { threads: 1, tiles: false };

/// The values that are left out as the planner chooses them for a prefill of 1024 tokens, without features and with lse.
pub(super) fn forward(text: SpecText) -> Completed {
    Ok(planned(with(text, &[("lse", "true")]), 1024, ONE_THREAD)?.text)
}

/// The same for any machine. For a GPU, a `queries` of up to 64 is a decode or a verify of so many.
pub(super) fn forward_tuned(text: SpecText, machine: Machine) -> Result<Tuned, AttentionError> {
    planned(with(text, &[("lse", "true")]), 1024, machine)
}

/// The same for a decode of one query of a group of four heads over 4096 keys.
pub(super) fn split(text: SpecText) -> Completed {
    Ok(planned(text, 1, ONE_THREAD)?.text)
}

/// The same for any machine. For a GPU, a `queries` is a verify of so many.
pub(super) fn split_tuned(text: SpecText, machine: Machine) -> Result<Tuned, AttentionError> {
    planned(text, 1, machine)
}

/// Values for the merge of one query.
pub(super) fn merge(text: SpecText) -> Completed {
    let chosen = [("E", "f32"), ("at_once", "8"), ("value_dim", "128"), ("features", "none"), ("lse", "true")];
    Ok(with(text, &chosen))
}

/// Values for a mask of bool and the tiles of a prefill.
pub(super) fn classify(text: SpecText) -> Completed {
    Ok(with(text, &[("E", "bool"), ("queries", "128"), ("keys", "128")]))
}

/// Values for tokens of f16 into a dense cache.
pub(super) fn append(text: SpecText) -> Completed {
    Ok(with(text, &[("E", "f16"), ("tokens", "16"), ("dim", "128"), ("placement", "dense")]))
}

/// The same as codes of 8 bits.
pub(super) fn quantise(text: SpecText) -> Completed {
    append(with(text, &[("format", "q8g64"), ("rounding", "even")]))
}

/// Values for such a cache.
pub(super) fn dequantise(text: SpecText) -> Completed {
    Ok(with(text, &[("E", "f16"), ("tokens", "32"), ("dim", "128"), ("cache", "dense+k-q8g64")]))
}

/// The values that are left out as they are given here.
fn with(mut text: SpecText, others: &[(&str, &str)]) -> SpecText {
    for (name, value) in others {
        text.entry(name.to_string()).or_insert(value.to_string());
    }
    text
}

/// The values that are left out as the planner chooses them for so many queries.
fn planned(mut text: SpecText, q_len: usize, machine: Machine) -> Result<Tuned, AttentionError> {
    // What cannot be read is refused when the kernel is traced.
    let number = |text: &SpecText, name: &str| text.get(name).and_then(|value| value.parse::<usize>().ok());
    let mut or = |name: &str, value: String| text.entry(name.to_string()).or_insert(value).clone();
    let types = [or("E", "f32".to_string()), or("C", "f32".to_string())];
    let head_dim = or("head_dim", "128".to_string());
    or("value_dim", head_dim);
    let features = or("features", Features::none().to_string());
    let cache = or("cache", Format::DENSE.to_string());
    let factor = match machine {
        Machine::Cpu { .. } => Factor::Any,
        Machine::Cuda { .. } | Machine::Metal => Factor::Positive,
    };
    or("factor", factor.to_string());
    or("rescaling", tuning::rescaling(machine).to_string());

    let types = types.map(|name| Elem::from_name(&name).filter(|elem| elem.is_float()));
    if let [Some(q), Some(kv)] = types
        && !TYPES.contains(&(q, kv))
    {
        return Err(AttentionError::ElementMix { q, kv });
    }
    let (Some(head_dim), Some(value_dim)) = (number(&text, "head_dim"), number(&text, "value_dim")) else {
        return Ok(Tuned { text, work: None });
    };
    for (axis, got) in [("head_dim", head_dim), ("value_dim", value_dim)] {
        if got > MAX_HEAD_DIM {
            return Err(AttentionError::HeadDim { axis, got });
        }
    }
    let (Ok(cache), [Some(q), Some(kv)]) = (Format::parse(&cache), types) else {
        return Ok(Tuned { text, work: None });
    };
    let q_len = match (machine, number(&text, "queries")) {
        (Machine::Cuda { .. } | Machine::Metal, Some(queries)) if (1..=MAX_VERIFY).contains(&queries) => queries,
        _ => q_len,
    };
    let holes = Features::parse(&features).is_ok_and(|features| features.leave_holes());
    let shape = Extents { batch: 1, q_heads: 4, kv_heads: 1, q_len, capacity: 4096, head_dim, value_dim };
    let Choice { schedule: chosen, work, .. } = tuning::choose(&shape, [q, kv], (&cache, holes), machine);
    let mut extent = |name: &str, chosen: u32| {
        text.entry(name.to_string()).or_insert(chosen.to_string());
        number(&text, name).map(|n| u32::try_from(n).unwrap_or(u32::MAX)) // far outside the limits
    };
    let extents = [("heads", chosen.heads), ("queries", chosen.queries), ("keys", chosen.keys)];
    let [Some(heads), Some(queries), Some(keys)] = extents.map(|(name, chosen)| extent(name, chosen)) else {
        return Ok(Tuned { text, work: None });
    };
    let schedule = Schedule { heads, queries, keys };
    let work = work.filter(|_| schedule == chosen);
    let coding = Coding { cache: &cache, types: [q, kv], holes, value_dim, schedule, work };
    let own = tuning::decoding(&coding, machine);
    let given = Decoding::parse(text.entry("decoding".to_string()).or_insert(own.to_string()));
    // The other one would round what is held to f32, or would be exact where no matrix unit multiplies codes.
    let may_choose = match machine {
        Machine::Cpu { .. } => true,
        Machine::Cuda { .. } | Machine::Metal => own == Decoding::Exact,
    };
    let may_choose = may_choose && q != Elem::F32 && cache.has_codes();
    if let Ok(given) = given
        && given != own
        && !may_choose
    {
        let what = format!("decoding={given} for queries of {q} over a {cache} cache on this machine");
        return Err(AttentionError::combination(what, format!("decoding={own}")));
    }
    tuning::check(schedule, head_dim, value_dim, &cache)?;
    Ok(Tuned { text, work })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoding_that_would_round_f32_or_that_a_gpu_does_not_multiply_is_refused() {
        let completed = |q: &str, cache: &str, decoding: &str, machine| {
            let given = [("E", q), ("C", q), ("cache", cache), ("decoding", decoding)];
            let given = given.into_iter().filter(|(_, value)| !value.is_empty());
            split_tuned(given.map(|(name, value)| (name.to_string(), value.to_string())).collect(), machine)
        };
        let codes = "dense+k-q8g64+v-q4g64";
        for (q, cache, decoding, machine, own) in [
            ("bf16", codes, "exact", Machine::Metal, "dequantised"),
            ("f32", codes, "dequantised", Machine::Metal, "exact"),
            ("f32", codes, "dequantised", ONE_THREAD, "exact"),
            ("bf16", "dense", "dequantised", ONE_THREAD, "exact"),
        ] {
            let refused = completed(q, cache, decoding, machine).map(|_| ()).expect_err(decoding);
            let nearest = format!("decoding={own}");
            assert!(matches!(&refused, AttentionError::Combination { nearest: n, .. } if *n == nearest), "{refused}");
            assert_eq!(completed(q, cache, "", machine).expect("its own").text["decoding"], own);
        }
        let gpu = Machine::Cuda { shared_bytes: 227 << 10, multiprocessors: 132 };
        for (q, cache, own) in [
            ("bf16", codes, "exact"),
            ("f16", codes, "dequantised"),
            ("bf16", "paged(16)+k-q8g64+v-q4g64", "dequantised"),
            ("bf16", "dense+k-q8g64", "dequantised"),
        ] {
            assert_eq!(completed(q, cache, "", gpu).expect("its own").text["decoding"], own, "{q} {cache}");
            assert_eq!(completed(q, cache, "exact", gpu).is_ok(), own == "exact", "{q} {cache}");
            completed(q, cache, "dequantised", gpu).expect("the numbers of a dequantised cache");
        }
        for decoding in ["exact", "dequantised"] {
            assert_eq!(completed("f16", codes, decoding, ONE_THREAD).expect("both").text["decoding"], decoding);
        }
    }
}
