//! The encoders against llama-quantize: sha256 of every 2-D tensor of loam-tiny that the conversion does not permute.

use half::bf16;
use loam::digest::sha256_hex;
use loam_shaders::Format;
use safetensors::SafeTensors;

/// Hugging Face name of a GGUF tensor; `None` for norms (1-D, kept in F32) and for q and k, whose rows are permuted.
fn source_name(name: &str) -> Option<String> {
    if name == "token_embd.weight" {
        return Some("model.embed_tokens.weight".to_owned());
    }
    if name == "output.weight" {
        return Some("lm_head.weight".to_owned());
    }
    let (layer, kind) = name.strip_prefix("blk.")?.split_once('.')?;
    let part = match kind {
        "attn_v.weight" => "self_attn.v_proj",
        "attn_output.weight" => "self_attn.o_proj",
        "ffn_gate.weight" => "mlp.gate_proj",
        "ffn_up.weight" => "mlp.up_proj",
        "ffn_down.weight" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.weight"))
}

fn values(model: &SafeTensors<'_>, name: &str) -> (usize, Vec<f32>) {
    let tensor = model.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(tensor.dtype(), safetensors::Dtype::BF16, "{name}");
    let words = tensor.data().chunks_exact(2).map(|le| bf16::from_le_bytes([le[0], le[1]]).to_f32());
    (tensor.shape()[1], words.collect())
}

fn digest(format: Format, cols: usize, values: &[f32]) -> String {
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    let mut blocks = vec![0; values.len() / cols * row_bytes];
    for (row, out) in values.chunks(cols).zip(blocks.chunks_mut(row_bytes)) {
        format.encode_row(row, out);
    }
    sha256_hex(&blocks)
}

#[test]
fn blocks_are_those_of_llama_quantize() {
    let Some(golden) = loam_tests::shared("golden/quantize/loam-tiny.json") else { return };
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden).expect("readable")).expect("golden JSON");
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../targets/cli/assets/loam-tiny/model.safetensors");
    let bytes = std::fs::read(assets).expect("the committed model");
    let model = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut compared = 0;
    for format in Format::ALL {
        // Types that llama-quantize writes only in mixes are compared with ggml in tests/blocks.rs.
        let Some(tensors) = golden["types"][format.name()]["tensors"].as_object() else { continue };
        for (name, expected) in tensors {
            let Some(source) = source_name(name) else { continue };
            assert_eq!(expected[0].as_str(), Some(format.name().to_uppercase().as_str()), "{name}");
            let (cols, values) = values(&model, &source);
            assert_eq!(expected[1].as_str(), Some(digest(format, cols, &values).as_str()), "{format}: {name}");
            compared += 1;
        }
    }
    assert!(compared > 300, "only {compared} tensors compared");
}
