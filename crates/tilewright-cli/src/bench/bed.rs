//! A case whose inputs are made once, for any plan that serves it: what a search measures schedules on.

use super::measure::Own;
use super::resident::{self, Runs};
use crate::check::Check;
use crate::error::CliError;
use std::time::Duration;
use tilewright::attention::cases::{Case, Inputs, ResidentInputs};
use tilewright::prelude::{Attention, Device, Plan};

/// A case with its inputs. Plans are timed as `tile bench` times them.
pub struct Bed<'c> {
    device: &'c Device,
    case: &'c Case,
    inputs: Place,
}

/// Where the inputs lie.
enum Place {
    Host(Box<Inputs>),
    /// Several sets in turn.
    Device(Vec<ResidentInputs>),
}

impl<'c> Bed<'c> {
    /// The inputs of a case, in memory of the device where `resident`.
    pub fn new(device: &'c Device, case: &'c Case, resident: bool) -> Result<Bed<'c>, CliError> {
        let inputs = match resident {
            true => Place::Device(resident::inputs(device, case)?),
            false => Place::Host(Box::new(case.clean_inputs().map_err(CliError::Refused)?)),
        };
        Ok(Bed { device, case, inputs })
    }

    /// The request of the case.
    pub fn request(&self) -> Result<Attention<'_>, CliError> {
        match &self.inputs {
            Place::Host(inputs) => self.case.request(inputs),
            Place::Device(sets) => sets[0].request(), // there is at least one
        }
        .map_err(CliError::Refused)
    }

    /// Seconds of each run of a plan for about so long, after some that are not counted.
    pub fn round(&self, plan: &Plan, long: Duration) -> Result<Vec<f64>, CliError> {
        match &self.inputs {
            Place::Host(_) => self.own(plan)?.round(long),
            Place::Device(sets) => Ok(Runs::new(self.device, plan, self.case, sets)?.times(long)?.1),
        }
    }

    /// The result of a plan, held against f64.
    pub fn check(&self, plan: &Plan) -> Result<Check, CliError> {
        match &self.inputs {
            Place::Host(_) => {
                let mut own = self.own(plan)?;
                own.round(Duration::ZERO)?;
                own.check(self.case)
            }
            Place::Device(sets) => Runs::new(self.device, plan, self.case, sets)?.check(),
        }
    }

    fn own(&self, plan: &Plan) -> Result<Own<'_>, CliError> {
        Own::of(plan.clone(), self.case, self.request()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright::lang::ir::Elem;
    use tilewright::prelude::{Causal, Schedule};

    #[test]
    fn a_plan_of_another_schedule_than_the_tables_is_timed_and_checked_wherever_the_inputs_lie() {
        let device = Device::cpu_with_threads(2);
        let case = Case::new("small").types(Elem::F16, Elem::F16).batch(2).heads(4, 2).dims(32, 32);
        for case in [case.clone().lengths(1, 300), case.without_lse().lengths(70, 90).feature(Causal)] {
            for resident in [false, true] {
                let bed = Bed::new(&device, &case, resident).unwrap();
                let schedule = Schedule { heads: 1, queries: 16, keys: 32 };
                let plan = bed.request().unwrap().schedule(schedule).plan(&device).unwrap();
                assert_eq!(plan.schedule(), schedule);
                let times = bed.round(&plan, Duration::ZERO).unwrap();
                assert!(!times.is_empty() && times.iter().all(|seconds| *seconds > 0.0), "{}", case.name());
                let check = bed.check(&plan).unwrap();
                assert!(check.holds && check.compared >= 3 * 32, "{} {resident}: {}", case.name(), check.line());
            }
        }
    }
}
