//! Fast host function of `gradient_norm`: chunks of gradients.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Sum of squares of every chunk, eight partial sums in f64.
pub(super) fn partial(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [grads, partials] = operands(bound);
    let grads = &grads.f32()[..p.len as usize];
    let size = p.len.div_ceil(p.partials.max(1)).max(1) as usize;
    partials.f32_mut()[..p.partials as usize].par_iter_mut().enumerate().for_each(|(index, partial)| {
        let start = (index * size).min(grads.len());
        *partial = squares(&grads[start..grads.len().min(start + size)]) as f32;
    });
}

fn squares(x: &[f32]) -> f64 {
    let (runs, tail) = x.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for run in runs {
        for (sum, &x) in sums.iter_mut().zip(run) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let tail: f64 = tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::gradient_norm;

    #[test]
    fn agrees_with_the_reference() {
        for len in [1u32, 4_095, 4_097, 100_003] {
            let p = Params { len, partials: gradient_norm::partials(len), ..Default::default() };
            check(
                &Step::default(),
                &gradient_norm::partial(p),
                &[Operand::random(len as usize, 1), Operand::unset(p.partials as usize)],
            );
        }
    }
}
