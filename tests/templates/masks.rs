//! Which tokens are trained, whatever the template: known from the rendering itself, checked against spans written by
//! hand.

use loam::chat::{ChatTemplate, Message};
use loam::data::{DataOptions, Dataset, Example, Records, load};
use loam::tokenizer::{Tokenizer, Vocabulary};
use loam_tests::Random;

use crate::styles::STYLES;

/// What templates write as structure.
const CONTROL: [&str; 27] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|User|>",
    "<|Assistant|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|end_of_text|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|return|>",
    "<|tool|>",
    "<|call|>",
    "<|endoftext|>",
];

/// A token per printable ASCII character, space and line end, and those of [`CONTROL`]. With `<|return|>` and
/// `<|call|>`, which only channels have, `<|end|>` ends no answer.
pub fn tokenizer(style: &str) -> Tokenizer {
    let mut tokens: Vec<String> = (33..=126u8).map(|b| char::from(b).to_string()).collect();
    tokens.extend(["Ċ", "Ġ"].map(String::from));
    let mut types = vec![1; tokens.len()];
    let channels = style == "channels";
    tokens.extend(
        CONTROL
            .iter()
            .filter(|token| channels || !["<|return|>", "<|call|>"].contains(token))
            .map(|token| (*token).to_owned()),
    );
    types.resize(tokens.len(), 3);
    let eos = tokens.iter().position(|token| token == "</s>").map(|id| id as u32);
    let vocabulary = Vocabulary { pre: "gpt-2".into(), tokens, types, eos, ..Vocabulary::default() };
    Tokenizer::new(vocabulary).expect("sound")
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source(source, "<s>", "</s>").expect("sound")
}

fn loaded(tokenizer: &Tokenizer, template: &ChatTemplate, messages: &[Message]) -> Result<Dataset, loam::Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.jsonl");
    std::fs::write(&path, serde_json::json!({ "messages": messages }).to_string()).expect("written");
    load(&path, tokenizer, Some(template), &DataOptions::new(Records::Answers, 1 << 20))
}

/// The trained runs of an example as text.
pub fn trained(tokenizer: &Tokenizer, example: &Example) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut before = false;
    for (&token, &now) in example.tokens.iter().zip(&example.trained) {
        match runs.last_mut() {
            Some(run) if now && before => run.push(token),
            _ if now => runs.push(vec![token]),
            _ => {}
        }
        before = now;
    }
    runs.iter().map(|run| tokenizer.decode(run)).collect()
}

const THOUGHT: &str = "<think>\nhm\n</think>\n\n";

/// For each style, the examples of one conversation, and the trained runs of each. `*` is the thought.
const EXPECTED: [(&str, &[&[&str]]); 14] = [
    ("chatml", &[&[" A one. <|im_end|>", "*B two.<|im_end|>"]]),
    ("chatml-trim", &[&["A one.<|im_end|>", "*B two.<|im_end|>"]]),
    ("llama2", &[&[" A one. </s>", " *B two. </s>"]]),
    ("llama3", &[&["A one.<|eot_id|>", "*B two.<|eot_id|>"]]),
    // The system message moves to the last question.
    ("mistral", &[&[" A one.</s>"], &[" *B two.</s>"]]),
    ("gemma", &[&["A one.<end_of_turn>", "*B two.<end_of_turn>"]]),
    ("phi3", &[&[" A one. <|end|>", "*B two.<|end|>"]]),
    // An answer without a thought gets an empty one, which later turns do not show.
    ("qwen3", &[&["<think>\n\n</think>\n\n A one. <|im_end|>"], &["*B two.<|im_end|>"]]),
    ("zephyr", &[&[" A one. </s>", "*B two.</s>"]]),
    ("vicuna", &[&[" A one.</s>", " *B two.</s>"]]),
    // It asks for a thought and then writes none.
    ("deepseek", &[&[" A one. </s>", "\n\nB two.</s>"]]),
    ("granite", &[&[" A one. <|end_of_text|>", "*B two.<|end_of_text|>"]]),
    // The last message ends otherwise than the others.
    (
        "channels",
        &[&["<|channel|>final<|message|> A one. <|return|>"], &["<|channel|>final<|message|>*B two.<|return|>"]],
    ),
    ("alpaca", &[&["A one.</s>", "*B two.</s>"]]),
];

