//! Importance matrices: the collected statistics against Transformers (`tests/assets/importance.py`), the file in both
//! directions and when it is broken, and what a conversion says about it.

use std::path::{Path, PathBuf};

use loam::gguf::{GgmlType, Metadata, Strings, TensorDeclaration, Writer};
use loam::importance::{Collector, Entry, chunks};
use loam::{Base, Engine, Importance};
use loam_convert::{Options, Recipe, convert, plan};
use loam_tests::{asset, back_ends, convert_asset, relative};

struct Golden {
    tokens: Vec<u32>,
    context: usize,
    means: Vec<(String, Vec<f32>)>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/importance.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let means = json["means"].as_object().unwrap().iter();
    Golden {
        tokens: numbers(&json["tokens"]).into_iter().map(|x| x as u32).collect(),
        context: json["context"].as_u64().unwrap() as usize,
        means: means.map(|(k, v)| (k.clone(), numbers(v).into_iter().map(|x| x as f32).collect())).collect(),
    }
}

/// The importance of loam-micro on the golden tokens, per back end.
fn collected() -> Vec<(&'static str, Importance)> {
    let (golden, base) = (golden(), Base::open(convert_asset("loam-micro", "f32")).unwrap());
    let run = |(name, backend)| {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let mut collector = pollster::block_on(Collector::new(&base, &mut engine, golden.context)).unwrap();
        for chunk in golden.tokens.chunks(golden.context) {
            pollster::block_on(collector.run(&mut engine, chunk)).unwrap();
        }
        (name, collector.finish(vec!["golden".into()]))
    };
    back_ends().into_iter().map(run).collect()
}

#[test]
fn statistics_are_those_of_transformers() {
    let golden = golden();
    for (backend, importance) in collected() {
        assert_eq!(importance.entries.len(), 4 * 7, "{backend}");
        assert_eq!((importance.chunks, importance.chunk_size), (2, golden.context as u32));
        for (name, expected) in &golden.means {
            let entry = &importance.entries[name];
            assert_eq!(entry.counts, [golden.tokens.len() as f32], "{backend}: {name}");
            let error = relative(&entry.means(), expected);
            assert!(error < 1e-5, "{backend}: {name} is off by {error:.1e}");
        }
        for layer in 0..4 {
            let of = |part: &str| &importance.entries[&format!("blk.{layer}.{part}.weight")];
            assert!(
                of("attn_q") == of("attn_k") && of("attn_q") == of("attn_v"),
                "{backend}: one input, three products"
            );
            assert_eq!(of("ffn_gate"), of("ffn_up"), "{backend}");
        }
    }
}

#[test]
fn a_written_file_is_read_back_and_used() {
    let (_, importance) = collected().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("m.gguf"), dir.path().join("out.gguf"));
    importance.write(&file).unwrap();
    assert_eq!(Importance::read(&file).unwrap(), importance);
    let options = |imatrix: Option<&PathBuf>| Options {
        imatrix: imatrix.cloned(),
        ..Options::new(Recipe::named("q4_0").unwrap().pure())
    };
    let with = convert(&asset("loam-micro"), &out, &options(Some(&file)), &mut |_| ()).unwrap();
    // The embedding is no product.
    assert!(
        with.notes.iter().any(|note| note == "the importance matrix has nothing on token_embd.weight"),
        "{:?}",
        with.notes
    );
    let weighted = std::fs::read(&out).unwrap();
    convert(&asset("loam-micro"), &out, &options(None), &mut |_| ()).unwrap();
    assert!(weighted != std::fs::read(&out).unwrap());
}

#[test]
fn chunks_are_those_of_llama_imatrix() {
    let base = Base::open(convert_asset("loam-micro", "f32")).unwrap();
    let tokenizer = base.tokenizer().unwrap();
    let found = chunks(tokenizer, &[7, 8, 9, 10, 11, 12, 13], 3);
    let first = |token| tokenizer.bos().filter(|_| tokenizer.adds_bos()).unwrap_or(token);
    assert_eq!(found, [[first(7), 8, 9], [first(10), 11, 12]]);
    assert!(chunks(tokenizer, &[7, 8], 3).is_empty());
}

