//! What to do about an error of the libraries, in a sentence without a full stop. Hints are chosen by the types of
//! errors, never by their texts, and by what is on the disk.

use std::path::Path;

use loam::problem::{CheckpointProblem, DataProblem, DeviceProblem};
use loam_convert::problem as source;
use loam_files::{TensorProblem, kind};
use loam_text::TokenizerProblem;

/// What to do about an error of the converter. Most of its messages say it themselves.
pub fn converter(error: &loam_convert::Error) -> Option<String> {
    use loam_convert::Error as E;
    let hint = match error {
        E::Io { path, source, .. } => return io(path, source),
        E::Hub { problem, .. } => return hub(problem),
        E::Busy { .. } => "wait for it to end, or pull into another folder with -o",
        E::Kept { .. } => "`loam pull .. --force` replaces it; -o pulls into another folder",
        E::Json { .. } | E::Safetensors { .. } => "the file is damaged or was edited; download it again",
        E::Source { path, problem } => return folder(path, problem),
        E::Tensor { problem: source::TensorProblem::NotFinite { .. }, .. } => {
            "--allow-nonfinite converts it all the same"
        }
        E::Tokenizer { problem: source::TokenizerProblem::UnknownPreTokenizer { .. }, .. } => {
            "if you know that another name is right, give it with --pre"
        }
        E::Verify { .. } => "the disk or the memory may be faulty; nothing was put in place",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about a model or an adapter at `path` that is not what it was given for.
fn folder(path: &Path, problem: &source::SourceProblem) -> Option<String> {
    use source::SourceProblem as P;
    let inside = |folders: &[std::path::PathBuf]| folders.last().map(|last| format!("give {}", last.display()));
    let hint = match problem {
        P::NoConfig { file: "adapter_config.json", .. } if path.join("config.json").is_file() => {
            return Some(format!(
                "this is a model folder: `loam convert {} -o base.gguf` makes a base of it",
                path.display()
            ));
        }
        P::NoConfig { file: "config.json", among } => return inside(among).or_else(|| Some(MODEL_FOLDER.to_owned())),
        P::NoConfig { among, .. } => {
            return inside(among).or_else(|| Some("give a folder that PEFT's save_pretrained has written".to_owned()));
        }
        P::Cache { snapshots } => return inside(snapshots),
        P::NoModel | P::NoWeights | P::NoTensors => MODEL_FOLDER,
        P::NoTokenizer => "AutoTokenizer.from_pretrained(..).save_pretrained(FOLDER) writes tokenizer.json",
        P::MissingShard { .. } => "the download is not complete: get the missing files, `loam pull` finds out which",
        P::LfsPointer => return Some(lfs(path)),
        P::DanglingLink => {
            "what it points to was removed, as when a hub's cache is pruned: download it again, or remove the link"
        }
        P::PeftAdapter => "`loam adapter from-peft FOLDER --base MODEL -o ADAPTER.gguf` makes a GGUF adapter of it",
        P::GgufAdapter => "give the model; `loam inspect FILE` shows which base the adapter is for",
        P::ForeignAdapter { .. } => "merge it into its model with that program, and convert the merged model",
        P::ImportanceMatrix => "give it with --imatrix, beside the model",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What can be converted.
const MODEL_FOLDER: &str = "give a folder with config.json, *.safetensors and tokenizer.json, or a .gguf model";

/// What to do about a pointer of Git LFS.
fn lfs(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    format!("run `git lfs pull` in {}, or get the model with `loam pull OWNER/NAME`", folder.display())
}

/// What to do about an error of a hub. What is not here tells it in the message.
fn hub(problem: &loam_convert::hub::HubProblem) -> Option<String> {
    use loam_convert::hub::HubProblem as P;
    let hint = match problem {
        P::Network(_) | P::Timeout(_) | P::Short { .. } => {
            "check the network, the proxy and --endpoint; what came so far is kept, pulling again continues from there"
        }
        P::Digest { .. } | P::Length { .. } => {
            "the server or something on the way sends wrong bytes; try another --endpoint"
        }
        P::Redirect(_) | P::Answer(_) => "check --endpoint and LOAM_ENDPOINT",
        P::Name { .. } => "do not trust this repository",
        P::Choose { .. } | P::NoMatch { .. } => "choose with --file NAME or a pattern such as *q4_k_m*",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error of the runtime.
pub fn runtime(error: &loam::Error) -> Option<String> {
    use loam::Error as E;
    let hint = match error {
        E::File(error) => return file(error),
        E::Text(error) => return text(error),
        E::Data { line, problem, .. } => return data(*line, problem),
        E::CheckpointMismatch { .. } => "give what the run was started with, or another --checkpoint-dir to start over",
        E::Checkpoint { problem: CheckpointProblem::NotAsked, .. } => {
            "--resume continues from it; another --checkpoint-dir starts over"
        }
        E::Checkpoint { problem: CheckpointProblem::Version { .. }, .. } => {
            "finish the run with the version of loam that began it, or start over in another --checkpoint-dir"
        }
        E::Checkpoint { .. } => "`loam inspect FILE` shows what is left of it; another --checkpoint-dir starts over",
        E::Stopped { checkpoint: Some(_), .. } => "the same command with --resume continues",
        E::Stopped { .. } => "--checkpoint-dir DIR keeps what is done",
        E::Device { problem: DeviceProblem::Precision { .. }, .. } => {
            "use --precision f32, or a device whose features name the precision in `loam devices`"
        }
        E::Device { .. } => "`loam devices` lists what there is; `--device cpu` runs anywhere",
        E::OutOfMemory { .. } => "use a smaller --batch or --context, or --device cpu",
        E::PromptTooLong { .. } => "shorten the prompt",
        E::NoTemplate { .. } => "`loam generate --raw` continues a text without one",
        E::EmptyPrompt => {
            "--chat-template FILE uses another template; `loam generate --raw` continues a text without one"
        }
        E::CacheFull { .. } => "use a larger --context",
        E::OverBudget { .. } => "raise --budget, or use a smaller --context or --rank",
        E::Diverged(_) => "the training diverged: lower --lr, or write what there is with --force",
        E::NonFinite(_) => "lower --lr, or check the base and the adapter with `loam eval`",
        E::Worse { .. } => "lower --lr or use more data, or write it all the same with --force",
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error with a file.
fn file(error: &loam_files::Error) -> Option<String> {
    use loam_files::{Error as E, GgufProblem as P};
    let hint = match error {
        E::Io { path, source, .. } if path.extension().is_some_and(|ending| ending == "part") => {
            return part(path, source);
        }
        E::Io { action: "open", path, .. } if is_name_on_a_hub(path) => return Some(from_hub(path)),
        E::Io { path, source, .. } => return io(path, source),
        E::Kind { found, wanted, .. } => return kind(found, wanted),
        E::MissingShard { .. } => "the download is not complete: all shards of a model belong into one folder",
        E::Gguf { path, problem: P::BadMagic, .. } if is_part_of_a_folder(path) => {
            return path.parent().map(in_place_of_a_file);
        }
        E::Gguf { problem: P::BadMagic, .. } => {
            "give a .gguf file; `loam convert FOLDER -o base.gguf` makes one from a Hugging Face model folder"
        }
        E::Gguf { path, problem: P::LfsPointer, .. } => return Some(lfs(path)),
        E::Gguf { .. } => "the file is damaged or lies about its contents; download or convert it again",
        E::Tensor { problem: TensorProblem::Type { .. }, .. } => {
            "loam computes with f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, iq4_xs and mxfp4; \
             convert the original model to one of them"
        }
        E::Tensor { problem: TensorProblem::Unknown, .. } => {
            "the model has parts that loam does not compute; docs/models.md names the families that it does"
        }
        E::Metadata { .. } | E::Tensor { .. } => {
            "`loam inspect FILE --tensors` shows what the file holds; convert the model again if it is damaged"
        }
        E::Adapter { .. } => "`loam inspect FILE` shows what the adapter holds; train or import it again",
        E::BaseMismatch { .. } | E::OtherWeights { .. } => {
            "give the base that the adapter was trained on, or train it on this one; --any-base uses it all the same"
        }
        E::Changed { .. } | E::Cut { .. } => {
            "let no other program write to it, and run again; a copy is safe from them"
        }
        E::OldImportance { .. } => {
            "`llama-imatrix --in-file OLD.dat --output-format gguf -o NEW.gguf` makes one that loam reads"
        }
        E::NonFinite(_) => "lower --lr, or check the base and the adapter with `loam eval`",
        E::Threads(_) => "the system gives no more threads: raise `ulimit -u`, or the container's limit of processes",
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do with a file of the kind `found` where one of the kind `wanted` was asked for.
fn kind(found: &str, wanted: &str) -> Option<String> {
    let hint = match (found, wanted) {
        (kind::ADAPTER, kind::MODEL) => "give the base here, and this file with --adapter",
        (kind::MODEL, kind::ADAPTER) => "this is a base; adapters come from `loam train` or `loam adapter from-peft`",
        (kind::IMPORTANCE, _) => "give it to `loam convert` with --imatrix",
        ("checkpoint", _) => "`loam train --resume` continues the run that has left it",
        _ => "`loam inspect FILE` shows what the file holds",
    };
    Some(hint.to_owned())
}

/// What to do about an error with text or tokens.
fn text(error: &loam_text::Error) -> Option<String> {
    use loam_text::Error as E;
    let hint = match error {
        E::File(error) => return file(error),
        E::Tokenizer(TokenizerProblem::UnknownPreTokenizer { .. } | TokenizerProblem::NoPreTokenizer) => {
            "the file is sound, but loam does not know how it splits text; `loam convert --pre NAME` names a way"
        }
        E::Tokenizer(TokenizerProblem::UnknownModel { .. }) => {
            "the file is sound, but loam cannot compute with its tokenizer; give a model with a BPE or SentencePiece one"
        }
        E::Template(_) => "--chat-template FILE uses another template instead of the one in the base",
        E::Tokenizer(_) => {
            "`loam inspect FILE --tensors` shows what the file holds; convert the model again if it is damaged"
        }
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What a line of a data file is.
const LINE_FORMAT: &str = "a line is {\"messages\":[{\"role\":..,\"content\":..},..]}, \
    {\"prompt\":..,\"completion\":..} or {\"text\":..}; --skip-bad N allows N wrong lines";

/// What to do about a data file, or a line of it. What is not here tells it in the message.
fn data(line: usize, problem: &DataProblem) -> Option<String> {
    use DataProblem as P;
    let hint = match problem {
        P::Keys { mapping: Some(mapping), .. } => return Some(format!("--map {mapping} reads it so")),
        P::Keys { .. } => {
            return Some(format!("{LINE_FORMAT}; --map prompt=KEY,completion=KEY says what other keys stand for"));
        }
        P::Form(_) | P::NoUsableLine { .. } => LINE_FORMAT,
        P::NothingTrained { .. } => "raise --context, or see that the conversations have answers",
        P::Template(_) => {
            "--chat-template FILE uses another template instead of the one in the base; --skip-bad N allows N wrong lines"
        }
        _ if line > 0 => "--skip-bad N allows N wrong lines",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about a failed system call on an unfinished download, which stays.
fn part(path: &Path, error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind as K;
    let full = matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::FileTooLarge);
    if full { Some("free some space and pull again: it continues where it ended".to_owned()) } else { io(path, error) }
}

/// What to do about a failed system call on `path`.
fn io(path: &Path, error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::IsADirectory | K::InvalidInput if path.is_dir() => return Some(in_place_of_a_file(path)),
        K::NotFound => "check the path; loam does not create missing folders",
        K::PermissionDenied => "check who may read and write there",
        K::FileTooLarge => {
            "raise the limit of file sizes (`ulimit -f`), or write to a file system that takes larger files"
        }
        K::StorageFull | K::QuotaExceeded => "free some space or write to another disk; nothing half-written is left",
        K::InvalidInput => "give a regular file: no folder, pipe or device",
        K::NotADirectory => "give a folder, not a file",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Whether the file at `path` is a part of a folder of Transformers or PEFT.
fn is_part_of_a_folder(path: &Path) -> bool {
    let part = path.extension().is_some_and(|ending| ending == "safetensors" || ending == "json" || ending == "bin");
    let beside = |name: &&str| path.parent().is_some_and(|folder| folder.join(name).is_file());
    part && ["adapter_config.json", "config.json"].iter().any(beside)
}

/// What to do with the name of a model on a hub.
fn from_hub(path: &Path) -> String {
    let name = path.display();
    format!("if this is a model on a hub: `loam convert {name} -o base.gguf` gets it and makes a base of it")
}

/// Whether a path that leads nowhere could be `OWNER/NAME`.
fn is_name_on_a_hub(path: &Path) -> bool {
    let names: Vec<_> = path.components().collect();
    let plain = names.iter().all(|name| matches!(name, std::path::Component::Normal(_)));
    let file = path.extension().is_some_and(|ending| {
        ["gguf", "json", "jsonl", "txt", "npy", "html", "jinja"].iter().any(|known| ending.eq_ignore_ascii_case(known))
    });
    names.len() == 2 && plain && !file && path.parent().is_some_and(|folder| !folder.exists())
}

/// What to do with a folder that was given where a file is read: by what lies in it.
fn in_place_of_a_file(folder: &Path) -> String {
    let shown = folder.display();
    if folder.join("adapter_config.json").is_file() {
        return match loam_convert::peft::method(folder) {
            Ok(_) => format!(
                "this is a PEFT folder: `loam adapter from-peft {shown} --base MODEL -o ADAPTER.gguf` makes a GGUF adapter of it"
            ),
            // Of another program, or of a method that from-peft would refuse.
            Err(error) => format!("this is the folder of an adapter that loam cannot read: {error}"),
        };
    }
    if folder.join("config.json").is_file() || folder.join("snapshots").is_dir() {
        return format!("this is a model folder: `loam convert {shown} -o base.gguf` makes a base of it");
    }
    let ends = |name: &str| name.to_ascii_lowercase().ends_with(".gguf");
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<String> = entries.filter(|name| ends(name)).collect();
    files.sort();
    match files.as_slice() {
        [] => "give a file, not a folder".to_owned(),
        [only] => format!("give the file in it: {}", folder.join(only).display()),
        [first, ..] => format!("give one of the {} .gguf files in it, {first} for one", files.len()),
    }
}
