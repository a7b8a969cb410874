//! `loam pull`: a repository of a model hub becomes a folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use indicatif::ProgressBar;
use loam_convert::hub::{self, Event, Options, Pulled, Repo};
use serde_json::{Value, json};

use crate::args::PullArgs;
use crate::failure::{Failure, Result};
use crate::output::{Output, bytes, escape};

/// Runs the verb.
pub fn run(args: &PullArgs) -> Result {
    let output = Output::new(args.json.json);
    let repo = Repo::from_str(&args.repo).map_err(Failure::Usage)?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => default_folder(&repo)?,
    };
    let options = Options { files: args.file.clone(), force: args.force, ..options(args.endpoint.as_deref()) };
    let start = Instant::now();
    let pulled = fetch(&repo, &path, &options, output)?;
    report(output, &repo, &pulled, start.elapsed().as_secs_f64())
}

/// What `loam convert` reads: `source` itself if there is such a path or it names no repository, else what was pulled.
pub fn resolve(source: &Path, output: Output) -> Result<PathBuf> {
    // A missing .gguf file is a mistyped path, no repository.
    let local = |text: &str| !text.contains('/') || text.ends_with(".gguf") || source.exists();
    let name = source.to_str().filter(|text| !local(text));
    let Some(repo) = name.and_then(|text| Repo::from_str(text).ok()) else { return Ok(source.to_owned()) };
    let (shown, folder) = (escape(&source.to_string_lossy()), source.parent().unwrap_or(Path::new("")));
    if folder.is_dir() {
        // Who has the one folder means another one in it.
        let message =
            format!("there is no folder {shown}, though there is a folder {}", escape(&folder.to_string_lossy()));
        return Err(Failure::new(
            message,
            format!("check the name; `loam pull {shown}` gets a repository of this name"),
        ));
    }
    let path = default_folder(&repo)?;
    let options = options(None);
    let endpoint = escape(&hub::redacted(&options.endpoint));
    output.warn(&format!("there is no folder {shown}: the repository of this name is pulled from {endpoint}"));
    let pulled = fetch(&repo, &path, &options, output)?;
    let into = escape(&path.to_string_lossy());
    output.note(format!("pulled {} at {} into {into}", escape(&repo.to_string()), pulled.commit));
    Ok(pulled.model())
}

/// `$LOAM_CACHE`, else `loam` in the user's cache folder; in it OWNER/NAME.
fn default_folder(repo: &Repo) -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || {
        if cfg!(windows) {
            return set("LOCALAPPDATA");
        }
        let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(below)))
    };
    let cache = set("LOAM_CACHE").or_else(|| Some(home()?.join("loam")));
    cache
        .map(|cache| cache.join(&repo.name))
        .ok_or_else(|| Failure::Usage("there is no home folder to pull into; give one with -o or LOAM_CACHE".into()))
}

fn options(endpoint: Option<&str>) -> Options {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let named = endpoint.map(str::to_owned).or_else(|| set("LOAM_ENDPOINT")).or_else(|| set("HF_ENDPOINT"));
    let defaults = Options::default();
    Options { endpoint: named.unwrap_or(defaults.endpoint), token: set("HF_TOKEN"), ..defaults }
}

fn fetch(repo: &Repo, path: &Path, options: &Options, output: Output) -> Result<Pulled> {
    let bar = output.transfer_bar("pull");
    let mut told = Instant::now();
    let mut failed = None;
    let mut show = |event: Event<'_>| {
        if let Event::Bytes { .. } = event {
            step(&bar, &event);
            if told.elapsed().as_secs_f64() < 1.0 {
                return;
            }
            told = Instant::now();
        }
        let shown = match &event {
            Event::Note(message) => {
                bar.suspend(|| output.warn(message));
                Ok(())
            }
            Event::Retry { problem, wait } => {
                let wait = wait.as_secs_f32();
                bar.suspend(|| output.note(format!("{}; trying again in {wait} s", escape(problem))));
                output.object(&object(&event))
            }
            _ => {
                step(&bar, &event);
                output.object(&object(&event))
            }
        };
        // The pull continues; that standard error is closed is reported at the end.
        failed = failed.take().or(shown.err());
    };
    let pulled = hub::pull(repo, path, options, &mut show);
    bar.finish_and_clear();
    failed.map_or(Ok(pulled?), Err)
}

fn step(bar: &ProgressBar, event: &Event<'_>) {
    match event {
        Event::File { name, index, files } => bar.set_message(format!("{} ({} of {files})", escape(name), index + 1)),
        Event::Check { name } => bar.set_message(format!("{}, checking", escape(name))),
        Event::Bytes { done, total, .. } => {
            bar.set_length(total.unwrap_or(*done));
            bar.set_position(*done);
        }
        _ => {}
    }
}

fn object(event: &Event<'_>) -> Value {
    match event {
        Event::Pinned { commit } => json!({"event": "pinned", "commit": commit}),
        Event::File { name, index, files } => json!({"event": "file", "name": name, "index": index, "files": files}),
        Event::Bytes { name, done, total } => {
            json!({"event": "progress", "name": name, "bytes": done, "total_bytes": total})
        }
        Event::Check { name } => json!({"event": "check", "name": name}),
        Event::Present { name } => json!({"event": "present", "name": name}),
        Event::Retry { problem, wait } => {
            json!({"event": "retry", "problem": problem, "wait_seconds": wait.as_secs_f64()})
        }
        Event::Note(message) => json!({"event": "note", "message": message}),
    }
}

fn report(output: Output, repo: &Repo, pulled: &Pulled, seconds: f64) -> Result {
    let all: u64 = pulled.files.iter().map(|(_, file)| file.bytes).sum();
    let new = pulled.files.iter().filter(|(_, file)| !file.present).count();
    output.line(format!("model   {}", escape(&pulled.model().to_string_lossy())))?;
    output.line(format!("commit  {}", pulled.commit))?;
    output.line(format!(
        "files   {} ({new} new), {}, all digests checked, in {seconds:.1} s",
        pulled.files.len(),
        bytes(all)
    ))?;
    let files: Vec<Value> = pulled
        .files
        .iter()
        .map(|(name, file)| json!({"name": name, "bytes": file.bytes, "digest": file.digest.hex(), "present": file.present}))
        .collect();
    output.object(&json!({
        "event": "done", "repo": repo.name, "revision": repo.revision, "commit": pulled.commit,
        "output": pulled.path.to_string_lossy(), "model": pulled.model().to_string_lossy(), "files": files, "bytes": all,
        "seconds": seconds,
    }))
}
