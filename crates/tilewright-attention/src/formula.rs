//! Numbers of a launch as formulas of the tensors' shapes: one definition for this library's own launches and for what is
//! exported.

use tilewright_runtime::Grid;

/// A number that depends on the tensors of a launch.
///
/// ```
/// use tilewright_attention::formula::{Formula, Numbers};
///
/// const TILES: Formula = Formula::CeilDiv(&Formula::Axis("q", 2), &Formula::Value("queries"));
/// let numbers = Numbers { shapes: &[("q", &[1, 8, 100, 64])], values: &[("queries", 64)] };
/// assert_eq!(TILES.evaluate(&numbers), Ok(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Formula {
    /// Itself.
    Constant(usize),
    /// A specialisation value of the kernel.
    Value(&'static str),
    /// A number of the launch: a scalar parameter of the kernel, or one that only the grid depends on.
    Number(&'static str),
    /// The extent of a tensor parameter along an axis, counted from the outermost.
    Axis(&'static str, usize),
    /// The quotient, rounded up.
    CeilDiv(&'static Formula, &'static Formula),
    /// The quotient, rounded down.
    Div(&'static Formula, &'static Formula),
    /// The product.
    Mul(&'static Formula, &'static Formula),
    /// The smaller one.
    Min(&'static Formula, &'static Formula),
}

/// What the formulas of a launch are evaluated with.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// Shapes of tensor parameters by name.
    pub shapes: &'a [(&'a str, &'a [usize])],
    /// Specialisation values and numbers of the launch by name.
    pub values: &'a [(&'a str, usize)],
}

/// A formula that has no value for the numbers given.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormulaError {
    /// A name, or an axis of a tensor, that nothing was given for.
    #[error("`{name}` is needed for the grid of a launch and was not given")]
    Missing {
        /// Name, or tensor and axis.
        name: String,
    },
    /// A division by zero.
    #[error("the grid of a launch is divided by `{name}`, which is 0; it must be at least 1")]
    Zero {
        /// What was divided by.
        name: String,
    },
    /// More than can be launched.
    #[error("the launch would have {got} programs along one axis; at most 4294967295 fit, split the batch")]
    TooMany {
        /// Programs, or the greatest number if there are more than can be counted.
        got: usize,
    },
}

/// How a language writes the parts of a formula.
pub trait Notation {
    /// A specialisation value.
    fn value(&self, name: &str) -> String;
    /// A number of the launch.
    fn number(&self, name: &str) -> String;
    /// The extent of a tensor.
    fn axis(&self, tensor: &str, axis: usize) -> String;
    /// The function of two numbers that divides and rounds up.
    fn ceil_div(&self) -> &'static str;
}

impl Formula {
    /// Its value.
    ///
    /// # Errors
    /// What it mentions is not given, or a division by zero.
    pub fn evaluate(&self, numbers: &Numbers<'_>) -> Result<usize, FormulaError> {
        let by = |b: &Formula| match b.evaluate(numbers)? {
            0 => Err(FormulaError::Zero { name: b.write(&Plain) }),
            b => Ok(b),
        };
        let found = match self {
            Formula::Constant(n) => Some(*n),
            Formula::Value(name) | Formula::Number(name) => {
                numbers.values.iter().find(|(given, _)| given == name).map(|(_, n)| *n)
            }
            Formula::Axis(tensor, axis) => {
                let shape = numbers.shapes.iter().find(|(given, _)| given == tensor);
                shape.and_then(|(_, shape)| shape.get(*axis)).copied()
            }
            Formula::CeilDiv(a, b) => Some(a.evaluate(numbers)?.div_ceil(by(b)?)),
            Formula::Div(a, b) => Some(a.evaluate(numbers)? / by(b)?),
            Formula::Mul(a, b) => Some(a.evaluate(numbers)?.saturating_mul(b.evaluate(numbers)?)),
            Formula::Min(a, b) => Some(a.evaluate(numbers)?.min(b.evaluate(numbers)?)),
        };
        found.ok_or_else(|| FormulaError::Missing { name: self.write(&Plain) })
    }

    /// Calls `see` with it and all its parts.
    pub fn walk(&self, see: &mut dyn FnMut(&Formula)) {
        see(self);
        match self {
            Formula::Constant(_) | Formula::Value(_) | Formula::Number(_) | Formula::Axis(..) => {}
            Formula::CeilDiv(a, b) | Formula::Div(a, b) | Formula::Mul(a, b) | Formula::Min(a, b) => {
                a.walk(see);
                b.walk(see);
            }
        }
    }

    /// Its text: function calls, `*` and `/`, with parentheses around what is not atomic.
    pub fn write(&self, notation: &dyn Notation) -> String {
        let atom = |formula: &Formula| match formula {
            Formula::Mul(..) | Formula::Div(..) => format!("({})", formula.write(notation)),
            Formula::Constant(_)
            | Formula::Value(_)
            | Formula::Number(_)
            | Formula::Axis(..)
            | Formula::CeilDiv(..)
            | Formula::Min(..) => formula.write(notation),
        };
        match self {
            Formula::Constant(n) => n.to_string(),
            Formula::Value(name) => notation.value(name),
            Formula::Number(name) => notation.number(name),
            Formula::Axis(tensor, axis) => notation.axis(tensor, *axis),
            Formula::CeilDiv(a, b) => {
                format!("{}({}, {})", notation.ceil_div(), a.write(notation), b.write(notation))
            }
            Formula::Div(a, b) => format!("{} / {}", atom(a), atom(b)),
            Formula::Mul(a, b) => format!("{} * {}", atom(a), atom(b)),
            Formula::Min(a, b) => format!("min({}, {})", a.write(notation), b.write(notation)),
        }
    }
}

/// The grid of a launch.
///
/// # Errors
/// A formula without a value, or more programs along an axis than fit 32 bits.
pub fn grid(formulas: &[Formula; 3], numbers: &Numbers<'_>) -> Result<Grid, FormulaError> {
    let mut grid = [0; 3];
    for (to, formula) in grid.iter_mut().zip(formulas) {
        let got = formula.evaluate(numbers)?;
        *to = u32::try_from(got).map_err(|_| FormulaError::TooMany { got })?;
    }
    Ok(grid)
}

/// Every part by its name.
struct Plain;

impl Notation for Plain {
    fn value(&self, name: &str) -> String {
        name.to_string()
    }

    fn number(&self, name: &str) -> String {
        name.to_string()
    }

    fn axis(&self, tensor: &str, axis: usize) -> String {
        format!("{tensor}.shape[{axis}]")
    }

    fn ceil_div(&self) -> &'static str {
        "ceil_div"
    }
}
