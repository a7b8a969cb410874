//! The model that a verb works with. All verbs take it in the same spellings: as the first argument, or with -m,
//! --model or --base.

use std::path::PathBuf;

use clap::error::{Error, ErrorKind};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

/// The model as the first argument.
const PLACE: &str = "model";
/// The model as llama.cpp's programs take it.
const FLAG: &str = "model_flag";
const TEMPLATE: &str = "chat_template";

/// The base, of verbs that render no conversations.
#[derive(Debug)]
pub struct ModelArgs {
    /// The GGUF file.
    pub model: PathBuf,
}

/// The base, of every verb that renders conversations.
#[derive(Debug)]
pub struct BaseArgs {
    /// The GGUF file.
    pub model: PathBuf,
    /// A Jinja file instead of the base's own chat template.
    pub chat_template: Option<PathBuf>,
}

/// One of the two has to be there, and not both: clap's derive has no field for that.
impl Args for ModelArgs {
    fn augment_args(command: Command) -> Command {
        let path = |id: &'static str| Arg::new(id).value_name("MODEL").value_parser(value_parser!(PathBuf));
        let place = path(PLACE).help("GGUF base").required_unless_present(FLAG).conflicts_with(FLAG);
        let flag = path(FLAG).short('m').long("model").visible_alias("base");
        command.arg(place).arg(flag.help("GGUF base, as llama.cpp's programs take it: instead of the first argument"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ModelArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let model = [PLACE, FLAG].into_iter().find_map(|id| matches.get_one::<PathBuf>(id));
        let missing = || Error::raw(ErrorKind::MissingRequiredArgument, "MODEL is missing");
        Ok(ModelArgs { model: model.cloned().ok_or_else(missing)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BaseArgs {
    fn augment_args(command: Command) -> Command {
        let template = Arg::new(TEMPLATE).long("chat-template").value_name("FILE").value_parser(value_parser!(PathBuf));
        let help = "Use this Jinja file instead of the base's own chat template";
        ModelArgs::augment_args(command).arg(template.help(help))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for BaseArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let ModelArgs { model } = ModelArgs::from_arg_matches(matches)?;
        Ok(BaseArgs { model, chat_template: matches.get_one::<PathBuf>(TEMPLATE).cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
