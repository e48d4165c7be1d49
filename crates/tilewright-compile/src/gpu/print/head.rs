//! What stands around the body: prelude, `Args`, the signature, names.

use super::Printer;
use super::coordinates::base_name;
use super::language::Language;
use super::number::held;
use super::text::Lines;
use crate::gpu::layout::Axis;
use crate::gpu::program::{BufferId, Program};
use crate::gpu::source::{Argument, ArgumentSlot, Arguments, Dialect};
use tilewright_ir::{Access, Elem};

/// Words that a parameter must not be called: those of the languages, and those of the printer.
const TAKEN: &[&str] = &[
    "alignas",
    "args",
    "asm",
    "atomic",
    "auto",
    "bfloat",
    "bool",
    "break",
    "case",
    "char",
    "class",
    "column",
    "const",
    "constant",
    "continue",
    "default",
    "delete",
    "device",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "group",
    "groups",
    "half",
    "if",
    "inline",
    "inside",
    "int",
    "kernel",
    "lane",
    "long",
    "max",
    "metal",
    "min",
    "namespace",
    "new",
    "operator",
    "part",
    "pass",
    "private",
    "program",
    "protected",
    "public",
    "r",
    "register",
    "return",
    "row",
    "shared",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "thread",
    "threadgroup",
    "tid",
    "to",
    "true",
    "typedef",
    "typename",
    "uint",
    "union",
    "unsigned",
    "using",
    "vec",
    "vertex",
    "virtual",
    "void",
    "volatile",
    "w",
    "warp",
    "while",
];

/// Letters, digits and underscores, starting with a letter.
fn identifier(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_alphabetic()) { clean } else { format!("p{clean}") }
}

/// What the parameters are called: their names, made unlike every other name.
pub(super) fn names(program: &Program) -> Vec<String> {
    let numbered = |name: &str| {
        let rest = name.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_');
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit())
    };
    let mut names: Vec<String> = Vec::new();
    for param in &program.params {
        let mut name = identifier(&param.name);
        if TAKEN.contains(&name.as_str()) || numbered(&name) || name.contains("__") {
            name = format!("{}_param", name.replace("__", "_"));
        }
        let field = |suffix: &str| name.strip_suffix(suffix).is_some_and(|of| names.iter().any(|n| n == of));
        if names.contains(&name) || field("_len") || field("_stride") {
            name = format!("{name}_{}_param", names.len());
        }
        names.push(name);
    }
    names
}

/// What a buffer is called.
pub(super) fn buffer_name(program: &Program, buffer: BufferId) -> String {
    format!("s{}_{}", buffer.0, identifier(&program.buffers[buffer.index()].name))
}

