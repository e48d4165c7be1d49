//! What the CPU lowering makes of kernels: where values live, what is packed, what is fused.

use tilewright_compile::cpu::{
    Arithmetic, MAX_STREAMED, MicroKind, Pack, PackSource, Program, Rows, Stats, Step, Target, lower,
};
use tilewright_compile::pass;
use tilewright_ir::Elem;
use tilewright_ir::text::parse;

/// Its vectors are wider than the rows of these tests, so that products have their right operands packed.
const TARGET: Target = Target { panel: 16, block: 1024, lanes: 1024, pairs: false, bytes: false };

fn lowered(text: &str) -> Program {
    lowered_for(text, TARGET)
}

fn lowered_for(text: &str, target: Target) -> Program {
    let kernel = parse(text).unwrap_or_else(|e| panic!("{e}"));
    let kernel = pass::run(kernel, None).unwrap_or_else(|e| panic!("{e}"));
    lower(&kernel, target).expect("small tiles")
}

/// All steps, nested ones behind the one that holds them.
fn steps(program: &Program) -> Vec<&Step> {
    fn walk<'p>(steps: &'p [Step], into: &mut Vec<&'p Step>) {
        for step in steps {
            into.push(step);
            match step {
                Step::For { body, .. } => walk(body, into),
                Step::If { then, otherwise, .. } => {
                    walk(then, into);
                    walk(otherwise, into);
                }
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    walk(&program.steps, &mut all);
    all
}

fn count(program: &Program, wanted: impl Fn(&Step) -> bool) -> usize {
    steps(program).into_iter().filter(|s| wanted(s)).count()
}

/// Copies of more than one lane: scalars move freely.
fn tile_copies(program: &Program) -> usize {
    count(program, |s| matches!(s, Step::Copy { lanes, .. } if *lanes > 1))
}

fn loop_body(program: &Program) -> &[Step] {
    let found = program.steps.iter().find_map(|s| match s {
        Step::For { body, .. } => Some(&body[..]),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no loop in\n{program}"))
}

/// Keys and values of two heads of four, a running maximum and an accumulator: attention without masks and scales.
const ATTENTION: &str = "kernel attention(q: view<f32, 2>, k: view<f32, 2>, v: view<f32, 2>, out o: view<f32, 2>) {
  %0 = constant value=0 elem=i32
  %8 = constant value=8 elem=i32
  %zero = constant value=0 elem=f32
  %low = constant value=-inf elem=f32
  %keys = view_len %k axis=0
  %q1 = load %q, %0, %0 shape=[4, 32]
  %m0 = broadcast %low shape=[4, 1]
  %l0 = broadcast %zero shape=[4, 1]
  %a0 = broadcast %zero shape=[4, 16]
  %m9, %l9, %a9 = for_range %0, %keys, %8, %m0, %l0, %a0 {
    (%i: i32, %m: f32[4, 1], %l: f32[4, 1], %acc: f32[4, 16])
    %k1 = load %k, %i, %0 shape=[8, 32]
    %kt = transpose %k1
    %s = dot %q1, %kt
    %top = reduce_max %s axis=1
    %m1 = max %m, %top
    %d = sub %s, %m1
    %p = exp2 %d
    %e = sub %m, %m1
    %r = exp2 %e
    %sum = reduce_sum %p axis=1
    %l1 = mul %l, %r
    %l2 = add %l1, %sum
    %v1 = load %v, %i, %0 shape=[8, 16]
    %acc1 = mul %acc, %r
    %pv = dot %p, %v1
    %acc2 = add %acc1, %pv
    yield %m1, %l2, %acc2
  }
  %out = div %a9, %l9
  store %o, %out, %0, %0
}";

#[test]
fn the_program_of_a_small_attention_kernel() {
    let program = lowered(ATTENTION);
    insta::assert_snapshot!(format!("{program}{}\n", program.stats));
}

#[test]
fn few_rows_read_their_right_operands_where_they_lie() {
    let program = lowered_for(ATTENTION, Target { lanes: 8, ..TARGET });
    let streamed: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::DotRows(dot) => Some((matches!(dot.b, Rows::Stored(PackSource::Window(_))), dot.transposed, dot.m)),
            _ => None,
        })
        .collect();
    assert_eq!(streamed, [(true, true, 4), (true, false, 4)], "{program}");
    let packed_or_loaded = |s: &Step| matches!(s, Step::Pack(_) | Step::Dot(_) | Step::Decode { .. });
    assert_eq!(count(&program, packed_or_loaded), 0, "{program}");
    // Rows of half a vector are packed.
    let wider = lowered_for(ATTENTION, Target { lanes: 32, ..TARGET });
    assert_eq!(count(&wider, |s| matches!(s, Step::DotRows(_))), 1, "{wider}");
}

#[test]
fn many_rows_have_their_right_operands_packed() {
    let many = ATTENTION.replace("[4, ", &format!("[{}, ", MAX_STREAMED + 1));
    let program = lowered_for(&many, Target { lanes: 8, ..TARGET });
    assert_eq!(count(&program, |s| matches!(s, Step::DotRows(_))), 0, "{program}");
    assert_eq!(count(&program, |s| matches!(s, Step::Pack(_))), 2, "{program}");
}

const CODES: &str = "kernel codes(q: view<bf16, 2>, w: view<u32, 2>, scales: view<bf16, 2>, biases: view<bf16, 2>, out o: view<f32, 2>) {
  %0: i32 = constant value=0.0 elem=i32
  %a = load %q, %0, %0 shape=[ROWS, 64]
  %words = load %w, %0, %0 shape=[16, 8]
  %codes = unpack %words bits=4
  %grouped = reshape %codes shape=[32, 32]
  %s1 = load %scales, %0, %0 shape=[16, 2]
  %s2 = reshape %s1 shape=[32, 1]
  %b1 = load %biases, %0, %0 shape=[16, 2]
  %b2 = reshape %b1 shape=[32, 1]
  %x1 = cast %grouped to=f32
  %s3 = cast %s2 to=f32
  %x2 = mul %x1, %s3
  %x3 = cast %x2 to=bf16
  %x4 = cast %x3 to=f32
  %b3 = cast %b2 to=f32
  %x5 = add %x4, %b3
  %x6 = cast %x5 to=bf16
  %b = reshape %x6 shape=[16, 64]
  %bt = transpose %b
  %c = dot %a, %bt
  store %o, %c, %0, %0
}";

