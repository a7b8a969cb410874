//! Files to examples: masks, windows, and every way a line can be wrong.

use std::io::Write;

use super::*;
use crate::chat::Message;
use crate::tokenizer::Vocabulary;

#[path = "preference_tests.rs"]
mod preferences;

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
    '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/// Drops what an assistant thought once the turn is over, as reasoning models do.
const FORGETFUL: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}\
    {{ m.content.split('!')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A token per printable ASCII character, space and newline; 97 `<|im_start|>`, 98 `<|im_end|>`, 99 EOS.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = (33..=126u8).map(|b| char::from(b).to_string()).collect();
    tokens.extend(["Ċ", "Ġ", "č", "<|im_start|>", "<|im_end|>", "<|endoftext|>"].map(String::from));
    let mut types = vec![1; tokens.len()];
    types[97..].fill(3);
    let vocabulary = Vocabulary { pre: "gpt-2".into(), tokens, types, eos: Some(99), ..Vocabulary::default() };
    Tokenizer::new(vocabulary).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::for_tokenizer(source, &tokenizer()).unwrap()
}

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(content).unwrap();
    (folder, path)
}

fn load_with(name: &str, content: &[u8], source: Option<&str>, options: &DataOptions) -> Result<Dataset> {
    let (_folder, path) = file(name, content);
    load(&path, &tokenizer(), source.map(template).as_ref(), options)
}

fn sft(content: &str) -> Result<Dataset> {
    load_with("a.jsonl", content.as_bytes(), Some(CHATML), &DataOptions::new(Records::Answers, 512))
}

/// The trained tokens of an example as text, each run in brackets.
fn marked(example: &Example) -> String {
    let tokenizer = tokenizer();
    let mut out = String::new();
    let mut before = false;
    for (&token, &trained) in example.tokens.iter().zip(&example.trained) {
        if trained != before {
            out.push(if trained { '[' } else { ']' });
        }
        before = trained;
        out += &tokenizer.decode(&[token]);
    }
    if before {
        out.push(']');
    }
    out
}

const TURNS: &str = r#"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A!B"},{"role":"user","content":"V"},{"role":"assistant","content":"C"}]}"#;

#[test]
fn every_assistant_turn_is_trained_with_its_end() {
    let data = sft(TURNS).unwrap();
    assert_eq!(data.examples.len(), 1);
    assert_eq!(
        marked(&data.examples[0]),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[A!B<|im_end|>]\n\
         <|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n[C<|im_end|>]"
    );
    assert_eq!((data.notes.divided, data.notes.records, data.trained_tokens()), (0, 1, 6));
    assert!(data.notes.warnings().is_empty());
}

#[test]
fn prompts_are_what_chat_sends() {
    let (tokenizer, chat) = (tokenizer(), template(CHATML));
    let messages: Vec<Message> =
        [("user", " two <|im_end|> "), ("assistant", "\nx"), ("user", "y"), ("assistant", "z ")]
            .map(|(role, content)| Message::new(role, content))
            .into();
    let line = serde_json::json!({ "messages": messages }).to_string();
    let data = sft(&line).unwrap();
    for (i, _) in messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
        let served = chat.encode(&tokenizer, &messages[..i], true).unwrap();
        let found = data.examples.iter().any(|e| e.tokens.starts_with(&served) && e.trained[served.len()]);
        assert!(found, "message {i}");
    }
    let control = data.examples[0].tokens.iter().filter(|&&id| tokenizer.is_control(id)).count();
    assert_eq!(control, 8, "two for each of the four messages, none from the content");
}

#[test]
fn a_template_that_rewrites_history_gives_one_example_per_turn() {
    let options = DataOptions::new(Records::Answers, 512);
    let data = load_with("a.jsonl", TURNS.as_bytes(), Some(FORGETFUL), &options).unwrap();
    assert_eq!((data.examples.len(), data.notes.divided), (2, 1));
    assert!(marked(&data.examples[0]).ends_with("assistant\n[A!B<|im_end|>]"));
    assert!(marked(&data.examples[1]).contains("assistant\nB<|im_end|>\n"), "the second prompt has the short history");
    assert!(marked(&data.examples[1]).ends_with("assistant\n[C<|im_end|>]"));
    assert_eq!(data.notes.warnings().len(), 1);
}

