//! A feed-forward block of real kernels on both back ends: the CPU reads the weights as GGUF blocks where the GPU has
//! them packed, so this also compares the two bindings of a weight.

use loam::backend::Backend;
use loam::backend::cpu::CpuBackend;
use loam::backend::wgpu::Checks;
use loam::plan::{Content, Entry, Location, Plan, Pool, StorageId, View};
use loam_shaders::{Format, embed, glu, matmul, rmsnorm};
use loam_tests::{Random, plans};
use pollster::block_on;

use crate::fixture::{gpu_with, node, plan, read, run, slot, stored, values, zeros};

const WIDTH: u32 = 256;
const HIDDEN: u32 = 512;
const VOCABULARY: u32 = 300;
const OUT: StorageId = StorageId(6);

fn weight(name: &str, format: Format, rows: u32, cols: u32, random: &mut Random) -> Entry {
    let (rows, cols) = (rows as usize, cols as usize);
    let weights: Vec<f32> = random.values(rows * cols).iter().map(|x| x / (cols as f32).sqrt()).collect();
    let mut blocks = vec![0; rows * format.row_bytes(cols).unwrap()];
    format.encode_row(&weights, &mut blocks);
    Entry { name: name.into(), ..plans::weight(format, rows, cols, blocks) }
}

/// Embedding, norm, gate, up, SiLU product, down (added to the embedding).
fn block(format: Format, tokens: u32, entries: &[Entry]) -> Plan {
    let all = |index: usize| stored(StorageId(index as u32), entries[index].words);
    let (narrow, wide) = (u64::from(tokens * WIDTH), u64::from(tokens * HIDDEN));
    let out = View { location: Location::Stored(OUT), offset: 0, words: narrow };
    let product = |inner, rows, accumulate| {
        let id = format.ggml_id();
        let p = matmul::Params { tokens, inner, row0: 0, rows, stride: rows, accumulate, format: id, rank: 0 };
        matmul::forward(p)
    };
    let looked_up = embed::Params {
        tokens,
        width: WIDTH,
        row0: 0,
        rows: VOCABULARY,
        format: format.ggml_id(),
        scale: 1.0,
        pad: [0; 2],
    };
    let norm = rmsnorm::Params { rows: tokens, width: WIDTH, accumulate: 0, eps: 1e-5 };
    let gated = glu::Params { len: tokens * HIDDEN, activation: glu::Activation::Silu as u32, pad: [0; 2] };
    let nodes = vec![
        node("token_embd", embed::forward(format, looked_up), &[all(0), all(1), out]),
        node("ffn_norm", rmsnorm::forward(norm), &[out, all(2), slot(0, narrow)]),
        node("ffn_gate", product(WIDTH, HIDDEN, 0), &[slot(0, narrow), all(3), slot(1, wide)]),
        node("ffn_up", product(WIDTH, HIDDEN, 0), &[slot(0, narrow), all(4), slot(2, wide)]),
        node("ffn_act", glu::forward(gated), &[slot(1, wide), slot(2, wide), slot(3, wide)]),
        node("ffn_down", product(HIDDEN, WIDTH, 1), &[slot(3, wide), all(5), out]),
    ];
    plan(&[narrow, wide, wide, wide], nodes)
}

fn entries(format: Format, tokens: u32) -> Vec<Entry> {
    let mut random = Random::new(7);
    let ids: Vec<u32> = (0..tokens).map(|_| random.below(VOCABULARY)).collect();
    let ids = Entry { name: "tokens".into(), pool: Pool::Inputs, words: tokens.into(), content: Content::Words(ids) };
    vec![
        ids,
        weight("token_embd", format, VOCABULARY, WIDTH, &mut random),
        values(&random.values(WIDTH as usize)),
        weight("ffn_gate", format, HIDDEN, WIDTH, &mut random),
        weight("ffn_up", format, HIDDEN, WIDTH, &mut random),
        weight("ffn_down", format, WIDTH, HIDDEN, &mut random),
        zeros(u64::from(tokens * WIDTH)),
    ]
}

/// Two runs, which must agree in every bit.
pub fn result(backend: &mut dyn Backend, format: Format, tokens: u32) -> Vec<f32> {
    let entries = entries(format, tokens);
    for (index, entry) in entries.iter().enumerate() {
        block_on(backend.allocate(StorageId(index as u32), entry)).unwrap();
    }
    let program = block_on(backend.compile(&block(format, tokens, &entries))).unwrap();
    let words = u64::from(tokens * WIDTH);
    run(backend, program);
    let first = read(backend, OUT, 0, words);
    run(backend, program);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read(backend, OUT, 0, words)), bits(&first), "{format}: two runs differ");
    backend.discard(program);
    first
}

#[test]
fn a_feed_forward_block_agrees_on_both_back_ends() {
    for checks in [Checks::On, Checks::Off] {
        let Some(mut gpu) = gpu_with(checks) else { return };
        for (format, tokens) in [(Format::F32, 5), (Format::Q4_0, 1), (Format::Q8_0, 33), (Format::Q4_K, 70)] {
            let expected = result(&mut CpuBackend::new(None).unwrap(), format, tokens);
            let found = result(&mut gpu, format, tokens);
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
            let norm = square(&mut expected.iter().copied());
            assert!(norm > 0.1 && norm.is_finite(), "{norm}");
            let error = square(&mut expected.iter().zip(&found).map(|(e, f)| e - f));
            let relative = (error / norm).sqrt();
            assert!(relative <= 1e-5, "{format}, {tokens} tokens, {checks:?}: {relative:.2e}");
        }
    }
}
