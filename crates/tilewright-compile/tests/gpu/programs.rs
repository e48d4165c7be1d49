//! Programs built by hand.

use tilewright_compile::gpu::layout::{Axis, Layout};
use tilewright_compile::gpu::program::*;
use tilewright_compile::gpu::unit::Unit;
use tilewright_compile::gpu::{Argument, ArgumentSlot, Arguments, Dialect};
use tilewright_ir::op::{Elementwise, Literal, Reduce};
use tilewright_ir::{Access, Elem};

/// The struct `Args` of a program's parameters.
pub fn arguments(program: &Program) -> Arguments {
    let ranks: u32 = program.params.iter().filter_map(|p| p.rank).map(u32::from).sum();
    let (mut strides, mut lens, mut scalars, mut pointer) = (0, 8 * ranks, 12 * ranks, 0);
    let mut params = Vec::new();
    for param in &program.params {
        let slot = match param.rank {
            Some(rank) => {
                let slot = ArgumentSlot::View { pointer, elem: param.elem, rank, access: param.access, strides, lens };
                (pointer, strides, lens) = (pointer + 1, strides + 8 * u32::from(rank), lens + 4 * u32::from(rank));
                slot
            }
            None => {
                scalars += 4;
                ArgumentSlot::Scalar { elem: param.elem, at: scalars - 4 }
            }
        };
        params.push(Argument { name: param.name.clone(), slot });
    }
    Arguments { params, bytes: scalars.next_multiple_of(8).max(8) }
}

pub fn param(name: &str, elem: Elem, rank: Option<u8>, access: Access) -> Param {
    Param { name: name.into(), elem, rank, access }
}

pub fn op(op: Elementwise, elem: Elem, operands: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::Op(op, elem, operands.into_iter().collect())
}

pub fn add(a: Expr, b: Expr) -> Expr {
    op(Elementwise::Add, Elem::I32, [a, b])
}

pub fn mul(a: Expr, b: Expr) -> Expr {
    op(Elementwise::Mul, Elem::I32, [a, b])
}

pub fn place(index: Expr, last: Expr) -> Place {
    Place { index, first: Expr::Int(0), last }
}

/// `[head, row, column]` of a tensor.
pub fn address(param: u32, head: Expr, row: Expr) -> Address {
    let axes = vec![
        place(head, Expr::Len(param, 0)),
        place(row, Expr::Len(param, 1)),
        place(Expr::Column, Expr::Len(param, 2)),
    ];
    Address { param, axes }
}

pub fn buffer(name: &str, elem: Elem, extents: [u32; 2], slots: u32) -> Buffer {
    let chunks = (extents[1] * elem.bytes() as u32).div_ceil(16) | 1;
    Buffer { name: name.into(), elem, extents, pitch: 16 * chunks, slots, offset: 0 }
}

pub fn constant(value: f64) -> MapOp {
    let op = Elementwise::Constant { value: Literal(value), elem: Elem::F32 };
    MapOp { op, elem: Elem::F32, of: Elem::F32, operands: vec![] }
}

pub fn map_op(op: Elementwise, operands: impl IntoIterator<Item = MapOperand>) -> MapOp {
    MapOp { op, elem: Elem::F32, of: Elem::F32, operands: operands.into_iter().collect() }
}

pub fn fragment(elem: Elem, extents: [u32; 2], layout: &Layout) -> Fragment {
    Fragment { elem, extents, layout: layout.clone() }
}

pub fn fill(to: FragmentId, layout: &Layout, value: f64) -> Step {
    Step::Map(Map { layout: layout.clone(), ops: vec![constant(value)], results: vec![(0, to)] })
}