#[test]
fn few_rows_multiply_pairs_where_whole_vectors_of_them_are_read_alike() {
    let in_pairs = |lanes: u32, rows: &str| {
        let program = lowered_for(&CODES.replace("ROWS", rows), Target { lanes, pairs: true, ..TARGET });
        (arithmetic(&program), count(&program, |s| matches!(s, Step::Pair { .. })))
    };
    assert_eq!(in_pairs(16, "4"), (vec![Arithmetic::Pairs], 1), "a group of 32 is one vector of pairs");
    // Vectors of two groups would have two scales.
    assert_eq!(in_pairs(32, "4"), (vec![Arithmetic::Numbers], 0));
}

/// What products of few rows multiply.
fn arithmetic(program: &Program) -> Vec<Arithmetic> {
    let by = |s: &Step| match s {
        Step::DotRows(dot) => Some(dot.by),
        _ => None,
    };
    steps(program).into_iter().filter_map(by).collect()
}

#[test]
fn few_rows_of_16_bits_multiply_codes_as_bytes_where_their_numbers_are_not_rounded() {
    let target = Target { lanes: 16, pairs: true, bytes: true, ..TARGET };
    let exact = CODES.replace("cast %x2 to=bf16", "cast %x2 to=f32").replace("cast %x5 to=bf16", "cast %x5 to=f32");
    let by = |text: &str, rows: &str, target: Target| arithmetic(&lowered_for(&text.replace("ROWS", rows), target));
    assert_eq!(by(&exact, "4", target), [Arithmetic::Bytes]);
    assert_eq!(by(&exact, "4", Target { bytes: false, ..target }), [Arithmetic::Numbers]);
    assert_eq!(by(CODES, "4", target), [Arithmetic::Pairs], "rounded numbers are others");
    assert_eq!(by(&exact, "40", target), []);
    // What is held to the bound of f32 keeps all of it: queries of f32, and scales of f32.
    let wide = exact.replace("q: view<bf16", "q: view<f32");
    assert_eq!(by(&wide, "4", target), [Arithmetic::Numbers]);
    let scales = exact.replace("scales: view<bf16, 2>, biases: view<bf16", "scales: view<f32, 2>, biases: view<f32");
    assert_eq!(by(&scales, "4", target), [Arithmetic::Numbers]);
    // Two quarters of a vector of bytes have one scale, at least.
    let narrow = exact
        .replace("%grouped = reshape %codes shape=[32, 32]", "%grouped = reshape %codes shape=[64, 16]")
        .replace("shape=[16, 2]", "shape=[16, 4]")
        .replace("shape=[32, 1]", "shape=[64, 1]");
    assert_eq!(by(&narrow, "4", target), [Arithmetic::Numbers]);
}

