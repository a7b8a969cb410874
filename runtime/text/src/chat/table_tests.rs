//! Some hundreds of expressions and statements, and what jinja2 makes of them as Transformers configures it.

use serde_json::Value;

use super::{ChatTemplate, Message};

/// The table that `tests/assets/jinja.py` makes.
const TABLE: &str = include_str!("../../../../tests/assets/jinja.json");

#[test]
fn every_row_is_as_jinja2_writes_it() {
    let table: Value = serde_json::from_str(TABLE).unwrap();
    let messages: Vec<Message> = serde_json::from_value(table["messages"].clone()).unwrap();
    let clock = table["clock"].as_u64().unwrap();
    let mut wrong = Vec::new();
    for row in table["table"].as_array().unwrap() {
        let (source, expected) = (row[0].as_str().unwrap(), row[1].as_str());
        let rendered = ChatTemplate::from_source(source, "<s>", "</s>")
            .and_then(|template| template.at(clock).render(&messages, true));
        match (&rendered, expected) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(_), None) => {}
            _ => wrong.push(format!("{source}: {rendered:?}, not {:?}", row[1])),
        }
    }
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}
