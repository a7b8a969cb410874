//! Parsers of single files and answers.

use std::path::Path;

use loam::adapter::AdapterFile;
use loam::backend::Limits;
use loam::chat::{ChatTemplate, Message};
use loam::data::{DataOptions, Dataset, Notes, Records, load};
use loam::gguf::{
    Gguf, GgufFile, Metadata, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, TensorDeclaration, Writer, shard_path,
};
use loam::importance::{Entry, Importance};
use loam::model::Weights;
use loam::plan::Storage;
use loam::tokenizer::Tokenizer;
use loam::train::checkpoint::{self, Generations, Identity, State, seal};
use loam::train::{Checkpoints, Progress};
use loam::{Base, TrainOptions};
use loam_convert::hub::listing::Listing;
use loam_convert::hub::names;
use loam_convert::hub::url::Url;

use crate::engine::{Target, fuzz};
use crate::mutate;
use crate::seeds::{self, DATA, GROWING, TEMPLATE};
use loam_tests::folder::Folder;

/// Texts with what tokenizers stumble over.
const TEXTS: [&str; 4] =
    ["the thing<|im_end|> in there", "", "Grüße 漢字 👨\u{200d}👩 \u{0}\u{fffd}", "   \n\n\t 1234567 don't"];

fn base() -> Vec<u8> {
    seeds::base().get("base.gguf")
}

/// A base without its tensors: small, all metadata.
fn vocabulary() -> Vec<u8> {
    let bytes = base();
    let gguf = Gguf::parse(Path::new("seed"), &bytes).expect("sound");
    let mut out = Vec::new();
    let writer = Writer::new(&mut out, Path::new("seed"), gguf.metadata(), &[]).expect("sound");
    writer.finish().expect("written");
    out
}

/// The base with the keys of another family.
fn of_family(name: &str) -> Vec<u8> {
    let bytes = base();
    let gguf = Gguf::parse(Path::new("seed"), &bytes).expect("sound");
    let mut metadata = Metadata::new();
    for (key, value) in gguf.metadata().iter() {
        metadata.set(key.strip_prefix("llama.").map_or(key.to_owned(), |rest| format!("{name}.{rest}")), value.clone());
    }
    metadata.set("general.architecture", name);
    for (key, value) in [("attention.sliding_window", 16u32), ("expert_count", 4), ("expert_used_count", 2)] {
        metadata.set(format!("{name}.{key}"), value);
    }
    let mut out = Vec::new();
    let declare = |info: &loam::gguf::TensorInfo| TensorDeclaration {
        name: info.name.clone(),
        shape: info.shape.clone(),
        ty: info.ty,
    };
    let declarations: Vec<_> = gguf.tensors().iter().map(declare).collect();
    let mut writer = Writer::new(&mut out, Path::new("seed"), &metadata, &declarations).expect("sound");
    for info in gguf.tensors() {
        let range = info.offset as usize..(info.offset + info.bytes) as usize;
        writer.write(&info.name, &bytes[range]).expect("in turn");
    }
    writer.finish().expect("written");
    out
}

#[test]
fn gguf_reader() {
    let run = |input: &[u8]| Gguf::parse(Path::new("input"), input).is_ok();
    fuzz(Target { name: "gguf_reader", seeds: vec![base(), vocabulary()], mutate: mutate::gguf, run: Box::new(run) });
}

