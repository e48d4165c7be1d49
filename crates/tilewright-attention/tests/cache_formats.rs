//! Every cache format by one pass, by splits and by verify, against the f64 reference, with NaN in every slot that holds no
//! token.

use tilewright_attention::cache::{Encoding, Format, Placement};
use tilewright_attention::cases::Case;
use tilewright_attention::{Affine, Splits};
use tilewright_ir::Elem;
use tilewright_runtime::Device;

const PLACEMENTS: [Placement; 4] =
    [Placement::Contiguous, Placement::Ring, Placement::Paged { page_size: 16 }, Placement::Paged { page_size: 48 }];

fn formats() -> Vec<Format> {
    let affine = |text: &str| Encoding::Affine(text.parse::<Affine>().unwrap());
    let encodings =
        [(Encoding::Stored, Encoding::Stored), (affine("q8g64"), affine("q4g32")), (affine("q4g64"), Encoding::Stored)];
    let mut all = Vec::new();
    for placement in PLACEMENTS {
        for (keys, values) in encodings {
            all.push(Format { placement, keys, values, tail: false });
        }
    }
    for (keys, values) in encodings {
        all.push(Format { keys, values, tail: true, ..Format::DENSE });
    }
    all
}

#[test]
fn every_format_is_right_by_every_way() {
    let device = Device::cpu();
    let mut compared = 0;
    for format in formats() {
        for (name, q_len) in [("decode", 1), ("verify", 5), ("prefill", 70)] {
            for splits in [Splits::Auto, Splits::Count(3), Splits::Keys(130)] {
                for (q, kv) in [(Elem::F32, Elem::F32), (Elem::F32, Elem::F16), (Elem::Bf16, Elem::Bf16)] {
                    let case = Case::new(format!("{name}_{format}_{splits:?}"))
                        .types(q, kv)
                        .heads(6, 2)
                        .dims(64, 64)
                        .batch(3)
                        .lengths(q_len, 400)
                        .kv_len(&[400, 0, 133])
                        .cache(format)
                        .splits(splits)
                        .feature(tilewright_attention::Causal);
                    compared += case.run(&device).unwrap_or_else(|error| panic!("{error}")).compared;
                }
            }
        }
    }
    assert!(compared > 100_000);
}
