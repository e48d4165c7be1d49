//! Made-up inputs with the statistics of a real layer, for tests that need real shapes and no large file.

use super::random::Random;

/// Inputs like those of one windowed attention layer of Gemma 3 270M (layer 16): four query heads, one key/value head,
/// head dim 256, the default scale 1/16, causal, each query with a window of the last 512 keys. Nothing in it is the
/// model's: the numbers are drawn from a fixed seed.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmaTwin {
    /// `[4, tokens, 256]`, as after norm and rotary embedding.
    pub q: Vec<f32>,
    /// `[1, tokens, 256]`, as after norm and rotary embedding.
    pub k: Vec<f32>,
    /// `[1, tokens, 256]`.
    pub v: Vec<f32>,
}

impl GemmaTwin {
    /// Query heads.
    pub const Q_HEADS: usize = 4;
    /// Key/value heads.
    pub const KV_HEADS: usize = 1;
    /// Head dim, and value dim.
    pub const HEAD_DIM: usize = 256;
    /// Keys that a query sees, itself included.
    pub const WINDOW: usize = 512;
}

const DIM: usize = GemmaTwin::HEAD_DIM;
const SCALE: f64 = 1.0 / 16.0;

/// How a head's queries relate to the keys.
struct Head {
    /// Mean of the scores.
    score: f64,
    /// What the first token's score has above the others.
    first_token: f64,
    /// Part of the keys' medium memory that the queries share: near keys score higher.
    near: f64,
    /// Part of the keys' news that the queries share: a query's own key scores higher.
    own: f64,
    /// Standard deviation of the rest, in the channels' own.
    rest: f64,
}

const HEADS: [Head; GemmaTwin::Q_HEADS] = [
    Head { score: -5.0, first_token: 8.5, near: 0.15, own: 0.15, rest: 0.9 },
    Head { score: -5.6, first_token: 8.5, near: 0.2, own: 0.25, rest: 1.1 },
    Head { score: -3.7, first_token: 8.0, near: 0.22, own: 0.35, rest: 1.1 },
    Head { score: 9.4, first_token: 5.5, near: 0.05, own: 0.05, rest: 0.8 },
];

/// How much of a signal's variance lasts about a hundred tokens, about four, and one.
struct Memory {
    slow: f64,
    medium: f64,
    news: f64,
}

const Q_MEMORY: Memory = Memory { slow: 0.75, medium: 0.1, news: 0.15 };
const K_MEMORY: Memory = Memory { slow: 0.35, medium: 0.35, news: 0.3 };
const V_MEMORY: Memory = Memory { slow: 0.12, medium: 0.2, news: 0.68 };

/// From one token to the next.
const SLOW: f64 = 0.99;
const MEDIUM: f64 = 0.75;

/// The parts of the channels, and the standard deviation that so many of them stay below.
type Quantiles = [f64; 6];
const PARTS: Quantiles = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0];
const Q_SPREAD: Quantiles = [0.12, 0.41, 0.85, 1.6, 5.7, 12.0];
const K_SPREAD: Quantiles = [0.5, 0.74, 1.11, 2.29, 4.96, 6.26];
const V_SPREAD: Quantiles = [1.6, 1.76, 1.98, 2.7, 4.4, 5.2];

/// The twin of so many tokens: the same numbers everywhere, and the first ones of every longer twin.
///
/// It has what makes the real layer hard: channels that deviate ten times as much as the others, means far from zero,
/// memory from token to token, a first token that draws attention, and scores from about -25 to 25 whose mean is far
/// from zero (about -5, -7, -3 and 7 by head) and which deviate by 2 to 3 along a row. Query norms are about 30, key and
/// value norms about 40.
pub fn gemma_twin(tokens: usize) -> GemmaTwin {
    let mut random = Random::new("gemma twin");
    let k_mean = direction(&mut random, 1.93, |d| if d % 4 == 0 { 1.0 } else { 0.2 });
    let v_mean = direction(&mut random, 1.1, |_| 1.0);
    let first = without(direction(&mut random, 1.0, |_| 1.0), &k_mean);
    // The part of a query along the mean key makes the mean score, and the part along `first` the first token's.
    let q_means: Vec<Vec<f64>> = HEADS
        .iter()
        .map(|head| {
            let own = without(direction(&mut random, 0.3, |_| 1.0), &k_mean);
            let along_mean = head.score / (SCALE * dot(&k_mean, &k_mean));
            let along_first = head.first_token / (SCALE * dot(&first, &first));
            (0..DIM).map(|d| along_mean * k_mean[d] + along_first * first[d] + own[d]).collect()
        })
        .collect();
    let mut keys = Signal::new(&mut random, K_MEMORY, spread(K_SPREAD, |d| d * 97));
    let mut values = Signal::new(&mut random, V_MEMORY, spread(V_SPREAD, |d| d * 61));
    // The channels in which queries deviate most are others than the keys', or scores would be three times as wide.
    let mut queries = HEADS.map(|_| Signal::new(&mut random, Q_MEMORY, spread(Q_SPREAD, |d| d * 97 + 128)));

    let mut q = vec![Vec::with_capacity(tokens * DIM); HEADS.len()];
    let (mut k, mut v) = (Vec::with_capacity(tokens * DIM), Vec::with_capacity(tokens * DIM));
    for token in 0..tokens {
        keys.step(&mut random);
        values.step(&mut random);
        let first_token = if token == 0 { 1.0 } else { 0.0 };
        k.extend((0..DIM).map(|d| (k_mean[d] + first_token * first[d] + keys.at(d)) as f32));
        v.extend((0..DIM).map(|d| (v_mean[d] + values.at(d)) as f32));
        for (((head, mean), signal), q) in HEADS.iter().zip(&q_means).zip(&mut queries).zip(&mut q) {
            signal.step(&mut random);
            let shared = |d: usize| head.near * keys.medium(d) + head.own * keys.news(d);
            q.extend((0..DIM).map(|d| (mean[d] + shared(d) + head.rest * signal.at(d)) as f32));
        }
    }
    GemmaTwin { q: q.concat(), k, v }
}

