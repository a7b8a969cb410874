//! Text of others made safe to show, and whether a program reads it.

use std::sync::atomic::{AtomicBool, Ordering};

use loam::gguf::is_unsafe;

/// Whether the verb that runs reports as JSON: for what is told outside of it, errors and the end by a signal.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether errors are told as JSON too.
pub fn wants_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// From now on errors are told as JSON too, or not.
pub fn want_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Text that came from a file or an error, made safe to show on one line, without passwords of addresses.
pub fn escape(text: &str) -> String {
    loam_convert::hub::redacted_text(&loam::gguf::printable(text.as_bytes()))
}

/// Text of several lines made safe to show: like [`escape`], but line ends and tabs stay, and what joins emoji and
/// letters.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let kept = matches!(c, '\n' | '\t' | '\u{200c}' | '\u{200d}') || !is_unsafe(c);
        if kept { safe.push(c) } else { safe.extend(c.escape_default()) }
    }
    safe
}

/// JSON whose strings hold no character that a terminal would obey or hide: they are written as `\u..`, which says the
/// same.
pub fn ascii_where_unsafe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            _ if !is_unsafe(c) => safe.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    safe
}
