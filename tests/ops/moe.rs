//! Kernels of `moe` against their references, and the gradients of routing, products and sum against finite
//! differences.

use loam_shaders::Format;
use loam_shaders::kernel::Call;
use loam_shaders::moe::{self, Params, grouped};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

fn params(tokens: u32, experts: u32, slots: u32, width: u32) -> Params {
    Params { tokens, experts, slots, width, ..Params::default() }
}

/// Ids and weights that the router picks.
fn route(p: Params, logits: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let pairs = p.pairs() as usize;
    let mut out = check_kernel(&moe::route(p), &[Operand::f32(logits), Operand::unset(pairs), Operand::unset(pairs)]);
    let weights = out.remove(1);
    (out[0].iter().map(|id| id.to_bits()).collect(), weights)
}

/// The list of pairs and the tiles that `ids` make.
fn sort(p: Params, ids: &[u32]) -> [Operand; 2] {
    let experts = p.experts as usize;
    let counts = check_kernel(&moe::count(p), &[Operand::u32(ids), Operand::unset(experts)]).remove(0);
    let counts: Vec<u32> = counts.iter().map(|count| count.to_bits()).collect();
    let width = moe::tiles(p.pairs(), p.experts);
    let unset = [Operand::unset(ids.len()), Operand::unset(4 * width as usize)];
    let [list, tiles] = unset;
    let call = moe::place(Params { width, ..p });
    let mut out = check_kernel(&call, &[Operand::u32(ids), Operand::u32(&counts), list, tiles]);
    let tiles = out.remove(1);
    [Operand::f32(&out[0]), Operand::f32(&tiles)]
}

#[test]
fn routes_of_many_shapes() {
    let mut random = Random::new(210);
    for (experts, slots, over_all) in [(1, 1, 0), (4, 2, 1), (7, 7, 0), (64, 6, 0), (128, 8, 1), (130, 3, 1)] {
        for tokens in [1, 3, 70] {
            let p = Params { over_all, ..params(tokens, experts, slots, 0) };
            let logits: Vec<f32> = random.values((tokens * experts) as usize).iter().map(|v| 9.0 * v).collect();
            let (ids, weights) = route(p, &logits);
            for (ids, weights) in ids.chunks(slots as usize).zip(weights.chunks(slots as usize)) {
                let sum = weights.iter().sum::<f32>();
                assert!(if over_all == 0 { (sum - 1.0).abs() < 1e-5 } else { sum < 1.0 + 1e-5 });
                assert!(weights.is_sorted_by(|a, b| a >= b));
                assert!(ids.iter().all(|id| *id < experts && ids.iter().filter(|other| *other == id).count() == 1));
            }
            let [dweights, weights] = [random.values(weights.len()), weights].map(|values| Operand::f32(&values));
            let unset = Operand::unset(logits.len());
            let operands = [Operand::f32(&logits), Operand::u32(&ids), weights, dweights, unset];
            check_kernel(&moe::route_backward(p), &operands);
        }
    }
}

/// Of equal logits the lowest expert comes first, and -0 equals 0.
#[test]
fn ties_by_hand() {
    let (ids, weights) = route(params(2, 4, 3, 0), &[1.0, 2.0, 2.0, 1.0, -0.0, 0.0, -0.0, -1.0]);
    assert_eq!(ids, [1, 2, 0, 0, 1, 2]);
    assert!((weights[2] - (-1f32).exp() / (2.0 + (-1f32).exp())).abs() < 1e-6 && (weights[3] - 1.0 / 3.0).abs() < 1e-6);
}

