//! What a compiled kernel takes of a multiprocessor, read from what the assembler says.

/// Registers and memory of a compiled kernel. All memory in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// Registers of a thread, 32 bits each.
    pub registers: u32,
    /// Written to local memory because registers ran out, a thread.
    pub spill_stores: u32,
    /// Read back from there, a thread.
    pub spill_loads: u32,
    /// Local memory of a thread: arrays that are not in registers, and spills.
    pub stack: u32,
    /// Static shared memory of a block; dynamic shared memory comes with the launch.
    pub static_shared: u32,
}

impl Resources {
    /// Reads the lines that the assembler prints with `-v`. Of several kernels, the largest numbers.
    pub fn parse(log: &str) -> Resources {
        let mut all = Resources::default();
        for line in log.lines() {
            let number = |unit| number_before(line, unit).unwrap_or(0);
            all.registers = all.registers.max(number("registers"));
            all.spill_stores = all.spill_stores.max(number("bytes spill stores"));
            all.spill_loads = all.spill_loads.max(number("bytes spill loads"));
            all.stack = all.stack.max(number("bytes stack frame"));
            all.static_shared = all.static_shared.max(number("bytes smem"));
        }
        all
    }

    pub(super) fn to_bytes(self) -> [u8; Resources::BYTES] {
        let mut out = [0; Resources::BYTES];
        let numbers = [self.registers, self.spill_stores, self.spill_loads, self.stack, self.static_shared];
        out.chunks_exact_mut(4).zip(numbers).for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes()));
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; Resources::BYTES]) -> Resources {
        let at = |i: usize| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        Resources { registers: at(0), spill_stores: at(1), spill_loads: at(2), stack: at(3), static_shared: at(4) }
    }

    pub(super) const BYTES: usize = 20;
}

/// The number in front of these words.
fn number_before(line: &str, unit: &str) -> Option<u32> {
    let before = line[..line.find(unit)?].trim_end();
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before.get(digits..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
ptxas         .     400 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 400 bytes cumulative stack size, 256 bytes smem
ptxas info    : Compile time = 13.273 ms
";

    #[test]
    fn the_numbers_of_the_log_are_found() {
        let expected = Resources { registers: 168, spill_stores: 12, spill_loads: 24, stack: 400, static_shared: 256 };
        assert_eq!(Resources::parse(LOG), expected);
        assert_eq!(Resources::from_bytes(&expected.to_bytes()), expected);
    }

    #[test]
    fn a_log_without_numbers_gives_zeros() {
        assert_eq!(Resources::parse("registers\nnothing, bytes smem"), Resources::default());
        assert_eq!(Resources::parse(""), Resources::default());
    }
}
