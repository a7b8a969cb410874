//! Every family: names, shapes, values and keys of the converted file against what Transformers and the gguf package
//! say (`tests/architectures`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use loam::gguf::{GgmlType, GgufFile, Value as Stored};
use loam_shaders::Format;
use loam_tests::Random;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::folder::{gguf_values, to};
use loam_tests::folder::{Folder, Tensors, f32_bytes, values};

/// Rows of the embedding, as many as the committed tokenizer has tokens.
const VOCABULARY: usize = 4096;

fn architectures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("architectures")
}

/// A tensor: name in the checkpoint, its shape, GGUF name.
pub struct Named {
    pub hf: String,
    pub shape: Vec<usize>,
    pub gguf: String,
}

/// A family's model with random weights.
pub struct Model {
    pub name: String,
    pub folder: Folder,
    pub names: Vec<Named>,
    config: Value,
}

impl Model {
    /// All of them.
    pub fn all() -> Vec<Model> {
        let json: Value = serde_json::from_slice(&std::fs::read(architectures().join("names.json")).unwrap()).unwrap();
        json.as_object().unwrap().iter().map(|(name, list)| Model::new(name, list)).collect()
    }

    /// One of them.
    pub fn named(name: &str) -> Model {
        Model::all().into_iter().find(|model| model.name == name).unwrap()
    }

