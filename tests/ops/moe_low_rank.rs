//! Kernels of `moe::low_rank` against their references, and the gradients of an update on experts.

use loam_shaders::moe::low_rank::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// Pairs of each expert, and the pairs by expert.
fn sorted(ids: &[u32], experts: u32) -> [Operand; 2] {
    let counts: Vec<u32> = (0..experts).map(|e| ids.iter().filter(|id| **id == e).count() as u32).collect();
    let mut list: Vec<u32> = (0..ids.len() as u32).collect();
    list.sort_by_key(|pair| ids[*pair as usize]);
    [Operand::u32(&counts), Operand::u32(&list)]
}

#[test]
fn products_and_their_gradients_of_many_shapes() {
    let mut random = Random::new(220);
    for (pairs, experts, slots, n, k) in [(1, 1, 1, 1, 1), (6, 4, 2, 8, 65), (130, 8, 2, 67, 4), (300, 5, 3, 3, 40)] {
        let ids: Vec<u32> = (0..pairs).map(|_| random.below(experts)).collect();
        let w = Operand::f32(&random.values((experts * n * k) as usize));
        for (slots, transposed, accumulate) in [(slots, 0, 0), (1, 1, 0), (1, 0, 1), (slots, 1, 1)] {
            let p = Params { pairs, experts, slots, n, k, transposed, accumulate, alpha: 0.75 };
            let a = Operand::f32(&random.values((pairs / slots * k) as usize));
            let c = random.values((pairs * n) as usize);
            let start = if accumulate == 1 { Operand::f32(&c) } else { Operand::unset(c.len()) };
            check_kernel(&low_rank::product(p), &[a.clone(), w.clone(), Operand::u32(&ids), start]);
            let [counts, list] = sorted(&ids, experts);
            check_kernel(&low_rank::outer(p), &[Operand::f32(&c), a, counts, list, w.clone()]);
        }
    }
}

/// Of y = alpha w[expert] x, weighed with dy.
#[test]
fn gradients() {
    let mut random = Random::new(221);
    let (experts, slots, n, k) = (3, 2, 4, 5);
    let ids = [2, 0, 1, 2, 0, 2];
    let p = Params { pairs: 6, experts, slots, n, k, alpha: 0.5, ..Params::default() };
    let (x, w, dy) = (random.values(15), random.values(60), random.values(24));
    let loss = |x: &[f32], w: &[f32]| {
        let operands = [Operand::f32(x), Operand::f32(w), Operand::u32(&ids), Operand::unset(24)];
        let y = check_kernel(&low_rank::product(p), &operands).remove(0);
        y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum::<f64>()
    };
    let [counts, list] = sorted(&ids, experts);
    let operands = [Operand::f32(&dy), Operand::f32(&x), counts, list, Operand::f32(&[0.0; 60])];
    let dw = check_kernel(&low_rank::outer(p), &operands).remove(0);
    check_gradient("w", &w, &dw, (0.5, 1e-5), |w| loss(&x, w));
    let back = Params { n: k, k: n, slots: 1, transposed: 1, ..p };
    let operands = [Operand::f32(&dy), Operand::f32(&w), Operand::u32(&ids), Operand::unset(30)];
    let dpairs = check_kernel(&low_rank::product(back), &operands).remove(0);
    let dx: Vec<f32> = dpairs
        .chunks(10)
        .flat_map(|two| two[..5].iter().zip(&two[5..]).map(|(a, b)| a + b).collect::<Vec<_>>())
        .collect();
    check_gradient("x", &x, &dx, (0.5, 1e-5), |x| loss(x, &w));
}