/// One signal a channel, mean 0, each with its standard deviation.
struct Signal {
    memory: Memory,
    spread: Vec<f64>,
    slow: Vec<f64>,
    medium: Vec<f64>,
    news: Vec<f64>,
}

impl Signal {
    fn new(random: &mut Random, memory: Memory, spread: Vec<f64>) -> Signal {
        let mut normals = || random.normals([1, 1, 1, DIM]);
        Signal { memory, spread, slow: normals(), medium: normals(), news: normals() }
    }

    fn step(&mut self, random: &mut Random) {
        for d in 0..DIM {
            self.slow[d] = SLOW * self.slow[d] + (1.0 - SLOW * SLOW).sqrt() * random.normal();
            self.medium[d] = MEDIUM * self.medium[d] + (1.0 - MEDIUM * MEDIUM).sqrt() * random.normal();
            self.news[d] = random.normal();
        }
    }

    fn medium(&self, d: usize) -> f64 {
        self.spread[d] * self.memory.medium.sqrt() * self.medium[d]
    }

    fn news(&self, d: usize) -> f64 {
        self.spread[d] * self.memory.news.sqrt() * self.news[d]
    }

    fn at(&self, d: usize) -> f64 {
        self.spread[d] * self.memory.slow.sqrt() * self.slow[d] + self.medium(d) + self.news(d)
    }
}

/// Normal numbers with a weight a channel, of this root mean square.
fn direction(random: &mut Random, size: f64, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let raw: Vec<f64> = random.normals([1, 1, 1, DIM]).iter().enumerate().map(|(d, x)| weight(d) * x).collect();
    let factor = size / (dot(&raw, &raw) / DIM as f64).sqrt();
    raw.iter().map(|x| factor * x).collect()
}

/// A standard deviation for each channel with these quantiles, in the order of `rank` modulo the channels.
fn spread(quantiles: Quantiles, rank: impl Fn(usize) -> usize) -> Vec<f64> {
    let at = |part: f64| {
        let i = PARTS.iter().skip(1).take_while(|&&p| p < part).count().min(PARTS.len() - 2);
        let along = (part - PARTS[i]) / (PARTS[i + 1] - PARTS[i]);
        quantiles[i] + along * (quantiles[i + 1] - quantiles[i])
    };
    (0..DIM).map(|d| at((rank(d) % DIM) as f64 / (DIM - 1) as f64)).collect()
}

/// `x` less its part along `other`.
fn without(x: Vec<f64>, other: &[f64]) -> Vec<f64> {
    let along = dot(&x, other) / dot(other, other);
    x.iter().zip(other).map(|(x, other)| x - along * other).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(row: &[f32]) -> f64 {
        row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    fn deviation(x: &[f64]) -> f64 {
        let middle = mean(x);
        mean(&x.iter().map(|x| (x - middle).powi(2)).collect::<Vec<f64>>()).sqrt()
    }

    #[track_caller]
    fn within(what: &str, x: f64, low: f64, high: f64) {
        assert!(low <= x && x <= high, "{what} is {x}, outside {low} to {high}");
    }

    #[test]
    fn the_twin_has_the_layers_statistics() {
        let tokens = 640;
        let GemmaTwin { q, k, v } = gemma_twin(tokens);
        let norms = |x: &[f32]| mean(&x.chunks(DIM).map(norm).collect::<Vec<f64>>());
        within("key norm", norms(&k), 36.0, 46.0);
        within("value norm", norms(&v), 36.0, 46.0);
        for (head, q) in HEADS.iter().zip(q.chunks(tokens * DIM)) {
            within("query norm", norms(q), 18.0, 36.0);
            let (mut all, mut deviations, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
            for (i, q) in q.chunks(DIM).enumerate().skip(tokens / 4) {
                let start = (i + 1).saturating_sub(GemmaTwin::WINDOW);
                let keys = k.chunks(DIM).skip(start).take(i + 1 - start);
                let score =
                    |k: &[f32]| SCALE * q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>();
                let row: Vec<f64> = keys.map(score).collect();
                if start == 0 {
                    firsts.push(row[0] - mean(&row));
                }
                deviations.push(deviation(&row));
                all.extend(row);
            }
            within("mean score", mean(&all), head.score - 2.5, head.score + 2.5);
            within("deviation along a row", mean(&deviations), 1.7, 3.0);
            within("the first token's lead", mean(&firsts), 5.0, 16.0);
            within("size", all.iter().fold(0.0, |most, s| s.abs().max(most)), 10.0, 30.0);
        }
    }

    #[test]
    fn a_longer_twin_begins_with_the_shorter_one() {
        let (short, long) = (gemma_twin(3), gemma_twin(8));
        assert_eq!(short.k, long.k[..3 * DIM]);
        assert_eq!(short.v, long.v[..3 * DIM]);
        for (short, long) in short.q.chunks(3 * DIM).zip(long.q.chunks(8 * DIM)) {
            assert_eq!(short, &long[..3 * DIM]);
        }
        assert_eq!((short.q.len(), gemma_twin(0).q.len()), (4 * 3 * DIM, 0));
    }
}
