//! What differs between the dialects, as data.

use super::text::Text;
use tilewright_ir::Elem;
use tilewright_ir::op::Elementwise;

/// The words of a dialect.
pub(super) struct Language {
    /// Infinity, and a NaN.
    pub infinity: &'static str,
    pub nan: &'static str,
    /// The type of 64-bit offsets.
    pub wide: &'static str,
    /// Address spaces, with the space after them, of tensors and of shared memory.
    pub device: &'static str,
    pub shared: &'static str,
    /// What a pointer that nothing else reaches is marked with.
    pub restrict: &'static str,
    /// What stands before the name of a vector type to make one.
    pub make: &'static str,
    /// The statement that waits for all threads.
    pub barrier: &'static str,
    /// Functions whose name differs from the common one.
    pub functions: &'static [(&'static str, &'static str)],
    /// The same bits as another type: from, to, how.
    pub bits: &'static [(Elem, Elem, &'static str)],
    /// Types of 16-bit floats in memory.
    pub f16: Narrow,
    pub bf16: Narrow,
    /// The value of another lane, up to the value and between it and the distance.
    pub shuffle: &'static str,
    /// Products, sums and differences that are no part of a multiply-add.
    pub alone: Option<[&'static str; 3]>,
    /// Whether a condition holds in any lane of the warp, up to the condition.
    pub any: &'static str,
    /// Places in the grid and its sizes.
    pub program: &'static str,
    pub programs: &'static str,
    /// Functions that the body may call.
    pub prelude: &'static str,
}

/// A 16-bit float in memory.
pub(super) struct Narrow {
    pub name: &'static str,
    /// The function from it to float.
    pub up: &'static str,
    /// The function from float to it.
    pub down: &'static str,
}

impl Language {
    pub fn function(&self, name: &'static str) -> &'static str {
        self.functions.iter().find(|(common, _)| *common == name).map_or(name, |&(_, own)| own)
    }

    /// The function of two floats that is rounded on its own, never as part of a multiply-add; `None` where the dialect has none.
    pub fn rounded(&self, op: &Elementwise) -> Option<&'static str> {
        let [mul, add, sub] = self.alone?;
        match op {
            Elementwise::Mul => Some(mul),
            Elementwise::Add => Some(add),
            Elementwise::Sub => Some(sub),
            _ => None,
        }
    }

    /// The function that reads the bits of one type as another.
    pub fn bits(&self, of: Elem, to: Elem) -> &'static str {
        self.bits.iter().find(|&&(a, b, _)| (a, b) == (of, to)).map_or("", |&(_, _, name)| name)
    }

    /// The type of an element in memory.
    pub fn stored(&self, elem: Elem) -> &'static str {
        match elem {
            Elem::F32 => "float",
            Elem::F16 => self.f16.name,
            Elem::Bf16 => self.bf16.name,
            Elem::I32 => "int",
            Elem::U32 => "unsigned",
            Elem::I8 => "signed char",
            Elem::U8 | Elem::Bool => "unsigned char",
        }
    }

    /// An element of memory as what registers hold.
    pub fn up(&self, elem: Elem, x: &str) -> Text {
        match elem {
            Elem::F32 | Elem::I32 | Elem::U32 => Text::atom(x),
            Elem::F16 => Text::atom(format!("{}({x})", self.f16.up)),
            Elem::Bf16 => Text::atom(format!("{}({x})", self.bf16.up)),
            Elem::I8 => Text::atom(format!("(int){x}")),
            Elem::U8 => Text::atom(format!("(unsigned){x}")),
            Elem::Bool => Text::loose(format!("{x} != 0")),
        }
    }

    /// What registers hold as an element of memory.
    pub fn down(&self, elem: Elem, x: &Text) -> Text {
        match elem {
            Elem::F32 | Elem::I32 | Elem::U32 => x.clone(),
            Elem::F16 => Text::call(self.f16.down, &[x]),
            Elem::Bf16 => Text::call(self.bf16.down, &[x]),
            Elem::I8 | Elem::U8 | Elem::Bool => Text::atom(format!("({}){}", self.stored(elem), x.tight())),
        }
    }

    /// Element `j` of a word of 32 bits.
    pub fn part(&self, elem: Elem, word: &str, j: u32) -> Text {
        let half = if j == 0 { "low" } else { "high" };
        let byte = || if j == 0 { word.to_string() } else { format!("{word} >> {}", 8 * j) };
        match elem {
            Elem::F32 => Text::atom(format!("{}({word})", self.bits(Elem::U32, Elem::F32))),
            Elem::I32 => Text::atom(format!("(int){word}")),
            Elem::U32 => Text::atom(word),
            Elem::F16 | Elem::Bf16 => Text::atom(format!("{half}_{}({word})", elem.name())),
            Elem::I8 => Text::atom(format!("(int)(signed char)({})", byte())),
            Elem::U8 if j == 3 => Text::loose(byte()),
            Elem::U8 => Text::loose(format!("({}) & 0xffu", byte())),
            Elem::Bool => Text::loose(format!("(({}) & 0xffu) != 0", byte())),
        }
    }

    /// The word of 32 bits that holds these.
    pub fn word(&self, elem: Elem, x: &[Text]) -> Text {
        let all: Vec<&Text> = x.iter().collect();
        match elem {
            Elem::F32 => Text::call(self.bits(Elem::F32, Elem::U32), &all),
            Elem::I32 => Text::atom(format!("(unsigned){}", x[0].tight())),
            Elem::U32 => x[0].clone(),
            Elem::F16 | Elem::Bf16 => Text::call(&format!("pack_{}", elem.name()), &all),
            Elem::I8 | Elem::U8 | Elem::Bool => Text::call("pack_8", &all),
        }
    }

    /// The type of this many bytes: 2, 4, 8 or 16.
    pub fn vector(&self, bytes: u32) -> &'static str {
        match bytes {
            2 => "unsigned short",
            4 => "unsigned",
            8 => "uint2",
            _ => "uint4",
        }
    }

    /// A vector of these words.
    pub fn made(&self, words: &[Text]) -> String {
        match words {
            [word] => word.text.clone(),
            _ => {
                let words: Vec<&Text> = words.iter().collect();
                Text::call(&format!("{}{}", self.make, self.vector(4 * words.len() as u32)), &words).text
            }
        }
    }
}

/// The words of a vector called `name`; one of less than 4 bytes is in a word.
pub(super) fn words(name: &str, bytes: u32) -> Vec<String> {
    match bytes {
        2 | 4 => vec![name.to_string()],
        _ => ["x", "y", "z", "w"].iter().take(bytes as usize / 4).map(|part| format!("{name}.{part}")).collect(),
    }
}
