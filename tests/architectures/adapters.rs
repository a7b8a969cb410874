//! Adapters beyond the linear layers of blocks against PEFT: `make_adapters.py` wrote the expected values.

use std::path::Path;

use loam::AdapterFile;
use loam::adapter::{Attach, lora};
use loam_tests::{back_ends, new_session};
use safetensors::SafeTensors;
use serde_json::Value;

use super::Family;
use super::checkpoint::{Named, fill, write_adapter};

/// What PEFT saves and computes.
struct Saved {
    golden: Vec<u8>,
    /// adapter_config.json.
    config: Value,
    /// A and B of every module.
    halves: Vec<Named>,
}

impl Saved {
    fn read(family: &str, adapter: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("architectures").join(family);
        let golden = std::fs::read(path.join(adapter).with_extension("safetensors")).expect("golden values");
        let (_, header) = SafeTensors::read_metadata(&golden).expect("safetensors");
        let config = &header.metadata().as_ref().expect("metadata")["adapter_config"];
        let config = serde_json::from_str(config).expect("adapter_config.json");
        let filled = |(name, shape, _): Named| (name.clone(), shape.clone(), fill(&name, &shape, 1.0));
        let halves = super::gradients(&golden).into_iter().map(filled).collect();
        Self { golden, config, halves }
    }

    /// With the weights of the base that PEFT saves beside adapters on the embedding and the head.
    fn with_copies(&self, family: &Family) -> Vec<Named> {
        let config = family.base.config();
        let shape = vec![config.vocabulary, config.embedding];
        let tied = family.base.gguf().opt_tensor("output.weight").is_none();
        let head = if tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let copy = |module: &str, weight: &str| {
            (format!("{module}.base_layer.weight"), shape.clone(), fill(weight, &shape, 1.0))
        };
        let copies = [copy("model.embed_tokens", "model.embed_tokens.weight"), copy("lm_head", head)];
        self.halves.iter().cloned().chain(copies).collect()
    }
}

fn import(family: &Family, config: &Value, values: Vec<Named>) -> loam_convert::Result<AdapterFile> {
    let folder = tempfile::tempdir().expect("temporary folder");
    write_adapter(folder.path(), config, values);
    let out = folder.path().join("adapter.gguf");
    let adapter = loam_convert::from_peft(folder.path(), family.base.file(), &out)?;
    assert_eq!(AdapterFile::read(&out).expect("adapter"), adapter);
    Ok(adapter)
}

/// The tensors of the folder that loam exports.
fn export(family: &Family) -> (Value, Vec<Named>) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (gguf, out) = (folder.path().join("adapter.gguf"), folder.path().join("peft"));
    family.adapter.write(&gguf).expect("write");
    loam_convert::to_peft(&gguf, family.base.file(), &out).expect("to_peft");
    let config = std::fs::read(out.join("adapter_config.json")).expect("config");
    let bytes = std::fs::read(out.join("adapter_model.safetensors")).expect("weights");
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut names: Vec<&str> = all.names().into_iter().collect();
    names.sort_unstable();
    let plain = |name: &str| name.strip_prefix("base_model.model.").expect("prefix").to_owned();
    let named = names.into_iter().map(|name| {
        let (_, shape, values) = super::values(&bytes, name);
        (plain(name), shape, values)
    });
    (serde_json::from_slice(&config).expect("config"), named.collect())
}

/// The family `name` with the adapter `saved`, whose logits, loss and gradients must be PEFT's.
fn check_against_peft(name: &'static str, saved: &Saved, values: Vec<Named>, mut family: Family) -> Family {
    family.adapter = import(&family, &saved.config, values).unwrap_or_else(|error| panic!("{name}: {error}"));
    family.gradients = import(&family, &saved.config, super::gradients(&saved.golden)).expect("import");
    family.golden.clone_from(&saved.golden);
    back_ends().into_iter().for_each(|(device, backend)| family.logits(device, backend, true));
    let twice = back_ends().into_iter().zip(back_ends());
    twice.for_each(|((device, one), (_, two))| family.gradients(device, [one, two]));
    family
}

/// An adapter on the embedding and the head computes as in PEFT and goes back as it came.
fn check_embeddings(name: &'static str) {
    let (family, saved) = (Family::open(name), Saved::read(name, "embeddings"));
    let values = saved.with_copies(&family);
    let family = check_against_peft(name, &saved, values, family);
    let (config, exported) = export(&family);
    assert!(exported == saved.halves, "{name}: {:?}", exported.iter().map(|(name, ..)| name).collect::<Vec<_>>());
    assert_eq!(config["target_modules"], saved.config["target_modules"]);
    let tied = family.base.gguf().opt_tensor("output.weight").is_none();
    let notes = family.adapter.notes(family.base.gguf());
    assert_eq!(notes.iter().filter(|note| note.contains("llama.cpp")).count(), if tied { 2 } else { 0 }, "{notes:?}");
}

/// PEFT's gradients of gate and up projections, of which it has one A, and a B that is scaled twice as much.
fn fold_experts(found: &mut AdapterFile) {
    for layer in 0..2 {
        let kinds = ["ffn_gate_exps", "ffn_up_exps"];
        let at = |found: &AdapterFile, kind: &str, part: &str| {
            let name = format!("blk.{layer}.{kind}.weight.{part}");
            found.parameters.iter().position(|parameter| parameter.name() == name).expect("experts")
        };
        let [gate, up] = kinds.map(|kind| at(found, kind, lora::A));
        let both = found.parameters[gate].values.iter().zip(&found.parameters[up].values);
        let sum: Vec<f32> = both.map(|(a, b)| a + b).collect();
        for kind in kinds {
            let (a, b) = (at(found, kind, lora::A), at(found, kind, lora::B));
            found.parameters[a].values.clone_from(&sum);
            // Once for the scale, and once because the expected gradient was taken in as a B.
            found.parameters[b].values.iter_mut().for_each(|b| *b *= 4.0);
        }
    }
}

