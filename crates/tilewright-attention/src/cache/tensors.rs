//! The tensors of a cache on the host, checked against the contract.

use super::format::{Encoding, Format, K, K_TAIL, Names, Placement, V, V_TAIL};
use crate::error::AttentionError;
use crate::quant::Affine;
use tilewright_ir::Elem;
use tilewright_runtime::{TensorError, TensorView};

/// The smallest and the largest page.
pub const PAGE_SIZES: std::ops::RangeInclusive<usize> = 16..=256;

/// Keys and values that attention reads: tensors, and how they lie.
///
/// ```
/// use tilewright_attention::cache::Cache;
/// use tilewright_ir::Elem;
/// use tilewright_runtime::Tensor;
///
/// let pool = Tensor::zeros(Elem::F16, &[10, 2, 16, 64])?; // 10 pages of 16 tokens, 2 heads
/// let pages = [7, 2, 3, 0, 1, 5]; // three for each of two batch entries
/// let cache = Cache::new(pool.view(), pool.view()).paged(&pages);
/// # Ok::<(), tilewright_runtime::TensorError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cache<'a> {
    pub(crate) keys: Tokens<'a>,
    pub(crate) values: Tokens<'a>,
    pub(crate) place: Place<'a>,
    pub(crate) tail: Option<Tail<'a>>,
    /// Keys that count, where the cache knows it; one number a batch entry.
    pub(crate) kv_len: Option<&'a [i32]>,
}

/// The keys, or the values, of a cache.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    /// `[batch, kv_heads, capacity, dim]`, f32, f16 or bf16.
    Stored(TensorView<'a>),
    /// Affine codes.
    Affine(Codes<'a>),
}

/// Affine codes of tokens, as MLX lays them out.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// u32 `[batch, kv_heads, capacity, dim * bits / 32]`; code `i` in word `i / (32 / bits)`, from its lowest bits up.
    pub w: TensorView<'a>,
    /// `[batch, kv_heads, capacity, dim / group]` in the activation type.
    pub scales: TensorView<'a>,
    /// Like the scales.
    pub biases: TensorView<'a>,
    /// Bits and groups.
    pub format: Affine,
}

/// Where the token of a logical key lies: [`Placement`], with the tensors that say so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Contiguous,
    Ring(&'a [i32]),
    Paged(&'a [i32]),
}

/// Dense tokens behind those of the cache proper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail<'a> {
    pub k: TensorView<'a>,
    pub v: TensorView<'a>,
    pub prefix_len: &'a [i32],
}

/// Numbers of a cache in memory of the host, under the name of the kernels' parameter.
pub(crate) struct Table<'a> {
    pub name: &'static str,
    pub numbers: &'a [i32],
    shape: [usize; 2],
    rank: usize,
}

impl Table<'_> {
    /// Its extents: `[batch]`, or `[batch, n]`.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }
}

/// What a cache says of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub batch: usize,
    pub kv_heads: usize,
    /// Logical keys that there is room for.
    pub capacity: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    /// Of what is not codes.
    pub elem: Elem,
}

impl<'a> From<TensorView<'a>> for Tokens<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Tokens::Stored(view)
    }
}

impl<'a> From<Codes<'a>> for Tokens<'a> {
    fn from(codes: Codes<'a>) -> Self {
        Tokens::Affine(codes)
    }
}

impl<'a> Cache<'a> {
    /// Keys and values with the token of key `j` in slot `j`; each dense or as codes. Of [`ring`](Cache::ring) and
    /// [`paged`](Cache::paged) the one called last says where tokens lie.
    pub fn new(keys: impl Into<Tokens<'a>>, values: impl Into<Tokens<'a>>) -> Self {
        Cache { keys: keys.into(), values: values.into(), place: Place::Contiguous, tail: None, kv_len: None }
    }

    /// The slots are a ring: `start` is the slot of the oldest token, one for each batch entry.
    pub fn ring(self, start: &'a [i32]) -> Self {
        Cache { place: Place::Ring(start), ..self }
    }