/// One logit that is no number, of either sign, makes all weights of its token such, and no other's: on every back end.
#[test]
fn a_logit_that_is_no_number_reaches_the_weights() {
    let mut random = Random::new(213);
    for (experts, slots, over_all) in [(4, 2, 0), (70, 6, 1), (130, 8, 0)] {
        for broken in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)] {
            let mut logits = random.values(5 * experts as usize);
            let at = (experts - 1) as usize;
            logits[at] = broken;
            logits[3 * experts as usize] = broken;
            let (ids, weights) = route(Params { over_all, ..params(5, experts, slots, 0) }, &logits);
            for (token, weights) in weights.chunks(slots as usize).enumerate() {
                let broken = [0, 3].contains(&token);
                assert!(weights.iter().all(|weight| weight.is_nan() == broken), "token {token}: {weights:?}");
            }
            assert!(ids.iter().all(|id| *id < experts));
        }
    }
}

/// Experts without a pair, with one tile and with several; pairs keep their order.
#[test]
fn sorts_by_expert() {
    let mut random = Random::new(211);
    for (tokens, experts, slots) in [(1, 3, 1), (5, 8, 4), (300, 5, 2), (33, 200, 8)] {
        let p = params(tokens, experts, slots, 0);
        let skewed =
            |i: u32, random: &mut Random| if i.is_multiple_of(3) { experts - 1 } else { random.below(experts) };
        let ids: Vec<u32> = (0..p.pairs()).map(|i| skewed(i, &mut random)).collect();
        let [Operand::Words(list), Operand::Words(tiles)] = sort(p, &ids) else { panic!("words") };
        let mut expected: Vec<u32> = (0..p.pairs()).collect();
        expected.sort_by_key(|pair| ids[*pair as usize]);
        assert_eq!(list, expected);
        let covered = tiles.chunks(4).filter(|tile| tile[2] > 0).flat_map(|tile| {
            assert!(tile[2] <= moe::TILE);
            (tile[1]..tile[1] + tile[2]).map(|entry| (entry, tile[0])).collect::<Vec<_>>()
        });
        let own = |(entry, pair): (usize, &u32)| (entry as u32, ids[*pair as usize]);
        assert!(covered.eq(list.iter().enumerate().map(own)), "every pair is in one tile of its expert");
    }
}

/// A product's uniform: the whole weight of `p.experts` matrices of `stride` rows.
fn product(p: Params, format: Format, inner: u32, stride: u32, slots: u32) -> grouped::Params {
    let rows = p.experts * stride;
    grouped::Params { tokens: p.pairs(), inner, row0: 0, rows, stride, accumulate: 0, format: format.ggml_id(), slots }
}

fn weight(g: &grouped::Params, random: &mut Random) -> Operand {
    let format = Format::from_ggml_id(g.format).expect("a format");
    Operand::weight(format, g.rows as usize, g.inner as usize, random)
}

fn inner(format: Format) -> u32 {
    format.block_len().max(36).next_multiple_of(format.block_len()) as u32
}

#[test]
fn products_in_every_format() {
    let mut random = Random::new(212);
    for format in Format::ALL {
        for (tokens, experts, slots, stride) in [(2, 3, 2, 13), (50, 3, 2, 70)] {
            let p = params(tokens, experts, slots, 0);
            // The middle expert gets no pair, the last one more than a tile.
            let ids: Vec<u32> = (0..p.pairs()).map(|i| if i % 4 == 1 { 0 } else { 2 }).collect();
            let [list, tiles] = sort(p, &ids);
            for slots in [1, slots] {
                let g = product(p, format, inner(format), stride, slots);
                let w = weight(&g, &mut random);
                let x = Operand::f32(&random.values((p.pairs() / slots * g.inner) as usize));
                let y = Operand::unset((p.pairs() * stride) as usize);
                let few = check_kernel(&grouped::vector(g), &[x.clone(), w.clone(), y.clone(), Operand::u32(&ids)]);
                let operands = [x, w.clone(), y, list.clone(), tiles.clone()];
                let many = check_kernel(&grouped::tile(g, experts), &operands);
                assert_eq!(few, many, "{format}: both forms are one product");
                assert!(many[0].iter().all(|value| value.is_finite()));
                let dy = Operand::f32(&random.values((p.pairs() * stride) as usize));
                let dx = Operand::unset((p.pairs() * g.inner) as usize);
                let operands = [dy, w, dx, list.clone(), tiles.clone()];
                let dx = check_kernel(&grouped::transposed(g, experts), &operands).remove(0);
                assert!(dx.iter().all(|value| value.is_finite()));
            }
        }
    }
}

