//! What a trained adapter says about itself: `loam.*` metadata that ties it to its base, data and result.

use crate::adapter::{AdapterFile, BASE_DIGEST, BASE_NAME, TEMPLATE_DIGEST, Targets, Tuning};
use crate::error::Result;
use crate::gguf::Value;

use super::{Job, Outcome};

/// The metadata of `adapter`, which a run of `job` has trained.
///
/// # Errors
/// If the base's tokenizer cannot be read, or if another program has written to the base meanwhile.
pub fn describe(job: &Job<'_>, adapter: &AdapterFile, outcome: &Outcome) -> Result<Vec<(String, Value)>> {
    let Job { base, data, options, .. } = job;
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut set = |key: &str, value: Value| all.push((key.to_owned(), value));
    set("general.name", Value::from("loam adapter"));
    // Where the adapter came from that this one started from.
    if let Some(name) = job.start.as_ref().and_then(|start| start.text(BASE_NAME)) {
        set(BASE_NAME, Value::from(name));
    }
    set("loam.version", Value::from(env!("CARGO_PKG_VERSION")));
    set(BASE_DIGEST, Value::from(base.digest()?));
    base.check_unchanged()?;
    if let Some(file_type) = base.gguf().opt_u32("general.file_type")? {
        set("loam.base.file_type", Value::U32(file_type));
    }
    base.model_metadata()?.into_iter().for_each(|(key, value)| set(&key, value));
    if let Some(template) = base.template()? {
        set(TEMPLATE_DIGEST, Value::from(template.digest()));
    }
    // Of the adapter itself: one that was given to start from brings its own method and targets.
    let method = adapter.method;
    set("loam.method", Value::from(method.name));
    (Tuning::for_method(method).facts)(adapter).into_iter().for_each(|(key, value)| set(key, value));
    set(&format!("loam.{}.targets", method.name), Value::from(Targets::changed_by(adapter, base.gguf()).to_string()));
    set("loam.optimizer", Value::from(options.optimizer.name()));
    set("loam.seed", Value::U64(options.seed));
    set("loam.data.digest", Value::from(data.digest.as_str()));
    set("loam.steps", Value::U64(outcome.steps));
    // Fewer than the steps where the held-out loss rose again.
    set("loam.adapter_step", Value::U64(outcome.adapter_step));
    set("loam.trained_tokens", Value::U64(outcome.trained_tokens));
    set("loam.loss.first", Value::F64(outcome.loss_first));
    set("loam.loss.last", Value::F64(outcome.loss_last));
    for (key, loss) in [("before", outcome.eval_loss_before), ("after", outcome.eval_loss_after)] {
        if let Some(loss) = loss {
            set(&format!("loam.eval_loss.{key}"), Value::F64(loss));
        }
    }
    Ok(all)
}
