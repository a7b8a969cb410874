//! Dropout on what an adapter sees; its mask is drawn again where it is needed again.

use loam_shaders::dropout::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// A mask: whoever applies the same one in the same micro-batch gets the same elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Where in the model; sites have masks that are independent of each other.
    pub site: u32,
    /// Share of the elements that become 0, below 1. The others are divided by what is left.
    pub rate: f32,
    /// Row of the mask that the first row of a tensor has.
    pub first_row: u32,
}

impl Dropout {
    /// out (+)= mask * x / (1 - rate), elements in the order in which they lie. The gradient goes the same way.
    pub fn apply(self, r: &mut Recorder, label: &str, x: Tensor, out: Tensor, add: bool) {
        let first = self.first_row.wrapping_mul((x.cols as u32).div_ceil(4));
        let params = Params { first, ..Params::new(x.len() as u32, self.site, self.rate, add) };
        r.call(label, kernels::apply(params), &[x.view(), out.view()]);
    }

    /// [`Self::apply`] to a new temporary.
    pub fn of(self, r: &mut Recorder, label: &str, x: Tensor) -> Tensor {
        let out = r.temporary(x.rows, x.cols);
        self.apply(r, label, x, out, false);
        out
    }
}