#[test]
fn codes_are_decoded_in_one_step_or_where_they_are_multiplied() {
    let is_codes = |rows: &Rows| matches!(rows, Rows::Codes(c) if (c.bits, c.group, c.rounds) == (4, 32, Elem::Bf16));
    let few = lowered_for(&CODES.replace("ROWS", "4"), Target { lanes: 8, ..TARGET });
    assert_eq!(count(&few, |s| matches!(s, Step::DotRows(dot) if is_codes(&dot.b) && dot.transposed)), 1, "{few}");
    assert_eq!(count(&few, |s| matches!(s, Step::Unpack { .. } | Step::Decode { .. } | Step::Pack(_))), 0, "{few}");
    let many = lowered_for(&CODES.replace("ROWS", "40"), Target { lanes: 8, ..TARGET });
    let decoded = |s: &Step| matches!(s, Step::Decode { rows, count: 16, columns: 64, .. } if is_codes(rows));
    assert_eq!(count(&many, decoded), 1, "{many}");
    assert_eq!(count(&many, |s| matches!(s, Step::Unpack { .. } | Step::DotRows(_))), 0, "{many}");
    // These are other numbers: rounded at other places, or with scales that are shared by rows.
    let shared = |by: &str| {
        CODES.replace(&format!("load %{by}, %0, %0 shape=[16, 2]"), &format!("load %{by}, %0, %0 shape=[1, 2]"))
    };
    let one = |text: String, of: &str| {
        let wide = format!("reshape %{of}1 shape=[32, 1]");
        text.replace(&wide, &format!("reshape %{of}1 shape=[1, 2, 1]"))
    };
    let by_row =
        CODES.replace("%grouped = reshape %codes shape=[32, 32]", "%grouped = reshape %codes shape=[16, 2, 32]");
    let by_row = by_row.replace("reshape %s1 shape=[32, 1]", "reshape %s1 shape=[16, 2, 1]");
    let by_row = by_row.replace("reshape %b1 shape=[32, 1]", "reshape %b1 shape=[16, 2, 1]");
    let scales_of_all = one(
        shared("scales")
            .replace("%grouped = reshape %codes shape=[32, 32]", "%grouped = reshape %codes shape=[16, 2, 32]"),
        "s",
    )
    .replace("reshape %b1 shape=[32, 1]", "reshape %b1 shape=[16, 2, 1]");
    for (text, is_decoded) in [
        (by_row, true),
        (scales_of_all, false),
        (CODES.replace("cast %x2 to=bf16", "cast %x2 to=f32"), false),
        (CODES.replace("cast %x5 to=bf16", "cast %x5 to=f32").replace("q: view<bf16", "q: view<f32"), false),
        (CODES.replace("%s3 = cast %s2 to=f32", "%s9 = cast %s2 to=f16\n  %s3 = cast %s9 to=f32"), false),
    ] {
        for rows in ["4", "40"] {
            let program = lowered_for(&text.replace("ROWS", rows), Target { lanes: 8, ..TARGET });
            let unpacks = count(&program, |s| matches!(s, Step::Unpack { .. }));
            assert_eq!(unpacks, usize::from(!is_decoded), "{text}\n{program}");
        }
    }
}

const HALVES: &str = "kernel halves(q: view<bf16, 2>, k: view<bf16, 2>, v: view<bf16, 2>, out o: view<f32, 2>) {
  %0: i32 = constant value=0.0 elem=i32
  %a = load %q, %0, %0 shape=[20, 33]
  %b = load %k, %0, %0 shape=[8, 33]
  %bt = transpose %b
  %s = dot %a, %bt
  %p = exp2 %s
  %h = cast %p to=bf16
  %c = load %v, %0, %0 shape=[8, 16]
  %r = dot %h, %c
  store %o, %r, %0, %0
}";

#[test]
fn products_of_bf16_numbers_are_of_pairs_where_the_processor_has_them() {
    let program = lowered_for(HALVES, Target { pairs: true, ..TARGET });
    let products: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Dot(dot) => Some((dot.pairs, dot.m, dot.n, dot.k)),
            _ => None,
        })
        .collect();
    assert_eq!(products, [(true, 20, 8, 17), (true, 20, 16, 4)], "33 numbers are 17 pairs\n{program}");
    assert_eq!(count(&program, |s| matches!(s, Step::Pack(pack) if pack.pairs)), 2, "{program}");
    // The weights are rounded on the way to their pairs, and nowhere else.
    assert_eq!(count(&program, |s| matches!(s, Step::Pair { .. })), 2, "{program}");
    assert_eq!(program.stats.fused, 1, "{program}");

    let plain = lowered_for(HALVES, TARGET);
    let of_pairs = |s: &Step| match s {
        Step::Dot(dot) => dot.pairs,
        Step::Pack(pack) => pack.pairs,
        Step::Pair { .. } => true,
        _ => false,
    };
    assert_eq!(count(&plain, of_pairs), 0, "{plain}");
    assert_eq!(plain.stats.fused, 2, "{plain}");
}

#[test]
fn weights_that_nothing_but_a_product_of_pairs_reads_are_made_in_pairs() {
    let made = |text: &str| {
        let program = lowered_for(text, Target { pairs: true, ..TARGET });
        let in_pairs = |s: &Step| match s {
            Step::Vector(v) => v.ops.iter().any(|op| matches!(op.kind, MicroKind::Weights { pairs: true, .. })),
            _ => false,
        };
        [count(&program, in_pairs), count(&program, |s| matches!(s, Step::Pair { .. }))]
    };
    let softmax = HALVES.replace("%p = exp2 %s", "%m = reduce_max %s axis=1\n  %d = sub %s, %m\n  %p = exp2 %d");
    assert_eq!(made(&softmax), [1, 1], "the queries are paired on their own");
    assert_eq!(made(&softmax.replace("  store", "  store %o, %p, %0, %0\n  store")), [0, 2], "numbers are stored too");
    assert_eq!(made(&softmax.replace("[8, ", "[9, ")), [0, 2], "the last of nine has no neighbour");
}