/// Forward attention of `[head, row, 64]` tensors in `elem`: 64 rows a block, 64 keys a pass, in two stages.
pub fn attention(dialect: Dialect, elem: Elem, vector: bool) -> Program {
    use MapOperand::{Fragment as F, Temporary as T};
    let (rows, keys, width) = (64, 64, 64);
    let unit = Unit::of(dialect, elem);
    let warps = [4, 1];
    let scores = unit.sum_layout(rows, keys, warps);
    let out = unit.sum_layout(rows, width, warps);
    let row = scores.without(Axis::Across);
    let f = FragmentId;
    let [s, o, m, l, next, scale, part] = [0, 1, 2, 3, 4, 5, 6].map(f);
    let fragments = vec![
        fragment(Elem::F32, [rows, keys], &scores),
        fragment(Elem::F32, [rows, width], &out),
        fragment(Elem::F32, [rows, 1], &row),
        fragment(Elem::F32, [rows, 1], &row),
        fragment(Elem::F32, [rows, 1], &row),
        fragment(Elem::F32, [rows, 1], &row),
        fragment(Elem::F32, [rows, 1], &row),
    ];
    let [q, k, v] = [0, 1, 2].map(BufferId);
    let buffers = vec![
        buffer("q", elem, [rows, width], 1),
        buffer("k", elem, [keys, width], 2),
        buffer("v", elem, [keys, width], 2),
    ];
    let view = |name, access| param(name, elem, Some(3), access);
    let params = vec![
        view("q", Access::Read),
        view("k", Access::Read),
        view("v", Access::Read),
        view("o", Access::Write),
        param("scale", Elem::F32, None, Access::Read),
    ];
    let [j, stage] = [0, 1].map(LocalId);
    let locals = vec![Local { elem: Elem::I32 }, Local { elem: Elem::I32 }];
    let copy = |buffer: BufferId, param: u32, at: Option<LocalId>, ahead: u32, first: Expr| {
        let to = Slot { buffer, at, ahead };
        let address = address(param, Expr::Program(1), add(first, Expr::Row));
        Step::Copy(Copy { to, extents: [64, width], address, chunk: vector.then_some(16), asynchronous: vector })
    };
    let map = |layout: &Layout, ops: Vec<MapOp>, results: Vec<(u32, FragmentId)>| {
        Step::Map(Map { layout: layout.clone(), ops, results })
    };
    use Elementwise::{Add, Exp2, Max, Mul, Recip, Sub};
    let last_key = Expr::Len(1, 1);
    let body = vec![
        copy(k, 1, Some(stage), 1, add(Expr::Local(j), Expr::Int(64))),
        copy(v, 2, Some(stage), 1, add(Expr::Local(j), Expr::Int(64))),
        Step::Commit,
        Step::Wait(1),
        Step::Barrier,
        fill(s, &scores, 0.0),
        Step::Dot(Dot {
            unit,
            elem,
            sum: s,
            a: DotOperand::Shared(Slot { buffer: q, at: None, ahead: 0 }),
            b: Slot { buffer: k, at: Some(stage), ahead: 0 },
            codes: None,
            transposed: true,
            depth: width,
        }),
        map(
            &scores,
            vec![
                map_op(Mul, [F(s), MapOperand::Expr(Expr::Scalar(4))]),
                MapOp {
                    op: Elementwise::Lt,
                    elem: Elem::Bool,
                    of: Elem::I32,
                    operands: vec![
                        MapOperand::Expr(add(Expr::Local(j), Expr::Column)),
                        MapOperand::Expr(last_key.clone()),
                    ],
                },
                constant(f64::NEG_INFINITY),
                map_op(Elementwise::Select, [T(1), T(0), T(2)]),
            ],
            vec![(3, s)],
        ),
        Step::Fold(Fold { op: Reduce::Max { axis: 1 }, from: s, axis: Axis::Across, to: next, exchange: None }),
        map(
            &row,
            vec![
                map_op(Max, [F(next), F(m)]),
                map_op(Sub, [F(m), T(0)]),
                map_op(Exp2, [T(1)]),
                map_op(Mul, [F(l), T(2)]),
            ],
            vec![(0, m), (2, scale), (3, l)],
        ),
        map(&scores, vec![map_op(Sub, [F(s), F(m)]), map_op(Exp2, [T(0)])], vec![(1, s)]),
        Step::Fold(Fold { op: Reduce::Sum { axis: 1 }, from: s, axis: Axis::Across, to: part, exchange: None }),
        map(&row, vec![map_op(Add, [F(l), F(part)])], vec![(0, l)]),
        map(&out, vec![map_op(Mul, [F(o), F(scale)])], vec![(0, o)]),
        Step::Dot(Dot {
            unit,
            elem,
            sum: o,
            a: DotOperand::Fragment(s),
            b: Slot { buffer: v, at: Some(stage), ahead: 0 },
            codes: None,
            transposed: false,
            depth: keys,
        }),
        Step::Barrier,
        Step::Set(stage, op(Elementwise::Sub, Elem::I32, [Expr::Int(1), Expr::Local(stage)])),
    ];
    let steps = vec![
        Step::Let(stage, Expr::Int(0)),
        copy(q, 0, None, 0, mul(Expr::Program(0), Expr::Int(64))),
        copy(k, 1, Some(stage), 0, Expr::Int(0)),
        copy(v, 2, Some(stage), 0, Expr::Int(0)),
        Step::Commit,
        fill(o, &out, 0.0),
        fill(m, &row, -1e30),
        fill(l, &row, 0.0),
        Step::For(For { counter: j, first: Expr::Int(0), last: last_key, step: Expr::Int(64), body }),
        map(&out, vec![map_op(Recip, [F(l)]), map_op(Mul, [F(o), T(0)])], vec![(1, o)]),
        Step::Store(Transfer {
            fragment: o,
            address: address(3, Expr::Program(1), add(mul(Expr::Program(0), Expr::Int(64)), Expr::Row)),
            vector: if vector { 2 } else { 1 },
        }),
    ];
    let mut program = Program {
        name: "attention".into(),
        warps,
        blocks: 2,
        params,
        locals,
        fragments,
        buffers,
        shared_bytes: 0,
        steps,
    };
    lay_out(&mut program);
    program
}

