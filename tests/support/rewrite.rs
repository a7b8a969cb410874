//! Copies of a GGUF file with something changed.

use std::path::{Path, PathBuf};

use loam::file::write_atomic;
use loam::gguf::{GgufFile, Metadata, TensorDeclaration, Writer};

/// A tensor on its way to the copy.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name, shape and type.
    pub declaration: TensorDeclaration,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Writes `source` to `name` in `folder` after `change` has seen its metadata and tensors.
///
/// # Panics
/// If the source cannot be read or the copy cannot be written.
pub fn rewrite(
    source: &Path,
    folder: &Path,
    name: &str,
    change: impl FnOnce(&mut Metadata, &mut Vec<Tensor>),
) -> PathBuf {
    let file = GgufFile::open(source).expect("source");
    let mut metadata = file.gguf.metadata().clone();
    let tensor = |info: &loam::gguf::TensorInfo| Tensor {
        declaration: TensorDeclaration { name: info.name.clone(), shape: info.shape.clone(), ty: info.ty },
        bytes: file.bytes(info).expect("source").bytes().to_vec(),
    };
    let mut tensors: Vec<Tensor> = file.gguf.tensors().iter().map(tensor).collect();
    change(&mut metadata, &mut tensors);
    let path = folder.join(name);
    let declarations: Vec<_> = tensors.iter().map(|t| t.declaration.clone()).collect();
    write_atomic(&path, |out| {
        let mut writer = Writer::new(out, &path, &metadata, &declarations)?;
        for tensor in &tensors {
            writer.write(&tensor.declaration.name, &tensor.bytes)?;
        }
        writer.finish().map(|_| ())
    })
    .expect("copy");
    path
}
