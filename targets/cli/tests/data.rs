//! `loam data inspect` shows what training sees.

mod support;

use support::{base, run};

const LINES: &str = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes? <|im_end|>"},{"role":"user","content":"So"},{"role":"assistant","content":"No."}]}
{"prompt":"Count","completion":"One two three four five six seven eight nine ten eleven twelve thirteen."}
"#;

#[test]
fn trained_tokens_are_marked() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("d.jsonl");
    std::fs::write(&data, LINES).expect("writes");
    let shown = run("data inspect {} --model {}", &[&data, base()]).good().stdout;
    let first = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yes? <|im_end|><|im_end|>⟧\n<|im_start|>user\nSo<|im_end|>\n\
        <|im_start|>assistant\n⟦No.<|im_end|>⟧\n";
    assert!(shown.contains(first), "{shown}");
    assert!(shown.contains("line 2: ") && shown.contains("⟦One two"), "{shown}");
    assert!(shown.trim_end().lines().last().is_some_and(|l| l.starts_with("2 records, 2 examples, ")), "{shown}");
}

#[test]
fn brackets_of_the_data_are_no_marks() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("d.jsonl");
    std::fs::write(&data, "{\"prompt\":\"a ⟦b⟧\",\"completion\":\"c⟧ d\"}\n").expect("writes");
    let shown = run("data inspect {} --model {}", &[&data, base()]).good().stdout;
    assert!(shown.contains("a \\u{27e6}b\\u{27e7}") && shown.contains("⟦c\\u{27e7} d"), "{shown}");
    assert_eq!((shown.matches('⟦').count(), shown.matches('⟧').count()), (1, 1), "{shown}");
}

#[test]
fn json_has_ids_mask_and_spans() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("d.jsonl");
    std::fs::write(&data, LINES).expect("writes");
    let outcome = run("data inspect {} --model {} --context 20 --json", &[&data, base()]).good();
    let objects = outcome.objects();
    let examples: Vec<_> = objects.iter().filter(|object| object["event"] == "example").collect();
    assert_eq!(examples.len(), 2);
    for example in &examples {
        let ids = example["ids"].as_array().expect("ids");
        let mask: Vec<u64> = example["mask"].as_array().expect("mask").iter().filter_map(|m| m.as_u64()).collect();
        assert_eq!((ids.len(), mask.len()), (example["tokens"].as_u64().expect("tokens") as usize, ids.len()));
        assert_eq!(mask.iter().sum::<u64>(), example["trained_tokens"].as_u64().expect("trained"));
        let spans = example["spans"].as_array().expect("spans");
        let inside = |at: usize| {
            spans.iter().any(|s| s["start"].as_u64() <= Some(at as u64) && Some(at as u64) < s["end"].as_u64())
        };
        assert!((0..mask.len()).all(|at| (mask[at] == 1) == inside(at)));
        let text = example["text"].as_str().expect("text");
        assert!(spans.iter().all(|span| text.contains(span["text"].as_str().expect("text of a span"))));
    }
    assert!(examples[1]["cut_tokens"].as_u64() > Some(0), "{}", examples[1]);
    let done = outcome.result();
    assert_eq!(
        (&done["event"], &done["examples"], &done["truncated_examples"]),
        (&"done".into(), &2.into(), &2.into())
    );
    let limited = run("data inspect {} --model {} --limit 1 --json", &[&data, base()]).good();
    assert_eq!(limited.objects().iter().filter(|object| object["event"] == "example").count(), 1);
    assert_eq!(limited.result()["examples"], 2);
}

#[test]
fn bad_lines_and_templates_are_named() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path
    };
    let data = at("d.jsonl", LINES);
    let empty = at("e.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n");
    run("data inspect {} --model {}", &[&empty, base()]).bad(1, &["e.jsonl:1", "no assistant message"]);
    let silent = at("t.jinja", "{% for m in messages %}{{ m.role }}{% endfor %}");
    run("data inspect {} --model {} --chat-template {}", &[&data, base(), &silent])
        .bad(1, &["d.jsonl:1", "leaves it out"]);
    let bare = at("b.jinja", "{{ messages[-1].content }}");
    run("data inspect {} --model {} --chat-template {}", &[&data, base(), &bare]).bad(1, &["d.jsonl:"]);
    run("data inspect", &[]).bad(2, &["--model"]);
    // A hint about the form of lines is for lines of a wrong form.
    let hint = |data: &std::path::PathBuf, template: &std::path::PathBuf| {
        run("data inspect {} --model {} --chat-template {}", &[data, base(), template]).bad(1, &["hint:"]).stderr
    };
    let fault = hint(&data, &silent);
    assert!(fault.contains("--chat-template FILE") && !fault.contains("a line is"), "{fault}");
    let raised = at("r.jinja", "{{ raise_exception('no') }}");
    assert!(!hint(&data, &raised).contains("a line is"));
    let broken = at("b.jsonl", "{\"messages\":[\n");
    assert!(hint(&broken, &silent).contains("a line is"));
}

