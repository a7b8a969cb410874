//! GGUF files as the source: the tensors of a conversion from safetensors, everything else as it was.

use std::path::{Path, PathBuf};

use loam::gguf::{GgmlType, GgufFile, Metadata, TensorDeclaration, Value, Writer};
use loam_convert::{Error, Options, Summary, convert};
use loam_shaders::Format;
use tempfile::TempDir;

use super::folder::{gguf_values, micro, to};

/// Keys that name types: what llama-quantize replaces, after all others.
const TYPE_KEYS: [&str; 2] = ["general.quantization_version", "general.file_type"];

/// The test model as GGUF in `format`, in a folder of its own.
fn source(format: Format) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.gguf");
    to(format, &micro(), &path).unwrap();
    (dir, path)
}

fn requantise(source: &Path, format: Format) -> (GgufFile, Summary) {
    let out = source.with_file_name(format!("{}.gguf", format.name()));
    let summary = to(format, source, &out).unwrap();
    (GgufFile::open(&out).unwrap(), summary)
}

#[test]
fn float_sources_give_the_tensors_of_safetensors() {
    for from in [Format::F32, Format::BF16] {
        let (_dir, path) = source(from);
        for format in [Format::F32, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_K, Format::Q6_K] {
            let (_expected_dir, expected) = source(format);
            let expected = GgufFile::open(&expected).unwrap();
            let (found, summary) = requantise(&path, format);
            assert_eq!(
                found.content_digest().unwrap(),
                expected.content_digest().unwrap(),
                "{} to {}",
                from.name(),
                format.name()
            );
            assert_eq!((found.gguf.metadata(), summary.notes.len()), (expected.gguf.metadata(), 0));
            let names = |file: &GgufFile| file.gguf.tensors().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected));
        }
    }
}

#[test]
fn quantised_sources_are_decoded_and_that_is_said() {
    let (_dir, path) = source(Format::Q8_0);
    let before = GgufFile::open(&path).unwrap();
    let (found, summary) = requantise(&path, Format::Q4_0);
    assert!(summary.notes.iter().any(|n| n.contains("q8_0") && n.contains("a second time")), "{:?}", summary.notes);
    let name = "blk.2.ffn_down.weight";
    let values = gguf_values(&before, name);
    let mut expected = vec![0; Format::Q4_0.row_bytes(values.len()).unwrap()];
    Format::Q4_0.encode_row(&values, &mut expected);
    assert_eq!(found.bytes(found.gguf.tensor(name).unwrap()).unwrap().bytes(), expected);
    // To the type that it has: nothing changes, nothing is lost, nothing need be said.
    let (same, summary) = requantise(&path, Format::Q8_0);
    assert_eq!((same.content_digest().unwrap(), summary.notes.len()), (before.content_digest().unwrap(), 0));
}

#[test]
fn split_sources_give_the_same_file() {
    let (_dir, path) = source(Format::F32);
    let split = Options { split_bytes: Some(400_000), ..Options::new(Format::F32) };
    let first = convert(&micro(), &path.with_file_name("split.gguf"), &split, &mut |_| ()).unwrap().files.remove(0);
    let (whole, _) = requantise(&path, Format::Q4_0);
    let whole = std::fs::read(whole.gguf.path()).unwrap();
    let (joined, _) = requantise(&first, Format::Q4_0);
    assert!(std::fs::read(joined.gguf.path()).unwrap() == whole);
    // A folder may hold several sets: nothing of the source is overwritten.
    assert!(matches!(to(Format::Q4_0, &first, &loam::gguf::shard_paths(&first)[1]), Err(Error::Argument(_))));
}

/// Writes a file of no known architecture: a weight, a vector in F16, integers, all with alignment 64.
fn strange(path: &Path, weight: GgmlType, more: &[(&str, &str)]) {
    strange_with(path, ("blk.1.up.weight", weight), more);
}

