//! Every function of a set against plain Rust, and exp2 against f64.

use super::*;

/// Every function of a set against plain Rust.
fn check<V: Simd>(compared: &mut usize) {
    let same = |got: V::Vector, wanted: [f32; WIDEST], what: &str| {
        let mut lanes = [f32::NAN; WIDEST];
        // SAFETY: the caller has the instruction set.
        unsafe { V::store(lanes.as_mut_ptr(), got) };
        assert_eq!(lanes[..V::LANES], wanted[..V::LANES], "{what}");
    };
    let halves: [u16; WIDEST] = std::array::from_fn(|i| 0x3c00 + 37 * i as u16);
    let bytes: [u8; WIDEST] = std::array::from_fn(|i| (i * 37 + 11) as u8);
    let floats: [f32; WIDEST] = std::array::from_fn(|i| (i as f32 - 7.0) * 1.25);
    // SAFETY: as above.
    unsafe {
        same(V::load_bf16(halves.as_ptr()), halves.map(|x| half::bf16::from_bits(x).to_f32()), "bf16");
        same(V::load_f16(halves.as_ptr()), halves.map(|x| half::f16::from_bits(x).to_f32()), "f16");
        same(V::load_bytes(bytes.as_ptr()), bytes.map(f32::from), "bytes");
        let table: [f32; 16] = std::array::from_fn(|i| (i * i) as f32 - 3.5);
        let nibble = |i: usize| usize::from([bytes[i / 2] % 16, bytes[i / 2] / 16][i % 2]);
        same(
            V::look_up_nibbles(bytes.as_ptr(), &V::table(&table)),
            std::array::from_fn(|i| table[nibble(i)]),
            "nibbles",
        );
        let third: [f32; WIDEST] = std::array::from_fn(|i| (i as f32 - 5.0) / 3e-3 * 10f32.powi(i as i32 % 5));
        let x = V::load(third.as_ptr());
        same(V::round_bf16(x), third.map(|x| half::bf16::from_f32(x).to_f32()), "to bf16");
        same(V::round_f16(x), third.map(|x| half::f16::from_f32(x).to_f32()), "to f16");
        same(V::mul(x, V::splat(1.5)), third.map(|x| x * 1.5), "mul");
        let x = V::load(floats.as_ptr());
        same(V::add(x, V::splat(1.0)), floats.map(|x| x + 1.0), "add");
        same(V::larger(x, V::splat(1.0)), floats.map(|x| x.max(1.0)), "larger");
        same(V::larger(x, V::splat(f32::NAN)), floats, "larger than NaN");
        let sum = |by: f32| floats[..V::LANES].iter().map(|x| x * by).sum::<f32>();
        let four = [1.0, 2.0, 4.0, 8.0].map(|by| V::fma(x, V::splat(by), V::splat(0.0)));
        assert_eq!(V::sums(four), [1.0, 2.0, 4.0, 8.0].map(sum));
        let rows: [[f32; 4]; 4] = std::array::from_fn(|row| std::array::from_fn(|col| (1 << (4 * row + col)) as f32));
        let vectors = rows.map(|row| row.map(|by| V::fma(x, V::splat(by), V::splat(0.0))));
        let wanted: [[f32; 4]; 4] = std::array::from_fn(|col| std::array::from_fn(|row| sum(rows[row][col])));
        assert_eq!(V::column_sums(&vectors), wanted);
        let third = half::bf16::from_f32(-1.0 / 3.0);
        same(V::splat_bf16(&third.to_bits()), [third.to_f32(); WIDEST], "a bf16 number in every lane");
        let four = [1.0, -2.0, 4.0, -8.0].map(|by| V::fma(x, V::splat(by), V::splat(0.0)));
        let largest = |by: f32| floats[..V::LANES].iter().map(|x| x * by).fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(V::largest(four), [1.0, -2.0, 4.0, -8.0].map(largest));
    }
    *compared += 1;
}