    /// The tensors are pages, `[pages, kv_heads, page_size, …]`: `table` holds the page numbers of each batch entry, row after
    /// row, for token `j` at `j / page_size`. Entries past `kv_len` may hold anything.
    pub fn paged(self, table: &'a [i32]) -> Self {
        Cache { place: Place::Paged(table), ..self }
    }

    /// Dense tokens `[batch, kv_heads, room, dim]` follow the first `prefix_len` tokens of each batch entry.
    pub fn tail(self, k: TensorView<'a>, v: TensorView<'a>, prefix_len: &'a [i32]) -> Self {
        Cache { tail: Some(Tail { k, v, prefix_len }), ..self }
    }

    /// How many keys of each batch entry count; the others may hold anything. A request's own
    /// [`kv_len`](crate::Attention::kv_len) takes its place.
    pub fn kv_len(self, kv_len: &'a [i32]) -> Self {
        Cache { kv_len: Some(kv_len), ..self }
    }

    /// Its format.
    pub fn format(&self) -> Format {
        Format {
            placement: match self.place {
                Place::Contiguous => Placement::Contiguous,
                Place::Ring(_) => Placement::Ring,
                Place::Paged(_) => Placement::Paged { page_size: self.keys.slots() },
            },
            keys: self.keys.encoding(),
            values: self.values.encoding(),
            tail: self.tail.is_some(),
        }
    }

    /// The values as keys and the keys as values.
    pub(crate) fn swapped(self) -> Self {
        let tail = self.tail.map(|tail| Tail { k: tail.v, v: tail.k, ..tail });
        Cache { keys: self.values, values: self.keys, tail, ..self }
    }

    /// The type of what is not codes; of the keys, which share it with the values.
    pub(crate) fn elem(&self) -> Elem {
        match &self.keys {
            Tokens::Stored(view) => view.elem(),
            Tokens::Affine(codes) => codes.scales.elem(),
        }
    }

    /// All tensors under the names of the kernels' parameters, for a batch of so many entries.
    pub(crate) fn tensors(&self, batch: usize) -> Result<Vec<(&'static str, TensorView<'a>)>, TensorError> {
        let mut all = self.tokens();
        for table in self.tables(batch) {
            all.push((table.name, TensorView::from_slice(table.numbers, table.shape())?));
        }
        Ok(all)
    }

    /// The tensors of tokens under the names of the kernels' parameters.
    pub(crate) fn tokens(&self) -> Vec<(&'static str, TensorView<'a>)> {
        let mut all = self.keys.tensors(&K);
        all.extend(self.values.tensors(&V));
        if let Some(tail) = &self.tail {
            all.extend([("k_tail", tail.k), ("v_tail", tail.v)]);
        }
        all
    }

