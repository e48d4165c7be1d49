//! What both branches of an `if_else` do is done once: in front of it where nothing of the branch is needed, and behind it
//! where only the operands differ; those become results of the `if_else`.
//!
//! A step of attention is written twice, without masks and with them. After this pass only the masks stand in a branch, and
//! the loads and products, which a GPU wants to start early and to have once, do not. Stores stay where they are.

use super::edit::{Same, is_free, rehome, take_insts};
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Control, Matmul};
use tilewright_ir::{Inst, Kernel, Op, RegionId, Type, ValueId};

pub(super) fn run(kernel: &mut Kernel) {
    let mut same = Same::default();
    visit(kernel, Kernel::BODY, &mut same);
    same.finish(kernel);
}

/// Innermost first: what leaves an inner branch may leave the outer one.
fn visit(kernel: &mut Kernel, region: RegionId, same: &mut Same) {
    let mut insts = Vec::new();
    for mut inst in take_insts(kernel, region) {
        same.rename(&mut inst.operands);
        for nested in inst.op.regions() {
            visit(kernel, nested, same);
        }
        if let Op::Control(Control::If { then, otherwise }) = inst.op {
            hoist(kernel, region, [then, otherwise], same, &mut insts);
            sink(kernel, region, [then, otherwise], inst, same, &mut insts);
        } else {
            insts.push(inst);
        }
    }
    let held = &mut kernel.regions[region.index()];
    held.insts = insts;
    same.rename(&mut held.yields);
}

/// Moves what is equal in both branches and needs nothing of them to `before`, in the region around them.
fn hoist(kernel: &mut Kernel, around: RegionId, branches: [RegionId; 2], same: &mut Same, before: &mut Vec<Inst>) {
    let [then, otherwise] = branches;
    let mut others = take_insts(kernel, otherwise);
    let mut kept = Vec::new();
    for inst in take_insts(kernel, then) {
        let free = is_free(&inst) && inst.operands.iter().all(|v| kernel.values[v.index()].region != then);
        let equal = |other: &Inst| {
            other.op == inst.op && other.operands.iter().map(|&v| same.of(v)).eq(inst.operands.iter().copied())
        };
        match others.iter().position(|other| free && equal(other)) {
            Some(at) => {
                let twin = others.remove(at);
                same.set(twin.results[0], inst.results[0]); // a free instruction has one
                rehome(kernel, &inst, around);
                before.push(inst);
            }
            None => kept.push(inst),
        }
    }
    kernel.regions[then.index()].insts = kept;
    kernel.regions[otherwise.index()].insts = others;
    same.rename_in(kernel, otherwise);
}

/// A value of one branch and the one that stands for it in the other.
type Pair = (ValueId, ValueId);

/// Moves the equal tails of both branches behind the `if_else`, and appends it and them to `after`.
fn sink(
    kernel: &mut Kernel,
    around: RegionId,
    branches: [RegionId; 2],
    mut inst: Inst,
    same: &mut Same,
    after: &mut Vec<Inst>,
) {
    let tails = Tails::of(kernel, branches);
    let [then, otherwise] = branches;
    let mut results: HashMap<Pair, ValueId> = HashMap::new();
    let mut yielded: Vec<(Pair, ValueId)> = Vec::new();
    for (&pair, &result) in tails.yields.iter().zip(&inst.results) {
        if pair.0 == pair.1 || tails.sunk.contains(&pair.0) {
            same.set(result, pair.0);
        } else if let Some(&known) = results.get(&pair) {
            same.set(result, known);
        } else {
            results.insert(pair, result);
            yielded.push((pair, result));
        }
    }
    let (mut sunk, kept): (Vec<Inst>, Vec<Inst>) =
        take_insts(kernel, then).into_iter().partition(|i| i.results.iter().any(|r| tails.sunk.contains(r)));
    let others = take_insts(kernel, otherwise);
    let others: Vec<Inst> = others.into_iter().filter(|i| !i.results.iter().any(|r| tails.twins.contains(r))).collect();
    for inst in &mut sunk {
        let pairs = &tails.operands[&inst.results[0]]; // of each that is sunk
        for (operand, &pair) in inst.operands.iter_mut().zip(pairs) {
            if pair.0 == pair.1 || tails.sunk.contains(&pair.0) {
                continue;
            }
            *operand = *results.entry(pair).or_insert_with(|| {
                let result = kernel.add_value(kernel.ty(pair.0), around, kernel.values[pair.0.index()].site);
                yielded.push((pair, result));
                result
            });
        }
        rehome(kernel, inst, around);
    }
    let gone = kept.is_empty() && others.is_empty() && yielded.is_empty();
    for (branch, insts, yields) in [
        (then, kept, yielded.iter().map(|(pair, _)| pair.0).collect()),
        (otherwise, others, yielded.iter().map(|(pair, _)| pair.1).collect()),
    ] {
        let held = &mut kernel.regions[branch.index()];
        (held.insts, held.yields) = (insts, yields);
    }
    if !gone {
        inst.results = yielded.into_iter().map(|(_, result)| result).collect();
        after.push(inst);
    }
    after.append(&mut sunk);
}

