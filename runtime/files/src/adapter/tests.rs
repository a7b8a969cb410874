//! Round trip, and every broken adapter that needs no base to be recognised.

use super::*;
use crate::adapter::lora::{self, ALPHA, Pair};

fn sample() -> AdapterFile {
    let pair = |rows: usize, inner: usize, rank: usize| Pair {
        a: (0..rank * inner).map(|i| i as f32 * 0.25 - 1.0).collect(),
        b: (0..rows * rank).map(|i| 2.0 - i as f32 * 0.5).collect(),
        rank,
        matrices: 1,
    };
    let pairs = [("blk.0.attn_q.weight".into(), pair(6, 4, 2)), ("blk.0.attn_v.weight".into(), pair(3, 4, 3))];
    let metadata = vec![("loam.seed".into(), Value::U64(7)), ("loam.base.digest".into(), "abc".into())];
    AdapterFile { metadata, ..lora::adapter("llama", 16.0, pairs) }
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    sample().write(&path).unwrap();
    let read = AdapterFile::read(&path).unwrap();
    assert_eq!(read, sample());
    assert_eq!(read.text("loam.base.digest"), Some("abc"));
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.gguf.tensor("blk.0.attn_q.weight.lora_a").unwrap().shape, [4, 2]);
    assert_eq!(file.gguf.tensor("blk.0.attn_q.weight.lora_b").unwrap().shape, [2, 6]);
}

