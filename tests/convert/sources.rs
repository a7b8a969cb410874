//! The same model in other layouts and types; heads, biases, rope scaling, permutation, fallbacks.

use std::collections::BTreeMap;

use loam::gguf::{GgmlType, GgufFile};
use loam_convert::{Options, Progress, convert};
use loam_shaders::Format;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::folder::{gguf_values, to};
use loam_tests::folder::{Folder, Tensors, f32_bytes, values, write_tensors};

fn converted(folder: &Folder, format: Format) -> GgufFile {
    let out = folder.file("out.gguf");
    to(format, folder.path(), &out).unwrap();
    GgufFile::open(&out).unwrap()
}

fn widened(tensors: &Tensors) -> Tensors {
    let widen = |(name, tensor): (&String, &(Dtype, Vec<usize>, Vec<u8>))| {
        (name.clone(), (Dtype::F32, tensor.1.clone(), f32_bytes(&values(tensor))))
    };
    tensors.iter().map(widen).collect()
}

#[test]
fn shards_give_the_same_file_as_one() {
    let folder = Folder::micro();
    let whole = std::fs::read(converted(&folder, Format::Q8_0).gguf.path()).unwrap();
    let mut shards: [Tensors; 3] = Default::default();
    let mut map = BTreeMap::new();
    for (i, (name, tensor)) in folder.tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("model-{:05}-of-00003.safetensors", i % 3 + 1));
        shards[i % 3].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        write_tensors(&folder.file(&format!("model-{:05}-of-00003.safetensors", i + 1)), shard);
    }
    std::fs::remove_file(folder.file("model.safetensors")).unwrap();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.file("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(std::fs::read(converted(&folder, Format::Q8_0).gguf.path()).unwrap() == whole);
}

#[test]
fn element_types_of_the_source_do_not_matter() {
    let folder = Folder::micro();
    let from_bf16 = converted(&folder, Format::Q4_0).content_digest().unwrap().to_owned();
    folder.change(|tensors| *tensors = widened(tensors));
    assert_eq!(converted(&folder, Format::Q4_0).content_digest().unwrap(), from_bf16);
    let in_f32 = gguf_values(&converted(&folder, Format::F32), "blk.1.ffn_up.weight");
    folder.change(|tensors| {
        for (dtype, _, bytes) in tensors.values_mut() {
            let halves: Vec<half::f16> =
                bytes.chunks_exact(4).map(|b| half::f16::from_f32(f32::from_le_bytes(b.try_into().unwrap()))).collect();
            *bytes = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
            *dtype = Dtype::F16;
        }
    });
    let from_f16 = gguf_values(&converted(&folder, Format::F32), "blk.1.ffn_up.weight");
    let rounded: Vec<f32> = in_f32.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
    assert_eq!(from_f16, rounded);
}

/// Transformers' formula: view(heads, 2, head_dim / 2, in).swapaxes(1, 2).
#[test]
fn q_and_k_rows_are_interleaved_and_others_are_not() {
    let folder = Folder::micro();
    let (tensors, file) = (folder.tensors(), converted(&folder, Format::F32));
    for (hf, gguf, heads) in [("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)] {
        let source = values(&tensors[&format!("model.layers.2.self_attn.{hf}.weight")]);
        let (half, cols) = (8, 64);
        let mut expected = Vec::new();
        for head in 0..heads {
            for i in 0..half {
                for s in 0..2 {
                    expected.extend_from_slice(&source[((head * 2 + s) * half + i) * cols..][..cols]);
                }
            }
        }
        assert_eq!(gguf_values(&file, &format!("blk.2.{gguf}.weight")), expected, "{gguf}");
    }
    let v = values(&tensors["model.layers.2.self_attn.v_proj.weight"]);
    assert_eq!(gguf_values(&file, "blk.2.attn_v.weight"), v);
}

#[test]
fn heads_are_tied_by_identity() {
    let folder = Folder::micro();
    assert!(converted(&folder, Format::F32).gguf.opt_tensor("output.weight").is_none());
    folder
        .change(|tensors| drop(tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone())));
    let summary = to(Format::F32, folder.path(), &folder.file("out.gguf")).unwrap();
    assert!(summary.notes[0].contains("lm_head.weight"), "{:?}", summary.notes);
    assert!(GgufFile::open(&folder.file("out.gguf")).unwrap().gguf.opt_tensor("output.weight").is_none());

    folder.configure("tie_word_embeddings", json!(false));
    let untied = converted(&folder, Format::Q8_0);
    assert_eq!(untied.gguf.tensor("output.weight").unwrap().shape, [64, 4096]);

    folder.configure("tie_word_embeddings", json!(true));
    folder.change(|tensors| tensors.get_mut("lm_head.weight").unwrap().2[0] ^= 1);
    let message = to(Format::F32, folder.path(), &folder.file("out.gguf")).unwrap_err().to_string();
    assert!(message.contains("lm_head.weight") && message.contains("tie_word_embeddings"), "{message}");
}

