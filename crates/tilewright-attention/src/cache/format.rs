//! How keys and values lie in a cache, as a kernel sees it.
//!
//! Two choices that combine: where the token of a logical key lies ([`Placement`]), and how the numbers of a token are
//! stored ([`Encoding`]). Both are specialisation values; the tensors become launch parameters of the kernel.

use crate::index::{Keys, Pairs, Queries};
use crate::kernels::rounded;
use crate::quant::{Affine, QuantError};
use std::fmt;
use tilewright_lang::prelude::*;

/// Where the token of a logical key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Token `j` in slot `j`.
    Contiguous,
    /// Token `j` in slot `(ring_start + j) mod capacity`.
    Ring,
    /// Token `j` in slot `j mod page_size` of page `pages[j / page_size]`.
    Paged {
        /// Tokens of a page.
        page_size: usize,
    },
}

/// How the numbers of one token and head are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As they are.
    Stored,
    /// As affine codes: `scale * code + bias`, with a scale and a bias for each group of numbers.
    Affine(Affine),
}

/// Which numbers attention takes codes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decoding {
    /// `scale * code + bias`, in f32.
    Exact,
    /// Those of a dequantised cache, `T(T(scale * code) + bias)`, which a matrix unit multiplies as any others of their type.
    Dequantised,
}

/// A cache format.
///
/// Its launch parameters: `k` and `v` `[batch, kv_heads, capacity, dim]` where they are stored as they are; `k_w` u32
/// `[…, dim * bits / 32]`, `k_scales` and `k_biases` `[…, dim / group]` where they are codes, and so for `v`. In a ring,
/// `ring_start` `[batch]`; with pages, `pages` `[batch, pages]`, and the tensors are `[pages, kv_heads, page_size, …]`. With a
/// tail, `k_tail` and `v_tail` like dense `k` and `v`, and `prefix_len` `[batch]`, the tokens before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Of keys and values.
    pub placement: Placement,
    /// Of keys.
    pub keys: Encoding,
    /// Of values.
    pub values: Encoding,
    /// Whether dense tokens follow those of the cache proper.
    pub tail: bool,
}

/// Consecutive logical keys whose slots are consecutive too, or follow one page table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// The logical keys; some may not exist.
    pub keys: Keys,
    /// The slot of a logical key, less the key.
    shift: Scalar<i32>,
    batch: Scalar<i32>,
    placement: Placement,
    k: Side,
    v: Side,
}

/// Keys or values of a tile, one to a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loaded<C: Float> {
    /// Numbers of the cache's type.
    Rounded(Tile<C>),
    /// Of codes.
    Exact(Tile<f32>),
}

/// Codes of a tile: `[rows * groups, group]`, with a scale and a bias for each row.
struct Codes<C: Float> {
    codes: Tile<u8>,
    scales: Tile<C>,
    biases: Tile<C>,
}

/// Keys or values of a stretch: the names of its parameters, and the encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    names: &'static Names,
    encoding: Encoding,
}

/// Parameters of keys or values.
#[derive(Debug)]
pub(crate) struct Names {
    pub stored: &'static str,
    pub w: &'static str,
    pub scales: &'static str,
    pub biases: &'static str,
}

pub(crate) const K: Names = Names { stored: "k", w: "k_w", scales: "k_scales", biases: "k_biases" };
pub(crate) const V: Names = Names { stored: "v", w: "v_w", scales: "v_scales", biases: "v_biases" };
pub(crate) const K_TAIL: Names = Names { stored: "k_tail", ..K };
pub(crate) const V_TAIL: Names = Names { stored: "v_tail", ..V };

impl Format {
    /// The names of all launch parameters of caches.
    pub(crate) const PARAMETERS: [&'static str; 13] = [
        "k",
        "v",
        "k_w",
        "k_scales",
        "k_biases",
        "v_w",
        "v_scales",
        "v_biases",
        "k_tail",
        "v_tail",
        "prefix_len",
        "ring_start",
        "pages",
    ];

    /// Dense tensors.
    pub const DENSE: Format =
        Format { placement: Placement::Contiguous, keys: Encoding::Stored, values: Encoding::Stored, tail: false };

    /// Whether keys or values are codes.
    pub fn has_codes(&self) -> bool {
        [self.keys, self.values].iter().any(|&side| side != Encoding::Stored)
    }

    /// Heads of keys and values, as the tensors say; `C` is the element type of what is not codes.
    #[track_caller]
    pub(crate) fn kv_heads<C: Float>(&self) -> Scalar<i32> {
        Side { names: &K, encoding: self.keys }.len::<C>(1)
    }

