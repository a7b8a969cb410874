//! Bytes and metadata are those of llama.cpp's converter and llama-quantize.

use std::path::Path;

use loam::digest::sha256_hex;
use loam::gguf::{GgufFile, TensorInfo};
use loam_convert::{Options, Recipe, convert};
use loam_shaders::Format;
use loam_tests::shared;
use serde_json::Value;

use super::folder::{micro, tiny, to};

/// Content digests of both committed models in each format. Where the shared inputs are, the tests below compare tensor
/// by tensor with llama-quantize; these hold the bytes in place everywhere.
const DIGESTS: [(Format, &str, &str); 6] = [
    (
        Format::F32,
        "4cae00d6cf9d52c215105295e28cf58fb3e9ccb7d8338ad6cbf59ee8b44ca15a",
        "cba25624011ac43ca76dac3a4f5f80edfa287019023b85550cf3ab20d0239f46",
    ),
    (
        Format::F16,
        "5f02eacfb135158351cb9b0f489f3a26d998efc9ece4e571a173d08ecf10cce2",
        "be4f9fb0dc14c942ff69563d7bad13f15b47e23971389661c9d6cda55c705433",
    ),
    (
        Format::BF16,
        "7362ef9b6e5db989072cadda46bf9e83c04406841a9cd390025a45841c22f2d6",
        "7f58f761c4fe68dd3f43177a0a72ef0a3bcf1802b4137cc5490fb6da1cc1537c",
    ),
    (
        Format::Q8_0,
        "9e9c8f729929b965f0b7d660b9b6c361c768d35aa9fd5d8b7933497f38fc5326",
        "9c28aa7a82a14307e8673b37a05065494efa62d5a278f70b7317cd8e22019893",
    ),
    (
        Format::Q4_0,
        "2079d7f99e2e4da9199d147fd6e98d68b53333840d9a3c697c52246ca2e222a8",
        "fa25d29abdfafbc7983fd125800f67529f1031eff0c1e7cd21f5976b4d496aa1",
    ),
    (
        Format::Q4_K,
        "80d5088864116284876073da5c942e8084b8f324bb30e62310f2f64705a82ec6",
        "bc8adb0a80b7697e25ce45a23524e4f2b61bf751d31f351a5c6c01561eb7d24a",
    ),
];

fn converted(dir: &Path, recipe: impl Into<Recipe>) -> (GgufFile, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    to(recipe, dir, &path).unwrap();
    (GgufFile::open(&path).unwrap(), out)
}

fn calibrated(dir: &Path, recipe: Recipe, imatrix: &Path) -> (GgufFile, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    let options = Options { imatrix: Some(imatrix.into()), ..Options::new(recipe) };
    convert(dir, &path, &options, &mut |_| ()).unwrap();
    (GgufFile::open(&path).unwrap(), out)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_format_keeps_its_bytes() {
    for (format, of_micro, of_tiny) in DIGESTS {
        assert_eq!(converted(&micro(), format).0.content_digest().unwrap(), of_micro, "loam-micro {}", format.name());
        assert_eq!(converted(&tiny(), format).0.content_digest().unwrap(), of_tiny, "loam-tiny {}", format.name());
    }
}

/// `expected`: tensor name to a digest, or to a list of type and digest.
fn compare(file: &GgufFile, expected: &Value, what: &str) {
    let expected = expected.as_object().unwrap();
    assert_eq!(file.gguf.tensors().len(), expected.len(), "{what}: number of tensors");
    for tensor in file.gguf.tensors() {
        let entry = &expected[&tensor.name];
        let (ty, digest) = match entry.as_array() {
            Some(pair) => (pair[0].as_str(), pair[1].as_str()),
            None => (None, entry.as_str()),
        };
        assert!(ty.is_none_or(|ty| ty.eq_ignore_ascii_case(tensor.ty.name())), "{what}: type of {}", tensor.name);
        assert_eq!(Some(file.tensor_digest(tensor).unwrap().as_str()), digest, "{what}: bytes of {}", tensor.name);
    }
}

/// What llama-quantize makes with these arguments: `--pure Q4_0` in one type, `Q4_0` in a mix.
fn asked(arguments: &str) -> Recipe {
    let name = arguments.split(' ').next_back().unwrap_or_default();
    let recipe = Recipe::named(name).unwrap_or_else(|| panic!("no recipe {name}"));
    if arguments.contains("--pure") { recipe.pure() } else { recipe }
}

/// One digest per type: of the lines `TENSOR TYPE SHA256`, ordered by name.
#[test]
fn every_type_of_llama_quantize_has_its_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/golden/quantized.json");
    for (name, expected) in json(&path).as_object().unwrap() {
        let (file, _out) = converted(&tiny(), asked(name));
        let line =
            |t: &TensorInfo| format!("{} {} {}\n", t.name, t.ty.name().to_lowercase(), file.tensor_digest(t).unwrap());
        let mut lines: Vec<String> = file.gguf.tensors().iter().map(line).collect();
        lines.sort();
        assert_eq!(Some(sha256_hex(lines.concat().as_bytes()).as_str()), expected.as_str(), "{name}");
    }
}

