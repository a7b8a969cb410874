//! A base: a GGUF file opened for running and training.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use loam_files::ReadRange;

use crate::adapter::AdapterFile;
use crate::chat::ChatTemplate;
use crate::error::Result;
use crate::gguf::{Gguf, GgufFile};
use crate::model::ModelConfig;
use crate::tokenizer::Tokenizer;
use loam_files::kind;

/// A quantised base model: the mapped file, its checked hyper-parameters, its tokenizer and chat template.
pub struct Base {
    file: GgufFile,
    config: ModelConfig,
    tokenizer: OnceLock<Tokenizer>,
    template: OnceLock<Option<ChatTemplate>>,
}

impl Base {
    /// Opens and checks a base.
    ///
    /// # Errors
    /// The file cannot be read, is no GGUF, or has hyper-parameters that make no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(GgufFile::open(path.as_ref())?)
    }

    /// As [`Self::open`], for a file whose bytes are in memory. `name` is only named in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(GgufFile::from_bytes(name.as_ref(), bytes)?)
    }

    /// As [`Self::open`], for a file of `length` bytes whose ranges `read` reads: metadata now, weights when they go to
    /// a device. `name` is only named in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_ranges(name: impl AsRef<Path>, length: u64, read: Arc<ReadRange>) -> Result<Self> {
        Self::new(GgufFile::from_ranges(name.as_ref(), length, read)?)
    }

    fn new(file: GgufFile) -> Result<Self> {
        kind::check(&file.gguf, kind::MODEL)?;
        let config = ModelConfig::from_gguf(&file.gguf)?;
        Ok(Self { file, config, tokenizer: OnceLock::new(), template: OnceLock::new() })
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Metadata and tensor list.
    pub fn gguf(&self) -> &Gguf {
        &self.file.gguf
    }

    /// Hyper-parameters.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokenizer, built at first use: token ids alone do not need it.
    ///
    /// # Errors
    /// [`crate::Error::Text`] or [`crate::Error::File`] if the file's tokenizer is missing, broken or of an unknown
    /// kind.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::from_gguf(&self.file.gguf)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// The chat template, if the file has one.
    ///
    /// # Errors
    /// [`crate::Error::Text`] if it does not parse.
    pub fn template(&self) -> Result<Option<&ChatTemplate>> {
        if let Some(template) = self.template.get() {
            return Ok(template.as_ref());
        }
        let tokenizer = self.tokenizer()?;
        let template = ChatTemplate::from_gguf(&self.file.gguf, tokenizer)?;
        Ok(self.template.get_or_init(|| template).as_ref())
    }

    /// Uses `source` instead of the file's own chat template.
    ///
    /// # Errors
    /// [`crate::Error::Text`] if it does not parse, or an error of the tokenizer, whose BOS and EOS a template can
    /// print.
    pub fn with_template(mut self, source: &str) -> Result<Self> {
        let tokenizer = self.tokenizer()?;
        let template = ChatTemplate::for_tokenizer(source, tokenizer)?;
        self.template = OnceLock::from(Some(template));
        Ok(self)
    }

    /// Stops the clock of the chat template at `clock` seconds since 1970: training renders all conversations, and
    /// those of a run that is gone on with later, at one time.
    ///
    /// # Errors
    /// As [`Self::template`].
    pub fn at(mut self, clock: u64) -> Result<Self> {
        self.template()?;
        if let Some(template) = self.template.get_mut() {
            *template = template.take().map(|template| template.at(clock));
        }
        Ok(self)
    }

    /// SHA-256 of the tensors' names, types, shapes and bytes, independent of other metadata. Reads the whole file
    /// once.
    ///
    /// # Errors
    /// [`crate::Error::File`] if a range of the file cannot be read.
    pub fn digest(&self) -> Result<&str> {
        Ok(self.file.content_digest()?)
    }

    /// Checks that `adapter` was made for this base: architecture, shapes and, where the adapter says so, the digests
    /// of base and tokenizer. [`Self::check_template`] is for those who render conversations.
    ///
    /// # Errors
    /// [`crate::Error::File`] naming what differs, or a tensor that does not fit.
    pub fn check(&self, adapter: &AdapterFile, path: &Path) -> Result<()> {
        let same = |what, expected, found: &str| same(path, what, expected, found);
        same("architecture", Some(&adapter.architecture), self.config.architecture)?;
        adapter.check_against(&self.file.gguf, path)?;
        if let Some(expected) = adapter.text(crate::adapter::BASE_DIGEST) {
            same("content digest", Some(expected), self.digest()?)?;
        }
        if let Some(expected) = adapter.text(crate::adapter::TOKENIZER_DIGEST) {
            same("tokenizer digest", Some(expected), self.tokenizer()?.digest())?;
        }
        Ok(())
    }

    /// Checks that conversations are rendered as in the training of `adapter`, where the adapter says how.
    ///
    /// # Errors
    /// [`crate::Error::File`], or an error of the template.
    pub fn check_template(&self, adapter: &AdapterFile, path: &Path) -> Result<()> {
        let Some(expected) = adapter.text(crate::adapter::TEMPLATE_DIGEST) else { return Ok(()) };
        let found = self.template()?.map_or("none", |template| template.digest());
        same(path, "chat template digest", Some(expected), found)
    }
}

/// An error that names both if `found` is not what the adapter in `path` expects.
fn same(path: &Path, what: &'static str, expected: Option<&str>, found: &str) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(loam_files::Error::BaseMismatch {
            path: path.into(),
            what,
            expected: crate::gguf::printable(expected.as_bytes()),
            found: found.to_owned(),
        }
        .into()),
        _ => Ok(()),
    }
}