#[test]
fn base_open() {
    let folder = Folder::new();
    let run = move |input: &[u8]| {
        folder.put("input.gguf", input);
        let Ok(base) = Base::open(folder.file("input.gguf")) else { return false };
        let mut storage = Storage::default();
        let limits = Limits { max_binding_bytes: 1 << 20, max_buffer_bytes: 1 << 20 };
        let declared = Weights::declare(base.file(), base.config(), limits, &mut storage).is_ok();
        let rendered = match (base.tokenizer(), base.template()) {
            (Ok(tokenizer), Ok(Some(template))) => {
                template.encode(tokenizer, &[Message::new("user", TEXTS[0])], true).is_ok()
            }
            (tokenizer, _) => tokenizer.is_ok(),
        };
        declared && rendered
    };
    let mut seeds = vec![base()];
    let families = ["qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "smollm3", "granite", "olmo2"];
    seeds.extend(families.map(of_family));
    fuzz(Target { name: "base_open", seeds, mutate: mutate::gguf, run: Box::new(run) });
}

/// Shard `changed` of two is changed, the other is sound.
fn split(name: &'static str, changed: u16) {
    let folder = Folder::new();
    let shard = |no: u16| shard_path(&folder.file("m"), no, 2);
    for no in 0..2u16 {
        let mut metadata = Metadata::new();
        metadata.set(SPLIT_NO, no);
        metadata.set(SPLIT_COUNT, 2u16);
        metadata.set(SPLIT_TENSORS, 2i32);
        metadata.set("general.name", "split");
        let declaration = TensorDeclaration { name: format!("t{no}"), shape: vec![8], ty: loam::gguf::GgmlType::F32 };
        let mut writer = Writer::new(Vec::new(), Path::new("seed"), &metadata, &[declaration]).expect("sound");
        writer.write(&format!("t{no}"), &[0; 32]).expect("in turn");
        std::fs::write(shard(no), writer.finish().expect("complete")).expect("written");
    }
    let (path, first) = (shard(changed), shard(0));
    let seeds = vec![std::fs::read(&path).expect("readable")];
    let run = move |input: &[u8]| {
        // The folder lives as long as the target.
        let _ = &folder;
        std::fs::write(&path, input).expect("written");
        let Ok(file) = GgufFile::open(&first) else { return false };
        let names: Vec<String> = file.gguf.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        for name in &names {
            let tensor = file.gguf.tensor(name).expect("listed");
            assert_eq!(file.bytes(tensor).unwrap().bytes().len() as u64, tensor.bytes);
        }
        true
    };
    fuzz(Target { name, seeds, mutate: mutate::gguf, run: Box::new(run) });
}

#[test]
fn split_first() {
    split("split_first", 0);
}

#[test]
fn split_second() {
    split("split_second", 1);
}

#[test]
fn importance_file() {
    let folder = Folder::new();
    let entry = |inputs: usize, matrices: usize| Entry {
        sums: (0..inputs * matrices).map(|i| i as f32).collect(),
        counts: vec![3.0; matrices],
    };
    let entries =
        [("blk.0.attn_q.weight".to_owned(), entry(32, 1)), ("blk.0.ffn_up_exps.weight".to_owned(), entry(32, 4))];
    let seed = Importance { datasets: vec!["x.txt".into()], chunks: 3, chunk_size: 512, entries: entries.into() };
    seed.write(&folder.file("seed.gguf")).expect("written");
    let seeds = vec![folder.get("seed.gguf")];
    let run = move |input: &[u8]| {
        folder.put("input.gguf", input);
        let Ok(read) = Importance::read(&folder.file("input.gguf")) else { return false };
        read.entries.values().all(|entry| entry.means().len() == entry.sums.len())
    };
    fuzz(Target { name: "importance_file", seeds, mutate: mutate::gguf, run: Box::new(run) });
}

#[test]
fn tokenizer_keys() {
    let run = |input: &[u8]| {
        let Ok(gguf) = Gguf::parse(Path::new("input"), input) else { return false };
        let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else { return false };
        let mut good = true;
        for text in TEXTS {
            for special in [false, true] {
                match tokenizer.encode(text, special, true) {
                    Ok(ids) => assert!(tokenizer.decode_bytes(&ids).len() <= 64 * (1 + ids.len()) * (1 + input.len())),
                    Err(_) => good = false,
                }
            }
        }
        good
    };
    fuzz(Target { name: "tokenizer_keys", seeds: vec![vocabulary()], mutate: mutate::gguf, run: Box::new(run) });
}

/// The text comes from outside, too: whatever it is, its tokens spell it.
#[test]
fn tokenizer_text() {
    let bytes = vocabulary();
    let gguf = Gguf::parse(Path::new("seed"), &bytes).expect("sound");
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("sound");
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let ids = tokenizer.encode(text, false, false).expect("every byte has a token");
        assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
        tokenizer.encode(text, true, true).is_ok()
    };
    let seeds = TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    fuzz(Target { name: "tokenizer_text", seeds, mutate: mutate::bytes, run: Box::new(run) });
}

#[test]
fn chat_template() {
    let messages =
        vec![Message::new("system", "Be kind."), Message::new("user", "Hi"), Message::new("assistant", "Yes?")];
    let run = move |input: &[u8]| {
        let Ok(source) = std::str::from_utf8(input) else { return false };
        let Ok(template) = ChatTemplate::from_source(source, "<s>", "</s>") else { return false };
        template.render(&messages, true).is_ok()
    };
    let other = "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}\
        {% set ns = namespace(x=0) %}{% for m in messages[1:] %}{% set ns.x = ns.x + loop.index0 %}\
        {{ m | tojson(indent=2) }}{{ m.content.split(' ')[0].strip() }}{% if not loop.last %}, {% endif %}{% endfor %}{{ ns.x }}";
    let seeds = vec![TEMPLATE.as_bytes().to_vec(), other.as_bytes().to_vec(), GROWING.as_bytes().to_vec()];
    fuzz(Target { name: "chat_template", seeds, mutate: mutate::template, run: Box::new(run) });
}

