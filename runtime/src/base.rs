//! A base: a GGUF file opened for running and training.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use loam_files::ReadRange;

use crate::adapter::origin::{self, Fact, Weights};
use crate::adapter::{AdapterFile, BASE_DIGEST, TEMPLATE_DIGEST, TOKENIZER_DIGEST};
use crate::chat::ChatTemplate;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, GgufFile, Value};
use crate::model::ModelConfig;
use crate::tokenizer::Tokenizer;
use loam_files::kind;

/// A quantised base model: the mapped file, its checked hyper-parameters, its tokenizer and chat template.
pub struct Base {
    file: GgufFile,
    config: ModelConfig,
    tokenizer: OnceLock<Tokenizer>,
    template: OnceLock<Option<ChatTemplate>>,
    takes_any: bool,
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
        Ok(Self { file, config, tokenizer: OnceLock::new(), template: OnceLock::new(), takes_any: false })
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
    /// those of a run that is continued later, at one time.
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

    /// From now on adapters of other models are taken too, with a note, as far as names and shapes of tensors fit.
    #[must_use]
    pub fn taking_any_adapter(mut self) -> Self {
        self.takes_any = true;
        self
    }

    /// What decides what the model computes besides its weights and its tokenizer.
    pub fn facts(&self) -> Vec<Fact<&'static str>> {
        self.config.facts()
    }

    /// What an adapter that belongs to this model says of it, whatever its weights are quantised to.
    ///
    /// # Errors
    /// A file or a tokenizer that cannot be read.
    pub fn model_metadata(&self) -> Result<Vec<(String, Value)>> {
        let tokenizer = (TOKENIZER_DIGEST.to_owned(), Value::from(self.tokenizer()?.digest()));
        let sketch = self.file.sketch()?.metadata();
        Ok([origin::model(&self.facts()), tokenizer].into_iter().chain(sketch).collect())
    }

    /// Fails if another program has written to the file since it was opened: whoever signs something with
    /// [`Self::digest`] asks before.
    ///
    /// # Errors
    /// [`crate::Error::File`].
    pub fn check_unchanged(&self) -> Result<()> {
        Ok(self.file.check_unchanged()?)
    }

    /// Checks that `adapter` was made for this model: names and shapes of tensors and, where the adapter says so, the
    /// hyper-parameters, the weights (which may be quantised otherwise) and the tokenizer. [`Self::check_template`] is
    /// for those who render conversations. Returns what a user should know about it.
    ///
    /// # Errors
    /// [`crate::Error::File`] naming what differs, or a tensor that does not fit.
    pub fn check(&self, adapter: &AdapterFile, path: &Path) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for check in [Self::same_function, Self::same_weights, Self::same_tokenizer] {
            notes.extend(self.allowed(check(self, adapter, path))?);
        }
        adapter.check_sites(&self.file.gguf, path)?;
        Ok(notes)
    }

    /// Checks that conversations are rendered as in the training of `adapter`, where the adapter says how. Returns what
    /// a user should know about it.
    ///
    /// # Errors
    /// [`crate::Error::File`], or an error of the template.
    pub fn check_template(&self, adapter: &AdapterFile, path: &Path) -> Result<Option<String>> {
        let Some(expected) = adapter.text(TEMPLATE_DIGEST) else { return Ok(None) };
        let found = self.template()?.map_or("none", |template| template.digest());
        self.allowed(same(path, "chat template digest", expected, found).map(|()| None))
    }

    /// An error that says that the adapter is of another base is a note where any adapter is taken.
    fn allowed(&self, checked: Result<Option<String>>) -> Result<Option<String>> {
        use loam_files::Error as File;
        match checked {
            Err(Error::File(error @ (File::BaseMismatch { .. } | File::OtherWeights { .. }))) if self.takes_any => {
                Ok(Some(format!("{error}; it is used all the same")))
            }
            checked => checked,
        }
    }

    /// Checks the architecture, and the hyper-parameters that the adapter knows.
    fn same_function(&self, adapter: &AdapterFile, path: &Path) -> Result<Option<String>> {
        same(path, "architecture", &adapter.architecture, self.config.architecture)?;
        let Some(expected) = adapter.model() else {
            let is_old = adapter.text(BASE_DIGEST).is_some();
            let note =
                "an older loam has trained it, which did not note the base's hyper-parameters: they are not checked";
            return Ok(is_old.then(|| format!("adapter {}: {note}", path.display())));
        };
        for Fact { name, value: found } in self.facts() {
            if let Some(expected) = expected.iter().find(|fact| fact.name == name) {
                same(path, name, &expected.value, &found)?;
            }
        }
        Ok(None)
    }

    fn same_weights(&self, adapter: &AdapterFile, path: &Path) -> Result<Option<String>> {
        let note =
            "it was trained on another quantisation of this model: what it does here is close to what it learned";
        let is_other = adapter.weights(&self.file, path)? == Weights::Requantised;
        Ok(is_other.then(|| format!("adapter {}: {note}", path.display())))
    }

    fn same_tokenizer(&self, adapter: &AdapterFile, path: &Path) -> Result<Option<String>> {
        let Some(expected) = adapter.text(TOKENIZER_DIGEST) else { return Ok(None) };
        same(path, "tokenizer digest", expected, self.tokenizer()?.digest())?;
        Ok(None)
    }
}

/// An error that names both if `found` is not what the adapter in `path` expects.
fn same(path: &Path, what: &'static str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let (path, expected) = (path.to_owned(), crate::gguf::printable(expected.as_bytes()));
    Err(loam_files::Error::BaseMismatch { path, what, expected, found: found.to_owned() }.into())
}
