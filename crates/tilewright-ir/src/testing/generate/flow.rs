//! Loops and branches.

use super::{DEEPEST, Entry, Generator};
use crate::kernel::{RegionId, ValueId};
use crate::op::{Control, Elementwise};
use crate::site::SiteId;
use crate::testing::fact::Fact;
use crate::types::{Elem, Type};

/// What holds of carried floats before and after each pass.
const CARRIED: Fact = Fact { bound: 64.0, error: 1.0 / 4096.0, grain: 0.0 };

impl Generator<'_> {
    /// Fills a region with statements and yields what `finish` makes of it. Nothing in it stays visible.
    fn inside(
        &mut self,
        region: RegionId,
        entering: &[(ValueId, Fact)],
        finish: impl FnOnce(&mut Self) -> Vec<Entry>,
    ) -> Vec<Entry> {
        let (outer, pool, windows) = (self.region, self.pool.len(), self.windows.len());
        self.region = region;
        self.depth += 1;
        for &(value, fact) in entering {
            let _ = self.keep(value, fact);
        }
        for _ in 0..1 + self.pick(5) {
            let _ = self.statement();
        }
        let yields = finish(self);
        self.kernel.regions[region.index()].yields = yields.iter().map(|e| e.value).collect(); // it was just made
        self.pool.truncate(pool);
        self.windows.truncate(windows);
        self.depth -= 1;
        self.region = outer;
        yields
    }

    pub(super) fn repeat(&mut self) -> Option<Entry> {
        if self.depth >= DEEPEST {
            return None;
        }
        let first = self.pick(5) as f64 - 2.0;
        let last = first + self.pick(6) as f64 - 1.0;
        let step = [1.0, 2.0, 1.0, 3.0, 0.0, -1.0][self.pick(6)];
        let mut range = Vec::new();
        for place in [first, last, step] {
            range.push(self.constant(place, Elem::I32)?);
        }
        if self.pick(4) == 0 {
            let any = self.find(|e| e.ty == Type::scalar(Elem::I32))?;
            let mask = self.constant(3.0, Elem::I32)?;
            range[1] = self.emit(Elementwise::And, &[any.value, mask])?;
        }
        let mut inits = Vec::new();
        for _ in 0..self.pick(3) {
            inits.extend(self.find(|e| {
                let float = e.fact.bound <= CARRIED.bound && e.fact.error <= CARRIED.error;
                !e.elem().is_float() || (e.elem() == Elem::F32 && float)
            }));
        }
        let fact = |ty: Type| match ty.elem() {
            Elem::F32 | Elem::F16 | Elem::Bf16 => CARRIED,
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => Fact::INT,
        };
        let body = self.kernel.add_region(self.region);
        let types = std::iter::once(Type::scalar(Elem::I32)).chain(inits.iter().map(|e| e.ty));
        let args: Vec<ValueId> = types.map(|ty| self.kernel.add_value(ty, body, SiteId::UNKNOWN)).collect();
        self.kernel.regions[body.index()].args = args.clone(); // it was just made
        let mut entering = vec![(args[0], Fact::exact(8.0, 1.0))];
        entering.extend(args[1..].iter().zip(&inits).map(|(&arg, init)| (arg, fact(init.ty))));
        self.inside(body, &entering, |g| {
            args[1..].iter().zip(&inits).map(|(&arg, init)| g.next_carried(arg, init.ty)).collect()
        });
        let operands: Vec<ValueId> = range.into_iter().chain(inits.iter().map(|e| e.value)).collect();
        let results = self.push(Control::For { body }, &operands)?;
        self.count += 1;
        let mut kept = None;
        for (result, init) in results.into_iter().zip(inits) {
            kept = self.keep(result, fact(init.ty));
        }
        kept
    }

    /// What a pass hands to the next one: for floats, something that keeps to [`CARRIED`].
    fn next_carried(&mut self, arg: ValueId, ty: Type) -> Entry {
        let unchanged = Entry { value: arg, ty, fact: CARRIED };
        if !ty.elem().is_float() {
            return self.find(|e| e.ty == ty).unwrap_or(unchanged);
        }
        let fits = |e: &Entry| e.ty == ty && e.fact.bound <= CARRIED.bound && e.fact.error <= CARRIED.error;
        let Some(new) = self.find(fits) else { return unchanged };
        let value = match self.pick(3) {
            0 => Some(new.value),
            1 => self.emit(Elementwise::Max, &[arg, new.value]),
            _ if new.fact.error > CARRIED.error / 4.0 => None,
            _ => self.average(arg, new.value),
        };
        value.map_or(unchanged, |value| Entry { value, ty, fact: CARRIED })
    }

    fn average(&mut self, a: ValueId, b: ValueId) -> Option<ValueId> {
        let half = self.constant(0.5, Elem::F32)?;
        let a = self.emit(Elementwise::Mul, &[a, half])?;
        let b = self.emit(Elementwise::Mul, &[b, half])?;
        self.emit(Elementwise::Add, &[a, b])
    }

    pub(super) fn branch(&mut self) -> Option<Entry> {
        if self.depth >= DEEPEST {
            return None;
        }
        let cond = match self.find(|e| e.ty == Type::scalar(Elem::Bool)) {
            Some(entry) => entry.value,
            None => {
                let one = self.constant(1.0, Elem::I32)?;
                self.emit(Elementwise::Lt, &[self.program, one])?
            }
        };
        let wanted = self.find(|_| true)?;
        let finish = |g: &mut Self| g.find(|e| e.ty == wanted.ty).into_iter().collect::<Vec<_>>();
        let then = self.kernel.add_region(self.region);
        let first = self.inside(then, &[], finish);
        let otherwise = self.kernel.add_region(self.region);
        let second = self.inside(otherwise, &[], finish);
        let results = self.push(Control::If { then, otherwise }, &[cond])?;
        self.count += 1;
        let fact = first.first()?.fact.either(second.first()?.fact);
        self.keep(*results.first()?, fact)
    }
}
