use super::*;
use crate::kernel::{Kernel, RegionId};
use crate::op::Op;
use crate::text::parse;
use crate::types::Elem;
use crate::verify::verify;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

fn names(kernel: &Kernel, region: RegionId, into: &mut BTreeSet<&'static str>) {
    for inst in kernel.insts(region) {
        into.insert(inst.op.name());
        inst.op.regions().into_iter().for_each(|r| names(kernel, r, into));
    }
}

#[test]
fn random_programs_verify_print_parse_and_run_and_use_every_op() {
    let mut runner = TestRunner::deterministic();
    let strategy = programs();
    let mut seen = BTreeSet::new();
    let mut compared = 0;
    let mut inexact = 0;
    for _ in 0..400 {
        let program = strategy.new_tree(&mut runner).expect("no program is refused").current();
        assert_eq!(verify(&program.kernel), Ok(()), "{}", program.kernel);
        let text = program.kernel.to_string();
        let parsed = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(verify(&parsed), Ok(()), "{text}");
        assert_eq!(parsed.to_string(), text);
        let again = Program { kernel: parsed, ..program.clone() };
        // The text says all: the parsed kernel computes the same bits.
        let expected = program.expected().unwrap_or_else(|e| panic!("{e}\n{text}"));
        let exactly = Program { tolerance: vec![0.0; program.args.len()], ..program };
        compared += exactly.check(&again.expected().expect("the same kernel")).unwrap_or_else(|e| panic!("{e}"));
        assert!(!expected.is_empty());
        inexact += usize::from(again.tolerance.iter().any(|&t| t > 0.0));
        names(&again.kernel, Kernel::BODY, &mut seen);
    }
    let missing: Vec<_> = Op::names().filter(|n| !seen.contains(n)).collect();
    assert!(missing.is_empty(), "ops that no program used: {missing:?}");
    assert!(compared > 10_000 && inexact > 50, "{compared} elements compared, {inexact} programs with rounding");
}

#[test]
fn a_wrong_element_is_found() {
    let program = Program::from_choices(&[7; 40]);
    let mut got = program.expected().unwrap();
    assert!(program.check(&got).unwrap() > 0);
    let last = got.iter_mut().rev().find_map(|a| match a {
        Arg::Tensor(tensor) => Some(tensor),
        Arg::Scalar(_) => None,
    });
    last.unwrap().data[0] = f64::NAN;
    assert!(program.check(&got).is_err());
    assert!(program.check(&[]).is_err());
}

/// The same kernel with every float result rounded to its type at once, as a device would that keeps nothing wider.
fn rounding_at_every_op(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let head = line.trim_start().split_once(": ").filter(|_| !line.contains("_range") && !line.contains("if_else"));
        match head {
            Some((name, rest))
                if name.starts_with('%') && Elem::ALL[..3].iter().any(|e| rest.starts_with(e.name())) =>
            {
                let elem = rest.split(['[', ' ']).next().unwrap_or_default();
                out += &line.replacen(name, &format!("{name}.wide"), 1);
                out += &format!("\n{name} = cast {name}.wide to={elem}\n");
            }
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

#[test]
fn a_device_that_rounds_at_every_op_stays_within_the_tolerance() {
    let mut runner = TestRunner::deterministic();
    let mut rounded = 0;
    for _ in 0..800 {
        let program = programs().new_tree(&mut runner).expect("no program is refused").current();
        let text = rounding_at_every_op(&program.kernel.to_string());
        let kernel = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let device = Program { kernel, ..program.clone() };
        program.check(&device.expected().unwrap()).unwrap_or_else(|e| panic!("{e}"));
        let exactly = Program { tolerance: vec![0.0; program.args.len()], ..program };
        rounded += usize::from(exactly.check(&device.expected().unwrap()).is_err());
    }
    assert!(rounded > 20, "only {rounded} programs saw the rounding");
}

proptest::proptest! {
    #[test]
    fn compacting_changes_nothing_that_is_shown(program in programs()) {
        let mut kernel = program.kernel.clone();
        kernel.add_region(Kernel::BODY);
        kernel.compact();
        proptest::prop_assert_eq!(&kernel, &program.kernel);
    }
}
