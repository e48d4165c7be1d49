//! Barriers, and buffers that share bytes, on programs built by hand.

use super::programs::*;
use tilewright_compile::gpu::barriers::{Race, check, insert};
use tilewright_compile::gpu::layout::Layout;
use tilewright_compile::gpu::program::*;
use tilewright_compile::gpu::shared::plan;
use tilewright_compile::gpu::{Dialect, shared::TooMuchShared};
use tilewright_ir::{Access, Elem};

/// A program over buffers of these slots, with one fragment and locals for stage and counters.
fn program(slots: &[u32], steps: Vec<Step>) -> Program {
    let layout = Layout::blocked(8, 32, 1, 4);
    let buffers = slots.iter().enumerate();
    let mut program = Program {
        name: "hand".into(),
        warps: [4, 1],
        blocks: 1,
        params: vec![param("x", Elem::F32, Some(3), Access::Read)],
        locals: (0..4).map(|_| Local { elem: Elem::I32 }).collect(),
        fragments: vec![fragment(Elem::F32, [8, 32], &layout)],
        buffers: buffers.map(|(k, &slots)| buffer(&format!("b{k}"), Elem::F32, [8, 32], slots)).collect(),
        shared_bytes: 0,
        steps,
    };
    lay_out(&mut program);
    program
}

const F: FragmentId = FragmentId(0);
const STAGE: LocalId = LocalId(3);

fn slot(buffer: u32) -> Slot {
    Slot { buffer: BufferId(buffer), at: None, ahead: 0 }
}

fn ring(buffer: u32, ahead: u32) -> Slot {
    Slot { buffer: BufferId(buffer), at: Some(STAGE), ahead }
}

fn put(buffer: u32) -> Step {
    Step::Put { to: slot(buffer), from: F }
}

fn get(buffer: u32) -> Step {
    Step::Get { to: F, from: slot(buffer), place: [Expr::Row, Expr::Column] }
}

fn copy(to: Slot) -> Step {
    Step::Copy(Copy {
        to,
        extents: [8, 32],
        address: address(0, Expr::Int(0), Expr::Row),
        chunk: Some(16),
        asynchronous: true,
    })
}

fn repeat(counter: u32, body: Vec<Step>) -> Step {
    let [first, last, step] = [0, 4, 1].map(Expr::Int);
    Step::For(For { counter: LocalId(counter), first, last, step, body })
}

/// The program's steps as letters, barriers as `|`.
fn shape(steps: &[Step]) -> String {
    let letter = |step: &Step| match step {
        Step::Barrier => "|".to_string(),
        Step::Put { to, .. } => format!("w{}", to.buffer.0),
        Step::Get { from, .. } => format!("r{}", from.buffer.0),
        Step::Copy(copy) => format!("c{}", copy.to.buffer.0),
        Step::Commit => ".".into(),
        Step::Wait(groups) => format!("?{groups}"),
        Step::Let(..) | Step::Set(..) => "=".into(),
        Step::For(step) => format!("({})", shape(&step.body)),
        Step::If { then, otherwise, .. } => format!("[{}/{}]", shape(then), shape(otherwise)),
        other => panic!("{other:?} is in no program here"),
    };
    steps.iter().map(letter).collect::<Vec<_>>().join(" ")
}

/// All programs with one barrier less.
fn with_one_less(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let mut replace = |with: Option<Step>| {
            let mut less = steps.to_vec();
            less.splice(at..=at, with);
            all.push(less);
        };
        match step {
            Step::Barrier => replace(None),
            Step::For(inner) => {
                for body in with_one_less(&inner.body) {
                    replace(Some(Step::For(For { body, ..inner.clone() })));
                }
            }
            Step::If { cond, then, otherwise } => {
                for then in with_one_less(then) {
                    replace(Some(Step::If { cond: cond.clone(), then, otherwise: otherwise.clone() }));
                }
            }
            _ => {}
        }
    }
    all
}

/// Barriers go where `expected` says, and none of them may be left out.
fn check_barriers(mut program: Program, expected: &str) {
    assert_eq!(insert(&mut program), Ok(()));
    assert_eq!(shape(&program.steps), expected);
    assert_eq!(check(&program), Ok(()));
    let less = with_one_less(&program.steps);
    assert_eq!(less.len(), expected.matches('|').count());
    for steps in less {
        let race = check(&Program { steps: steps.clone(), ..program.clone() });
        assert!(matches!(race, Err(Race::Unordered { .. })), "{} is in order", shape(&steps));
    }
}

#[test]
fn a_read_after_a_write_waits() {
    check_barriers(program(&[1], vec![put(0), get(0), get(0)]), "w0 | r0 r0");
}

#[test]
fn a_write_after_a_read_waits() {
    check_barriers(program(&[1], vec![put(0), get(0), put(0), get(0)]), "w0 | r0 | w0 | r0");
}

#[test]
fn one_barrier_serves_two_buffers() {
    check_barriers(program(&[1, 1], vec![put(0), put(1), get(0), get(1)]), "w0 w1 | r0 r1");
}

#[test]
fn the_back_edge_of_a_loop_is_followed() {
    check_barriers(program(&[1], vec![repeat(0, vec![put(0), get(0)])]), "(| w0 | r0)");
}

#[test]
fn what_is_written_before_a_loop_is_waited_for_before_it() {
    check_barriers(program(&[1], vec![put(0), repeat(0, vec![get(0)])]), "w0 | (r0)");
}

