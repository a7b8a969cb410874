//! A message, and the forms in which files have one: those of Transformers and of OpenAI's interface.

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::object;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or `developer`.
    pub role: String,
    /// The text.
    pub content: String,
    /// What the assistant thought before it answered, for templates that write it. Files have it as
    /// `reasoning_content`, `reasoning` or `thinking`.
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
    /// All other keys, and those that are null. A template gets those that its source names.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
    /// An assistant's message that is seen and not trained on: `"weight": 0`, as OpenAI has it, or `"train": false`.
    /// Templates do not see this.
    #[serde(skip)]
    pub untrained: bool,
    /// Control tokens that the message spells are taken as tokens: `"control_tokens": true`. Templates do not see this.
    #[serde(skip)]
    pub control_tokens: bool,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Keys)
    }
}

/// Reads an object key by key: what a template may read stays as it is given.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Message;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message that is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let mut message = Message::default();
        let (mut content, mut seen) = (None, Map::new());
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains_key(&key) {
                let key: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format!("duplicate field `{key}`")));
            }
            let value = if key == "content" {
                content = map.next_value::<Option<Content>>()?.map(|Content(text)| text);
                if content.is_some() { Value::Bool(true) } else { Value::Null }
            } else {
                map.next_value::<Value>()?
            };
            seen.insert(key, value);
        }
        message.take(seen, content).map_err(A::Error::custom)?;
        Ok(message)
    }
}

/// What a key must be.
fn wrong(key: &str, what: &str) -> String {
    format!("field `{key}` of a message must be {what}")
}

/// Takes a text out of `keys`; one that is null stays there.
fn text(keys: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match keys.get_mut(key).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            keys.remove(key);
            Ok(Some(text))
        }
        Some(_) => Err(wrong(key, "a text")),
    }
}

/// Takes a flag out of `keys`.
fn flag(keys: &mut Map<String, Value>, key: &str) -> Result<Option<bool>, String> {
    match keys.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(wrong(key, "true or false")),
    }
}

/// Other names of [`Message::reasoning_content`], in the order in which Transformers looks for them.
const REASONING: [&str; 2] = ["thinking", "reasoning"];

impl Message {
    /// Sets the fields from the keys of an object; `content` is its text, under a key that only says whether it is
    /// null.
    fn take(&mut self, mut keys: Map<String, Value>, content: Option<String>) -> Result<(), String> {
        self.role = text(&mut keys, "role")?.ok_or("missing field `role`")?;
        self.tool_calls = match keys.get_mut("tool_calls").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => {
                keys.remove("tool_calls");
                calls
            }
            Some(_) => return Err(wrong("tool_calls", "a list")),
        };
        (self.name, self.tool_call_id) = (text(&mut keys, "name")?, text(&mut keys, "tool_call_id")?);
        let other =
            |keys: &Map<String, Value>| REASONING.iter().find_map(|key| keys.get(*key)?.as_str().map(str::to_owned));
        self.reasoning_content = text(&mut keys, "reasoning_content")?.or_else(|| other(&keys));
        let weight = keys.remove("weight").filter(|weight| !weight.is_null());
        if let Some(weight) = weight.as_ref().filter(|weight| ![Some(0.0), Some(1.0)].contains(&weight.as_f64())) {
            return Err(format!("the weight of a message is {weight}: only 0 and 1 are known"));
        }
        let unweighted = weight.is_some_and(|weight| weight.as_f64() == Some(0.0));
        let [train, training] = [flag(&mut keys, "train")?, flag(&mut keys, "training")?];
        self.untrained = unweighted || train == Some(false) || training == Some(false);
        self.control_tokens = flag(&mut keys, "control_tokens")?.unwrap_or(false);
        self.content = match content {
            Some(text) => {
                keys.remove("content");
                text
            }
            None if self.tool_calls.is_empty() => {
                return Err(
                    "missing field `content`, or it is null: only a message with tool_calls can go without".into()
                );
            }
            None => {
                keys.insert("content".into(), Value::Null);
                String::new()
            }
        };
        self.extra = keys;
        Ok(())
    }

    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), ..Message::default() }
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