    /// What says where tokens lie, for a batch of so many entries.
    pub(crate) fn tables(&self, batch: usize) -> impl Iterator<Item = Table<'a>> {
        let place = match self.place {
            Place::Contiguous => None,
            Place::Ring(start) => Some(Table { name: "ring_start", numbers: start, shape: [batch, 1], rank: 1 }),
            Place::Paged(table) => {
                let shape = [batch, table.len() / batch.max(1)];
                Some(Table { name: "pages", numbers: table, shape, rank: 2 })
            }
        };
        let prefix =
            |tail: &Tail<'a>| Table { name: "prefix_len", numbers: tail.prefix_len, shape: [batch, 1], rank: 1 };
        place.into_iter().chain(self.tail.as_ref().map(prefix))
    }

    /// Holds the tensors against each other, for a batch of so many entries.
    pub(crate) fn layout(&self, batch: usize) -> Result<Layout, AttentionError> {
        let ([outer, kv_heads, slots, head_dim], elem) = self.keys.axes(&K)?;
        let ([v_outer, v_heads, v_slots, value_dim], v_elem) = self.values.axes(&V)?;
        same("v", AXES, [v_outer, v_heads, v_slots], "k", [outer, kv_heads, slots])?;
        if elem != v_elem {
            return Err(AttentionError::CacheMix { k: elem, v: v_elem });
        }
        let mut layout = Layout { batch: outer, kv_heads, capacity: slots, head_dim, value_dim, elem };
        match self.place {
            Place::Contiguous | Place::Ring(_) => {}
            Place::Paged(table) => {
                layout = Layout { batch, capacity: paged_capacity(table, batch, slots)?, ..layout };
            }
        }
        if let Some(tail) = &self.tail {
            if !matches!(self.place, Place::Contiguous) {
                return Err(AttentionError::combination(
                    "a dense tail behind a ring or pages",
                    "a tail behind a plain cache",
                ));
            }
            let ([b, h, room, dim], k_elem) = Tokens::Stored(tail.k).axes(&K_TAIL)?;
            let ([vb, vh, v_room, v_dim], v_elem) = Tokens::Stored(tail.v).axes(&V_TAIL)?;
            same("k_tail", [BATCH, HEADS, "head dim"], [b, h, dim], "k", [outer, kv_heads, head_dim])?;
            same("v_tail", [BATCH, HEADS, "value dim"], [vb, vh, v_dim], "v", [outer, kv_heads, value_dim])?;
            same("v_tail", [LENGTH], [v_room], "k_tail", [room])?;
            if k_elem != elem || v_elem != elem {
                return Err(AttentionError::CacheMix { k: k_elem, v: elem });
            }
            layout.capacity += room;
        }
        Ok(layout)
    }

    /// Holds the numbers of each batch entry against the tensors: ring starts, page numbers, the length of the prefix.
    pub(crate) fn check_entries(&self, kv_len: &[i32]) -> Result<(), AttentionError> {
        let slots = self.keys.slots();
        let count = |what, given: &[i32]| match given.len() == kv_len.len() {
            true => Ok(()),
            false => Err(AttentionError::EntryCount { what, got: given.len(), batch: kv_len.len() }),
        };
        match self.place {
            Place::Contiguous => {}
            Place::Ring(start) => {
                count("ring_start", start)?;
                let outside = |&(_, &at): &(usize, &i32)| !usize::try_from(at).is_ok_and(|at| at < slots.max(1));
                if let Some((entry, &got)) = start.iter().enumerate().find(outside) {
                    return Err(AttentionError::RingStart { entry, got, capacity: slots });
                }
            }
            Place::Paged(table) => {
                let pages = self.keys.shape()[0];
                let rows = table.chunks((table.len() / kv_len.len().max(1)).max(1));
                for ((entry, row), &len) in rows.enumerate().zip(kv_len) {
                    let used = &row[..(len.max(0) as usize).div_ceil(slots)];
                    let outside = |&(_, &page): &(usize, &i32)| !usize::try_from(page).is_ok_and(|page| page < pages);
                    if let Some((place, &got)) = used.iter().enumerate().find(outside) {
                        return Err(AttentionError::Page { entry, place, got, pages });
                    }
                }
            }
        }
        if let Some(tail) = &self.tail {
            count("prefix_len", tail.prefix_len)?;
            let room = tail.k.shape()[2];
            for (entry, (&prefix, &len)) in tail.prefix_len.iter().zip(kv_len).enumerate() {
                let fits = prefix >= 0 && prefix as usize <= slots && prefix <= len && (len - prefix) as usize <= room;
                if !fits {
                    return Err(AttentionError::Prefix { entry, prefix, len, slots, room });
                }
            }
        }
        Ok(())
    }
}

impl<'a> Tokens<'a> {
    fn encoding(&self) -> Encoding {
        match self {
            Tokens::Stored(_) => Encoding::Stored,
            Tokens::Affine(codes) => Encoding::Affine(codes.format),
        }
    }