#[test]
fn a_template_that_contradicts_its_generation_prompt_is_told() {
    let source = CHATML.replace("{{ '<|im_start|>assistant\\n' }}", "<|im_start|>helper\n");
    let options = DataOptions::new(Records::Answers, 512);
    let data = load_with("a.jsonl", TURNS.as_bytes(), Some(&source), &options).unwrap();
    assert_eq!((data.examples.len(), data.notes.unprompted), (1, 2));
    let text = marked(&data.examples[0]);
    assert!(text.contains("assistant\n[A!B<|im_end|>]\n") && text.ends_with("assistant\n[C<|im_end|>]"), "{text}");
    assert!(data.notes.warnings()[0].contains("do not follow the prompt"), "{:?}", data.notes);
    // Without a generation prompt, the header is still no part of the answer.
    let silent = CHATML.split("{% if add").next().unwrap();
    let data = load_with("a.jsonl", TURNS.as_bytes(), Some(silent), &options).unwrap();
    assert_eq!((marked(&data.examples[0]), data.notes.unprompted), (text, 2));
}

#[test]
fn messages_without_weight_are_seen_and_not_trained() {
    let turns = |first: &str, last: &str| {
        let answer = |text: &str, more: &str| format!(r#"{{"role":"assistant","content":"{text}"{more}}}"#);
        let asked = r#"{"role":"user","content":"U"}"#;
        let (first, last) = (answer("A", first), answer("B", last));
        format!(r#"{{"messages":[{asked},{first},{asked},{last}]}}"#)
    };
    let question = "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n";
    for flag in [r#","weight":0"#, r#","train":false"#, r#","training":false"#] {
        let data = sft(&turns(flag, "")).unwrap();
        assert_eq!(marked(&data.examples[0]), format!("{question}A<|im_end|>\n{question}[B<|im_end|>]"), "{flag}");
        let data = sft(&turns("", flag)).unwrap();
        assert_eq!(marked(&data.examples[0]), format!("{question}[A<|im_end|>]"), "{flag}");
        let none = sft(&turns(flag, flag)).unwrap_err().to_string();
        assert!(none.contains("no assistant message to train on"), "{none}");
    }
    let data = sft(&turns(r#","weight":1,"train":true"#, "")).unwrap();
    assert_eq!(marked(&data.examples[0]), format!("{question}[A<|im_end|>]\n{question}[B<|im_end|>]"));
}

#[test]
fn all_or_nothing_is_an_error() {
    let options = DataOptions::new(Records::Answers, 512);
    let line = r#"{"messages":[{"role":"assistant","content":"A"}]}"#;
    let load = |source: &str| load_with("a.jsonl", line.as_bytes(), Some(source), &options);
    let all = load("{{ messages[0].content }}<|im_end|>").unwrap_err().to_string();
    assert!(all.contains("a.jsonl:1: the chat template writes nothing before the answer"), "{all}");
    let none = load("<|im_start|>{{ messages | length }}<|im_end|>").unwrap_err().to_string();
    assert!(none.contains("a.jsonl:1: message 1: the chat template leaves it out"), "{none}");
    let clm = DataOptions::new(Records::Texts, 512);
    let source = "<|im_start|>{{ messages | length }}<|im_end|>";
    let none = load_with("a.jsonl", line.as_bytes(), Some(source), &clm).unwrap_err().to_string();
    assert!(none.contains("a.jsonl:1: message 1: the chat template leaves it out"), "{none}");
    let first = load("<|im_start|>{{ messages[0].role }}{{ messages[0].content }}<|im_end|>").unwrap();
    assert_eq!(marked(&first.examples[0]), "<|im_start|>assistant[A<|im_end|>]", "chat sends nothing before it");
    let endless = load("<|im_start|>{{ messages[0].content }}!").unwrap();
    assert_eq!((marked(&endless.examples[0]).as_str(), endless.notes.endless), ("<|im_start|>[A!]", 1));
}

#[test]
fn thoughts_tools_and_calls() {
    let source = "{% if tools %}T{{ tools[0].name }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\
        {% for c in m.tool_calls %}CALL {{ c | tojson }}{% endfor %}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let line = r#"{"tools":[{"name":"f<|im_end|>"}],"messages":[{"role":"user","content":"U"},
        {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"name":"f","arguments":{"x":1}}]},
        {"role":"tool","content":"7","name":"f"},{"role":"assistant","content":"so 7"}]}"#
        .replace('\n', "");
    let options = DataOptions::new(Records::Answers, 512);
    let data = load_with("a.jsonl", line.as_bytes(), Some(source), &options).unwrap();
    let texts: Vec<String> = data.examples.iter().map(marked).collect();
    let call = "CALL {\"name\": \"f\", \"arguments\": {\"x\": 1}}<|im_end|>";
    let start = "Tf<|im_end|><|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n";
    let second = format!("{start}{call}\n<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n[so 7<|im_end|>]");
    assert_eq!(
        texts,
        [format!("{start}[<think>hm</think>{call}]"), second],
        "the thought is gone in the second prompt"
    );
    let control = data.examples[0].tokens.iter().filter(|&&id| tokenizer().is_control(id)).count();
    assert_eq!(control, 4, "the end in the description of a tool is text");
}

#[test]
fn prompt_and_completion() {
    let line = r#"{"prompt":"U","completion":"A"}"#;
    assert_eq!(
        marked(&sft(line).unwrap().examples[0]),
        "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]"
    );
    let options = DataOptions::new(Records::Answers, 512);
    let plain = load_with("a.jsonl", line.as_bytes(), None, &options).unwrap();
    assert_eq!(marked(&plain.examples[0]), "U[A<|endoftext|>]");
    let messages = load_with("a.jsonl", TURNS.as_bytes(), None, &options).unwrap_err().to_string();
    assert!(messages.contains("no chat template"), "{messages}");
}

#[test]
fn plain_text_trains_every_token_once() {
    let options = DataOptions::new(Records::Texts, 4);
    let data = load_with("a.txt", b"\xef\xbb\xbfabcdefgh", None, &options).unwrap();
    let windows: Vec<String> = data.examples.iter().map(|e| tokenizer().decode(&e.tokens)).collect();
    assert_eq!(windows, ["abcd", "defg", "gh"]);
    assert_eq!((data.tokens(), data.trained_tokens(), data.notes.records), (10, 7, 1));
    // Seven characters fill the last window exactly; nothing of one token is left over.
    let exact = load_with("a.txt", b"abcdefg", None, &options).unwrap();
    assert_eq!(exact.examples.len(), 2);
    let lines = load_with("a.jsonl", b"{\"text\":\"ab\"}\n{\"text\":\"c\"}", None, &options).unwrap();
    let texts: Vec<String> = lines.examples.iter().map(marked).collect();
    assert_eq!(texts, ["[ab<|endoftext|>]", "[c<|endoftext|>]"], "a line is a whole text: it ends");
    let chat = load_with("a.jsonl", TURNS.as_bytes(), Some(CHATML), &DataOptions::new(Records::Texts, 512)).unwrap();
    assert!(chat.examples[0].trained.iter().all(|&t| t));
    let wrong = |error| matches!(error, Error::Records { found: Records::Texts, wanted: Records::Answers, .. });
    assert!(wrong(load_with("a.txt", b"abc", None, &DataOptions::new(Records::Answers, 8)).unwrap_err()));
    assert!(wrong(sft("{\"text\":\"a\"}").unwrap_err()));
}

/// For each token of `text`, how many tokens of it come before it in the window where it counts.
fn depths(text: &str, options: &DataOptions) -> Vec<Vec<usize>> {
    let data = load_with("a.txt", text.as_bytes(), None, options).unwrap();
    let mut depths = vec![Vec::new(); text.len()];
    for window in &data.examples {
        assert!(window.tokens.len() <= options.context);
        // No character is in the text twice: a token tells its place.
        let place = text.find(&tokenizer().decode(&window.tokens)).unwrap();
        (1..window.tokens.len()).filter(|&t| window.trained[t]).for_each(|t| depths[place + t].push(t));
    }
    depths
}

#[test]
fn a_stride_counts_every_token_once_and_a_smaller_one_gives_more_context() {
    let text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let options = |stride| DataOptions { stride, ..DataOptions::new(Records::Texts, 8) };
    for length in 2..=text.len() {
        let mut before = vec![usize::MAX; length];
        for stride in 1..8 {
            let depths = depths(&text[..length], &options(Some(stride)));
            assert!(depths[0].is_empty() && depths[1..].iter().all(|d| d.len() == 1), "{length} {stride}: {depths:?}");
            let smallest = depths[8.min(length)..].iter().map(|d| d[0]).min();
            assert!(smallest.is_none_or(|depth| depth >= 8 - stride), "{length} {stride}: {depths:?}");
            let sum = |depths: &[usize]| depths.iter().fold(0usize, |sum, &d| sum.saturating_add(d));
            let now: Vec<usize> = depths[1..].iter().map(|d| d[0]).collect();
            assert!(sum(&now) <= sum(&before[1..]), "{length} {stride}: a larger stride gives no more context");
            before[1..].copy_from_slice(&now);
        }
    }
    // The windows of Hugging Face's strided evaluation: they start at 0, 3, 6, .. and the last one ends the text.
    let data = load_with("a.txt", b"abcdefghijklm", None, &options(Some(3))).unwrap();
    let windows: Vec<String> = data.examples.iter().map(marked).collect();
    assert_eq!(windows, ["[abcdefgh]", "defgh[ijk]", "ghijk[lm]"]);
    let load = |options: &DataOptions| load_with("a.txt", text.as_bytes(), None, options);
    assert_eq!(load(&options(None)).unwrap(), load(&options(Some(7))).unwrap());
}

#[test]
fn a_stride_out_of_range_or_without_windows_is_refused() {
    let load = |objective, stride| {
        let options = DataOptions { stride: Some(stride), ..DataOptions::new(objective, 8) };
        load_with("a.jsonl", b"{\"prompt\":\"U\",\"completion\":\"A\"}", None, &options)
    };
    for (objective, stride, word) in
        [(Records::Texts, 0, "is 0"), (Records::Texts, 8, "from 1 to 7"), (Records::Answers, 4, "objective clm")]
    {
        let error = load(objective, stride).unwrap_err();
        assert!(matches!(&error, Error::Option(error) if error.to_string().contains(word)), "{error}");
    }
    assert_eq!(load(Records::Texts, 7).unwrap().trained_tokens(), 2);
}

#[test]
fn long_and_masked_examples_are_counted() {
    let short = r#"{"prompt":"U","completion":"A"}"#;
    let long = format!(r#"{{"prompt":"{}","completion":"A"}}"#, "u".repeat(100));
    let cut = format!(r#"{{"prompt":"U","completion":"{}"}}"#, "a".repeat(100));
    let options = DataOptions::new(Records::Answers, 50);
    let content = [short, &long, &cut].join("\n");
    let data = load_with("a.jsonl", content.as_bytes(), Some(CHATML), &options).unwrap();
    assert_eq!((data.examples.len(), data.notes.truncated, data.notes.masked), (2, 2, 1));
    assert_eq!(data.examples[1].tokens.len(), 50);
    assert_eq!(data.notes.warnings().len(), 2);
    let error = load_with("a.jsonl", long.as_bytes(), Some(CHATML), &options).unwrap_err().to_string();
    assert!(error.contains("none of 1 examples has a trained token"), "{error}");
    assert!(load_with("a.jsonl", short.as_bytes(), Some(CHATML), &DataOptions::new(Records::Answers, 1)).is_err());
}

#[test]
fn line_ends_marks_and_blank_lines() {
    let line = r#"{"prompt":"U","completion":"A"}"#;
    let plain = sft(&format!("{line}\n{line}\n")).unwrap();
    for content in
        [format!("{line}\n{line}"), format!("\u{feff}{line}\r\n{line}\r\n"), format!("\n\n{line}\n  \t\r\n{line}\n\n")]
    {
        let data = sft(&content).unwrap();
        let tokens = |d: &Dataset| d.examples.iter().map(|e| e.tokens.clone()).collect::<Vec<_>>();
        assert_eq!(tokens(&data), tokens(&plain), "{content:?}");
        assert_ne!(data.digest, plain.digest, "the digest is of the bytes");
    }
    assert_eq!(plain.digest.len(), 64);
    assert_eq!(plain.digest, sft(&format!("{line}\n{line}\n")).unwrap().digest);
}

#[test]
fn bad_files_name_file_and_line() {
    let line = r#"{"prompt":"U","completion":"A"}"#;
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(line.bytes().flat_map(|b| [b, 0])).collect();
    let cases: [(Vec<u8>, &str); 11] = [
        (b"".to_vec(), "a.jsonl: the file is empty"),
        (b"\n \r\n\n".to_vec(), "a.jsonl: the file is empty"),
        (b"\xef\xbb\xbf".to_vec(), "a.jsonl: the file is empty"),
        (format!("{line}\n{{\"prompt\":").into(), "a.jsonl:2: not valid JSON"),
        (format!("{line}\n\n{line}\nx\n").into(), "a.jsonl:4: not valid JSON"),
        (format!("{line}\n{}\n", "[".repeat(100_000)).into(), "a.jsonl:2: "),
        (format!("{line}\n{{\"text\":\"\0\"}}\n").into(), "a.jsonl:2: not valid JSON"),
        (b"\x1f\x8b\x08\x00".to_vec(), "a.jsonl: this is a gzip file"),
        (utf16.clone(), "a.jsonl: this is UTF-16"),
        (utf16[2..].to_vec(), "a.jsonl: this is UTF-16"),
        (br#"{"messages":[{"role":"user","content":"U"}]}"#.to_vec(), "a.jsonl:1: has no assistant message"),
    ];
    for (content, expected) in cases {
        let options = DataOptions::new(Records::Answers, 512);
        let error = load_with("a.jsonl", &content, Some(CHATML), &options).unwrap_err().to_string();
        assert!(error.contains(expected) && error.len() < 1000, "{expected}: {error}");
    }
    let options = DataOptions::new(Records::Texts, 8);
    let text = load_with("a.txt", b"ab\ncd\xff", None, &options).unwrap_err().to_string();
    assert!(text.contains("a.txt:2: is not UTF-8"), "{text}");
    assert!(load_with("a.txt", b" \n", None, &options).unwrap_err().to_string().contains("is empty"));
    assert!(load_with("a.xml", b"a", None, &options).unwrap_err().to_string().contains(".jsonl"));
    let missing = load(Path::new("no/such.jsonl"), &tokenizer(), None, &options);
    assert!(matches!(missing, Err(Error::File(loam_files::Error::Io { .. }))), "{missing:?}");
}

#[test]
fn a_line_over_the_limit_is_refused_before_it_is_read() {
    let (_folder, path) = file("a.jsonl", b"{\"text\":\"a\"}\n");
    let handle = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // A sparse file: one line of 4 GiB that takes no disk space. Reading it whole would take far longer, and the
    // memory.
    handle.set_len(4 << 30).unwrap();
    let error = load(&path, &tokenizer(), None, &DataOptions::new(Records::Texts, 8)).unwrap_err().to_string();
    assert!(error.contains("a.jsonl:2: the line is longer than"), "{error}");
}

#[test]
fn skip_bad_allows_so_many() {
    let line = r#"{"prompt":"U","completion":"A"}"#;
    let content = format!("x\n{line}\n{{}}\n{line}\n");
    let options = |skip_bad| DataOptions { skip_bad, ..DataOptions::new(Records::Answers, 512) };
    let load = |skip| load_with("a.jsonl", content.as_bytes(), Some(CHATML), &options(skip));
    assert!(load(0).unwrap_err().to_string().contains("a.jsonl:1:"));
    assert!(load(1).unwrap_err().to_string().contains("a.jsonl:3:"));
    let data = load(2).unwrap();
    assert_eq!((data.examples.len(), data.notes.skipped), (2, 2));
    assert_eq!(data.notes.problems.iter().map(|p| p.0).collect::<Vec<_>>(), [1, 3]);
    let none = load_with("a.jsonl", b"x\ny\n", Some(CHATML), &options(5)).unwrap_err().to_string();
    assert!(none.contains("no usable line: 2 were skipped"), "{none}");
}

#[test]
fn evaluation_split_keeps_lines_together() {
    let text = "abcdefghij".repeat(3);
    let content: String = (0..10).map(|_| format!("{{\"text\":\"{text}\"}}\n")).collect();
    let options = DataOptions::new(Records::Texts, 8);
    let data = || load_with("a.jsonl", content.as_bytes(), None, &options).unwrap();
    let (train, eval) = data().split_eval(0.2, 1).unwrap();
    let lines = |d: &Dataset| d.examples.iter().map(|e| e.line).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((lines(&train).len(), lines(&eval).len()), (8, 2));
    assert!(lines(&train).is_disjoint(&lines(&eval)));
    assert_eq!(train.examples.len() + eval.examples.len(), data().examples.len());
    assert_eq!(lines(&eval), lines(&data().split_eval(0.2, 1).unwrap().1));
    let differs = (2..20).any(|seed| lines(&data().split_eval(0.2, seed).unwrap().1) != lines(&eval));
    assert!(differs, "the seed chooses");
    let (train, eval) = data().split_eval(0.0001, 1).unwrap();
    assert_eq!((lines(&train).len(), lines(&eval).len()), (9, 1));
    let one_line = load_with("a.txt", text.as_bytes(), None, &options).unwrap();
    let windows = one_line.examples.len();
    let (train, eval) = one_line.split_eval(0.5, 1).unwrap();
    assert_eq!((train.examples.len() + eval.examples.len(), eval.examples.len()), (windows, 3));
    assert!(data().split_eval(1.0, 1).is_err() && data().split_eval(f64::NAN, 1).is_err());
    let single = load_with("a.txt", b"abc", None, &options).unwrap();
    assert!(single.split_eval(0.5, 1).is_err());
}

fn pairs_of(content: &str, source: Option<&str>, context: usize, skip_bad: usize) -> Result<Pairs> {
    let (_folder, path) = file("a.jsonl", content.as_bytes());
    load_pairs(
        &path,
        &tokenizer(),
        source.map(template).as_ref(),
        &DataOptions { skip_bad, ..DataOptions::new(Records::Answers, context) },
    )
}

#[test]
fn pairs_ask_for_the_last_answer_as_chat_does() {
    let completion = r#"{"prompt":"U","completion":" A "}"#;
    let trailing = r#"{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"}]}"#;
    let found = pairs_of(&[TURNS, completion, trailing].join("\n\n"), Some(CHATML), 512, 0).unwrap();
    let chat = template(CHATML);
    let served = |messages: &[(&str, &str)]| {
        let messages: Vec<Message> = messages.iter().map(|&(role, content)| Message::new(role, content)).collect();
        chat.encode(&tokenizer(), &messages, true).unwrap()
    };
    let turns = served(&[("system", "S"), ("user", "U"), ("assistant", "A!B"), ("user", "V")]);
    let one = served(&[("user", "U")]);
    let pair =
        |prompt: &Vec<u32>, reference: &str, line| Pair { prompt: prompt.clone(), reference: reference.into(), line };
    assert_eq!(found.pairs, [pair(&turns, "C", 1), pair(&one, " A ", 3), pair(&one, "A", 5)]);
    assert_eq!((found.notes.records, found.notes.skipped), (3, 0));
    assert_eq!((found.context(10, 512), found.context(usize::MAX, 512)), (turns.len() + 10, 512));
    // Without a template the prompt is the text itself: what training sees before the completion.
    let plain = pairs_of(completion, None, 512, 0).unwrap();
    assert_eq!(tokenizer().decode(&plain.pairs[0].prompt), "U");
}

#[test]
fn lines_without_a_question_and_an_answer_are_bad() {
    let good = r#"{"prompt":"U","completion":"A"}"#;
    let bad = [
        (r#"{"text":"a"}"#, Some(CHATML), "no answer to compare with"),
        (r#"{"messages":[{"role":"user","content":"U"}]}"#, Some(CHATML), "no assistant message"),
        (TURNS, None, "no chat template"),
        (r#"{"prompt":"","completion":"A"}"#, None, "nothing to answer"),
        (r#"{"prompt":"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu","completion":"A"}"#, None, "has 50 tokens"),
    ];
    for (line, source, expected) in bad {
        let content = format!("{good}\n{line}\n");
        let error = pairs_of(&content, source, 50, 0).unwrap_err().to_string();
        assert!(error.contains("a.jsonl:2: ") && error.contains(expected), "{expected}: {error}");
        let skipped = pairs_of(&content, source, 50, 1).unwrap();
        assert_eq!((skipped.pairs.len(), skipped.notes.skipped, skipped.notes.problems[0].0), (1, 1, 2));
    }
    assert!(pairs_of("x", None, 50, 1).unwrap_err().to_string().contains("no usable line"));
    assert!(pairs_of("\n", None, 50, 0).unwrap_err().to_string().contains("is empty"));
    assert!(matches!(pairs_of(good, None, 1, 0), Err(Error::Option(_))));
    let (_folder, path) = file("a.txt", b"text");
    let error = load_pairs(&path, &tokenizer(), None, &DataOptions::new(Records::Answers, 50)).unwrap_err().to_string();
    assert!(error.contains("no answers to compare with"), "{error}");
}

#[test]
fn files_can_be_appended() {
    let a = sft(r#"{"prompt":"U","completion":"A"}"#).unwrap();
    let mut both = a.clone();
    both.append(sft(TURNS).unwrap());
    assert_eq!((both.examples.len(), both.notes.records), (2, 2));
    assert_ne!(both.digest, a.digest);
}
