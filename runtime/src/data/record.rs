//! One line of a .jsonl file.
//!
//! Policy: a key that is given twice is an error; unknown keys are ignored (data sets carry ids), but a line
//! needs exactly one of the known shapes. Unknown values are skipped without recursion, whatever their depth.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Records;
use crate::chat::Message;
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
    /// Plain text.
    Text(String),
}

impl Record {
    /// What it is a record of.
    pub(super) fn records(&self) -> Records {
        match self {
            Record::Messages(_) | Record::Completion { .. } => Records::Answers,
            Record::Text(_) => Records::Texts,
        }
    }
}

/// Messages and what they may call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// A list of descriptions, as templates take it.
    pub(super) tools: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Line {
    messages: Option<Vec<Message>>,
    tools: Option<Vec<serde_json::Value>>,
    prompt: Option<String>,
    completion: Option<String>,
    text: Option<String>,
    chosen: Option<IgnoredAny>,
    rejected: Option<IgnoredAny>,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, without file and line.
pub(super) fn parse(line: &[u8]) -> Result<Record, String> {
    let text = std::str::from_utf8(line).map_err(|e| format!("byte {} is not UTF-8", e.valid_up_to() + 1))?;
    let read = || {
        let mut reader = serde_json::Deserializer::from_str(text);
        let line = object::read::<_, Line>(&mut reader, "a line")?;
        reader.end().map(|()| line)
    };
    let line = read().map_err(|e| {
        // Every line is one document to the reader: its own "line 1" would contradict the line in the message.
        let message = e.to_string().replace(" at line 1 column ", " at column ");
        format!("{}: {message}", if e.is_data() { "unexpected value" } else { "not valid JSON" })
    })?;
    let record = match line {
        Line { chosen: Some(_), .. } | Line { rejected: Some(_), .. } => {
            return Err("preference data (chosen, rejected) does not fit this objective".into());
        }
        Line { messages: Some(messages), tools, prompt: None, completion: None, text: None, .. } => {
            Record::Messages(Conversation { messages, tools: tools.map(serde_json::Value::Array) })
        }
        Line { messages: None, prompt: Some(prompt), completion: Some(completion), text: None, .. } => {
            Record::Completion { prompt, completion }
        }
        Line { messages: None, prompt: None, completion: None, text: Some(text), .. } => Record::Text(text),
        _ => return Err("expected exactly one of: messages; prompt and completion; text".into()),
    };
    check(&record)?;
    Ok(record)
}

fn check(record: &Record) -> Result<(), String> {
    let blank = |text: &str| text.trim().is_empty();
    match record {
        Record::Messages(Conversation { messages, .. }) if messages.is_empty() => Err("messages is empty".into()),
        Record::Messages(Conversation { messages, .. }) => messages.iter().enumerate().try_for_each(|(i, message)| {
            if !ROLES.contains(&message.role.as_str()) {
                let role: String = message.role.chars().take(40).collect();
                return Err(format!("message {} has the unknown role {role:?}; known: {}", i + 1, ROLES.join(", ")));
            }
            if message.role == "assistant" && blank(&message.content) && message.tool_calls.is_empty() {
                return Err(format!("message {} (assistant) is empty", i + 1));
            }
            Ok(())
        }),
        Record::Completion { completion, .. } if blank(completion) => Err("completion is empty".into()),
        Record::Text(text) if blank(text) => Err("text is empty".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_shapes() {
        let messages =
            parse(br#"{"id":7,"messages":[{"role":"user","content":"a","x":1},{"role":"assistant","content":"b"}]}"#);
        let expected = vec![Message::new("user", "a"), Message::new("assistant", "b")];
        assert_eq!(messages, Ok(Record::Messages(Conversation { messages: expected, tools: None })));
        let calls = parse(
            br#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"name":"f"}]}],"tools":[{"name":"f"}]}"#,
        );
        let call = Message { tool_calls: vec![serde_json::json!({"name": "f"})], ..Message::new("assistant", "") };
        let tools = Some(serde_json::json!([{"name": "f"}]));
        assert_eq!(calls, Ok(Record::Messages(Conversation { messages: vec![call], tools })));
        for (key, untrained) in
            [("weight\":0", true), ("weight\":1", false), ("train\":false", true), ("training\":true", false)]
        {
            let line = format!("{{\"messages\":[{{\"role\":\"assistant\",\"content\":\"b\",\"{key}}}]}}");
            let messages = vec![Message { untrained, ..Message::new("assistant", "b") }];
            assert_eq!(parse(line.as_bytes()), Ok(Record::Messages(Conversation { messages, tools: None })));
        }
        let completion = parse(br#" {"prompt":"","completion":"b","text":null} "#);
        assert_eq!(completion, Ok(Record::Completion { prompt: String::new(), completion: "b".into() }));
        assert_eq!(parse(b"{\"text\":\"a\\u0000\"}"), Ok(Record::Text("a\0".into())));
    }

    #[test]
    fn bad_lines_say_why() {
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let cases: [(&[u8], &str); 25] = [
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
            (b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", "preference data"),
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
