//! Model folders to convert: the committed ones, copies to change, generated ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use loam::gguf::GgufFile;
use loam_convert::{Options, Recipe, Summary, convert};
use loam_tests::Random;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};

/// The committed test model: hidden 64, 4 layers, tied, bf16.
pub fn micro() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/loam-micro"))
}

/// The embedded default model: hidden 256, 8 layers, tied, bf16.
pub fn tiny() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../targets/cli/assets/loam-tiny"))
}

/// Converts without progress.
pub fn to(recipe: impl Into<Recipe>, dir: &Path, out: &Path) -> loam_convert::Result<Summary> {
    convert(dir, out, &Options::new(recipe), &mut |_| ())
}

/// Tensors of a safetensors file: type, shape, little-endian bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Reads a safetensors file.
pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (&str, TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.iter().map(entry).collect()
}

/// Writes a safetensors file.
pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let mut views = Vec::new();
    for (name, (dtype, shape, bytes)) in tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    }
    std::fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// Values as little-endian F32 bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A tensor's values.
pub fn values((dtype, _, bytes): &(Dtype, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        Dtype::BF16 => {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// A tensor of a GGUF file, dequantised.
pub fn gguf_values(file: &GgufFile, name: &str) -> Vec<f32> {
    let tensor = file.gguf.tensor(name).unwrap();
    let mut out = vec![0.0; tensor.elements() as usize];
    tensor.ty.format().unwrap().decode_row(file.bytes(tensor).unwrap().bytes(), &mut out);
    out
}

/// A folder to change, removed at the end.
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    /// A copy of the committed test model.
    pub fn micro() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(micro()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        Folder { dir }
    }

    /// The committed tokenizer with random F32 weights of these sizes.
    pub fn random(hidden: usize, intermediate: usize, layers: usize) -> Folder {
        let (folder, shapes) = Folder::sized(hidden, intermediate, layers);
        let mut random = Random::new(1);
        let mut values = |shape: &[usize]| f32_bytes(&random.values(shape.iter().product()));
        let tensors = shapes.into_iter().map(|(name, shape)| {
            let bytes = values(&shape);
            (name, (Dtype::F32, shape, bytes))
        });
        folder.write(&tensors.collect());
        folder
    }

    /// A folder without weights, and names and shapes of the weights that it needs.
    pub fn sized(hidden: usize, intermediate: usize, layers: usize) -> (Folder, Vec<(String, Vec<usize>)>) {
        let folder = Folder::micro();
        let head_dim = hidden / 4;
        folder.edit("config.json", |config| {
            let sizes = json!({"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers, "head_dim": head_dim});
            config.as_object_mut().unwrap().extend(sizes.as_object().unwrap().clone());
        });
        let mut shapes = Vec::new();
        let mut put = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
        put("model.embed_tokens.weight".into(), &[4096, hidden]);
        put("model.norm.weight".into(), &[hidden]);
        for layer in 0..layers {
            let mut put = |name: &str, shape: &[usize]| put(format!("model.layers.{layer}.{name}.weight"), shape);
            put("input_layernorm", &[hidden]);
            put("post_attention_layernorm", &[hidden]);
            put("self_attn.q_proj", &[4 * head_dim, hidden]);
            put("self_attn.k_proj", &[2 * head_dim, hidden]);
            put("self_attn.v_proj", &[2 * head_dim, hidden]);
            put("self_attn.o_proj", &[hidden, 4 * head_dim]);
            put("mlp.gate_proj", &[intermediate, hidden]);
            put("mlp.up_proj", &[intermediate, hidden]);
            put("mlp.down_proj", &[hidden, intermediate]);
        }
        (folder, shapes)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
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
        let mut value = serde_json::from_slice(&std::fs::read(self.file(name)).unwrap()).unwrap();
        edit(&mut value);
        std::fs::write(self.file(name), value.to_string()).unwrap();
    }

    /// Sets a field of config.json.
    pub fn configure(&self, key: &str, value: Value) {
        self.edit("config.json", |config| config[key] = value);
    }
}
