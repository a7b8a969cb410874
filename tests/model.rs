//! Bases whose metadata or tensors make no sense: a typed error that names the key or tensor, before any work
//! (hostile-input cases 19 to 21).

use loam::backend::cpu::CpuBackend;
use loam::gguf::{GgmlType, Metadata, Value};
use loam::{Base, Error, Session};
use loam_tests::rewrite::{Tensor, rewrite};
use loam_tests::{convert_asset, some_rows};

/// Opens a changed copy of loam-micro and puts it on the CPU.
fn open(format: &str, change: impl FnOnce(&mut Metadata, &mut Vec<Tensor>)) -> Result<Session, Error> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = rewrite(&convert_asset("loam-micro", format), folder.path(), "changed.gguf", change);
    let base = Base::open(path)?;
    Session::new(&base, Box::new(CpuBackend::new(Some(1))?), 16, &[])
}

fn with_key(key: &str, value: impl Into<Value>) -> Error {
    match open("q4_0", |metadata, _| metadata.set(key, value)) {
        Ok(_) => panic!("{key} was accepted"),
        Err(error) => error,
    }
}

fn names(error: &Error, expected: &str) {
    let text = error.to_string();
    assert!(text.contains(expected), "{text:?} does not name {expected}");
}

#[test]
fn the_unchanged_copy_opens() {
    assert!(open("q4_0", |_, _| ()).is_ok());
}

#[test]
fn hyper_parameters_out_of_range_are_refused_by_key() {
    let cases: [(&str, &[u32]); 8] = [
        ("llama.block_count", &[0, 513, u32::MAX]),
        ("llama.attention.head_count", &[0, 3, 1 << 30]),
        ("llama.attention.head_count_kv", &[0, 3, 5, u32::MAX]),
        ("llama.embedding_length", &[0, 63, 128, u32::MAX]),
        ("llama.feed_forward_length", &[0, u32::MAX]),
        ("llama.rope.dimension_count", &[0, 3, 1 << 20]),
        ("llama.context_length", &[0, 1 << 31]),
        ("llama.attention.key_length", &[0, 6, 100_000]),
    ];
    for (key, values) in cases {
        for &value in values {
            let error = with_key(key, value);
            let known = matches!(error, Error::Metadata { .. } | Error::Tensor { .. });
            assert!(known, "{key} = {value}: {error:?}");
        }
    }
    names(&with_key("llama.block_count", 513u32), "llama.block_count");
    names(&with_key("llama.block_count", 5u32), "blk.4.");
    names(&with_key("llama.attention.head_count_kv", 3u32), "llama.attention.head_count_kv");
}

#[test]
fn numbers_that_are_none_are_refused() {
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"] {
        for value in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            names(&with_key(key, value), key);
        }
        names(&with_key(key, "text"), key);
    }
}

#[test]
fn unknown_kinds_are_refused_by_name() {
    let error = with_key("general.architecture", "mamba\u{1b}[31m");
    names(&error, "mamba");
    assert!(!error.to_string().contains('\u{1b}'), "control characters of the file reach the terminal");
    names(&with_key("llama.rope.scaling.type", "yarn"), "yarn");
}

#[test]
fn a_token_list_of_another_length_is_refused() {
    let mut tokens = loam::gguf::Strings::with_capacity(2, 2);
    tokens.push(b"a");
    tokens.push(b"b");
    names(&with_key("tokenizer.ggml.tokens", tokens), "4096 rows");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_refused_by_name() {
    let failed = |change: &dyn Fn(&mut Vec<Tensor>)| match open("f32", |_, tensors| change(tensors)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    names(&failed(&|t| t.retain(|t| t.declaration.name != "blk.2.ffn_up.weight")), "blk.2.ffn_up.weight");
    let extra = failed(&|t| {
        let mut bias = t.iter().find(|t| t.declaration.name == "output_norm.weight").expect("norm").clone();
        bias.declaration.name = "blk.0.attn_q.bias".into();
        t.push(bias);
    });
    names(&extra, "blk.0.attn_q.bias");
    for shape in [vec![64, 192], vec![12_288]] {
        let change = |t: &mut Vec<Tensor>| {
            let tensor = t.iter_mut().find(|t| t.declaration.name == "blk.1.ffn_down.weight").expect("tensor");
            tensor.declaration.shape = shape.clone();
        };
        names(&failed(&change), "blk.1.ffn_down.weight");
    }
    let integers = |t: &mut Vec<Tensor>| {
        let tensor = t.iter_mut().find(|t| t.declaration.name == "blk.1.ffn_down.weight").expect("tensor");
        tensor.declaration.ty = GgmlType::I32;
    };
    names(&failed(&integers), "blk.1.ffn_down.weight");
}

#[test]
fn weights_that_are_not_finite_give_an_error_instead_of_text() {
    let mut session = open("q4_0", |_, tensors| {
        let down = tensors.iter_mut().find(|t| t.declaration.name == "blk.3.ffn_down.weight").expect("tensor");
        // The first block's f16 scale becomes NaN.
        down.bytes[..2].copy_from_slice(&[0xff, 0x7f]);
    })
    .expect("a NaN inside a block is found when it is used");
    let error = pollster::block_on(session.feed(&some_rows(1, 4, 4096)[0])).expect_err("NaN logits");
    assert!(matches!(error, Error::NonFinite(_)), "{error}");
    let error = open("f32", |_, tensors| {
        let norm = tensors.iter_mut().find(|t| t.declaration.name == "blk.0.attn_norm.weight").expect("tensor");
        norm.bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    names(&error.err().expect("an infinite norm weight"), "blk.0.attn_norm.weight");
}