/// Parts that begin and end inside of experts: each writes its own rows of its own experts only, and adds its own
/// share of dx; together they are the whole.
#[test]
fn parts_of_a_split_weight() {
    let mut random = Random::new(213);
    for (format, tokens) in [(Format::Q4_0, 40), (Format::F32, 3)] {
        let (experts, stride) = (3, 50);
        let p = params(tokens, experts, 2, 0);
        let ids: Vec<u32> = (0..p.pairs()).map(|i| i % experts).collect();
        let [list, tiles] = sort(p, &ids);
        let whole = product(p, format, 64, stride, 2);
        let Operand::Weight { blocks, .. } = weight(&whole, &mut random) else { panic!("a weight") };
        let row_bytes = format.row_bytes(64).expect("whole blocks");
        let part = |row0: u32, rows: u32| {
            let blocks = blocks[row0 as usize * row_bytes..][..rows as usize * row_bytes].to_vec();
            (grouped::Params { row0, rows, ..whole }, Operand::Weight { format, rows: rows as usize, cols: 64, blocks })
        };
        let x = Operand::f32(&random.values((tokens * 64) as usize));
        let dy = Operand::f32(&random.values((p.pairs() * stride) as usize));
        let run = |parts: &[(grouped::Params, Operand)]| {
            let (mut y, mut few) = (vec![f32::NAN; (p.pairs() * stride) as usize], Vec::new());
            let mut dx = vec![f32::NAN; (p.pairs() * 64) as usize];
            few.clone_from(&y);
            for (i, (g, w)) in parts.iter().enumerate() {
                let call = |call: Call, out: &mut Vec<f32>, input: &Operand, rest: &[Operand]| {
                    let mut operands = vec![input.clone(), w.clone(), Operand::f32(out)];
                    operands.extend_from_slice(rest);
                    *out = check_kernel(&call, &operands).remove(0);
                };
                let sorted = [list.clone(), tiles.clone()];
                call(grouped::tile(*g, experts), &mut y, &x, &sorted);
                call(grouped::vector(*g), &mut few, &x, &[Operand::u32(&ids)]);
                let back = grouped::Params { accumulate: (i > 0).into(), slots: 1, ..*g };
                call(grouped::transposed(back, experts), &mut dx, &dy, &sorted);
            }
            assert_eq!(y, few);
            (y, dx)
        };
        let (y, dx) = run(&[part(0, 150)]);
        let (split_y, split_dx) = run(&[part(0, 64), part(64, 20), part(84, 66)]);
        assert_eq!(y, split_y);
        let worst = dx.iter().zip(&split_dx).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{format}: dx of the parts is {worst:.1e} from the whole's");
    }
}

#[test]
fn combines_of_many_shapes() {
    let mut random = Random::new(214);
    for (tokens, slots, width) in [(1, 1, 4), (3, 2, 257), (70, 8, 36)] {
        for accumulate in [0, 1] {
            let p = Params { accumulate, ..params(tokens, 8, slots, width) };
            let (pairs, out) = (p.pairs() as usize, (tokens * width) as usize);
            let wide = pairs * width as usize;
            let [y, weights, dout] = [wide, pairs, out].map(|len| Operand::f32(&random.values(len)));
            check_kernel(&moe::combine(p), &[y.clone(), weights.clone(), Operand::unset(out)]);
            let outputs = [Operand::unset(wide), Operand::unset(pairs)];
            let [dy, dweights] = outputs;
            check_kernel(&moe::combine_backward(p), &[y.clone(), weights, dout.clone(), dy, dweights]);
            check_kernel(&moe::sum(p), &[y, dout]);
        }
    }
}

