//! Rates of the CPU kernels beside plain f32 products of the same shape: `cargo bench -p loam-shaders`.
//!
//! Every number is the best of several rounds that run all cases in turn, so that other work on the machine hits all
//! of them alike. Threads: `RAYON_NUM_THREADS`, or all.

#![allow(clippy::print_stdout, reason = "a bench reports on stdout")]

use std::hint::black_box;
use std::time::Instant;

use loam_shaders::format::cpu;
use loam_shaders::matmul::low_rank as fused;
use loam_shaders::tiles::{Product, Strided, Tiles, cuts, grid};
use loam_shaders::{Access, Bind, Call, Format, Step, attention, dense, matmul, simd};
use rayon::prelude::*;

const ROUNDS: usize = 40;
/// Tokens, input features, output features of the products.
const SHAPE: (usize, usize, usize) = (512, 2048, 768);
/// Size of the weight that the vector kernels read: larger than any cache.
const VECTOR_BYTES: usize = 64 << 20;

/// What is measured: a name, the work of one run in the unit of the rate, and the run.
struct Case<'a> {
    name: String,
    work: f64,
    unit: &'static str,
    run: Box<dyn FnMut() + 'a>,
    seconds: f64,
}

impl<'a> Case<'a> {
    fn new(name: String, work: f64, unit: &'static str, run: impl FnMut() + 'a) -> Self {
        Self { name, work, unit, run: Box::new(run), seconds: f64::MAX }
    }
}

fn main() {
    println!("{} threads, {}", rayon::current_num_threads(), simd::features().join(" "));
    decoding();
    products();
    vectors();
    attention();
    low_rank();
    for rank in [8, 16, 64] {
        updates(rank);
    }
}

/// Runs all cases in turn; the first one is the measure of the others.
fn measure(title: &str, mut cases: Vec<Case<'_>>) {
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let start = Instant::now();
            (case.run)();
            case.seconds = case.seconds.min(start.elapsed().as_secs_f64());
        }
    }
    println!("\n{title}");
    let first = cases[0].work / cases[0].seconds;
    for case in &cases {
        let rate = case.work / case.seconds;
        let (unit, percent) = (case.unit, 100.0 * rate / first);
        println!("{:32} {:9.3} ms {:8.1} {unit} {percent:5.0} %", case.name, 1e3 * case.seconds, rate / 1e9);
    }
}

fn values(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0).to_bits()).collect()
}

fn blocks(format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    let row: Vec<f32> = values(cols).into_iter().map(f32::from_bits).collect();
    let mut bytes = vec![0; row_bytes];
    format.encode_row(&row, &mut bytes);
    bytes.repeat(rows)
}

