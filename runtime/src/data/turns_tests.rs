//! Prefixes rendered in one go against each rendered by itself, and how the work grows.

use super::super::encode::Encoder;
use super::super::{DataOptions, Example, Notes, Records};
use super::*;
use crate::random;
use crate::tokenizer::{Model, Strips, Vocabulary};
use loam_text::work;

/// Numbers in a reproducible order.
struct Random(u64, u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.1 += 1;
        (random::bits(self.0, 7, self.1) % end as u64) as usize
    }

    fn one<'l>(&mut self, list: &[&'l str]) -> &'l str {
        list[self.below(list.len())]
    }
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const LLAMA3: &str = "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0]['content'] | trim %}\
    {% set messages = messages[1:] %}{% else %}{% set system = 'S' %}{% endif %}<|im_start|>system\n{{ system }}<|eot_id|>\
    {% for m in messages %}{% if m.tool_calls %}<|im_start|>assistant\n{{ m.tool_calls[0] | tojson }}<|eot_id|>\
    {% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}\
    {{ '<|im_start|>assistant\n' if add_generation_prompt }}";
/// `loop.last`, a default before the loop, and what looks back and one message ahead.
const TOOLS: &str = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
    {% set ns = namespace(tool=false, n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}\
    {% if m.role == 'tool' %}{% if not loop.previtem or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}\
    \n<tool>{{ m.content }}</tool>{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}\
    {% else %}<|im_start|>{{ m.role }} {{ ns.n }}\n{{ m.content }}{% for c in m.tool_calls %}CALL {{ c.name }}{% endfor %}<|im_end|>\n\
    {% endif %}{% if loop.last and add_generation_prompt %}<|im_start|>assistant {{ ns.n + 1 }}\n{% endif %}{% endfor %}";
/// A loop that looks for the system message before the loop that writes.
const SCAN: &str = "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}\
    {% set ns.system = m.content %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}{% for m in messages %}\
    {% if m.role == 'user' %}<|user|>{{ m.content }}{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}{{ eos_token }}\
    {% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
/// Words as marks, an end that only the last message has, and a text after all.
const WORDS: &str = "{% macro say(who, what) %} {{ who | upper }}: {{ what }}{% endmacro %}{% for m in messages %}\
    {{ say(m.role, m.content) }}{% if m.role == 'assistant' %}</s>{% endif %}{% if loop.last %}!{% endif %}{% endfor %}\
    {{ ' ASSISTANT: ' if add_generation_prompt else '(' ~ messages[-1].role ~ messages | length ~ ')' }}";
/// Templates that look ahead, break off, or write everything at the end.
const OTHERS: [&str; 5] = [
    "{{ messages | length }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>",
    "{% for m in messages %}<|im_start|>{{ loop.revindex }}{{ m.content }}<|im_end|>{% endfor %}<|im_start|>",
    "{% for m in messages %}{% if loop.index > 4 %}{% break %}{% endif %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>",
    "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' %}\
        {% endfor %}{{ ns.t }}{{ '<|assistant|>' if add_generation_prompt }}",
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ loop.index }}{{ m.content }}<|im_end|>{% endfor %}<|im_start|>",
];
/// The message that comes next, and what the loop remembers.
const NEXT: &str = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{{ loop.nextitem.role if loop.nextitem }}\
    {{ loop.changed(m.role) }}{% endfor %}<|im_start|>";

const SPECIAL: [&str; 14] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_end|>\n",
    "<|eot_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<tool>",
    "|><|",
    "  ",
    "\n\n",
    "[INST]",
];

/// A token per printable ASCII character or byte and `special`; some of it is structure, some only added text.
fn tokenizer(model: Model, name: &str, special: &[&str]) -> Tokenizer {
    let (mut tokens, mut types) = (Vec::new(), Vec::new());
    match model {
        Model::Bpe => {
            tokens.extend((33..=126u8).map(|b| char::from(b).to_string()));
            tokens.extend(["Ċ", "Ġ"].map(String::from));
            types.resize(tokens.len(), 1);
        }
        _ => {
            tokens.push("<unk>".to_owned());
            types.push(2);
            tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
            types.resize(tokens.len(), 6);
            tokens.extend(["▁", "▁h", "hm"].map(String::from));
            types.resize(tokens.len(), 1);
        }
    }
    let added = |token: &str| if token.starts_with("<|") || token.ends_with("s>") { 3 } else { 4 };
    tokens.extend(special.iter().map(|&token| token.to_owned()));
    types.extend(special.iter().map(|token| added(token)));
    let id = |text: &str| tokens.iter().position(|token| token == text).map(|at| at as u32);
    let (bos, eos, scores) = (id("<s>"), id("</s>"), vec![0.0; tokens.len()]);
    let pre = "gpt-2".into();
    // Added tokens of Phi-3 take the white space after them.
    let right = (0..types.len() as u32).filter(|&id| types[id as usize] == 3 && Some(id) != bos).collect();
    let strips = (!name.is_empty()).then_some(Strips { left: Vec::new(), right });
    let vocabulary = Vocabulary { model, pre, tokens, types, scores, bos, eos, strips, ..Vocabulary::default() };
    Tokenizer::new(vocabulary).unwrap()
}