    /// Of the tensor that holds the tokens, numbers or codes.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Tokens::Stored(view) => view.shape(),
            Tokens::Affine(codes) => codes.w.shape(),
        }
    }

    /// Tokens that each head of the outermost axis has room for.
    fn slots(&self) -> usize {
        self.shape().get(2).copied().unwrap_or(0)
    }

    /// The tensors under the names of the kernels' parameters.
    pub(crate) fn tensors(&self, names: &'static Names) -> Vec<(&'static str, TensorView<'a>)> {
        match self {
            Tokens::Stored(view) => vec![(names.stored, *view)],
            Tokens::Affine(codes) => {
                vec![(names.w, codes.w), (names.scales, codes.scales), (names.biases, codes.biases)]
            }
        }
    }

    /// The logical extents `[outer, heads, slots, dim]`, and the type of what is not codes.
    fn axes(&self, names: &'static Names) -> Result<([usize; 4], Elem), AttentionError> {
        match self {
            Tokens::Stored(view) => Ok((axes(names.stored, view)?, float(names.stored, view)?)),
            Tokens::Affine(codes) => {
                let [outer, heads, slots, words] = axes(names.w, &codes.w)?;
                if codes.w.elem() != Elem::U32 {
                    return Err(AttentionError::Element { tensor: names.w, got: codes.w.elem(), wanted: "u32" });
                }
                let Affine { bits, group } = codes.format;
                let dim = words * bits.codes_per_word();
                let groups = dim / group.size();
                if !dim.is_multiple_of(group.size()) {
                    return Err(AttentionError::Group { tensor: names.w, dim, group });
                }
                for (name, view) in [(names.scales, &codes.scales), (names.biases, &codes.biases)] {
                    let [of_outer, of_heads, of_slots, got] = axes(name, view)?;
                    same(name, AXES, [of_outer, of_heads, of_slots], names.w, [outer, heads, slots])?;
                    same(name, ["number of groups"], [got], names.w, [groups])?;
                }
                let elem = float(names.scales, &codes.scales)?;
                match float(names.biases, &codes.biases)? {
                    biases if biases == elem => Ok(([outer, heads, slots, dim], elem)),
                    got => Err(AttentionError::Element { tensor: names.biases, got, wanted: "the type of the scales" }),
                }
            }
        }
    }
}

// The names of the axes of a cache tensor, for messages.
pub(super) const BATCH: &str = "batch";
pub(super) const HEADS: &str = "number of heads";
pub(super) const LENGTH: &str = "length";
pub(super) const AXES: [&str; 3] = [BATCH, HEADS, LENGTH];

/// Holds some extents of a tensor against those of another.
pub(super) fn same<const N: usize>(
    tensor: &'static str,
    axes: [&'static str; N],
    got: [usize; N],
    other: &'static str,
    wanted: [usize; N],
) -> Result<(), AttentionError> {
    match got.into_iter().zip(wanted).enumerate().find(|(_, (got, wanted))| got != wanted) {
        Some((at, (got, wanted))) => Err(AttentionError::Extent { tensor, axis: axes[at], got, other, wanted }),
        None => Ok(()),
    }
}

/// The logical keys of each batch entry that a page table has room for.
pub(super) fn paged_capacity(table: &[i32], batch: usize, page_size: usize) -> Result<usize, AttentionError> {
    if !PAGE_SIZES.contains(&page_size) {
        return Err(AttentionError::PageSize { got: page_size });
    }
    if !table.len().is_multiple_of(batch.max(1)) {
        return Err(AttentionError::PageTable { got: table.len(), batch });
    }
    Ok(table.len() / batch.max(1) * page_size)
}

/// The extents of a tensor of rank 4 with a contiguous last axis.
pub(crate) fn axes(tensor: &'static str, view: &TensorView<'_>) -> Result<[usize; 4], AttentionError> {
    let axes = <[usize; 4]>::try_from(view.shape()).map_err(|_| AttentionError::Rank {
        tensor,
        got: view.shape().len(),
        wanted: 4,
        axes: "batch, heads, length, dim",
    })?;
    contiguous(tensor, view.shape(), view.strides())?;
    Ok(axes)
}

/// The element type of a tensor of floats.
pub(crate) fn float(tensor: &'static str, view: &TensorView<'_>) -> Result<Elem, AttentionError> {
    match view.elem() {
        elem if elem.is_float() => Ok(elem),
        got => Err(AttentionError::Element { tensor, got, wanted: "f32, f16 or bf16" }),
    }
}

/// An axis of extent 0 or 1 has no neighbours, so its stride says nothing.
pub(crate) fn contiguous(tensor: &'static str, shape: &[usize], strides: &[usize]) -> Result<(), AttentionError> {
    match (shape.last(), strides.last()) {
        (Some(&extent), Some(&stride)) if extent > 1 && stride != 1 => Err(AttentionError::Stride { tensor, stride }),
        _ => Ok(()),
    }
}
