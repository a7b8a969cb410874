//! What of a trained answer does not reach the text: a model cannot learn it.

use crate::chat::{Message, Part};
use crate::problem::DataProblem;

use super::Notes;

/// Checks the `parts` of an answer that a template writes.
///
/// # Errors
/// A call is left out, or its arguments: the model would learn to end its turn instead.
pub(super) fn check(message: &Message, parts: &[Part], notes: &mut Notes) -> Result<(), DataProblem> {
    for (number, call) in message.tool_calls.iter().enumerate() {
        let index = u16::try_from(number).unwrap_or(u16::MAX);
        let arguments = call.get("function").unwrap_or(call).get("arguments");
        let bare = arguments.is_none_or(|arguments| !has_text(arguments)) || parts.contains(&Part::Arguments(index));
        if !parts.contains(&Part::Call(index)) || !bare {
            let what = if parts.contains(&Part::Call(index)) { "the arguments of " } else { "" };
            let problem = format!("the chat template leaves out {what}call {}", number + 1);
            return Err(DataProblem::Template(problem));
        }
    }
    let blank = |text: &str| text.trim().is_empty();
    notes.contentless += usize::from(!blank(&message.content) && !parts.contains(&Part::Content));
    let thought = message.reasoning_content.as_deref().is_some_and(|thought| !blank(thought));
    notes.thoughtless += usize::from(thought && !parts.contains(&Part::Reasoning));
    Ok(())
}

/// Whether there is text in a value, which leaves a trace.
fn has_text(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => !text.trim().is_empty(),
        serde_json::Value::Array(list) => list.iter().any(has_text),
        serde_json::Value::Object(map) => map.keys().any(|key| !key.trim().is_empty()),
        _ => false,
    }
}
