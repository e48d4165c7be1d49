//! Verification of a draft tree: a bit mask over the last keys.

use super::{FeatureEntry, bare};
use crate::attention::Extents;
use crate::cases::Case;
use crate::error::AttentionError;
use crate::feature::{Feature, Features, Input, InputValue, Keys, MaskHook, Pair, Pairs, Queries};
use std::fmt;
use std::sync::Arc;
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;
use tilewright_runtime::{Tensor, TensorView};

/// Which of the last `q_len` keys, the drafted tokens, each query sees: bool or u8 `[q_len, q_len]`, not zero where query `i`
/// sees draft `j`. Every key before them is seen by all. Cheap to clone: clones share the tensor.
///
/// Positions stay those of the slots, whatever the tree; so do windows and biases by distance.
#[derive(Clone)]
pub struct Tree(Arc<Tensor>);

/// The name of the tensor among the kernel's parameters.
const INPUT: &str = "tree";

impl Tree {
    /// A tree of these bits.
    ///
    /// # Errors
    /// A tensor that is not square, or of elements other than bool and u8.
    pub fn new(bits: impl Into<Arc<Tensor>>) -> Result<Tree, AttentionError> {
        let bits = bits.into();
        let refuse = |reason: String| Err(AttentionError::Feature { feature: "tree".to_string(), reason });
        match (bits.elem(), bits.shape()) {
            (Elem::Bool | Elem::U8, [rows, columns]) if rows == columns => Ok(Tree(bits)),
            (elem, shape) => refuse(format!("it is {elem} {shape:?}; give bool or u8 `[q_len, q_len]`")),
        }
    }

    /// The tree in which the parent of draft `i` is `parents[i]`, an earlier draft, or none: each draft sees itself, its
    /// ancestors and no others.
    ///
    /// # Errors
    /// A parent that does not come before its child.
    pub fn of_parents(parents: &[Option<usize>]) -> Result<Tree, AttentionError> {
        let n = parents.len();
        let mut bits = vec![false; n * n];
        for (draft, &parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                if parent >= draft {
                    let reason = format!("the parent of draft {draft} is {parent}; parents come before their children");
                    return Err(AttentionError::Feature { feature: "tree".to_string(), reason });
                }
                bits.copy_within(parent * n..(parent + 1) * n, draft * n);
            }
            bits[draft * n + draft] = true;
        }
        Tree::new(Tensor::from_slice(&bits, &[n, n])?)
    }

    fn drafts(&self) -> usize {
        self.0.shape()[0] // it has two axes
    }
}

impl SpecValue for Tree {
    fn key(&self, key: &mut String) {
        key.push_str("tree");
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({0} x {0})", self.drafts())
    }
}

impl Feature for Tree {
    fn check(&self, shape: &Extents, kv_len: &[i32]) -> Result<(), String> {
        let (drafts, q_len) = (self.drafts(), shape.q_len);
        if drafts != q_len {
            return Err(format!("it is {drafts} x {drafts} and there are {q_len} queries; give {q_len} x {q_len}"));
        }
        match kv_len.iter().position(|&keys| usize::try_from(keys).is_ok_and(|keys| keys < q_len)) {
            Some(entry) => Err(format!(
                "kv_len[{entry}] is {} and there are {q_len} queries; append the drafts to the cache first",
                kv_len[entry]
            )),
            None => Ok(()),
        }
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let shape = [self.drafts(); 2];
        // It always fits: the bytes of u8 are as many as those of bool.
        let view = TensorView::from_bytes(Elem::Bool, self.0.as_bytes(), &shape).ok();
        view.map(|view| Input { name: INPUT, value: InputValue::Tensor(view) }).into_iter().collect()
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

/// The first drafted key.
#[track_caller]
fn first_draft(at: &Queries) -> Scalar<i32> {
    at.kv_len - at.q_len
}

#[tile]
impl MaskHook for Tree {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        let first = first_draft(at);
        let bits = launch_view::<bool, 2>(INPUT).load([at.first_row, at.first_key - first], [at.queries, at.keys]);
        at.spread(bits.reshape(&[1, at.queries, at.keys])) | (at.key < first)
    }

    fn reference(&self, at: &Pair) -> bool {
        let draft = at.key - (at.kv_len as i64 - at.q_len as i64);
        let n = self.drafts();
        let bit = |draft: usize| self.0.as_bytes().get(at.row * n + draft).is_some_and(|&bit| bit != 0);
        match usize::try_from(draft) {
            Ok(draft) => draft < n && bit(draft),
            Err(_) => true,
        }
    }

    fn must(&self, at: &Queries, all: Keys) -> Keys {
        Keys { end: all.end.min(first_draft(at)), ..all }
    }

    fn differs_by_head(&self) -> bool {
        false
    }
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "tree",
    // Text says the kernel and the bits come at launch: this is the tree of one draft.
    parse: |of| {
        bare("tree", of)?;
        Ok(Features::none().with(Tree::of_parents(&[None]).map_err(|error| error.to_string())?))
    },
    samples: |shape| FORMS.iter().filter_map(|form| Some(Features::none().with(made(shape.q_len, *form)?))).collect(),
    cases,
};

/// The parent of a draft.
type Form = fn(usize) -> Option<usize>;

/// A chain, a star of siblings, a binary tree, and one without a pattern.
const FORMS: [Form; 4] = [
    |draft| draft.checked_sub(1),
    |draft| (draft > 0).then_some(0),
    |draft| draft.checked_sub(1).map(|before| before / 2),
    |draft| (draft > 0).then(|| draft * 40503 % 4093 % draft),
];

fn made(drafts: usize, form: Form) -> Option<Tree> {
    Tree::of_parents(&(0..drafts).map(form).collect::<Vec<_>>()).ok() // the forms name earlier drafts
}

fn cases() -> Vec<Case> {
    let [chain, star, binary, random] = FORMS;
    let case = |name, (q_len, capacity): (usize, usize), form| {
        Some(Case::new(name).heads(4, 2).lengths(q_len, capacity).feature(made(q_len, form)?))
    };
    [
        case("tree_of_one", (1, 33), chain),
        case("tree_chain", (8, 40), chain),
        case("tree_star", (8, 40), star),
        case("tree_binary", (15, 300), binary),
        case("tree_random", (31, 130), random),
        case("tree_of_64", (64, 200), random),
        case("tree_of_all_keys", (20, 20), random),
        case("tree_across_tiles", (17, 70), binary).map(|case| case.schedule(8, 16)),
        case("tree_uneven_batch", (7, 70), random).map(|case| case.batch(4).kv_len(&[70, 33, 7, 8])),
        case("tree_from_any_start", (7, 40), star).map(|case| case.q_start(-3)),
        case("tree_of_a_group_of_three", (9, 50), binary).map(|case| case.heads(6, 2)),
    ]
    .into_iter()
    .flatten()
    .collect()
}
