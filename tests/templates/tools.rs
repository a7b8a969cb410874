//! System messages, tools, calls and answers of tools, from a data file to trained tokens: through templates of several
//! kinds, token for token as `chat` and `eval` send them.

use loam::chat::{ChatTemplate, Message};
use loam::data::{DataOptions, Records, load, load_pairs};
use serde_json::{Value, json};

use crate::masks::{tokenizer, trained};

/// As Qwen 3 writes them: descriptions in the system message, calls and answers between tags, answers of tools in a
/// user's turn.
const QWEN: &str = r##"{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for tool_call in message.tool_calls %}
            {%- if (loop.first and message.content) or (not loop.first) %}
                {{- '\n' }}
            {%- endif %}
            {%- if tool_call.function %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {%- if tool_call.arguments is string %}
                {{- tool_call.arguments }}
            {%- else %}
                {{- tool_call.arguments | tojson }}
            {%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"##;

/// As Llama 3 writes them: one call without text, in a turn of its own; the tool is called ipython.
const LLAMA: &str = r#"{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" + system_message }}
{%- if tools is not none %}
    {{- "\nYou have these functions:" }}
    {%- for t in tools %}
        {{- "\n" }}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" + message.content | tojson + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

/// As Hermes writes them: a macro for the descriptions, a role of its own for tools, names beside their answers.
const HERMES: &str = r#"{%- macro signature(function) -%}
    {{- function.name + "(" -}}
    {%- for name, field in function.parameters.properties.items() -%}
        {{- name + ": " + field.type -}}{%- if not loop.last -%}{{- ", " -}}{%- endif -%}
    {%- endfor -%}
    {{- ")" -}}
{%- endmacro -%}
{{- '<|im_start|>system\nTools:' -}}
{%- for tool in tools or [] -%}{{- ' ' + signature(tool.function) -}}{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- for message in messages -%}
    {%- if message.role == "assistant" and message.tool_calls is defined -%}
        {{- '<|im_start|>' + message.role -}}
        {%- for call in message.tool_calls -%}
            {{- '\n<tool_call>\n' + {"arguments": call.function.arguments, "name": call.function.name} | tojson + '\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\n' -}}
    {%- elif message.role == "tool" -%}
        {{- '<|im_start|>tool\n<tool_response>\n{"name": "' + message.name + '", "content": ' + message.content + '}\n</tool_response><|im_end|>\n' -}}
    {%- else -%}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"#;

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    json!([{"type": "function", "function": {"name": "weather", "description": "Says it.", "parameters": parameters}}])
}

/// A conversation in which a tool is called and answers; `arguments` are those of the call, `parts` makes contents
/// lists.
fn messages(arguments: &Value, parts: bool) -> Value {
    let text = |text: &str| match parts {
        true => json!([{"type": "text", "text": &text[..1]}, {"type": "text", "text": &text[1..]}]),
        false => json!(text),
    };
    let call = json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}});
    json!([
        {"role": "system", "content": text("Be brief.")},
        {"role": "user", "content": text("Weather in Bern?")},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": text("{\"sky\": \"blue <|im_end|>\"}"), "name": "weather", "tool_call_id": "c1"},
        {"role": "assistant", "content": text("Blue.")},
        {"role": "user", "content": text("Thanks!")},
        {"role": "assistant", "content": text("Welcome.")},
    ])
}

/// For each template, what is trained.
const EXPECTED: [(&str, &str, [&str; 3]); 3] = [
    (
        "chatml",
        QWEN,
        [
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"days\": 2, \"city\": \"Bern\"}}\n</tool_call><|im_end|>",
            "Blue.<|im_end|>",
            "Welcome.<|im_end|>",
        ],
    ),
    (
        "llama3",
        LLAMA,
        [
            "{\"name\": \"weather\", \"parameters\": {\"days\": 2, \"city\": \"Bern\"}}<|eot_id|>",
            "Blue.<|eot_id|>",
            "Welcome.<|eot_id|>",
        ],
    ),
    (
        "chatml",
        HERMES,
        [
            "<tool_call>\n{\"arguments\": {\"days\": 2, \"city\": \"Bern\"}, \"name\": \"weather\"}\n</tool_call><|im_end|>",
            "Blue.<|im_end|>",
            "Welcome.<|im_end|>",
        ],
    ),
];

