//! `general.*` metadata: what the file is called, how big it is, how its author samples from it.

use std::path::Path;

use loam_files::gguf::Metadata;

use crate::Result;
use crate::architecture::Model;
use crate::architecture::Source;
use crate::source::Json;

/// Keys before the architecture's: name, size label, license, sampling defaults.
///
/// # Errors
/// generation_config.json is there and no JSON.
pub fn metadata(source: &Source, model: &Model, notes: &mut Vec<String>) -> Result<Metadata> {
    let mut out = Metadata::new();
    out.set("general.architecture", model.architecture);
    out.set("general.type", "model");
    if let Some(json) = Json::read_optional(&source.dir.join("generation_config.json"))? {
        sampling(&json, &mut out, notes);
    }
    if let Some(name) = name(&source.dir) {
        out.set("general.name", name);
    }
    out.set("general.size_label", size_label(model.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum()));
    if let Some(license) = for_the_record(source.config.json.text("license"), notes) {
        out.set("general.license", license);
    }
    Ok(out)
}

/// A value that changes nothing of the model: one that is malformed is left out, with a note.
fn for_the_record<T>(value: Result<Option<T>>, notes: &mut Vec<String>) -> Option<T> {
    value.unwrap_or_else(|error| {
        notes.push(format!("{error}; it is left out"));
        None
    })
}

/// The author's sampling defaults, as llama.cpp's converter copies them.
fn sampling(json: &Json, out: &mut Metadata, notes: &mut Vec<String>) {
    let whole = |k: f64| {
        let fits = k.fract() == 0.0 && k >= f64::from(i32::MIN) && k <= f64::from(i32::MAX);
        if fits { Ok(k as i32) } else { Err(json.error("top_k", format!("is {k}, no integer of 32 bits"))) }
    };
    let top_k = json.number("top_k").and_then(|k| k.map(whole).transpose());
    if let Some(k) = for_the_record(top_k, notes) {
        out.set("general.sampling.top_k", k);
    }
    // Without sampling the most likely token is taken, whatever else is set.
    let greedy = json.flag("do_sample");
    if for_the_record(greedy, notes) == Some(false) {
        out.set("general.sampling.temp", 0.0f32);
        return;
    }
    let keys =
        [("top_p", "top_p"), ("min_p", "min_p"), ("temperature", "temp"), ("repetition_penalty", "penalty_repeat")];
    for (field, key) in keys {
        if let Some(value) = for_the_record(json.number(field), notes) {
            out.set(format!("general.sampling.{key}"), value as f32);
        }
    }
}

/// "loam-tiny" becomes "Loam Tiny"; words with capitals or a leading digit stay. A version in a hub's cache
/// (models--OWNER--NAME/snapshots/COMMIT) is called after its repository.
fn name(dir: &Path) -> Option<String> {
    let dir = std::path::absolute(dir).ok()?;
    let text = |dir: &Path| dir.file_name()?.to_str().map(str::to_owned);
    let cached = dir.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent).and_then(text);
    let repository = cached.as_deref().and_then(|name| name.strip_prefix("models--")?.rsplit_once("--"));
    let folder = repository.map(|(_, name)| name.to_owned()).or_else(|| text(&dir))?;
    let words: Vec<String> = folder.replace('-', " ").split_whitespace().map(title).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn title(word: &str) -> String {
    let mut rest = word.chars();
    let version = word.strip_prefix('v').is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    match rest.next() {
        Some(first) if first.is_lowercase() && !version && !word.chars().any(char::is_uppercase) => {
            first.to_uppercase().chain(rest).collect()
        }
        _ => word.to_owned(),
    }
}

/// Parameters in two digits or more: 459K, 7.3M, 1.7B.
fn size_label(parameters: u64) -> String {
    let (scale, suffix) = match parameters {
        n if n > 1_000_000_000_000 => (1e12, "T"),
        n if n > 1_000_000_000 => (1e9, "B"),
        n if n > 1_000_000 => (1e6, "M"),
        _ => (1e3, "K"),
    };
    let scaled = parameters as f64 / scale;
    let digits = match scaled.round() as u64 {
        0 => 2,
        1..=9 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_llama_cpp() {
        assert_eq!(size_label(459_584), "460K");
        assert_eq!(size_label(7_344_384), "7.3M");
        assert_eq!(size_label(1_711_376_384), "1.7B");
        assert_eq!(size_label(400), "0.40K");
    }

    #[test]
    fn names_are_titled() {
        assert_eq!(name(Path::new("/m/loam-tiny")).unwrap(), "Loam Tiny");
        assert_eq!(name(Path::new("/m/models--o--loam-tiny/snapshots/0c0b")).unwrap(), "Loam Tiny");
        assert_eq!(name(Path::new("/m/SmolLM2-135M-instruct-v0.2")).unwrap(), "SmolLM2 135M Instruct v0.2");
    }
}