    /// The stretches that the keys of a batch entry lie in, in order.
    #[track_caller]
    pub(crate) fn stretches<C: Float>(&self, at: &Queries) -> Vec<Stretch> {
        let (k, v) = (Side { names: &K, encoding: self.keys }, Side { names: &V, encoding: self.values });
        let stretch = |first: Scalar<i32>, end: Scalar<i32>, shift: Scalar<i32>| Stretch {
            keys: Keys { first, end },
            shift,
            batch: at.batch,
            placement: self.placement,
            k,
            v,
        };
        let zero = || scalar(0);
        match self.placement {
            _ if self.tail => {
                let prefix = launch_view::<i32, 1>("prefix_len").get(at.batch);
                let dense = |names| Side { names, encoding: Encoding::Stored };
                let tail = stretch(prefix, at.kv_len, -prefix);
                vec![stretch(zero(), prefix, zero()), Stretch { k: dense(&K_TAIL), v: dense(&V_TAIL), ..tail }]
            }
            Placement::Contiguous | Placement::Paged { .. } => vec![stretch(zero(), at.kv_len, zero())],
            Placement::Ring => {
                let start = launch_view::<i32, 1>("ring_start").get(at.batch);
                let capacity = k.len::<C>(2);
                let wraps = capacity - start;
                vec![stretch(zero(), wraps.min(at.kv_len), start), stretch(wraps, at.kv_len, -wraps)]
            }
        }
    }
}

impl Stretch {
    /// Where the tile starts that holds the first key of `own`: tiles of `keys` keys lie side by side from the stretch's
    /// first key on.
    #[track_caller]
    pub fn first_tile(&self, own: Keys, keys: usize) -> Scalar<i32> {
        let before = (own.first - self.keys.first) / keys * keys;
        self.keys.first + before
    }

    /// The keys of a tile, `[keys, head_dim]`; what lies outside `own` is zero, or any value where slots are paged.
    #[track_caller]
    pub fn load_keys<C: Float>(
        &self,
        at: &Pairs,
        own: Keys,
        kv_head: Scalar<i32>,
        (head_dim, decoding): (usize, Decoding),
    ) -> Loaded<C> {
        self.load((self.k, head_dim), at, own, kv_head, decoding)
    }

    /// The values of a tile, `[keys, value_dim]`, in the same way.
    #[track_caller]
    pub fn load_values<C: Float>(
        &self,
        at: &Pairs,
        own: Keys,
        kv_head: Scalar<i32>,
        (value_dim, decoding): (usize, Decoding),
    ) -> Loaded<C> {
        self.load((self.v, value_dim), at, own, kv_head, decoding)
    }

    /// The keys of a tile in the same way, with the bits of a dequantised cache on every device: an op may keep more digits
    /// than its type, and nothing is kept here.
    #[track_caller]
    pub fn dequantise_keys<C: Float>(&self, at: &Pairs, own: Keys, kv_head: Scalar<i32>, head_dim: usize) -> Tile<C> {
        match self.codes(self.k, at, own, kv_head, head_dim) {
            None => self.rows(self.k.names.stored, at, own, kv_head, head_dim),
            Some(codes) => codes.dequantised(rounded).reshape(&[at.keys, head_dim]),
        }
    }

    /// Whether what tiles hold outside `own` is zero; else it may be anything.
    pub fn zero_outside(&self) -> bool {
        match self.placement {
            Placement::Contiguous | Placement::Ring => true,
            Placement::Paged { .. } => false,
        }
    }

    #[track_caller]
    fn load<C: Float>(
        &self,
        (side, dim): (Side, usize),
        at: &Pairs,
        own: Keys,
        kv_head: Scalar<i32>,
        decoding: Decoding,
    ) -> Loaded<C> {
        let shape = [at.keys, dim];
        match (self.codes(side, at, own, kv_head, dim), decoding) {
            (None, _) => Loaded::Rounded(self.rows(side.names.stored, at, own, kv_head, dim)),
            (Some(codes), Decoding::Dequantised) => Loaded::Rounded(codes.dequantised(Tile::cast).reshape(&shape)),
            (Some(codes), Decoding::Exact) => Loaded::Exact(codes.exact().reshape(&shape)),
        }
    }

    /// The codes of a tile; `None` where its numbers are stored as they are.
    #[track_caller]
    fn codes<C: Float>(&self, side: Side, at: &Pairs, own: Keys, kv_head: Scalar<i32>, dim: usize) -> Option<Codes<C>> {
        let Encoding::Affine(Affine { bits, group }) = side.encoding else { return None };
        let (keys, groups) = (at.keys, dim / group.size());
        let words = self.rows::<u32>(side.names.w, at, own, kv_head, dim * bits.width() / 32);
        let of_groups = |name| self.rows::<C>(name, at, own, kv_head, groups).reshape(&[keys * groups, 1]);
        let codes = words.unpack(bits.width() as u32).reshape(&[keys * groups, group.size()]);
        Some(Codes { codes, scales: of_groups(side.names.scales), biases: of_groups(side.names.biases) })
    }

