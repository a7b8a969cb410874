//! Every metadata key about the rotation that llama.cpp reads for the architectures here: followed, or the file is
//! refused by the key's name. None is passed over.

use super::fields::Fields;
use crate::error::Result;
use crate::gguf::Value;

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    /// It is read where it counts.
    Followed,
    /// It says how a model was made, not what it computes.
    Told,
    /// It may have this value, with which it changes nothing.
    Only(f32),
    /// It may have the value of this key, with which it changes nothing.
    As(&'static str),
}

/// What all keys about the rotation begin with.
const PREFIX: &str = "rope.";

/// All keys, after the prefix.
const KEYS: [(&str, Use); 16] = [
    ("dimension_count", Use::Followed),
    ("dimension_count_swa", Use::As("rope.dimension_count")),
    ("freq_base", Use::Followed),
    ("freq_base_swa", Use::Followed),
    ("scale_linear", Use::Followed),
    ("scaling.type", Use::Followed),
    ("scaling.factor", Use::Followed),
    ("scaling.attn_factor", Use::Followed),
    ("scaling.original_context_length", Use::Followed),
    ("scaling.yarn_beta_fast", Use::Followed),
    ("scaling.yarn_beta_slow", Use::Followed),
    ("scaling.finetuned", Use::Told),
    ("scaling.alpha", Use::Only(0.0)),
    ("scaling.yarn_ext_factor", Use::Only(1.0)),
    ("scaling.yarn_attn_factor", Use::Only(1.0)),
    ("scaling.yarn_log_multiplier", Use::Only(0.0)),
];

/// Refuses what the rotation of this file would need and is not computed. `has_local_base`: windowed layers have a base
/// of their own.
pub(super) fn check(fields: &Fields<'_>, has_local_base: bool) -> Result<()> {
    let prefix = fields.key(PREFIX);
    for (key, value) in fields.gguf.metadata().iter() {
        let Some(name) = key.strip_prefix(&prefix) else { continue };
        let suffix = format!("{PREFIX}{name}");
        match KEYS.iter().find(|(known, _)| *known == name).map(|(_, used)| *used) {
            Some(Use::Followed) if name == "freq_base_swa" && !has_local_base => {
                same(fields, &suffix, "rope.freq_base")?
            }
            Some(Use::Followed | Use::Told) => {}
            Some(Use::As(other)) => same(fields, &suffix, other)?,
            Some(Use::Only(usual)) => match fields.gguf.opt_f32(key)? {
                Some(found) if found != usual => {
                    return Err(fields.bad(&suffix, format!("{found} is not supported, only {usual}")));
                }
                _ => {}
            },
            None if name == "dimension_sections" && is_zero(value) => {}
            None => return Err(fields.bad(&suffix, "is not known to loam: the rotation would be another".into())),
        }
    }
    Ok(())
}

/// Fails unless the key has the value of `other`.
fn same(fields: &Fields<'_>, suffix: &str, other: &str) -> Result<()> {
    let metadata = fields.gguf.metadata();
    if metadata.get(&fields.key(suffix)) == metadata.get(&fields.key(other)) {
        return Ok(());
    }
    Err(fields.bad(suffix, format!("differs from {}, which is not supported here", fields.key(other))))
}

/// Sections of 0 (of models that see images) are none.
fn is_zero(value: &Value) -> bool {
    use crate::gguf::Array;
    match value {
        Value::Array(Array::I32(sections)) => sections.iter().all(|section| *section == 0),
        Value::Array(Array::U32(sections)) => sections.iter().all(|section| *section == 0),
        _ => false,
    }
}
