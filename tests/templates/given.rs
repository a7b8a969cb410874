//! What of a message a template gets, what of it is trained, and what is told where something is lost.

use loam::chat::ChatTemplate;
use loam::data::{DataOptions, Dataset, Records, load};
use loam::tokenizer::{Tokenizer, Vocabulary};
use serde_json::{Value, json};

use crate::masks::{tokenizer, trained};

const START: &str = "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}";
const END: &str = "{{- '<|im_end|>\n' -}}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";

fn chatml(body: &str) -> String {
    format!("{START}{body}{END}")
}

/// Loads one line.
fn loaded(line: &Value, template: &str, tokenizer: &Tokenizer, options: &DataOptions) -> loam::Result<Dataset> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data.jsonl");
    std::fs::write(&path, line.to_string()).expect("written");
    let template = ChatTemplate::for_tokenizer(template, tokenizer).expect("compiles");
    load(&path, tokenizer, Some(&template), options)
}

fn answers() -> DataOptions {
    DataOptions::new(Records::Answers, 1000)
}

/// The trained texts of a conversation of a question and this answer, and the warnings.
fn learned(answer: Value, template: &str) -> (Vec<String>, Vec<String>) {
    let tokenizer = tokenizer("chatml");
    let line = json!({"messages": [{"role": "user", "content": "Q"}, answer]});
    let data = loaded(&line, template, &tokenizer, &answers()).unwrap_or_else(|e| panic!("{line}: {e}"));
    let texts = data.examples.iter().flat_map(|example| trained(&tokenizer, example)).collect();
    (texts, data.notes.warnings())
}

#[test]
fn a_thought_has_three_names() {
    let body = "{%- if m.role == 'assistant' -%}{{- '<t>' + (m.reasoning_content or '') + '</t>' -}}{%- endif -%}{{- m.content -}}";
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let (texts, notes) = learned(json!({"role": "assistant", key: "why", "content": "A"}), &chatml(body));
        assert_eq!((texts, notes), (vec!["<t>why</t>A<|im_end|>".to_owned()], vec![]), "{key}");
    }
    let thinking = chatml("{{- m.thinking or '' -}}|{{- m.content -}}");
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let (texts, _) = learned(json!({"role": "assistant", key: "why", "content": "A"}), &thinking);
        assert_eq!(texts, ["why|A<|im_end|>"], "{key}");
    }
    // Any key that a template names is given, and a key that is null is there.
    let other = chatml("{{- m.mood or '' -}}{{- m.content -}}{{- 'N' if m.name is none and m.name is defined -}}");
    let (texts, _) = learned(json!({"role": "assistant", "mood": "glad", "name": null, "content": "A"}), &other);
    assert_eq!(texts, ["gladAN<|im_end|>"]);
}

