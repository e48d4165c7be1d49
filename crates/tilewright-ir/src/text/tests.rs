use super::parse;
use crate::testing::programs;
use crate::verify::verify;

const ALL_FORMS: &str = "\
kernel forms(x: view<f32, 2>, n: i32, out: f32, out y: view<f32, 2>) {
  %0: i32 = constant value=0.0 elem=i32                  @ \"a.rs\":1:2
  %1: f32[2, 3] = load %x, %0, %0 shape=[2, 3]
  %2: i32 = constant value=1.0 elem=i32
  %3: f32[2, 3], %4: i32 = for_range %0, %n, %2, %1, %0  @ \"b.rs\":3:4 in step from \"a.rs\":5:6 in \"outer fn\" from \"a.rs\":7:8 {
    (%5: i32, %6: f32[2, 3], %7: i32)
    %8: f32[2, 3] = mul %6, %out
    %9: i32 = add %5, %7
    yield %8, %9
  }
  %10: bool = lt %4, %n
  if_else %10 {
    store %y, %3, %0, %0
  } else {
  }
}
";

#[test]
fn printing_what_was_parsed_gives_the_same_text() {
    let kernel = parse(ALL_FORMS).unwrap();
    assert_eq!(verify(&kernel), Ok(()));
    assert_eq!(kernel.to_string(), ALL_FORMS);
}

#[test]
fn values_may_have_any_name_and_types_may_be_left_out() {
    let kernel = parse(
        "// adds one\nkernel k(\"my x\": f32, out \"%\\u{1}\": view<f32, 0>) {\n %one = constant value=1 elem=f32\n \
         %\"the sum\" = add %\"my x\", %one store %\"%\\u{1}\", %\"the sum\" }",
    )
    .unwrap();
    let text = kernel.to_string();
    assert_eq!(
        text,
        "kernel k(\"my x\": f32, out \"%\\u{1}\": view<f32, 0>) {\n  %0: f32 = constant value=1.0 elem=f32\n  \
         %1: f32 = add %\"my x\", %0\n  store %\"%\\u{1}\", %1\n}\n"
    );
    assert_eq!(parse(&text).unwrap().to_string(), text);
}

#[test]
fn a_name_can_be_used_again_after_its_region() {
    let text = "kernel k(c: bool) { if_else %c { %a = not %c } else { %a = not %c } %a = not %c }";
    assert_eq!(verify(&parse(text).unwrap()), Ok(()));
}

