//! From tensors and flags to the request.

use super::args::Args;
use super::inputs::Inputs;
use crate::error::CliError;
use std::sync::Arc;
use tilewright::attention::Cache;
use tilewright::prelude::{Attention, Device};

/// What the flags and tensors ask for. A class map is made here, on the device and for the tile shape that the request
/// is planned with.
///
/// # Errors
/// Flags that need a tensor which is not there, and what the mask is refused for.
pub fn request<'a>(args: &Args, inputs: &'a Inputs, device: &Device) -> Result<Attention<'a>, CliError> {
    let plain = without_mask(args, inputs)?;
    match &inputs.mask {
        None if args.class_map => {
            Err(CliError::Setting { text: "--class-map".to_string(), wanted: "a tensor `mask`".to_string() })
        }
        None => Ok(plain),
        Some(mask) if args.class_map => plain.classified_mask(mask, device).map_err(CliError::Refused),
        Some(mask) => Ok(plain.mask(mask.clone())),
    }
}

fn without_mask<'a>(args: &Args, inputs: &'a Inputs) -> Result<Attention<'a>, CliError> {
    let mut cache = Cache::new(inputs.k.view()?, inputs.v.view()?);
    if let Some(start) = &inputs.ring_start {
        cache = cache.ring(start);
    }
    if let Some(pages) = &inputs.pages {
        cache = cache.paged(pages);
    }
    let mut request = Attention::over(inputs.q()?, cache).splits(args.splits);
    if let Some(scale) = args.scale {
        request = request.scale(scale);
    }
    if args.causal {
        request = request.causal();
    }
    if let Some(start) = args.q_start {
        request = request.q_start(start);
    }
    if let Some(window) = args.window {
        request = request.window(window.sinks(args.window_sinks.unwrap_or(0)));
    }
    if let Some(cap) = args.softcap {
        request = request.softcap(cap);
    }
    if let Some(kv_len) = &inputs.kv_len {
        request = request.kv_len(kv_len);
    }
    if let Some(tree) = &inputs.tree {
        request = request.tree(tree.clone());
    }
    if let Some(sinks) = &inputs.sinks {
        request = request.sinks(Arc::clone(sinks));
    }
    if let Some(slopes) = &inputs.alibi {
        request = request.alibi(Arc::clone(slopes));
    }
    if args.lse || inputs.expected_lse.is_some() {
        request = request.lse();
    }
    Ok(request)
}