#[test]
fn tiny_has_the_bytes_of_llama_quantize() {
    let Some(path) = shared("golden/quantize/loam-tiny.json") else { return };
    for (name, tensors) in json(&path)["types"].as_object().unwrap() {
        let (file, _out) = converted(&tiny(), asked(tensors["flags"].as_str().unwrap()));
        compare(&file, &tensors["tensors"], name);
    }
}

#[test]
fn tiny_has_the_bytes_of_llama_quantize_with_an_importance_matrix() {
    let Some(path) = shared("golden/quantize/loam-tiny.with-imatrix.json") else { return };
    let Some(imatrix) = shared("golden/quantize/loam-tiny.imatrix.gguf") else { return };
    for (name, tensors) in json(&path)["types"].as_object().unwrap() {
        let recipe = asked(tensors["flags"].as_str().unwrap());
        let (file, _out) = calibrated(&tiny(), recipe, &imatrix);
        compare(&file, &tensors["tensors"], name);
        let number = |key: &str| file.gguf.u32(key).unwrap();
        assert_eq!(number("quantize.imatrix.entries_count"), 56);
        assert_eq!(number("quantize.imatrix.chunks_count"), 84);
        assert_eq!(file.gguf.str("quantize.imatrix.dataset").unwrap(), "calib.txt");
    }
}

#[test]
fn both_models_have_the_bytes_of_the_golden_bases() {
    let cases = [
        ("tiny-f32", tiny(), Format::F32),
        ("tiny-Q4_0", tiny(), Format::Q4_0),
        ("tiny-Q8_0", tiny(), Format::Q8_0),
        ("tiny-Q4_K", tiny(), Format::Q4_K),
        ("micro-f32", micro(), Format::F32),
        ("micro-Q4_0", micro(), Format::Q4_0),
        ("micro-Q8_0", micro(), Format::Q8_0),
    ];
    for (name, dir, format) in cases {
        let Some(path) = shared(&format!("golden/{name}.json")) else { return };
        compare(&converted(&dir, format).0, &json(&path)["tensor_sha256"], name);
    }
}

/// Every key of llama.cpp's converter is there with its type and value; the one more is the rotary base, which theirs
/// leaves out when it is the default.
#[test]
fn metadata_is_that_of_llama_cpp() {
    for (name, dir, format) in [("loam-micro-f32", micro(), Format::F32), ("loam-tiny-Q4_0", tiny(), Format::Q4_0)] {
        let Some(path) = shared(&format!("golden/{name}.gguf")) else { return };
        let theirs = GgufFile::open(&path).unwrap();
        let (ours, _out) = converted(&dir, format);
        for (key, value) in theirs.gguf.metadata().iter() {
            assert_eq!(ours.gguf.metadata().get(key), Some(value), "{name}: {key}");
        }
        let known = |key: &str| theirs.gguf.metadata().get(key).is_some();
        let more: Vec<&str> = ours.gguf.metadata().iter().map(|(key, _)| key).filter(|key| !known(key)).collect();
        assert_eq!(more, ["llama.rope.freq_base"], "{name}");
    }
}

/// loam-tiny in Q4_0 has the size of llama-quantize's file, plus the one key more.
#[test]
fn tensors_are_where_llama_quantize_puts_them() {
    let Some(path) = shared("golden/loam-tiny-Q4_0.gguf") else { return };
    let theirs = GgufFile::open(&path).unwrap();
    let (ours, _out) = converted(&tiny(), Format::Q4_0);
    let places = |file: &GgufFile| -> Vec<(String, u64)> {
        file.gguf.tensors().iter().map(|t| (t.name.clone(), t.offset - file.gguf.data_offset())).collect()
    };
    assert_eq!(places(&ours), places(&theirs));
}

#[test]
fn threads_do_not_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |threads: usize| {
        let path = dir.path().join(format!("{threads}.gguf"));
        let options = Options { threads: Some(threads), ..Options::new(Format::Q4_K) };
        convert(&tiny(), &path, &options, &mut |_| ()).unwrap();
        std::fs::read(path).unwrap()
    };
    let one = bytes(1);
    assert!(one == bytes(2) && one == bytes(5));
}

#[test]
fn published_pre_tokenizers_are_recognised() {
    let Some(path) = shared("tokenizers/hf/smollm2/tokenizer.json") else { return };
    let tokenizer = loam_convert::source::Json::read(&path).unwrap();
    assert_eq!(loam_convert::tokenizer::pre::name(&tokenizer, false).unwrap(), "smollm");
}

/// A SentencePiece model gives the tokens, scores and types that llama.cpp's own conversion of it has.
#[test]
fn sentencepiece_vocabularies_are_those_of_llama_cpp() {
    let Some(folder) = shared("models/stories260K/hf") else { return };
    let Some(theirs) = shared("models/stories260K/stories260K-f32.gguf") else { return };
    let theirs = GgufFile::open(&theirs).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    to(Format::F32, &folder, &out).unwrap();
    let ours = GgufFile::open(&out).unwrap();
    for key in ["model", "tokens", "scores", "token_type"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(ours.gguf.metadata().get(&key), theirs.gguf.metadata().get(&key), "{key}");
    }
}