impl Printer<'_> {
    /// The whole source.
    pub(super) fn finish(mut self, arguments: &Arguments) -> String {
        self.out.close();
        let body = self.declarations() + self.out.text.split_once('\n').map_or("", |(_, body)| body);
        let prelude = prelude(self.language, &body);
        let mut head = Lines::default();
        match self.dialect {
            Dialect::Cuda => {
                let params: String = self.program.params.iter().map(|p| self.language.stored(p.elem)).collect();
                let whole = format!("{prelude}{body}{params}");
                for (header, word) in [("cuda_bf16.h", "bfloat16"), ("cuda_fp16.h", "half")] {
                    if whole.contains(word) {
                        head.line(format!("#include <{header}>"));
                    }
                }
            }
            Dialect::Msl => {
                head.line("#include <metal_stdlib>");
                head.line("using namespace metal;");
                if self.program.shared_bytes > 0 {
                    head.line("");
                    head.line("// 16 aligned bytes of threadgroup memory.");
                    head.line("struct Chunk { uint4 words; };");
                }
            }
        }
        if !head.text.is_empty() {
            head.line("");
        }
        self.argument_struct(&mut head, arguments);
        head.text.push_str(&prelude);
        self.signature(&mut head);
        head.text + &body
    }

    /// `struct Args`, in the order of its bytes.
    fn argument_struct(&self, out: &mut Lines, arguments: &Arguments) {
        let mut fields: Vec<(u32, String)> = Vec::new();
        for (Argument { slot, .. }, name) in arguments.params.iter().zip(&self.names) {
            match *slot {
                ArgumentSlot::View { rank: 0, .. } => {}
                ArgumentSlot::View { rank, strides, lens, .. } => {
                    fields.push((strides, format!("{} {name}_stride[{rank}];", self.language.wide)));
                    fields.push((lens, format!("int {name}_len[{rank}];")));
                }
                ArgumentSlot::Scalar { elem, at } => {
                    let kind = match elem {
                        Elem::F32 | Elem::F16 | Elem::Bf16 => "float",
                        Elem::I32 | Elem::I8 => "int",
                        Elem::U32 | Elem::U8 | Elem::Bool => "unsigned",
                    };
                    fields.push((at, format!("{kind} {name};")));
                }
            }
        }
        fields.sort();
        out.open("struct Args");
        for (_, field) in &fields {
            out.line(field);
        }
        if fields.is_empty() {
            out.line("int nothing[2];");
        }
        out.close();
        out.text.truncate(out.text.len() - 1);
        out.line(";");
        out.line("");
    }

    fn signature(&self, out: &mut Lines) {
        let program = self.program;
        let views = || program.params.iter().zip(&self.names).filter(|(param, _)| param.rank.is_some());
        let pointer = |(param, name): (&crate::gpu::program::Param, &String)| {
            let fixed = match param.access {
                Access::Read => "const ",
                Access::Write => "",
            };
            let Language { device, restrict, .. } = self.language;
            format!("{device}{fixed}{}* {restrict}{name}", self.language.stored(param.elem))
        };
        let threads = 32 * self.warps();
        match self.dialect {
            Dialect::Cuda => {
                let bounds = format!("__launch_bounds__({threads}, {})", program.blocks.max(1));
                out.line(format!("extern \"C\" __global__ void {bounds} {}(", program.name));
                for view in views() {
                    out.line(format!("    {},", pointer(view)));
                }
                out.line("    const Args args) {");
            }
            Dialect::Msl => {
                out.line(format!("kernel void {}(", program.name));
                for (number, view) in views().enumerate() {
                    out.line(format!("    {} [[buffer({number})]],", pointer(view)));
                }
                out.line(format!("    constant Args& args [[buffer({})]],", views().count()));
                out.line("    uint3 group [[threadgroup_position_in_grid]],");
                out.line("    uint3 groups [[threadgroups_per_grid]],");
                out.line("    uint thread_index [[thread_index_in_threadgroup]]) {");
            }
        }
    }

    /// Names that the body uses, at its top.
    fn declarations(&self) -> String {
        let program = self.program;
        let mut out = Lines::default();
        out.open("");
        let body = &self.out.text;
        if program.shared_bytes > 0 {
            match self.dialect {
                Dialect::Cuda => out.line("extern __shared__ __align__(1024) unsigned char shared[];"),
                Dialect::Msl => {
                    out.line(format!("threadgroup Chunk shared_chunks[{}];", program.shared_bytes.div_ceil(16)));
                    out.line("threadgroup unsigned char* const shared = (threadgroup unsigned char*)shared_chunks;");
                }
            }
        }
        let tid = match self.dialect {
            Dialect::Cuda => "threadIdx.x",
            Dialect::Msl => "thread_index",
        };
        out.line(format!("const int tid = {tid}, lane = tid % 32, warp = tid / 32;"));
        for (name, source) in [("program", self.language.program), ("programs", self.language.programs)] {
            for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
                if has_word(body, &format!("{name}_{axis}")) {
                    out.line(format!("const int {name}_{axis} = {source}.{letter};"));
                }
            }
        }
        for axis in [Axis::Down, Axis::Across] {
            for (number, (_, text)) in self.bases.iter().filter(|(own, _)| *own == axis).enumerate() {
                out.line(format!("const int {} = {text};", base_name(axis, number)));
            }
        }
        for (number, buffer) in program.buffers.iter().enumerate() {
            let name = buffer_name(program, BufferId(number as u32));
            let space = self.language.shared;
            let [rows, columns] = buffer.extents;
            let slots = if buffer.slots > 1 { format!("{} of ", buffer.slots) } else { String::new() };
            let at = if buffer.offset == 0 { String::new() } else { format!(" + {}", buffer.offset) };
            out.line(format!(
                "{space}unsigned char* const {name} = shared{at}; // {slots}[{rows}, {columns}] {}, {} bytes a row",
                buffer.elem, buffer.pitch
            ));
        }
        for (number, fragment) in program.fragments.iter().enumerate() {
            let [rows, columns] = fragment.extents;
            let (kind, count) = (held(fragment.elem), fragment.layout.registers());
            out.line(format!("{kind} f{number}[{count}]; // [{rows}, {columns}] {}", fragment.elem));
        }
        out.text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_string())
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// The functions of the prelude that the body calls, and those that these call. In the file, `//: name` stands before each.
fn prelude(language: &Language, body: &str) -> String {
    let items: Vec<(&str, &str)> = language.prelude.split("//: ").filter_map(|item| item.split_once('\n')).collect();
    let mut wanted = vec![false; items.len()];
    let mut text = body.to_string();
    while let Some(next) = (0..items.len()).find(|&k| !wanted[k] && has_word(&text, items[k].0)) {
        wanted[next] = true;
        text.push_str(items[next].1);
    }
    let mut out: String =
        items.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|((_, text), _)| *text).collect();
    if !out.is_empty() {
        out.push('\n');
    }
    out
}