/// Which instructions of two branches do the same at their ends.
struct Tails {
    yields: Vec<Pair>,
    /// Results of what leaves the first branch.
    sunk: HashSet<ValueId>,
    /// Results of what leaves the second one.
    twins: HashSet<ValueId>,
    /// For each of `sunk`, what its instruction and the twin take.
    operands: HashMap<ValueId, Vec<Pair>>,
}

impl Tails {
    /// Walks back from the yields. Two instructions are matched when they do the same and all uses of their results are
    /// matched with one another.
    fn of(kernel: &Kernel, branches: [RegionId; 2]) -> Tails {
        let [then, otherwise] = branches.map(|r| &kernel.regions[r.index()]);
        let yields: Vec<Pair> = then.yields.iter().copied().zip(otherwise.yields.iter().copied()).collect();
        let uses = branches.map(|branch| {
            let mut uses = HashMap::new();
            count_uses(kernel, branch, &mut uses);
            uses
        });
        let makers: HashMap<ValueId, &Inst> =
            otherwise.insts.iter().filter(|i| is_free(i)).map(|i| (i.results[0], i)).collect();
        let mut partners: HashMap<ValueId, Vec<ValueId>> = HashMap::new();
        for &(one, other) in &yields {
            partners.entry(one).or_default().push(other);
        }
        // From the last to the first: users stand before what they use.
        let mut matched: Vec<(&Inst, &Inst, Vec<Pair>)> = Vec::new();
        for inst in then.insts.iter().rev().filter(|i| is_free(i)) {
            let result = inst.results[0];
            let Some(others) = partners.get(&result) else { continue };
            let twin = others[0]; // made with one
            let alone = others.iter().all(|&other| other == twin)
                && [uses[0].get(&result), uses[1].get(&twin)] == [Some(&others.len()); 2];
            let Some(maker) = makers.get(&twin).filter(|maker| alone && maker.op == inst.op) else { continue };
            let pairs: Vec<Pair> = inst.operands.iter().copied().zip(maker.operands.iter().copied()).collect();
            let fits = |&(one, other): &Pair| {
                one == other || kernel.ty(one) == kernel.ty(other) && matches!(kernel.ty(one), Type::Tile { .. })
            };
            if inst.operands.len() == maker.operands.len() && pairs.iter().all(fits) {
                for &(one, other) in pairs.iter().filter(|(one, other)| one != other) {
                    partners.entry(one).or_default().push(other);
                }
                matched.push((inst, maker, pairs));
            }
        }
        stay_where_results_would_grow(kernel, &yields, &mut matched);
        Tails {
            yields,
            sunk: matched.iter().map(|(inst, ..)| inst.results[0]).collect(),
            twins: matched.iter().map(|(_, twin, _)| twin.results[0]).collect(),
            operands: matched.into_iter().map(|(inst, _, pairs)| (inst.results[0], pairs)).collect(),
        }
    }
}

/// Takes back an instruction that would replace one result of the `if_else` by two tiles or more: each is moved at the end of
/// a branch, which costs more than the instruction. Products are never doubled.
fn stay_where_results_would_grow(kernel: &Kernel, yields: &[Pair], matched: &mut Vec<(&Inst, &Inst, Vec<Pair>)>) {
    loop {
        let made: HashSet<ValueId> = matched.iter().map(|(inst, ..)| inst.results[0]).collect();
        let grows = |at: usize| {
            let (inst, _, pairs) = &matched[at];
            let elsewhere = |pair: &Pair| {
                yields.contains(pair)
                    || matched.iter().enumerate().any(|(i, (_, _, others))| i != at && others.contains(pair))
            };
            let tile = |value: ValueId| kernel.ty(value).shape().is_some_and(|s| s.rank() > 0);
            let new: HashSet<&Pair> = pairs
                .iter()
                .filter(|pair| pair.0 != pair.1 && tile(pair.0) && !made.contains(&pair.0) && !elsewhere(pair))
                .collect();
            new.len() > 1 && inst.op != Op::Matmul(Matmul::Dot)
        };
        // The first in the branch, so that its users see what it yields.
        let Some(at) = (0..matched.len()).rev().find(|&at| grows(at)) else { return };
        matched.remove(at);
    }
}

/// How often each value is used in a region and in those nested in it.
fn count_uses(kernel: &Kernel, region: RegionId, uses: &mut HashMap<ValueId, usize>) {
    let held = &kernel.regions[region.index()];
    for &value in held.insts.iter().flat_map(|i| &i.operands).chain(&held.yields) {
        *uses.entry(value).or_insert(0) += 1;
    }
    for nested in held.insts.iter().flat_map(|i| i.op.regions()) {
        count_uses(kernel, nested, uses);
    }
}
