//! Data in forms that others use: which keys stand for which of ours.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// Keys of a line, and of the messages in it.
const TARGETS: [&str; 9] =
    ["messages", "role", "content", "prompt", "completion", "text", "chosen", "rejected", "tools"];

/// Names of roles in data of others.
const ROLES: [(&str, &str); 7] = [
    ("human", "user"),
    ("gpt", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("chatgpt", "assistant"),
    ("observation", "tool"),
    ("function", "tool"),
];

/// One key of ours, and those of a file that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    target: &'static str,
    sources: Vec<String>,
}

/// Which keys of a file stand for which of ours: `prompt=instruction+input,completion=output`. The texts of several
/// keys become one, with an empty line between them; what is empty or not there is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    rules: Vec<Rule>,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules: Vec<Rule> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, sources) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=KEYS"))?;
            let found = TARGETS.iter().find(|known| **known == target.trim());
            let target = found.ok_or_else(|| format!("{target:?} is none of {}", TARGETS.join(", ")))?;
            let sources: Vec<String> = sources.split('+').map(|key| key.trim().to_owned()).collect();
            if sources.iter().any(String::is_empty) || rules.iter().any(|rule| rule.target == *target) {
                return Err(format!("{target} needs one list of keys, such as {target}=a or {target}=a+b"));
            }
            rules.push(Rule { target, sources });
        }
        if rules.is_empty() { Err("no key is given".into()) } else { Ok(Mapping { rules }) }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{}={}", if i > 0 { "," } else { "" }, rule.target, rule.sources.join("+"))?;
        }
        Ok(())
    }
}

impl Mapping {
    /// The mapping for data with these keys, if it is a form that is known; `inner` are the keys of the first item of a
    /// list in it.
    pub(super) fn for_keys(keys: &[String], inner: &[String]) -> Option<Mapping> {
        let has = |key: &str| keys.iter().any(|found| found == key);
        let first = |names: &[&'static str]| names.iter().find(|name| has(name)).copied();
        let said = |key: &str| inner.iter().any(|found| found == key);
        if let Some(list) = first(&["conversations", "conversation", "messages", "dialog", "dialogue"]) {
            let role = ["role", "from", "speaker"].into_iter().find(|key| said(key))?;
            let content = ["content", "value", "text"].into_iter().find(|key| said(key))?;
            return format!("messages={list},role={role},content={content}").parse().ok();
        }
        let answer = ["output", "completion", "response", "answer", "answers", "solution", "target"];
        let question = ["instruction", "prompt", "question", "query", "input"];
        let (question, answer) = (first(&question)?, first(&answer)?);
        let with = ["input", "context"].into_iter().find(|key| *key != question && has(key));
        let with = with.map_or(String::new(), |key| format!("+{key}"));
        format!("prompt={question}{with},completion={answer}").parse().ok()
    }

    fn rule(&self, target: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.target == target)
    }

    /// A line with our keys: all others of it are as they were.
    pub(super) fn apply(&self, mut line: Map<String, Value>) -> Map<String, Value> {
        for rule in self.rules.iter().filter(|rule| !["role", "content"].contains(&rule.target)) {
            rename(&mut line, rule);
        }
        for key in ["messages", "prompt", "completion", "chosen", "rejected"] {
            if let Some(Value::Array(messages)) = line.get_mut(key) {
                messages.iter_mut().filter_map(Value::as_object_mut).for_each(|message| self.apply_message(message));
            }
        }
        line
    }

    fn apply_message(&self, message: &mut Map<String, Value>) {
        for target in ["role", "content"] {
            if let Some(rule) = self.rule(target) {
                rename(message, rule);
            }
        }
        if let Some(Value::String(role)) = message.get_mut("role") {
            let known = ROLES.iter().find(|(name, _)| role.eq_ignore_ascii_case(name));
            if let Some((_, ours)) = known.filter(|_| self.rule("role").is_some()) {
                *role = (*ours).to_owned();
            }
        }
    }
}

/// Replaces the keys that a rule is made of by its own.
fn rename(map: &mut Map<String, Value>, rule: &Rule) {
    let found: Vec<Value> = rule.sources.iter().filter_map(|key| map.remove(key)).collect();
    let said = |value: &&Value| !matches!(value, Value::Null) && value.as_str() != Some("");
    let value = match &found[..] {
        [] => return,
        [one] => one.clone(),
        several => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let texts: Vec<String> = several.iter().filter(said).map(text).collect();
            texts.join("\n\n").into()
        }
    };
    map.insert(rule.target.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapped(mapping: &str, line: Value) -> Value {
        let Value::Object(line) = line else { panic!("an object") };
        Value::Object(mapping.parse::<Mapping>().unwrap().apply(line))
    }

    fn offered(line: &Value) -> Option<String> {
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        let inner =
            line.as_object()?.values().find_map(|value| value.as_array()?.first()).map(keys).unwrap_or_default();
        let keys: Vec<String> = keys(line);
        Mapping::for_keys(&keys, &inner).map(|mapping| mapping.to_string())
    }

    #[test]
    fn known_forms_are_offered_and_mapped() {
        let alpaca = json!({"instruction": "Add.", "input": "1+1", "output": "2"});
        assert_eq!(offered(&alpaca).unwrap(), "prompt=instruction+input,completion=output");
        assert_eq!(mapped(&offered(&alpaca).unwrap(), alpaca), json!({"prompt": "Add.\n\n1+1", "completion": "2"}));
        let bare = json!({"instruction": "Add.", "input": "", "output": "2"});
        assert_eq!(mapped(&offered(&bare).unwrap(), bare), json!({"prompt": "Add.", "completion": "2"}));
        let share = json!({"id": 7, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
        assert_eq!(offered(&share).unwrap(), "messages=conversations,role=from,content=value");
        let expected =
            json!({"id": 7, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        assert_eq!(mapped(&offered(&share).unwrap(), share), expected);
        assert_eq!(offered(&json!({"question": "a", "answer": "b"})).unwrap(), "prompt=question,completion=answer");
        assert_eq!(
            offered(&json!({"question": "a", "context": "c", "response": "b"})).unwrap(),
            "prompt=question+context,completion=response"
        );
        assert_eq!(offered(&json!({"a": 1})), None);
    }

    #[test]
    fn wrong_mappings_say_why() {
        for (text, problem) in
            [("", "no key"), ("prompt", "not KEY=KEYS"), ("x=a", "none of"), ("prompt=", "needs one list")]
        {
            let error = text.parse::<Mapping>().unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
