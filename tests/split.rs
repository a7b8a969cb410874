//! Weights over a device's binding limit are split by rows: the same logits and gradients as in one piece.

use loam::backend::{Backend, DeviceInfo, Memory, ProgramId, Reading};
use loam::plan::{Entry, Plan, StorageId};
use loam::{AdapterFile, Base, LoraOptions, Result, Session, TrainOptions, Trainer};
use loam_shaders::Step;
use loam_tests::{back_ends, convert_asset, full_batch, relative, some_rows};

/// A back end that claims a smaller limit than it has.
struct Limited {
    inner: Box<dyn Backend>,
    info: DeviceInfo,
}

impl Limited {
    fn boxed(inner: Box<dyn Backend>, bytes: u64) -> Box<dyn Backend> {
        let mut info = inner.info().clone();
        info.limits.max_binding_bytes = bytes;
        Box::new(Self { inner, info })
    }
}

impl Backend for Limited {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn provide(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        self.inner.provide(id, entry)
    }
    fn release(&mut self, id: StorageId) {
        self.inner.release(id);
    }
    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.inner.write(id, offset, words)
    }
    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Reading<'_> {
        self.inner.read(id, offset, words)
    }
    fn compile(&mut self, plan: &Plan) -> Result<ProgramId> {
        let bound = plan.nodes.iter().flat_map(|node| &node.operands);
        let longest = bound.map(|view| view.words * 4).max().unwrap_or(0);
        assert!(longest <= self.info.limits.max_binding_bytes, "{} binds {longest} bytes", plan.name);
        self.inner.compile(plan)
    }
    fn discard(&mut self, program: ProgramId) {
        self.inner.discard(program);
    }
    fn run(&mut self, program: ProgramId, step: &Step) -> Result<()> {
        self.inner.run(program, step)
    }
    fn memory(&self) -> &Memory {
        self.inner.memory()
    }
}

/// The embedding (4 MiB in f32) becomes seven parts, the feed-forward weights (768 KiB) and the adapter two.
const LIMIT: u64 = 600 * 1024;

fn gradients(base: &Base, backend: Box<dyn Backend>) -> AdapterFile {
    let lora = LoraOptions { rank: 4, ..LoraOptions::default() };
    let options = TrainOptions { lora, batch: 1, context: 16, clip: 0.0, ..TrainOptions::default() };
    let mut trainer = Trainer::new(base, backend, None, options).expect("trainer");
    let batch = [full_batch(&some_rows(1, 16, 4096))];
    // Two steps, so that A has a gradient too.
    pollster::block_on(trainer.step(&batch, 1e-2)).expect("step");
    pollster::block_on(trainer.accumulate(&batch)).expect("step");
    pollster::block_on(trainer.gradients()).expect("gradients")
}

fn logits(base: &Base, backend: Box<dyn Backend>) -> Vec<f32> {
    let mut session = Session::new(base, backend, 16, &[]).expect("session");
    pollster::block_on(session.feed_all(&some_rows(1, 9, 4096)[0])).expect("logits")
}

#[test]
fn a_split_base_gives_the_same_logits_and_gradients() {
    for format in ["f32", "q8_0"] {
        let base = Base::open(convert_asset("loam-tiny", format)).expect("base");
        let whole: Vec<_> = back_ends().into_iter().map(|(_, backend)| logits(&base, backend)).collect();
        for ((device, backend), whole) in back_ends().into_iter().zip(&whole) {
            let error = relative(&logits(&base, Limited::boxed(backend, LIMIT)), whole);
            assert!(error <= 1e-6, "{format} on {device}: logits differ by {error:.2e}");
        }
        let whole: Vec<_> = back_ends().into_iter().map(|(_, backend)| gradients(&base, backend)).collect();
        for ((device, backend), whole) in back_ends().into_iter().zip(&whole) {
            let split = gradients(&base, Limited::boxed(backend, LIMIT));
            for ((name, split), (_, whole)) in split.tensors.iter().zip(&whole.tensors) {
                let error = relative(&split.a, &whole.a).max(relative(&split.b, &whole.b));
                assert!(error <= 1e-4, "{format} {name} on {device}: gradients differ by {error:.2e}");
            }
        }
    }
}

#[test]
fn a_limit_that_holds_no_rows_is_refused() {
    let base = Base::open(convert_asset("loam-tiny", "f32")).expect("base");
    let backend = Limited::boxed(back_ends().remove(0).1, 1024);
    let error = Session::new(&base, backend, 16, &[]).err().expect("1 KiB holds no tile of weights");
    assert!(error.to_string().contains("token_embd.weight"), "{error}");
}
