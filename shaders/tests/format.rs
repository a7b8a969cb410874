//! Block formats: exact bytes, error bounds and the device layout, against formulas written independently here.

use loam_shaders::Format;
use proptest::prelude::*;

/// Weights as models have them: a scale per case, some exact zeros.
fn weights(len: usize) -> impl Strategy<Value = Vec<f32>> {
    (-12i32..6, prop::collection::vec(prop_oneof![9 => -1.0f32..1.0, 1 => Just(0.0f32)], len))
        .prop_map(|(exponent, values)| values.into_iter().map(|v| v * (exponent as f32).exp2()).collect())
}

fn encode(format: Format, row: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0; format.row_bytes(row.len()).expect("whole blocks")];
    format.encode_row(row, &mut blocks);
    blocks
}

fn decode(format: Format, blocks: &[u8], cols: usize) -> Vec<f32> {
    let mut row = vec![f32::NAN; cols];
    format.decode_row(blocks, &mut row);
    row
}

fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_bits(u16::from_le_bytes([block[at], block[at + 1]])).to_f32()
}

/// Code `i` of a block of Q5_0 or Q5_1.
fn five(qh: &[u8], qs: &[u8], i: usize) -> f32 {
    f32::from((qs[i % 16] >> (4 * (i / 16))) & 15 | (qh[i / 8] >> (i % 8) & 1) << 4)
}

/// The levels of IQ4_NL and IQ4_XS.
fn level(code: u8) -> f32 {
    const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    f32::from(LEVELS[usize::from(code)])
}

