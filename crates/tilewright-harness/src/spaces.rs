//! Address spaces in the compiler's IR: none may be cast away, and sanitizers look only at memory without one.
//!
//! Metal refuses a cast from one address space to another even where it is written out; C++ does not. So a kernel in Metal is
//! compiled to unoptimised IR first, where every such cast is an instruction.

/// The function that hands untyped pointers to the kernel.
const GLUE: &str = "@tilewright_kernel(";

/// The line of the kernel's text where a pointer changes its address space; 0 when the IR does not say.
pub(crate) fn cast(ir: &str) -> Option<usize> {
    let mut in_glue = false;
    let cast = ir.lines().find(|line| {
        if line.starts_with("define ") {
            in_glue = line.contains(GLUE);
        }
        line.contains("addrspacecast") && !in_glue
    })?;
    let line = cast.split_once("!dbg ").and_then(|(_, location)| {
        let location = ir.lines().find_map(|l| l.strip_prefix(location.trim())?.strip_prefix(" = "))?;
        location.split_once("line: ")?.1.split([',', ')']).next()?.parse().ok()
    });
    Some(line.unwrap_or(0))
}

/// The same program with a check before each access of 8 bytes and more to an address space: clang checks the alignment of
/// those only where there is none.
pub(crate) fn aligned(ir: &str) -> String {
    let mut text = String::with_capacity(ir.len() * 2);
    for (number, line) in ir.lines().enumerate() {
        if let Some((pointer, bytes)) = access(line) {
            let place = format!("%tilewright.place.{number}");
            text.push_str(&format!("  {place} = ptrtoint ptr {pointer} to i64\n"));
            text.push_str(&format!("  call void @tilewright_aligned(i64 {place}, i64 {bytes})\n"));
        }
        text.push_str(line);
        text.push('\n');
    }
    text + "declare void @tilewright_aligned(i64, i64)\n"
}

/// Of `%v = load T, ptr addrspace(n) %p, align 16` and the like: `addrspace(n) %p` and 16.
fn access(line: &str) -> Option<(&str, u32)> {
    let (before, after) = line.split_once(", align ")?;
    if !(before.contains(" = load ") || before.trim_start().starts_with("store ")) {
        return None;
    }
    let pointer = &before[before.rfind(", ptr addrspace(")? + ", ptr ".len()..];
    let bytes = after.split(',').next()?.trim().parse().ok()?;
    let whole = pointer.matches('(').count() == pointer.matches(')').count();
    (whole && bytes >= 8).then_some((pointer, bytes))
}

/// The same program with all memory in one address space.
pub(crate) fn flattened(ir: &str) -> String {
    let mut text = String::with_capacity(ir.len());
    let mut declared = Vec::new();
    for line in ir.lines() {
        let line = (1..=3).fold(line.to_string(), |line, space| line.replace(&format!(" addrspace({space})"), ""));
        let line = intrinsics(&line.replace("addrspacecast", "bitcast"));
        // `llvm.memcpy.p0.p1` and `llvm.memcpy.p0.p0` are one function now.
        if line.starts_with("declare ") {
            let name =
                line.split_once('@').and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name.to_string());
            if declared.contains(&name) {
                continue;
            }
            declared.push(name);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// `@llvm.memcpy.p3.p1.i64` becomes `@llvm.memcpy.p0.p0.i64`.
fn intrinsics(line: &str) -> String {
    let mut parts = line.split("@llvm.");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_at(part.find('(').unwrap_or(0));
        let name = (1..=3).fold(name.to_string(), |name, space| name.replace(&format!(".p{space}"), ".p0"));
        text.push_str(&format!("@llvm.{name}{rest}"));
    }
    text
}
