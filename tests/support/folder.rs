//! Small models that tests make and change: folders as they come from a hub, with random weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};

use crate::{Random, asset};

/// Tensors of a safetensors file: type, shape, little-endian bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Reads a safetensors file.
pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("sound");
    let file = SafeTensors::deserialize(&bytes).expect("sound");
    let entry = |(name, view): (&str, TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.iter().map(entry).collect()
}

/// Writes a safetensors file.
pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let mut views = Vec::new();
    for (name, (dtype, shape, bytes)) in tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes).expect("sound")));
    }
    std::fs::write(path, serialize(views, None).expect("sound")).expect("sound");
}

/// Values as little-endian F32 bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A tensor's values.
pub fn values((dtype, _, bytes): &(Dtype, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("sound"))).collect(),
        Dtype::BF16 => {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(b.try_into().expect("sound")).to_f32()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Names and shapes of tensors.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// Random F32 tensors from -1 to 1 of these shapes.
pub fn random_tensors(shapes: Shapes, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let bytes = f32_bytes(&random.values(shape.iter().product()));
        (name, (Dtype::F32, shape, bytes))
    };
    shapes.into_iter().map(tensor).collect()
}

/// A Llama with four heads, two of keys and values, and a tied head.
#[derive(Debug, Clone, Copy)]
pub struct Llama {
    /// Tokens.
    pub vocabulary: usize,
    /// Values per token.
    pub hidden: usize,
    /// Values inside of the feed-forward layers.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Values per head.
    pub head_dim: usize,
}

impl Llama {
    /// Names and shapes of its weights.
    pub fn shapes(self) -> Shapes {
        let Llama { vocabulary, hidden, intermediate, layers, head_dim } = self;
        let (queries, keys) = (4 * head_dim, 2 * head_dim);
        let mut shapes = vec![
            ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        for layer in 0..layers {
            let named = |name: &str, shape: &[usize]| (format!("model.layers.{layer}.{name}.weight"), shape.to_vec());
            shapes.extend([
                named("input_layernorm", &[hidden]),
                named("post_attention_layernorm", &[hidden]),
                named("self_attn.q_proj", &[queries, hidden]),
                named("self_attn.k_proj", &[keys, hidden]),
                named("self_attn.v_proj", &[keys, hidden]),
                named("self_attn.o_proj", &[hidden, queries]),
                named("mlp.gate_proj", &[intermediate, hidden]),
                named("mlp.up_proj", &[intermediate, hidden]),
                named("mlp.down_proj", &[hidden, intermediate]),
            ]);
        }
        shapes
    }
}

/// A folder to change, removed at the end.
#[derive(Debug)]
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Folder {
    /// Empty.
    pub fn new() -> Folder {
        Folder { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A copy of the committed test model.
    pub fn micro() -> Folder {
        let folder = Folder::new();
        for entry in std::fs::read_dir(asset("loam-micro")).expect("readable") {
            let entry = entry.expect("readable");
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
        }
        folder
    }

    /// The committed tokenizer with random F32 weights of these sizes.
    pub fn random(hidden: usize, intermediate: usize, layers: usize) -> Folder {
        let (folder, shapes) = Folder::sized(hidden, intermediate, layers);
        folder.write(&random_tensors(shapes, 1));
        folder
    }

    /// A folder without weights, and names and shapes of the weights that it needs.
    pub fn sized(hidden: usize, intermediate: usize, layers: usize) -> (Folder, Shapes) {
        let folder = Folder::micro();
        let head_dim = hidden / 4;
        folder.edit("config.json", |config| {
            let sizes = json!({"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers, "head_dim": head_dim});
            config.as_object_mut().expect("an object").extend(sizes.as_object().expect("an object").clone());
        });
        (folder, Llama { vocabulary: 4096, hidden, intermediate, layers, head_dim }.shapes())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), bytes).expect("written");
    }

    /// Reads a file.
    pub fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).expect("readable")
    }

    /// The weights.
    pub fn tensors(&self) -> Tensors {
        read_tensors(&self.file("model.safetensors"))
    }

    /// Replaces the weights.
    pub fn write(&self, tensors: &Tensors) {
        write_tensors(&self.file("model.safetensors"), tensors);
    }

    /// Changes the weights.
    pub fn change(&self, edit: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors();
        edit(&mut tensors);
        self.write(&tensors);
    }

    /// Changes a JSON file.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.get(name)).expect("JSON");
        edit(&mut value);
        self.put(name, value.to_string());
    }

    /// Sets a field of config.json.
    pub fn configure(&self, key: &str, value: Value) {
        self.edit("config.json", |config| config[key] = value);
    }
}
