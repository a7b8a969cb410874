//! Kernels of `embed` against their references.

use loam_shaders::{Format, embed};
use loam_tests::{Operand, Random, check_kernel};

fn params(format: Format, tokens: u32, width: u32, (row0, rows): (u32, u32)) -> embed::Params {
    embed::Params { tokens, width, row0, rows, format: format.ggml_id(), scale: 1.5, pad: [0; 2] }
}

fn widths(format: Format) -> &'static [u32] {
    match format.block_len() {
        1 => &[4, 12, 64, 172],
        32 => &[32, 64, 96, 288],
        _ => &[256, 768],
    }
}

#[test]
fn rows_of_tokens() {
    let mut random = Random::new(1);
    for format in Format::ALL {
        for &width in widths(format) {
            for tokens in [1, 2, 5, 33] {
                let rows = 7;
                let ids: Vec<u32> = (0..tokens).map(|_| random.below(rows)).collect();
                let weight = Operand::weight(format, rows as usize, width as usize, &mut random);
                let out = Operand::unset((tokens * width) as usize);
                let call = embed::forward(format, params(format, tokens, width, (0, rows)));
                let written = check_kernel(&call, &[Operand::u32(&ids), weight, out]);
                assert!(written[0].iter().all(|value| value.is_finite()), "{format}: every row is written");
            }
        }
    }
}

#[test]
fn parts_of_a_split_weight_write_their_own_tokens() {
    let mut random = Random::new(2);
    for format in Format::ALL {
        let width = 256;
        let ids = [0, 4, 5, 9, 10, 3, 11, u32::MAX];
        let weight = Operand::weight(format, 5, width as usize, &mut random);
        let out = Operand::unset(ids.len() * width as usize);
        let call = embed::forward(format, params(format, ids.len() as u32, width, (5, 5)));
        let written = check_kernel(&call, &[Operand::u32(&ids), weight, out]);
        for (id, row) in ids.iter().zip(written[0].chunks(width as usize)) {
            let mine = (5..10).contains(id);
            assert!(row.iter().all(|value| value.is_finite() == mine), "{format}: token {id}");
        }
    }
}