#[test]
fn the_weights_of_a_softmax_are_one_op_with_their_sums() {
    let program = lowered(ATTENTION);
    let weights = steps(&program).into_iter().filter_map(|s| match s {
        Step::Vector(v) => {
            Some(v.ops.iter().filter(|op| matches!(op.kind, MicroKind::Weights { sum: Some(_), .. })).count())
        }
        _ => None,
    });
    assert_eq!(weights.sum::<usize>(), 1, "{program}");
}

#[test]
fn weights_of_scaled_scores_store_no_scaled_score() {
    let softmax = HALVES
        .replace("k: view<bf16, 2>", "k: view<bf16, 2>, f: f32")
        .replace("%s = dot %a, %bt", "%x = dot %a, %bt\n  %s = mul %x, %f")
        .replace("%p = exp2 %s", "%m = reduce_max %s axis=1\n  %d = sub %s, %m\n  %p = exp2 %d");
    let kinds = |text: &str| {
        let program = lowered(text);
        let ops = |wanted: fn(&MicroKind) -> bool| -> usize {
            let vectors =
                steps(&program).into_iter().filter_map(|s| if let Step::Vector(v) = s { Some(v) } else { None });
            vectors.flat_map(|v| &v.ops).filter(|op| wanted(&op.kind)).count()
        };
        [
            ops(|kind| matches!(kind, MicroKind::ScaledMax)),
            ops(|kind| matches!(kind, MicroKind::Weights { .. })),
            ops(|kind| matches!(kind, MicroKind::Map { .. })),
        ]
    };
    assert_eq!(kinds(&softmax), [1, 1, 0]);
    assert_eq!(kinds(&softmax.replace("  store", "  store %o, %s, %0, %0\n  store")), [0, 1, 1], "they are asked for");
    assert_eq!(kinds(&softmax.replace("reduce_max", "reduce_min")), [0, 1, 1], "the least is another number");
}

#[test]
fn a_tile_that_nothing_but_a_loop_reads_is_loaded_in_it() {
    let loads = |text: &str| {
        let program = lowered(text);
        let of_loops = steps(&program).into_iter().filter_map(|s| if let Step::Vector(v) = s { Some(v) } else { None });
        let with_readers = of_loops.filter(|v| v.ops.iter().any(|op| !matches!(op.kind, MicroKind::Load(_))));
        let in_loops = with_readers.flat_map(|v| &v.ops).filter(|op| matches!(op.kind, MicroKind::Load(_))).count();
        [in_loops, count(&program, |s| matches!(s, Step::Load { .. }))]
    };
    let biased = HALVES.replace("k: view<bf16, 2>", "k: view<bf16, 2>, bias: view<f16, 2>").replace(
        "%p = exp2 %s",
        "%m = load %bias, %0, %0 shape=[20, 8]\n  %n = cast %m to=f32\n  %d = add %s, %n\n  %p = exp2 %d",
    );
    assert_eq!(loads(&biased), [1, 1], "the queries are lanes");
    let stored = biased.replace("  store", "  store %o, %n, %0, %0\n  store");
    assert_eq!(loads(&stored), [1, 1], "what is made of it may be stored");
    let multiplied =
        biased.replace("  store", "  %mt = transpose %m\n  %mm = dot %mt, %m\n  store %o, %mm, %0, %0\n  store");
    assert_eq!(loads(&multiplied)[0], 0, "a product reads it too");
    let row = biased.replace("[20, 8]\n  %n", "[1, 8]\n  %n");
    assert_eq!(loads(&row), [0, 2], "a row is loaded once and not for each block");
    let planes = "  %l = load %w, %0, %0, %0 shape=[1, 10, 8]\n  %w2 = broadcast %l shape=[2, 10, 8]\n  %m = reshape %w2 shape=[20, 8]";
    let repeated = biased
        .replace("bias: view<f16, 2>", "w: view<f16, 3>")
        .replace("  %m = load %bias, %0, %0 shape=[20, 8]", planes);
    assert_eq!(loads(&repeated), [1, 1], "a plane is loaded once for each that it serves");
    assert_eq!(count(&lowered(&repeated), |s| matches!(s, Step::Broadcast { .. })), 0);
    let stored = repeated
        .replace("  store", "  store %o, %l, %0, %0, %0\n  store")
        .replace("out o: view<f32, 2>", "out o: view<f32, 2>, out u: view<f16, 3>")
        .replace("store %o, %l", "store %u, %l");
    assert_eq!(loads(&stored)[0], 0, "the plane is needed anyway");
    // An earlier loop over as many rows and columns does not take the tile along.
    let early = biased.replace("bias: view<f16, 2>", "bias: view<f32, 2>").replace("  %n = cast %m to=f32\n", "");
    let early = early.replace("  %a = load", "  %z = load %bias, %0, %0 shape=[20, 8]\n  %y = add %z, %z\n  %a = load");
    let early = early
        .replace("%d = add %s, %n", "%x = sub %s, %m\n  %d = add %x, %y")
        .replace("%m = load %bias, %0, %0", "%m = load %bias, %0, %1");
    let program = lowered(&early.replace("  %z = load", "  %1: i32 = constant value=1 elem=i32\n  %z = load"));
    let of = |name: &str| program.to_string().lines().position(|line| line.contains(name));
    let loads: Vec<usize> = (0..)
        .zip(program.to_string().lines())
        .filter(|(_, line)| line.contains("Full = load v"))
        .map(|(at, _)| at)
        .collect();
    assert!(
        matches!(loads[..], [first, second] if Some(first) < of("= dot") && Some(second) > of("= dot")),
        "{program}"
    );
}

