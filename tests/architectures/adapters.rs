//! Adapters beyond the linear layers of blocks against PEFT: `make_adapters.py` wrote the expected values.

use std::path::Path;

use loam::AdapterFile;
use loam_tests::back_ends;
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

/// Logits, losses and gradients of an adapter on the embedding and the head are PEFT's, and it goes back as it came.
fn check_embeddings(name: &'static str) {
    let mut family = Family::open(name);
    let saved = Saved::read(name, "embeddings");
    family.adapter = import(&family, &saved.config, saved.with_copies(&family)).expect("import");
    family.gradients = import(&family, &saved.config, super::gradients(&saved.golden)).expect("import");
    family.golden.clone_from(&saved.golden);
    back_ends().into_iter().for_each(|(device, backend)| family.logits(device, backend, true));
    back_ends().into_iter().zip(back_ends()).for_each(|((device, one), (_, two))| family.gradients(device, [one, two]));
    let (config, exported) = export(&family);
    assert!(exported == saved.halves, "{name}: {:?}", exported.iter().map(|(name, ..)| name).collect::<Vec<_>>());
    assert_eq!(config["target_modules"], saved.config["target_modules"]);
    let tied = family.base.gguf().opt_tensor("output.weight").is_none();
    let notes = family.adapter.notes(family.base.gguf());
    assert_eq!(notes.iter().filter(|note| note.contains("llama.cpp")).count(), if tied { 2 } else { 0 }, "{notes:?}");
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
