//! Where the elements of a tile are among the registers of a block's threads.
//!
//! A tile is seen as a matrix: its last axis across, all others down. A layout is a list of mixed-radix digits: the register,
//! lane and warp numbers are taken apart into digits, and each digit moves the coordinate down or across by its stride. All
//! layouts that matrix units and vector loads want can be said so, and slices, products with matrix tiles and reshapes are
//! rules on digits.
//!
//! A layout may reach past the tile (padding: what is there is never stored, and folds leave it out), and digits of stride
//! 0 are replicas: threads that hold the same elements.

use std::fmt;

/// Lanes of a warp (simdgroup).
pub const LANES: u32 = 32;

/// Whose number a digit is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Of {
    /// The register of a thread's array.
    Register,
    /// The lane of the warp.
    Lane,
    /// The warp of the block.
    Warp,
}

/// One digit, and how far one step of it leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digit {
    /// Whose number.
    pub of: Of,
    /// How many values it takes.
    pub size: u32,
    /// Rows of the matrix that a step of it moves down.
    pub down: u32,
    /// Columns that it moves across.
    pub across: u32,
}

/// Which elements each thread holds; see the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// For each of register, lane and warp, least significant first; sizes of lanes multiply to 32, of warps to the block's.
    digits: Vec<Digit>,
}

/// A direction of the matrix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Axis {
    /// Along rows: the row number changes.
    Down,
    /// Along columns.
    Across,
}

impl Digit {
    /// A digit of registers.
    pub const fn register(size: u32, down: u32, across: u32) -> Digit {
        Digit { of: Of::Register, size, down, across }
    }

    /// A digit of lanes.
    pub const fn lane(size: u32, down: u32, across: u32) -> Digit {
        Digit { of: Of::Lane, size, down, across }
    }

    /// A digit of warps.
    pub const fn warp(size: u32, down: u32, across: u32) -> Digit {
        Digit { of: Of::Warp, size, down, across }
    }

    /// Its stride along `axis`.
    pub fn stride(&self, axis: Axis) -> u32 {
        match axis {
            Axis::Down => self.down,
            Axis::Across => self.across,
        }
    }
}

impl Layout {
    /// From digits, least significant first; digits of size 1 are left out.
    pub fn new(digits: impl IntoIterator<Item = Digit>) -> Layout {
        Layout { digits: digits.into_iter().filter(|d| d.size > 1).collect() }
    }

    /// Every thread holds the one element.
    pub fn replicated(warps: u32) -> Layout {
        Layout::new([Digit::lane(LANES, 0, 0), Digit::warp(warps, 0, 0)])
    }

    /// Rows of `columns` elements, `vector` neighbours a register group; lanes go across first, then down, warps down first.
    pub fn blocked(rows: u32, columns: u32, vector: u32, warps: u32) -> Layout {
        let chunks = columns.div_ceil(vector).max(1);
        let lanes_across = chunks.next_power_of_two().min(LANES);
        let lanes_down = LANES / lanes_across;
        let warps_down = rows.div_ceil(lanes_down).max(1).next_power_of_two().min(warps);
        let warps_across = chunks.div_ceil(lanes_across).next_power_of_two().min(warps / warps_down);
        let across = chunks.div_ceil(lanes_across * warps_across);
        let down = rows.div_ceil(lanes_down * warps_down).max(1);
        let step_across = vector * lanes_across * warps_across;
        let step_down = lanes_down * warps_down;
        Layout::new([
            Digit::register(vector, 0, 1),
            Digit::register(across, 0, step_across),
            Digit::register(down, step_down, 0),
            Digit::lane(lanes_across, 0, vector),
            Digit::lane(lanes_down, 1, 0),
            Digit::warp(warps_down, lanes_down, 0),
            Digit::warp(warps_across, 0, vector * lanes_across),
            Digit::warp(warps / warps_down / warps_across, 0, 0),
        ])
    }

