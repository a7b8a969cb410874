//! One line of a .jsonl file.
//!
//! Policy: a key that is given twice is an error; unknown keys are ignored (data sets carry ids), but a line
//! needs exactly one of the known shapes. Unknown values are skipped without recursion, whatever their depth.

use serde::Deserialize;

use super::preference::{Preference, Said, joined};
use super::{Mapping, Records};
use crate::chat::Message;
use crate::problem::DataProblem;
use loam_text::object;

/// Roles that a message can have.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// What a line holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// A conversation.
    Messages(Conversation),
    /// A question and its answer.
    Completion {
        /// The question.
        prompt: String,
        /// The answer.
        completion: String,
    },
    /// A better and a worse answer.
    Preference(Preference),
    /// Plain text.
    Text(String),
}

impl Record {
    /// What it is a record of.
    pub(super) fn records(&self) -> Records {
        match self {
            Record::Messages(_) | Record::Completion { .. } => Records::Answers,
            Record::Preference(_) => Records::Preferences,
            Record::Text(_) => Records::Texts,
        }
    }
}

/// Messages and what they may call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// A list of descriptions, as templates take it.
    pub(super) tools: Option<serde_json::Value>,
    /// Whether the file says of a message that it is not trained on.
    pub(super) weighted: bool,
}

impl Conversation {
    /// Messages as a file has them.
    pub(super) fn new(messages: Vec<Message>, tools: Option<serde_json::Value>) -> Self {
        let weighted = messages.iter().any(|message| message.untrained);
        Conversation { messages, tools, weighted }
    }
}