#[test]
fn a_loop_of_no_passes_leaves_a_write_open() {
    check_barriers(program(&[1, 1], vec![put(0), repeat(0, vec![put(1), get(1)]), get(0)]), "w0 (| w1 | r1) | r0");
}

#[test]
fn one_way_of_a_branch_is_enough() {
    let branch = Step::If { cond: Expr::Literal(Elem::Bool, 1.0), then: vec![put(0)], otherwise: vec![] };
    check_barriers(program(&[1], vec![branch, get(0)]), "[w0/] | r0");
}

#[test]
fn an_asynchronous_copy_is_read_after_its_wait_and_a_barrier() {
    let steps = vec![copy(slot(0)), Step::Commit, Step::Wait(0), get(0)];
    check_barriers(program(&[1], steps), "c0 . ?0 | r0");
}

#[test]
fn a_copy_that_no_wait_covers_is_an_error() {
    for steps in [
        vec![copy(slot(0)), Step::Commit, Step::Barrier, get(0)],
        vec![copy(slot(0)), Step::Commit, Step::Wait(1), Step::Barrier, get(0)],
        vec![copy(slot(0)), Step::Wait(0), Step::Barrier, get(0)],
    ] {
        let mut program = program(&[1], steps);
        let race = insert(&mut program).unwrap_err();
        assert!(matches!(race, Race::NotWaited { .. }), "{race}");
    }
}

/// A ring of two or three slots that is filled one pass ahead.
fn ring_program(slots: u32, ahead: u32) -> Program {
    let next = op(
        tilewright_ir::op::Elementwise::Rem,
        Elem::I32,
        [add(Expr::Local(STAGE), Expr::Int(1)), Expr::Int(i64::from(slots))],
    );
    let body = vec![
        copy(ring(0, ahead)),
        Step::Commit,
        Step::Wait(ahead),
        Step::Get { to: F, from: ring(0, 0), place: [Expr::Row, Expr::Column] },
        Step::Set(STAGE, next),
    ];
    let mut steps = vec![Step::Let(STAGE, Expr::Int(0))];
    for early in 0..ahead {
        steps.extend([copy(ring(0, early)), Step::Commit]);
    }
    steps.push(repeat(0, body));
    program(&[slots], steps)
}

#[test]
fn a_ring_of_two_slots_needs_two_barriers_a_pass() {
    check_barriers(ring_program(2, 1), "= c0 . (| c0 . ?1 | r0 =)");
}

#[test]
fn a_ring_with_a_slot_to_spare_needs_one() {
    check_barriers(ring_program(3, 1), "= c0 . (c0 . ?1 | r0 =)");
}

#[test]
fn a_copy_too_far_ahead_meets_the_slot_in_use() {
    // Three ahead in a ring of three is the slot that is read now.
    let mut program = ring_program(3, 3);
    assert!(matches!(insert(&mut program), Err(Race::NotWaited { .. })));
}

#[test]
fn the_attention_by_hand_has_the_barriers_it_needs() {
    let mut program = attention(Dialect::Cuda, Elem::Bf16, true);
    let by_hand = program.clone();
    assert_eq!(insert(&mut program), Ok(()));
    assert_eq!(program, by_hand);
}

#[test]
fn buffers_used_one_after_the_other_share_bytes() {
    let mut program = program(&[1, 1], vec![put(0), get(0), put(1), get(1)]);
    let each = program.buffers[0].bytes();
    assert_eq!(plan(&mut program, u32::MAX), Ok(()));
    assert_eq!((program.buffers[0].offset, program.buffers[1].offset, program.shared_bytes), (0, 0, each));
    check_barriers(program, "w0 | r0 | w1 | r1");
}

#[test]
fn buffers_of_a_loop_share_bytes_only_where_they_must() {
    let steps = vec![repeat(0, vec![put(0), get(0), put(1), get(1)])];
    let mut program = program(&[1, 1], steps);
    let each = program.buffers[0].bytes();
    assert_eq!(plan(&mut program, 2 * each), Ok(()));
    assert_eq!(program.shared_bytes, 2 * each);
    assert_eq!(plan(&mut program, each), Ok(()));
    assert_eq!(program.shared_bytes, each);
    let too_much = TooMuchShared { kernel: "hand".into(), needed: each, limit: each - 16 };
    assert_eq!(plan(&mut program, each - 16), Err(too_much));
    check_barriers(program, "(| w0 | r0 | w1 | r1)");
}

#[test]
fn what_a_loop_reads_from_before_keeps_its_bytes() {
    for body in [vec![put(1), get(1), get(0)], vec![get(0), put(1), get(1)]] {
        let mut program = program(&[1, 1], vec![put(0), repeat(0, body)]);
        assert!(plan(&mut program, 16).is_err());
        assert_eq!(program.shared_bytes, program.buffers[0].bytes() + program.buffers[1].bytes());
    }
}

#[test]
fn what_is_read_before_it_is_written_in_a_pass_keeps_its_bytes() {
    let mut program = program(&[1, 1], vec![repeat(0, vec![get(0), put(0), put(1), get(1)])]);
    assert!(plan(&mut program, 16).is_err());
    assert_eq!(program.shared_bytes, program.buffers[0].bytes() + program.buffers[1].bytes());
}
