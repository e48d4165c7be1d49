//! The text of a program, for `tile inspect` and tests.

use super::program::*;
use std::fmt;
use tilewright_ir::Op;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program: {} lanes, {} views", self.lanes, self.views)?;
        for (lane, bits) in &self.constants {
            writeln!(f, "  @{lane} = {bits:#010x}")?;
        }
        block(f, &self.steps, 1)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { fused, loops, unfused, dots } = self;
        let share = 100.0 * f64::from(*fused) / f64::from((fused + unfused).max(1));
        write!(f, "{fused} of {} tile ops fused ({share:.0}%) in {loops} loops, {dots} products", fused + unfused)
    }
}

fn block(f: &mut fmt::Formatter<'_>, steps: &[Step], depth: usize) -> fmt::Result {
    let pad = "  ".repeat(depth);
    for step in steps {
        f.write_str(&pad)?;
        match step {
            Step::ProgramId { axis, dst } => writeln!(f, "@{dst} = program_id {axis}")?,
            Step::ProgramCount { axis, dst } => writeln!(f, "@{dst} = program_count {axis}")?,
            Step::ViewLen { view, axis, dst } => writeln!(f, "@{dst} = len v{view} axis {axis}")?,
            Step::ViewAt { view, axis, index, dst } => writeln!(f, "v{dst} = at v{view} axis {axis} [@{index}]")?,
            Step::Limit { view, axis, first, last, dst } => {
                writeln!(f, "v{dst} = limit v{view} axis {axis} [@{first}, @{last})")?
            }
            Step::Load { window, dst } => writeln!(f, "@{dst} = load {window}")?,
            Step::Gather { window, axis, indices, dst } => {
                writeln!(f, "@{dst} = gather {window} axis {axis} at @{indices}")?
            }
            Step::Store { window, src } => writeln!(f, "store @{src} to {window}")?,
            Step::Vector(v) => {
                writeln!(f, "vector [{}, {}] by {} rows", v.rows, v.cols, v.block_rows)?;
                for op in &v.ops {
                    writeln!(f, "{pad}  {op}")?;
                }
            }
            Step::Pair { src, dst, rows, columns } => writeln!(f, "@{dst} = pair [{rows}, {columns}] @{src}")?,
            Step::Pack(Pack { source, transposed, pairs, k, n, keep, dst }) => {
                let how =
                    format!("{}{}", if *transposed { " transposed" } else { "" }, if *pairs { " pairs" } else { "" });
                let kept = keep.map_or(String::new(), |keep| format!(" where @{keep}"));
                writeln!(f, "@{dst} = pack [{k}, {n}]{how} {source}{kept}")?
            }
            Step::Dot(Dot { a, b, c, m, n, k, accumulate, pairs }) => {
                let (add, pairs) = (if *accumulate { "+" } else { "" }, if *pairs { " of pairs" } else { "" });
                writeln!(f, "@{c} {add}= dot [{m}, {k}] x [{k}, {n}]{pairs} @{a} @{b}")?
            }
            Step::DotRows(DotRows { a, b, transposed, c, m, n, k, accumulate, by, .. }) => {
                let (add, turned) = (if *accumulate { "+" } else { "" }, if *transposed { " transposed" } else { "" });
                let by = match by {
                    Arithmetic::Numbers => "",
                    Arithmetic::Pairs => " of pairs",
                    Arithmetic::Bytes => " of bytes",
                };
                writeln!(f, "@{c} {add}= dot [{m}, {k}] x [{k}, {n}]{by} @{a}{turned} {b}")?
            }
            Step::Decode { rows, count, columns, dst } => writeln!(f, "@{dst} = decode [{count}, {columns}] {rows}")?,
            Step::Transpose { src, dst, outer, rows, cols } => {
                writeln!(f, "@{dst} = transpose [{outer}, {rows}, {cols}] @{src}")?
            }
            Step::Reduce { op, src, dst, outer, extent, inner, .. } => {
                writeln!(f, "@{dst} = {op:?} [{outer}, {extent}, {inner}] @{src}")?
            }
            Step::Broadcast { src, dst, from, to } => writeln!(f, "@{dst} = broadcast {from:?} to {to:?} @{src}")?,
            Step::Unpack { src, dst, words, bits } => writeln!(f, "@{dst} = unpack {words} by {bits} bits @{src}")?,
            Step::Copy { src, dst, lanes } => writeln!(f, "@{dst} = copy {lanes} @{src}")?,
            Step::For { first, last, step, counter, body } => {
                writeln!(f, "for @{counter} in @{first}..@{last} by @{step}")?;
                block(f, body, depth + 1)?;
            }
            Step::If { cond, then, otherwise } => {
                writeln!(f, "if @{cond}")?;
                block(f, then, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{pad}else")?;
                    block(f, otherwise, depth + 1)?;
                }
            }
        }
    }
    Ok(())
}

