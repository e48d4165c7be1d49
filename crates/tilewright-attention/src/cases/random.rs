//! Numbers that look random and are the same everywhere.

/// SplitMix64: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub fn new(name: &str) -> Random {
        // FNV-1a, so that each case has its own numbers.
        Random(name.bytes().fold(0xcbf29ce484222325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100000001b3)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
        x ^ (x >> 31)
    }

    /// The sum of four uniform numbers, with standard deviation 1: near enough to normal, and bounded by 3.5.
    pub fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        (sum as f64 / 65536.0 - 2.0) * 3f64.sqrt()
    }

    pub fn normals(&mut self, shape: [usize; 4]) -> Vec<f64> {
        (0..shape.iter().product()).map(|_| self.normal()).collect()
    }
}