#[test]
fn biases_are_vectors_in_the_order_of_their_rows() {
    let folder = Folder::micro();
    folder.configure("attention_bias", json!(true));
    folder.change(|tensors| {
        for layer in 0..4 {
            for (module, rows) in [("q_proj", 64), ("k_proj", 32), ("v_proj", 32), ("o_proj", 64)] {
                let bias: Vec<f32> = (0..rows).map(|i| i as f32).collect();
                let name = format!("model.layers.{layer}.self_attn.{module}.bias");
                tensors.insert(name, (Dtype::F32, vec![rows], f32_bytes(&bias)));
            }
        }
    });
    let file = converted(&folder, Format::Q4_0);
    assert_eq!(file.gguf.tensor("blk.3.attn_q.bias").unwrap().ty, GgmlType::F32);
    assert_eq!(gguf_values(&file, "blk.3.attn_q.bias")[..6], [0.0, 8.0, 1.0, 9.0, 2.0, 10.0]);
    assert_eq!(gguf_values(&file, "blk.3.attn_k.bias")[16..20], [16.0, 24.0, 17.0, 25.0]);
    assert_eq!(gguf_values(&file, "blk.3.attn_v.bias")[..4], [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn llama3_rope_becomes_factors_and_linear_becomes_keys() {
    let folder = Folder::micro();
    folder.configure("rope_theta", json!(500000.0));
    let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    folder.configure("rope_scaling", llama3);
    let file = converted(&folder, Format::F32);
    let factors = gguf_values(&file, "rope_freqs.weight");
    // Wavelengths of the pairs of a 16-wide head: 6.3, 32, 167, 862, 4443, 22911, ...; kept below 2048, divided above
    // 8192.
    assert_eq!((factors.len(), &factors[..4], &factors[5..]), (8, &[1.0; 4][..], &[32.0; 3][..]));
    // The one in between: t = (8192 / 4442.88 - 1) / 3, 1 / ((1 - t) / 32 + t).
    assert!((factors[4] - 3.29226).abs() < 1e-4, "{factors:?}");
    assert_eq!(file.gguf.f32("llama.rope.freq_base").unwrap(), 500_000.0);

    folder.configure("rope_scaling", json!({"type": "linear", "factor": 2.0}));
    let file = converted(&folder, Format::F32);
    assert_eq!(file.gguf.str("llama.rope.scaling.type").unwrap(), "linear");
    assert_eq!(file.gguf.f32("llama.rope.scaling.factor").unwrap(), 2.0);
    assert!(file.gguf.opt_tensor("rope_freqs.weight").is_none());
}

#[test]
fn rows_that_do_not_fit_fall_back_and_are_reported() {
    let folder = Folder::random(64, 172, 1);
    let out = folder.file("out.gguf");
    let summary = to(Format::Q4_K, folder.path(), &out).unwrap();
    let file = GgufFile::open(&out).unwrap();
    let ty = |name: &str| file.gguf.tensor(name).unwrap().ty;
    assert_eq!((ty("blk.0.attn_q.weight"), ty("blk.0.ffn_down.weight")), (GgmlType::Q5_0, GgmlType::F16));
    assert_eq!(summary.fallbacks.len(), 8);
    assert!(summary.fallbacks.contains(&("blk.0.ffn_down.weight".into(), GgmlType::F16)));
    assert_eq!(summary.types, [(GgmlType::F32, 3), (GgmlType::Q5_0, 7), (GgmlType::F16, 1)]);
    assert_eq!(summary.bytes, std::fs::metadata(&out).unwrap().len());
    let plan = loam_convert::plan(folder.path(), &out, &loam_convert::Options::new(Format::Q4_K)).unwrap();
    assert_eq!(plan.summary(), summary);
}

#[test]
fn progress_ends_at_the_total() {
    let folder = Folder::random(512, 1536, 1);
    let mut seen = Vec::new();
    let mut note = |p: Progress<'_>| seen.push((p.index, p.tensors, p.bytes, p.total_bytes));
    convert(folder.path(), &folder.file("out.gguf"), &Options::new(Format::F32), &mut note).unwrap();
    assert!(seen.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].2 <= w[1].2), "{seen:?}");
    assert!(seen.len() > 12, "the embedding is two bands: {seen:?}");
    let (index, tensors, bytes, total) = seen[seen.len() - 1];
    assert_eq!((index, bytes), (tensors, total));
    let file = GgufFile::open(&folder.file("out.gguf")).unwrap();
    assert_eq!(total, file.gguf.tensors().iter().map(|t| t.bytes).sum::<u64>());
}