#[test]
fn spans_of_every_style() {
    let answer = format!("{THOUGHT}B two.");
    let turns =
        [("system", "S"), ("user", "U?"), ("assistant", " A one. "), ("user", "V?"), ("assistant", answer.as_str())];
    let messages = turns.map(|(role, content)| Message::new(role, content));
    for ((name, source), (style, expected)) in STYLES.into_iter().zip(EXPECTED) {
        assert_eq!(name, style);
        let tokenizer = tokenizer(name);
        let data = loaded(&tokenizer, &template(source), &messages).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found: Vec<Vec<String>> = data.examples.iter().map(|example| trained(&tokenizer, example)).collect();
        let written = |runs: &&[&str]| runs.iter().map(|run| run.replace('*', THOUGHT)).collect::<Vec<_>>();
        assert_eq!(found, expected.iter().map(written).collect::<Vec<_>>(), "{name}");
        assert_eq!(data.notes.unprompted, if name == "deepseek" { 2 } else { 0 }, "{name}");
        assert_eq!((data.notes.endless, data.notes.divided), (0, usize::from(expected.len() > 1)), "{name}");
    }
}

/// A content that begins with a letter of its speaker, and has what templates look at and control tokens inside.
fn content(speaker: &str, turn: usize, random: &mut Random) -> String {
    let words = [
        " ",
        "\n",
        "x",
        "yes",
        "</think>",
        "<think>",
        "<|im_end|>",
        "</s>",
        "[INST]",
        "{{",
        "'",
        "\"",
        "\\",
        "<|assistant|>",
    ];
    let some: String = (0..random.below(8)).map(|_| words[random.below(words.len() as u32) as usize]).collect();
    format!("{speaker}{turn}({some}){speaker}{turn}")
}

/// Whatever is said: prompts are those that `chat` sends, each answer is trained up to its end, and nothing else is.
#[test]
fn training_renders_what_chat_renders() {
    let mut random = Random::new(11);
    for (name, source) in STYLES {
        let (tokenizer, template) = (tokenizer(name), template(source));
        for round in 0..30 {
            let turns = 1 + random.below(3) as usize;
            let mut messages = Vec::new();
            if random.below(2) == 0 {
                messages.push(Message::new("system", content("S", 0, &mut random)));
            }
            for turn in 0..turns {
                messages.push(Message::new("user", content("U", turn, &mut random)));
                messages.push(Message::new("assistant", content("A", turn, &mut random)));
            }
            let data = loaded(&tokenizer, &template, &messages).unwrap_or_else(|e| panic!("{name} {round}: {e}"));
            let runs: Vec<String> = data.examples.iter().flat_map(|e| trained(&tokenizer, e)).collect();
            assert_eq!(runs.len(), turns, "{name} {round}: one run for each answer");
            for (turn, run) in runs.iter().enumerate() {
                assert!(!run.contains("U0(") && !run.contains("S0("), "{name} {round}: {run:?}");
                assert!(run.contains(&format!("A{turn}")), "{name} {round}: {run:?}");
                let ids = tokenizer.encode(run, true, false).expect("text");
                assert!(ids.last().is_some_and(|&id| tokenizer.is_end(id)), "{name} {round}: {run:?}");
            }
            // Contents are text, whatever they spell: as many control tokens as with harmless contents.
            let control = |ids: &[u32]| ids.iter().filter(|&&id| tokenizer.is_control(id)).count();
            let harmless = |message: &Message| Message::new(message.role.as_str(), "h");
            let plain: Vec<Message> = messages.iter().map(harmless).collect();
            for prompt in [false, true] {
                let said = template.encode(&tokenizer, &messages, prompt).expect("rendered");
                let unsaid = template.encode(&tokenizer, &plain, prompt).expect("rendered");
                assert_eq!(control(&said), control(&unsaid), "{name} {round}");
                let text = template.render(&messages, prompt).expect("rendered");
                assert_eq!(tokenizer.decode(&said), text, "{name} {round}");
            }
            if name == "deepseek" {
                continue;
            }
            for i in (0..messages.len()).filter(|&i| messages[i].role == "assistant") {
                let served = template.encode(&tokenizer, &messages[..i], true).expect("rendered");
                let follows = |e: &Example| e.tokens.starts_with(&served) && e.trained.get(served.len()) == Some(&true);
                assert!(data.examples.iter().any(follows), "{name} {round}: message {i}");
                assert!(
                    !data.examples.iter().any(|e| follows(e) && e.trained[served.len() - 1]),
                    "{name}: a header is trained"
                );
            }
        }
    }
}