/// Runs the fast function of a call.
fn run(call: &Call, inputs: &[Input<'_>], outputs: &mut [Vec<u32>]) {
    let mut outputs = outputs.iter_mut();
    let mut inputs = inputs.iter();
    let mut bound: Vec<Bind<'_>> = call
        .kernel
        .source
        .bindings
        .iter()
        .map(|binding| match binding.access {
            Access::ReadWrite => Bind::Write(outputs.next().expect("an output per written binding")),
            Access::Read => match inputs.next().expect("an input per read binding") {
                Input::Words(words) => Bind::Read(words),
                Input::Blocks(blocks) => Bind::Blocks(blocks),
            },
        })
        .collect();
    (call.kernel.cpu.expect("a fast host function"))(&Step::default(), &call.params, &mut bound);
}

enum Input<'a> {
    Words(&'a [u32]),
    Blocks(&'a [u8]),
}

fn params(format: Format, tokens: usize, inner: usize, rows: usize) -> matmul::Params {
    let [tokens, inner, rows] = [tokens, inner, rows].map(|size| size as u32);
    matmul::Params { tokens, inner, rows, stride: rows, format: format.ggml_id(), ..Default::default() }
}

/// Decoding alone, on one thread: rows that stay in the cache, and products with one row of activations.
fn decoding() {
    const ROWS: usize = 200;
    let inner = SHAPE.1;
    let x: Vec<f32> = values(inner).into_iter().map(f32::from_bits).collect();
    let others = Format::ALL.into_iter().filter(|format| *format != Format::Q4_K);
    let formats: Vec<Format> = std::iter::once(Format::Q4_K).chain(others).collect();
    for dot in [false, true] {
        let mut cases = Vec::new();
        for &format in &formats {
            let (blocks, x, mut out) = (blocks(format, ROWS, inner), &x, vec![0.0; inner]);
            let row_bytes = blocks.len() / ROWS;
            cases.push(Case::new(format.name().into(), (ROWS * inner) as f64, "Gweights/s", move || {
                for row in blocks.chunks_exact(row_bytes) {
                    if dot {
                        black_box(cpu::dot(format, row, [x]));
                    } else {
                        cpu::decode(format, row, black_box(&mut out));
                    }
                }
            }));
        }
        measure(if dot { "products of cached rows with a vector" } else { "decoding of cached rows" }, cases);
    }
}

fn products() {
    let (tokens, inner, rows) = SHAPE;
    let flops = 2.0 * (tokens * inner * rows) as f64;
    let (x, dy) = (values(tokens * inner), values(tokens * rows));
    let weight = values(rows * inner);
    let (x_f32, w_f32): (&[f32], &[f32]) = (bytemuck::cast_slice(&x), bytemuck::cast_slice(&weight));
    let mut y = vec![0f32; tokens * rows];
    let plain = move || {
        let y = Tiles::new(&mut y, tokens, rows, rows);
        grid(cuts(rows, 192), cuts(tokens, 256)).into_par_iter().for_each(|((row, rows), (token, tokens))| {
            let (a, b) = (Strided::rows(&x_f32[token * inner..], inner), Strided::rows(&w_f32[row * inner..], inner));
            let product = Product { a, b: b.transposed(), m: tokens, n: rows, k: inner, alpha: 1.0, accumulate: false };
            // SAFETY: tasks have disjoint tiles.
            unsafe { y.product(token, row, product) };
        });
    };
    let mut cases = vec![Case::new("gemm f32".into(), flops, "GFLOP/s", plain)];
    for format in Format::ALL {
        let blocks = blocks(format, rows, inner);
        let (forward, transposed) = {
            let p = params(format, tokens, inner, rows);
            (matmul::forward(p), matmul::transposed(p))
        };
        let (mut y, mut dx) = ([vec![0; tokens * rows]], [vec![0; tokens * inner]]);
        let (copy, x, dy) = (blocks.clone(), &x, &dy);
        cases.push(Case::new(forward.kernel.name().into(), flops, "GFLOP/s", move || {
            run(&forward, &[Input::Words(x), Input::Blocks(&copy)], &mut y);
        }));
        cases.push(Case::new(transposed.kernel.name().into(), flops, "GFLOP/s", move || {
            run(&transposed, &[Input::Words(dy), Input::Blocks(&blocks)], &mut dx);
        }));
    }
    measure(&format!("products of {tokens} tokens, {inner} x {rows}"), cases);
}

fn vectors() {
    let inner = SHAPE.1;
    let memory = vec![1u64; VECTOR_BYTES / 8];
    let read = || {
        let sums = memory.par_chunks(1 << 16).map(|run| run.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
        black_box(sums.reduce(|| 0, u64::wrapping_add));
    };
    let x = values(4 * inner);
    let mut cases = vec![Case::new("read memory".into(), VECTOR_BYTES as f64, "GB/s", read)];
    for format in Format::ALL {
        let rows = VECTOR_BYTES / format.row_bytes(inner).expect("whole blocks");
        let blocks = std::rc::Rc::new(blocks(format, rows, inner));
        for tokens in [1, 4] {
            let call = matmul::forward(params(format, tokens, inner, rows));
            let (blocks, x) = (blocks.clone(), &x[..tokens * inner]);
            let mut y = [vec![0; tokens * rows]];
            let name = format!("{}, {tokens} tokens", call.kernel.name());
            cases.push(Case::new(name, blocks.len() as f64, "GB/s", move || {
                run(&call, &[Input::Words(x), Input::Blocks(&blocks)], &mut y);
            }));
        }
    }
    measure(&format!("vectors times {} MiB of weights", VECTOR_BYTES >> 20), cases);
}

fn attention() {
    let (tokens, heads, kv_heads, head_dim) = (512u32, 16, 4, 64);
    let p = attention::Params {
        batch: 1,
        queries: tokens,
        heads,
        kv_heads,
        head_dim,
        window: 0,
        scale: 0.125,
        ..Default::default()
    };
    let (rows, keys) = ((tokens * heads * head_dim) as usize, (tokens * kv_heads * head_dim) as usize);
    let (q, k, v, dout) = (values(rows), values(keys), values(keys), values(rows));
    let (starts, stats) = (vec![0; tokens as usize], values(2 * (tokens * heads) as usize));
    // Half of all pairs of positions; two products forward, three and four backward.
    let product = f64::from(tokens) * f64::from(tokens) * f64::from(heads * head_dim);
    let (q, k, v, starts) = (&q, &k, &v, &starts);
    let (words, stats_ref) = (Input::Words, &stats);
    let mut out = [vec![0; rows], stats.clone()];
    let (mut dq, mut dkv) = ([vec![0; rows]], [vec![0; keys], vec![0; keys]]);
    let dout = &dout;
    let mut cases = vec![Case::new("attention_tile".into(), 2.0 * product, "GFLOP/s", move || {
        run(&attention::forward(p), &[words(q), words(k), words(v), words(starts)], &mut out);
    })];
    let inputs = move || [words(q), words(k), words(v), words(starts), words(dout), words(stats_ref)];
    cases.push(Case::new("attention_backward_q".into(), 3.0 * product, "GFLOP/s", move || {
        run(&attention::backward_q(p), &inputs(), &mut dq);
    }));
    cases.push(Case::new("attention_backward_kv".into(), 4.0 * product, "GFLOP/s", move || {
        run(&attention::backward_kv(p), &inputs(), &mut dkv);
    }));
    measure(&format!("attention, {tokens} tokens, {heads} heads of {head_dim}"), cases);
}

fn low_rank() {
    let tokens = SHAPE.0 as u32;
    let (inner, rank) = (2048u32, 16);
    let (a, b) = (values((tokens * inner) as usize), values((inner * rank) as usize));
    let (h, down) = (values((tokens * rank) as usize), (tokens, rank, inner));
    let shapes = [
        ("x A^T", down, &a, &b, 1),
        ("h B^T", (tokens, inner, rank), &h, &b, 1),
        ("h^T x", (rank, inner, tokens), &h, &a, 0),
    ];
    let mut cases = vec![];
    for (name, (m, n, k), a, b, b_transposed) in shapes {
        let (a_row, a_col) = if b_transposed == 1 { (k, 1) } else { (1, m) };
        let (b_row, b_col) = if b_transposed == 1 { (1, k) } else { (n, 1) };
        let p = dense::Params { m, n, k, a_row, a_col, b_row, b_col, alpha: 1.0, ..Default::default() };
        let mut c = [vec![0; (m * n) as usize]];
        let flops = 2.0 * f64::from(m) * f64::from(n) * f64::from(k);
        cases.push(Case::new(format!("dense {name}"), flops, "GFLOP/s", move || {
            run(&dense::product(p), &[Input::Words(a), Input::Words(b)], &mut c);
        }));
    }
    measure(&format!("low-rank products, {tokens} tokens, {inner} features, rank {rank}"), cases);
}

/// A product and the second half of a low-rank update on it, forward and backward: in two passes and in one.
fn updates(rank: usize) {
    let (tokens, inner, rows) = SHAPE;
    let blocks = blocks(Format::Q4_0, rows, inner);
    let p = matmul::Params { rank: rank as u32, ..params(Format::Q4_0, tokens, inner, rows) };
    let (x, dy) = (&values(tokens * inner), &values(tokens * rows));
    let (u, a, b) = (&values(tokens * rank), &values(rank * inner), &values(rows * rank));
    let blocks = || Input::Blocks(&blocks);
    let dense = |n: usize, (b_row, b_col): (usize, usize)| {
        let [m, n, k, b_row, b_col] = [tokens, n, rank, b_row, b_col].map(|size| size as u32);
        let d = dense::Params { m, n, k, a_row: k, a_col: 1, b_row, b_col, ..Default::default() };
        dense::product(dense::Params { accumulate: 1, alpha: 1.0, ..d })
    };
    let ways = [
        ("x W^T, + u B^T", x, b, rows, (matmul::forward(p), dense(rows, (1, rank)), fused::forward(p))),
        ("dy W, + du A", dy, a, inner, (matmul::transposed(p), dense(inner, (inner, 1)), fused::transposed(p))),
    ];
    let mut cases = vec![];
    for (name, input, factor, width, (product, update, both)) in ways {
        let flops = 2.0 * (tokens * (inner * rows + rank * width)) as f64;
        let (mut two, mut one) = ([vec![0; tokens * width]], [vec![0; tokens * width]]);
        cases.push(Case::new(format!("{name}, two passes"), flops, "GFLOP/s", move || {
            run(&product, &[Input::Words(input), blocks()], &mut two);
            run(&update, &[Input::Words(u), Input::Words(factor)], &mut two);
        }));
        cases.push(Case::new(format!("{name}, one pass"), flops, "GFLOP/s", move || {
            run(&both, &[Input::Words(input), blocks(), Input::Words(u), Input::Words(factor)], &mut one);
        }));
    }
    measure(&format!("products with updates of rank {rank}, {tokens} tokens, {inner} x {rows}"), cases);
}