#[test]
fn the_accumulator_of_a_loop_stays_in_one_place() {
    let program = lowered(ATTENTION);
    let mut sums = Vec::new();
    for step in loop_body(&program) {
        if let Step::Dot(dot) = step
            && dot.accumulate
        {
            sums.push(dot.c);
        }
    }
    let [sum] = sums[..] else { panic!("{} products accumulate\n{program}", sums.len()) };
    // The running maximum is compared with its successor, so it has two places and is copied; the accumulator is not.
    let copies = |s: &Step| matches!(s, Step::Copy { src, dst, lanes } if *lanes > 4 || *src == sum || *dst == sum);
    assert_eq!(count(&program, copies), 0, "{program}");
    // What is scaled in the loop and divided after it is what the product adds to.
    let rescaled = |steps: &[Step]| {
        steps.iter().any(|s| match s {
            Step::Vector(v) => v.ops.iter().any(|op| op.src[0].place.offset == sum && op.src[0].place.row_stride == 16),
            _ => false,
        })
    };
    assert!(rescaled(loop_body(&program)), "{program}");
    assert!(rescaled(&program.steps), "{program}");
}

#[test]
fn a_load_that_only_feeds_products_is_packed_from_memory() {
    let program = lowered(ATTENTION);
    let loads: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Load { window, .. } => Some(&window.extents[..]),
            _ => None,
        })
        .collect();
    assert_eq!(loads, [[4, 32]], "only the left side of a product is lanes\n{program}");
    let packs: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Pack(pack) => Some((matches!(pack.source, PackSource::Window(_)), pack.transposed, pack.k, pack.n)),
            _ => None,
        })
        .collect();
    assert_eq!(packs, [(true, true, 32, 8), (true, false, 8, 16)], "{program}");
    assert_eq!(count(&program, |s| matches!(s, Step::Transpose { .. })), 0, "{program}");
}

#[test]
fn words_are_unpacked_in_one_step_and_what_follows_is_fused() {
    let program = lowered(
        "kernel k(x: view<u32, 3>, s: f32, out y: view<f32, 3>) {
           %0 = constant value=0 elem=i32
           %words = load %x, %0, %0, %0 shape=[2, 3, 5]
           %codes = unpack %words bits=4
           %numbers = cast %codes to=f32
           %scaled = mul %numbers, %s
           %nearest = round %scaled
           store %y, %nearest, %0, %0, %0
         }",
    );
    let whole = |s: &Step| matches!(s, Step::Unpack { words: 30, bits: 4, .. });
    assert_eq!(count(&program, whole), 1, "{program}");
    let stats = Stats { fused: 3, loops: 1, unfused: 1, dots: 0 };
    assert_eq!(program.stats, stats, "{program}");
    assert!(program.to_string().contains(" = unpack 30 by 4 bits @"), "{program}");
}

#[test]
fn a_load_that_is_also_used_whole_is_packed_from_its_lanes() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[4, 4]
           %t = transpose %a
           %p = dot %a, %t
           %q = add %p, %t
           store %y, %q, %0, %0
         }",
    );
    assert_eq!(count(&program, |s| matches!(s, Step::Load { .. })), 1, "{program}");
    let from_lanes = |s: &Step| matches!(s, Step::Pack(p) if p.transposed && matches!(p.source, PackSource::Lanes(_)));
    assert_eq!(count(&program, from_lanes), 1, "{program}");
    assert_eq!(count(&program, |s| matches!(s, Step::Transpose { .. })), 1, "{program}");
}

#[test]
fn a_tile_from_outside_of_a_loop_is_packed_outside_of_it() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, w: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %1 = constant value=1 elem=i32
           %9 = constant value=9 elem=i32
           %b = load %w, %0, %0 shape=[4, 4]
           for_range %0, %9, %1 {
             (%i: i32)
             %a = load %x, %i, %0 shape=[1, 4]
             %p = dot %a, %b
             store %y, %p, %i, %0
           }
         }",
    );
    assert_eq!(count(&program, |s| matches!(s, Step::Pack(_))), 1, "{program}");
    assert!(!loop_body(&program).iter().any(|s| matches!(s, Step::Pack(_))), "{program}");
}

