//! What the list of kernels holds as a kernel's test cases.

use super::{CacheCase, Case, CaseError, CaseReport, ClassCase};
use tilewright_runtime::Device;

/// A test case of a kernel.
#[derive(Clone, Debug)]
pub enum TestCase {
    /// Attention, held against the f64 reference.
    Attention(Box<Case>),
    /// New tokens into a cache and back.
    Cache(CacheCase),
    /// The classes of a mask's tiles.
    Classes(ClassCase),
}

impl TestCase {
    /// Its name and types, as in `causal_square/bf16`.
    pub fn name(&self) -> String {
        match self {
            TestCase::Attention(case) => case.name(),
            TestCase::Cache(case) => case.name(),
            TestCase::Classes(case) => case.name(),
        }
    }

    /// Runs it on a device and compares what it gives.
    ///
    /// # Errors
    /// What was refused, or the first wrong element; a case with no elements is wrong.
    pub fn run(&self, device: &Device) -> Result<CaseReport, CaseError> {
        match self {
            TestCase::Attention(case) => case.run(device),
            TestCase::Cache(case) => case.run(device),
            TestCase::Classes(case) => case.run(device),
        }
    }

    /// The case, where it is one of attention.
    pub fn attention(&self) -> Option<&Case> {
        match self {
            TestCase::Attention(case) => Some(case),
            TestCase::Cache(_) | TestCase::Classes(_) => None,
        }
    }
}

impl From<Case> for TestCase {
    fn from(case: Case) -> TestCase {
        TestCase::Attention(Box::new(case))
    }
}

impl From<CacheCase> for TestCase {
    fn from(case: CacheCase) -> TestCase {
        TestCase::Cache(case)
    }
}

impl From<ClassCase> for TestCase {
    fn from(case: ClassCase) -> TestCase {
        TestCase::Classes(case)
    }
}
