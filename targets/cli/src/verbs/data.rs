//! `loam data inspect`: what training sees of a data file, with the trained tokens marked.

use std::io::IsTerminal;
use std::ops::Range;

use loam::data::{DataOptions, Dataset, Example, Records};
use loam::tokenizer::Tokenizer;
use serde_json::json;

use crate::args::{BaseArgs, DataCommand, DataInspectArgs};
use crate::failure::Result;
use crate::output::{Output, printable};
use crate::{dataset, model};

/// Runs the verb.
pub fn run(command: &DataCommand) -> Result {
    match command {
        DataCommand::Inspect(args) => inspect(args),
    }
}

fn inspect(args: &DataInspectArgs) -> Result {
    let output = Output::new(args.json.json);
    let base = BaseArgs { model: args.model.clone(), chat_template: args.chat_template.clone() };
    let base = model::base(&base)?;
    let context = model::context(&base, args.context)?;
    let records = args.objective.unwrap_or_else(|| dataset::objective(&args.file)).records;
    let options = DataOptions {
        skip_bad: args.skip_bad,
        control_tokens: args.control_tokens,
        mapping: args.map.clone(),
        ..DataOptions::new(records, context)
    };
    let data = dataset::load(&base, std::slice::from_ref(&args.file), &options, output)?;
    let tokenizer = base.tokenizer()?;
    for (number, example) in data.examples.iter().enumerate().take(args.limit.unwrap_or(usize::MAX)) {
        show(example, side(records, number), tokenizer, output)?;
    }
    total(&data, output)
}

/// Which of a record's sequences example `number` is, where there are several.
fn side(records: Records, number: usize) -> Option<&'static str> {
    match records {
        Records::Preferences => Some(if number.is_multiple_of(2) { "chosen" } else { "rejected" }),
        Records::Answers | Records::Texts => None,
    }
}

/// The runs of trained tokens. The first token of a text is never predicted, so it is in none of them.
fn spans(example: &Example) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for at in (1..example.tokens.len()).filter(|&at| example.trained[at]) {
        match spans.last_mut() {
            Some(span) if span.end == at => span.end = at + 1,
            _ => spans.push(at..at + 1),
        }
    }
    spans
}

fn show(example: &Example, side: Option<&str>, tokenizer: &Tokenizer, output: Output) -> Result {
    let ids = &example.tokens;
    let bytes = tokenizer.decode_bytes(ids);
    // Where a token's text begins, so that spaces and characters of several tokens stay what they are in the whole.
    let at = |token: usize| tokenizer.decode_bytes(&ids[..token]).len().min(bytes.len());
    let text = |range: Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
    let spans = spans(example);
    let (tokens, trained) = (ids.len(), example.trained_tokens());
    if output.is_json() {
        let mask: Vec<u8> = (0..tokens).map(|at| u8::from(at > 0 && example.trained[at])).collect();
        let span = |span: &Range<usize>| json!({"start": span.start, "end": span.end, "text": text(at(span.start)..at(span.end))});
        return output.object(&json!({
            "event": "example", "line": example.line, "side": side, "tokens": tokens, "trained_tokens": trained, "cut_tokens": example.cut,
            "text": text(0..bytes.len()), "ids": ids, "mask": mask, "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }));
    }
    let cut = if example.cut > 0 { format!(", {} cut off", example.cut) } else { String::new() };
    let side = side.map_or_else(String::new, |side| format!(" ({side})"));
    output.line(format_args!("line {}{side}: {tokens} tokens, {trained} trained{cut}", example.line))?;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (open, close) = if colour { ("\u{1b}[1;32m", "\u{1b}[0m") } else { ("⟦", "⟧") };
    // Brackets of the data are no marks.
    let plain = |text: String| printable(&text).replace('⟦', "\\u{27e6}").replace('⟧', "\\u{27e7}");
    let (mut shown, mut done) = (String::new(), 0);
    for span in spans {
        let (start, end) = (at(span.start), at(span.end));
        shown += &plain(text(done..start));
        shown += open;
        shown += &plain(text(start..end));
        shown += close;
        done = end;
    }
    shown += &plain(text(done..bytes.len()));
    output.line(format_args!("{}\n", shown.trim_end_matches('\n')))
}

fn total(data: &Dataset, output: Output) -> Result {
    let (tokens, trained) = (data.tokens(), data.trained_tokens());
    output.line(format_args!(
        "{} records, {} examples, {tokens} tokens, {trained} trained",
        data.notes.records,
        data.examples.len()
    ))?;
    output.object(&json!({
        "event": "done", "records": data.notes.records, "examples": data.examples.len(), "tokens": tokens,
        "trained_tokens": trained, "truncated_examples": data.notes.truncated, "masked_examples": data.notes.masked,
        "divided_conversations": data.notes.divided, "unprompted_answers": data.notes.unprompted,
        "endless_answers": data.notes.endless, "spelled_control_tokens": data.notes.spelled, "skipped_lines": data.notes.skipped,
    }))
}
