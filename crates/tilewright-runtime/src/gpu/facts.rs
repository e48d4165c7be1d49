//! What is known of the tensors of a launch, and a kernel's code for each such knowledge.

use crate::tensor::Layout;
use std::sync::{Arc, PoisonError, RwLock};
use tilewright_compile::gpu::Access16;
use tilewright_ir::Elem;

/// What is known of all tensors of a launch. Views past 64 are not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facts {
    /// Bit `i` is set where view parameter `i` is [`Access16::Aligned`].
    aligned: u64,
    /// And here where it is [`Access16::Words`].
    words: u64,
}

impl Facts {
    pub fn of(views: impl IntoIterator<Item = Access16>) -> Facts {
        let mut facts = Facts::default();
        for (view, fact) in views.into_iter().take(64).enumerate() {
            match fact {
                Access16::Aligned => facts.aligned |= 1 << view,
                Access16::Words => facts.words |= 1 << view,
                Access16::Any => {}
            }
        }
        facts
    }

    pub fn of_view(self, view: usize) -> Access16 {
        let has = |bits: u64| view < 64 && bits >> view & 1 == 1;
        match (has(self.aligned), has(self.words)) {
            (true, _) => Access16::Aligned,
            (false, true) => Access16::Words,
            (false, false) => Access16::Any,
        }
    }
}

/// What holds for one tensor.
///
/// Tensors of i32 are tables (lengths, positions, pages): their number of entries follows the request, so they are always
/// `Any`, or a kernel would be compiled anew for another batch.
pub(crate) fn fact(layout: &Layout, address: u64) -> Access16 {
    let width = layout.elem.bytes();
    let Some(last) = layout.rank().checked_sub(1) else { return Access16::Any };
    // A tensor without elements is never read: its strides are 0 and say nothing.
    let steps = layout.stride(last) == 1 || layout.count() == 0;
    let rows_of = |bytes: usize| {
        let whole = (layout.shape[last] * width).is_multiple_of(bytes) && address.is_multiple_of(bytes as u64);
        whole && (0..last).all(|axis| (layout.stride(axis) * width as isize) % bytes as isize == 0)
    };
    match layout.elem != Elem::I32 && steps {
        true if rows_of(16) => Access16::Aligned,
        true if rows_of(4) => Access16::Words,
        true | false => Access16::Any,
    }
}

/// What a kernel was compiled to, once for each set of facts that launches came with.
pub(crate) struct Variants<C>(RwLock<Vec<(Facts, Arc<C>)>>);

impl<C> Variants<C> {
    /// With the code for these facts.
    pub fn new(facts: Facts, first: Arc<C>) -> Variants<C> {
        Variants(RwLock::new(vec![(facts, first)]))
    }

    /// The code for these facts, if it is there.
    pub fn get(&self, facts: Facts) -> Option<Arc<C>> {
        find(&self.0.read().unwrap_or_else(PoisonError::into_inner), facts)
    }

    /// The code for these facts, compiled when it is not there yet. A failure is not kept.
    pub fn get_or<E>(&self, facts: Facts, compile: impl FnOnce() -> Result<C, E>) -> Result<Arc<C>, E> {
        if let Some(found) = self.get(facts) {
            return Ok(found);
        }
        let mut variants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&variants, facts) {
            return Ok(found); // another thread was first
        }
        let code = Arc::new(compile()?);
        variants.push((facts, code.clone()));
        Ok(code)
    }
}

fn find<C>(variants: &[(Facts, Arc<C>)], facts: Facts) -> Option<Arc<C>> {
    variants.iter().find(|(of, _)| *of == facts).map(|(_, code)| code.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn of(elem: Elem, shape: &[usize], strides: &[usize], address: u64) -> Access16 {
        let tensor = Tensor::zeros(elem, &[1024]).unwrap();
        fact(&tensor.view().with_strides(shape, strides).unwrap().layout, address)
    }

    #[test]
    fn rows_of_whole_16_bytes_at_a_multiple_of_16_are_aligned() {
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[24, 8, 1], 0), Access16::Aligned);
        assert_eq!(of(Elem::F32, &[4], &[1], 4096), Access16::Aligned);
        assert_eq!(of(Elem::U8, &[2, 16], &[32, 1], 16), Access16::Aligned);
    }

    #[test]
    fn each_thing_that_is_off_is_seen() {
        let cases: [(&str, &[usize], &[usize], u64); 6] = [
            ("address", &[2, 3, 8], &[24, 8, 1], 2),
            ("length", &[2, 3, 7], &[24, 8, 1], 0),
            ("stride of the last axis", &[2, 3, 8], &[48, 16, 2], 0),
            ("stride of the middle axis", &[2, 3, 8], &[32, 9, 1], 0),
            ("stride of the first axis", &[2, 3, 8], &[29, 8, 1], 0),
            ("no axis", &[], &[], 0),
        ];
        for (what, shape, strides, address) in cases {
            assert_eq!(of(Elem::F16, shape, strides, address), Access16::Any, "{what}");
        }
    }

    #[test]
    fn rows_of_whole_4_bytes_are_words() {
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[24, 8, 1], 8), Access16::Words);
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[28, 8, 1], 0), Access16::Words);
        assert_eq!(of(Elem::Bf16, &[2, 3, 2], &[6, 2, 1], 4), Access16::Words);
        assert_eq!(of(Elem::Bf16, &[2, 3, 1], &[6, 2, 1], 4), Access16::Any);
    }

    #[test]
    fn the_stride_of_an_axis_with_one_entry_does_not_matter() {
        assert_eq!(of(Elem::F16, &[1, 3, 8], &[5, 8, 1], 0), Access16::Aligned);
        assert_eq!(of(Elem::F16, &[0, 8], &[3, 1], 0), Access16::Aligned, "nor do those of a tensor without elements");
    }

    #[test]
    fn tables_of_i32_are_never_special() {
        assert_eq!(of(Elem::I32, &[4], &[1], 0), Access16::Any);
    }

    #[test]
    fn facts_are_told_apart_by_parameter() {
        use Access16::{Aligned, Any, Words};
        let facts = Facts::of([Any, Aligned, Words]);
        assert_eq!([0, 1, 2, 3, 64].map(|i| facts.of_view(i)), [Any, Aligned, Words, Any, Any]);
        assert_ne!(facts, Facts::of([Access16::Aligned, Access16::Any]));
        assert_eq!(Facts::of([Access16::Aligned; 80]).of_view(70), Access16::Any);
    }

    #[test]
    fn code_is_compiled_once_for_each_set_of_facts_and_a_failure_is_not_kept() {
        let (aligned, any) = (Facts::of([Access16::Aligned]), Facts::of([Access16::Any]));
        let variants = Variants::new(aligned, Arc::new("aligned"));
        assert_eq!(variants.get(any), None);
        assert_eq!(variants.get_or(any, || Err("no compiler")), Err("no compiler"));
        for _ in 0..2 {
            assert_eq!(variants.get_or(aligned, || Err("compiled twice")).as_deref(), Ok(&"aligned"));
        }
        assert_eq!(variants.get_or(any, || Ok::<_, ()>("any")).as_deref(), Ok(&"any"));
        assert_eq!(variants.get_or(any, || Err("compiled twice")).as_deref(), Ok(&"any"));
    }
}