    /// The digits of one of register, lane and warp, least significant first, each with the product of the sizes before it.
    pub fn digits(&self, of: Of) -> impl Iterator<Item = (u32, Digit)> + '_ {
        let own = self.digits.iter().filter(move |d| d.of == of);
        own.scan(1, |before, &digit| {
            let place = *before;
            *before *= digit.size;
            Some((place, digit))
        })
    }

    /// Registers of a thread.
    pub fn registers(&self) -> u32 {
        self.digits(Of::Register).map(|(_, d)| d.size).product()
    }

    /// How many rows or columns it reaches over; at least those of the tile.
    pub fn extent(&self, axis: Axis) -> u32 {
        1 + self.digits.iter().map(|d| (d.size - 1) * d.stride(axis)).sum::<u32>()
    }

    /// The layout of the matrix folded to one column (`Across`) or one row (`Down`): what a reduction along `axis` leaves, and
    /// what broadcasts back along it.
    pub fn without(&self, axis: Axis) -> Layout {
        let digits = self.digits.iter().filter_map(|&digit| {
            let mut left = digit;
            match axis {
                Axis::Down => left.down = 0,
                Axis::Across => left.across = 0,
            }
            let moved = digit.stride(axis) > 0;
            let stays = left.down + left.across > 0;
            (digit.of != Of::Register || !moved || stays).then_some(left)
        });
        Layout::new(merged(digits.collect()))
    }

    /// The register of the slice [`without`](Self::without) these axes that lines up with register `r` of this layout: divisor,
    /// modulus and factor of the parts of the sum `r / divisor % modulus * factor`.
    pub fn register_of_slice(&self, without: &[Axis]) -> Vec<[u32; 3]> {
        let mut at = 1;
        let mut parts = Vec::new();
        for (place, digit) in self.digits(Of::Register) {
            let moved = without.iter().any(|&axis| digit.stride(axis) > 0);
            let stays =
                [Axis::Down, Axis::Across].iter().any(|axis| !without.contains(axis) && digit.stride(*axis) > 0);
            if !moved || stays {
                parts.push([place, digit.size, at]);
                at *= digit.size;
            }
        }
        parts
    }

    /// Digits of registers that lead below the first `rows` rows in every thread: place, size, and how many of its values do not.
    pub fn rows_held(&self, rows: u32) -> Vec<(u32, u32, u32)> {
        let held = |digit: &Digit| rows.div_ceil(digit.down);
        let beyond = self.digits(Of::Register).filter(|(_, digit)| digit.down > 0 && held(digit) < digit.size);
        beyond.map(|(place, digit)| (place, digit.size, held(&digit))).collect()
    }

    /// The same with neighbours along a row in neighbouring registers, where a thread has some.
    pub fn neighbours_first(&self) -> Layout {
        let near = |digit: &Digit| digit.of == Of::Register && (digit.down, digit.across) == (0, 1);
        let (first, rest): (Vec<Digit>, Vec<Digit>) = self.digits.iter().partition(|digit| near(digit));
        Layout { digits: first.into_iter().chain(rest).collect() }
    }

    fn split(&self, of: Of) -> impl Iterator<Item = Digit> + '_ {
        self.digits.iter().copied().filter(move |d| d.of == of)
    }

    /// Digits of lanes or warps that no coordinate depends on: place, size.
    pub fn replicas(&self, of: Of) -> Vec<(u32, u32)> {
        self.digits(of).filter(|(_, d)| d.down + d.across == 0).map(|(place, d)| (place, d.size)).collect()
    }

    /// The same elements in the same row-major order, as rows of `to` columns instead of `from`. `None` when no list of digits
    /// says it: some digit would step over the end of a row.
    pub fn reshape(&self, from: u32, to: u32) -> Option<Layout> {
        if from == to {
            return Some(self.clone());
        }
        if self.extent(Axis::Across) != from && self.extent(Axis::Down) > 1 {
            return None; // padding
        }
        let mut digits = Vec::new();
        for digit in &self.digits {
            let stride = digit.down * from + digit.across;
            let mut push = |size, down, across| digits.push(Digit { of: digit.of, size, down, across });
            if stride == 0 || stride * digit.size <= to {
                push(digit.size, 0, stride);
            } else if stride.is_multiple_of(to) {
                push(digit.size, stride / to, 0);
            } else if to.is_multiple_of(stride) && digit.size.is_multiple_of(to / stride) {
                push(to / stride, 0, stride);
                push(digit.size / (to / stride), 1, 0);
            } else {
                return None;
            }
        }
        let reshaped = Layout::new(digits);
        (reshaped.extent(Axis::Across) <= to).then_some(reshaped)
    }

    /// The layout of words whose `codes` codes this layout holds side by side in registers: `[.., n * codes]` to `[.., n]`.
    pub fn of_words(&self, codes: u32) -> Option<Layout> {
        let mut left = codes;
        let mut digits = Vec::new();
        for digit in &self.digits {
            match *digit {
                Digit { of: Of::Register, size, down: 0, across } if left > 1 && across * left == codes => {
                    let taken = size.min(left);
                    if !left.is_multiple_of(taken) || !size.is_multiple_of(taken) {
                        return None;
                    }
                    left /= taken;
                    digits.push(Digit::register(size / taken, 0, 1));
                }
                Digit { across, .. } if across.is_multiple_of(codes) => {
                    digits.push(Digit { across: across / codes, ..*digit });
                }
                _ => return None,
            }
        }
        (left == 1).then(|| Layout::new(digits))
    }
}

/// Neighbouring replicas of one kind as one digit, so that equal layouts are equal values.
fn merged(digits: Vec<Digit>) -> Vec<Digit> {
    let mut out: Vec<Digit> = Vec::with_capacity(digits.len());
    for of in [Of::Register, Of::Lane, Of::Warp] {
        let mut open: Option<Digit> = None;
        for digit in digits.iter().copied().filter(|d| d.of == of) {
            match &mut open {
                Some(last) if last.down + last.across + digit.down + digit.across == 0 => last.size *= digit.size,
                _ => out.extend(open.replace(digit)),
            }
        }
        out.extend(open);
    }
    out
}

impl fmt::Display for Layout {
    /// Such as `register 2:+1c 2:+8r, lane 4:+2c 8:+1r, warp 4:+16r`: sizes and steps of the digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (of, name) in [(Of::Register, "register"), (Of::Lane, "lane"), (Of::Warp, "warp")] {
            let mut word = name;
            for digit in self.split(of) {
                let separator = if word.is_empty() { "" } else { comma };
                write!(f, "{separator}{word} {}:", digit.size)?;
                match (digit.down, digit.across) {
                    (0, 0) => write!(f, "=")?,
                    (0, across) => write!(f, "+{across}c")?,
                    (down, 0) => write!(f, "+{down}r")?,
                    (down, across) => write!(f, "+{down}r{across}c")?,
                }
                (word, comma) = ("", ", ");
            }
        }
        Ok(())
    }
}
