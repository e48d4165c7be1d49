//! Random requests, and which pairs they attend.

use crate::memory::Rng;
use tilewright_attention::quant::{Bits, Group};
use tilewright_attention::{Affine, Schedule, Splits};
use tilewright_ir::Elem;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Dense,
    Ring,
    Paged(usize),
    Tail,
}

#[derive(Clone, Debug)]
pub struct MaskOf {
    pub elem: Elem,
    pub shape: Vec<usize>,
    pub cells: Vec<f64>,
}

impl MaskOf {
    /// What is added; `None` blocks.
    pub fn at(&self, b: usize, h: usize, i: usize, j: usize) -> Option<f64> {
        let rank = self.shape.len();
        let mut at = 0;
        for (axis, &extent) in self.shape.iter().enumerate() {
            let index = [b, h, i, j][4 - rank + axis];
            let last = axis + 1 == rank;
            if last && index >= extent {
                return None;
            }
            at = at * extent + if extent == 1 && !last { 0 } else { index };
        }
        let cell = self.cells[at];
        match self.elem {
            Elem::Bool | Elem::U8 => (cell != 0.0).then_some(0.0),
            _ => (cell != f64::NEG_INFINITY).then_some(cell),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub q: Elem,
    pub kv: Elem,
    pub kind: Kind,
    pub ka: Option<Affine>,
    pub va: Option<Affine>,
    pub b: usize,
    pub kvh: usize,
    pub group: usize,
    pub ql: usize,
    pub cap: usize,
    pub d: usize,
    pub dv: usize,
    pub kv_len: Vec<i32>,
    pub size: f64,
    pub scale: Option<f64>,
    pub q_start: Option<i64>,
    pub causal: bool,
    pub window: Option<(Option<usize>, Option<usize>, usize)>,
    pub softcap: Option<f64>,
    pub sinks: Option<Vec<f64>>,
    pub alibi: Option<Vec<f64>>,
    pub mask: Option<MaskOf>,
    pub classes: bool,
    pub tree: Option<Vec<bool>>,
    pub splits: Splits,
    pub schedule: Option<Schedule>,
}

pub fn affine(rng: &mut Rng, dim: usize) -> Option<Affine> {
    let fits: Vec<Affine> = [Bits::Four, Bits::Eight]
        .into_iter()
        .flat_map(|bits| [Group::Of32, Group::Of64, Group::Of128].map(|group| Affine { bits, group }))
        .filter(|a| dim.is_multiple_of(a.group.size()))
        .collect();
    if fits.is_empty() || rng.one_in(2) { None } else { Some(rng.pick(&fits)) }
}

pub fn spec(rng: &mut Rng) -> Spec {
    use Elem::{Bf16, F16, F32};
    let (q, kv) = rng.pick(&[(F32, F32), (F32, F32), (F32, F16), (F32, Bf16), (F16, F16), (Bf16, Bf16)]);
    let kind = match rng.below(4) {
        0 => Kind::Dense,
        1 => Kind::Ring,
        2 => Kind::Paged(rng.pick(&[16, 17, 48, 100, 256])),
        _ => Kind::Tail,
    };
    let b = rng.pick(&[0, 1, 1, 2, 3]);
    let kvh = rng.pick(&[1, 1, 2, 3]);
    let group = rng.pick(&[1, 1, 2, 3, 4, 5, 8]);
    let ql = rng.pick(&[0, 1, 1, 1, 1, 2, 3, 5, 8, 9, 31, 64, 65, 130]);
    let wide = rng.one_in(8);
    let mut cap: usize = rng.pick(&[0, 1, 2, 15, 16, 17, 63, 100, 127, 128, 129, 200, 300, 400, 400]);
    if rng.one_in(20) {
        cap = 1100 + rng.below(900);
    }
    if let Kind::Paged(size) = kind {
        cap = cap.div_ceil(size) * size;
    }
    let (d, dv) = if wide {
        rng.pick(&[(576, 512), (192, 128), (256, 256), (575, 65)])
    } else {
        rng.pick(&[(1, 1), (3, 5), (8, 8), (32, 32), (64, 64), (64, 96), (65, 33), (80, 80), (96, 64), (128, 128)])
    };
    let kv_len: Vec<i32> = (0..b)
        .map(|_| match rng.below(4) {
            0 => cap,
            1 => 0,
            _ => rng.below(cap + 1),
        } as i32)
        .collect();
    let q_heads = kvh * group;
    let mut s = Spec {
        q,
        kv,
        kind,
        ka: affine(rng, d),
        va: affine(rng, dv),
        b,
        kvh,
        group,
        ql,
        cap,
        d,
        dv,
        kv_len,
        size: rng.pick(&[1.0, 1.0, 1.0, 6.0]),
        scale: if wide { None } else { rng.pick(&[None, Some(0.3), Some(-0.2), Some(0.0)]) },
        q_start: None,
        causal: rng.one_in(2),
        window: None,
        softcap: None,
        sinks: None,
        alibi: None,
        mask: None,
        classes: false,
        tree: None,
        splits: Splits::Auto,
        schedule: None,
    };
    if kind != Kind::Ring && rng.one_in(4) {
        s.q_start = Some(rng.pick(&[0, -3, -200, 7, 100, 390, -(1 << 29), 1 << 29]));
    }
    if rng.one_in(3) {
        let side = |rng: &mut Rng| {
            rng.pick(&[None, Some(0), Some(1), Some(16), Some(40), Some(127), Some(500), Some(usize::MAX)])
        };
        s.window = Some((side(rng), side(rng), rng.pick(&[0, 0, 1, 4, 33, 1000])));
        if rng.one_in(2) {
            s.window = Some((Some(rng.below(cap + 1)), Some(0), rng.pick(&[0, 0, 3])));
        }
    }
    if rng.one_in(4) {
        s.softcap = Some(rng.pick(&[0.5, 5.0, 50.0]));
    }
    if rng.one_in(3) {
        s.sinks = Some((0..q_heads).map(|_| rng.pick(&[0.5, -3.0, 4.25, f64::NEG_INFINITY, 0.0])).collect());
    }
    if rng.one_in(4) && s.q_start.is_none_or(|at| at.abs() < 1000) {
        s.alibi = Some((0..q_heads).map(|h| (-(h as f64) - 1.0).exp2() * 0.5).collect());
    }
    if rng.one_in(3) && ql > 0 && ql <= 64 {
        let shape = rng.below(4);
        s.tree = Some(
            (0..ql * ql)
                .map(|at| {
                    let (i, j) = (at / ql, at % ql);
                    match shape {
                        0 => j <= i,
                        1 => j == i || j == 0,
                        2 => j == i || (j < i && (i * 7 + j * 3) % 4 == 0),
                        _ => (i * 5 + j) % 3 == 0,
                    }
                })
                .collect(),
        );
    }
    if rng.one_in(3) {
        let elem = rng.pick(&[Elem::Bool, Elem::U8, F32, F16, Bf16]);
        let keys = rng.pick(&[cap, cap, cap - cap / 3, cap / 2]);
        let mut shape: Vec<usize> =
            [b, q_heads, ql].iter().map(|&n| if rng.one_in(2) { 1 } else { n }).chain([keys]).collect();
        shape.drain(..rng.below(4));
        let form = rng.below(4);
        let n: usize = shape.iter().product();
        let tile = rng.pick(&[1, 8, 32, 128]);
        let cells = (0..n)
            .map(|at| {
                let (row, j) = (at / keys, at % keys);
                let on = match form {
                    0 => false,
                    1 => (row / tile * 7 + j / tile * 13).is_multiple_of(3),
                    2 => rng.one_in(2),
                    _ => (j / tile).is_multiple_of(2),
                };
                match elem {
                    Elem::Bool => f64::from(u8::from(on)),
                    Elem::U8 => {
                        if on {
                            rng.pick(&[1.0, 2.0, 128.0, 255.0])
                        } else {
                            0.0
                        }
                    }
                    _ if !on => f64::NEG_INFINITY,
                    e => e.nearest(if form == 1 { 0.0 } else { rng.number() * 2.0 }),
                }
            })
            .collect();
        s.mask = Some(MaskOf { elem, shape, cells });
        s.classes = rng.one_in(2);
    }
    s.splits = match rng.below(4) {
        0 => Splits::Auto,
        1 => Splits::Count(rng.pick(&[1, 2, 3, 7, 64])),
        2 => Splits::Count(rng.pick(&[2, 3, 5])),
        _ => Splits::Keys(rng.pick(&[1, 16, 130, 1000])),
    };
    if rng.one_in(3) {
        let heads: Vec<usize> = (1..=group).filter(|h| group.is_multiple_of(*h)).collect();
        let keys = match kind {
            Kind::Paged(size) => rng.pick(&[size, 2 * size, if size % 2 == 0 { size / 2 } else { 1 }, 1]),
            _ => rng.pick(&[1, 7, 16, 33, 128]),
        };
        s.schedule =
            Some(Schedule { heads: rng.pick(&heads) as u32, queries: rng.pick(&[1, 3, 8, 16, 64]), keys: keys as u32 });
    }
    s
}

/// Changes what comes at launch.
pub fn change(rng: &mut Rng, s: &mut Spec) {
    let least = if s.tree.is_some() { s.ql.min(s.cap) } else { 0 };
    s.kv_len.iter_mut().for_each(|len| *len = (least + rng.below(s.cap + 1 - least)) as i32);
    if s.kind != Kind::Ring {
        s.q_start = rng.pick(&[None, Some(3), Some(-5)]);
    }
    s.scale = s.scale.map(|_| 0.25);
    if let Some((left, right, sinks)) = &mut s.window {
        left.iter_mut().for_each(|n| *n = rng.below(30));
        right.iter_mut().for_each(|n| *n = rng.below(30));
        if *sinks > 0 {
            *sinks = 1 + rng.below(40);
        }
    }
    s.softcap.iter_mut().for_each(|cap| *cap = 3.0);
    s.sinks.iter_mut().flatten().for_each(|x| *x = 1.5);
    s.alibi.iter_mut().flatten().for_each(|x| *x *= -0.5);
    s.tree.iter_mut().flatten().for_each(|x| *x = rng.one_in(2));
    if let Some(mask) = &mut s.mask {
        let n = mask.cells.len();
        let by = rng.below(n);
        mask.cells.rotate_left(by);
    }
}

/// Changes one thing that a kernel is specialised by, or an extent.
pub fn respecialise(rng: &mut Rng, s: &mut Spec) {
    match rng.below(7) {
        0 if s.kind != Kind::Dense => s.kind = Kind::Dense,
        0 => s.kind = Kind::Ring,
        1 if s.d.is_multiple_of(32) => {
            let bits = if s.ka.is_some_and(|a| a.bits == Bits::Four) { Bits::Eight } else { Bits::Four };
            s.ka = Some(Affine { bits, group: Group::Of32 });
        }
        2 if s.dv.is_multiple_of(64) => {
            let group = if s.va.is_some_and(|a| a.group == Group::Of64) { Group::Of32 } else { Group::Of64 };
            s.va = Some(Affine { bits: Bits::Four, group });
        }
        3 => s.causal = !s.causal,
        4 => s.softcap = if s.softcap.is_some() { None } else { Some(2.0) },
        5 if s.window.is_none() => s.window = Some((None, Some(3), 0)),
        _ if s.q == s.kv => s.kv = if s.q == Elem::Bf16 { Elem::F16 } else { Elem::Bf16 },
        _ => s.q = s.kv,
    }
    if s.kv != s.q {
        s.q = Elem::F32;
    }
    if s.kind == Kind::Ring {
        s.q_start = None;
    }
}

impl Spec {
    pub fn position(&self, b: usize, i: usize) -> i64 {
        self.q_start.unwrap_or(i64::from(self.kv_len[b]) - self.ql as i64) + i as i64
    }
    /// What is added to the score of a pair beside slopes; `None` where it is blocked.
    pub fn bias(&self, b: usize, h: usize, i: usize, j: usize) -> Option<f64> {
        let len = self.kv_len[b] as usize;
        if j >= len {
            return None;
        }
        let (at, key) = (i128::from(self.position(b, i)), j as i128);
        if self.causal && key > at {
            return None;
        }
        if let Some((left, right, sinks)) = self.window {
            let inside = left.is_none_or(|l| key >= at - l as i128) && right.is_none_or(|r| key <= at + r as i128);
            if !inside && j >= sinks {
                return None;
            }
        }
        if let Some(tree) = &self.tree {
            let first = len - self.ql;
            if j >= first && !tree[i * self.ql + (j - first)] {
                return None;
            }
        }
        let mut bias = 0.0;
        if let Some(mask) = &self.mask {
            bias += mask.at(b, h, i, j)?;
        }
        if let Some(slopes) = &self.alibi {
            bias += slopes[h] * (j as f64 - self.position(b, i) as f64);
        }
        Some(bias)
    }
    pub fn refusal(&self) -> Option<&'static str> {
        let tree = self.tree.is_some() && self.kv_len.iter().any(|&len| (len as usize) < self.ql);
        let ring = self.kind == Kind::Ring
            && self.kv_len.iter().any(|&len| len as usize == self.cap)
            && matches!(self.window, Some((Some(left), _, _)) if left.saturating_add(self.ql).max(1) > self.cap);
        if ring { Some("RingCapacity") } else { tree.then_some("Feature") }
    }
}
