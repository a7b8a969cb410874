//! Small sound inputs: a model folder made here, a base converted from it, adapters, data.

use std::path::PathBuf;

use loam_convert::{Options, convert};
use loam_shaders::Format;
use loam_tests::folder::{Folder, Llama, random_tensors, write_tensors};
use serde_json::{Value, json};

const WIDTH: usize = 32;
const INNER: usize = 64;

/// A chat template with the usual parts.
pub const TEMPLATE: &str = "{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message.content + '<|im_end|>' + '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A chat template that makes small things larger, one step short of too large.
pub const GROWING: &str = "{% set ns = namespace(x='ab', l=[1], m={}) %}{% for i in range(12) %}{% set ns.x = ns.x ~ ns.x %}\
    {% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.x | replace('a', 'ccc') | indent(99) | length }}{{ ns.l | join('--') | length }}\
    {% set y %}{% for i in range(99) %}{{ 'a' * 99 }}{% endfor %}{% endset %}{{ y.split('a') | batch(9, 'z') | list | tojson | length }}\
    {% macro f(c) %}{{ c }}{{ '%99d' | format(1) }}{% endmacro %}{{ f(messages[0].content) | upper }}";

/// A Llama of one layer with a byte-level tokenizer of 270 tokens.
pub fn model() -> Folder {
    let folder = Folder::new();
    folder.put("config.json", config().to_string());
    folder.put("tokenizer.json", tokenizer().to_string());
    folder.put("tokenizer_config.json", tokenizer_config().to_string());
    let shapes = Llama { vocabulary: 270, hidden: WIDTH, intermediate: INNER, layers: 1, head_dim: WIDTH / 4 }.shapes();
    folder.write(&random_tensors(shapes, 5));
    folder
}

/// The model as an F32 base.
pub fn base() -> Folder {
    let folder = model();
    convert(folder.path(), &folder.file("base.gguf"), &Options::new(Format::F32), &mut |_| ()).expect("converts");
    folder
}

/// config.json.
pub fn config() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "vocab_size": 270, "max_position_embeddings": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu",
        "torch_dtype": "float32", "bos_token_id": 256, "eos_token_id": 257, "attention_bias": false, "mlp_bias": false,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}})
}

/// tokenizer.json.
pub fn tokenizer() -> Value {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255u8).enumerate().map(|(id, byte)| (alphabet(byte).to_string(), json!(id))).collect();
    for (id, token) in ["th", "he", "the", "in", "Ġt", "Ġthe", "er", "an", "ing", "ng"].iter().enumerate() {
        vocab.insert((*token).to_owned(), json!(258 + id));
    }
    let special = |id: u32, text: &str| json!({"id": id, "content": text, "special": true, "normalized": false});
    json!({
        "version": "1.0",
        "added_tokens": [special(256, "<|im_start|>"), special(257, "<|im_end|>"),
            {"id": 268, "content": "<tool>", "special": false, "normalized": false}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "byte_fallback": false, "vocab": vocab,
            "merges": ["t h", "h e", "th e", "i n", "Ġ t", "Ġt he", "e r", "a n", "n g", "in g"]},
    })
}

fn tokenizer_config() -> Value {
    json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE, "add_bos_token": false})
}

/// The character that byte-level vocabularies write for a byte.
fn alphabet(byte: u8) -> char {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !plain(*b)).count() as u32;
    char::from_u32(256 + before).expect("a letter")
}

/// A PEFT folder in `folder`, named `peft`.
pub fn peft(folder: &Folder) -> PathBuf {
    let dir = folder.file("peft");
    std::fs::create_dir_all(&dir).expect("made");
    let config = json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "x", "r": 4, "lora_alpha": 8,
        "lora_dropout": 0.05, "use_rslora": false, "use_dora": false, "bias": "none", "fan_in_fan_out": false,
        "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {}, "target_modules": ["q_proj", "down_proj"]});
    let name = |module: &str, half: &str| format!("base_model.model.model.layers.0.{module}.lora_{half}.weight");
    let shapes = vec![
        (name("self_attn.q_proj", "A"), vec![4, WIDTH]),
        (name("self_attn.q_proj", "B"), vec![WIDTH, 4]),
        (name("mlp.down_proj", "A"), vec![4, INNER]),
        (name("mlp.down_proj", "B"), vec![WIDTH, 4]),
    ];
    folder.put("peft/adapter_config.json", config.to_string());
    write_tensors(&dir.join("adapter_model.safetensors"), &random_tensors(shapes, 5));
    dir
}

/// Lines of every kind.
pub const DATA: &str = r#"{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hello the thing"},{"role":"assistant","content":"Hi"}]}
{"prompt":"one","completion":" two"}
{"text":"some plain text, the end"}
{"prompt":"q","chosen":"yes","rejected":"no"}
"#;