/// Weight `i` of a block by the formulas of ggml-common.h.
fn weight(format: Format, block: &[u8], i: usize) -> f32 {
    match format {
        Format::F32 => f32::from_bits(u32::from_le_bytes(block.try_into().expect("4 bytes"))),
        Format::F16 => half_at(block, 0),
        Format::BF16 => f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16),
        Format::Q8_0 => half_at(block, 0) * f32::from(block[2 + i] as i8),
        Format::Q4_0 => {
            let q = (block[2 + i % 16] >> (4 * (i / 16))) & 15;
            half_at(block, 0) * (f32::from(q) - 8.0)
        }
        Format::Q4_1 => half_at(block, 0) * f32::from((block[4 + i % 16] >> (4 * (i / 16))) & 15) + half_at(block, 2),
        Format::Q5_0 => half_at(block, 0) * (five(&block[2..6], &block[6..], i) - 16.0),
        Format::Q5_1 => half_at(block, 0) * five(&block[4..8], &block[8..], i) + half_at(block, 2),
        Format::IQ4_NL => half_at(block, 0) * level((block[2 + i % 16] >> (4 * (i / 16))) & 15),
        Format::IQ4_XS => {
            let (j, k) = (i / 32, i % 32);
            let high = u16::from_le_bytes([block[2], block[3]]) >> (2 * j) & 3;
            let scale = block[4 + j / 2] >> (4 * (j % 2)) & 15 | (high as u8) << 4;
            let code = (block[8 + 16 * j + k % 16] >> (4 * (k / 16))) & 15;
            half_at(block, 0) * (f32::from(scale) - 32.0) * level(code)
        }
        Format::MXFP4 => {
            const FLOATS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
            let code = (block[1 + i % 16] >> (4 * (i / 16))) & 15;
            let value = FLOATS[usize::from(code & 7)] * (f32::from(block[0]) - 127.0).exp2();
            if code < 8 { value } else { -value }
        }
        Format::Q2_K => {
            let q = block[16 + 32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
            let (scale, min) = (block[i / 16] & 15, block[i / 16] >> 4);
            half_at(block, 80) * f32::from(scale) * f32::from(q) - half_at(block, 82) * f32::from(min)
        }
        Format::Q3_K => {
            let q = block[32 + 32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
            let lowered = if block[i % 32] >> (i / 32) & 1 == 1 { 0.0 } else { 4.0 };
            let j = i / 16;
            let low = block[96 + j % 8] >> (4 * (j / 8)) & 15;
            let scale = low | (block[104 + j % 4] >> (2 * (j / 4)) & 3) << 4;
            half_at(block, 108) * (f32::from(scale) - 32.0) * (f32::from(q) - lowered)
        }
        Format::Q6_K => {
            let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
            let low = block[64 * half + 32 * (run & 1) + l] >> (4 * (run >> 1)) & 15;
            let high = block[128 + 32 * half + l] >> (2 * run) & 3;
            half_at(block, 208) * f32::from(block[192 + i / 16] as i8) * f32::from((low | high << 4) as i8 - 32)
        }
        Format::Q4_K | Format::Q5_K => {
            let (group, j, l) = (i / 64, i / 32, i % 32);
            let (quants, fifth) = match format {
                Format::Q4_K => (16, 0),
                _ => (48, (block[16 + l] >> j & 1) << 4),
            };
            let q = (block[quants + 32 * group + l] >> (4 * (j % 2))) & 15 | fifth;
            // The twelve bytes as a little-endian number: scales 0..3 at 8j, minima 0..3 at 32 + 8j, the lower nibbles
            // of the others at 64 + 8(j-4), their upper two bits above those of the first four.
            let bits = block[4..16].iter().rev().fold(0u128, |all, b| all << 8 | u128::from(*b));
            let (scale, min) = if j < 4 {
                ((bits >> (8 * j)) & 63, (bits >> (32 + 8 * j)) & 63)
            } else {
                let k = j - 4;
                let low = bits >> (64 + 8 * k);
                (low & 15 | ((bits >> (8 * k + 6)) & 3) << 4, (low >> 4) & 15 | ((bits >> (32 + 8 * k + 6)) & 3) << 4)
            };
            half_at(block, 0) * scale as f32 * f32::from(q) - half_at(block, 2) * min as f32
        }
    }
}

/// Largest error allowed for weight `i` of a row: from the grid that the block holds.
fn bound(format: Format, row: &[f32], i: usize) -> f32 {
    let len = format.block_len();
    let block = &row[i / len * len..][..len];
    let most = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    match format {
        Format::F32 => 0.0,
        // Half a unit in the last place; below 2^-14 a half is a multiple of 2^-24.
        Format::F16 => (row[i].abs() / 2048.0).max(2.0f32.powi(-25)),
        Format::BF16 => row[i].abs() / 256.0,
        // Half a step, and the rounding of d to a half (subnormal: an absolute error) times the code.
        Format::Q8_0 => most / 127.0 * 0.501 + most / 2048.0 + 127.0 * 2.0f32.powi(-25),
        // One side reaches only 7 steps of 8: a whole step there.
        Format::Q4_0 => most / 8.0 * 1.001 + most / 2048.0 + 8.0 * 2.0f32.powi(-25),
        // A step of (max - min) / 15 or 31, and the rounding of d and m to halves.
        Format::Q4_1 => 2.0 * most / 15.0 * 0.501 + 3.0 * most / 2048.0 + 16.0 * 2.0f32.powi(-25),
        Format::Q5_1 => 2.0 * most / 31.0 * 0.501 + 3.0 * most / 2048.0 + 32.0 * 2.0f32.powi(-25),
        Format::Q5_0 => most / 16.0 * 1.001 + most / 2048.0 + 16.0 * 2.0f32.powi(-25),
        // Half the widest gap between levels (24 of 120), or the reach beyond the last one on the short side.
        Format::IQ4_NL => most * 16.0 / 113.0 + most / 2048.0 + 127.0 * 2.0f32.powi(-25),
        // As IQ4_NL; 6-bit rounding of the scale by that of the block. A subnormal d counts times 32 * 127.
        Format::IQ4_XS => most * (16.0 / 113.0 + 1.0 / 60.0) + most / 2048.0 + 4064.0 * 2.0f32.powi(-25),
        // Steps of 2 between 4 and 6, up to 8 beyond the last value.
        Format::MXFP4 => most / 4.0 * 1.001,
        // Half a step of up to a third of the range, 4-bit rounding of scale (times 3) and minimum.
        Format::Q2_K => 2.0 * most / 3.0 * 0.75 + 4.0 * most / 30.0 + most / 1024.0 + 60.0 * 2.0f32.powi(-24),
        // A whole step on the short side, 6-bit rounding of the scale by that of the block.
        Format::Q3_K => most / 4.0 * 1.25 + most / 16.0 + most / 2048.0 + 128.0 * 2.0f32.powi(-24),
        // A step of 1/31 on the short side, 8-bit rounding of the scale by that of the block (codes reach 32).
        Format::Q6_K => most / 30.0 + 32.0 * most / 31.0 / 128.0 + most / 2048.0 + 4096.0 * 2.0f32.powi(-25),
        Format::Q5_K => 2.0 * most / 31.0 * 0.75 + most / 20.0 + 1984.0 * 2.0f32.powi(-24),
        // Up to half a step of the sub-block, plus 6-bit rounding of scale and minimum by those of the block.
        Format::Q4_K => 2.0 * most / 15.0 * 0.75 + most / 20.0 + 960.0 * 2.0f32.powi(-24),
    }
}

fn check(format: Format, row: &[f32]) -> Result<(), TestCaseError> {
    let blocks = encode(format, row);
    let decoded = decode(format, &blocks, row.len());
    for (i, value) in decoded.iter().enumerate() {
        let block = &blocks[i / format.block_len() * format.block_bytes()..][..format.block_bytes()];
        let expected = weight(format, block, i % format.block_len());
        let slack = expected.abs().max(row[i].abs()) * 1e-6;
        prop_assert!((value - expected).abs() <= slack, "{format}[{i}]: decoded {value}, formula {expected}");
        let error = (value - row[i]).abs();
        prop_assert!(error <= bound(format, row, i), "{format}[{i}]: {} became {value}", row[i]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_follows_the_formulas_and_stays_near(row in weights(512)) {
        for format in Format::ALL {
            check(format, &row)?;
        }
    }

    #[test]
    fn packing_any_bytes_is_reversible(rows in 1usize..5, blocks in 1usize..6, seed in any::<u64>()) {
        for format in Format::ALL {
            let cols = blocks * format.block_len().max(4);
            let mut state = seed | 1;
            let bytes: Vec<u8> = (0..rows * format.row_bytes(cols).expect("whole blocks")).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            }).collect();
            let words = format.pack(rows, cols, &bytes);
            prop_assert_eq!(words.len() as u64, format.packed_words(rows, cols));
            prop_assert_eq!(format.unpack(rows, cols, &words), bytes);
        }
    }
}

/// Nibble of column `col` in a quants plane of blocks of 32 weights.
fn nibble(quants: &[u32], col: usize) -> u32 {
    (quants[col / 32 * 4 + col % 16 / 4] >> (8 * (col % 4) + 4 * (col % 32 / 16))) & 15
}

/// The weight at (row, column) of a packed buffer, by the table in `format/mod.rs`.
fn packed_weight(format: Format, words: &[u32], rows: usize, cols: usize, row: usize, col: usize) -> f32 {
    let (per_quants, per_scales) = (format.quant_words(cols), format.scale_words(cols));
    let quants = &words[row * per_quants..][..per_quants];
    let scales = &words[rows * per_quants + row * per_scales..][..per_scales];
    match format {
        Format::F32 => f32::from_bits(quants[col]),
        Format::F16 => half_of(quants[col / 2], col % 2),
        Format::BF16 => f32::from_bits((quants[col / 2] >> (16 * (col % 2))) << 16),
        Format::Q8_0 => {
            let q = (quants[col / 4] >> (8 * (col % 4))) as u8 as i8;
            half_of(scales[col / 64], col / 32 % 2) * f32::from(q)
        }
        Format::Q4_0 => {
            let (block, within) = (col / 32, col % 32);
            let word = quants[4 * block + within % 16 / 4];
            let q = (word >> (8 * (within % 4) + 4 * (within / 16))) & 15;
            half_of(scales[col / 64], block % 2) * (q as f32 - 8.0)
        }
        Format::Q4_1 => {
            let affine = scales[col / 32];
            half_of(affine, 0) * nibble(quants, col) as f32 + half_of(affine, 1)
        }
        Format::Q5_0 => {
            let (slab, block) = (&scales[3 * (col / 64)..], col / 32 % 2);
            let q = nibble(quants, col) | (slab[1 + block] >> (col % 32) & 1) << 4;
            half_of(slab[0], block) * (q as f32 - 16.0)
        }
        Format::Q5_1 => {
            let block = &scales[2 * (col / 32)..];
            let q = nibble(quants, col) | (block[1] >> (col % 32) & 1) << 4;
            half_of(block[0], 0) * q as f32 + half_of(block[0], 1)
        }
        Format::IQ4_XS => {
            let head: Vec<u8> = scales[2 * (col / 256)..][..2].iter().flat_map(|w| w.to_le_bytes()).collect();
            let mut block = [0; 136];
            block[..8].copy_from_slice(&head);
            block[8 + 16 * (col % 256 / 32)] = nibble(quants, col) as u8;
            weight(format, &block, col % 256 / 32 * 32)
        }
        Format::MXFP4 => {
            let d = f32::from_bits((scales[col / 64] >> (16 * (col / 32 % 2))) << 16);
            let mut block = [128; 17];
            block[1] = nibble(quants, col) as u8;
            d * weight(format, &block, 0)
        }
        Format::IQ4_NL => {
            let mut block = [0; 18];
            block[..2].copy_from_slice(&((scales[col / 64] >> (16 * (col / 32 % 2))) as u16).to_le_bytes());
            block[2] = nibble(quants, col) as u8;
            weight(format, &block, 0)
        }
        _ => packed_k_weight(format, quants, scales, col),
    }
}

/// The weight at column `col` of a packed row in blocks of 256.
fn packed_k_weight(format: Format, quants: &[u32], scales: &[u32], col: usize) -> f32 {
    match format {
        Format::Q2_K => {
            let (quants, scales) = (&quants[16 * (col / 256)..], &scales[5 * (col / 256)..]);
            let mut block: Vec<u8> = scales[..4].iter().chain(&quants[..16]).flat_map(|w| w.to_le_bytes()).collect();
            block.extend(scales[4].to_le_bytes());
            weight(format, &block, col % 256)
        }
        Format::Q3_K => {
            let (quants, scales) = (&quants[24 * (col / 256)..][..24], &scales[4 * (col / 256)..][..4]);
            let words = quants[16..].iter().chain(&quants[..16]).chain(scales);
            let block: Vec<u8> = words.flat_map(|w| w.to_le_bytes()).collect();
            weight(format, &block, col % 256)
        }
        Format::Q6_K => {
            let (slab, block, octet, k) =
                (&quants[12 * (col / 64)..], &scales[5 * (col / 256)..], col % 64 / 8, col % 8);
            let low = slab[octet] >> (8 * (k % 4) + 4 * (k / 4)) & 15;
            let high = slab[8 + octet / 2] >> (8 * (k % 4) + 4 * (octet % 2) + 2 * (k / 4)) & 3;
            let scale = (block[col / 64 % 4] >> (8 * (col % 64 / 16))) as u8 as i8;
            half_of(block[4], 0) * f32::from(scale) * ((low | high << 4) as f32 - 32.0)
        }
        Format::Q5_K => {
            let head: Vec<u8> = scales[12 * (col / 256)..][..12].iter().flat_map(|w| w.to_le_bytes()).collect();
            let (group, within) = (col / 64, col % 64);
            let q = quants[8 * group + within % 32 / 4] >> (8 * (within % 4)) & 255;
            let mut block = [0; 176];
            block[..48].copy_from_slice(&head);
            block[48 + 32 * (group % 4) + within % 32] = q as u8;
            weight(format, &block, col % 256)
        }
        Format::Q4_K => {
            let header: Vec<u8> = scales[4 * (col / 256)..][..4].iter().flat_map(|w| w.to_le_bytes()).collect();
            let (group, within) = (col / 64, col % 64);
            let word = quants[8 * group + within % 32 / 4];
            let q = ((word >> (8 * (within % 4) + 4 * (within / 32))) & 15) as u8;
            let mut block = [0; 144];
            block[..16].copy_from_slice(&header);
            block[16 + 32 * (group % 4) + within % 32] = q << (4 * (within / 32));
            weight(format, &block, col % 256)
        }
        _ => panic!("{format} has no blocks of 256 with scales of their own"),
    }
}

/// Half `k` of a word as a number.
fn half_of(word: u32, k: usize) -> f32 {
    half::f16::from_bits((word >> (16 * k)) as u16).to_f32()
}

#[test]
fn the_device_layout_is_the_documented_one() {
    for format in Format::ALL {
        let (rows, cols) = (3, if format.block_len() == 256 { 512 } else { 96 });
        let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
        let blocks = encode(format, &values);
        let words = format.pack(rows, cols, &blocks);
        let decoded = decode(format, &blocks, values.len());
        for row in 0..rows {
            for col in 0..cols {
                let expected = decoded[row * cols + col];
                let value = packed_weight(format, &words, rows, cols, row, col);
                assert!((value - expected).abs() <= 1e-6, "{format}[{row}, {col}]: {value} for {expected}");
            }
        }
    }
}

#[test]
fn padding_decodes_to_zero() {
    for format in Format::ALL {
        let cols = if format.block_len() == 1 { 12 } else { 32 };
        if format.row_bytes(cols).is_none() {
            continue;
        }
        let words = format.pack(2, cols, &encode(format, &vec![1.0; 2 * cols]));
        for row in 0..2 {
            for col in cols..64 {
                assert_eq!(packed_weight(format, &words, 2, 64, row, col), 0.0, "{format}[{row}, {col}]");
            }
        }
    }
}

#[test]
fn zero_blocks_have_ggmls_bytes() {
    for format in Format::ALL {
        let blocks = encode(format, &vec![0.0; 256]);
        let mut expected = vec![0u8; blocks.len()];
        for block in expected.chunks_mut(format.block_bytes()) {
            match format {
                Format::Q4_0 => {
                    block.fill(0x88);
                    block[..2].copy_from_slice(&[0x00, 0x80]);
                }
                Format::Q5_0 => block[1..6].copy_from_slice(&[0x80, 0xff, 0xff, 0xff, 0xff]),
                Format::IQ4_NL => block[2..].fill(0x88),
                Format::IQ4_XS => {
                    block[8..].fill(0x88);
                    block[..4].copy_from_slice(&[0x00, 0x80, 0xaa, 0xaa]);
                }
                _ => {}
            }
        }
        assert_eq!(blocks, expected, "{format}");
        assert!(decode(format, &blocks, 256).iter().all(|v| *v == 0.0), "{format}");
    }
}

#[test]
fn known_blocks() {
    let mut row = [0.0f32; 32];
    row[0] = -8.0;
    row[1] = 7.0;
    row[16] = 3.0;
    let mut expected = vec![0x88u8; 18];
    expected[..4].copy_from_slice(&[0x00, 0x3c, 0xb0, 0x8f]);
    assert_eq!(encode(Format::Q4_0, &row), expected);
    row = [0.0; 32];
    row[0] = -127.0;
    row[1] = 0.5;
    row[31] = 64.4;
    let mut expected = vec![0u8; 34];
    (expected[0], expected[1], expected[2], expected[3], expected[33]) = (0x00, 0x3c, 0x81, 1, 64);
    assert_eq!(encode(Format::Q8_0, &row), expected);
}

#[test]
fn sizes_and_ids_are_ggmls() {
    let table = [
        (Format::F32, "f32", 0, 1, 4),
        (Format::F16, "f16", 1, 1, 2),
        (Format::BF16, "bf16", 30, 1, 2),
        (Format::Q4_0, "q4_0", 2, 32, 18),
        (Format::Q8_0, "q8_0", 8, 32, 34),
        (Format::Q4_K, "q4_k", 12, 256, 144),
        (Format::Q4_1, "q4_1", 3, 32, 20),
        (Format::Q5_0, "q5_0", 6, 32, 22),
        (Format::Q5_1, "q5_1", 7, 32, 24),
        (Format::Q5_K, "q5_k", 13, 256, 176),
        (Format::Q6_K, "q6_k", 14, 256, 210),
        (Format::IQ4_NL, "iq4_nl", 20, 32, 18),
        (Format::IQ4_XS, "iq4_xs", 23, 256, 136),
        (Format::MXFP4, "mxfp4", 39, 32, 17),
        (Format::Q2_K, "q2_k", 10, 256, 84),
        (Format::Q3_K, "q3_k", 11, 256, 110),
    ];
    assert_eq!(table.map(|row| row.0), Format::ALL);
    for (format, name, id, len, bytes) in table {
        assert_eq!((format.name(), format.ggml_id()), (name, id));
        assert_eq!((format.block_len(), format.block_bytes()), (len, bytes));
        assert_eq!(Format::from_ggml_id(id), Some(format));
        assert_eq!(format.row_bytes(512), Some(512 / len * bytes));
        assert_eq!(format.row_bytes(usize::MAX / 256 * 256), (usize::MAX / 256 * 256 / len).checked_mul(bytes));
        if len > 1 {
            assert_eq!(format.row_bytes(len + 4), None);
        }
    }
    assert_eq!(Format::from_ggml_id(9), None);
}
