//! One node of a plan, run by itself: what it writes, and how long it takes.

use embassy_time::Instant;
use loam_shaders::{Access, Call, Kernel, Step};

use crate::backend::{Backend, ProgramId, run};
use crate::error::Result;
use crate::plan::{Content, Entry, Location, Node, Plan, Pool, StorageId, View, When};
use crate::random;

/// A measurement takes at least this long, so that the clock and the submission do not count.
const LONG_ENOUGH: f64 = 2e-3;
/// Measurements, of which the shortest counts.
const ROUNDS: usize = 3;
/// Dispatches of the measured program: so many go out in one submission of its first run.
const COPIES: usize = 16;
/// Most runs of a measurement.
const MOST: u32 = 16;
/// Random inputs repeat after so many values, a prime: no two rows of a product are the same.
const PERIOD: u64 = 8209;

/// A kernel that may run, and its grid.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// A node whose temporaries have buffers of their own: random inputs, and an output. They are freed at the end.
pub struct Bench<'b> {
    backend: &'b mut dyn Backend,
    node: Node,
    output: View,
    own: Vec<StorageId>,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.own.iter().for_each(|&id| self.backend.release(id));
    }
}

impl<'b> Bench<'b> {
    /// `node`, if it reads temporaries and stored buffers and writes one temporary: stored buffers that are written are
    /// somebody's. Together the buffers are no longer than those of the plan that the node is of.
    ///
    /// # Errors
    /// If the device failed, or has no memory.
    pub async fn new(backend: &'b mut dyn Backend, node: &Node) -> Result<Option<Self>> {
        let bindings = node.call.kernel.source.bindings;
        let mut written = node.operands.iter().zip(bindings).filter(|(_, b)| b.access == Access::ReadWrite);
        let (Some((output, _)), None) = (written.next(), written.next()) else { return Ok(None) };
        if matches!(output.location, Location::Stored(_)) {
            return Ok(None);
        }
        let mut bench = Self { backend, node: node.clone(), output: *output, own: Vec::new() };
        bench.node.when = When::default();
        for (index, binding) in bindings.iter().enumerate() {
            if matches!(bench.node.operands[index].location, Location::Slot(_)) {
                bench.give_own_buffer(index, binding.access).await?;
            }
        }
        Ok(Some(bench))
    }

    /// Lets operand `index` be a buffer of its own.
    async fn give_own_buffer(&mut self, index: usize, access: Access) -> Result<()> {
        // No other buffer has an id at this end.
        let id = StorageId(u32::MAX - index as u32);
        let words = self.node.operands[index].words;
        let name = format!("measured operand {index}");
        let entry = Entry { name, pool: Pool::Staging, words, content: Content::Zeros };
        let stream = self.own.len() as u64;
        self.own.push(id);
        self.backend.allocate(id, &entry).await?;
        if access == Access::Read {
            self.backend.write(id, 0, &random_words(stream, words))?;
        }
        let view = View { location: Location::Stored(id), offset: 0, words };
        self.node.operands[index] = view;
        if access == Access::ReadWrite {
            self.output = view;
        }
        Ok(())
    }

    /// What `candidate` writes for the same inputs each time, its output being zeros before.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn output(&mut self, candidate: Candidate) -> Result<Vec<u32>> {
        let Location::Stored(id) = self.output.location else { unreachable!("the output has a buffer of its own") };
        self.backend.write(id, 0, &vec![0; self.output.words as usize])?;
        let program = self.backend.compile(&self.plan(candidate, 1)).await?;
        let ran = run(self.backend, program, &Step::default());
        self.backend.discard(program);
        ran?;
        self.backend.read(id, 0, self.output.words).await
    }

    /// Seconds per dispatch of `candidate`: the best of some rounds.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn seconds(&mut self, candidate: Candidate) -> Result<f64> {
        let program = self.backend.compile(&self.plan(candidate, COPIES)).await?;
        let measured = self.best_of_rounds(program).await;
        self.backend.discard(program);
        measured
    }

    async fn best_of_rounds(&mut self, program: ProgramId) -> Result<f64> {
        let mut times = 1;
        let mut seconds = self.run(program, times).await?;
        while seconds < LONG_ENOUGH && times < MOST {
            times *= 2;
            seconds = self.run(program, times).await?;
        }
        for _ in 1..ROUNDS {
            seconds = seconds.min(self.run(program, times).await?);
        }
        Ok(seconds / f64::from(times) / COPIES as f64)
    }

    /// Seconds of `times` runs.
    async fn run(&mut self, program: ProgramId, times: u32) -> Result<f64> {
        let began = Instant::now();
        for _ in 0..times {
            run(self.backend, program, &Step::default())?;
        }
        self.backend.settle().await?;
        Ok(began.elapsed().as_micros() as f64 / 1e6)
    }

    /// `copies` times the node with another kernel.
    fn plan(&self, candidate: Candidate, copies: usize) -> Plan {
        let call = Call { kernel: candidate.kernel, grid: candidate.grid, params: self.node.call.params.clone() };
        let node = Node { call, ..self.node.clone() };
        Plan { name: format!("measure {}", candidate.kernel.name()), nodes: vec![node; copies], slots: Vec::new() }
    }
}

/// Values from -1 to 1 as words, others for each `stream`.
fn random_words(stream: u64, words: u64) -> Vec<u32> {
    let value = |at: u64| ((random::uniform(stream, 0, at) * 2.0 - 1.0) as f32).to_bits();
    let period: Vec<u32> = (0..PERIOD.min(words)).map(value).collect();
    period.iter().copied().cycle().take(words as usize).collect()
}
