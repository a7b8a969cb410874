//! What tuning methods do: what the parameters of a new adapter start from, how they learn, and what they make of the
//! model. Each method is one [`Tuning`] in a file of its own; [`TUNINGS`] lists them. What its files hold is a
//! [`Method`].

pub mod ia3;
pub mod lora;

use loam_files::adapter::{AdapterFile, Method, Parameter, Setting};

use super::new::{NewAdapter, Starting};
use super::site::{Placed, Site};
use crate::error::Result;
use crate::gguf::Value;

use crate::ops::dense::LowRank;
use crate::ops::moe::Routing;
use crate::plan::{Recorder, Tensor, View, Weight};

/// All methods.
pub static TUNINGS: [&Tuning; 2] = [&lora::TUNING, &ia3::TUNING];

/// What a tuning method does.
pub struct Tuning {
    /// The method, as files have it.
    pub method: &'static Method,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The kinds of parameters that a site may have, in the order of [`Method::parts`].
    pub parts: &'static [Part],
    /// The learning rate of AdamW that suits it on a model of width 576, see `docs/training.md`.
    pub rate: f32,
    /// The options of [`NewAdapter`] that it reads besides targets and seed.
    pub options: &'static [&'static str],
    /// The targets of a new adapter unless others are asked for; kinds that a model lacks are left out.
    pub targets: &'static str,
    /// Whether the input of an adapter that has these parameters may be dropped in training, and why not.
    pub drops: fn(&AdapterFile) -> Result<(), String>,
    /// The settings of a new adapter, in the order of [`Method::settings`].
    pub set: fn(&NewAdapter) -> Result<Vec<f32>>,
    /// The parameters of a new adapter at one target.
    pub start: fn(&Starting<'_>) -> Result<Vec<Parameter>>,
    /// [`Site::scale`] of a site with these settings and parameters, for the user's scale.
    pub scale: fn(f32, &[Setting], &[Placed]) -> f32,
    /// What a trained adapter says of itself: keys and values of metadata.
    pub facts: fn(&AdapterFile) -> Vec<(&'static str, Value)>,
    /// What it records where the model is recorded.
    pub record: Record,
}

impl Tuning {
    /// What `method` does.
    ///
    /// # Panics
    /// If it is not listed, which a test shows.
    pub fn for_method(method: &Method) -> &'static Tuning {
        TUNINGS.into_iter().find(|tuning| tuning.method == method).expect("every method is listed")
    }

    /// The part called `name`.
    pub fn part(&self, name: &str) -> Option<&'static Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// Tunings are the same if they are those of the same method.
impl PartialEq for Tuning {
    fn eq(&self, other: &Self) -> bool {
        self.method == other.method
    }
}

impl std::fmt::Debug for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.method.fmt(f)
    }
}

/// A kind of parameter.
#[derive(Debug)]
pub struct Part {
    /// Its name, the end of its tensors' names in files.
    pub name: &'static str,
    /// How fast it learns.
    pub rate: Rate,
    /// Whether weight decay is for it.
    pub decays: bool,
    /// A value of all its elements with which the adapter changes nothing, whatever the parts without one hold.
    pub neutral: Option<f32>,
}

/// How fast a parameter learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// At the step's learning rate.
    Plain,
    /// At that times LoRA+'s factor.
    LoraPlus,
}

/// Records what the product of a linear layer with this weight sees of its input [T, in].
pub type RecordInput = fn(&mut Recorder, &Site, &Weight, Tensor) -> Tensor;

/// The functions that a method records with. Without a function the method does nothing there.
#[derive(Clone, Copy)]
pub struct Record {
    /// What the product of a linear layer with this weight sees of its input [T, in].
    pub input: Option<RecordInput>,
    /// The low-rank update of a linear layer, which may become part of its product.
    pub update: Option<fn(&Site) -> LowRank>,
    /// What becomes of the output [T, out] of a linear layer.
    pub output: Option<fn(&mut Recorder, &Site, Linear<'_>) -> Tensor>,
    /// Changes the rows [T, D] of the embedding.
    pub embed: Option<fn(&mut Recorder, &Site, Embedded<'_>)>,
    /// Changes the products of a stack of experts.
    pub experts: Option<fn(&mut Recorder, &Site, Experts<'_>)>,
}

impl Record {
    /// No function.
    pub const NOTHING: Record = Record { input: None, update: None, output: None, embed: None, experts: None };
}

/// A linear layer, or the head, once its product is recorded.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    /// The frozen weight, and its bias if there is one.
    pub weight: &'a Weight,
    /// What the product has seen, [T, in].
    pub x: Tensor,
    /// What came out with all updates and the bias, [T, out].
    pub y: Tensor,
}

/// The embedding of a run's tokens.
#[derive(Clone, Copy)]
pub struct Embedded<'a> {
    /// Name of the weight.
    pub label: &'a str,
    /// Token ids, `u32[T]`.
    pub tokens: View,
    /// Their rows of the weight times `scale`, [T, D]; changed in place.
    pub rows: Tensor,
    /// The model's factor.
    pub scale: f32,
}

/// The product of a stack of experts.
#[derive(Clone, Copy)]
pub struct Experts<'a> {
    /// Name of the weight.
    pub label: &'a str,
    /// What goes in: [T, in], or a row per pair of a token and an expert.
    pub x: Tensor,
    /// What comes out, a row per pair; changed in place.
    pub y: Tensor,
    /// Which experts every token goes through.
    pub routing: &'a Routing,
}

#[cfg(test)]
mod tests {
    use loam_files::adapter::METHODS;

    use super::*;

    #[test]
    fn every_method_of_files_does_something() {
        for method in METHODS {
            let names: Vec<&str> = Tuning::for_method(method).parts.iter().map(|part| part.name).collect();
            assert_eq!(names, method.parts);
        }
        assert_eq!(TUNINGS.len(), METHODS.len());
    }
}
