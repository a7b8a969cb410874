//! Options of an adapter_config.json: every one is read, known to leave the computation as it is, or refused by name.

use serde_json::Value;

use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

/// Checks that all options of `json` are `known`, off, or `refused` and off; those come with why they are.
pub(super) fn check(json: &Json, known: &[&[&str]], refused: &[(&str, &str)]) -> Result<()> {
    for (key, why) in refused {
        if let Some(value) = json.get(key).filter(|value| !off(value)) {
            return Err(json.error(key, format!("is {}, which cannot be converted: {why}", brief(value))));
        }
    }
    let known =
        |key: &str| known.iter().any(|list| list.contains(&key)) || refused.iter().any(|(name, _)| *name == key);
    let on = |key: &&str| json.get(key).is_some_and(|value| !off(value));
    match json.keys().find(|key| !known(key) && on(key)) {
        None => Ok(()),
        Some(key) => {
            let problem = "is no option that loam knows: it may change what the adapter computes";
            Err(Error::field(&json.path, key.escape_debug().to_string(), problem))
        }
    }
}

/// Whether an option with this value does nothing.
fn off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