#[test]
fn experts_without_data_count_alike() {
    let entry = Entry { sums: vec![2.0, 4.0, 0.0, 0.0, 9.0, 3.0], counts: vec![2.0, 0.0, 3.0] };
    assert_eq!(entry.inputs(), 2);
    assert_eq!(entry.means(), [1.0, 2.0, 1.0, 1.0, 3.0, 1.0]);
}

/// Name, shape and values of a tensor of a crafted file.
type Crafted<'a> = (&'a str, &'a [u64], &'a [f32]);

/// Tensors as (name, shape, values), written with the keys of an importance matrix.
fn crafted(path: &Path, kind: &str, tensors: &[Crafted<'_>]) {
    let mut metadata = Metadata::new();
    metadata.set("general.type", kind);
    metadata.set("imatrix.datasets", ["text"].iter().collect::<Strings>());
    metadata.set("imatrix.chunk_count", 1u32);
    metadata.set("imatrix.chunk_size", 512u32);
    let declare = |(name, shape, _): &(&str, &[u64], &[f32])| TensorDeclaration {
        name: (*name).into(),
        shape: shape.to_vec(),
        ty: GgmlType::F32,
    };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    let mut writer = Writer::new(Vec::new(), path, &metadata, &declarations).unwrap();
    for (name, _, values) in tensors {
        writer.write(name, bytemuck::cast_slice(values)).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

#[test]
fn broken_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let sums: Crafted<'_> = ("w.in_sum2", &[2, 1], &[1.0, 2.0]);
    let counts: Crafted<'_> = ("w.counts", &[1, 1], &[1.0]);
    crafted(&path, "imatrix", &[sums, counts]);
    assert_eq!(Importance::read(&path).unwrap().entries["w"].means(), [1.0, 2.0]);
    let cases: [(&str, &[Crafted<'_>], &str); 9] = [
        ("model", &[sums, counts], "must be \"imatrix\""),
        ("imatrix", &[sums], "w.counts"),
        ("imatrix", &[counts], "w.in_sum2"),
        ("imatrix", &[sums, ("w.counts", &[1, 2], &[1.0, 1.0])], "has shape"),
        ("imatrix", &[sums, ("w.counts", &[2, 1], &[1.0, 1.0])], "has shape"),
        ("imatrix", &[("w.in_sum2", &[2, 1], &[1.0, f32::NAN]), counts], "holds NaN"),
        ("imatrix", &[("w.in_sum2", &[2, 1], &[-1.0, 0.0]), counts], "holds -1"),
        ("imatrix", &[sums, ("w.counts", &[1, 1], &[1e-45])], "infinite"),
        ("imatrix", &[sums, counts, ("w.other", &[1], &[1.0])], "w.other"),
    ];
    for (kind, tensors, named) in cases {
        crafted(&path, kind, tensors);
        let message = Importance::read(&path).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn importance_of_another_shape_is_refused_except_of_the_embedding() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("m.gguf"), dir.path().join("out.gguf"));
    let planned = |name: &str| {
        let (sums, counts) = (format!("{name}.in_sum2"), format!("{name}.counts"));
        crafted(&path, "imatrix", &[(&sums, &[32, 1], &[1.0; 32]), (&counts, &[1, 1], &[1.0])]);
        plan(
            &asset("loam-micro"),
            &out,
            &Options { imatrix: Some(path.clone()), ..Options::new(loam_shaders::Format::Q4_0) },
        )
    };
    let message = planned("blk.0.attn_q.weight").unwrap_err().to_string();
    assert!(message.contains("blk.0.attn_q.weight") && message.contains("32 inputs"), "{message}");
    let plan = planned("token_embd.weight").unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("nothing on") && note.ends_with("more")), "{:?}", plan.notes);
}

#[test]
fn the_old_format_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    let name = b"blk.0.attn_q.weight";
    let mut bytes = [1i32, name.len() as i32].map(i32::to_le_bytes).concat();
    bytes.extend(name);
    bytes.extend([7i32, 2].map(i32::to_le_bytes).concat());
    bytes.extend([1.0f32, 2.0].map(f32::to_le_bytes).concat());
    std::fs::write(&path, &bytes).unwrap();
    let error = Importance::read(&path).unwrap_err().to_string();
    assert!(error.contains("imatrix.dat") && error.contains("old format"), "{error}");
    for cut in 0..bytes.len().min(27) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = Importance::read(&path).unwrap_err().to_string();
        assert!(!error.contains("old format"), "{cut} bytes say nothing: {error}");
    }
}
