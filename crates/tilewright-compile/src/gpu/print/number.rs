//! Numbers of each element type, and what elementwise ops are in C.

use super::language::Language;
use super::text::Text;
use tilewright_ir::Elem;
use tilewright_ir::op::Elementwise;

/// What holds an element of this type in registers.
pub(super) fn held(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => "float",
        Elem::I32 | Elem::I8 => "int",
        Elem::U32 | Elem::U8 => "unsigned",
        Elem::Bool => "bool",
    }
}

/// The letter of names of this type.
pub(super) fn letter(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => "x",
        Elem::I32 | Elem::I8 => "i",
        Elem::U32 | Elem::U8 => "u",
        Elem::Bool => "b",
    }
}

/// The nearest number of a type.
pub(super) fn literal(language: &Language, elem: Elem, value: f64) -> Text {
    let value = elem.nearest(value);
    let text = match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => {
            let infinity = language.infinity;
            match value {
                x if x.is_nan() => return Text::atom(language.nan),
                f64::INFINITY => return Text::atom(infinity),
                f64::NEG_INFINITY => return Text::number(format!("-{infinity}"), value),
                x => format!("{:?}f", x as f32),
            }
        }
        Elem::I32 if value == f64::from(i32::MIN) => return Text::loose("-2147483647 - 1"),
        Elem::I32 | Elem::I8 => format!("{value}"),
        Elem::U32 | Elem::U8 => format!("{value}u"),
        Elem::Bool => (value != 0.0).to_string(),
    };
    Text::number(text, value)
}

/// An integer brought back to its width.
fn wrapped(elem: Elem, text: Text) -> Text {
    match elem {
        Elem::I8 => Text::atom(format!("(int)(signed char)({})", text.text)),
        Elem::U8 => Text::infix(&text, "&", &Text::atom("0xffu")),
        Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::I32 | Elem::U32 | Elem::Bool => text,
    }
}

/// `a op b`, which wraps: of 32 bits, signed ones by way of unsigned ones, where overflow has a meaning.
fn wrapping(elem: Elem, a: &Text, sign: char, b: &Text) -> Text {
    let plain = |a: &Text, b: &Text| if sign == '*' { Text::product(a, sign, b) } else { Text::sum(a, sign, b) };
    if elem != Elem::I32 {
        return wrapped(elem, plain(a, b));
    }
    let name = match sign {
        '+' => "add_i32",
        '-' => "sub_i32",
        _ => "mul_i32",
    };
    Text::call(name, &[a, b])
}

/// Whether signed arithmetic may take C's operators: uniform numbers are indices and bounds, which do not overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arithmetic {
    /// Elements: 32-bit integers wrap.
    Wrapping,
    /// Plain operators.
    Plain,
}

