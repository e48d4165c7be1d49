//! Rows, columns and register numbers as expressions of lane, warp and the register of an unrolled loop.

use super::text::Text;
use super::{Printer, mentions};
use crate::gpu::layout::{Axis, Layout, Of};
use crate::gpu::program::{Expr, FragmentId};

/// A register of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    /// The only one, or a known one.
    At(u32),
    /// That of the loop over `r`, which goes by this step.
    Loop(u32),
}

impl Register {
    /// The name or number, `more` further on.
    pub fn plus(self, more: u32) -> Text {
        match self {
            Register::At(at) => Text::int(at + more),
            Register::Loop(_) => Text::atom("r").plus(&Text::int(more)),
        }
    }
}

/// `Σ number / place % size * factor`: the digits of a number, each times a factor. `total` numbers there are, of which every
/// `step`th is asked for.
pub(super) fn digits_text(name: &str, digits: &[[u32; 3]], total: u32, step: u32) -> Text {
    let mut parts: Vec<[u32; 3]> = Vec::new();
    for &[place, size, factor] in digits.iter().filter(|[_, _, factor]| *factor > 0) {
        match parts.last_mut() {
            Some([p, s, f]) if *p * *s == place && *f * *s == factor => *s *= size,
            _ => parts.push([place, size, factor]),
        }
    }
    let name = Text::atom(name);
    parts.iter().fold(Text::int(0), |sum, &[place, size, factor]| {
        if place * size <= step {
            return sum; // 0 at every step
        }
        let part = if place == 1 { name.clone() } else { Text::product(&name, '/', &Text::int(place)) };
        let part = if place * size >= total { part } else { Text::product(&part, '%', &Text::int(size)) };
        sum.plus(&match factor {
            1 => part,
            _ => Text::product(&part, '*', &Text::int(factor)),
        })
    })
}

/// The same of a known number.
fn digits_value(number: u32, digits: &[[u32; 3]]) -> u32 {
    digits.iter().map(|&[place, size, factor]| number / place % size * factor).sum()
}

pub(super) fn digits_of_register(layout: &Layout, digits: &[[u32; 3]], register: Register) -> Text {
    match register {
        Register::At(at) => Text::int(digits_value(at, digits)),
        Register::Loop(step) => digits_text("r", digits, layout.registers(), step),
    }
}

impl Printer<'_> {
    /// The row or column of a register.
    pub(super) fn coordinate(&mut self, layout: &Layout, axis: Axis, register: Register) -> Text {
        let digits =
            |of| -> Vec<[u32; 3]> { layout.digits(of).map(|(place, d)| [place, d.size, d.stride(axis)]).collect() };
        let lane = digits_text("lane", &digits(Of::Lane), 32, 1);
        let warp = digits_text("warp", &digits(Of::Warp), self.warps(), 1);
        let thread = lane.plus(&warp);
        let base = if thread.value.is_some() { thread } else { Text::atom(self.base(axis, thread.text)) };
        base.plus(&digits_of_register(layout, &digits(Of::Register), register))
    }

    /// The name of where a thread starts.
    fn base(&mut self, axis: Axis, text: String) -> String {
        let own = |a: &(Axis, String)| a.0 == axis;
        let found = self.bases.iter().filter(|base| own(base)).position(|(_, known)| *known == text);
        let number = found.unwrap_or_else(|| {
            self.bases.push((axis, text));
            self.bases.iter().filter(|base| own(base)).count() - 1
        });
        base_name(axis, number)
    }

    /// Opens the loop over the registers of a layout, unless there is one register.
    pub(super) fn registers(&mut self, layout: &Layout, step: u32) -> Register {
        let count = layout.registers();
        if count <= step {
            return Register::At(0);
        }
        self.out.unrolled("r", count, step);
        Register::Loop(step)
    }

    /// Leaves out registers that hold rows beyond the tile in every thread, such as the lower eight of a fragment of a few rows.
    pub(super) fn skip_rows_beyond(&mut self, layout: &Layout, rows: u32, register: Register) {
        if register == Register::At(0) {
            return;
        }
        for (place, size, held) in layout.rows_held(rows) {
            let digit = digits_text("r", &[[place, size, 1]], layout.registers(), 1);
            self.out.line(format!("if ({}) continue;", Text::compare(&digit, ">=", &Text::int(held)).text));
        }
    }

    /// Closes that loop.
    pub(super) fn end(&mut self, register: Register) {
        match register {
            Register::At(_) => {}
            Register::Loop(_) => self.out.close(),
        }
    }

    /// Names the coordinates of a register, where asked for.
    pub(super) fn name_coordinates(&mut self, layout: &Layout, register: Register, wanted: [bool; 2]) {
        for (axis, name, wanted) in [(Axis::Down, "row", wanted[0]), (Axis::Across, "column", wanted[1])] {
            if wanted {
                let text = self.coordinate(layout, axis, register).text;
                self.out.line(format!("const int {name} = {text};"));
            }
        }
    }

    /// Along which axes the layout reaches past the tile.
    pub(super) fn padded(&self, fragment: FragmentId) -> [bool; 2] {
        let fragment = &self.program.fragments[fragment.index()];
        [
            fragment.layout.extent(Axis::Down) > fragment.extents[0],
            fragment.layout.extent(Axis::Across) > fragment.extents[1],
        ]
    }

    /// The register of `fragment` that lines up with a register of a layout of these extents.
    pub(super) fn lined_up(&self, layout: &Layout, extents: [u32; 2], fragment: FragmentId, at: Register) -> Text {
        let operand = &self.program.fragments[fragment.index()];
        if operand.layout == *layout {
            return at.plus(0);
        }
        if operand.layout.registers() == 1 {
            return Text::int(0);
        }
        let axes: Vec<Axis> = [Axis::Down, Axis::Across]
            .into_iter()
            .zip(operand.extents.iter().zip(extents))
            .filter(|(_, (own, whole))| **own != *whole)
            .map(|(axis, _)| axis)
            .collect();
        digits_of_register(layout, &layout.register_of_slice(&axes), at)
    }

    /// The condition that this thread is the first of those that hold the same: digits of lane and warp that are 0.
    pub(super) fn first_replica(&self, lane: Vec<(u32, u32)>, warp: Vec<(u32, u32)>) -> Option<String> {
        let checks = |name: &str, digits: Vec<(u32, u32)>, total: u32| -> Vec<String> {
            let mut merged: Vec<(u32, u32)> = Vec::new();
            for (place, size) in digits {
                match merged.last_mut() {
                    Some((p, s)) if *p * *s == place => *s *= size,
                    _ => merged.push((place, size)),
                }
            }
            let text = |&(place, size): &(u32, u32)| digits_text(name, &[[place, size, 1]], total, 1).text;
            merged.iter().map(|digit| format!("{} == 0", text(digit))).collect()
        };
        let mut all = checks("lane", lane, 32);
        all.extend(checks("warp", warp, self.warps()));
        (!all.is_empty()).then(|| all.join(" && "))
    }
}

/// What the base of this number is called.
pub(super) fn base_name(axis: Axis, number: usize) -> String {
    match axis {
        Axis::Down => format!("row_{number}"),
        Axis::Across => format!("column_{number}"),
    }
}

/// Which coordinates these expressions depend on.
pub(super) fn wanted<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> [bool; 2] {
    exprs.into_iter().fold([false; 2], |[row, column], expr| {
        [row || mentions(expr, Axis::Down), column || mentions(expr, Axis::Across)]
    })
}