impl fmt::Display for PackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackSource::Window(window) => write!(f, "{window}"),
            PackSource::Gather { window, axis, indices } => write!(f, "gather {window} axis {axis} at @{indices}"),
            PackSource::Lanes(src) => write!(f, "@{src}"),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rows::Stored(source) => write!(f, "{source}"),
            Rows::Codes(Codes { words, scales, biases, bits, group, rounds }) => {
                write!(f, "{rounds} from {bits} bits {words}, scales {scales}, biases {biases}, groups of {group}")
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<String> = self.origins.iter().map(|o| format!("@{o}")).collect();
        write!(f, "v{}[{}] {:?}", self.view, origins.join(", "), self.extents)
    }
}

impl fmt::Display for MicroOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.kind {
            MicroKind::Map { op, .. } => format!("{op:?}").to_lowercase(),
            MicroKind::Cast { to, .. } => format!("cast {to}"),
            MicroKind::Bitcast { to, .. } => format!("bitcast {to}"),
            MicroKind::Copy => "copy".to_string(),
            MicroKind::Load(window) => format!("load {window}"),
            MicroKind::IotaRow { .. } => "iota rows".to_string(),
            MicroKind::IotaCol => "iota cols".to_string(),
            MicroKind::Weights { sum, pairs } => {
                let pairs = if *pairs { " in pairs" } else { "" };
                let sum = sum.map(|sum| format!(", sum {sum},")).unwrap_or_default();
                format!("weights{pairs}{sum}")
            }
            MicroKind::Masked(masked) => masked.to_string(),
            MicroKind::ScaledMax => "max of product".to_string(),
            MicroKind::FoldRows(_) => "largest of all rows of".to_string(),
            MicroKind::Reduce { op, .. } => format!("{op:?}").split(' ').next().unwrap_or_default().to_lowercase(),
        };
        let count = match &self.kind {
            MicroKind::Map { op, .. } => Op::from(op.clone()).signature().operands.len(),
            MicroKind::Cast { .. }
            | MicroKind::Bitcast { .. }
            | MicroKind::Copy
            | MicroKind::FoldRows(_)
            | MicroKind::Reduce { .. } => 1,
            MicroKind::Load(_) | MicroKind::IotaRow { .. } | MicroKind::IotaCol | MicroKind::Masked(_) => 0,
            MicroKind::ScaledMax => 2,
            MicroKind::Weights { .. } => 3,
        };
        let operands: Vec<String> = self.src.iter().take(count).map(|s| s.place.to_string()).collect();
        write!(
            f,
            "{} {:?} = {name}{}",
            self.dst,
            self.extent,
            operands.iter().map(|o| format!(" {o}")).collect::<String>()
        )
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Masked { x, scale, bias, bounds, cells, otherwise, max, any } = self;
        write!(f, "masked {x}")?;
        if let Some(scale) = scale {
            write!(f, " * {scale}")?;
        }
        if let Some(Bias { cells, factor, blocks }) = bias {
            write!(f, " + {cells} * {factor}")?;
            if let Some(blocks) = blocks {
                write!(f, " unless {blocks}")?;
            }
        }
        if let Some(Bounds { of, relations }) = bounds {
            for (relation, bound) in relations {
                write!(f, ", if {of} {relation} {}", bound.place)?;
            }
        }
        if let Some(cells) = cells {
            write!(f, ", if {cells}")?;
        }
        write!(f, ", else {otherwise}")?;
        if let Some(max) = max {
            write!(f, ", largest {max}")?;
        }
        if let Some(Any { dst, of }) = any {
            write!(f, ", any {dst}")?;
            if let Some((a, relation, b)) = of {
                write!(f, " where {} {relation} {}", a.place, b.place)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row_stride {
            0 => write!(f, "@{}", self.offset),
            stride => write!(f, "@{}+{stride}r", self.offset),
        }
    }
}
