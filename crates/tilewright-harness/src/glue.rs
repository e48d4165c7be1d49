//! From a kernel's text to a C++ program: how the runtime calls the kernel, and what C++ cannot say.

use crate::error::HarnessError;
use tilewright_compile::gpu::{ArgumentSlot, Dialect, Source};

/// The text with the function `tilewright_kernel` behind it. Lines keep their numbers.
pub(crate) fn program(source: &Source) -> Result<String, HarnessError> {
    let pointers = source.arguments.params.iter().filter(|p| matches!(p.slot, ArgumentSlot::View { .. })).count();
    let (text, call) = match source.dialect {
        Dialect::Cuda => {
            (source.text.clone(), format!("tilewright_call<{pointers}>({}, pointers, args);", source.entry))
        }
        Dialect::Msl => (shared_memory(source)?, metal_call(source, pointers)?),
    };
    let bytes = source.arguments.bytes;
    Ok(format!(
        "{text}\nstatic_assert((sizeof(Args) + 7) / 8 * 8 == {bytes}, \"the size of Args is not the one that the source says\");\n\
         extern \"C\" void tilewright_kernel(void* const* pointers, const void* args) {{ {call} }}\n"
    ))
}

/// The call of a Metal kernel, whose parameters say themselves what they are given.
fn metal_call(source: &Source, pointers: usize) -> Result<String, HarnessError> {
    let bad = |problem: String| HarnessError::Text { kernel: source.entry.clone(), problem };
    let start = format!("kernel void {}(", source.entry);
    let Some((_, rest)) = source.text.split_once(&start) else {
        return Err(bad(format!("the text has no `{start}`")));
    };
    let mut arguments = Vec::new();
    for param in parameters(rest) {
        let attribute =
            param.split_once("[[").and_then(|(before, rest)| Some((before.trim(), rest.split_once("]]")?.0.trim())));
        let Some((declared, attribute)) = attribute else {
            return Err(bad(format!("parameter `{param}` has no attribute")));
        };
        // `device const half* q` without the name.
        let ty = declared.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').trim();
        let buffer =
            attribute.strip_prefix("buffer(").and_then(|n| n.trim_end_matches(')').trim().parse::<usize>().ok());
        arguments.push(match (attribute, buffer) {
            (_, Some(index)) if index < pointers => format!("({ty})pointers[{index}]"),
            (_, Some(index)) if index == pointers && ty.ends_with('&') => {
                format!("*({}*)args", ty.trim_end_matches('&').trim())
            }
            ("threadgroup_position_in_grid", _) => {
                "::uint3{tilewright_block.x, tilewright_block.y, tilewright_block.z}".into()
            }
            ("threadgroups_per_grid", _) => "::uint3{tilewright_grid.x, tilewright_grid.y, tilewright_grid.z}".into(),
            ("thread_index_in_threadgroup", _) => "tilewright_thread".into(),
            ("simdgroup_index_in_threadgroup", _) => "tilewright_thread / 32".into(),
            ("thread_index_in_simdgroup", _) => "tilewright_thread % 32".into(),
            _ => return Err(bad(format!("nothing is known to give to parameter `{param}`"))),
        });
    }
    Ok(format!("{}({});", source.entry, arguments.join(", ")))
}

/// The parameters in a text that starts behind the opening parenthesis.
fn parameters(text: &str) -> Vec<String> {
    let (mut depth, mut found) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '(' | '[' | '<' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(c);
        }
    }
    found.iter().map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|p| !p.is_empty()).collect()
}

/// C++ has no local variables in another address space: `threadgroup T name[n];` becomes a reference into the runtime's
/// shared memory, one array behind the other.
fn shared_memory(source: &Source) -> Result<String, HarnessError> {
    let mut at = "0".to_string();
    let mut text = String::with_capacity(source.text.len());
    for line in source.text.split_inclusive('\n') {
        let Some((indent, ty, name, length)) = declaration(line) else {
            text.push_str(line);
            continue;
        };
        // A name of its own: `uint4(` would be taken for the making of a vector.
        let element = format!("tilewright_element_of_{name}");
        let end = format!("{at} + (sizeof({element}) * ({length}) + 127) / 128 * 128");
        text.push_str(&format!(
            "{indent}typedef {ty} {element}; static_assert({at} + sizeof({element}) * ({length}) <= {}, \
             \"more shared memory than the source says\"); threadgroup {element} (&{name})[{length}] = \
             *(threadgroup {element}(*)[{length}])(tilewright_shared + {at});\n",
            source.shared_bytes
        ));
        at = end;
    }
    Ok(text)
}

/// `threadgroup T name[length];` on a line of its own, perhaps with `alignas(n)` before it: indentation, T, name, length.
fn declaration(line: &str) -> Option<(&str, &str, &str, &str)> {
    let start = line.trim_start();
    let indent = &line[..line.len() - start.len()];
    let start = match start.strip_prefix("alignas(") {
        Some(rest) => rest.split_once(')')?.1.trim_start(),
        None => start,
    };
    let declared = start.trim_end().strip_prefix("threadgroup ")?.strip_suffix("];")?;
    let (name, length) = declared.split_once('[')?;
    let (ty, name) = name.trim().rsplit_once(char::is_whitespace)?;
    let plain = !ty.contains(['*', '&', '=', '(']) && !length.contains(['=', ';']);
    plain.then_some((indent, ty, name, length))
}