/// An op whose first operand (of a constant: the result) has type `of`.
pub(super) fn elementwise(language: &Language, arithmetic: Arithmetic, op: &Elementwise, of: Elem, x: &[Text]) -> Text {
    use Elementwise::*;
    let float = of.is_float();
    let one = |name: &'static str| Text::call(language.function(name), &[&x[0]]);
    let two = |name: &'static str| Text::call(language.function(name), &[&x[0], &x[1]]);
    let operator = |sign: char| {
        let plain = match sign {
            '*' => Text::product(&x[0], sign, &x[1]),
            '+' if !float => x[0].plus(&x[1]),
            _ => Text::sum(&x[0], sign, &x[1]),
        };
        match (float, arithmetic, of) {
            (true, _, _) | (false, Arithmetic::Plain, Elem::I32) => plain,
            (false, _, _) => wrapping(of, &x[0], sign, &x[1]),
        }
    };
    // Division by a number that is known and above 0 needs no care.
    let division = |sign: char, name: &str| match (float, x[1].positive()) {
        (true, _) if sign == '/' => Text::product(&x[0], '/', &x[1]),
        (true, _) => two("fmod"),
        (false, Some(_)) => Text::product(&x[0], sign, &x[1]),
        (false, None) if of == Elem::I32 || of == Elem::I8 => {
            wrapped(of, Text::call(&format!("{name}_i32"), &[&x[0], &x[1]]))
        }
        (false, None) => Text::call(&format!("{name}_u32"), &[&x[0], &x[1]]),
    };
    let bits = |sign: &str| match (of, sign) {
        (Elem::Bool, "^") => Text::compare(&x[0], "!=", &x[1]),
        (Elem::Bool, _) => Text::infix(&x[0], &sign.repeat(2), &x[1]),
        _ => Text::infix(&x[0], sign, &x[1]),
    };
    let width = 8 * of.bytes() as u32;
    let amount = || match x[1].value {
        Some(by) => Text::int((by as i64).rem_euclid(i64::from(width)) as u32),
        None => Text::infix(&x[1], "&", &Text::int(width - 1)),
    };
    match op {
        Constant { value, elem } => literal(language, *elem, value.0),
        Neg if float => Text::prefix(format!("-{}", x[0].tight())),
        Neg if arithmetic == Arithmetic::Plain && of == Elem::I32 => Text::prefix(format!("-{}", x[0].tight())),
        Neg if of == Elem::U32 || of == Elem::U8 => wrapping(of, &Text::atom("0u"), '-', &x[0]),
        Neg => wrapping(of, &Text::atom("0"), '-', &x[0]),
        Not if of == Elem::Bool => Text::prefix(format!("!{}", x[0].tight())),
        Not => wrapped(of, Text::prefix(format!("~{}", x[0].tight()))),
        Abs if float => one("fabs"),
        Abs if of == Elem::U32 || of == Elem::U8 => x[0].clone(),
        Abs => wrapped(of, Text::call("abs_i32", &[&x[0]])),
        Exp2 => one("exp2"),
        Log2 => one("log2"),
        Tanh => one("tanh"),
        TanhCoarse => one("tanh_coarse"),
        Rsqrt => one("rsqrt"),
        Recip => Text::product(&Text::atom("1.0f"), '/', &x[0]),
        Round => one("rint"),
        Trunc => one("trunc"),
        Add => operator('+'),
        Sub => operator('-'),
        Mul => operator('*'),
        Div => division('/', "div"),
        Rem => division('%', "rem"),
        Max if float => two("fmax"),
        Min if float => two("fmin"),
        Max => Text::call("max", &[&x[0], &x[1]]),
        Min => Text::call("min", &[&x[0], &x[1]]),
        And => bits("&"),
        Or => bits("|"),
        Xor => bits("^"),
        Shl if of == Elem::I32 || of == Elem::I8 => {
            let up = format!("(int)((unsigned){} << {})", x[0].tight(), amount().tight());
            wrapped(of, Text::atom(up))
        }
        Shl => wrapped(of, Text::infix(&x[0], "<<", &amount())),
        Shr => Text::infix(&x[0], ">>", &amount()),
        Lt => Text::compare(&x[0], "<", &x[1]),
        Le => Text::compare(&x[0], "<=", &x[1]),
        Gt => Text::compare(&x[0], ">", &x[1]),
        Ge => Text::compare(&x[0], ">=", &x[1]),
        Eq => Text::compare(&x[0], "==", &x[1]),
        Ne => Text::compare(&x[0], "!=", &x[1]),
        Select => Text::choice(&x[0], &x[1], &x[2]),
        Cast { to } => cast(language, of, *to, &x[0]),
        Bitcast { to } => bitcast(language, of, *to, &x[0]),
    }
}

/// The nearest value of another type.
fn cast(language: &Language, of: Elem, to: Elem, x: &Text) -> Text {
    let rounded = |x: &Text| match to {
        Elem::F16 => Text::call("round_f16", &[x]),
        Elem::Bf16 => Text::call("round_bf16", &[x]),
        Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => x.clone(),
    };
    if let (Some(value), true) = (x.value, to != Elem::Bool) {
        return literal(language, to, if of.is_float() { to.nearest(value) } else { to.wrap(value as i64) });
    }
    match (of, to) {
        (a, b) if a == b && !a.is_float() => x.clone(),
        (Elem::F32 | Elem::F16 | Elem::Bf16, Elem::F32 | Elem::F16 | Elem::Bf16) => rounded(x),
        (Elem::F32 | Elem::F16 | Elem::Bf16, _) => Text::call(&format!("to_{}", to.name()), &[x]),
        (_, Elem::F32 | Elem::F16 | Elem::Bf16) => rounded(&Text::atom(format!("(float){}", x.tight()))),
        (Elem::Bool, Elem::I8 | Elem::U8) => Text::atom(format!("({}){}", held(to), x.tight())),
        (_, Elem::I32 | Elem::U32 | Elem::Bool) if held(of) == held(to) => x.clone(),
        (_, Elem::I32 | Elem::U32 | Elem::Bool) => Text::atom(format!("({}){}", held(to), x.tight())),
        (_, Elem::I8 | Elem::U8) if held(of) == held(to) => wrapped(to, x.clone()),
        (_, Elem::I8) => wrapped(to, x.clone()),
        (_, Elem::U8) => wrapped(to, Text::atom(format!("(unsigned){}", x.tight()))),
    }
}

/// The same bits as another type of the same width.
fn bitcast(language: &Language, of: Elem, to: Elem, x: &Text) -> Text {
    match (of, to) {
        (a, b) if a == b => x.clone(),
        (Elem::F32, Elem::I32 | Elem::U32) | (Elem::I32 | Elem::U32, Elem::F32) => {
            Text::call(language.bits(of, to), &[x])
        }
        (Elem::F16, _) => Text::call("low_bf16", &[&Text::call("pack_f16", &[x, &Text::atom("0.0f")])]),
        (Elem::Bf16, _) => Text::call("low_f16", &[&Text::call("pack_bf16", &[x, &Text::atom("0.0f")])]),
        (_, Elem::I8) => wrapped(to, x.clone()),
        (_, Elem::U8) => wrapped(to, Text::atom(format!("(unsigned){}", x.tight()))),
        (Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool, _) => {
            Text::atom(format!("({}){}", held(to), x.tight()))
        }
    }
}
