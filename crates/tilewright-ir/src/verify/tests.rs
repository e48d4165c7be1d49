use super::*;
use crate::kernel::Value;
use crate::op::{Builder, Control, Elementwise, Literal};
use crate::site::{Frame, Location, Site};
use crate::types::{Elem, Shape};

fn view(rank: u8) -> Type {
    Type::View { elem: Elem::F32, rank }
}

/// `x` is read at 0 and stored to `y`, if a condition holds.
fn sound() -> Kernel {
    let mut kernel = Kernel::new("sound");
    let x = kernel.add_param("x", view(1), Access::Read, SiteId::UNKNOWN);
    let y = kernel.add_param("y", view(1), Access::Write, SiteId::UNKNOWN);
    let [then, otherwise] = [kernel.add_region(Kernel::BODY), kernel.add_region(Kernel::BODY)];
    let mut b = Builder { kernel: &mut kernel, region: Kernel::BODY, site: SiteId::UNKNOWN };
    let zero = b.constant(Literal(0.0), Elem::I32).unwrap();
    let tile = b.load(Shape::new(&[4]).unwrap(), x, &[zero]).unwrap();
    let cond = b.eq(zero, zero).unwrap();
    b.region = then;
    let twice = b.add(tile, tile).unwrap();
    b.store(y, twice, &[zero]).unwrap();
    b.region = Kernel::BODY;
    b.if_else(then, otherwise, cond).unwrap();
    kernel
}

fn check(change: impl FnOnce(&mut Kernel), message: &str) {
    let mut kernel = sound();
    assert_eq!(verify(&kernel), Ok(()));
    change(&mut kernel);
    let errors = verify(&kernel).expect_err(message).to_string();
    assert!(errors.contains(message), "{errors}\n(wanted: {message})");
    let _ = kernel.to_string(); // a broken kernel can be shown
    let _ = crate::interp::run(&kernel, [1; 3], &mut []); // and is refused
}

fn body(kernel: &mut Kernel) -> &mut Vec<Inst> {
    &mut kernel.regions[0].insts
}

#[test]
fn ids_outside_their_tables_are_refused() {
    check(|k| k.regions.clear(), "kernel `sound` has no body");
    check(|k| body(k)[1].operands[1] = ValueId(99), "`load` uses value 99; the kernel has 6");
    check(|k| body(k)[1].results[0] = ValueId(99), "result of `load` is value 99; the kernel has 6");
    check(|k| k.params[0].value = ValueId(99), "parameter `x` is value 99; the kernel has 6");
    check(|k| k.regions[1].yields.push(ValueId(99)), "region 1 yields value 99; the kernel has 6");
    check(|k| k.regions[1].args.push(ValueId(99)), "argument of region 1 is value 99; the kernel has 6");
    let broken = Control::If { then: RegionId(9), otherwise: RegionId(2) };
    check(|k| body(k)[3].op = broken.into(), "`if_else` runs region 9; the kernel has 3");
}

#[test]
fn a_value_is_defined_once() {
    check(|k| body(k)[2].results[0] = ValueId(2), "result of `eq` is value 2, which is defined already");
    check(|k| k.params[1].value = ValueId(0), "parameter `y` is value 0, which is defined already");
    check(|k| k.regions[1].args.push(ValueId(2)), "argument of region 1 is value 2, which is defined already");
    let lost = Value { ty: Type::scalar(Elem::F32), region: Kernel::BODY, site: SiteId::UNKNOWN };
    check(|k| k.values.push(lost), "value 6 (f32) is defined nowhere");
    check(|k| k.values.push(Value { region: RegionId(7), ..lost }), "value 6 (f32) lies in no region");
}

#[test]
fn a_value_is_recorded_where_it_is_defined() {
    check(|k| k.values[3].region = RegionId(1), "result of `load` is defined in region 0 and recorded in region 1");
    check(|k| k.values[5].region = RegionId(0), "result of `add` is defined in region 1 and recorded in region 0");
    check(|k| k.values[0].region = RegionId(1), "parameter `x` is defined in region 0 and recorded in region 1");
}

#[test]
fn a_value_is_used_only_after_its_definition() {
    check(|k| body(k).swap(0, 1), "`load` uses value 2 (i32) before it is defined");
    check(|k| k.regions[1].insts.swap(0, 1), "`store` uses value 5 (f32[4]) before it is defined");
}

#[test]
fn a_value_is_used_only_inside_its_region() {
    let escape = Elementwise::Neg;
    check(
        |k| {
            let result = k.add_value(k.ty(ValueId(5)), Kernel::BODY, SiteId::UNKNOWN);
            let site = SiteId::UNKNOWN;
            body(k).push(Inst { op: escape.into(), operands: vec![ValueId(5)], results: vec![result], site });
        },
        "`neg` uses value 5 (f32[4]) outside the region that defines it",
    );
    check(|k| k.regions[2].yields.push(ValueId(5)), "region 2 yields value 5 (f32[4]) outside the region");
}

#[test]
fn regions_form_a_tree() {
    let twice = Control::If { then: RegionId(1), otherwise: RegionId(1) };
    check(|k| body(k)[3].op = twice.into(), "`if_else` runs region 1, which runs already");
    let endless = Control::If { then: RegionId(0), otherwise: RegionId(2) };
    check(|k| body(k)[3].op = endless.into(), "`if_else` runs region 0, which runs already");
    check(|k| k.regions[1].parent = Some(RegionId(2)), "runs region 1, which has another parent");
    check(|k| k.regions[1].parent = None, "runs region 1, which has another parent");
    check(|k| _ = k.add_region(Kernel::BODY), "region 3 belongs to no op");
    check(|k| k.regions[0].parent = Some(RegionId(1)), "the body of the kernel lies in another region");
    check(|k| k.regions[0].yields.push(ValueId(2)), "the body of the kernel yields values");
    check(|k| k.regions[0].args.push(ValueId(2)), "the body of the kernel takes region arguments");
}

