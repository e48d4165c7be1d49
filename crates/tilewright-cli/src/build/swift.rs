//! `Tilewright.swift`: a struct for each kernel, which checks its tensors, fills the arguments at their byte offsets and
//! dispatches.

use super::kernel::{Built, Text};
use super::manifest::stored;
use crate::error::CliError;
use std::fmt::Write;
use tilewright::attention::formula::{Formula, Notation};
use tilewright::lang::ir::Elem;
use tilewright_compile::gpu::{Dialect, Source};

/// What all kernels share.
const PRELUDE: &str = include_str!("prelude.swift");

/// The file for these kernels; those without a Metal source are left out.
///
/// # Errors
/// What writing to memory gives: none.
pub fn file(kernels: &[Built<'_>]) -> Result<String, CliError> {
    let mut text = PRELUDE.to_string();
    for built in kernels {
        if let Ok(source) = built.source(Dialect::Msl) {
            kernel(&mut text, built, source).map_err(|error| CliError::Failed(error.to_string()))?;
        }
    }
    Ok(text)
}

fn kernel(out: &mut String, built: &Built<'_>, source: &Source) -> std::fmt::Result {
    let selected = built.selected;
    let notation = Swift { built, text: Text(built.text) };
    let text = |formula: &Formula| formula.write(&notation);
    let values: Vec<String> = built.text.iter().map(|(name, value)| format!("{name}={value}")).collect();
    writeln!(out, "\n/// {} (`{}`).", selected.entry.summary, selected.entry.name())?;
    writeln!(out, "///\n/// Specialised for {}.", values.join(", "))?;
    writeln!(out, "public struct {}: TilewrightKernel {{", type_name(&selected.name))?;
    writeln!(out, "    public static let entry = \"{}\"", source.entry)?;
    writeln!(out, "    public static let source = \"{}.metal\"", selected.name)?;
    writeln!(out, "    public static let threads = {}", source.threads)?;
    writeln!(out, "    public static let argumentBytes = {}\n", built.arguments.bytes)?;
    let fields = fields(built);
    for Field { name, ty, doc } in &fields {
        writeln!(out, "    /// {doc}\n    public var {name}: {ty}")?;
    }
    let parameters: Vec<String> = fields.iter().map(|Field { name, ty, .. }| format!("{name}: {ty}")).collect();
    writeln!(out, "\n    public init({}) {{", parameters.join(", "))?;
    for Field { name, .. } in &fields {
        writeln!(out, "        self.{name} = {name}")?;
    }
    writeln!(out, "    }}\n\n    public var buffers: [(MTLBuffer, Int)] {{")?;
    let buffers: Vec<String> = built.tensors().map(|t| format!("({0}.buffer, {0}.offset)", t.name)).collect();
    writeln!(out, "        [{}]", buffers.join(", "))?;
    writeln!(out, "    }}\n\n    public func check() throws {{")?;
    for tensor in built.tensors() {
        let (name, rank, aligned) = (tensor.name, tensor.rank, tensor.aligned);
        writeln!(out, "        try checkTensor({name}, \"{name}\", rank: {rank}, aligned: {aligned})")?;
    }
    for tensor in built.tensors() {
        if let Some(shape) = built.shape(tensor.name) {
            let shape: Vec<String> = shape.iter().map(text).collect();
            writeln!(out, "        try checkShape({0}, \"{0}\", is: [{1}])", tensor.name, shape.join(", "))?;
        }
    }
    for (a, b) in built.multiples() {
        writeln!(out, "        try checkMultiple(\"{0}\", {0}, of: {1})", text(a), text(b))?;
    }
    writeln!(out, "    }}\n\n    public func grid() throws -> MTLSize {{\n        try check()")?;
    let [x, y, z] = selected.export.grid.each_ref().map(text);
    writeln!(out, "        return try size({x}, {y}, {z})")?;
    writeln!(out, "    }}\n\n    public func arguments() throws -> [UInt8] {{\n        try check()")?;
    writeln!(out, "        var all = ArgumentBytes(count: Self.argumentBytes)")?;
    for tensor in built.tensors() {
        writeln!(out, "        all.store({}, strides: {}, lens: {})", tensor.name, tensor.strides, tensor.lens)?;
    }
    for (name, _, at) in built.scalars() {
        writeln!(out, "        all.store({name}, at: {at})")?;
    }
    writeln!(out, "        return all.bytes\n    }}\n}}")
}

/// What a launch is given.
struct Field {
    name: String,
    ty: String,
    doc: String,
}

fn fields(built: &Built<'_>) -> Vec<Field> {
    let tensors = built.tensors().map(|tensor| {
        let shape = built.shape(tensor.name).map(|shape| shape.iter().map(|f| f.write(&Text(built.text))));
        let shape = match shape {
            Some(shape) => format!("`[{}]`", shape.collect::<Vec<_>>().join(", ")),
            None => format!("Of rank {}", tensor.rank),
        };
        let aligned = if tensor.aligned { "; rows contiguous and 16-byte aligned" } else { "" };
        let ty = format!("Tensor<{}>", element(tensor.elem));
        Field { name: tensor.name.to_string(), ty, doc: format!("{shape}{aligned}.") }
    });
    let scalars = built.scalars().map(|(name, elem, _)| {
        let ty = match stored(elem) {
            "f32" => "Float",
            "i32" => "Int32",
            _ => "UInt32",
        };
        Field { name: name.to_string(), ty: ty.to_string(), doc: format!("The kernel's `{name}`.") }
    });
    let numbers = built.selected.export.numbers.iter().map(|(name, meaning)| Field {
        name: name.to_string(),
        ty: "Int".to_string(),
        doc: format!("For the grid: {meaning}."),
    });
    tensors.chain(scalars).chain(numbers).collect()
}

fn element(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 => "F32",
        Elem::F16 => "F16",
        Elem::Bf16 => "BF16",
        Elem::I32 => "I32",
        Elem::U32 => "U32",
        Elem::I8 => "I8",
        Elem::U8 => "U8",
        Elem::Bool => "Bool8",
    }
}

/// `attention_forward__bf16__h128` as `AttentionForwardBf16H128`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

/// Formulas as expressions in a struct whose fields are the parameters.
struct Swift<'b> {
    built: &'b Built<'b>,
    text: Text<'b>,
}

impl Notation for Swift<'_> {
    fn value(&self, name: &str) -> String {
        self.text.value(name)
    }

    fn number(&self, name: &str) -> String {
        let is_scalar = self.built.scalars().any(|(scalar, ..)| scalar == name);
        if is_scalar { format!("Int({name})") } else { name.to_string() }
    }

    fn axis(&self, tensor: &str, axis: usize) -> String {
        self.text.axis(tensor, axis)
    }

    fn ceil_div(&self) -> &'static str {
        "ceilDiv"
    }
}