#[test]
fn adapter_file() {
    let folder = seeds::base();
    let base = GgufFile::open(&folder.file("base.gguf")).expect("sound");
    loam_convert::from_peft(&seeds::peft(&folder), &base, &folder.file("adapter.gguf")).expect("sound");
    let seeds = vec![folder.get("adapter.gguf")];
    let run = move |input: &[u8]| {
        folder.put("input.gguf", input);
        let path = folder.file("input.gguf");
        let Ok(adapter) = AdapterFile::read(&path) else { return false };
        assert!(adapter.parameters.iter().all(|parameter| parameter.shape.iter().all(|&n| n > 0)));
        adapter.check_against(&base.gguf, &path).is_ok()
    };
    fuzz(Target { name: "adapter_file", seeds, mutate: mutate::gguf, run: Box::new(run) });
}

#[test]
fn data_lines() {
    let folder = seeds::base();
    let base = Base::open(folder.file("base.gguf")).expect("sound");
    let run = move |input: &[u8]| {
        folder.put("input.jsonl", input);
        let (tokenizer, template) = (base.tokenizer().expect("sound"), base.template().expect("sound"));
        let mut options = DataOptions::new(Records::Answers, 32);
        options.skip_bad = 2;
        load(&folder.file("input.jsonl"), tokenizer, template, &options).is_ok()
    };
    let seeds = vec![DATA.as_bytes().to_vec()];
    fuzz(Target { name: "data_lines", seeds, mutate: mutate::lines, run: Box::new(run) });
}

#[test]
fn hub_answer() {
    let run = |input: &[u8]| {
        let Ok(listing) = Listing::parse(input) else { return false };
        let all: Vec<String> = listing.files.into_iter().map(|file| file.name).collect();
        let mut good = true;
        for patterns in [vec![], vec!["*".to_owned()], vec!["*a*?.gguf".to_owned()]] {
            let Ok(chosen) = names::select(&all, &patterns) else { continue };
            good &= names::check_all(&chosen.files).is_ok();
            for name in chosen.files.iter().filter(|name| names::check(name).is_ok()) {
                // Whatever passed is one step or more into the folder and none out.
                assert!(
                    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_))),
                    "{name}"
                );
            }
        }
        let from = Url::parse("https://hub.example/a/b").expect("an address");
        for name in &all {
            if let Ok(to) = from.follow(name) {
                assert!(to.request().starts_with("https://"), "{name}");
            }
        }
        good
    };
    let (commit, blob, sha) = ("c".repeat(40), "b".repeat(40), "a".repeat(64));
    let json = format!(
        r#"{{"sha":"{commit}","siblings":[{{"rfilename":"config.json","size":3,"blobId":"{blob}"}},
        {{"rfilename":"model.safetensors","size":9,"lfs":{{"sha256":"{sha}","size":9}}}},{{"rfilename":"x/a-00001-of-00002.gguf"}},
        {{"rfilename":"model.safetensors.index.json"}}]}}"#
    );
    fuzz(Target { name: "hub_answer", seeds: vec![json.into_bytes()], mutate: mutate::json, run: Box::new(run) });
}

/// Under the digest, which a stranger can make as well as we can.
#[test]
fn checkpoint_file() {
    let folder = seeds::base();
    let base = Base::open(folder.file("base.gguf")).expect("sound");
    let options = TrainOptions::default();
    let data =
        Dataset { records: Records::Answers, examples: Vec::new(), notes: Notes::default(), digest: "none".into() };
    let device = loam::backend::cpu::info();
    let identity = Identity::new(&base, &device, None, (&data, None), &options).expect("sound");
    let request = Checkpoints { folder: folder.file("state"), every: std::num::NonZeroU64::MIN, resume: false };
    let (mut generations, _) = Generations::open(&request, "llama", identity.clone()).expect("an empty folder");
    let buffers = vec![("adapter".to_owned(), vec![1; 64]), ("gradients".to_owned(), vec![0; 64])];
    let path = generations
        .save(&State { progress: Progress { loss_chunk: 1, ..Progress::new(4, Default::default()) }, buffers })
        .expect("saved");
    let seeds = vec![std::fs::read(path).expect("readable")];
    let run = move |input: &[u8]| {
        let mut bytes = input.to_vec();
        seal(&mut bytes);
        folder.put("input.gguf", &bytes);
        let Ok((file, state)) = checkpoint::open(&folder.file("input.gguf")) else { return false };
        state.progress.check(&options, 10).is_ok() && identity.check(&file.gguf).is_ok()
    };
    fuzz(Target { name: "checkpoint_file", seeds, mutate: mutate::gguf, run: Box::new(run) });
}