    /// Rows of `width` elements, one a key of the tile.
    #[track_caller]
    fn rows<X: Element>(&self, name: &str, at: &Pairs, own: Keys, kv_head: Scalar<i32>, width: usize) -> Tile<X> {
        let all = launch_view::<X, 4>(name);
        match self.placement {
            Placement::Contiguous | Placement::Ring => {
                let of_head = all.at(self.batch).at(kv_head);
                let own = of_head.limit(own.first + self.shift, own.end + self.shift);
                own.load(at.first_key + self.shift, [at.keys, width])
            }
            Placement::Paged { page_size } => {
                let slots = at.keys.min(page_size); // of one page in the tile
                let table = launch_view::<i32, 2>("pages").at(self.batch);
                let pages = table.load(at.first_key / page_size, [at.keys / slots]);
                let place = [at.first_key % page_size, scalar(0)];
                let tile = all.at_axis(1, kv_head).gather(0, pages, place, [at.keys / slots, slots, width]);
                tile.reshape(&[at.keys, width])
            }
        }
    }
}

impl Side {
    /// The length of an axis.
    #[track_caller]
    fn len<C: Float>(&self, axis: usize) -> Scalar<i32> {
        match self.encoding {
            Encoding::Stored => launch_view::<C, 4>(self.names.stored).len(axis),
            Encoding::Affine(_) => launch_view::<u32, 4>(self.names.w).len(axis),
        }
    }
}

impl<C: Float> Codes<C> {
    /// `scale * code + bias`.
    #[track_caller]
    fn exact(self) -> Tile<f32> {
        self.codes.cast::<f32>() * self.scales.cast::<f32>() + self.biases.cast::<f32>()
    }

    /// `T(T(scale * code) + bias)`.
    #[track_caller]
    fn dequantised(self, round: fn(Tile<f32>) -> Tile<C>) -> Tile<C> {
        let scaled = round(self.codes.cast::<f32>() * self.scales.cast::<f32>());
        round(scaled.cast::<f32>() + self.biases.cast::<f32>())
    }
}

impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decoding::Exact => "exact",
            Decoding::Dequantised => "dequantised",
        })
    }
}

impl SpecValue for Decoding {
    fn key(&self, into: &mut String) {
        into.push_str(&self.to_string());
    }

    /// `exact` or `dequantised`.
    fn parse(text: &str) -> Result<Decoding, String> {
        match text {
            "exact" => Ok(Decoding::Exact),
            "dequantised" => Ok(Decoding::Dequantised),
            other => Err(format!("`{other}` is neither `exact` nor `dequantised`")),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placement::Contiguous => write!(f, "dense"),
            Placement::Ring => write!(f, "ring"),
            Placement::Paged { page_size } => write!(f, "paged({page_size})"),
        }
    }
}

impl SpecValue for Placement {
    fn key(&self, into: &mut String) {
        into.push_str(&self.to_string());
    }

    /// `dense`, `ring` or `paged(16)`.
    fn parse(text: &str) -> Result<Placement, String> {
        match text {
            "dense" => Ok(Placement::Contiguous),
            "ring" => Ok(Placement::Ring),
            paged => {
                let number = paged.strip_prefix("paged(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
                let page_size =
                    number.ok_or_else(|| format!("`{paged}` is none of `dense`, `ring` and `paged(16)`"))?;
                Ok(Placement::Paged { page_size })
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.placement)?;
        for (name, encoding) in [("k", self.keys), ("v", self.values)] {
            if let Encoding::Affine(affine) = encoding {
                write!(f, "+{name}-{affine}")?;
            }
        }
        if self.tail { write!(f, "+tail") } else { Ok(()) }
    }
}

impl SpecValue for Format {
    fn key(&self, into: &mut String) {
        into.push_str(&self.to_string());
    }

    /// `dense`, `ring` or `paged(16)`; then, each after a `+`, `k-q8g64` for codes of 8 bits in groups of 64 as keys, `v-…` for
    /// values, and `tail`.
    fn parse(text: &str) -> Result<Format, String> {
        let mut parts = text.split('+');
        let placement = Placement::parse(parts.next().unwrap_or_default())?;
        let mut format = Format { placement, ..Format::DENSE };
        for part in parts {
            let affine = |of: &str| of.parse().map(Encoding::Affine).map_err(|error: QuantError| error.to_string());
            match part.split_once('-') {
                Some(("k", of)) => format.keys = affine(of)?,
                Some(("v", of)) => format.values = affine(of)?,
                None if part == "tail" => format.tail = true,
                _ => return Err(format!("`{part}` is none of `k-q8g64`, `v-q8g64` and `tail`")),
            }
        }
        Ok(format)
    }
}
