//! Which files of a repository are pulled, and which names a server may give a file.

use super::problem::HubProblem;

/// Most bytes of one part of a path: file systems take 255, and what is added while pulling needs some.
const MAX_PART: usize = 200;
/// Most bytes of a path.
const MAX_PATH: usize = 1024;
/// Endings of files that hold, or may hold, Python pickles.
const PICKLES: [&str; 9] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle", "joblib", "npy", "npz"];
/// Names that mean devices on Windows, with any ending.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Checks that `name` is a plain relative path that every system can store and that stays below its folder.
///
/// # Errors
/// [`HubProblem::Name`].
pub fn check(name: &str) -> Result<(), HubProblem> {
    let refuse = |why| Err(HubProblem::Name { name: name.chars().take(100).collect(), why });
    if name.len() > MAX_PATH {
        return refuse("it is too long");
    }
    if name.contains(|c: char| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%')) {
        return refuse("it has a character that is not for file names");
    }
    for part in name.split('/') {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let numbered = |device| stem.strip_prefix(device).is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']));
        let why = match part {
            "" => "it is absolute or has an empty part",
            "." | ".." => "it leads out of its folder",
            ".loam-pull" => "loam keeps its own files there",
            _ if part.len() > MAX_PART => "it is too long",
            _ if part.ends_with(['.', ' ']) || part.starts_with(' ') => "it begins or ends with a space or a dot",
            _ if DEVICES.contains(&&*stem) || numbered("com") || numbered("lpt") => "it is reserved for a device",
            _ => continue,
        };
        return refuse(why);
    }
    Ok(())
}

/// Checks all names, and that no two differ in case only: some file systems would make one file of them.
///
/// # Errors
/// [`HubProblem::Name`].
pub fn check_all(names: &[String]) -> Result<(), HubProblem> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        check(name)?;
        if !seen.insert(name.to_lowercase()) {
            return Err(HubProblem::Name { name: name.clone(), why: "it differs from another one in case only" });
        }
    }
    Ok(())
}

/// What to pull first. If `index` is set, the weights are the files that this index names.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// File names as in the repository.
    pub files: Vec<String>,
    /// The safetensors index among them.
    pub index: Option<String>,
    /// Pickles that a pattern matched and that are not pulled.
    pub pickles: Vec<String>,
}

/// Chooses from all `names` of a repository: those that match a pattern, or without patterns what a conversion needs.
///
/// # Errors
/// [`HubProblem::Nothing`] if there is nothing of it, with what there is instead.
pub fn select(names: &[String], patterns: &[String]) -> Result<Selection, HubProblem> {
    if patterns.is_empty() { model(names) } else { matching(names, patterns) }
}

fn matching(names: &[String], patterns: &[String]) -> Result<Selection, HubProblem> {
    let mut chosen: Vec<&String> = Vec::new();
    for pattern in patterns {
        let before = chosen.len();
        chosen.extend(names.iter().filter(|name| matches(pattern.as_bytes(), name.as_bytes())));
        if chosen.len() == before {
            let there = Box::new(what_there_is(names));
            return Err(HubProblem::NoMatch { pattern: pattern.clone(), there });
        }
    }
    // A split is of use as a whole only.
    let splits: Vec<(&str, &str)> = chosen.iter().filter_map(|name| split_of(name)).collect();
    chosen.extend(names.iter().filter(|name| split_of(name).is_some_and(|split| splits.contains(&split))));
    chosen.sort();
    chosen.dedup();
    let (pickles, files): (Vec<&String>, Vec<&String>) = chosen.into_iter().partition(|name| is_pickle(name));
    if files.is_empty() {
        let name = pickles.first().map_or("", |name| name);
        let why = "may hold a Python pickle, which can run code when it is read; loam does not pull such files";
        return Err(HubProblem::Nothing(format!("{name} {why}")));
    }
    let owned = |list: Vec<&String>| list.into_iter().cloned().collect();
    Ok(Selection { files: owned(files), index: None, pickles: owned(pickles) })
}

fn model(names: &[String]) -> Result<Selection, HubProblem> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let mut files: Vec<String> = names.iter().filter(|name| is_small(name)).cloned().collect();
    let single = ["model.safetensors", "adapter_model.safetensors"].into_iter().find(|name| has(name));
    let index = "model.safetensors.index.json";
    let mut ggufs = names.iter().filter(|name| name.ends_with(".gguf"));
    // One file wins over an index, as where the folder is read.
    if let Some(weights) = single {
        files.push(weights.into());
    } else if has(index) {
        files.push(index.into());
        return Ok(Selection { files, index: Some(index.into()), pickles: Vec::new() });
    } else {
        match (ggufs.next(), ggufs.next()) {
            (Some(only), None) => files.push(only.clone()),
            _ => return Err(what_there_is(names)),
        }
    }
    Ok(Selection { files, index: None, pickles: Vec::new() })
}

/// What a conversion reads, and what tells people about the model, beside the weights.
fn is_small(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "adapter_config.json",
        "README.md",
    ];
    const STARTS: [&str; 6] = ["tokenizer", "chat_template", "spiece.", "LICENSE", "LICENCE", "NOTICE"];
    let starts = STARTS.iter().any(|start| name.starts_with(start));
    NAMES.contains(&name) || (starts && !name.contains('/') && !is_pickle(name))
}

fn is_pickle(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    PICKLES.contains(&&*ending)
}

/// `NAME-00001-of-00003.gguf`: NAME and the count's digits.
fn split_of(name: &str) -> Option<(&str, &str)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(count)).then_some((stem, count))
}

/// For messages about a repository without the files asked for.
fn what_there_is(names: &[String]) -> HubProblem {
    const MOST: usize = 12;
    let ggufs: Vec<&str> = names.iter().filter(|n| n.ends_with(".gguf")).map(String::as_str).collect();
    if !ggufs.is_empty() {
        let more = if ggufs.len() > MOST { ", .." } else { "" };
        let list = ggufs[..ggufs.len().min(MOST)].join(", ");
        return HubProblem::Choose { files: format!("{list}{more}") };
    }
    HubProblem::Nothing(match names.iter().find(|name| is_pickle(name)) {
        Some(name) => format!(
            "holds weights as Python pickles only ({name}), which can run code when they are read; \
             look for a copy with safetensors, or save it so: save_pretrained(.., safe_serialization=True)"
        ),
        None => "holds no model.safetensors, no index of one and no .gguf".into(),
    })
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters and `?` for one; letters in any case.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to continue if the last star has to take one byte more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c.eq_ignore_ascii_case(&name[n]) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
