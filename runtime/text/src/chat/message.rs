//! A message, and the forms in which files have one: those of Transformers and of OpenAI's interface.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::object;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or `developer`.
    pub role: String,
    /// The text.
    pub content: String,
    /// What the assistant thought before it answered, for templates that write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls of tools, as Transformers has them: `{"type": "function", "function": {"name": .., "arguments": {..}}}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The name of the tool that answers, or of the person who speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which call a tool answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// An assistant's message that is seen and not trained on: `"weight": 0`, as OpenAI has it, or `"train": false`.
    /// Templates do not see this.
    #[serde(skip)]
    pub untrained: bool,
}

/// A message as files have it: one with calls of tools may have no content.
#[derive(Deserialize)]
struct AnyMessage {
    role: String,
    content: Option<Content>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<Value>>,
    name: Option<String>,
    tool_call_id: Option<String>,
    weight: Option<f64>,
    train: Option<bool>,
    training: Option<bool>,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        object::read::<D, AnyMessage>(from, "a message")?.try_into().map_err(D::Error::custom)
    }
}

/// A text, or a list of parts, of which only texts are known: together they are the content.
struct Content(String);

/// A part of a content.
struct Part(AnyPart);

#[derive(Deserialize)]
struct AnyPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        object::read(from, "a content part").map(Part)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrParts)
    }
}

struct TextOrParts;

impl<'de> Visitor<'de> for TextOrParts {
    type Value = Content;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a list of parts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = String::new();
        let mut number = 0;
        while let Some(Part(AnyPart { kind, text })) = parts.next_element()? {
            number += 1;
            match (kind.as_str(), text) {
                ("text", Some(text)) => content += &text,
                ("text", None) => return Err(A::Error::custom(format!("content part {number} has no text"))),
                (kind, _) => {
                    let kind: String = kind.chars().take(40).collect();
                    let problem = format!("content part {number} has the type {kind:?}: only text can be trained on");
                    return Err(A::Error::custom(problem));
                }
            }
        }
        Ok(Content(content))
    }
}

impl TryFrom<AnyMessage> for Message {
    type Error = String;

    fn try_from(any: AnyMessage) -> Result<Self, Self::Error> {
        let AnyMessage { role, content, reasoning_content, tool_calls, name, tool_call_id, weight, train, training } =
            any;
        if let Some(weight) = weight.filter(|&weight| weight != 0.0 && weight != 1.0) {
            return Err(format!("the weight of a message is {weight}: only 0 and 1 are known"));
        }
        let untrained = weight == Some(0.0) || train == Some(false) || training == Some(false);
        let mut tool_calls = tool_calls.unwrap_or_default();
        tool_calls.iter_mut().for_each(open_arguments);
        let missing = "missing field `content`, or it is null: only a message with tool_calls can go without";
        let none = (!tool_calls.is_empty()).then(String::new);
        let content = content.map(|Content(text)| text).or(none).ok_or(missing)?;
        Ok(Message { role, content, reasoning_content, tool_calls, name, tool_call_id, untrained })
    }
}

/// OpenAI's interface has the arguments of a call as JSON in a string. Templates are written for what is in it (`|
/// tojson`), so servers open it, and so does this. What is no object stays as it is.
fn open_arguments(call: &mut Value) {
    let function = if call.get("function").is_some() { &mut call["function"] } else { call };
    let Some(Value::String(text)) = function.get("arguments") else { return };
    if let Ok(arguments @ Value::Object(_)) = serde_json::from_str(text) {
        function["arguments"] = arguments;
    }
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }
}
