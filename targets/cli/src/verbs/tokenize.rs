//! `loam tokenize`: the token ids of a text.

use std::path::Path;

use loam::gguf::GgufFile;
use loam::tokenizer::Tokenizer;
use serde_json::json;

use crate::args::TokenizeArgs;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Longest text file in bytes.
const LONGEST: u64 = 1 << 30;

/// Runs the verb. Any GGUF with a tokenizer will do: the model itself is not looked at.
pub fn run(args: &TokenizeArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = GgufFile::open(&args.base.model)?;
    let tokenizer = Tokenizer::from_gguf(&file.gguf)?;
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => return Err(Failure::Usage("give --text or --file".into())),
    };
    let ids = tokenizer.encode(&text, !args.no_special, !args.no_bos)?;
    output.line(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?;
    output.object(&json!({"event": "done", "ids": ids}))
}

/// A whole text file.
fn read(path: &Path) -> Result<String> {
    String::from_utf8(loam::file::read_bounded(path, LONGEST)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("{}: not UTF-8 text (at byte {at})", path.display()), "convert the file to UTF-8")
    })
}