#[test]
fn vectors_of_every_instruction_set_do_what_plain_rust_does() {
    let mut compared = 0;
    check::<Portable>(&mut compared);
    #[cfg(target_arch = "aarch64")]
    check::<Neon>(&mut compared);
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2(compared: &mut usize) {
            check::<Avx2>(compared);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn avx512(compared: &mut usize) {
            check::<Avx512>(compared);
        }
        // SAFETY: the processor has what each is compiled for.
        unsafe {
            for isa in crate::cpu::isa::Isa::available() {
                match isa.name() {
                    "avx2" => avx2(&mut compared),
                    "avx512" => avx512(&mut compared),
                    _ => {}
                }
            }
        }
    }
    assert!(compared >= 1);
}

/// The lanes of `V::exp2` against f64: within two units in the last place, one of the smallest number for what rounds to it.
fn check_exp2<V: Simd>(bits: impl Iterator<Item = u32>) -> u64 {
    let mut compared = 0;
    let mut lanes = [0.0f32; WIDEST];
    let mut bits = bits.peekable();
    while bits.peek().is_some() {
        let x: [f32; WIDEST] = std::array::from_fn(|_| f32::from_bits(bits.next().unwrap_or(0)));
        for from in (0..WIDEST).step_by(V::LANES) {
            // SAFETY: the caller has the instruction set.
            unsafe { V::store(lanes.as_mut_ptr().add(from), V::exp2(V::load(x.as_ptr().add(from)))) };
        }
        for (x, got) in x.into_iter().zip(lanes) {
            let wanted = f64::from(x).exp2();
            let largest = f64::from(f32::MAX) * (1.0 + 2f64.powi(-25));
            let unit = f64::from(f32::from_bits((wanted.min(f64::from(f32::MAX)) as f32).to_bits() & 0x7f80_0000))
                .max(2f64.powi(-126))
                * 2f64.powi(-23);
            let near = (f64::from(got) - wanted).abs() <= 2.0 * unit;
            assert!(
                if wanted > largest { got == f32::INFINITY } else { near },
                "exp2({x:e}) = {got:e}, not {wanted:e}"
            );
            compared += 1;
        }
    }
    compared
}

