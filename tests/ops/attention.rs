//! Kernels of `attention` against their references, and the gradients against finite differences.

use loam_shaders::attention::{self, BLOCK, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// Parameters, and length of the packed conversations (0: one).
#[derive(Debug, Clone, Copy)]
struct Case {
    p: Params,
    packed: u32,
}

fn case((batch, queries): (u32, u32), (heads, kv_heads, head_dim): (u32, u32, u32)) -> Case {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let p = Params { batch, queries, heads, kv_heads, head_dim, scale, ..Params::default() };
    Case { p, packed: 0 }
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    starts: Vec<u32>,
}

impl Case {
    fn query_len(&self) -> usize {
        (self.p.batch * self.p.queries * self.p.heads * self.p.head_dim) as usize
    }

    fn key_len(&self) -> usize {
        (self.p.batch * self.p.queries * self.p.kv_heads * self.p.head_dim) as usize
    }

    fn stats_len(&self) -> usize {
        (self.p.batch * self.p.queries * self.p.heads * 2) as usize
    }

    /// First key of the conversation that a query belongs to; batches are cut at different places.
    fn start(&self, batch: u32, query: u32) -> u32 {
        let cut = |length| (query + batch) / length * length;
        if self.packed == 0 { 0 } else { cut(self.packed).saturating_sub(batch) }
    }

    /// Random inputs.
    fn inputs(&self, random: &mut Random) -> Inputs {
        let scaled = |values: Vec<f32>| values.iter().map(|v| 2.0 * v).collect::<Vec<f32>>();
        Inputs {
            q: scaled(random.values(self.query_len())),
            k: scaled(random.values(self.key_len())),
            v: random.values(self.key_len()),
            dout: random.values(self.query_len()),
            starts: (0..self.p.batch * self.p.queries)
                .map(|i| self.start(i / self.p.queries, i % self.p.queries))
                .collect(),
        }
    }
}

/// Output and statistics of the forward pass, checked.
fn forward(case: &Case, inputs: &Inputs) -> (Vec<f32>, Vec<f32>) {
    let operands = [
        Operand::f32(&inputs.q),
        Operand::f32(&inputs.k),
        Operand::f32(&inputs.v),
        Operand::u32(&inputs.starts),
        Operand::unset(case.query_len()),
        Operand::unset(case.stats_len()),
    ];
    let mut written = check_kernel(&attention::forward(case.p), &operands);
    let stats = written.remove(1);
    assert!(written[0].iter().all(|value| value.is_finite()), "{case:?}: output is not finite");
    (written.remove(0), stats)
}

/// dq, dk and dv, checked.
fn backward(case: &Case, inputs: &Inputs) -> [Vec<f32>; 3] {
    let (out, stats) = forward(case, inputs);
    let operands = [&inputs.dout, &out, &stats].map(|values| Operand::f32(values));
    let stats = check_kernel(&attention::backward_prepare(case.p), &operands).remove(0);
    assert!(stats.iter().all(|value| value.is_finite()), "{case:?}: statistics are not finite");
    let [q, k, v, dout, stats] =
        [&inputs.q, &inputs.k, &inputs.v, &inputs.dout, &stats].map(|values| Operand::f32(values));
    let mut operands = vec![q, k, v, Operand::u32(&inputs.starts), dout, stats, Operand::unset(case.query_len())];
    let dq = check_kernel(&attention::backward_q(case.p), &operands).remove(0);
    operands.pop();
    operands.extend([Operand::unset(case.key_len()), Operand::unset(case.key_len())]);
    let mut gradients = check_kernel(&attention::backward_kv(case.p), &operands);
    let dv = gradients.remove(1);
    [dq, gradients.remove(0), dv]
}

#[test]
fn tiles_of_awkward_shapes() {
    let mut random = Random::new(180);
    let heads =
        [(1, 1, 16), (4, 1, 32), (2, 2, 48), (4, 1, 64), (2, 1, 80), (2, 2, 128), (8, 2, 4), (2, 1, 132), (1, 1, 256)];
    for (index, heads) in heads.into_iter().enumerate() {
        for queries in [3, 17, 65] {
            let case = case((1 + index as u32 % 2, queries), heads);
            backward(&case, &case.inputs(&mut random));
        }
    }
}

/// What is no number in a query, a key or a value is none in what is made of it, and so are the statistics: the check
/// compares every back end with the reference.
#[test]
fn what_is_no_number_reaches_the_result() {
    let mut random = Random::new(187);
    for (heads, queries) in [((4, 2, 32), 17), ((2, 1, 128), 33), ((2, 1, 256), 5)] {
        let case = case((1, queries), heads);
        for place in ["q", "k", "v"] {
            let mut inputs = case.inputs(&mut random);
            let broken = match place {
                "q" => &mut inputs.q,
                "k" => &mut inputs.k,
                _ => &mut inputs.v,
            };
            broken[0] = f32::NAN;
            let operands = [
                Operand::f32(&inputs.q),
                Operand::f32(&inputs.k),
                Operand::f32(&inputs.v),
                Operand::u32(&inputs.starts),
                Operand::unset(case.query_len()),
                Operand::unset(case.stats_len()),
            ];
            let out = check_kernel(&attention::forward(case.p), &operands).remove(0);
            assert!(out[0].is_nan(), "{place}: {}", out[0]);
        }
    }
}

#[test]
fn windows_and_packed_conversations() {
    let mut random = Random::new(181);
    for (window, packed) in [(2, 0), (5, 0), (33, 0), (0, 7), (0, 40), (9, 24)] {
        let mut case = case((2, 75), (4, 2, 20));
        case.p.window = window;
        case.packed = packed;
        backward(&case, &case.inputs(&mut random));
    }
}

/// Scores far above the cap and below it, with every variant; the scale is not the usual one.
#[test]
fn soft_caps() {
    let mut random = Random::new(186);
    for (heads, queries, window) in [((4, 2, 20), 75, 9), ((2, 1, 128), 33, 0), ((2, 1, 256), 40, 17)] {
        for softcap in [0.5, 4.0, 50.0] {
            let mut case = case((2, queries), heads);
            (case.p.window, case.p.softcap, case.p.scale) = (window, softcap, 0.35);
            backward(&case, &case.inputs(&mut random));
        }
    }
}

/// A run with paged keys: the sequences' (keys before, queries), and their blocks in no order. What no query sees is
/// NaN.
fn paged(heads: (u32, u32, u32), (window, softcap): (u32, f32), sequences: &[(u32, u32)], random: &mut Random) {
    let (heads, kv_heads, head_dim) = heads;
    let (mut spans, mut tables) = (Vec::new(), Vec::new());
    let total: u32 = sequences.iter().map(|(past, queries)| (past + queries).div_ceil(BLOCK as u32)).sum();
    let blocks = total + 2;
    let mut unused: Vec<u32> = (0..blocks).collect();
    for &(past, queries) in sequences {
        let table = tables.len() as u32;
        spans.extend((1..=queries).flat_map(|count| [0, past + count, table]));
        let count = (past + queries).div_ceil(BLOCK as u32) as usize;
        // From both ends in turn: neighbours of a table are none in the cache.
        tables.extend((0..count).map(|n| unused.remove(if n % 2 == 0 { unused.len() - 1 } else { 0 })));
    }
    // Padding.
    spans.extend([0, 0, spans[spans.len() - 1]]);
    let queries = spans.len() as u32 / 3;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let p = Params { batch: 1, queries, heads, kv_heads, head_dim, window, scale, softcap };
    let width = (kv_heads * head_dim) as usize;
    let mut cache = || {
        let mut values = vec![f32::NAN; blocks as usize * BLOCK * width];
        for (sequence, &(past, queries)) in sequences.iter().enumerate() {
            let before = &sequences[..sequence];
            let table: u32 = before.iter().map(|(past, queries)| (past + queries).div_ceil(BLOCK as u32)).sum();
            for key in 0..(past + queries) as usize {
                let row = tables[table as usize + key / BLOCK] as usize * BLOCK + key % BLOCK;
                values[row * width..][..width].copy_from_slice(&random.values(width));
            }
        }
        values
    };
    let (k, v) = (cache(), cache());
    let q: Vec<f32> = random.values((queries * heads * head_dim) as usize).iter().map(|v| 2.0 * v).collect();
    let operands = [
        Operand::f32(&q),
        Operand::f32(&k),
        Operand::f32(&v),
        Operand::u32(&spans),
        Operand::u32(&tables),
        Operand::unset(q.len()),
    ];
    let outs = [false, true].map(|apart| {
        let call = attention::forward_paged(p, apart);
        assert_eq!(call.kernel.name().starts_with("attention_vector"), apart);
        check_kernel(&call, &operands).remove(0)
    });
    assert!(outs[0].iter().all(|value| value.is_finite()), "{sequences:?}: output is not finite");
    assert!(outs[0][outs[0].len() - (heads * head_dim) as usize..].iter().all(|value| *value == 0.0), "padding");
}

#[test]
fn paged_keys_of_one_sequence() {
    let mut random = Random::new(182);
    for (past, queries) in [(0, 1), (0, 9), (40, 17), (31, 33), (64, 2), (5, 65), (255, 1), (600, 1)] {
        for (heads, window, softcap) in [
            ((1, 1, 16), 0, 0.0),
            ((4, 2, 64), 0, 1.5),
            ((4, 1, 80), 20, 0.0),
            ((3, 1, 128), 300, 0.0),
            ((2, 1, 256), 8, 3.0),
        ] {
            paged(heads, (window, softcap), &[(past, queries)], &mut random);
        }
    }
}

/// At different places, some with many queries and some with one.
#[test]
fn paged_keys_of_several_sequences() {
    let mut random = Random::new(183);
    for sequences in
        [&[(3, 1), (70, 1), (0, 1), (129, 1)][..], &[(0, 40), (33, 3), (5, 1), (64, 50)], &[(10, 31), (0, 2), (0, 33)]]
    {
        for (window, softcap) in [(0, 0.0), (9, 2.0)] {
            paged((4, 2, 64), (window, softcap), sequences, &mut random);
            paged((2, 1, 132), (window, softcap), sequences, &mut random);
        }
    }
}

/// Queries whose conversation starts after them, as padding has: zeros, no NaN, no gradient.
#[test]
fn a_query_that_sees_no_key() {
    let mut random = Random::new(184);
    for queries in [1, 3, 40] {
        let case = case((1, queries), (2, 1, 16));
        let mut inputs = case.inputs(&mut random);
        for blind in [0, queries as usize - 1] {
            inputs.starts[blind] = u32::MAX;
        }
        let (out, stats) = forward(&case, &inputs);
        assert!(out[..32].iter().all(|value| *value == 0.0) && stats[0] == 0.0);
        if queries > 1 {
            let [dq, ..] = backward(&case, &inputs);
            assert!(dq[..32].iter().all(|value| *value == 0.0));
        }
    }
}

/// Attention of one head as the paper writes it, in f64 and without tricks: sum of `out * dout`.
fn loss(case: &Case, inputs: &Inputs, (q, k, v): (&[f32], &[f32], &[f32])) -> f64 {
    let p = case.p;
    let (dim, group) = (p.head_dim as usize, p.heads / p.kv_heads);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut total = 0.0;
    for row in 0..p.batch * p.queries * p.heads {
        let (token, head) = (row / p.heads, row % p.heads);
        let (batch, position) = (token / p.queries, token % p.queries);
        let at = row as usize * dim..(row as usize + 1) * dim;
        let sees = |key: &u32| p.window == 0 || *key + p.window > position;
        let (mut weight, mut weighted) = (0.0, 0.0);
        for key in (inputs.starts[token as usize]..=position).filter(sees) {
            let key = (((batch * p.queries + key) * p.kv_heads + head / group) as usize) * dim;
            let score = f64::from(p.scale) * dot(&q[at.clone()], &k[key..key + dim]);
            let cap = f64::from(p.softcap);
            let exp = if cap == 0.0 { score.exp() } else { (cap * (score / cap).tanh()).exp() };
            weight += exp;
            weighted += exp * dot(&inputs.dout[at.clone()], &v[key..key + dim]);
        }
        total += weighted / weight;
    }
    total
}

#[test]
fn gradients() {
    let mut random = Random::new(185);
    for (window, packed, softcap) in [(0, 0, 0.0), (3, 0, 0.0), (0, 4, 0.0), (0, 0, 0.8), (4, 5, 1.6)] {
        let mut case = case((2, 9), (4, 2, 8));
        (case.p.window, case.packed, case.p.softcap) = (window, packed, softcap);
        let inputs = case.inputs(&mut random);
        let (q, k, v) = (&inputs.q[..], &inputs.k[..], &inputs.v[..]);
        let (out, _) = forward(&case, &inputs);
        let found: f64 = out.iter().zip(&inputs.dout).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let expected = loss(&case, &inputs, (q, k, v));
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{case:?}: {found}, not {expected}");
        let [dq, dk, dv] = backward(&case, &inputs);
        check_gradient("q", q, &dq, (1e-3, 1e-5), |q| loss(&case, &inputs, (q, k, v)));
        check_gradient("k", k, &dk, (1e-3, 1e-5), |k| loss(&case, &inputs, (q, k, v)));
        check_gradient("v", v, &dv, (1e-1, 1e-5), |v| loss(&case, &inputs, (q, k, v)));
    }
}