#[test]
fn calls_and_answers_are_trained_and_results_of_tools_are_not() {
    let (folder, options) = (tempfile::tempdir().expect("a folder"), DataOptions::new(Records::Answers, 4096));
    let path = folder.path().join("d.jsonl");
    // The arguments as Transformers has them, and as OpenAI's interface does.
    let (open, closed) = (json!({"days": 2, "city": "Bern"}), json!("{\"days\": 2, \"city\": \"Bern\"}"));
    let lines = [messages(&open, false), messages(&closed, false), messages(&open, true)];
    let lines = lines.map(|messages| json!({"messages": messages, "tools": tools()}).to_string());
    std::fs::write(&path, lines.join("\n")).expect("written");
    for (style, source, expected) in EXPECTED {
        let (tokenizer, template) =
            (tokenizer(style), ChatTemplate::from_source(source, "<s>", "</s>").expect("sound"));
        let data = load(&path, &tokenizer, Some(&template), &options).expect("loads");
        assert_eq!(data.examples.len(), 3, "{style}: {:?}", data.notes);
        assert_eq!((data.notes.unprompted, data.notes.endless, data.notes.divided), (0, 0, 0));
        let example = &data.examples[0];
        assert!(data.examples.iter().all(|other| other.tokens == example.tokens && other.trained == example.trained));
        assert_eq!(trained(&tokenizer, example), expected);
        let text = tokenizer.decode(&example.tokens);
        let shown = ["Be brief.", "Weather in Bern?", "\"city\"", "blue <|im_end|>"];
        // Hermes has only its own system message first, and the other one as a message.
        assert!(shown.iter().all(|part| text.contains(part) || source == HERMES && *part == "\"city\""), "{text}");
        // What chat and eval send before each answer is what stands before it here.
        let messages: Vec<Message> = serde_json::from_value(messages(&open, false)).expect("messages");
        let mut untrained = 0;
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let sent = template.encode_with_tools(&tokenizer, &messages[..i], Some(&tools()), true).expect("rendered");
            assert!(example.tokens.starts_with(&sent), "{style}: message {i}");
            assert!(example.trained[sent.len()] && !example.trained[sent.len() - 1], "{style}: message {i}");
            untrained = sent.len();
        }
        let pairs = load_pairs(&path, &tokenizer, Some(&template), &DataOptions::new(Records::Answers, 4096))
            .expect("loads")
            .pairs;
        assert!(pairs.iter().all(|pair| pair.prompt == example.tokens[..untrained] && pair.reference == "Welcome."));
        // A control token in what a tool says, or in its description, is text.
        let ends = example.tokens.iter().filter(|&&id| tokenizer.is_end(id)).count();
        assert_eq!(ends, if source == HERMES { 8 } else { 7 }, "{text}");
    }
}

#[test]
fn parts_that_are_no_text_are_named_with_their_line() {
    let tokenizer = tokenizer("chatml");
    let template = ChatTemplate::from_source(QWEN, "<s>", "</s>").expect("sound");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.jsonl");
    let answer = json!({"role": "assistant", "content": "a"});
    let cases = [
        (
            json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]),
            "part 2 has the type \"image_url\"",
        ),
        (json!([{"type": "text"}]), "part 1 has no text"),
        (json!([{"text": "a"}]), "missing field `type`"),
        (json!(["a"]), "invalid type"),
        (json!({"type": "text", "text": "a"}), "a string or a list of parts"),
        (json!(3), "a string or a list of parts"),
    ];
    for (content, expected) in cases {
        let good = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "b"}]}, answer]});
        let bad = json!({"messages": [{"role": "user", "content": content}, answer]});
        std::fs::write(&path, format!("{good}\n{bad}\n")).expect("written");
        let error =
            load(&path, &tokenizer, Some(&template), &DataOptions::new(Records::Answers, 512)).expect_err("bad");
        let shown = error.to_string();
        assert!(matches!(error, loam::Error::Data { line: 2, .. }) && shown.contains(expected), "{expected}: {shown}");
    }
}