/// [`strange`], its weight having this name.
fn strange_with(path: &Path, (name, weight): (&str, GgmlType), more: &[(&str, &str)]) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "mystery");
    metadata.set("general.file_type", 1u32);
    metadata.set("general.alignment", 64u32);
    metadata.set("mystery.depth", 7u64);
    more.iter().for_each(|(key, value)| metadata.set(*key, *value));
    let declare = |name: &str, shape: &[u64], ty| TensorDeclaration { name: name.into(), shape: shape.into(), ty };
    let declarations = [
        declare(name, &[256, 3], weight),
        declare("blk.0.scale", &[5], GgmlType::F16),
        declare("ids", &[2, 2], GgmlType::I32),
    ];
    let mut writer = Writer::new(Vec::new(), path, &metadata, &declarations).unwrap();
    for tensor in writer.tensors().to_vec() {
        let bytes: Vec<u8> = (0..tensor.bytes).map(|i| if i % 2 == 0 { 0 } else { 0x3c }).collect();
        writer.write(&tensor.name, &bytes).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

#[test]
fn unknown_architectures_change_their_types_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strange.gguf");
    strange(&path, GgmlType::F16, &[]);
    let before = GgufFile::open(&path).unwrap();
    let (found, _) = requantise(&path, Format::Q5_K);
    let list: Vec<_> = found.gguf.tensors().iter().map(|t| (t.name.as_str(), t.ty)).collect();
    assert_eq!(list, [("ids", GgmlType::I32), ("blk.0.scale", GgmlType::F16), ("blk.1.up.weight", GgmlType::Q5_K)]);
    for name in ["ids", "blk.0.scale"] {
        let bytes = |file: &GgufFile| file.bytes(file.gguf.tensor(name).unwrap()).unwrap().bytes().to_vec();
        assert_eq!(bytes(&found), bytes(&before), "{name}");
    }
    assert_eq!(found.gguf.alignment(), 64);
    let keys: Vec<&str> = found.gguf.metadata().iter().map(|(key, _)| key).collect();
    let expected = ["general.architecture", "general.alignment", "mystery.depth", TYPE_KEYS[0], TYPE_KEYS[1]];
    assert_eq!(keys, expected);
    assert_eq!(found.gguf.metadata().get("general.file_type"), Some(&Value::U32(16)));
}

#[test]
fn what_is_no_model_or_cannot_be_decoded_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.gguf");
    let message = |out: &str| to(Format::Q4_0, &path, &dir.path().join(out)).unwrap_err().to_string();
    strange(&path, GgmlType::IQ2_XS, &[]);
    assert!(message("out.gguf").contains("blk.1.up.weight") && message("out.gguf").contains("iq2_xs"));
    // It would be copied as it is, but the copy could not be checked.
    strange_with(&path, ("blk.1.ffn_gate_inp.weight", GgmlType::NVFP4), &[]);
    assert!(message("out.gguf").contains("ffn_gate_inp") && message("out.gguf").contains("independent reader"));
    strange(&path, GgmlType::F16, &[("general.type", "adapter")]);
    assert!(message("out.gguf").contains("is an adapter"));
    strange(&path, GgmlType::F16, &[("general.type", "imatrix")]);
    assert!(message("out.gguf").contains("importance matrix"));
    strange(&path, GgmlType::F32, &[]);
    assert!(message("source.gguf").contains("file of the source"));
    let pre = Options { pre: Some("qwen2".into()), ..Options::new(Format::Q4_0) };
    assert!(matches!(convert(&path, &dir.path().join("out.gguf"), &pre, &mut |_| ()), Err(Error::Option(_))));
    let mut bytes = std::fs::read(&path).unwrap();
    // A weight that is not finite, in the last tensor of the source's order.
    let at = GgufFile::open(&path).unwrap().gguf.tensor("blk.1.up.weight").unwrap().offset as usize;
    bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert!(message("out.gguf").contains("element 0 is inf"));
    std::fs::write(&path, &bytes[..bytes.len() - 64]).unwrap();
    assert!(message("out.gguf").contains("source.gguf"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_pre_tokenizer_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (dir.path().join("base.gguf"), dir.path().join("out.gguf"));
    to(Format::F16, &micro(), &base).unwrap();
    let named = |pre: &str| {
        let options = Options { pre: Some(pre.into()), ..Options::new(Format::Q8_0) };
        convert(&base, &out, &options, &mut |_| ())
    };
    named("qwen2").unwrap();
    assert_eq!(GgufFile::open(&out).unwrap().gguf.str("tokenizer.ggml.pre").unwrap(), "qwen2");
    assert!(matches!(named("nonsense"), Err(Error::Option(_))));
}
