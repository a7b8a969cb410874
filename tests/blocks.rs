//! Block formats against ggml: random blocks decode to its weights, rows encode to its bytes. The expected values are
//! made by `tests/assets/blocks.py`.

use loam_shaders::Format;
use loam_tests::Random;

/// Weights of a row.
const COLS: usize = 512;

fn golden() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/blocks.json");
    serde_json::from_slice(&std::fs::read(path).expect("committed values")).expect("JSON")
}

fn bytes(hex: &serde_json::Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hex");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect()
}

/// Row `index` of those that the script encodes.
fn rows(count: usize) -> Vec<Vec<f32>> {
    let mut random = Random::new(1);
    let mut rows = Vec::new();
    for index in 0..count {
        let [even, mut cubed, mut holes] = std::array::from_fn(|_| random.values(COLS));
        cubed.iter_mut().for_each(|v| *v = *v * *v * *v);
        holes[40..200].fill(0.0);
        let scale = (-3.0 * (index % 7) as f32).exp2();
        rows.extend([even, cubed, holes].map(|row| row.iter().map(|v| v * scale).collect()));
    }
    rows
}

fn quantised() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

#[test]
fn random_blocks_decode_to_ggmls_weights() {
    let golden = golden();
    for format in quantised() {
        for case in golden[format.name()]["decoded"].as_array().expect("a format that the script knows") {
            let expected = bytes(&case["weights"]);
            let mut found = [f32::NAN; COLS];
            format.decode_row(&bytes(&case["blocks"]), &mut found);
            for (i, (found, expected)) in found.iter().zip(expected.as_chunks::<4>().0).enumerate() {
                // Equal, except that zero may have either sign.
                assert_eq!(*found, f32::from_le_bytes(*expected), "{format}: weight {i}");
            }
        }
    }
}

/// How much the inputs of a row count, as in the script.
fn importance() -> Vec<f32> {
    let mut values = Random::new(3).values(COLS);
    values[70..90].fill(0.0);
    values.iter().map(|v| v * v).collect()
}

#[test]
fn rows_encode_by_importance_to_ggmls_bytes() {
    let (golden, importance) = (golden(), importance());
    let mut compared = 0;
    for format in quantised() {
        let Some(expected) = golden[format.name()]["weighted"].as_array() else { continue };
        assert!(format.has_weighted_encoder(), "{format}");
        for (index, (row, expected)) in rows(expected.len() / 3).iter().zip(expected).enumerate() {
            let mut found = vec![0; format.row_bytes(COLS).expect("whole blocks")];
            format.encode_row_weighted(row, &importance, &mut found);
            assert!(found == bytes(expected), "{format}: row {index}");
            compared += 1;
        }
    }
    assert!(compared >= 27, "only {compared} rows compared");
}

#[test]
fn rows_encode_to_ggmls_bytes() {
    let golden = golden();
    for format in quantised() {
        let expected = golden[format.name()]["encoded"].as_array().expect("a format that the script knows");
        for (index, (row, expected)) in rows(expected.len() / 3).iter().zip(expected).enumerate() {
            let mut found = vec![0; format.row_bytes(COLS).expect("whole blocks")];
            format.encode_row(row, &mut found);
            assert!(found == bytes(expected), "{format}: row {index}");
        }
    }
}