/// What PEFT's `all-linear` is in Transformers 5: router and experts are parameters.
#[test]
fn router_and_experts_as_parameters() {
    let mut family = Family::open("qwen3moe");
    family.fold = fold_experts;
    let saved = Saved::read("qwen3moe", "all-linear");
    let mut family = check_against_peft("qwen3moe", &saved, saved.halves.clone(), family);
    assert_eq!(family.adapter.sites().len(), 2 * (4 + 1 + 3));
    let (config, exported) = export(&family);
    let names =
        |values: &[Named]| values.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect::<Vec<_>>();
    assert_eq!(names(&exported), names(&saved.halves));
    let parameters = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.gate.weight"];
    assert_eq!(config["target_parameters"], serde_json::json!(parameters));
    assert_eq!(config["rank_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 8);
    let again = import(&family, &config, exported).expect("import");
    assert!(again.parameters == family.adapter.parameters);
    // Other updates of gate and up projection than PEFT makes: an A each.
    let up = family.adapter.parameters.iter_mut().find(|p| p.name() == "blk.1.ffn_up_exps.weight.lora_a");
    up.expect("experts").values.iter_mut().for_each(|a| *a = -*a);
    let expected = adapted_logits(&family);
    let (config, exported) = export(&family);
    assert_eq!(config["rank_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 16);
    family.adapter = import(&family, &config, exported).expect("import");
    let error = loam_tests::relative(&adapted_logits(&family), &expected);
    assert!(error < 1e-5, "logits change by {error:.2e}");
}

fn adapted_logits(family: &Family) -> Vec<f32> {
    let attach = [Attach { adapter: &family.adapter, path: Path::new("adapter.gguf"), scale: 1.0 }];
    let (mut engine, mut session) = new_session(&family.base, back_ends().remove(0).1, 16, &attach).expect("session");
    pollster::block_on(session.feed_all(&mut engine, &[3, 1, 4, 1, 5, 9, 2, 6])).expect("logits")
}

/// The same adapter as Transformers 4 had it: a module per expert and projection.
#[test]
fn experts_as_modules_are_those_of_a_parameter() {
    let family = Family::open("qwen3moe");
    let config = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": "all-linear"});
    let (count, hidden, inner, rank) = (8, 64, 32, 2);
    let mut values = Vec::new();
    for expert in 0..count {
        for (module, rows, cols) in
            [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
        {
            for (half, shape) in [("A", vec![rank, cols]), ("B", vec![rows, rank])] {
                let name = format!("model.layers.1.mlp.experts.{expert}.{module}.lora_{half}.weight");
                values.push((name.clone(), shape.clone(), fill(&name, &shape, 1.0)));
            }
        }
    }
    let adapter = import(&family, &config, values.clone()).expect("import");
    let pairs = lora::pairs(&adapter);
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["blk.1.ffn_down_exps.weight", "blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"]);
    for (kind, (name, pair)) in ["down_proj", "gate_proj", "up_proj"].iter().zip(&pairs) {
        let all = |half: &str| -> Vec<f32> {
            let end = format!("{kind}.lora_{half}.weight");
            values.iter().filter(|(name, ..)| name.ends_with(&end)).flat_map(|(_, _, v)| v.clone()).collect()
        };
        assert!(pair.matrices == count && pair.a == all("A") && pair.b == all("B"), "{name}");
    }
    let refused = |edit: &dyn Fn(&mut Vec<Named>)| {
        let mut values = values.clone();
        edit(&mut values);
        import(&family, &config, values).expect_err("refused").to_string()
    };
    let missing = refused(&|values| drop(values.drain(..6)));
    assert!(missing.contains("7 of 8 experts"), "{missing}");
    let ninth = refused(&|values| values[0].0 = values[0].0.replace("experts.0", "experts.8"));
    assert!(ninth.contains("lora_A and lora_B"), "{ninth}");
}

#[test]
fn embedding_and_head() {
    check_embeddings("llama");
}

#[test]
fn embedding_and_head_of_a_tied_model_have_updates_of_their_own() {
    check_embeddings("qwen2");
}

#[test]
fn scaled_embedding_and_capped_logits() {
    check_embeddings("gemma2");
}

#[test]
fn factors_on_embeddings_and_logits() {
    check_embeddings("granite");
}

/// The copy of the base's weight in a PEFT folder tells another base, or a resized one.
#[test]
fn an_adapter_of_another_embedding_is_refused() {
    let family = Family::open("llama");
    let saved = Saved::read("llama", "embeddings");
    let refused = |edit: &dyn Fn(&mut Vec<Named>)| {
        let mut values = saved.with_copies(&family);
        edit(&mut values);
        import(&family, &saved.config, values).expect_err("refused").to_string()
    };
    let copy = |values: &mut Vec<Named>| {
        values.iter().position(|(name, ..)| name.starts_with("model.embed_tokens.base")).expect("copy")
    };
    let other = refused(&|values| {
        let at = copy(values);
        values[at].2.reverse();
    });
    assert!(other.contains("embed_tokens") && other.contains("differs"), "{other}");
    let resized = refused(&|values| {
        let at = copy(values);
        values[at].1[0] += 1;
        values[at].2.extend([0.0; 64]);
    });
    assert!(resized.contains("embed_tokens") && resized.contains("resized"), "{resized}");
    let broken = refused(&|values| {
        let at = copy(values);
        values[at].2[7] = f32::NAN;
    });
    assert!(broken.contains("embed_tokens"), "{broken}");
}