    fn new(name: &str, list: &Value) -> Model {
        let folder = Folder::micro();
        std::fs::copy(architectures().join(name).join("config.json"), folder.file("config.json")).unwrap();
        folder.configure("vocab_size", json!(VOCABULARY));
        let mut random = Random::new(7);
        let (mut names, mut tensors) = (Vec::new(), Tensors::new());
        for entry in list.as_array().unwrap() {
            let text = |i: usize| entry[i].as_str().unwrap().to_owned();
            let mut shape: Vec<usize> =
                entry[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            if ["token_embd.weight", "output.weight"].contains(&text(2).as_str()) {
                shape[0] = VOCABULARY;
            }
            let bytes = f32_bytes(&random.values(shape.iter().product()));
            tensors.insert(text(0), (Dtype::F32, shape.clone(), bytes));
            names.push(Named { hf: text(0), shape, gguf: text(2) });
        }
        folder.write(&tensors);
        let config = serde_json::from_slice(&std::fs::read(folder.file("config.json")).unwrap()).unwrap();
        Model { name: name.to_owned(), folder, names, config }
    }

    /// Converted to f32.
    pub fn base(&self) -> GgufFile {
        let out = self.folder.file("base.gguf");
        to(Format::F32, self.folder.path(), &out).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        GgufFile::open(&out).unwrap()
    }

    fn number(&self, key: &str) -> u64 {
        self.config[key].as_u64().unwrap_or_else(|| panic!("{}: {key}", self.name))
    }

    fn head_dim(&self) -> usize {
        let computed = self.number("hidden_size") / self.number("num_attention_heads");
        self.config["head_dim"].as_u64().unwrap_or(computed) as usize
    }

    /// Do rows of q and k change places?
    fn permutes(&self, hf: &str) -> bool {
        let families = ["llama", "llama3", "mistral", "smollm3", "granite"];
        families.contains(&self.name.as_str()) && (hf.contains("q_proj") || hf.contains("k_proj"))
    }

    /// `rows` of `cols` values in the order of the GGUF file: view(heads, 2, head_dim / 2, cols).swapaxes(1, 2).
    pub fn reorder(&self, hf: &str, rows: &[f32], cols: usize) -> Vec<f32> {
        if !self.permutes(hf) {
            return rows.to_vec();
        }
        let (dim, half) = (self.head_dim(), self.head_dim() / 2);
        let mut out = Vec::new();
        for head in rows.chunks(dim * cols) {
            for i in 0..half {
                for s in 0..2 {
                    out.extend_from_slice(&head[(s * half + i) * cols..][..cols]);
                }
            }
        }
        out
    }

    /// What becomes of the tensors of the checkpoint, by GGUF name; experts follow each other.
    fn expected(&self) -> BTreeMap<String, Vec<f32>> {
        let tensors = self.folder.tensors();
        let plus = if self.name.starts_with("gemma") { 1.0 } else { 0.0 };
        let mut out: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for named in &self.names {
            let cols = if named.shape.len() == 1 { 1 } else { *named.shape.last().unwrap() };
            let mut made = self.reorder(&named.hf, &values(&tensors[&named.hf]), cols);
            if named.gguf.ends_with("_norm.weight") {
                made.iter_mut().for_each(|x| *x += plus);
            }
            out.entry(named.gguf.clone()).or_default().extend(made);
        }
        out
    }
}

#[test]
fn tensors_are_those_of_llama_cpp() {
    for model in Model::all() {
        let (base, expected) = (model.base(), model.expected());
        for (name, values) in &expected {
            assert!(gguf_values(&base, name) == *values, "{}: {name}", model.name);
        }
        let computed: &[&str] = match model.name.as_str() {
            "llama3" => &["rope_freqs.weight"],
            "phi3" | "phi4mini" => &["rope_factors_long.weight", "rope_factors_short.weight"],
            _ => &[],
        };
        let found: BTreeSet<&str> = base.gguf.tensors().iter().map(|t| t.name.as_str()).collect();
        let all: BTreeSet<&str> = expected.keys().map(String::as_str).chain(computed.iter().copied()).collect();
        assert_eq!(found, all, "{}", model.name);
    }
}

#[test]
fn every_family_has_its_keys() {
    for model in Model::all() {
        let base = model.base();
        let architecture = base.gguf.str("general.architecture").unwrap().to_owned();
        let common = [
            ("block_count", "num_hidden_layers"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("vocab_size", "vocab_size"),
        ];
        for (key, field) in common {
            let found = base.gguf.u32_in(&format!("{architecture}.{key}"), 0..=1 << 24).unwrap();
            assert_eq!(u64::from(found), model.number(field), "{}: {key}", model.name);
        }
        let head_dim = base.gguf.u32_in(&format!("{architecture}.attention.key_length"), 1..=512).unwrap();
        assert_eq!(head_dim as usize, model.head_dim(), "{}", model.name);
        for (key, value) in own_keys(&model.name) {
            let key = format!("{architecture}.{key}");
            let found = base.gguf.metadata().get(&key).unwrap_or_else(|| panic!("{}: {key}", model.name));
            assert_eq!(*found, value, "{}: {key}", model.name);
        }
    }
}

/// What convert_hf_to_gguf.py writes for the configurations in `tests/architectures`.
fn own_keys(name: &str) -> Vec<(&'static str, Stored)> {
    let (int, real, text) = (Stored::U32, Stored::F32, |text: &str| Stored::from(text));
    match name {
        "qwen2-yarn" => vec![
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", real(4.0)),
            ("rope.scaling.original_context_length", int(16)),
        ],
        "qwen3moe" => {
            vec![("expert_count", int(8)), ("expert_used_count", int(2)), ("expert_feed_forward_length", int(32))]
        }
        "qwen3moe-softmax" => vec![("expert_used_count", int(3)), ("expert_weights_norm", Stored::Bool(false))],
        "gemma2" => vec![
            ("attention.sliding_window", int(7)),
            ("attention.scale", real(20f64.powf(-0.5) as f32)),
            ("attn_logit_softcapping", real(2.0)),
            ("final_logit_softcapping", real(2.0)),
        ],
        "mistral" => vec![("attention.sliding_window", int(7))],
        "gemma3" => vec![
            ("attention.sliding_window", int(7)),
            ("rope.freq_base", real(1e6)),
            ("rope.freq_base_swa", real(1e4)),
            ("rope.scaling.type", text("linear")),
            ("rope.scaling.factor", real(8.0)),
        ],
        // sqrt(1 + ln(256 / 64) / ln(64))
        "phi3" => vec![
            ("attention.sliding_window", int(9)),
            ("rope.dimension_count", int(16)),
            ("rope.scaling.original_context_length", int(64)),
            ("rope.scaling.attn_factor", real((4.0f64 / 3.0).sqrt() as f32)),
        ],
        // sqrt(1 + ln(256 / 16) / ln(16))
        "phi4mini" => vec![
            ("attention.sliding_window", int(262_144)),
            ("rope.dimension_count", int(12)),
            ("rope.scaling.original_context_length", int(16)),
            ("rope.scaling.attn_factor", real(2.0f64.sqrt() as f32)),
        ],
        "granite" => vec![
            ("attention.scale", real(0.125)),
            ("embedding_scale", real(3.0)),
            ("residual_scale", real(0.4)),
            ("logit_scale", real(2.5)),
        ],
        _ => Vec::new(),
    }
}

/// Transformers 5 keeps the experts of a block in two parameters: [experts, 2 * width, hidden] with the gates first,
/// and [experts, hidden, width].
#[test]
fn fused_experts_give_the_same_file() {
    let model = Model::named("qwen3moe");
    let apart = model.base().content_digest().unwrap().to_owned();
    model.folder.change(|tensors| {
        for layer in 0..2 {
            for (fused, modules) in [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"])] {
                let (mut bytes, mut shape) = (Vec::new(), Vec::new());
                for expert in 0..8 {
                    for module in modules {
                        let name = format!("model.layers.{layer}.mlp.experts.{expert}.{module}.weight");
                        let (_, part, values) = tensors.remove(&name).unwrap();
                        shape = vec![8, part[0] * modules.len(), part[1]];
                        bytes.extend(values);
                    }
                }
                tensors.insert(format!("model.layers.{layer}.mlp.experts.{fused}"), (Dtype::F32, shape, bytes));
            }
        }
    });
    assert_eq!(model.base().content_digest().unwrap(), apart);
    let base = model.base();
    assert_eq!(base.gguf.tensor("blk.1.ffn_up_exps.weight").unwrap().shape, [64, 32, 8]);
    assert_eq!(base.gguf.tensor("blk.1.ffn_gate_inp.weight").unwrap().ty, GgmlType::F32);
}

/// The text part of a model with images, as Transformers 4 and 5 name it.
#[test]
fn models_with_images_give_their_text_part() {
    for (body, head) in [("language_model.model.", "language_model."), ("model.language_model.", "")] {
        let model = Model::named("gemma3");
        let text = model.base().content_digest().unwrap().to_owned();
        model.folder.edit("config.json", |config| {
            let whole = std::mem::replace(config, json!({"architectures": ["Gemma3ForConditionalGeneration"]}));
            config["text_config"] = whole;
        });
        model.folder.change(|tensors| {
            let renamed = |name: &str| match name.strip_prefix("model.") {
                Some(rest) => format!("{body}{rest}"),
                None => format!("{head}{name}"),
            };
            *tensors = tensors.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).collect();
            let norm = tensors[&format!("{body}norm.weight")].clone();
            tensors.insert("vision_tower.vision_model.post_layernorm.weight".into(), norm);
        });
        let summary = to(Format::F32, model.folder.path(), &model.folder.file("out.gguf")).unwrap();
        assert!(summary.notes.iter().any(|note| note.contains("image encoder")), "{:?}", summary.notes);
        assert_eq!(GgufFile::open(&model.folder.file("out.gguf")).unwrap().content_digest().unwrap(), text);
    }
}

#[test]
fn a_tied_model_gets_a_head_where_llama_cpp_needs_one() {
    let model = Model::named("olmo2");
    model.folder.configure("tie_word_embeddings", json!(true));
    model.folder.change(|tensors| drop(tensors.remove("lm_head.weight")));
    let base = model.base();
    assert!(gguf_values(&base, "output.weight") == gguf_values(&base, "token_embd.weight"));
}

#[test]
fn what_llama_cpp_would_compute_otherwise_is_refused_by_name() {
    let cases = [
        ("qwen3moe", "decoder_sparse_step", json!(2)),
        ("qwen3moe", "mlp_only_layers", json!([0])),
        ("qwen3moe", "num_experts_per_tok", json!(9)),
        ("qwen3", "attention_bias", json!(true)),
        ("qwen2", "use_sliding_window", json!(true)),
        ("qwen2", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("gemma2", "attn_logit_softcapping", json!(null)),
        ("gemma2", "tie_word_embeddings", json!(false)),
        ("gemma2", "hidden_activation", json!("gelu")),
        ("gemma2", "layer_types", json!(["full_attention", "full_attention", "sliding_attention"])),
        ("gemma3", "use_bidirectional_attention", json!(true)),
        ("gemma3", "final_logit_softcapping", json!(30.0)),
        ("gemma3", "sliding_window", json!(null)),
        ("olmo2", "head_dim", json!(32)),
        ("phi3", "partial_rotary_factor", json!(0.5)),
        ("smollm3", "no_rope_layers", json!([1, 1, 0, 1])),
        ("smollm3", "rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        ("olmo2", "attention_bias", json!(true)),
        ("granite", "logits_scaling", json!(0)),
    ];
    for (name, key, value) in cases {
        let model = Model::named(name);
        model.folder.configure(key, value);
        if key == "use_sliding_window" {
            model.folder.configure("sliding_window", json!(32));
        }
        let out = model.folder.file("out.gguf");
        let message = to(Format::F32, model.folder.path(), &out).expect_err(key).to_string();
        let named = if key == "partial_rotary_factor" { "short_factor" } else { key };
        assert!(message.contains(named) && message.contains("config.json"), "{name}: {message}");
        assert!(!out.exists());
    }
}

#[test]
fn keys_that_a_stock_llama_cpp_does_not_read_are_told() {
    for (name, key) in [
        ("mistral", Some("llama.attention.sliding_window")),
        ("gemma2", Some("gemma2.attention.scale")),
        ("phi3", Some("phi3.attention.sliding_window")),
        ("llama", None),
        ("gemma3", None),
    ] {
        let model = Model::named(name);
        let summary = to(Format::F32, model.folder.path(), &model.folder.file("out.gguf")).unwrap();
        let told: Vec<_> = summary.notes.iter().filter(|note| note.contains("stock llama.cpp")).collect();
        assert_eq!(told.len(), usize::from(key.is_some()), "{name}: {told:?}");
        assert!(told.iter().all(|note| key.is_some_and(|key| note.starts_with(key))), "{name}: {told:?}");
    }
}

/// What a configuration claims is looked for block by block, before anything is made of it.
#[test]
fn the_first_missing_expert_ends_the_search() {
    let model = Model::named("qwen3moe");
    model.folder.configure("num_experts", json!(512));
    model.folder.configure("num_hidden_layers", json!(512));
    let message = to(Format::F32, model.folder.path(), &model.folder.file("out.gguf")).unwrap_err().to_string();
    assert!(message.contains("model.layers.0.mlp.experts.") && message.contains("is missing"), "{message}");
}
