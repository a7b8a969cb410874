//! Adapters: what their methods do, their place in device memory, and where they touch the model.

mod arena;
mod method;
mod new;
mod site;
mod targets;

use std::path::Path;

pub use arena::{Arena, Group, Trained};
pub use loam_files::adapter::{
    AdapterFile, BASE_DIGEST, BASE_NAME, METHODS, Method, Parameter, Setting, TEMPLATE_DIGEST, TOKENIZER_DIGEST, ia3,
    lora, origin,
};
pub use method::{Embedded, Experts, Linear, Part, Rate, Record, TUNINGS, Tuning};
pub use new::{NewAdapter, Starting, Target};
pub use site::{Placed, Site, Sites};
pub use targets::Targets;

/// An adapter to run with.
pub struct Attach<'a> {
    /// The adapter.
    pub adapter: &'a AdapterFile,
    /// Its file, for error messages.
    pub path: &'a Path,
    /// How much it counts: 1 for as it was trained, 0 for not at all.
    pub scale: f32,
}
