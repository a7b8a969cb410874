//! A compiled plan of the CPU back end: host functions with their checked operands.

use std::collections::HashMap;
use std::mem::take;
use std::ops::Range;

use embassy_time::{Duration, Instant};
use loam_shaders::{Access, Bind, HostFn, Step};

use super::failure;
use crate::error::Result;
use crate::plan::{Location, Node, Plan, Pool, StorageId, View, When};
use loam_files::SharedBytes;

/// Most storage bindings that a kernel has (the WebGPU default limit).
const MAX_BINDINGS: usize = 8;

/// A stored buffer.
#[derive(Debug)]
pub(super) enum Stored {
    /// Words that kernels read and write.
    Words { name: String, pool: Pool, words: Vec<u32> },
    /// A weight in the file's own bytes. `packed_words` is the length that plans know it by.
    Blocks { name: String, pool: Pool, blocks: SharedBytes, packed_words: u64 },
}

impl Stored {
    pub(super) fn pool(&self) -> Pool {
        match self {
            Stored::Words { pool, .. } | Stored::Blocks { pool, .. } => *pool,
        }
    }

    /// Size in memory; mapped weights count as if they were all resident.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Stored::Words { words, .. } => words.len() as u64 * 4,
            Stored::Blocks { blocks, .. } => blocks.bytes().len() as u64,
        }
    }
}

/// The stored buffers, and where among them each is.
pub(super) type StoredBuffers<'a> = (&'a [Option<Stored>], &'a HashMap<StorageId, usize>);

/// One binding of a node: which words of which buffer, and whether they are written.
#[derive(Debug, Clone)]
struct Operand {
    /// The place of the slot's or stored buffer's memory in the back end's list.
    location: Location,
    range: Range<usize>,
    written: bool,
    /// Bound as GGUF blocks, the whole weight.
    blocks: bool,
}

/// A node, ready to run.
#[derive(Debug)]
struct Work {
    run: HostFn,
    params: Vec<u8>,
    operands: Vec<Operand>,
    when: When,
    /// Kernel and label, for errors.
    name: String,
}

/// A compiled plan.
#[derive(Debug)]
pub(super) struct Program {
    works: Vec<Work>,
    /// Where the slots' buffers are in the back end's list.
    pub(super) places: Vec<usize>,
    /// How long each node took when it last ran.
    took: Vec<Duration>,
}

impl Program {
    /// Checks every node of `plan` against the stored buffers. `places` says where the back end keeps its slots.
    pub(super) fn new(plan: &Plan, stored: StoredBuffers<'_>, places: Vec<usize>) -> Result<Self> {
        let works: Vec<Work> =
            plan.nodes.iter().map(|node| work(node, plan, stored, &places)).collect::<Result<_>>()?;
        Ok(Self { took: vec![Duration::MIN; works.len()], works, places })
    }

    /// Runs nodes in order from `first` on, and stops before one that would outlast `end` by the time it took when it
    /// last ran; one at least is run. Returns the next node, if there is one. Stored buffers may have been released
    /// since [`Program::new`], so they are checked first.
    pub(super) fn run(
        &mut self,
        (stored, slots): (&mut [Option<Stored>], &mut [Vec<u32>]),
        step: &Step,
        first: usize,
        end: Instant,
    ) -> Result<Option<usize>> {
        let works = self.works.get(first..).unwrap_or_default();
        for work in works {
            work.check(stored)?;
        }
        let mut now = Instant::now();
        let active = works.iter().zip(first..).filter(|(work, _)| work.when.holds(step));
        for (number, (work, index)) in active.enumerate() {
            if number > 0 && now + self.took[index] > end {
                return Ok(Some(index));
            }
            work.execute(stored, slots, step);
            let began = std::mem::replace(&mut now, Instant::now());
            self.took[index] = now.saturating_duration_since(began);
        }
        Ok(None)
    }
}

impl Work {
    /// Whether every stored operand is there and long enough.
    fn check(&self, stored: &[Option<Stored>]) -> Result<()> {
        for operand in &self.operands {
            let Location::Stored(id) = operand.location else { continue };
            let fits = match stored.get(id.0 as usize).and_then(Option::as_ref) {
                Some(Stored::Words { words, .. }) => !operand.blocks && operand.range.end <= words.len(),
                Some(Stored::Blocks { .. }) => operand.blocks,
                None => false,
            };
            if !fits {
                return Err(failure(format!("{}: stored buffer {} was released or replaced", self.name, id.0)));
            }
        }
        Ok(())
    }