#[test]
fn exp2_of_every_f32_is_within_two_units() {
    // From 2^-26 to 2^8: all of them on the best instruction set. Below, the result is 1; above, it is 0 or infinity.
    let (low, high) = (f32::to_bits(2f32.powi(-26)), f32::to_bits(256.0));
    let both = |bits: std::ops::Range<u32>, step: usize| bits.step_by(step).flat_map(|bits| [bits, bits | 0x8000_0000]);
    let all = |step: usize| both(0..low, 4099 * step).chain(both(high..0x7f80_0000, 4099 * step));
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn avx512(bits: impl Iterator<Item = u32>) -> u64 {
            check_exp2::<Avx512>(bits)
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2(bits: impl Iterator<Item = u32>) -> u64 {
            check_exp2::<Avx2>(bits)
        }
        let has = |name: &str| crate::cpu::isa::Isa::available().iter().any(|isa| isa.name() == name);
        let parts = |f: &(dyn Fn(std::ops::Range<u32>) -> u64 + Sync)| {
            let middle = low + (high - low) / 2;
            std::thread::scope(|scope| {
                let other = scope.spawn(|| f(low..middle));
                f(middle..high) + other.join().expect("compared")
            })
        };
        // SAFETY: the processor has what each is compiled for.
        unsafe {
            if has("avx512") {
                let compared = parts(&|range| avx512(both(range, 1))) + avx512(all(1));
                assert!(compared > 500_000_000, "{compared}");
            }
            if has("avx2") {
                assert!(parts(&|range| avx2(both(range, 61))) + avx2(all(1)) > 9_000_000);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    assert!(check_exp2::<Neon>(both(low..high, 997).chain(all(7))) > 500_000);
    assert!(check_exp2::<Portable>(both(low..high, 61).chain(all(1))) > 9_000_000);
    // SAFETY: plain Rust needs no instruction set.
    let ends = unsafe { Portable::exp2([f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, 1.0, -1.0, 127.0, -149.0]) };
    assert_eq!((ends[0], ends[1], ends[3], ends[7]), (0.0, f32::INFINITY, 1.0, f32::from_bits(1)));
    assert!(ends[2].is_nan());
}

#[test]
fn every_half_is_widened_exactly() {
    let all: Vec<[u16; 8]> = (0..=u16::MAX / 8).map(|i| std::array::from_fn(|lane| i * 8 + lane as u16)).collect();
    let check = |name: &str, widened: &dyn Fn([u16; 8]) -> [u32; 8]| {
        for &halves in &all {
            for (half, got) in halves.into_iter().zip(widened(halves).map(f32::from_bits)) {
                let wanted = half::f16::from_bits(half).to_f32();
                let same = got.to_bits() == wanted.to_bits() || (got.is_nan() && wanted.is_nan());
                assert!(same, "{name}: {half:#06x} gives {got:e}, not {wanted:e}");
            }
        }
    };
    assert_eq!(all.len() * 8, 1 << 16);
    // SAFETY: plain Rust needs no instruction set.
    check("portable", &|x| unsafe { Portable::widened(x) });
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
        #[target_feature(enable = "avx,f16c")]
        unsafe fn widened(x: [u16; 8]) -> [u32; 8] {
            // SAFETY: the caller's promise.
            unsafe { Avx2::widened(x) }
        }
        // SAFETY: the processor has both.
        check("f16c", &|x| unsafe { widened(x) });
    }
}

#[test]
fn floats_are_narrowed_as_the_half_crate_does() {
    // All numbers of 16 bits, those between them and ties, and what is too large or too small.
    let near = |half: u16| {
        let (bits, high) = (half::f16::from_bits(half).to_f32().to_bits(), u32::from(half) << 16);
        [bits, bits ^ 0x1000, bits ^ 0x1001, bits ^ 0x0fff, high, high | 0x8000, high | 0x7fff, high | 0x8001]
    };
    let f16 = |x: f32| half::f16::from_f32(x).to_bits();
    let bf16 = |x: f32| half::bf16::from_f32(x).to_bits();
    let check = |name: &str, narrowed: &dyn Fn([u32; 8]) -> [u16; 8], wanted: &dyn Fn(f32) -> u16, infinity: u16| {
        let is_nan = |half: u16| half & 0x7fff > infinity;
        for floats in (0..=u16::MAX).map(near) {
            for (bits, got) in floats.into_iter().zip(narrowed(floats)) {
                let wanted = wanted(f32::from_bits(bits));
                let same = got == wanted || (is_nan(got) && is_nan(wanted));
                assert!(same, "{name}: {bits:#010x} gives {got:#06x}, not {wanted:#06x}");
            }
        }
    };
    // SAFETY: plain Rust needs no instruction set.
    check("portable f16", &|x| unsafe { Portable::narrowed_f16(x) }, &f16, 0x7c00);
    // SAFETY: as above.
    check("portable bf16", &|x| unsafe { Portable::narrowed_bf16(x) }, &bf16, 0x7f80);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn narrowed(x: [u32; 8]) -> [[u16; 8]; 2] {
            // SAFETY: the caller's promise.
            unsafe { [Avx2::narrowed_f16(x), Avx2::narrowed_bf16(x)] }
        }
        // SAFETY: the processor has both.
        check("f16c", &|x| unsafe { narrowed(x)[0] }, &f16, 0x7c00);
        // SAFETY: as above.
        check("avx2", &|x| unsafe { narrowed(x)[1] }, &bf16, 0x7f80);
    }
}

#[test]
fn a_square_is_transposed() {
    let x: [[u32; 8]; 8] = std::array::from_fn(|r| std::array::from_fn(|c| (8 * r + c) as u32));
    let wanted: [[u32; 8]; 8] = std::array::from_fn(|r| std::array::from_fn(|c| x[c][r]));
    // SAFETY: plain Rust needs no instruction set.
    assert_eq!(unsafe { Portable::transposed(x) }, wanted);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX.
        assert_eq!(unsafe { transposed_avx(x) }, wanted);
    }
}