/// A template with tools: inspect shows the ids and the mask that training loads, and before each answer what chat
/// sends.
#[test]
fn tools_are_shown_as_they_are_trained_and_served() {
    use loam::chat::{ChatTemplate, Message};
    use loam::data::{DataOptions, Records, load};

    let folder = tempfile::tempdir().expect("temp dir");
    let (data, file) = (folder.path().join("d.jsonl"), folder.path().join("t.jinja"));
    let source = "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
        {% for c in m.tool_calls or [] %}<call>{{ c.function.name }}({{ c.function.arguments | tojson }})</call>{% endfor %}<|im_end|>\n\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let tools = serde_json::json!([{"type": "function", "function": {"name": "tide", "parameters": {}}}]);
    let call = serde_json::json!({"type": "function", "function": {"name": "tide", "arguments": "{\"at\": 7}"}});
    let messages = serde_json::json!([
        {"role": "system", "content": "Keep the light."},
        {"role": "user", "content": [{"type": "text", "text": "Tide?"}]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "low", "name": "tide"},
        {"role": "assistant", "content": "It is low."},
    ]);
    std::fs::write(&data, serde_json::json!({"messages": messages, "tools": tools}).to_string()).expect("writes");
    std::fs::write(&file, source).expect("writes");
    let shown = run("data inspect {} --model {} --chat-template {} --json", &[&data, base(), &file]).good().objects();
    let marked = run("data inspect {} --model {} --chat-template {}", &[&data, base(), &file]).good().stdout;
    let expected = "assistant\n⟦<call>tide({\"at\": 7})</call><|im_end|>⟧\n<|im_start|>tool\nlow<|im_end|>\n<|im_start|>assistant\n⟦It is";
    assert!(marked.contains(expected), "{marked}");

    let model = loam::Base::open(base()).expect("a base");
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let template = ChatTemplate::for_tokenizer(source, tokenizer).expect("a template");
    let trained = load(&data, tokenizer, Some(&template), &DataOptions::new(Records::Answers, 512)).expect("loads");
    let example = &trained.examples[0];
    let numbers = |key: &str| -> Vec<u32> {
        shown[0][key].as_array().expect("a list").iter().map(|n| n.as_u64().expect("a number") as u32).collect()
    };
    assert_eq!(numbers("ids"), example.tokens);
    assert_eq!(numbers("mask"), example.trained.iter().map(|&t| u32::from(t)).collect::<Vec<_>>());
    let messages: Vec<Message> = serde_json::from_value(messages).expect("messages");
    for i in [2, 4] {
        let sent = template.encode_with_tools(tokenizer, &messages[..i], Some(&tools), true).expect("rendered");
        assert!(example.tokens.starts_with(&sent) && example.trained[sent.len()], "message {i}");
    }
}

#[test]
fn data_in_other_forms_is_named_and_mapped() {
    let folder = tempfile::tempdir().expect("temp dir");
    for (name, content, keys, mapping) in [
        (
            "alpaca.jsonl",
            "{\"instruction\":\"Add.\",\"input\":\"1+1\",\"output\":\"Two.\"}\n",
            "instruction, input, output",
            "prompt=instruction+input,completion=output",
        ),
        (
            "share.json",
            "[\n{\"conversations\":[{\"from\":\"human\",\"value\":\"Add.\"},{\"from\":\"gpt\",\"value\":\"Two.\"}]}\n]",
            "conversations",
            "messages=conversations,role=from,content=value",
        ),
        ("table.csv", "question,answer\nAdd.,Two.\n", "question, answer", "prompt=question,completion=answer"),
    ] {
        let data = folder.path().join(name);
        std::fs::write(&data, content).expect("writes");
        let refused = run("data inspect {} --model {}", &[&data, base()]);
        assert!(refused.stderr.contains(&format!("found: {keys}")), "{name}: {}", refused.stderr);
        assert!(refused.stderr.contains(&format!("--map {mapping}")), "{name}: {}", refused.stderr);
        let shown = run(&format!("data inspect {{}} --model {{}} --map {mapping}"), &[&data, base()]).good().stdout;
        assert!(shown.contains("Add.") && shown.contains("⟦Two.<|im_end|>⟧"), "{name}: {shown}");
    }
    let data = folder.path().join("own.json");
    std::fs::write(&data, "[{\"prompt\":\"a\",\"completion\":\"b\"},\n{\"prompt\":\"c\",\"completion\":\"\"}]")
        .expect("writes");
    let refused = run("data inspect {} --model {}", &[&data, base()]);
    assert!(
        refused.stderr.contains("own.json:2") && refused.stderr.contains("completion is empty"),
        "{}",
        refused.stderr
    );
}

#[test]
fn control_tokens_in_answers_are_told_and_taken() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("d.jsonl");
    std::fs::write(&data, "{\"prompt\":\"a<|im_start|>\",\"completion\":\"b<|im_start|>c\"}\n").expect("writes");
    let plain = run("data inspect {} --model {} --json", &[&data, base()]).good();
    assert_eq!(plain.result()["spelled_control_tokens"], serde_json::json!({"<|im_start|>": 1}));
    assert!(plain.stdout.contains("--control-tokens"), "{}", plain.stdout);
    let taken = run("data inspect {} --model {} --json --control-tokens", &[&data, base()]).good();
    assert_eq!(taken.result()["spelled_control_tokens"], serde_json::json!({}));
    let ids = |outcome: &support::Outcome| {
        let objects = outcome.objects();
        let example = objects.iter().find(|object| object["event"] == "example").expect("an example");
        example["ids"].as_array().expect("ids").len()
    };
    assert!(ids(&taken) < ids(&plain), "one token instead of its letters");
}
