//! `loam adapter`: PEFT in, PEFT out, and whether an adapter fits a base.

use std::path::{Path, PathBuf};

use loam::Base;
use loam::adapter::AdapterFile;
use loam::file::AtomicFile;
use serde_json::json;

use crate::args::{AdapterCommand, ExchangeArgs, VerifyArgs};
use crate::failure::{Failure, Result};
use crate::output::{Output, escape};
use crate::{files, model};

/// What a PEFT folder consists of.
const PEFT_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Runs the verb.
pub fn run(command: &AdapterCommand) -> Result {
    match command {
        AdapterCommand::FromPeft(args) => from_peft(args),
        AdapterCommand::ToPeft(args) => to_peft(args),
        AdapterCommand::Verify(args) => verify(args),
    }
}

fn from_peft(args: &ExchangeArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = AtomicFile::create(&args.output)?;
    start(output, "from-peft", &args.source)?;
    let base = Base::open(&args.base)?;
    opened(output, &args.base)?;
    let mut adapter = loam_convert::read_peft(&args.source, base.file())?;
    // It was trained on the weights before quantisation: bound to the model, to no bytes.
    adapter.metadata.extend(base.model_metadata()?);
    adapter.write_to(file)?;
    adapter.notes(base.gguf()).iter().for_each(|note| output.warn(note));
    report(output, args, &adapter)
}

fn to_peft(args: &ExchangeArgs) -> Result {
    // A folder that is not there yet holds nothing that could be overwritten.
    if args.output.is_dir() {
        let outputs = PEFT_FILES.map(|name| args.output.join(name));
        files::check(&[&args.source, &args.base], &outputs.each_ref().map(PathBuf::as_path))?;
    } else {
        new_folder(&args.output)?;
    }
    let output = Output::new(args.json.json);
    start(output, "to-peft", &args.source)?;
    let base = model::taking(Base::open(&args.base)?, args.origin);
    opened(output, &args.base)?;
    let adapter = AdapterFile::read(&args.source)?;
    base.check(&adapter, &args.source)?.iter().for_each(|note| output.warn(note));
    checked(output, &adapter)?;
    loam_convert::write_peft(&adapter, &args.source, base.file(), &args.output)?;
    report(output, args, &adapter)
}

/// Fails now if the folder `path` could not be made after the work.
fn new_folder(path: &Path) -> Result {
    if path.exists() {
        let message = format!("cannot write {}: it is a file, not a folder", path.display());
        return Err(Failure::new(message, "give the name of a folder"));
    }
    // A folder is made where a file could be written.
    files::check(&[], &[path])
}

fn start(output: Output, work: &str, adapter: &Path) -> Result {
    output.object(&json!({"event": "start", "work": work, "adapter": adapter.to_string_lossy()}))
}

fn opened(output: Output, base: &Path) -> Result {
    output.object(&json!({"event": "opened", "base": base.to_string_lossy()}))
}

/// Checking takes the digest of the whole base.
fn checked(output: Output, adapter: &AdapterFile) -> Result {
    output.object(&json!({"event": "checked", "layers": adapter.sites().len()}))
}

fn report(output: Output, args: &ExchangeArgs, adapter: &AdapterFile) -> Result {
    let (sites, written) = (adapter.sites().len(), args.output.to_string_lossy());
    let mut object = json!({"event": "done", "output": written, "layers": sites, "method": adapter.method.name});
    let mut line = format!("{}: {sites} layers", escape(&written));
    for setting in &adapter.settings {
        line.push_str(&format!(", {} {}", setting.name(), setting.value));
        object[setting.name()] = json!(setting.value);
    }
    output.line(line)?;
    output.object(&object)
}

fn verify(args: &VerifyArgs) -> Result {
    let output = Output::new(args.json.json);
    start(output, "verify", &args.adapter)?;
    let base = model::taking(Base::open(&args.base)?, args.origin);
    opened(output, &args.base)?;
    let adapter = AdapterFile::read(&args.adapter)?;
    let notes = base.check(&adapter, &args.adapter)?.into_iter().chain(base.check_template(&adapter, &args.adapter)?);
    notes.for_each(|note| output.warn(&note));
    checked(output, &adapter)?;
    adapter.notes(base.gguf()).iter().for_each(|note| output.warn(note));
    let digest = base.digest()?;
    // Adapters from elsewhere do not say which bytes they were trained on.
    let known = adapter.text(loam::adapter::BASE_DIGEST);
    let how = match known {
        Some(known) if known == digest => "digests, names and shapes agree",
        Some(_) => "names and shapes agree; it was trained on other bytes",
        None => "names and shapes agree; it names no base digest",
    };
    let (known, same) = (known.is_some(), known == Some(digest));
    output.line(format!("{} fits {}: {how}", show(&args.adapter), show(&args.base)))?;
    output.object(&json!({
        "event": "done", "fits": true, "digest_checked": known, "same_bytes": same, "base_digest": digest,
        "layers": adapter.sites().len(),
    }))
}

fn show(path: &Path) -> String {
    escape(&path.to_string_lossy())
}
