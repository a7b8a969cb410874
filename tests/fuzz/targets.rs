//! Parsers of single files and answers.

use std::path::Path;

use loam::adapter::AdapterFile;
use loam::backend::Limits;
use loam::chat::{ChatTemplate, Message};
use loam::data::{DataOptions, Objective, load};
use loam::gguf::{Gguf, GgufFile};
use loam::model::Weights;
use loam::plan::Storage;
use loam::tokenizer::Tokenizer;
use loam::{Base, Targets};
use loam_convert::hub::listing::Listing;
use loam_convert::hub::names;
use loam_convert::hub::url::Url;

use crate::engine::{Target, fuzz};
use crate::mutate;
use crate::seeds::{DATA, Folder, TEMPLATE};

/// Texts with what tokenizers stumble over.
const TEXTS: [&str; 4] =
    ["the thing<|im_end|> in there", "", "Grüße 漢字 👨\u{200d}👩 \u{0}\u{fffd}", "   \n\n\t 1234567 don't"];

fn base() -> Vec<u8> {
    Folder::base().get("base.gguf")
}

/// A base without its tensors: small, all metadata.
fn vocabulary() -> Vec<u8> {
    let bytes = base();
    let gguf = Gguf::parse(Path::new("seed"), &bytes).expect("sound");
    let mut out = Vec::new();
    let writer = loam::gguf::Writer::new(&mut out, Path::new("seed"), gguf.metadata(), &[]).expect("sound");
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
        let Ok(base) = Base::open(folder.at("input.gguf")) else { return false };
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
    fuzz(Target { name: "base_open", seeds: vec![base()], mutate: mutate::gguf, run: Box::new(run) });
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
    let seeds = vec![TEMPLATE.as_bytes().to_vec(), other.as_bytes().to_vec()];
    fuzz(Target { name: "chat_template", seeds, mutate: mutate::template, run: Box::new(run) });
}

#[test]
fn adapter_file() {
    let folder = Folder::base();
    let base = GgufFile::open(&folder.at("base.gguf")).expect("sound");
    loam_convert::from_peft(&crate::seeds::peft(&folder), &base, &folder.at("adapter.gguf")).expect("sound");
    let seeds = vec![folder.get("adapter.gguf")];
    let run = move |input: &[u8]| {
        folder.put("input.gguf", input);
        let path = folder.at("input.gguf");
        let Ok(adapter) = AdapterFile::read(&path) else { return false };
        assert!(adapter.rank().is_none_or(|rank| rank > 0) && Targets::AllLinear.contains("blk.0.attn_q.weight"));
        adapter.check_against(&base.gguf, &path).is_ok()
    };
    fuzz(Target { name: "adapter_file", seeds, mutate: mutate::gguf, run: Box::new(run) });
}

#[test]
fn data_lines() {
    let folder = Folder::base();
    let base = Base::open(folder.at("base.gguf")).expect("sound");
    let run = move |input: &[u8]| {
        folder.put("input.jsonl", input);
        let (tokenizer, template) = (base.tokenizer().expect("sound"), base.template().expect("sound"));
        let mut options = DataOptions::new(Objective::Sft, 32);
        options.skip_bad = 2;
        load(&folder.at("input.jsonl"), tokenizer, template, &options).is_ok()
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
