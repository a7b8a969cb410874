//! Arguments of `loam pull`.

use std::path::PathBuf;

use clap::Args;

use super::JsonArgs;

/// `loam pull`.
#[derive(Debug, Args)]
#[command(after_help = "Interrupted pulls go on where they ended. HF_TOKEN is sent to the hub's own host only. \
                        HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are honoured.")]
pub struct PullArgs {
    /// OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME:FILE
    #[arg(value_name = "REPO[@REVISION]")]
    pub repo: String,
    /// Folder to pull into [default: OWNER/NAME in $LOAM_CACHE, else in `loam` of the user's cache folder]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Pull the files of this name or pattern (*, ?) instead of what a conversion needs
    #[arg(long, value_name = "PATTERN")]
    pub file: Vec<String>,
    /// Replace files in the folder that did not come with an earlier pull, or were changed since
    #[arg(long)]
    pub force: bool,
    /// Address of the hub [default: $LOAM_ENDPOINT, else $HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    #[command(flatten)]
    pub json: JsonArgs,
}