#[test]
fn broken_adapters_are_not_written_and_leave_the_previous_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    sample().write(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let edits: [fn(&mut AdapterFile); 9] = [
        |f| f.settings[0].value = 0.0,
        |f| f.settings[0].value = -1.0,
        |f| f.settings[0].value = f32::NAN,
        |f| f.parameters.clear(),
        |f| f.parameters[0].shape = vec![4, 0],
        |f| f.parameters[0].shape = vec![5, 2],
        |f| f.parameters[0].values[3] = f32::INFINITY,
        |f| f.parameters[3].values[0] = 1e30,
        |f| f.parameters[3] = f.parameters[2].clone(),
    ];
    for (i, edit) in edits.iter().enumerate() {
        let mut broken = sample();
        edit(&mut broken);
        assert!(broken.write(&path).is_err(), "edit {i}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A tensor with one value everywhere.
#[derive(Clone, Copy)]
struct Filled<'a> {
    name: &'a str,
    shape: &'a [u64],
    fill: f32,
}

fn filled<'a>(name: &'a str, shape: &'a [u64], fill: f32) -> Filled<'a> {
    Filled { name, shape, fill }
}

/// Writes a GGUF with these keys and F32 tensors of `shape` filled with `fill`, and reads it as an adapter.
fn read(keys: &[(&str, Value)], tensors: &[Filled<'_>]) -> Result<AdapterFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let mut metadata = Metadata::new();
    keys.iter().for_each(|(key, value)| metadata.set(*key, value.clone()));
    let declare = |Filled { name, shape, .. }: &Filled<'_>| TensorDeclaration {
        name: (*name).into(),
        shape: shape.to_vec(),
        ty: GgmlType::F32,
    };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    let mut writer = Writer::new(Vec::new(), &path, &metadata, &declarations).unwrap();
    for Filled { name, shape, fill } in tensors {
        let count = shape.iter().product::<u64>() as usize;
        writer.write(name, &fill.to_le_bytes().repeat(count)).unwrap();
    }
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    AdapterFile::read(&path)
}

fn good_keys() -> Vec<(&'static str, Value)> {
    vec![
        (ARCHITECTURE, "llama".into()),
        (TYPE, "adapter".into()),
        (ADAPTER_TYPE, "lora".into()),
        (ALPHA, Value::F32(8.0)),
    ]
}

const A: Filled<'_> = Filled { name: "blk.0.attn_q.weight.lora_a", shape: &[4, 2], fill: 0.5 };
const B: Filled<'_> = Filled { name: "blk.0.attn_q.weight.lora_b", shape: &[2, 6], fill: 0.5 };

#[test]
fn another_kind_of_file_is_named() {
    assert!(read(&good_keys(), &[A, B]).is_ok());
    let cases: [(&str, Value, &str); 6] = [
        (TYPE, "model".into(), "is a model, not an adapter"),
        (ADAPTER_TYPE, "loha".into(), "loha"),
        (ALPHA, Value::F32(0.0), ALPHA),
        (ALPHA, Value::F32(f32::NAN), ALPHA),
        (ALPHA, Value::U32(8), ALPHA),
        ("adapter.alora.invocation_tokens", vec![1u32].into(), "activated"),
    ];
    for (key, value, named) in cases {
        let mut keys = good_keys();
        keys.retain(|(k, _)| *k != key);
        keys.push((key, value));
        let message = read(&keys, &[A, B]).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
    for key in [ARCHITECTURE, TYPE, ADAPTER_TYPE, ALPHA] {
        let keys: Vec<_> = good_keys().into_iter().filter(|(k, _)| *k != key).collect();
        assert!(read(&keys, &[A, B]).is_err(), "without {key}");
    }
}

#[test]
fn broken_pairs_are_named() {
    let name = "blk.0.attn_q.weight";
    let b = |shape: &'static [u64], fill: f32| filled(B.name, shape, fill);
    type Tensors<'a> = Vec<Filled<'a>>;
    let cases: [(&str, Tensors<'_>); 9] = [
        ("lora_b", vec![A]),
        ("lora_a", vec![B]),
        ("rank 3", vec![A, b(&[3, 6], 0.5)]),
        ("dimensions", vec![A, b(&[12], 0.5)]),
        ("for 1 matrices", vec![filled(A.name, &[4, 2, 3], 0.5), b(&[2, 6], 0.5)]),
        ("not finite", vec![A, b(&[2, 6], f32::NAN)]),
        ("limit", vec![A, b(&[2, 6], 1e30)]),
        ("neither", vec![A, B, filled("blk.0.attn_q.weight", &[4, 6], 0.5)]),
        ("has no tensors", vec![]),
    ];
    for (named, tensors) in cases {
        let message = read(&good_keys(), &tensors).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
        assert!(tensors.is_empty() || message.contains(name), "{message}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    sample().write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(AdapterFile::read(&path).is_err(), "cut at {length}");
    }
}

/// The declarations of a base with these tensors.
fn base(architecture: &str, tensors: &[(&str, &[u64])]) -> Gguf {
    let mut metadata = Metadata::new();
    metadata.set(ARCHITECTURE, architecture);
    let declare = |(name, shape): &(&str, &[u64])| TensorDeclaration {
        name: (*name).into(),
        shape: shape.to_vec(),
        ty: GgmlType::F32,
    };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    let path = Path::new("base.gguf");
    let mut writer = Writer::new(Vec::new(), path, &metadata, &declarations).unwrap();
    for (name, shape) in tensors {
        writer.write(name, &vec![0; shape.iter().product::<u64>() as usize * 4]).unwrap();
    }
    Gguf::parse(path, &writer.finish().unwrap()).unwrap()
}

#[test]
fn a_base_must_have_every_weight_in_its_shape() {
    let path = Path::new("a.gguf");
    let (q, v) = ("blk.0.attn_q.weight", "blk.0.attn_v.weight");
    let check = |gguf: Gguf| sample().check_against(&gguf, path);
    check(base("llama", &[(q, &[4, 6]), (v, &[4, 3])])).unwrap();
    assert!(matches!(check(base("qwen2", &[(q, &[4, 6]), (v, &[4, 3])])), Err(Error::BaseMismatch { .. })));
    for wrong in [&[(q, &[4u64, 6][..])][..], &[(q, &[6, 4]), (v, &[4, 3])], &[(q, &[4, 6]), (v, &[4, 3, 2])]] {
        assert!(matches!(check(base("llama", wrong)), Err(Error::Adapter { .. })));
    }
}
