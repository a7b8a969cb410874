//! The parameters of an adapter in device memory: all in one buffer, those of one part one after the other, so that one
//! dispatch updates them all, or one those of each group.

use std::collections::HashSet;
use std::ops::Range;

use loam_files::adapter::{AdapterFile, Parameter, Setting};

use super::method::{Rate, Tuning};
use super::site::{Placed, Site, Sites};
use crate::ops::dropout::Dropout;
use crate::plan::{StorageId, Tensor};

/// Devices bind buffers at multiples of 256 bytes; a block of an optimizer's 8-bit state belongs to one parameter.
const ALIGN_WORDS: u64 = 256;

/// One parameter's place in the arena.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    /// All but the values.
    parameter: Parameter,
    /// First word.
    at: u64,
    /// Number of values.
    len: u64,
}

/// Parameters that are updated in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their words in the arena.
    pub range: Range<u64>,
    /// How fast they learn.
    pub rate: Rate,
    /// Whether weight decay is for them.
    pub decays: bool,
}

/// Where every parameter of an adapter lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Arena {
    tuning: &'static Tuning,
    settings: Vec<Setting>,
    /// In the order of the adapter.
    places: Vec<Place>,
    /// One for each part of the method.
    groups: Vec<Group>,
    words: u64,
}

/// What an adapter in training has besides its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trained {
    /// Summed gradients, laid out as the values.
    pub gradients: StorageId,
    /// Rate of the dropout on what the adapter sees; 0 for none.
    pub dropout: f32,
}

impl Arena {
    /// Lays out the parameters of `adapter`.
    pub fn new(adapter: &AdapterFile) -> Self {
        let tuning = Tuning::for_method(adapter.method);
        let mut words = 0;
        let mut at = vec![0; adapter.parameters.len()];
        let mut groups = Vec::new();
        for part in tuning.parts {
            let start = words;
            let own = adapter.parameters.iter().zip(&mut at).filter(|(parameter, _)| parameter.part == part.name);
            for (parameter, at) in own {
                *at = words;
                words += (parameter.values.len() as u64).next_multiple_of(ALIGN_WORDS);
            }
            groups.push(Group { range: start..words, rate: part.rate, decays: part.decays });
        }
        let place = |(parameter, at): (&Parameter, u64)| {
            let Parameter { site, part, shape, values } = parameter;
            let parameter = Parameter { site: site.clone(), part, shape: shape.clone(), values: Vec::new() };
            Place { parameter, at, len: values.len() as u64 }
        };
        let places = adapter.parameters.iter().zip(at).map(place).collect();
        Self { tuning, settings: adapter.settings.clone(), places, groups, words }
    }

    /// Length in words.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// Number of values, without the words between them.
    pub fn parameters(&self) -> usize {
        self.places.iter().map(|place| place.len as usize).sum()
    }

    /// All words in groups, in order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The values of `adapter`, which has the shapes that this arena was made from, as the arena's words.
    pub fn pack(&self, adapter: &AdapterFile) -> Vec<u32> {
        let mut words = vec![0; self.words as usize];
        for (place, parameter) in self.places.iter().zip(&adapter.parameters) {
            place.words_in(&mut words).copy_from_slice(bytemuck::cast_slice(&parameter.values));
        }
        words
    }

    /// Words with which the adapter changes nothing.
    pub fn neutral(&self) -> Vec<u32> {
        let mut words = vec![0; self.words as usize];
        for place in &self.places {
            let part = self.tuning.part(place.parameter.part);
            place.words_in(&mut words).fill(part.and_then(|part| part.neutral).unwrap_or_default().to_bits());
        }
        words
    }

    /// The parameters in the arena's `words`.
    pub fn unpack(&self, words: &[u32]) -> Vec<Parameter> {
        let values = |place: &Place| bytemuck::cast_slice(&words[place.range()]).to_vec();
        self.places.iter().map(|place| Parameter { values: values(place), ..place.parameter.clone() }).collect()
    }

    /// Adds what the adapter does to `sites`: values in `parameters`, with the user's scale `strength`.
    pub fn attach(&self, sites: &mut Sites, parameters: StorageId, trained: Option<Trained>, strength: f32) {
        let mut names: Vec<&str> = self.places.iter().map(|place| place.parameter.site.as_str()).collect();
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        for (number, name) in (0..).zip(names) {
            let of = self.places.iter().filter(|place| place.parameter.site == name);
            let parts: Vec<Placed> = of.map(|place| place.placed(parameters, trained)).collect();
            let scale = (self.tuning.scale)(strength, &self.settings, &parts);
            let rate = trained.map_or(0.0, |trained| trained.dropout);
            let dropout = (rate > 0.0).then_some(Dropout { site: number, rate, first_row: 0, context: None });
            sites.add(name, Site { tuning: self.tuning, parts, scale, dropout });
        }
    }
}

impl Place {
    fn range(&self) -> Range<usize> {
        self.at as usize..(self.at + self.len) as usize
    }

    fn words_in<'w>(&self, words: &'w mut [u32]) -> &'w mut [u32] {
        &mut words[self.range()]
    }

    /// A row of it is as long as the first of its dimensions.
    fn placed(&self, parameters: StorageId, trained: Option<Trained>) -> Placed {
        let cols = self.parameter.shape[0] as usize;
        let tensor = |id| Tensor::stored(id, self.at, self.len as usize / cols.max(1), cols);
        let gradient = trained.map(|trained| tensor(trained.gradients));
        Placed { part: self.parameter.part, value: tensor(parameters), gradient }
    }
}
