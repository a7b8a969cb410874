//! What a template is given of a message: as Transformers gives it, and in another form where it cannot take that.
//!
//! Files have the arguments of a call as an object or as a JSON text, and a content that is not there as null. Most
//! templates are written for one of the forms and fail, or write quotes into quotes, with the other.

use serde_json::{Map, Value};

use super::Message;
use super::jinja::Given;

/// What Python writes for nothing: no words of a conversation.
const NONE: &str = "None";

/// How arguments of calls are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// As the message has them.
    AsTheyAre,
    /// A JSON text becomes what it says.
    Opened,
    /// An object becomes a JSON text.
    Closed,
}

/// A form of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    arguments: Arguments,
    /// A content that is null becomes an empty text.
    emptied: bool,
}

/// The arguments of a call.
fn arguments(call: &Value) -> Option<&Value> {
    call.get("function").unwrap_or(call).get("arguments")
}

/// The object that a JSON text says.
fn opened(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// The texts among the arguments of all calls that say an object.
fn texts(messages: &[Message]) -> impl Iterator<Item = &str> {
    let calls = messages.iter().flat_map(|message| &message.tool_calls).filter_map(arguments);
    calls.filter_map(Value::as_str).filter(|text| opened(text).is_some())
}

/// The forms to try, in this order; the first is what is given.
pub(super) fn forms(messages: &[Message]) -> Vec<Form> {
    let calls = || messages.iter().flat_map(|message| &message.tool_calls).filter_map(arguments);
    let null = messages.iter().any(|message| message.extra.get("content").is_some_and(Value::is_null));
    let mut ways = vec![Arguments::AsTheyAre];
    ways.extend(texts(messages).next().map(|_| Arguments::Opened));
    ways.extend(calls().any(Value::is_object).then_some(Arguments::Closed));
    let with = |emptied: bool| ways.iter().map(move |&arguments| Form { arguments, emptied });
    with(false).chain(with(true).filter(|_| null)).collect()
}

impl Form {
    /// Whether `next` should be tried although this form was written as `text`: with opened arguments where the
    /// template did not write the texts as they are, but quoted, and with empty contents where it may have written
    /// None.
    pub(super) fn gives_way_to(self, next: Form, messages: &[Message], text: &str) -> bool {
        let opens = self.arguments == Arguments::AsTheyAre && next.arguments == Arguments::Opened;
        match (self.emptied == next.emptied, self.arguments == next.arguments) {
            (true, false) => opens && texts(messages).any(|arguments| !text.contains(arguments)),
            (false, true) => next.emptied && text.contains(NONE),
            _ => false,
        }
    }

    /// Whether `next`, written as `other`, is better than this form, written as `text`.
    pub(super) fn is_worse_than(self, next: Form, text: &str, other: &str) -> bool {
        self.emptied == next.emptied || other.matches(NONE).count() < text.matches(NONE).count()
    }

    /// The object that a template gets; of keys that are not known here those that it `reads`.
    pub(super) fn give(self, message: &Message, reads: impl Fn(&str) -> bool) -> Given {
        let mut value = Map::new();
        value.insert("role".into(), message.role.as_str().into());
        let null = message.extra.get("content").is_some_and(Value::is_null) && message.content.is_empty();
        value.insert(
            "content".into(),
            if null && !self.emptied { Value::Null } else { message.content.as_str().into() },
        );
        if let Some(reasoning) = &message.reasoning_content {
            value.insert("reasoning_content".into(), reasoning.as_str().into());
            value.insert("thinking".into(), reasoning.as_str().into());
        }
        if !message.tool_calls.is_empty() {
            value.insert("tool_calls".into(), message.tool_calls.iter().map(|call| self.call(call)).collect());
        }
        for (key, text) in [("name", &message.name), ("tool_call_id", &message.tool_call_id)] {
            value.extend(text.as_ref().map(|text| (key.to_owned(), text.as_str().into())));
        }
        for (key, other) in message.extra.iter().filter(|(key, _)| key.as_str() != "content" && reads(key)) {
            let absent = other.is_null() && value.contains_key(key);
            if !absent {
                value.insert(key.clone(), other.clone());
            }
        }
        Given { value: Value::Object(value), trusted: message.control_tokens }
    }

    fn call(self, call: &Value) -> Value {
        let changed = match (self.arguments, arguments(call)) {
            (Arguments::Opened, Some(Value::String(text))) => opened(text),
            (Arguments::Closed, Some(object @ Value::Object(_))) => Some(Value::String(written(object))),
            _ => None,
        };
        let (mut call, Some(changed)) = (call.clone(), changed) else { return call.clone() };
        let function = if call.get("function").is_some() { &mut call["function"] } else { &mut call };
        function["arguments"] = changed;
        call
    }
}

/// JSON as Python's `json.dumps` writes it for people.
fn written(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", Value::from(key.as_str()), written(value));
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