#[test]
fn values_that_change_places_go_through_a_temporary() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, n: i32, out y: view<f32, 2>, out z: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %1 = constant value=1 elem=i32
           %a = load %x, %0, %0 shape=[2, 8]
           %b = load %x, %n, %0 shape=[2, 8]
           %p, %q = for_range %0, %n, %1, %a, %b {
             (%i: i32, %u: f32[2, 8], %v: f32[2, 8])
             yield %v, %u
           }
           store %y, %p, %0, %0
           store %z, %q, %0, %0
         }",
    );
    let copies: Vec<(u32, u32)> = loop_body(&program)
        .iter()
        .filter_map(|s| match s {
            Step::Copy { src, dst, lanes: 16 } => Some((*src, *dst)),
            _ => None,
        })
        .collect();
    let places: std::collections::BTreeSet<u32> = copies.iter().flat_map(|&(s, d)| [s, d]).collect();
    assert_eq!(tile_copies(&program), copies.len(), "the loads are made where the loop carries them\n{program}");
    assert!(places.len() > 2, "two places alone cannot exchange what they hold\n{program}");
    let loads: Vec<u32> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Load { dst, .. } => Some(*dst),
            _ => None,
        })
        .collect();
    let [a, b] = loads[..] else { panic!("{} loads\n{program}", loads.len()) };
    let mut lanes = std::collections::HashMap::from([(a, 'a'), (b, 'b')]);
    // The copies, on names.
    for (src, dst) in copies {
        let held = lanes.get(&src).copied().unwrap_or('?');
        lanes.insert(dst, held);
    }
    assert_eq!((lanes[&a], lanes[&b]), ('b', 'a'), "{program}");
}

#[test]
fn a_branch_changes_a_value_in_place() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, masked: bool, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %low = constant value=-inf elem=f32
           %s = load %x, %0, %0 shape=[4, 8]
           %r = if_else %masked {
             %row = iota axis=0 shape=[4, 8]
             %col = iota axis=1 shape=[4, 8]
             %visible = le %col, %row
             %t = select %visible, %s, %low
             yield %t
           } else {
             yield %s
           }
           %u = exp2 %r
           store %y, %u, %0, %0
         }",
    );
    assert_eq!(tile_copies(&program), 0, "{program}");
    let branches = steps(&program).into_iter().find_map(|s| match s {
        Step::If { then, otherwise, .. } => Some((then, otherwise)),
        _ => None,
    });
    let Some((then, otherwise)) = branches else { panic!("no branch\n{program}") };
    assert_eq!((then.len(), otherwise.len()), (1, 0), "{program}");
    let loaded = program.steps.iter().find_map(|s| match s {
        Step::Load { dst, .. } => Some(*dst),
        _ => None,
    });
    let Step::Vector(vector) = &then[0] else { panic!("not a fused loop\n{program}") };
    assert_eq!(vector.ops.last().map(|op| op.dst.offset), loaded, "{program}");
}

#[test]
fn a_softmax_runs_fused_in_one_loop() {
    let program = lowered(
        "kernel softmax(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[16, 64]
           %m = reduce_max %a axis=1
           %d = sub %a, %m
           %e = exp2 %d
           %l = reduce_sum %e axis=1
           %o = div %e, %l
           store %y, %o, %0, %0
         }",
    );
    let stats = program.stats;
    assert_eq!((stats.fused, stats.loops, stats.unfused, stats.dots), (5, 1, 0, 0), "{program}");
    assert_eq!(stats.to_string(), "5 of 5 tile ops fused (100%) in 1 loops, 0 products");
}

#[test]
fn a_reduction_along_the_rows_is_reported_unfused() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[16, 64]
           %b = add %a, %a
           %m = reduce_max %b axis=0
           %d = sub %b, %m
           store %y, %d, %0, %0
         }",
    );
    let stats = program.stats;
    assert_eq!((stats.fused, stats.loops, stats.unfused), (2, 2, 1), "{program}");
    assert_eq!(stats.to_string(), "2 of 3 tile ops fused (67%) in 2 loops, 0 products");
}

#[test]
fn a_middle_axis_that_spreads_is_reported_unfused() {
    let program = lowered(
        "kernel k(x: view<f32, 3>, out y: view<f32, 3>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0, %0 shape=[2, 1, 8]
           %b = load %x, %0, %0, %0 shape=[2, 4, 8]
           %c = add %a, %b
           store %y, %c, %0, %0, %0
         }",
    );
    assert_eq!(program.stats.unfused, 1, "{program}");
}

/// Heads and queries as the rows of one matrix, scores as heads again, and a mask for all heads.
const HEADS: &str = "kernel heads(q: view<f32, 3>, k: view<f32, 2>, mask: view<bool, 3>, out o: view<f32, 3>) {
  %0 = constant value=0 elem=i32
  %low = constant value=-inf elem=f32
  %q3 = load %q, %0, %0, %0 shape=[2, 4, 8]
  %q2 = reshape %q3 shape=[8, 8]
  %k1 = load %k, %0, %0 shape=[16, 8]
  %kt = transpose %k1
  %s2 = dot %q2, %kt
  %s3 = reshape %s2 shape=[2, 4, 16]
  %m1 = load %mask, %0, %0, %0 shape=[1, 8, 16]
  %twice = add %s3, %s3
  %m2 = reshape %m1 shape=[8, 16]
  %t2 = reshape %twice shape=[8, 16]
  %p = select %m2, %t2, %low
  %p3 = reshape %p shape=[2, 4, 16]
  store %o, %p3, %0, %0, %0
}";

#[test]
fn the_program_of_a_kernel_that_reshapes() {
    let program = lowered(HEADS);
    insta::assert_snapshot!(format!("{program}{}\n", program.stats));
}

