//! Rates of the kernels that training spends its time in, on a GPU, one at a time, at the shapes of a model of a
//! thousand million weights: `cargo bench -p loam-benches --bench gpu_kernels -- --device gpu`.
//!
//! `--precision f32|f16|int8`, `--peak TFLOPS` (of the card's data sheet: prints which part of it a kernel reaches),
//! `--tokens N` (512), `--hidden N` (2048; the feed-forward layer has four times as many). Every number is the best of
//! some rounds of many dispatches in one submission.

#![allow(clippy::print_stdout, reason = "a bench reports on stdout")]

use std::time::Instant;

use loam::backend::{self, Backend, Precision, select};
use loam::plan::{Entry, StorageId, View};
use loam_shaders::{Call, Format, Step, attention, dense, matmul};
use loam_tests::{Random, plans};
use pollster::block_on;

const ROUNDS: usize = 5;
/// A round takes at least this long.
const SECONDS: f64 = 0.05;
/// Most dispatches of a round.
const MOST: usize = 256;
/// Low rank of the products without a weight.
const RANK: u32 = 16;

/// What the arguments say.
struct Options {
    device: String,
    precision: Precision,
    /// TFLOP/s.
    peak: Option<f64>,
    tokens: u32,
    hidden: u32,
}

/// What a kernel is bound to.
enum Operand {
    /// A temporary of so many words.
    Slot(u64),
    /// A stored buffer of so many random words.
    Words(u64),
    /// A stored buffer of zeros.
    Zeros(u64),
    /// A weight of random values.
    Weight(Format, u32, u32),
}