/// Templates that no comparison of two renderings could see through.
#[test]
fn templates_that_rewrite_everything() {
    let tokenizer = tokenizer("chatml");
    let messages = [("user", "U?"), ("assistant", " A one. "), ("user", "V?"), ("assistant", "B.two.")]
        .map(|(r, c)| Message::new(r, c));
    let cases: [(&str, &[&[&str]]); 7] = [
        // How many messages there are comes first.
        (
            "{{ messages | length }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
            &[&[" A one. <|end|>"], &["B.two.<|end|>"]],
        ),
        // Everything is collected and written at the end.
        (
            "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ '<|' ~ m.role ~ '|>' ~ m.content | trim ~ '<|end|>' %}\
          {% endfor %}{{ ns.t | replace('?', '!') }}{{ '<|assistant|>' if add_generation_prompt }}",
            &[&["A one.<|end|>", "B.two.<|end|>"]],
        ),
        // Parts of answers, written again.
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('.') | map('upper') | join(' / ') }}<|end|>{% endfor %}\
          {{ '<|assistant|>' if add_generation_prompt }}",
            &[&[" A ONE /  <|end|>", "B / TWO / <|end|>"]],
        ),
        // Macros, blocks, filters; only the last answer is shown.
        (
            "{% macro say(m) %}{% filter lower %}{% set c %}{{ m.content }}{% endset %}{{ c }}{% endfilter %}{% endmacro %}\
          {% for m in messages if m.role == 'user' or m == messages[-1] %}<|{{ m.role }}|>{{ say(m) }}<|end|>{% endfor %}\
          {{ '<|assistant|>' if add_generation_prompt }}",
            &[&[" a one. <|end|>"], &["b.two.<|end|>"]],
        ),
        // The answer in JSON, with a key first.
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ {'text': m.content} | tojson }}<|end|>{% endfor %}{{ '<|assistant|>' if add_generation_prompt }}",
            &[&["{\"text\": \" A one. \"}<|end|>", "{\"text\": \"B.two.\"}<|end|>"]],
        ),
        // It asks in other words than it writes.
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{{ '<|start|>answer:' if add_generation_prompt }}",
            &[&[" A one. <|end|>", "B.two.<|end|>"]],
        ),
        // Letter by letter, and the end of the text after the end of the turn.
        (
            "{% for m in messages %}<|{{ m.role }}|>{% for c in m.content %}{{ c }}{% endfor %}<|end|>{% endfor %}\
          {{ '<|assistant|>' if add_generation_prompt else '<|endoftext|>' }}",
            &[&[" A one. <|end|>", "B.two.<|end|>"]],
        ),
    ];
    for (source, expected) in cases {
        let data = loaded(&tokenizer, &template(source), &messages).unwrap_or_else(|e| panic!("{source}: {e}"));
        let found: Vec<Vec<String>> = data.examples.iter().map(|example| trained(&tokenizer, example)).collect();
        assert_eq!(found, expected, "{source}");
    }
}