#[test]
fn a_reshape_costs_nothing() {
    let program = lowered(HEADS);
    assert_eq!(count(&program, |s| matches!(s, Step::Copy { .. })), 0, "{program}");
    assert_eq!((program.stats.fused, program.stats.loops, program.stats.unfused), (2, 1, 0), "{program}");
}

/// Keys and values in pages, found by a table.
const PAGED: &str =
    "kernel paged(q: view<f32, 2>, k: view<f32, 3>, v: view<f32, 3>, t: view<i32, 1>, out o: view<f32, 2>) {
  %0 = constant value=0 elem=i32
  %q1 = load %q, %0, %0 shape=[4, 32]
  %pages = load %t, %0 shape=[2]
  %k3 = gather %k, %pages, %0, %0 axis=0 shape=[2, 8, 32]
  %k2 = reshape %k3 shape=[16, 32]
  %kt = transpose %k2
  %s = dot %q1, %kt
  %v3 = gather %v, %pages, %0, %0 axis=0 shape=[2, 8, 16]
  %v2 = reshape %v3 shape=[16, 16]
  %r = dot %s, %v2
  store %o, %r, %0, %0
}";

#[test]
fn the_program_of_a_kernel_with_pages() {
    let program = lowered(PAGED);
    insta::assert_snapshot!(format!("{program}{}\n", program.stats));
}

#[test]
fn pages_that_only_feed_products_are_packed_from_memory() {
    let program = lowered(PAGED);
    assert_eq!(count(&program, |s| matches!(s, Step::Gather { .. })), 0, "{program}");
    let packs: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Pack(pack) => {
                Some((matches!(pack.source, PackSource::Gather { .. }), pack.transposed, pack.k, pack.n))
            }
            _ => None,
        })
        .collect();
    assert_eq!(packs, [(true, true, 32, 16), (true, false, 16, 16)], "{program}");
}

#[test]
fn pages_whose_rows_change_length_are_packed_from_lanes() {
    for (shape, axis) in [("[8, 64]", 0), ("[16, 32]", 2)] {
        let program = lowered(&format!(
            "kernel k(q: view<f32, 2>, k: view<f32, 3>, t: view<i32, 1>, out o: view<f32, 2>) {{
               %0 = constant value=0 elem=i32
               %q1 = load %q, %0, %0 shape=[4, {}]
               %at = load %t, %0 shape=[{}]
               %k3 = gather %k, %at, %0, %0 axis={axis} shape=[2, 8, 32]
               %k2 = reshape %k3 shape={shape}
               %s = dot %q1, %k2
               store %o, %s, %0, %0
             }}",
            if axis == 0 { 8 } else { 16 },
            if axis == 0 { 2 } else { 32 },
        ));
        assert_eq!(count(&program, |s| matches!(s, Step::Gather { .. })), 1, "{program}");
        let from_lanes = |s: &Step| matches!(s, Step::Pack(p) if matches!(p.source, PackSource::Lanes(_)));
        assert_eq!(count(&program, from_lanes), 1, "{program}");
    }
}

#[test]
fn other_rows_of_a_tile_are_read_when_it_is_whole() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[4, 4]
           %b = add %a, %a
           %c = reshape %b shape=[2, 8]
           %m = reduce_max %c axis=1
           %d = sub %c, %m
           store %y, %d, %0, %0
         }",
    );
    let domains: Vec<(u32, u32)> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Vector(v) => Some((v.rows, v.cols)),
            _ => None,
        })
        .collect();
    assert_eq!(domains, [(4, 4), (2, 8)], "{program}");
    assert_eq!(
        program.lanes.next_multiple_of(16),
        16 + 16 + 16,
        "a constant, one place of the tile, row sums\n{program}"
    );
}

#[test]
fn a_row_is_not_overwritten_while_it_is_also_read_as_columns() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, out y: view<f32, 2>, out z: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[4, 1]
           %b = reshape %a shape=[1, 4]
           %c = add %a, %b
           %d = add %a, %a
           store %y, %c, %0, %0
           store %z, %d, %0, %0
         }",
    );
    let loaded = program.steps.iter().find_map(|s| match s {
        Step::Load { dst, .. } => Some(*dst),
        _ => None,
    });
    for step in steps(&program) {
        if let Step::Vector(v) = step {
            assert!(v.ops.iter().all(|op| Some(op.dst.offset) != loaded), "{program}");
        }
    }
}

#[test]
fn a_loop_carries_a_tile_under_another_shape_in_one_place() {
    let program = lowered(
        "kernel k(x: view<f32, 2>, n: i32, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %1 = constant value=1 elem=i32
           %a = load %x, %0, %0 shape=[4, 8]
           %flat = reshape %a shape=[2, 16]
           %r = for_range %0, %n, %1, %flat {
             (%i: i32, %u: f32[2, 16])
             %v = reshape %u shape=[4, 8]
             %w = mul %v, %v
             %z = reshape %w shape=[2, 16]
             yield %z
           }
           store %y, %r, %0, %0
         }",
    );
    assert_eq!(tile_copies(&program), 0, "{program}");
}