/// Weighted sum of `y` under the routing of `logits`, times `dout`, by the formulas and in f64.
fn loss(p: Params, ids: &[u32], logits: &[f32], y: &[f32], dout: &[f32]) -> f64 {
    let (slots, width) = (p.slots as usize, p.width as usize);
    let mut total = 0.0;
    for token in 0..p.tokens as usize {
        let ids = &ids[token * slots..][..slots];
        let all: Vec<f64> = logits[token * p.experts as usize..][..p.experts as usize]
            .iter()
            .map(|logit| f64::from(*logit).exp())
            .collect();
        let chosen: f64 = match p.over_all {
            0 => ids.iter().map(|id| all[*id as usize]).sum(),
            _ => all.iter().sum(),
        };
        for (slot, id) in ids.iter().enumerate() {
            let y = &y[(token * slots + slot) * width..][..width];
            let dot: f64 = y.iter().zip(&dout[token * width..]).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum();
            total += all[*id as usize] / chosen * dot;
        }
    }
    total
}

#[test]
fn gradients_of_routing_and_sum() {
    check_routing_gradients(params(4, 6, 3, 5));
    check_routing_gradients(Params { over_all: 1, ..params(4, 6, 3, 5) });
}

fn check_routing_gradients(p: Params) {
    let mut random = Random::new(215);
    let logits: Vec<f32> = (0..24).map(|i| ((i * 7) % 24) as f32 * 0.2 + 0.05 * random.value()).collect();
    let (y, dout) = (random.values(60), random.values(20));
    let (ids, weights) = route(p, &logits);
    let outputs = [Operand::unset(60), Operand::unset(12)];
    let [dy, dweights] = outputs;
    let operands = [Operand::f32(&y), Operand::f32(&weights), Operand::f32(&dout), dy, dweights];
    let mut gradients = check_kernel(&moe::combine_backward(p), &operands);
    let (dweights, dy) = (gradients.remove(1), gradients.remove(0));
    let [weights, dweights] = [&weights, &dweights].map(|values| Operand::f32(values));
    let operands = [Operand::f32(&logits), Operand::u32(&ids), weights, dweights, Operand::unset(24)];
    let dlogits = check_kernel(&moe::route_backward(p), &operands).remove(0);
    check_gradient("logits", &logits, &dlogits, (1e-3, 1e-4), |logits| loss(p, &ids, logits, &y, &dout));
    check_gradient("y", &y, &dy, (1e-1, 1e-5), |y| loss(p, &ids, &logits, y, &dout));
}

#[test]
fn transposed_is_the_gradient_of_the_product() {
    let mut random = Random::new(216);
    let p = params(3, 4, 2, 0);
    let ids = [3, 0, 1, 3, 0, 1];
    let [list, tiles] = sort(p, &ids);
    let g = product(p, Format::Q8_0, 64, 7, 2);
    let w = weight(&g, &mut random);
    let (x, dy) = (random.values(3 * 64), random.values(6 * 7));
    let back = grouped::Params { slots: 1, ..g };
    let operands = [Operand::f32(&dy), w.clone(), Operand::unset(6 * 64), list, tiles];
    let dpairs = check_kernel(&grouped::transposed(back, 4), &operands).remove(0);
    let sum = moe::sum(Params { width: 64, ..p });
    let dx = check_kernel(&sum, &[Operand::f32(&dpairs), Operand::unset(3 * 64)]).remove(0);
    check_gradient("x", &x, &dx, (0.5, 1e-4), |x| {
        let operands = [Operand::f32(x), w.clone(), Operand::unset(42), Operand::u32(&ids)];
        let y = check_kernel(&grouped::vector(g), &operands).remove(0);
        y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
    });
}