fn main() {
    let options = options().unwrap_or_else(|problem| panic!("{problem}"));
    let opening = backend::Options { precision: options.precision, ..backend::Options::default() };
    let mut backend = block_on(select::open(&options.device, &opening)).unwrap_or_else(|error| panic!("{error}"));
    println!("{}, {}, {:?}, {} tokens", backend.info().name, backend.info().driver, options.precision, options.tokens);
    products(&options, backend.as_mut());
    low_rank(&options, backend.as_mut());
    attentions(&options, backend.as_mut());
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { device: "gpu".into(), precision: Precision::F32, peak: None, tokens: 512, hidden: 2048 };
    // cargo adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a value"))?;
        let wrong = || format!("{flag} {value}: not understood");
        match flag.as_str() {
            "--device" => options.device = value,
            "--precision" => {
                options.precision = match value.as_str() {
                    "f32" => Precision::F32,
                    "f16" => Precision::F16,
                    "int8" => Precision::Int8,
                    _ => return Err(wrong()),
                }
            }
            "--peak" => options.peak = Some(value.parse().map_err(|_| wrong())?),
            "--tokens" => options.tokens = value.parse().map_err(|_| wrong())?,
            "--hidden" => options.hidden = value.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    Ok(options)
}

fn products(options: &Options, backend: &mut dyn Backend) {
    let (tokens, hidden) = (options.tokens, options.hidden);
    for format in [Format::Q4_0, Format::Q4_K, Format::Q6_K, Format::Q8_0, Format::F16] {
        for (rows, inner) in [(hidden, hidden), (4 * hidden, hidden), (hidden, 4 * hidden)] {
            let p =
                matmul::Params { tokens, inner, rows, stride: rows, format: format.ggml_id(), ..Default::default() };
            let work = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(inner);
            let (x, y) = (u64::from(tokens * inner), u64::from(tokens * rows));
            for (call, from, to) in [(matmul::forward(p), x, y), (matmul::transposed(p), y, x)] {
                let operands = [Operand::Slot(from), Operand::Weight(format, rows, inner), Operand::Slot(to)];
                report(options, &format!("{rows} x {inner}"), &call, work, seconds(backend, &call, &operands));
            }
        }
    }
}

/// x Aᵀ, u Bᵀ and duᵀ x of an adapter.
fn low_rank(options: &Options, backend: &mut dyn Backend) {
    let (tokens, hidden) = (options.tokens, options.hidden);
    let shapes = [
        ("x A^T", (tokens, RANK, hidden), (hidden, 1), (1, hidden)),
        ("u B^T", (tokens, hidden, RANK), (RANK, 1), (1, RANK)),
        ("du^T x", (RANK, hidden, tokens), (1, RANK), (hidden, 1)),
    ];
    for (name, (m, n, k), (a_row, a_col), (b_row, b_col)) in shapes {
        let p = dense::Params { m, n, k, a_row, a_col, b_row, b_col, alpha: 1.0, ..Default::default() };
        let words = |rows: u32, cols: u32| u64::from(rows) * u64::from(cols);
        let operands = [Operand::Words(words(m, k)), Operand::Words(words(k, n)), Operand::Zeros(words(m, n))];
        let work = 2.0 * f64::from(m) * f64::from(n) * f64::from(k);
        let call = dense::product(p);
        report(options, name, &call, work, seconds(backend, &call, &operands));
    }
}

/// With four query heads of 64 to each key/value head.
fn attentions(options: &Options, backend: &mut dyn Backend) {
    let (tokens, heads) = (options.tokens, options.hidden / 64);
    let (kv_heads, head_dim) = ((heads / 4).max(1), 64);
    let scale = 0.125;
    let p = attention::Params { batch: 1, queries: tokens, heads, kv_heads, head_dim, scale, ..Default::default() };
    let (q, kv) = (u64::from(tokens * heads * head_dim), u64::from(tokens * kv_heads * head_dim));
    let (starts, stats) = (u64::from(tokens), 2 * u64::from(tokens * heads));
    // Half of all pairs of positions; two products forward, three and four backward.
    let product = f64::from(tokens) * f64::from(tokens) * f64::from(heads * head_dim);
    let seen = || [Operand::Words(q), Operand::Words(kv), Operand::Words(kv), Operand::Zeros(starts)];
    let forward = seen().into_iter().chain([Operand::Zeros(q), Operand::Zeros(stats)]);
    let backward = || seen().into_iter().chain([Operand::Words(q), Operand::Words(stats)]);
    let cases = [
        (attention::forward(p), 2.0, forward.collect::<Vec<_>>()),
        (attention::backward_q(p), 3.0, backward().chain([Operand::Zeros(q)]).collect()),
        (attention::backward_kv(p), 4.0, backward().chain([Operand::Zeros(kv), Operand::Zeros(kv)]).collect()),
    ];
    for (call, products, operands) in cases {
        let name = format!("{heads} heads");
        report(options, &name, &call, products * product, seconds(backend, &call, &operands));
    }
}

fn report(options: &Options, shape: &str, call: &Call, work: f64, seconds: f64) {
    let rate = work / seconds / 1e9;
    let part = options.peak.map_or_else(String::new, |peak| format!("{:6.1} % of the peak", rate / peak / 10.0));
    println!("{:34} {shape:14} {:9.3} ms {rate:10.1} GFLOP/s {part}", call.kernel.name(), 1e3 * seconds);
}

/// Seconds of one dispatch.
fn seconds(backend: &mut dyn Backend, call: &Call, operands: &[Operand]) -> f64 {
    let mut slots = Vec::new();
    let views: Vec<View> = (0..).zip(operands).map(|(id, operand)| bind(backend, id, operand, &mut slots)).collect();
    let mut times = 1;
    loop {
        let plan = plans::plan(&slots, vec![plans::node("bench", call.clone(), &views); times]);
        let program = block_on(backend.compile(&plan)).unwrap_or_else(|error| panic!("{error}"));
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            backend::run(backend, program, &Step::default())
                .and_then(|()| block_on(backend.settle()))
                .unwrap_or_else(|error| panic!("{error}"));
            best = best.min(began.elapsed().as_secs_f64());
        }
        backend.discard(program);
        if best >= SECONDS || times >= MOST {
            (0..operands.len() as u32).for_each(|id| backend.release(StorageId(id)));
            return best / times as f64;
        }
        times *= 4;
    }
}

fn bind(backend: &mut dyn Backend, id: u32, operand: &Operand, slots: &mut Vec<u64>) -> View {
    let mut random = Random::new(id.into());
    let entry = match *operand {
        Operand::Slot(words) => {
            slots.push(words);
            return plans::slot(slots.len() as u32 - 1, words);
        }
        Operand::Words(words) => plans::values(&random.values(words as usize)),
        Operand::Zeros(words) => plans::zeros(words),
        Operand::Weight(format, rows, cols) => weight(format, rows as usize, cols as usize, &mut random),
    };
    block_on(backend.allocate(StorageId(id), &entry)).unwrap_or_else(|error| panic!("{error}"));
    plans::stored(StorageId(id), entry.words)
}

/// Rows that repeat after some: encoding them all would take longer than measuring.
fn weight(format: Format, rows: usize, cols: usize, random: &mut Random) -> Entry {
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    let mut some = vec![0; row_bytes * 8];
    format.encode_row(&random.values(8 * cols), &mut some);
    plans::weight(format, rows, cols, some.into_iter().cycle().take(rows * row_bytes).collect())
}