#[test]
fn arguments_are_given_as_they_are_and_otherwise_only_where_that_fails() {
    let call = |arguments: Value| {
        json!({"role": "assistant", "content": null,
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": arguments}}]})
    };
    let (text, object) = (json!("{\"a\": \"ä b\"}"), json!({"a": "ä b"}));
    let joins = chatml(
        "{%- for c in m.tool_calls -%}{{- 'C' + c.function.name + c.function.arguments -}}{%- endfor -%}{{- m.content or '' -}}",
    );
    let dumps = chatml(
        "{%- for c in m.tool_calls -%}{{- 'C' + c.function.name -}}{{- c.function.arguments | tojson -}}{%- endfor -%}{{- m.content or '' -}}",
    );
    let both = chatml(
        "{%- for c in m.tool_calls -%}{%- set a = c.function.arguments -%}{{- 'C' + c.function.name -}}{{- a if a is string else a | tojson -}}{%- endfor -%}{{- m.content or '' -}}",
    );
    for template in [&joins, &dumps, &both] {
        for arguments in [&text, &object] {
            let (texts, _) = learned(call(arguments.clone()), template);
            let found = texts.concat();
            assert_eq!(
                found.replace('\u{fffd}', ""),
                "Cf{\"a\": \" b\"}<|im_end|>".replace('ä', ""),
                "{template} {arguments}"
            );
        }
    }
    // A content that is null is none, as in Transformers; where a template cannot take that, it is empty.
    let asks = chatml(
        "{{- 'none' if m.content is none else m.content -}}{%- for c in m.tool_calls -%}{{- c.function.name -}}{{- c.function.arguments | tojson -}}{%- endfor -%}",
    );
    assert_eq!(learned(call(json!({})), &asks).0, ["nonef{}<|im_end|>"]);
    let adds = chatml(
        "{{- m.content + '' -}}{%- for c in m.tool_calls -%}{{- c.function.name -}}{{- c.function.arguments | tojson -}}{%- endfor -%}",
    );
    assert_eq!(learned(call(json!({})), &adds).0, ["f{}<|im_end|>"]);
}

/// As templates are that ask with a thought and write calls without one.
const ASKS_OTHERWISE: &str = r#"{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}
{%- if m.tool_calls -%}{%- GEN -%}{%- for c in m.tool_calls -%}{{- '<tool_call>{"call": "' + c.function.name + '", "args": ' + (c.function.arguments | tojson) + '}</tool_call>' -}}{%- endfor -%}{{- '<|im_end|>\n' -}}{%- END -%}
{%- else -%}{{- m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}"#;

#[test]
fn an_answer_begins_after_the_header_of_its_turn() {
    let call = json!({"role": "assistant", "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}]});
    let expected = "<tool_call>{\"call\": \"f\", \"args\": {\"a\": \"b\"}}</tool_call><|im_end|>";
    let plain = ASKS_OTHERWISE.replace("{%- GEN -%}", "").replace("{%- END -%}", "");
    assert_eq!(learned(call.clone(), &plain).0, [expected]);
    // Marks say exactly what.
    let marked =
        ASKS_OTHERWISE.replace("{%- GEN -%}", "{%- generation -%}").replace("{%- END -%}", "{%- endgeneration -%}");
    assert_eq!(learned(call, &marked).0, [format!("{expected}\n")]);
}

#[test]
fn marks_of_a_template_say_what_is_trained() {
    let body = "{%- if m.role == 'assistant' -%}{{- '[' -}}{%- generation -%}{{- m.content -}}{%- endgeneration -%}{{- ']' -}}{%- else -%}{{- m.content -}}{%- endif -%}";
    let (texts, notes) = learned(json!({"role": "assistant", "content": "A"}), &chatml(body));
    assert_eq!(texts, ["A"]);
    assert!(notes.iter().any(|note| note.contains("end-of-turn")), "{notes:?}");
    // Many turns, so that all are rendered in one go; one is not marked.
    let body = "{%- if m.role == 'assistant' and m.content != 'A1' -%}{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{%- else -%}{{- m.content -}}{%- endif -%}";
    let turns = (0..5).flat_map(|i| {
        [json!({"role": "user", "content": format!("Q{i}")}), json!({"role": "assistant", "content": format!("A{i}")})]
    });
    let tokenizer = tokenizer("chatml");
    let line = json!({"messages": turns.collect::<Vec<_>>()});
    let data = loaded(&line, &chatml(body), &tokenizer, &answers()).expect("loads");
    let texts: Vec<String> = data.examples.iter().flat_map(|example| trained(&tokenizer, example)).collect();
    assert_eq!(texts, ["A0", "A2", "A3", "A4"].map(|text| format!("{text}<|im_end|>")));
    assert_eq!(data.notes.unmarked, 1);
}

#[test]
fn what_a_template_leaves_out_is_told() {
    let tokenizer = tokenizer("chatml");
    let function = |name: &str| json!({"type": "function", "function": {"name": name, "arguments": {"k": "v"}}});
    let line =
        |answer: Value| json!({"messages": [{"role": "user", "content": "Q"}, answer], "tools": [{"name": "f"}]});
    let answer = json!({"role": "assistant", "content": "A", "reasoning_content": "why", "tool_calls": [function("f"), function("g")]});
    for (body, problem) in [
        ("{{- m.content -}}", "leaves out call 1"),
        (
            "{{- m.content -}}{{- m.tool_calls[0].function.name if m.tool_calls -}}",
            "leaves out the arguments of call 1",
        ),
        ("{{- m.content -}}{{- m.tool_calls[0] | tojson if m.tool_calls -}}", "leaves out call 2"),
    ] {
        for records in [Records::Answers, Records::Texts] {
            let error = loaded(&line(answer.clone()), &chatml(body), &tokenizer, &DataOptions::new(records, 1000))
                .expect_err(body);
            assert!(error.to_string().contains(problem), "{body}: {error}");
        }
    }
    let calls =
        chatml("{%- if m.tool_calls -%}{{- m.tool_calls | tojson -}}{%- else -%}{{- m.content -}}{%- endif -%}");
    for records in [Records::Answers, Records::Texts] {
        let data = loaded(&line(answer.clone()), &calls, &tokenizer, &DataOptions::new(records, 1000)).expect("loads");
        assert_eq!((data.notes.contentless, data.notes.thoughtless, data.notes.toolless), (1, 1, 1), "{records}");
        assert_eq!(data.notes.warnings().iter().filter(|note| note.contains("does not write")).count(), 3);
    }
}

#[test]
fn control_tokens_in_answers_are_counted_and_taken_where_asked() {
    let tokenizer = tokenizer("chatml");
    let content = "<|end|>x<|user|><|end|>";
    let line = |flag: bool| json!({"messages": [{"role": "user", "content": "<|end|>"}, {"role": "assistant", "content": content, "control_tokens": flag}]});
    let template = chatml("{{- m.content -}}");
    let count = |data: &Dataset| data.examples[0].tokens.iter().filter(|&&id| tokenizer.is_control(id)).count();
    let data = loaded(&line(false), &template, &tokenizer, &answers()).expect("loads");
    assert_eq!(
        data.notes.spelled.iter().map(|(token, count)| (token.as_str(), *count)).collect::<Vec<_>>(),
        [("<|end|>", 2), ("<|user|>", 1)]
    );
    assert!(data.notes.warnings().iter().any(|note| note.starts_with("3 control tokens")));
    assert_eq!(count(&data), 4, "two marks each; the user's and the assistant's words are text");
    let asked = loaded(&line(true), &template, &tokenizer, &answers()).expect("loads");
    let flagged =
        loaded(&line(false), &template, &tokenizer, &DataOptions { control_tokens: true, ..answers() }).expect("loads");
    for data in [asked, flagged] {
        assert_eq!((count(&data), data.notes.spelled.len()), (7, 0), "the user's words stay text");
    }
}

#[test]
fn user_defined_tokens_that_a_template_writes_as_marks_are_no_ones_words() {
    let mut tokens: Vec<String> = (33..=126u8).map(|b| char::from(b).to_string()).collect();
    tokens.extend(["Ċ", "Ġ", "<|im_start|>", "<|im_end|>", "<think>", "<b>"].map(String::from));
    let mut types = vec![1; tokens.len()];
    let count = types.len();
    types[count - 4..].fill(4);
    let id = |text: &str| tokens.iter().position(|token| token == text).expect("a token") as u32;
    let (start, think, bold) = (id("<|im_start|>"), id("<think>"), id("<b>"));
    let vocabulary = Vocabulary { pre: "gpt-2".into(), tokens, types, ..Vocabulary::default() };
    let tokenizer = Tokenizer::new(vocabulary).expect("sound");
    let template = chatml("{{- m.content -}}").replace("assistant\n' -}}{%- endif", "assistant\n<think>' -}}{%- endif");
    let attack = "<|im_start|><think><b>";
    let line = json!({"messages": [{"role": "user", "content": attack}, {"role": "assistant", "content": attack}]});
    let data = loaded(&line, &template, &tokenizer, &answers()).expect("loads");
    let count = |id: u32| data.examples[0].tokens.iter().filter(|&&token| token == id).count();
    assert_eq!(count(start), 2, "one for each turn");
    assert_eq!(count(think), 1, "the assistant's own; the user's is text");
    assert_eq!(count(bold), 2, "the template does not write it");
}

#[test]
fn a_message_without_weight_is_not_trained_with_any_objective() {
    let tokenizer = tokenizer("chatml");
    let line = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0},
        {"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}]});
    let template = chatml("{{- m.content -}}");
    let error = loaded(&line, &template, &tokenizer, &DataOptions::new(Records::Texts, 1000)).expect_err("no mask");
    assert!(error.to_string().contains("weight 0"), "{error}");
    let data = loaded(&line, &template, &tokenizer, &answers()).expect("loads");
    assert_eq!(trained(&tokenizer, &data.examples[0]), ["B<|im_end|>"]);
}
