//! The place in the grid, loops and branches. Conditions and ranges are uniform: the whole tile program takes one way.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::Slot;
use crate::kernel::{RegionId, ValueId};
use crate::types::{Elem, Type};

family! {
    /// Ops that decide what runs.
    Control:
    /// Which program this is along `axis` of the grid, as i32; axes are 0, 1 and 2.
    program_id => ProgramId { axis: u8 } () -> ValueId, Pure;
    /// How many programs the grid has along `axis`, as i32.
    program_count => ProgramCount { axis: u8 } () -> ValueId, Pure;
    /// Runs `body` for each of `first, first + step, …` below `last`. The region takes the counter and the carried values,
    /// and yields the carried values; the results are what the last pass yielded, or the `inits` after no pass. A step
    /// that is not positive runs no pass.
    for_range => For { body: RegionId } (first, last, step; inits) -> Vec<ValueId>, Nested;
    /// Runs `then` or `otherwise`; the results are what that region yields.
    if_else => If { then: RegionId, otherwise: RegionId } (cond) -> Vec<ValueId>, Nested;
}

impl Control {
    pub(super) fn infer(&self, operands: &[Type], regions: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        let index = Type::scalar(Elem::I32);
        match self {
            Control::ProgramId { axis } | Control::ProgramCount { axis } => {
                if *axis > 2 {
                    return Err(
                        TypeError::new(format!("`{}` of axis {axis}", self.name())).help("a grid has axes 0, 1 and 2")
                    );
                }
                Ok(vec![index])
            }
            Control::For { .. } => {
                let (range, inits) = operands.split_at(3); // the signature was checked
                if let Some(other) = range.iter().find(|&&t| t != index) {
                    return Err(
                        TypeError::new(format!("`for_range` over {other}")).help("its range is three i32 scalars")
                    );
                }
                if let Some(view) = inits.iter().find(|t| matches!(t, Type::View { .. })) {
                    return Err(TypeError::new(format!("`for_range` carries a {view}")).help("carry tiles and scalars"));
                }
                let [body] = regions else { return Err(TypeError::new("`for_range` has one region")) };
                if body.args.first() != Some(&index) || body.args[1..] != *inits || body.yields != *inits {
                    return Err(TypeError::new(format!(
                        "`for_range` carries ({}), its body takes ({}) and yields ({})",
                        list(inits),
                        list(&body.args),
                        list(&body.yields)
                    ))
                    .help("the body takes the counter and the carried values, and yields values of the same types"));
                }
                Ok(inits.to_vec())
            }
            Control::If { .. } => {
                if operands[0] != Type::scalar(Elem::Bool) {
                    return Err(TypeError::new(format!("`if_else` of {}", operands[0]))
                        .help("its condition is a bool scalar; for tiles use `select`"));
                }
                let [then, otherwise] = regions else { return Err(TypeError::new("`if_else` has two regions")) };
                if let Some(view) = then.yields.iter().find(|t| matches!(t, Type::View { .. })) {
                    return Err(TypeError::new(format!("`if_else` yields a {view}")).help("yield tiles and scalars"));
                }
                if then.yields != otherwise.yields || !then.args.is_empty() || !otherwise.args.is_empty() {
                    return Err(TypeError::new(format!(
                        "`if_else` yields ({}) from one region and ({}) from the other",
                        list(&then.yields),
                        list(&otherwise.yields)
                    ))
                    .help("both regions take nothing and yield values of the same types"));
                }
                Ok(then.yields.clone())
            }
        }
    }
}

/// Where in the grid a program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Which program it is along each axis.
    pub id: [u32; 3],
    /// How many there are.
    pub count: [u32; 3],
}

impl Control {
    /// The results for operands that passed [`infer`](Self::infer). `run` runs a region with these arguments and returns
    /// what it yields.
    pub(crate) fn eval(
        &self,
        place: &Place,
        operands: &[Slot],
        run: &mut dyn FnMut(RegionId, Vec<Slot>) -> Vec<Slot>,
    ) -> Vec<Slot> {
        // The typing rule checked the axes and the signature.
        match self {
            Control::ProgramId { axis } => vec![Slot::index(i64::from(place.id[*axis as usize]))],
            Control::ProgramCount { axis } => vec![Slot::index(i64::from(place.count[*axis as usize]))],
            Control::For { body } => {
                let [first, last, step] = [operands[0].int(), operands[1].int(), operands[2].int()];
                let mut carried = operands[3..].to_vec();
                let mut counter = first;
                while step > 0 && counter < last {
                    let entering = std::iter::once(Slot::index(counter)).chain(carried).collect();
                    carried = run(*body, entering);
                    counter += step;
                }
                carried
            }
            Control::If { then, otherwise } => run(if operands[0].int() != 0 { *then } else { *otherwise }, Vec::new()),
        }
    }
}

fn list(types: &[Type]) -> String {
    types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ")
}
