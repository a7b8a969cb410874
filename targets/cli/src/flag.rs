//! What an option of the libraries is called on the command line. The libraries name options by their fields.

use loam::option::{OptionError, OptionProblem};

/// Fields whose flag is not their name in kebab case after two dashes.
const EXCEPTIONS: [(&str, &str); 9] = [
    ("checkpointing", "--gradient-checkpointing"),
    ("optimizer", "--optim"),
    ("shuffle", "--no-shuffle"),
    ("split_bytes", "--split-size"),
    ("files", "--file"),
    ("start", "--init"),
    ("base", "MODEL"),
    // What the data became, and what of it.
    ("examples", "--data, --eval-split, --objective, --skip-bad"),
    ("held_out", "--eval-data, --eval-split"),
];

/// The flag, or the argument, that sets the field `field`: `eval_every` is `--eval-every`.
pub fn from_field(field: &str) -> String {
    match EXCEPTIONS.iter().find(|(known, _)| *known == field) {
        Some((_, flag)) => (*flag).to_owned(),
        None => format!("--{}", field.replace('_', "-")),
    }
}

/// Fields that no flag sets, and what they are called.
const WORDS: [(&str, &str); 5] = [
    ("lora.seed", "seed of a new adapter"),
    ("tokenizer", "tokenizer"),
    ("beta1", "beta1"),
    ("beta2", "beta2"),
    ("eps", "epsilon"),
];

/// A field of a training with its value, as a row of a table or a piece of a message: by its flag if it has one.
pub fn shown(field: &str, value: String) -> (String, String) {
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == field) {
        return ((*words).to_owned(), value);
    }
    // The only flag that says the opposite of its field.
    let value = match (field, value.as_str()) {
        ("shuffle", "on") => "off".to_owned(),
        ("shuffle", "off") => "on".to_owned(),
        _ => value,
    };
    (from_field(field), value)
}

/// What is wrong with an option, as said to somebody who types flags.
pub fn sentence(error: &OptionError) -> String {
    let flag = from_field(error.option);
    match &error.problem {
        OptionProblem::Needs(other) => format!("{flag} needs {}", from_field(other)),
        OptionProblem::Excludes(other) => format!("{flag} does not go with {}", from_field(other)),
        problem => format!("{flag} {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use loam::TrainOptions;

    use super::*;
    use crate::args::Cli;

    /// Every long flag of every verb.
    fn flags() -> Vec<String> {
        fn collect(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))));
            command.get_subcommands().for_each(|verb| collect(verb, found));
        }
        let mut found = Vec::new();
        collect(&Cli::command(), &mut found);
        found
    }

    #[test]
    fn exceptions_are_flags_and_needed() {
        let flags = flags();
        for (field, named) in EXCEPTIONS {
            for flag in named.split(", ").filter(|flag| *flag != "MODEL") {
                assert!(flags.iter().any(|known| known == flag), "{field}: there is no {flag}");
            }
            assert_ne!(named, format!("--{}", field.replace('_', "-")), "{field} needs no exception");
        }
    }

    #[test]
    fn options_of_a_training_are_flags_or_words() {
        let flags = flags();
        for optimizer in ["adamw", "adamw_8bit", "lion", "sgd"] {
            let options = TrainOptions { optimizer: optimizer.parse().expect("known"), ..TrainOptions::default() };
            for (field, value) in options.fields() {
                let (name, _) = shown(field, value);
                let word = WORDS.iter().any(|(known, _)| *known == field);
                assert_ne!(flags.contains(&name), word, "{field} is shown as {name}");
            }
        }
        assert_eq!(shown("shuffle", "on".into()), ("--no-shuffle".to_owned(), "off".to_owned()));
    }

    #[test]
    fn both_options_of_a_sentence_are_flags() {
        assert_eq!(sentence(&OptionError::needs("patience", "eval_every")), "--patience needs --eval-every");
        assert_eq!(sentence(&OptionError::range("split_bytes", 7, "over 8")), "--split-size is 7, it must be over 8");
    }
}