#[test]
fn regions_nest_only_so_deep() {
    let mut kernel = Kernel::new("deep");
    let cond = kernel.add_param("cond", Type::scalar(Elem::Bool), Access::Read, SiteId::UNKNOWN);
    let mut region = Kernel::BODY;
    for _ in 0..MAX_NESTING + 1 {
        let [then, otherwise] = [kernel.add_region(region), kernel.add_region(region)];
        let mut b = Builder { kernel: &mut kernel, region, site: SiteId::UNKNOWN };
        b.if_else(then, otherwise, cond).unwrap();
        region = then;
    }
    let errors = verify(&kernel).unwrap_err().to_string();
    assert!(errors.contains("regions nest more than 128 deep"), "{errors}");
    assert!(crate::text::parse(&kernel.to_string()).is_err());
}

#[test]
fn recorded_types_are_the_inferred_ones() {
    check(
        |k| k.values[3].ty = Type::tile(Elem::F32, Shape::new(&[5]).unwrap()),
        "`load` gives (f32[4]) and is recorded as (f32[5])",
    );
    check(|k| body(k)[3].results.push(ValueId(2)), "`if_else` gives () and is recorded as (i32)");
    check(|k| body(k)[1].results.clear(), "`load` gives (f32[4]) and is recorded as ()");
    check(|k| body(k)[2].operands[0] = ValueId(3), "`eq` of f32 and i32");
    check(|k| body(k)[2].operands.truncate(1), "`eq` takes (a, b) and got 1 operands");
}

#[test]
fn a_view_does_not_leave_a_branch() {
    check(
        |k| {
            k.regions[1].yields.push(ValueId(0));
            k.regions[2].yields.push(ValueId(0));
            let result = k.add_value(view(1), Kernel::BODY, SiteId::UNKNOWN);
            body(k)[3].results.push(result);
        },
        "`if_else` yields a view<f32, 1>",
    );
}

#[test]
fn a_tile_has_a_largest_size() {
    let huge = Shape::new(&[1 << 13, 1 << 13]).unwrap();
    check(
        |k| {
            let mut b = Builder { kernel: k, region: Kernel::BODY, site: SiteId::UNKNOWN };
            b.broadcast(huge, ValueId(2)).unwrap();
        },
        "`broadcast` makes a tile of shape [8192, 8192]",
    );
}

#[test]
fn parameters_are_views_and_scalars_with_names_of_their_own() {
    check(|k| k.params[1].name = "x".into(), "two parameters are named `x`");
    let add = |k: &mut Kernel, ty, access| _ = k.add_param("z", ty, access, SiteId::UNKNOWN);
    check(|k| add(k, view(5), Access::Read), "parameter `z` is a view<f32, 5>");
    check(|k| add(k, Type::scalar(Elem::F32), Access::Write), "only views can be written");
    let tile = Type::tile(Elem::F32, Shape::new(&[2]).unwrap());
    check(|k| add(k, tile, Access::Read), "parameter `z` is a f32[2]");
}

#[test]
fn inputs_are_read_and_outputs_written() {
    check(|k| k.params[0].access = Access::Write, "`load` reads from an output");
    check(|k| k.params[1].access = Access::Read, "`store` writes to an input");
    // Also through a view of the view.
    check(
        |k| {
            let mut b = Builder { kernel: k, region: Kernel::BODY, site: SiteId::UNKNOWN };
            let part = b.limit(0, ValueId(0), ValueId(2), ValueId(2)).unwrap();
            b.store(part, ValueId(3), &[ValueId(2)]).unwrap();
        },
        "`store` writes to an input",
    );
}

#[test]
fn the_length_of_an_output_may_be_asked() {
    let mut kernel = sound();
    Builder { kernel: &mut kernel, region: Kernel::BODY, site: SiteId::UNKNOWN }.view_len(0, ValueId(1)).unwrap();
    assert_eq!(verify(&kernel), Ok(()));
}

#[test]
fn a_message_says_the_line_and_the_calls_that_led_there() {
    let mut kernel = sound();
    let at = |line| Location { file: "kernel.rs".into(), line, column: 1 };
    let caller = kernel.sites.add(Site { location: at(7), frame: None });
    let frame = kernel.sites.add_frame(Frame { function: "step".into(), called_at: caller });
    let inner = kernel.sites.add(Site { location: at(3), frame: Some(frame) });
    kernel.params[1].access = Access::Read;
    kernel.regions[1].insts[1].site = inner;
    let error = verify(&kernel).unwrap_err().to_string();
    assert_eq!(
        error,
        "error: `store` writes to an input\n  --> kernel.rs:3:1\n   = in `step`, called at kernel.rs:7:1\n   \
         = help: a parameter is read or written, never both"
    );
}

#[test]
fn a_kernel_with_leftovers_verifies_after_compact() {
    let mut kernel = sound();
    kernel.regions[1].insts.truncate(1);
    kernel.add_region(Kernel::BODY);
    kernel.add_value(Type::scalar(Elem::F32), RegionId(3), SiteId::UNKNOWN);
    kernel.regions[0].insts.remove(3);
    kernel.regions[0].insts.remove(1);
    assert!(verify(&kernel).is_err());
    kernel.compact();
    assert_eq!(verify(&kernel), Ok(()));
    assert_eq!((kernel.regions.len(), kernel.values.len()), (1, 4));
}
