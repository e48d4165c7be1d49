//! Random programs that use every op, on every instruction set of this processor, against the reference interpreter.

mod common;

use proptest::prelude::*;
use tilewright_ir::testing::programs;
use tilewright_runtime::Device;
use tilewright_runtime::cpu::Isa;

proptest! {
    // 3072 of them, or twelve times PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: 12 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn the_cpu_computes_what_the_interpreter_computes(program in programs()) {
        for isa in Isa::available() {
            let device = Device::cpu_with_isa(isa).expect("it is available");
            let got = common::run(&device, &program.kernel, program.grid, &program.args);
            let checked = got.and_then(|got| program.check(&got));
            match checked {
                Ok(compared) => prop_assert!(compared > 0),
                Err(problem) => prop_assert!(false, "{}: {problem}", isa.name()),
            }
        }
    }
}
