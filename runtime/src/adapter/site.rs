//! Where adapters touch the model.

use std::collections::HashMap;

use super::Tuning;
use crate::ops::dropout::Dropout;
use crate::plan::Tensor;

/// A parameter on a device.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// The name of its [`super::Part`].
    pub part: &'static str,
    /// Values.
    pub value: Tensor,
    /// Where its gradient is summed up when it is trained.
    pub gradient: Option<Tensor>,
}

/// What one adapter does at one tensor of the base.
#[derive(Debug, Clone)]
pub struct Site {
    /// What its method does.
    pub tuning: &'static Tuning,
    /// The adapter's parameters there.
    pub parts: Vec<Placed>,
    /// The user's scale with what the method makes of it: [`Tuning::scale`].
    pub scale: f32,
    /// What is dropped in training of what the adapter sees.
    pub dropout: Option<Dropout>,
}

impl Site {
    /// The parameter called `part`, if there is one here.
    pub fn part(&self, part: &str) -> Option<Placed> {
        self.parts.iter().copied().find(|placed| placed.part == part)
    }

    /// Whether some parameter here is trained.
    pub fn is_trained(&self) -> bool {
        self.parts.iter().any(|placed| placed.gradient.is_some())
    }
}

/// All sites by the names of the base's tensors. Several adapters may sit on one.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    by_tensor: HashMap<String, Vec<Site>>,
}

impl Sites {
    /// What is done at `tensor`, in the order in which it was added.
    pub fn at(&self, tensor: &str) -> &[Site] {
        self.by_tensor.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The same for rows with a loss, `first` of which were before: not rows of the batch. Masks continue from one list
    /// to the next, so that they do not depend on how many there are.
    pub fn at_listed(&self, tensor: &str, first: usize) -> Vec<Site> {
        let listed = |dropout| Dropout { first_row: first as u32, context: None, ..dropout };
        self.at(tensor).iter().map(|site| Site { dropout: site.dropout.map(listed), ..site.clone() }).collect()
    }

    /// The same sites for rows of `context` tokens: what is drawn for a row depends on its number in the step.
    #[must_use]
    pub fn in_rows(&self, context: usize) -> Self {
        let mut sites = self.clone();
        let dropouts = sites.by_tensor.values_mut().flatten().filter_map(|site| site.dropout.as_mut());
        dropouts.for_each(|dropout| dropout.context = Some(context as u32));
        sites
    }

    /// The same sites without what only training does: dropout.
    #[must_use]
    pub fn evaluating(&self) -> Self {
        let mut sites = self.clone();
        sites.by_tensor.values_mut().flatten().for_each(|site| site.dropout = None);
        sites
    }

    /// Adds what an adapter does at `tensor`.
    pub fn add(&mut self, tensor: &str, site: Site) {
        self.by_tensor.entry(tensor.to_owned()).or_default().push(site);
    }
}