#[test]
fn calls_are_shared_between_their_instructions() {
    let line = "@ \"a.rs\":1:1 in f from \"b.rs\":2:2";
    let text = format!("kernel k(c: bool) {{ %0 = not %c {line} %1 = not %c {line} }}");
    let kernel = parse(&text).unwrap();
    let [a, b] = [0, 1].map(|i| kernel.insts(crate::Kernel::BODY)[i].site);
    assert_eq!(a, b);
    assert_eq!(kernel.sites.calls(a).count(), 1);
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    let check = |text: &str, line: u32, column: u32, message: &str| {
        let error = parse(text).expect_err(text);
        let at = error.location.clone().expect("the parser knows the place");
        assert!(error.to_string().contains(message), "{error}\n(wanted: {message})");
        assert_eq!((at.line, at.column), (line, column), "{error}");
    };
    check("", 1, 1, "expected `kernel`, found the end of the text");
    check("kernel k() {\n  %0 = ad %1\n}", 2, 11, "`%1` is not defined here");
    check("kernel k(a: i32) {\n  %0 = ad %a, %a\n}", 2, 8, "there is no op `ad`");
    check("kernel k(a: i32) { %0 = ad %a, %a }", 1, 25, "did you mean `add`?");
    check("kernel k(a: i32) { %0 = frobnicate %a }", 1, 25, "there is no op `frobnicate`");
    check("kernel k(a: i32) { %0 = add %a }", 1, 25, "`add` takes (a, b) and got 1 operands");
    check("kernel k(a: i32) { %0: f32 = add %a, %a }", 1, 20, "`%0` is written as f32, and `add` gives i32");
    check("kernel k(a: i32) { add %a, %a }", 1, 20, "`add` has 1 results, and 0 are named");
    check("kernel k(a: i32) { %a = add %a, %a }", 1, 20, "`%a` is defined already");
    check("kernel k(a: i32, a: i32) { }", 1, 18, "`%a` is defined already");
    check("kernel k(a: i33) { }", 1, 13, "`i33` is no element type");
    check("kernel k(a: view<f32, x>) { }", 1, 23, "expected the rank of a view, found `x`");
    check("kernel k() { %0 = constant value=1 }", 1, 19, "attribute `elem` is missing");
    check("kernel k() { %0 = constant value=x elem=f32 }", 1, 19, "`x` is no value for `value`");
    check("kernel k() { %0 = constant value=1 elem=f32 axis=0 }", 1, 19, "`constant` has no attribute `axis`");
    check("kernel k() { %0 = constant value=1 value=2 elem=f32 }", 1, 36, "attribute `value` is given twice");
    check("kernel k() { %0 = iota axis=0 shape=[1, 2, 3, 4] }", 1, 37, "this is no shape of a tile");
    check("kernel k(c: bool) { if_else %c { } }", 1, 36, "expected `else`, found `}`");
    check("kernel k(c: bool) { if_else %c { %0 = not %c } else { %1 = not %0 } }", 1, 64, "`%0` is not defined here");
    check("kernel k(c: bool) { yield %c %c }", 1, 30, "expected `}`, found `%c`");
    check("kernel k() { } kernel", 1, 16, "`kernel` after the end of the kernel");
    check("kernel k() { ; }", 1, 14, "`;` has no meaning here");
    check("kernel k() { % }", 1, 14, "`%` without the name of a value");
    check("kernel \"k() { }", 1, 8, "a quoted name does not end");
    check("kernel \"\\q\"() { }", 1, 10, "this escape is not known");
    check("kernel k(c: bool) { %0 = not %c @ a.rs:1:1 }", 1, 35, "expected a file in double quotes");
    check("kernel k() {", 1, 13, "expected an op, found the end of the text");
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let text = format!("kernel k(c: bool) {{ {}", "if_else %c { ".repeat(100_000));
    assert!(parse(&text).unwrap_err().message.contains("regions nest more than 128 deep"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, ..Default::default() })]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text);
        let _ = parse(&format!("kernel k(a: i32, c: bool) {{ {text}"));
    }

    /// What still parses after bytes were overwritten, dropped and repeated is checked by the verifier, and what still
    /// verifies prints to the same kernel; none of it panics.
    #[test]
    fn no_damage_to_a_text_makes_the_parser_panic(
        program in programs(),
        damage in proptest::collection::vec(proptest::prelude::any::<(u32, u8, u8)>(), 1..4),
    ) {
        for text in [program.kernel.to_string(), ALL_FORMS.to_string()] {
            let mut bytes = text.into_bytes();
            for &(place, how, byte) in &damage {
                let at = place as usize % (bytes.len() + 1);
                let end = bytes.len().min(at + usize::from(byte));
                match how % 5 {
                    0 => bytes.insert(at, byte),
                    1 => bytes[at..end].fill(b'0' + byte % 75), // from a digit to a letter
                    2 => drop(bytes.drain(at..end)),
                    3 => bytes.extend_from_within(at..end),
                    _ => bytes.truncate(at),
                }
            }
            if let Ok(kernel) = parse(&String::from_utf8_lossy(&bytes))
                && verify(&kernel).is_ok()
            {
                let printed = kernel.to_string();
                proptest::prop_assert_eq!(parse(&printed).map(|k| k.to_string()), Ok(printed));
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(words in proptest::collection::vec(0usize..24, 0..40)) {
        const WORDS: [&str; 24] = [
            "kernel", "k", "(", ")", "{", "}", "%a", "%0", ":", "i32", "[2, 2]", "=", "add", "if_else", "else", "yield",
            "for_range", ",", "view<f32, 1>", "load", "shape=[2]", "@", "\"f\"", "out",
        ];
        let text: String = words.into_iter().map(|w| WORDS[w]).collect::<Vec<_>>().join(" ");
        let _ = parse(&text);
        let _ = parse(&format!("kernel k(a: i32, c: bool) {{ {text}"));
    }
}