/// Buffers one after the other.
pub fn lay_out(program: &mut Program) {
    let mut at = 0;
    for buffer in &mut program.buffers {
        buffer.offset = at;
        at += buffer.bytes();
    }
    program.shared_bytes = at;
}

/// A load, a fold over warps, and a store of one row, in a layout that reaches past the tile.
pub fn column_sums() -> Program {
    let layout = Layout::blocked(24, 40, 4, 4);
    let row = layout.without(Axis::Down);
    let [from, to] = [0, 1].map(FragmentId);
    let fold = Fold { op: Reduce::Sum { axis: 0 }, from, axis: Axis::Down, to, exchange: Some(BufferId(0)) };
    let at = |row| vec![place(row, Expr::Len(0, 0)), place(Expr::Column, Expr::Len(0, 1))];
    let mut program = Program {
        name: "column_sums".into(),
        warps: [4, 1],
        blocks: 1,
        params: vec![param("x", Elem::F16, Some(2), Access::Read), param("sums", Elem::F32, Some(1), Access::Write)],
        locals: vec![],
        fragments: vec![fragment(Elem::F16, [24, 40], &layout), fragment(Elem::F32, [1, 40], &row)],
        buffers: vec![buffer("sums", Elem::F32, [4, 64], 1)],
        shared_bytes: 0,
        steps: vec![
            Step::Load(Transfer { fragment: from, address: Address { param: 0, axes: at(Expr::Row) }, vector: 4 }),
            Step::Fold(fold.clone()),
            Step::Barrier,
            Step::Combine(fold),
            Step::Store(Transfer {
                fragment: to,
                address: Address { param: 1, axes: vec![place(Expr::Column, Expr::Len(1, 0))] },
                vector: 4,
            }),
        ],
    };
    lay_out(&mut program);
    program
}
