//! Files that mix types: every format side by side, and the blocks of 32 weights that rows get which are no multiple of
//! 256. Logits, losses and gradients agree with the same model in F32, its weights decoded.

use std::path::Path;

use loam::backend::Backend;
use loam::gguf::{GgmlType, Metadata};
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_shaders::Format;
use loam_tests::rewrite::{Tensor, rewrite};
use loam_tests::{
    back_ends, convert_asset, full_batch, new_session, new_trainer, parameter_errors, relative, some_rows,
};

/// Layers that are kept.
const LAYERS: u32 = 3;
const CONTEXT: usize = 16;

/// A model in several types, and the same decoded to F32.
struct Pair {
    name: &'static str,
    mixed: Base,
    plain: Base,
    _folder: tempfile::TempDir,
}

/// The type of weight `index`, which has rows of `cols`: all types in turn, those of 32 weights where others do not
/// fit.
fn format(index: usize, cols: u64) -> Format {
    let fitting: Vec<Format> =
        Format::ALL.into_iter().filter(|format| cols.is_multiple_of(format.block_len() as u64)).collect();
    fitting[index % fitting.len()]
}

fn kept(name: &str) -> bool {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    layer.is_none_or(|layer| layer.parse::<u32>().expect("a layer") < LAYERS)
}

/// Encodes the matrices of an F32 model, each row by row.
fn mix(metadata: &mut Metadata, tensors: &mut Vec<Tensor>) {
    metadata.set("llama.block_count", LAYERS);
    tensors.retain(|tensor| kept(&tensor.declaration.name));
    let matrices = tensors.iter_mut().filter(|tensor| tensor.declaration.shape.len() > 1);
    for (index, tensor) in matrices.enumerate() {
        let cols = tensor.declaration.shape[0];
        let format = format(index, cols);
        let values: Vec<f32> = tensor.bytes.as_chunks::<4>().0.iter().map(|le| f32::from_le_bytes(*le)).collect();
        let mut blocks = vec![0; format.row_bytes(values.len()).expect("whole rows")];
        format.encode_row(&values, &mut blocks);
        (tensor.bytes, tensor.declaration.ty) = (blocks, GgmlType::from(format));
    }
}

fn decode(tensors: &mut [Tensor]) {
    for tensor in tensors {
        let format = tensor.declaration.ty.format().expect("a type to compute with");
        let mut values = vec![0.0; tensor.declaration.shape.iter().product::<u64>() as usize];
        format.decode_row(&tensor.bytes, &mut values);
        tensor.bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensor.declaration.ty = GgmlType::F32;
    }
}

fn pair(model: &'static str) -> Pair {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mixed = rewrite(&convert_asset(model, "f32"), folder.path(), "mixed.gguf", mix);
    let plain = rewrite(&mixed, folder.path(), "plain.gguf", |_, tensors| decode(tensors));
    let open = |path: &Path| Base::open(path).expect("a base");
    Pair { name: model, mixed: open(&mixed), plain: open(&plain), _folder: folder }
}

/// How many types the matrices of a base have.
fn types(base: &Base) -> usize {
    let matrices = base.gguf().tensors().iter().filter(|tensor| tensor.shape.len() > 1);
    matrices.map(|tensor| tensor.ty).collect::<std::collections::BTreeSet<_>>().len()
}

fn logits(base: &Base, backend: Box<dyn Backend>, tokens: usize) -> Vec<f32> {
    let (mut engine, mut session) = new_session(base, backend, CONTEXT, &[]).expect("session");
    pollster::block_on(session.feed_all(&mut engine, &some_rows(1, tokens, 4096)[0])).expect("logits")
}

/// The losses of two steps, and the gradient of the third: A has one only after the first.
fn train(base: &Base, backend: Box<dyn Backend>) -> (Vec<f64>, AdapterFile) {
    let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: CONTEXT, clip: 0.0, ..TrainOptions::default() };
    let (mut engine, mut trainer) = new_trainer(base, backend, None, options).expect("trainer");
    let batch = [full_batch(&some_rows(1, CONTEXT, 4096))];
    let mut losses = Vec::new();
    for _ in 0..2 {
        losses.push(pollster::block_on(trainer.accumulate(&mut engine, &batch)).expect("step").loss);
        pollster::block_on(trainer.update(&mut engine, 1e-3)).expect("update");
    }
    pollster::block_on(trainer.accumulate(&mut engine, &batch)).expect("step");
    (losses, pollster::block_on(trainer.gradients(&mut engine)).expect("gradients"))
}

fn agrees(pair: &Pair) {
    let cpu = || back_ends().remove(0).1;
    // One token at a time and several at once are different kernels.
    let expected = [1, 9].map(|tokens| logits(&pair.plain, cpu(), tokens));
    let (expected_losses, expected_gradients) = train(&pair.plain, cpu());
    assert!(expected_losses[1] < expected_losses[0], "{}: {expected_losses:?}", pair.name);
    for (device, _) in back_ends() {
        let what = format!("{} on {device}", pair.name);
        let backend = || back_ends().into_iter().find(|(name, _)| *name == device).expect("still there").1;
        for (tokens, expected) in [1, 9].into_iter().zip(&expected) {
            let error = relative(&logits(&pair.mixed, backend(), tokens), expected);
            assert!(error <= 1e-5, "{what}: logits of {tokens} tokens differ by {error:.2e}");
        }
        let (losses, gradients) = train(&pair.mixed, backend());
        for (loss, expected) in losses.iter().zip(&expected_losses) {
            assert!((loss - expected).abs() <= 1e-5 * expected, "{what}: losses {losses:?}, not {expected_losses:?}");
        }
        for (name, error) in parameter_errors(&gradients, &expected_gradients) {
            assert!(error <= 1e-4, "{what}: gradient of {name} differs by {error:.2e}");
        }
    }
}

#[test]
fn every_format_in_one_file() {
    let pair = pair("loam-tiny");
    assert_eq!(types(&pair.mixed), Format::ALL.len());
    agrees(&pair);
}

#[test]
fn rows_that_are_no_whole_super_blocks() {
    let pair = pair("loam-micro");
    assert_eq!(types(&pair.mixed), Format::ALL.iter().filter(|format| format.block_len() < 256).count());
    agrees(&pair);
}