#[derive(Deserialize)]
struct Line {
    messages: Option<Vec<Message>>,
    tools: Option<Vec<serde_json::Value>>,
    prompt: Option<Said>,
    completion: Option<Said>,
    text: Option<String>,
    chosen: Option<Said>,
    rejected: Option<Said>,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, without file and line.
pub(super) fn parse(line: &[u8], mapping: Option<&Mapping>) -> Result<Record, DataProblem> {
    let form = |problem: String| DataProblem::Form(problem);
    let text = std::str::from_utf8(line).map_err(|e| form(format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
    let line = match mapping {
        None => read(text),
        Some(mapping) => mapped(text, mapping),
    };
    let record = line.map_err(form)?.record().map_err(|problem| other_form(text, problem))?;
    check(&record).map_err(form)?;
    Ok(record)
}

/// A line with other keys than ours, as `mapping` says what they are.
fn mapped(text: &str, mapping: &Mapping) -> Result<Line, String> {
    let line: serde_json::Map<_, _> = serde_json::from_str(text).map_err(|e| told(&e))?;
    let line = serde_json::Value::Object(mapping.apply(line));
    object::read(line, "a line").map_err(|e| told(&e))
}

/// What is wrong with a line that has none of our forms: its keys, and how they could be mapped.
fn other_form(text: &str, problem: String) -> DataProblem {
    let Ok(line) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) else {
        return DataProblem::Form(problem);
    };
    let keys: Vec<String> = line.keys().map(|key| key.chars().take(40).collect()).take(20).collect();
    let first = line.values().find_map(|value| value.as_array()?.first()?.as_object());
    let inner: Vec<String> = first.into_iter().flat_map(|map| map.keys().cloned()).collect();
    let mapping = Mapping::for_keys(&keys, &inner);
    let found = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
    DataProblem::Keys { problem, found, mapping: mapping.map(|mapping| mapping.to_string()) }
}

/// Reads the keys of a line.
fn read(text: &str) -> Result<Line, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let line = object::read::<_, Line>(&mut reader, "a line").and_then(|line| reader.end().map(|()| line));
    line.map_err(|e| told(&e))
}

/// What a reader says of a line. It is one document to the reader, whose own "line 1" would contradict the line in the
/// message.
fn told(error: &serde_json::Error) -> String {
    let message = error.to_string().replace(" at line 1 column ", " at column ");
    format!("{}: {message}", if error.is_data() { "unexpected value" } else { "not valid JSON" })
}

impl Line {
    /// The record that the line's keys say it is.
    fn record(self) -> Result<Record, String> {
        let tools = self.tools.map(serde_json::Value::Array);
        let Self { messages, prompt, completion, text, chosen, rejected, .. } = self;
        match (messages, prompt, completion, text, chosen, rejected) {
            (Some(messages), None, None, None, None, None) => Ok(Record::Messages(Conversation::new(messages, tools))),
            (None, Some(Said::Text(prompt)), Some(Said::Text(completion)), None, None, None) => {
                Ok(Record::Completion { prompt, completion })
            }
            (None, Some(Said::Messages(prompt)), Some(Said::Messages(completion)), None, None, None) => {
                Ok(Record::Messages(joined(&prompt, &completion, tools)))
            }
            (None, Some(_), Some(_), None, None, None) => {
                Err("prompt and completion must be both texts or both lists of messages".into())
            }
            (None, prompt, None, None, Some(chosen), Some(rejected)) => {
                Preference::new(prompt, chosen, rejected, tools).map(Record::Preference)
            }
            (None, None, None, Some(text), None, None) => Ok(Record::Text(text)),
            _ => {
                Err("expected exactly one of: messages; prompt and completion; prompt, chosen and rejected; text"
                    .into())
            }
        }
    }
}

fn check(record: &Record) -> Result<(), String> {
    let is_blank = |text: &str| text.trim().is_empty();
    match record {
        Record::Messages(conversation) => check_conversation(conversation),
        Record::Completion { completion, .. } if is_blank(completion) => Err("completion is empty".into()),
        Record::Preference(Preference::Texts { chosen, .. }) if is_blank(chosen) => Err("chosen is empty".into()),
        Record::Preference(Preference::Texts { rejected, .. }) if is_blank(rejected) => Err("rejected is empty".into()),
        Record::Preference(Preference::Conversations { chosen, rejected }) => {
            check_conversation(chosen).map_err(|problem| format!("chosen: {problem}"))?;
            check_conversation(rejected).map_err(|problem| format!("rejected: {problem}"))
        }
        Record::Text(text) if is_blank(text) => Err("text is empty".into()),
        _ => Ok(()),
    }
}

fn check_conversation(Conversation { messages, .. }: &Conversation) -> Result<(), String> {
    if messages.is_empty() {
        return Err("messages is empty".into());
    }
    messages.iter().enumerate().try_for_each(|(i, message)| {
        if !ROLES.contains(&message.role.as_str()) {
            let role: String = message.role.chars().take(40).collect();
            return Err(format!("message {} has the unknown role {role:?}; known: {}", i + 1, ROLES.join(", ")));
        }
        if message.role == "assistant" && message.content.trim().is_empty() && message.tool_calls.is_empty() {
            return Err(format!("message {} (assistant) is empty", i + 1));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> Result<Record, String> {
        super::parse(line, None).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_three_shapes() {
        let messages =
            parse(br#"{"id":7,"messages":[{"role":"user","content":"a","x":1},{"role":"assistant","content":"b"}]}"#);
        let mut expected = vec![Message::new("user", "a"), Message::new("assistant", "b")];
        expected[0].extra.insert("x".into(), 1.into());
        assert_eq!(messages, Ok(Record::Messages(Conversation::new(expected, None))));
        let calls = parse(
            br#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"name":"f"}]}],"tools":[{"name":"f"}]}"#,
        );
        let mut call = Message { tool_calls: vec![serde_json::json!({"name": "f"})], ..Message::new("assistant", "") };
        call.extra.insert("content".into(), serde_json::Value::Null);
        let tools = Some(serde_json::json!([{"name": "f"}]));
        assert_eq!(calls, Ok(Record::Messages(Conversation::new(vec![call], tools))));
        for (key, untrained) in
            [("weight\":0", true), ("weight\":1", false), ("train\":false", true), ("training\":true", false)]
        {
            let line = format!("{{\"messages\":[{{\"role\":\"assistant\",\"content\":\"b\",\"{key}}}]}}");
            let messages = vec![Message { untrained, ..Message::new("assistant", "b") }];
            assert_eq!(parse(line.as_bytes()), Ok(Record::Messages(Conversation::new(messages, None))));
        }
        let completion = parse(br#" {"prompt":"","completion":"b","text":null} "#);
        assert_eq!(completion, Ok(Record::Completion { prompt: String::new(), completion: "b".into() }));
        assert_eq!(parse(b"{\"text\":\"a\\u0000\"}"), Ok(Record::Text("a\0".into())));
    }

    #[test]
    fn bad_lines_say_why() {
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let cases: [(&[u8], &str); 29] = [
            (b"{\"text\":\"a\"", "not valid JSON"),
            (b"{\"text\":\"a\"} x", "not valid JSON"),
            (b"[]", "expected a line that is a JSON object"),
            (b"[[1]]", "expected a line that is a JSON object"),
            (b"[null,null,null,null,\"a\",null,null]", "expected a line that is a JSON object"),
            (b"{\"messages\":[[\"user\",\"a\"]]}", "expected a message that is a JSON object"),
            (b"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0.5}]}", "only 0 and 1"),
            (b"1", "unexpected value"),
            (b"{}", "expected exactly one of"),
            (b"{\"text\":\"a\",\"prompt\":\"b\"}", "expected exactly one of"),
            (b"{\"prompt\":\"b\"}", "expected exactly one of"),
            (b"{\"text\":\"a\",\"text\":\"b\"}", "duplicate field `text`"),
            (b"{\"text\":[]}", "unexpected value"),
            (b"{\"text\":\" \"}", "text is empty"),
            (b"{\"prompt\":\"a\",\"completion\":\"\"}", "completion is empty"),
            (b"{\"messages\":[]}", "messages is empty"),
            (b"{\"messages\":{}}", "unexpected value"),
            (b"{\"messages\":[{\"role\":\"user\"}]}", "missing field `content`"),
            (b"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "null"),
            (b"{\"messages\":[{\"role\":\"user\",\"content\":3}]}", "integer"),
            (b"{\"messages\":[{\"role\":\"user\",\"content\":[1]}]}", "integer"),
            (b"{\"messages\":[{\"role\":\"bot\",\"content\":\"a\"}]}", "unknown role \"bot\""),
            (b"{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}]}", "(assistant) is empty"),
            (b"{\"prompt\":\"a\",\"chosen\":\"b\"}", "expected exactly one of"),
            (b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":[]}", "all texts or all lists"),
            (b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\" \"}", "rejected is empty"),
            (b"{\"prompt\":[],\"chosen\":[],\"rejected\":[]}", "chosen: messages is empty"),
            (b"{\"prompt\":3,\"completion\":\"b\"}", "expected a text or a list of messages"),
            (b"{\"text\":\"\xff\"}", "byte 10 is not UTF-8"),
        ];
        for (line, expected) in cases.into_iter().chain([(deep.as_bytes(), "not valid JSON")]) {
            let message = parse(line).unwrap_err();
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
            assert!(message.contains(expected), "{shown}: {message}");
            assert!(!message.contains("line 1") && !message.contains("struct "), "{message}");
        }
    }
}
