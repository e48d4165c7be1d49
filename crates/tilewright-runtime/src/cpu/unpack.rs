//! Words into the codes that are packed in them.

/// Unpacks `words` words into `32 / bits` lanes each, lowest bits first.
///
/// # Safety
/// `bits` is 2, 4 or 8; `src` has `words` lanes and `dst` room for all codes, beside the words; the instruction set that this
/// is compiled for.
#[inline(always)]
pub(super) unsafe fn run(src: *const u32, dst: *mut u32, words: u32, bits: u8) {
    let words = words as usize;
    // SAFETY: the caller's promise, for each arm.
    unsafe {
        match bits {
            2 => each_word::<2, 16>(src, dst, words),
            4 => each_word::<4, 8>(src, dst, words),
            // The typing rule allows no others. On these machines the codes are the bytes as they lie.
            _ if cfg!(target_endian = "little") => {
                let bytes = std::slice::from_raw_parts(src.cast::<u8>(), words * 4);
                for (at, &byte) in bytes.iter().enumerate() {
                    *dst.add(at) = byte.into();
                }
            }
            _ => each_word::<8, 4>(src, dst, words),
        }
    }
}

/// One word in all lanes, each shifted by as far as its code lies up.
///
/// The load is volatile to keep the words apart: without that, the compiler takes several words side by side and shuffles
/// their codes into place, which for codes of 2 bits took twelve times as long with AVX-512.
#[inline(always)]
unsafe fn each_word<const BITS: u32, const CODES: usize>(src: *const u32, dst: *mut u32, words: usize) {
    for at in 0..words {
        // SAFETY: the caller's promise.
        unsafe {
            let word = src.add(at).read_volatile();
            let codes: [u32; CODES] = std::array::from_fn(|i| (word >> (BITS * i as u32)) & ((1 << BITS) - 1));
            dst.add(at * CODES).cast::<[u32; CODES]>().write_unaligned(codes);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cpu::isa::Isa;

    #[test]
    fn every_instruction_set_unpacks_what_a_plain_loop_does_and_writes_nothing_more() {
        let mut compared = 0;
        for isa in Isa::available() {
            for count in (0..40).chain([255, 256, 257]) {
                let mixed = |i: u32| i.wrapping_mul(0x9e37_79b9) ^ (i << 27);
                let words: Vec<u32> = (0..count).map(|i| if i % 5 == 3 { u32::MAX } else { mixed(i) }).collect();
                for bits in [2u8, 4, 8] {
                    let mut wanted = Vec::new();
                    for word in &words {
                        for i in 0..32 / u32::from(bits) {
                            wanted.push(word / 2u32.pow(i * u32::from(bits)) % 2u32.pow(bits.into()));
                        }
                    }
                    let beyond = [0xabab_abab; 16];
                    let mut got = vec![0xabab_abab; wanted.len() + beyond.len()];
                    // SAFETY: the processor has the instruction set, and there is room for more than all codes.
                    unsafe { (isa.kernels().unpack)(words.as_ptr(), got.as_mut_ptr(), count, bits) };
                    compared += wanted.len();
                    wanted.extend(beyond);
                    assert_eq!(got, wanted, "{} {count} words of {bits} bits", isa.name());
                }
            }
        }
        assert!(compared > 20_000);
    }
}
