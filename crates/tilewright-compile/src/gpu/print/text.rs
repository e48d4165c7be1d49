//! Pieces of source text: lines with indentation, and expressions that know when they need parentheses.

/// How tightly an expression binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    /// Choices, bit and logical operations.
    Loose,
    /// Comparisons.
    Compare,
    /// Sums.
    Sum,
    /// Products.
    Product,
    /// Names, calls and unsigned numbers.
    Atom,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Text {
    pub text: String,
    level: Level,
    /// Its value, when it is a number.
    pub value: Option<f64>,
}

impl Text {
    pub fn atom(text: impl Into<String>) -> Text {
        Text { text: text.into(), level: Level::Atom, value: None }
    }

    pub fn loose(text: impl Into<String>) -> Text {
        Text { text: text.into(), level: Level::Loose, value: None }
    }

    /// `-a`, `!a`, `~a`: stands first in a sum only.
    pub fn prefix(text: impl Into<String>) -> Text {
        Text { text: text.into(), level: Level::Sum, value: None }
    }

    /// A number; a sign makes it a sum.
    pub fn number(text: impl Into<String>, value: f64) -> Text {
        let text = text.into();
        let level = if text.starts_with('-') { Level::Sum } else { Level::Atom };
        Text { text, level, value: Some(value) }
    }

    pub fn int(value: u32) -> Text {
        Text::number(value.to_string(), f64::from(value))
    }

    pub fn is_zero(&self) -> bool {
        self.value == Some(0.0)
    }

    /// Its value, when it is a number above 0.
    pub fn positive(&self) -> Option<u32> {
        self.value.filter(|&x| x >= 1.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0).map(|x| x as u32)
    }

    /// As an operand of something that binds this tightly.
    pub fn at(&self, level: Level) -> String {
        if self.level >= level { self.text.clone() } else { format!("({})", self.text) }
    }

    pub fn tight(&self) -> String {
        self.at(Level::Atom)
    }

    /// `a + b` of integers.
    pub fn plus(&self, other: &Text) -> Text {
        match (self, other) {
            (a, b) if a.is_zero() => b.clone(),
            (a, b) if b.is_zero() => a.clone(),
            (a, b) => {
                let text = format!("{} + {}", a.at(Level::Sum), b.at(Level::Sum));
                Text { text, level: Level::Sum, value: None }
            }
        }
    }

    pub fn sum(a: &Text, sign: char, b: &Text) -> Text {
        let text = format!("{} {sign} {}", a.at(Level::Sum), b.at(Level::Product));
        Text { text, level: Level::Sum, value: None }
    }

    pub fn product(a: &Text, sign: char, b: &Text) -> Text {
        let text = format!("{} {sign} {}", a.at(Level::Product), b.tight());
        Text { text, level: Level::Product, value: None }
    }

    /// `a * factor`, for a factor that is known.
    pub fn times(&self, factor: u32) -> Text {
        match (self.value, factor) {
            (_, 0) => Text::int(0),
            (_, 1) => self.clone(),
            (Some(value), _) => Text::int(value as u32 * factor),
            (None, _) => match self.text.rsplit_once(" * ").and_then(|(a, b)| Some((a, b.parse::<u32>().ok()?))) {
                Some((a, b)) if self.level == Level::Product => {
                    Text { text: format!("{a} * {}", b * factor), ..self.clone() }
                }
                _ => Text::product(self, '*', &Text::int(factor)),
            },
        }
    }

    pub fn infix(a: &Text, sign: &str, b: &Text) -> Text {
        Text::loose(format!("{} {sign} {}", a.tight(), b.tight()))
    }

    pub fn compare(a: &Text, sign: &str, b: &Text) -> Text {
        let text = format!("{} {sign} {}", a.at(Level::Sum), b.at(Level::Sum));
        Text { text, level: Level::Compare, value: None }
    }

    /// All of these, which are comparisons.
    pub fn all(checks: &[Text]) -> Option<Text> {
        match checks {
            [] => None,
            [one] => Some(one.clone()),
            _ => {
                let checks: Vec<String> = checks.iter().map(|check| check.at(Level::Compare)).collect();
                Some(Text::loose(checks.join(" && ")))
            }
        }
    }

    pub fn call(name: &str, operands: &[&Text]) -> Text {
        let operands: Vec<&str> = operands.iter().map(|t| t.text.as_str()).collect();
        Text::atom(format!("{name}({})", operands.join(", ")))
    }

    pub fn choice(cond: &Text, yes: &Text, no: &Text) -> Text {
        Text::loose(format!("{} ? {} : {}", cond.at(Level::Compare), yes.at(Level::Sum), no.at(Level::Sum)))
    }
}

/// As much of a line as there is room for, up to a comma or an operator, and the rest.
fn broken(line: &str, room: usize) -> (&str, &str) {
    if line.chars().count() <= room {
        return (line, "");
    }
    let breaks = |mark: &str, after: usize| line.match_indices(mark).map(|(at, _)| at + after).collect::<Vec<_>>();
    let all = [(", ", 1), (" = ", 2), (" && ", 0), (" + ", 0), (" ? ", 0), (" : ", 0)];
    let places = all.into_iter().flat_map(|(mark, after)| breaks(mark, after));
    match places.filter(|&at| at <= room && at > room / 3).max() {
        Some(at) => (&line[..at], line[at..].trim_start()),
        None => (line, ""),
    }
}

/// Lines of source.
#[derive(Default)]
pub(super) struct Lines {
    pub text: String,
    depth: usize,
}

/// Lines are broken here, where they can be.
const WIDTH: usize = 120;

impl Lines {
    /// A line; a long statement goes on in the next ones, indented once more.
    pub fn line(&mut self, line: impl AsRef<str>) {
        let mut line = line.as_ref();
        let mut depth = self.depth;
        loop {
            let room = WIDTH.saturating_sub(4 * depth);
            let (now, rest) =
                if line.starts_with('#') || line.contains("//") { (line, "") } else { broken(line, room) };
            if !now.is_empty() {
                self.text.extend(std::iter::repeat_n("    ", depth));
            }
            self.text.push_str(now);
            self.text.push('\n');
            if rest.is_empty() {
                return;
            }
            (line, depth) = (rest, self.depth + 1);
        }
    }

    /// A line that opens a block.
    pub fn open(&mut self, line: impl AsRef<str>) {
        self.line(format!("{} {{", line.as_ref()).trim_start());
        self.depth += 1;
    }

    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// The end of one block and the start of the next.
    pub fn turn(&mut self, line: &str) {
        self.depth -= 1;
        self.line(format!("}} {line} {{"));
        self.depth += 1;
    }

    /// A loop that is unrolled.
    pub fn unrolled(&mut self, name: &str, count: u32, step: u32) {
        self.line("#pragma unroll");
        let next = if step == 1 { format!("++{name}") } else { format!("{name} += {step}") };
        self.open(format!("for (int {name} = 0; {name} < {count}; {next})"));
    }
}