    fn execute(&self, stored: &mut [Option<Stored>], slots: &mut [Vec<u32>], step: &Step) {
        let mut written: [Vec<u32>; MAX_BINDINGS] = Default::default();
        for (operand, buffer) in self.operands.iter().zip(&mut written) {
            if operand.written {
                *buffer = take(buffer_mut(stored, slots, operand.location));
            }
        }
        let mut bound: [Bind<'_>; MAX_BINDINGS] = std::array::from_fn(|_| Bind::Read(&[]));
        for ((operand, bind), buffer) in self.operands.iter().zip(&mut bound).zip(&mut written) {
            *bind = match operand.written {
                true => Bind::Write(&mut buffer[operand.range.clone()]),
                false => bind_read(stored, slots, operand),
            };
        }
        (self.run)(step, &self.params, &mut bound[..self.operands.len()]);
        for (operand, buffer) in self.operands.iter().zip(written) {
            if operand.written {
                *buffer_mut(stored, slots, operand.location) = buffer;
            }
        }
    }
}

/// The buffer of a location that [`Work::check`] has accepted as words.
fn buffer_mut<'a>(stored: &'a mut [Option<Stored>], slots: &'a mut [Vec<u32>], location: Location) -> &'a mut Vec<u32> {
    match location {
        Location::Slot(index) => &mut slots[index as usize],
        Location::Stored(id) => match &mut stored[id.0 as usize] {
            Some(Stored::Words { words, .. }) => words,
            _ => unreachable!("checked before the run: a written buffer holds words"),
        },
    }
}

fn bind_read<'a>(stored: &'a [Option<Stored>], slots: &'a [Vec<u32>], operand: &Operand) -> Bind<'a> {
    match operand.location {
        Location::Slot(index) => Bind::Read(&slots[index as usize][operand.range.clone()]),
        Location::Stored(id) => match &stored[id.0 as usize] {
            Some(Stored::Words { words, .. }) => Bind::Read(&words[operand.range.clone()]),
            Some(Stored::Blocks { blocks, .. }) => Bind::Blocks(blocks.bytes()),
            None => unreachable!("checked before the run: the buffer is there"),
        },
    }
}

fn work(node: &Node, plan: &Plan, stored: StoredBuffers<'_>, places: &[usize]) -> Result<Work> {
    let kernel = node.call.kernel;
    let name = format!("{} {}", kernel.name(), node.label);
    let bindings = kernel.source.bindings;
    if node.operands.len() != bindings.len() || bindings.len() > MAX_BINDINGS {
        let problem = format!("{name}: {} operands for {} bindings", node.operands.len(), bindings.len());
        return Err(failure(problem));
    }
    let operands = node
        .operands
        .iter()
        .zip(bindings)
        .map(|(view, binding)| operand(view, binding.access == Access::ReadWrite, (plan, places), stored))
        .collect::<std::result::Result<Vec<_>, String>>()
        .map_err(|problem| failure(format!("{name}: {problem}")))?;
    for (index, operand) in operands.iter().enumerate().filter(|(_, operand)| operand.written) {
        let again = operands.iter().enumerate().find(|(other, o)| *other != index && o.location == operand.location);
        if let Some((other, _)) = again {
            let (first, second) = (bindings[index].name, bindings[other].name);
            return Err(failure(format!("{name}: {first} is written and bound again as {second}")));
        }
    }
    let run = kernel.cpu.unwrap_or(kernel.reference);
    Ok(Work { run, params: node.call.params.clone(), operands, when: node.when, name })
}

/// Checks one view against its buffer.
fn operand(
    view: &View,
    written: bool,
    (plan, places): (&Plan, &[usize]),
    (stored, stored_at): StoredBuffers<'_>,
) -> std::result::Result<Operand, String> {
    let (location, total, blocks) = match view.location {
        Location::Slot(index) => {
            let words = plan.slots.get(index as usize).ok_or_else(|| format!("there is no slot {index}"))?;
            (Location::Slot(places[index as usize] as u32), *words, false)
        }
        Location::Stored(id) => {
            let missing = || format!("stored buffer {} is not allocated", id.0);
            let place = *stored_at.get(&id).ok_or_else(missing)?;
            let location = Location::Stored(StorageId(place as u32));
            match stored[place].as_ref().ok_or_else(missing)? {
                Stored::Words { words, .. } => (location, words.len() as u64, false),
                Stored::Blocks { name, packed_words, .. } => {
                    if written || view.offset != 0 || view.words != *packed_words {
                        return Err(format!("weight {name} can only be read, and only as a whole"));
                    }
                    (location, *packed_words, true)
                }
            }
        }
    };
    let end = view.offset.checked_add(view.words).filter(|&end| end <= total);
    let end = end.ok_or_else(|| format!("{} words at {} of a buffer of {total}", view.words, view.offset))?;
    Ok(Operand { location, range: view.offset as usize..end as usize, written, blocks })
}