#[test]
fn lanes_are_used_again_after_their_last_use() {
    let chain = |n: usize| {
        let mut text = "kernel k(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %t0 = load %x, %0, %0 shape=[16, 16]\n"
            .to_string();
        for i in 1..=n {
            text += &format!("%m{i} = transpose %t{}\n%t{i} = add %m{i}, %m{i}\n", i - 1);
        }
        lowered(&format!("{text}store %y, %t{n}, %0, %0\n}}"))
    };
    assert_eq!(chain(3).lanes, chain(30).lanes);
}

#[test]
fn the_same_kernel_gives_the_same_program() {
    let (once, again) = (lowered(ATTENTION), lowered(ATTENTION));
    assert_eq!(once.to_string(), again.to_string());
    assert_eq!(once, again);
}

/// Scores with a bias and a mask, and values of the keys that some real row attends.
const MASKED: &str = "kernel masked(x: view<f32, 2>, bias: view<f16, 2>, v: view<f32, 2>, scale: f32, end: i32, real: i32, out m: view<f32, 2>, out y: view<f32, 2>) {
  %0 = constant value=0 elem=i32
  %zero = constant value=0 elem=f32
  %low = constant value=-inf elem=f32
  %by = constant value=1.5 elem=f32
  %x1 = load %x, %0, %0 shape=[9, 37]
  %stored = load %bias, %0, %0 shape=[9, 37]
  %cells = cast %stored to=f32
  %key = iota axis=1 shape=[1, 37]
  %row = iota axis=0 shape=[9, 1]
  %scaled = mul %x1, %scale
  %biased = mul %cells, %by
  %sum = add %scaled, %biased
  %there = lt %key, %end
  %before = le %key, %row
  %both = and %there, %before
  %free = ne %cells, %low
  %attended = and %both, %free
  %scores = select %attended, %sum, %low
  %top = reduce_max %scores axis=1
  %exists = lt %row, %real
  %counted = and %attended, %exists
  %ones = cast %counted to=i32
  %any = reduce_max %ones axis=0
  %column = transpose %any
  %keep = ne %column, %0
  %v1 = load %v, %0, %0 shape=[37, 21]
  %v2 = select %keep, %v1, %zero
  %safe = max %scores, %by
  %product = dot %safe, %v2
  store %m, %top, %0, %0
  store %y, %product, %0, %0
}";

#[test]
fn scores_with_bias_and_mask_are_one_op_with_their_largest_and_what_any_row_attends() {
    let program = lowered(MASKED);
    let masked: Vec<_> = steps(&program)
        .into_iter()
        .filter_map(|s| match s {
            Step::Vector(v) => Some(v.ops.iter().filter_map(|op| match &op.kind {
                MicroKind::Masked(of) => Some(of),
                _ => None,
            })),
            _ => None,
        })
        .flatten()
        .collect();
    let [of] = masked[..] else { panic!("{} of them\n{program}", masked.len()) };
    let bounds = of.bounds.as_ref().map(|bounds| bounds.relations.len());
    assert_eq!(bounds, Some(2), "{program}");
    assert!(of.scale.is_some() && of.bias.is_some_and(|bias| bias.blocks.is_some()), "{program}");
    assert!(of.max.is_some() && of.any.as_ref().is_some_and(|any| any.of.is_some()), "{program}");
    assert_eq!(count(&program, |s| matches!(s, Step::Reduce { .. })), 0, "{program}");
}

#[test]
fn rows_that_a_mask_leaves_out_are_left_out_while_they_are_packed() {
    let program = lowered(MASKED);
    let kept = |s: &Step| matches!(s, Step::Pack(Pack { source: PackSource::Window(_), keep: Some(_), .. }));
    assert_eq!(count(&program, kept), 1, "{program}");
    // Values that are read elsewhere as well stay as they are.
    let read = MASKED.replace("store %m, %top", "store %m, %v2");
    assert_eq!(count(&lowered(&read), kept), 0);
    // Also where it is their transpose, which the product reads, that something else reads.
    let turned = "%turned = transpose %v2\n %scores2 = load %v, %0, %0 shape=[9, 21]\n store %y, %turned, %0, %0";
    let turned = MASKED.replace("%product = dot %safe, %v2", &format!("{turned}\n %product = dot %scores2, %turned"));
    assert_eq!(count(&lowered(&turned), kept), 0);
    // And so do rows in whose place there is another number than zero.
    let other = MASKED.replace("select %keep, %v1, %zero", "select %keep, %v1, %by");
    assert_eq!(count(&lowered(&other), kept), 0);
}

#[test]
fn what_something_else_reads_of_scores_is_made() {
    for (read, fused) in [("%sum", 0), ("%scaled", 1), ("%top", 1), ("%attended", 0), ("%both", 1)] {
        let program =
            lowered(&MASKED.replace("store %m, %top", &format!("%shown = cast {read} to=f32\n store %m, %shown")));
        let of =
            |s: &Step| matches!(s, Step::Vector(v) if v.ops.iter().any(|op| matches!(op.kind, MicroKind::Masked(_))));
        assert_eq!(count(&program, of), fused, "{read}\n{program}");
    }
}
