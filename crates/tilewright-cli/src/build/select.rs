//! Which specialisations are built, and what they are called.

use super::Args;
use crate::error::CliError;
use std::collections::BTreeMap;
use tilewright::attention::{AttentionError, Export, KernelEntry, Library, Machine, Wanted};
use tilewright::lang::SpecText;
use tilewright::prelude::Elem;
use tilewright_compile::gpu::{Dialect, Target};

/// One kernel with its values.
pub struct Selected<'l> {
    pub entry: &'l KernelEntry,
    pub export: &'l Export,
    /// The values, or why there is no such specialisation.
    pub text: Result<SpecText, AttentionError>,
    /// Of its files, without extension.
    pub name: String,
    /// What it is compiled for: tiles differ with what a GPU has.
    pub targets: Vec<Target>,
}

impl Selected<'_> {
    /// Whether it is compiled to this language.
    pub fn is_for(&self, dialect: Dialect) -> bool {
        self.targets.iter().any(|target| target.dialect == dialect)
    }
}

/// The specialisations that the flags choose, in the order of the library.
///
/// # Errors
/// Flags that cannot be read, values that no kernel has, a filter that leaves nothing.
pub fn select<'l>(args: &Args, targets: &[Target], library: &'l Library) -> Result<Vec<Selected<'l>>, CliError> {
    let settings = settings(args, library)?;
    let wanted = wanted(args)?;
    let mut all: Vec<Selected<'l>> = Vec::new();
    for entry in &library.entries {
        let Some(export) = &entry.export else { continue };
        let own = || settings.iter().filter(|(name, _)| entry.spec.spec.iter().any(|(own, _)| own == name));
        for (wanted, target) in wanted.iter().flat_map(|wanted| targets.iter().map(move |target| (wanted, target))) {
            for mut text in (export.specialise)(&Wanted { shared_bytes: target.shared_bytes as usize, ..*wanted }) {
                text.extend(own().map(|(name, value)| (name.clone(), value.clone())));
                // Codes are multiplied as they are only with a table's work, which these kernels leave to the compiler.
                let completed = match (entry.tuned)(text.clone(), Machine::Metal) {
                    Err(refused @ AttentionError::Combination { .. }) => Err(refused),
                    tuned => {
                        if let Some(decoding) = tuned.ok().and_then(|mut tuned| tuned.text.remove("decoding")) {
                            text.entry("decoding".to_string()).or_insert(decoding);
                        }
                        (entry.complete)(text.clone())
                    }
                };
                let name = name(entry, completed.as_ref().unwrap_or(&text));
                match all.iter_mut().find(|there| there.name == name) {
                    Some(there) if there.targets.contains(target) => {}
                    Some(there) => there.targets.push(*target),
                    None => all.push(Selected { entry, export, text: completed, name, targets: vec![*target] }),
                }
            }
        }
    }
    let known = || library.entries.iter().filter(|entry| entry.export.is_some()).map(|entry| entry.name().to_string());
    let filter = args.filter.as_deref().unwrap_or_default();
    all.retain(|selected| selected.name.contains(filter));
    match all.is_empty() {
        true => Err(CliError::UnknownName { what: "kernel", name: filter.to_string(), known: known().collect() }),
        false => Ok(all),
    }
}

/// Types and head dims as the flags say; shared memory is the target's.
fn wanted(args: &Args) -> Result<Vec<Wanted>, CliError> {
    let types = match &args.types {
        None => Export::TYPES.to_vec(),
        Some(text) => pairs(text, "--types", "f32, f16, bf16, or q's and k's as in f32-f16", |name| {
            Elem::from_name(name).filter(|elem| elem.is_float())
        })?,
    };
    let dims = match &args.head_dims {
        None => Export::HEAD_DIMS.map(|dim| (dim, dim)).to_vec(),
        Some(text) => pairs(text, "--head-dims", "1 to 576, or q's and v's as in 192-128", |dim| {
            dim.parse().ok().filter(|dim| (1..=tilewright::attention::MAX_HEAD_DIM).contains(dim))
        })?,
    };
    let with =
        |(q, kv)| dims.iter().map(move |&(head_dim, value_dim)| Wanted { q, kv, head_dim, value_dim, shared_bytes: 0 });
    Ok(types.into_iter().flat_map(with).collect())
}

/// `a,b-c` as `(a, a)` and `(b, c)`.
fn pairs<T: Copy>(
    text: &str,
    flag: &str,
    wanted: &str,
    one: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, T)>, CliError> {
    let read = |part: &str| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let read = one(a).zip(one(b));
        read.ok_or_else(|| CliError::Setting { text: format!("{flag} {part}"), wanted: wanted.to_string() })
    };
    text.split(',').map(read).collect()
}

/// The values of `--set`; each is one of some exported kernel.
fn settings(args: &Args, library: &Library) -> Result<BTreeMap<String, String>, CliError> {
    let exported = || library.entries.iter().filter(|entry| entry.export.is_some());
    let read = |setting: &String| {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(CliError::Setting { text: setting.clone(), wanted: "NAME=VALUE".to_string() });
        };
        let mut known: Vec<String> =
            exported().flat_map(|entry| entry.spec.spec.iter().map(|(name, _)| name.to_string())).collect();
        if !known.iter().any(|known| known == name) {
            known.sort();
            known.dedup();
            return Err(CliError::UnknownName { what: "specialisation value", name: name.to_string(), known });
        }
        Ok((name.to_string(), value.to_string()))
    };
    args.set.iter().map(read).collect()
}

/// `KERNEL__TYPES__hDIM__VALUES`: the types once where they are equal, the value dim after the head dim where it differs, then
/// all other values in the kernel's order. A text that needs no escape in a file's name or a C identifier.
fn name(entry: &KernelEntry, text: &SpecText) -> String {
    let of = |name: &str| text.get(name).map(String::as_str);
    let distinct = |names: &mut dyn Iterator<Item = &str>| {
        let mut values: Vec<&str> = names.filter_map(of).collect();
        values.dedup();
        values.join("_")
    };
    let types = distinct(&mut entry.spec.types.iter().map(|(name, _)| *name));
    let dims = distinct(&mut DIMS.into_iter());
    let others = entry.spec.spec.iter().filter(|(name, _)| !DIMS.contains(name)).filter_map(|(name, ty)| {
        let value = of(name)?;
        let plain: String = value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let plain = plain.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
        Some(match (*ty, value) {
            (_, "true") => name.to_string(),
            (_, "false") => format!("no_{name}"),
            (_, value) if value.parse::<u64>().is_ok() => format!("{name}{value}"),
            _ => plain,
        })
    });
    let others = others.collect::<Vec<_>>().join("_");
    let dims = if dims.is_empty() { dims } else { format!("h{dims}") };
    let parts = [entry.name(), &types, &dims, &others];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("__")
}

/// Specialisation values that are a head dim or a value dim.
const DIMS: [&str; 3] = ["head_dim", "value_dim", "dim"];