fn conversation(random: &mut Random) -> Conversation {
    let words = [" ", "\n", "h", "yes", "<|im_end|>", "</s>", "<tool>", "|>", "  ", "<|", "</think>", "!"];
    let mut messages = Vec::new();
    if random.below(2) == 0 {
        messages.push(Message::new("system", "Sy"));
    }
    for _ in 0..2 + random.below(14) {
        let role = random.one(&["user", "assistant", "assistant", "tool"]);
        let content: String = (0..random.below(6)).map(|_| random.one(&words)).collect();
        let mut message = Message::new(role, if role == "assistant" { format!("a{content}") } else { content });
        if role == "assistant" && random.below(4) == 0 {
            message.tool_calls = vec![serde_json::json!({"name": "f", "arguments": {"x": random.below(9)}})];
        }
        messages.push(message);
    }
    let tools = (random.below(3) == 0).then(|| serde_json::json!([{"name": "t"}]));
    Conversation::new(messages, tools)
}

/// Examples and notes of a conversation, or its problem.
fn examples(
    tokenizer: &Tokenizer,
    messages: &[Message],
    turns: Turns<'_>,
) -> Result<(Vec<Example>, Notes), DataProblem> {
    let options = DataOptions::new(Records::Answers, 1 << 20);
    let encoder = Encoder { tokenizer, template: None, options: &options };
    let (mut out, mut notes) = (Vec::new(), Notes::default());
    encoder.answers(messages, turns, &mut notes, &mut |example| out.push(example))?;
    Ok((out, notes))
}

#[test]
fn in_one_go_is_what_each_by_itself_is() {
    let mut random = Random(5, 0);
    let made = |model, name| tokenizer(model, name, &SPECIAL);
    let tokenizers = [made(Model::Bpe, ""), made(Model::Spm, ""), made(Model::Bpe, "phi-3")];
    let ordinary = [CHATML, LLAMA3, TOOLS, SCAN, WORDS, NEXT];
    for (at, source) in ordinary.into_iter().chain(OTHERS).enumerate() {
        let template = ChatTemplate::from_source(source, "<s>", "</s>").unwrap();
        let (mut compared, mut windows) = (0, 0);
        for round in 0..60 {
            let conversation = conversation(&mut random);
            let tokenizer = &tokenizers[round % tokenizers.len()];
            let whole = Turns::one_by_one(&conversation, &template, tokenizer);
            let whole = examples(tokenizer, &conversation.messages, whole);
            let turns = Turns::new(&conversation, &template, tokenizer);
            let found = examples(tokenizer, &conversation.messages, turns);
            assert_eq!(found, whole, "template {at}, round {round}: {conversation:?}");
            compared += usize::from(whole.is_ok());
            let mut turns = Turns::new(&conversation, &template, tokenizer);
            let answers = conversation.messages.iter().enumerate().filter(|(_, message)| is_answer(message));
            windows += answers
                .filter(|(i, _)| turns.turn(*i).is_ok_and(|turn| turn.is_some_and(|turn| turn.before > 0)))
                .count();
        }
        // The comparison says something, and the ordinary templates do go the short way.
        assert!(compared > 5, "template {at}: {compared}");
        assert_eq!(windows > 60, at < ordinary.len(), "template {at}: {windows}");
    }
}

#[test]
fn work_is_linear_in_the_number_of_messages() {
    // Without the token that could be in the middle of two others.
    let tokenizer = tokenizer(Model::Bpe, "", &SPECIAL[..10]);
    for (at, source) in [CHATML, LLAMA3, TOOLS, SCAN, WORDS].into_iter().enumerate() {
        let template = ChatTemplate::from_source(source, "<s>", "</s>").unwrap();
        let work = |count: usize| {
            let mut messages = vec![Message::new("system", "Sy")];
            messages.extend((0..count).map(|i| match i % 2 {
                0 => Message::new("user", "a question"),
                _ => Message::new("assistant", "an answer"),
            }));
            let conversation = Conversation::new(messages, None);
            work::done_by(|| {
                let turns = Turns::new(&conversation, &template, &tokenizer);
                let (examples, _) = examples(&tokenizer, &conversation.messages, turns).unwrap();
                let trained = examples[0].trained.iter().filter(|&&trained| trained).count();
                assert!(examples.len() == 1 && trained >= count / 2 * 10, "template {at}: {trained}");
            })
        };
        let (short, long) = (work(300), work(3000));
        assert!(long < 11 * short, "template {at}: {short} steps and bytes, {long} for ten times the messages");
    }
}

/// Prefixes whose history is rewritten are examples of their own: each is handed on before the next one is made.
#[test]
fn rewritten_history_is_handed_on_turn_by_turn() {
    let source = "{% for m in messages %}<|im_start|>{{ m.content if loop.last else m.content | upper }}<|im_end|>\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}";
    let template = ChatTemplate::from_source(source, "<s>", "</s>").unwrap();
    let tokenizer = tokenizer(Model::Bpe, "", &SPECIAL);
    let turn = |i: usize| Message::new(["user", "assistant"][i % 2], "abc");
    let conversation = Conversation::new((0..40).map(turn).collect(), None);
    let options = DataOptions::new(Records::Answers, 1 << 20);
    let encoder = Encoder { tokenizer: &tokenizer, template: None, options: &options };
    let mut left = Vec::new();
    let turns = Turns::new(&conversation, &template, &tokenizer);
    let done = work::done_by(|| {
        let mut since = 0;
        encoder
            .answers(&conversation.messages, turns, &mut Notes::default(), &mut |_| {
                since += 1;
                work::count(1 << 32);
                left.push(since);
            })
            .unwrap();
    });
    assert_eq!((left.len(), done >> 32), (20, 20));
}
