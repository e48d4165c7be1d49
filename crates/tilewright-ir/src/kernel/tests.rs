use super::{Access, Inst, Kernel, RegionId, ValueId};
use crate::op::{Control, Elementwise, Memory, Op};
use crate::site::SiteId;
use crate::types::{Elem, Shape, Type};
use crate::verify::verify;

const AT: SiteId = SiteId::UNKNOWN;

/// A kernel of a condition and an output.
fn kernel() -> (Kernel, ValueId, ValueId) {
    let mut kernel = Kernel::new("k");
    let condition = kernel.add_param("c", Type::scalar(Elem::Bool), Access::Read, AT);
    let output = kernel.add_param("o", Type::View { elem: Elem::Bool, rank: 0 }, Access::Write, AT);
    (kernel, condition, output)
}

#[test]
fn ids_of_another_kernel_are_refused_and_append_nothing() {
    let check = |region: RegionId, op: Op, operand: ValueId, message: &str| {
        let (mut kernel, ..) = kernel();
        let before = kernel.clone();
        let error = kernel.push(region, op, &[operand], AT).expect_err("the id is foreign");
        assert_eq!(error.message, message);
        assert_eq!(kernel, before);
    };
    let (body, foreign) = (Kernel::BODY, RegionId(9));
    let branch = Control::If { then: foreign, otherwise: foreign };
    check(body, Elementwise::Not.into(), ValueId(9), "`not` of a value that kernel `k` does not have");
    check(foreign, Elementwise::Not.into(), ValueId(0), "`not` in a region that kernel `k` does not have");
    check(body, branch.into(), ValueId(0), "`if_else` with a region that kernel `k` does not have");
}

#[test]
fn a_branch_writes_when_an_instruction_nested_in_it_does() {
    for (writes, source) in [(true, "store %o, %c"), (false, "%d = not %c")] {
        let text = format!(
            "kernel k(c: bool, out o: view<bool, 0>) {{ if_else %c {{ if_else %c {{ {source} }} else {{ }} }} else {{ }} }}"
        );
        let kernel = crate::text::parse(&text).unwrap();
        let [branch] = kernel.insts(Kernel::BODY) else { panic!("one branch") };
        assert_eq!(kernel.writes(branch), writes, "{text}");
        assert_eq!(kernel.count(), 3);
    }
}

#[test]
fn a_kernel_whose_regions_hold_each_other_is_counted_and_refused() {
    let (mut kernel, condition, output) = kernel();
    let [a, b] = [(), ()].map(|()| kernel.add_region(Kernel::BODY));
    let branch = |then, otherwise| Inst {
        op: Control::If { then, otherwise }.into(),
        operands: vec![condition],
        results: Vec::new(),
        site: AT,
    };
    kernel.regions[0].insts.push(branch(a, b));
    kernel.regions[a.index()].insts.push(branch(b, Kernel::BODY));
    kernel.regions[b.index()].insts.push(branch(a, RegionId(9)));
    assert_eq!(kernel.count(), 3);
    assert!(!kernel.writes(&kernel.insts(Kernel::BODY)[0]));
    assert!(verify(&kernel).is_err());
    kernel.push(b, Memory::Store.into(), &[output, condition], AT).expect("a store of a scalar");
    assert!(kernel.writes(&kernel.insts(Kernel::BODY)[0]));
    kernel.compact();
    assert_eq!(kernel.count(), 4);
}

#[test]
fn only_an_axis_that_is_there_changes_its_extent() {
    let shape = Shape::new(&[4, 5]).unwrap();
    assert_eq!(shape.with_extent(1, 1), Shape::new(&[4, 1]));
    assert_eq!(shape.with_extent(2, 1), None);
    assert_eq!(Shape::SCALAR.with_extent(0, 1), None);
}
