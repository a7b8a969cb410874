//! What the files of tuning methods hold. Each method is one [`Method`] in a file of its own; [`METHODS`] lists them.
//! What a method does with its parameters is the engine's to know.

pub mod ia3;
pub mod lora;

use super::Parameter;
use crate::gguf::TensorInfo;

/// All methods.
pub static METHODS: [&Method; 2] = [&lora::METHOD, &ia3::METHOD];

/// A tuning method, as its files have it.
pub struct Method {
    /// Its name: `adapter.type`.
    pub name: &'static str,
    /// Whether llama.cpp loads its files.
    pub llama_cpp: bool,
    /// The kinds of parameters that a site may have: the ends of their tensors' names.
    pub parts: &'static [&'static str],
    /// Keys of the numbers that an adapter has besides its parameters, all positive.
    pub settings: &'static [&'static str],
    /// Whether it can be put on the tensor of this name.
    pub takes: fn(&str) -> bool,
    /// Checks that the parameters of a site are complete and fit each other.
    pub check: fn(&[&Parameter]) -> Result<(), Problem>,
    /// Checks that they fit the base's tensor.
    pub fits: fn(&[&Parameter], &TensorInfo) -> Result<(), String>,
}

/// A number that an adapter has besides its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Its metadata key.
    pub key: &'static str,
    /// Its value.
    pub value: f32,
}

impl Setting {
    /// Its name alone: "alpha" of "adapter.lora.alpha".
    pub fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }
}

/// What is wrong with the parameters of a site.
#[derive(Debug)]
pub struct Problem {
    /// The part that it shows in.
    pub part: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl Method {
    /// The method called `name`, if there is one.
    pub fn by_name(name: &str) -> Option<&'static Method> {
        METHODS.into_iter().find(|method| method.name == name)
    }

    /// The names of all methods, with commas.
    pub fn names() -> String {
        METHODS.map(|method| method.name).join(", ")
    }
}

/// Methods are the same if they have the same name.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
