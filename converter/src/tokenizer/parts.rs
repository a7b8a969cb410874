//! The components of a part of tokenizer.json: one thing can be spelled in several ways there.

use serde_json::Value;

/// The components of `node`, whose lists are under `key`: a list in a list is one list, a list of one is that one, and
/// nothing, an empty list and what changes no text are the same.
pub(super) fn parts<'v>(node: Option<&'v Value>, key: &str) -> Vec<&'v Value> {
    let Some(node) = node.filter(|node| !node.is_null()) else { return Vec::new() };
    match node.get(key).and_then(Value::as_array) {
        Some(list) => list.iter().flat_map(|part| parts(Some(part), key)).collect(),
        None if is_idle(node) => Vec::new(),
        None => vec![node],
    }
}

/// Whether a normalizer changes nothing.
fn is_idle(part: &Value) -> bool {
    let text = |key: &str| part.get(key).and_then(Value::as_str);
    let flag = |key: &str| part.get(key).and_then(Value::as_bool);
    match text("type") {
        Some("Prepend") => text("prepend") == Some(""),
        Some("Strip") => flag("strip_left") == Some(false) && flag("strip_right") == Some(false),
        _ => false,
    }
}

/// The text that a component looks for, whether it is written as a string or as an expression that matches only that.
pub(super) fn pattern(part: &Value) -> Option<&str> {
    let text = |key: &str| part.pointer(key).and_then(Value::as_str);
    text("/pattern/String").or_else(|| text("/pattern/Regex").filter(|regex| !regex.contains(SYNTAX)))
}

/// Characters that mean something else than themselves in an expression.
const SYNTAX: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_thing_in_several_spellings() {
        let of = |node: Value| parts(Some(&node), "normalizers").len();
        let list = |inner: &[Value]| json!({"type": "Sequence", "normalizers": inner});
        let nfc = json!({"type": "NFC"});
        assert_eq!((of(Value::Null), of(list(&[])), of(list(&[list(&[])]))), (0, 0, 0));
        assert_eq!(
            (of(nfc.clone()), of(list(&[list(std::slice::from_ref(&nfc))])), of(list(&[nfc.clone(), nfc]))),
            (1, 1, 2)
        );
        assert_eq!(of(json!({"type": "Prepend", "prepend": ""})), 0);
        assert_eq!(pattern(&json!({"pattern": {"Regex": " "}})), Some(" "));
        assert_eq!(pattern(&json!({"pattern": {"Regex": " +"}})), None);
    }
}
