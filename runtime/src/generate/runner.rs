//! Runs any number of sequences on an engine. Their keys and values share one cache, and a run may hold tokens of
//! several of them at different places.

use std::collections::HashMap;
use std::ops::Range;

use loam_shaders::Step;
use loam_shaders::attention::BLOCK;
use loam_shaders::step::NONE;

use super::blocks::{FreeBlocks, Sequence};
use crate::backend::ProgramId;
use crate::engine::{AdapterHandle, Engine, InputBuffers, Resources, list};
use crate::error::{Error, Result};
use crate::host;
use crate::model::{Keys, ModelConfig, Paged, Pass, forward, logits};
use crate::plan::{Checkpointing, Content, Plan, Pool, StorageId, Tensor};

/// Tokens per run, smallest first: a run is padded up to the next of these.
const CHUNKS: [usize; 4] = [1, 8, 32, 128];
/// Most tokens of a run.
const LARGEST: usize = CHUNKS[CHUNKS.len() - 1];

/// Most rows of logits of a run.
pub(super) const LOGIT_ROWS: usize = 32;

/// How much a runner has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens of all sequences together. Each has whole blocks of [`BLOCK`] tokens.
    pub tokens: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
}

/// Tokens that a sequence is continued with.
#[derive(Debug)]
pub struct Feed<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// Its next tokens, at least one.
    pub tokens: &'a [u32],
}

/// A cache on an engine, and the programs that run sequences in it.
#[derive(Debug)]
pub struct Runner {
    resources: Resources,
    /// (keys, values) of each layer, each [blocks * BLOCK, kv_width].
    layers: Vec<(Tensor, Tensor)>,
    lists: Lists,
    logits: StorageId,
    /// By the number of their adapters.
    programs: HashMap<(Option<u64>, Shape), ProgramId>,
    /// The plan of one token, until it is compiled.
    decode: Option<Plan>,
    free: FreeBlocks,
    blocks: usize,
    context: usize,
}

/// The buffers that say what a run does.
#[derive(Debug, Clone, Copy)]
struct Lists {
    inputs: InputBuffers,
    places: StorageId,
    spans: StorageId,
    tables: StorageId,
}

/// What a program is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Tokens of a run.
    pub tokens: usize,
    /// Rows of logits.
    pub logit_rows: usize,
    /// All tokens are of different sequences.
    pub apart: bool,
}

/// Tokens `tokens` of a feed, in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    feed: usize,
    tokens: Range<usize>,
    /// They are the feed's last ones.
    ends: bool,
}

/// Which rows of a piece have logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The last one of a feed.
    Last,
    /// All.
    All,
}

impl Runner {
    /// Makes room on `engine`.
    ///
    /// # Errors
    /// A device without enough memory.
    pub async fn new(engine: &mut Engine, room: Room) -> Result<Self> {
        let blocks = room.tokens.div_ceil(BLOCK).max(1);
        host::check("the cache", cache_bytes(&engine.config, blocks))?;
        let mut resources = engine.resources();
        let layers = cache(engine, &mut resources, blocks)?;
        let lists = Lists::new(engine, &mut resources, blocks, room.context)?;
        let words = (LOGIT_ROWS * engine.config.vocabulary) as u64;
        let logits = engine.add(&mut resources, "logits", Pool::Inputs, words, Content::Zeros)?;
        let free = FreeBlocks::new(blocks as u32);
        let (programs, context) = (HashMap::new(), room.context);
        let mut runner = Self { resources, layers, lists, logits, programs, decode: None, free, blocks, context };
        let decode = runner.plan(engine, &AdapterHandle::none(), Shape { tokens: 1, logit_rows: 1, apart: true });
        engine.allocate(&[&decode]).await?;
        runner.decode = Some(decode);
        Ok(runner)
    }

    /// A sequence without tokens, for the model with `adapters`. It needs no memory before it is fed.
    pub fn sequence(&self, adapters: &AdapterHandle) -> Sequence {
        Sequence::new(self.free.clone(), adapters.clone())
    }

    /// Most tokens of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Blocks of [`BLOCK`] tokens that no sequence has.
    pub fn free_blocks(&self) -> usize {
        self.free.count()
    }

    /// All blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Continues all sequences with their tokens and returns the logits `[V]` after the last token of each. Sequences
    /// with the same adapters share runs.
    ///
    /// # Errors
    /// Before anything runs: no tokens, a token outside the vocabulary, a sequence of another runner or longer than the
    /// context, adapters of another engine, [`Error::CacheFull`]. Later: a device failure, or logits that are not
    /// finite.
    pub async fn step(&mut self, engine: &mut Engine, feeds: &mut [Feed<'_>]) -> Result<Vec<Vec<f32>>> {
        self.admit(engine, feeds)?;
        let mut all = vec![Vec::new(); feeds.len()];
        for pieces in runs(feeds) {
            let rows = self.run(engine, feeds, &pieces, Wanted::Last).await?;
            if rows == 0 {
                continue;
            }
            let values = self.read_logits(engine, rows).await?;
            let ended = pieces.iter().filter(|piece| piece.ends);
            for (piece, logits) in ended.zip(values.chunks_exact(engine.config.vocabulary)) {
                all[piece.feed] = logits.to_vec();
            }
        }
        Ok(all)
    }

    /// Continues one sequence and returns the logits after each of its new tokens, [T, V] row-major.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub async fn step_all(&mut self, engine: &mut Engine, feed: Feed<'_>) -> Result<Vec<f32>> {
        let count = feed.tokens.len();
        let feeds = &mut [feed];
        self.admit(engine, feeds)?;
        let mut all = Vec::with_capacity(count * engine.config.vocabulary);
        for first in (0..count).step_by(LOGIT_ROWS) {
            let tokens = first..count.min(first + LOGIT_ROWS);
            let pieces = [Piece { feed: 0, ends: tokens.end == count, tokens }];
            let rows = self.run(engine, feeds, &pieces, Wanted::All).await?;
            all.extend(self.read_logits(engine, rows).await?);
        }
        Ok(all)
    }

    /// Checks everything about `feeds` that could be wrong, and takes the blocks that they need: all or none.
    fn admit(&self, engine: &Engine, feeds: &mut [Feed<'_>]) -> Result<()> {
        engine.owns(&self.resources)?;
        let mut needed = 0;
        for Feed { sequence, tokens } in &*feeds {
            if !sequence.free.is(&self.free) {
                return Err(Error::Argument("a sequence belongs to another runner".into()));
            }
            sequence.adapters.check(engine)?;
            self.check(engine, sequence, tokens)?;
            needed += sequence.needed(tokens.len());
        }
        if needed > self.free.count() {
            return Err(Error::CacheFull { needed, free: self.free.count() });
        }
        feeds.iter_mut().try_for_each(|feed| feed.sequence.reserve(feed.tokens.len()))
    }

    fn check(&self, engine: &Engine, sequence: &Sequence, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Argument("there are no tokens to run: the prompt is empty".into()));
        }
        engine.config.check_tokens(tokens)?;
        let (value, limit) = ((sequence.len() + tokens.len()) as u64, self.context as u64);
        if value > limit {
            return Err(Error::Limit { what: "tokens in the context".into(), value, limit });
        }
        Ok(())
    }

    /// Runs pieces of feeds with the same adapters. Returns how many rows of logits are in the logits buffer.
    async fn run(
        &mut self,
        engine: &mut Engine,
        feeds: &mut [Feed<'_>],
        pieces: &[Piece],
        wanted: Wanted,
    ) -> Result<usize> {
        let run = Run::new(feeds, pieces, wanted);
        let logit_rows = if run.rows.len() <= 1 { 1 } else { LOGIT_ROWS };
        let tokens = CHUNKS.into_iter().find(|&size| size >= run.tokens.len()).unwrap_or(LARGEST);
        let apart = pieces.iter().all(|piece| piece.tokens.len() == 1);
        let adapters = feeds[pieces[0].feed].sequence.adapters.clone();
        let program = self.program(engine, &adapters, Shape { tokens, logit_rows, apart }).await?;
        let rows = run.rows.len();
        self.lists.write(engine, run.padded(tokens, logit_rows))?;
        engine.run(program, &Step::default())?;
        for piece in pieces {
            feeds[piece.feed].sequence.grow(piece.tokens.len());
        }
        Ok(rows)
    }

    async fn program(&mut self, engine: &mut Engine, adapters: &AdapterHandle, shape: Shape) -> Result<ProgramId> {
        let key = (adapters.number(), shape);
        if let Some(&program) = self.programs.get(&key) {
            return Ok(program);
        }
        // Those of adapters that are gone ended with them.
        self.programs.retain(|_, program| engine.has(*program));
        let decode = Shape { tokens: 1, logit_rows: 1, apart: true };
        let recorded = if key == (AdapterHandle::none().number(), decode) { self.decode.take() } else { None };
        let plan = recorded.unwrap_or_else(|| self.plan(engine, adapters, shape));
        let program = engine.compile(&mut self.resources, &plan).await?;
        self.programs.insert(key, program);
        Ok(program)
    }

    /// The plan of runs of a shape.
    pub fn plan(&self, engine: &Engine, adapters: &AdapterHandle, shape: Shape) -> Plan {
        let Engine { config, weights, .. } = engine;
        let Shape { tokens, logit_rows, apart } = shape;
        let Lists { inputs, places, spans, tables } = self.lists;
        let keys = Keys::Paged(Paged {
            layers: &self.layers,
            places: list(places, tokens),
            spans: list(spans, 3 * tokens),
            tables: list(tables, self.blocks),
            apart,
        });
        let pass = Pass { config, weights, sites: adapters.sites(), watches: None, inputs: inputs.first(tokens), keys };
        let mut r = engine.recorder(Checkpointing::None);
        let hidden = forward(&mut r, pass);
        let out = Tensor::stored(self.logits, 0, logit_rows, config.vocabulary);
        logits(&mut r, &pass, hidden, list(inputs.rows, logit_rows), out);
        r.finish(match (apart, tokens) {
            (true, 1) => "decode".to_owned(),
            (true, _) => format!("decode {tokens}"),
            (false, _) => format!("prefill {tokens}"),
        })
    }

    async fn read_logits(&self, engine: &mut Engine, rows: usize) -> Result<Vec<f32>> {
        let words = (rows * engine.config.vocabulary) as u64;
        let values: Vec<f32> = bytemuck::cast_vec(engine.backend.read(self.logits, 0, words).await?);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite("a logit".into()));
        }
        Ok(values)
    }
}

/// What a run does, as its lists say it.
#[derive(Debug, Default)]
struct Run {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    places: Vec<u32>,
    spans: Vec<u32>,
    tables: Vec<u32>,
    rows: Vec<u32>,
}

impl Run {
    fn new(feeds: &[Feed<'_>], pieces: &[Piece], wanted: Wanted) -> Self {
        let mut run = Self::default();
        for piece in pieces {
            let Feed { sequence, tokens } = &feeds[piece.feed];
            let table = run.tables.len() as u32;
            run.tables.extend(&sequence.table);
            let first = run.tokens.len() as u32;
            for (position, &token) in (sequence.len()..).zip(&tokens[piece.tokens.clone()]) {
                run.tokens.push(token);
                run.positions.push(position as u32);
                run.places.push(sequence.row(position));
                run.spans.extend([0, position as u32 + 1, table]);
            }
            let end = run.tokens.len() as u32;
            match wanted {
                Wanted::All => run.rows.extend(first..end),
                Wanted::Last if piece.ends => run.rows.push(end - 1),
                Wanted::Last => {}
            }
        }
        run
    }

    /// The same with rows that see nothing, are of no sequence, are kept nowhere and have no logits.
    fn padded(mut self, tokens: usize, logit_rows: usize) -> Self {
        self.spans.extend((self.tokens.len()..tokens).flat_map(|_| [0, 0, NONE]));
        self.tokens.resize(tokens, 0);
        self.positions.resize(tokens, 0);
        self.places.resize(tokens, NONE);
        self.rows.resize(logit_rows, NONE);
        self
    }
}

impl Lists {
    fn new(engine: &mut Engine, resources: &mut Resources, blocks: usize, context: usize) -> Result<Self> {
        let inputs = InputBuffers::new(engine, resources, LARGEST, context)?;
        let mut list = |name, words: usize| engine.add(resources, name, Pool::Inputs, words as u64, Content::Zeros);
        let (places, spans) = (list("places", LARGEST)?, list("spans", 3 * LARGEST)?);
        Ok(Self { inputs, places, spans, tables: list("tables", blocks)? })
    }

    fn write(&self, engine: &mut Engine, run: Run) -> Result<()> {
        let InputBuffers { tokens, positions, rows, .. } = self.inputs;
        let lists = [
            (tokens, run.tokens),
            (positions, run.positions),
            (rows, run.rows),
            (self.places, run.places),
            (self.spans, run.spans),
            (self.tables, run.tables),
        ];
        lists.into_iter().try_for_each(|(id, words)| engine.backend.write(id, 0, &words))
    }
}

/// Cuts feeds into runs. How the tokens of a feed are cut does not depend on what else there is.
fn runs(feeds: &[Feed<'_>]) -> Vec<Vec<Piece>> {
    let mut adapters: Vec<Option<u64>> = feeds.iter().map(|feed| feed.sequence.adapters.number()).collect();
    adapters.sort_unstable();
    adapters.dedup();
    let mut all: Vec<Vec<Piece>> = Vec::new();
    for adapters in adapters {
        let (mut run, mut tokens, mut ends) = (Vec::new(), 0, 0);
        let same = feeds.iter().enumerate().filter(|(_, feed)| feed.sequence.adapters.number() == adapters);
        for piece in same.flat_map(|(index, feed)| pieces(index, feed.tokens.len())) {
            let of_this_feed = run.last().is_some_and(|last: &Piece| last.feed == piece.feed);
            if tokens + piece.tokens.len() > LARGEST || ends + usize::from(piece.ends) > LOGIT_ROWS || of_this_feed {
                all.push(std::mem::take(&mut run));
                (tokens, ends) = (0, 0);
            }
            tokens += piece.tokens.len();
            ends += usize::from(piece.ends);
            run.push(piece);
        }
        all.push(run);
    }
    all
}

/// The pieces of a feed of `count` tokens.
fn pieces(feed: usize, count: usize) -> impl Iterator<Item = Piece> {
    (0..count).step_by(LARGEST).map(move |first| {
        let end = count.min(first + LARGEST);
        Piece { feed, tokens: first..end, ends: end == count }
    })
}

/// Keys and values of all layers, in f32.
fn cache_bytes(config: &ModelConfig, blocks: usize) -> u64 {
    (blocks as u64).saturating_mul((BLOCK * config.layers * config.kv_width() * 8) as u64)
}

fn cache(engine: &mut Engine, resources: &mut Resources, blocks: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let (width, rows) = (engine.config.kv_width(), blocks * BLOCK);
    let mut layers = Vec::new();
    for l in 0..engine.config.layers {
        let mut buffer = |name: &str| -> Result<Tensor> {
            let name = format!("cache.{l}.{name}");
            let id = engine.add(resources, &name, Pool::Cache, (rows * width) as u64, Content::Zeros)?;
            Ok(Tensor::stored(id, 0, rows, width))
        };
        layers.push((buffer("k")?, buffer("v")?));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (feed, tokens) of each piece of each run.
    fn cut(lengths: &[usize]) -> Vec<Vec<(usize, Range<usize>)>> {
        let free = FreeBlocks::new(0);
        let mut sequences: Vec<Sequence> =
            lengths.iter().map(|_| Sequence::new(free.clone(), AdapterHandle::none())).collect();
        let tokens: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![0; length]).collect();
        let feeds = sequences.iter_mut().zip(&tokens).map(|(sequence, tokens)| Feed { sequence, tokens });
        let runs = runs(&feeds.collect::<Vec<_>>());
        runs.into_iter().map(|run| run.into_iter().map(|piece| (piece.feed, piece.tokens)).collect()).collect()
    }

    #[test]
    fn feeds_are_cut_as_if_they_were_alone() {
        assert_eq!(cut(&[1, 1, 5]), [[(0, 0..1), (1, 0..1), (2, 0..5)]]);
        let long = cut(&[1, 200, 1]);
        assert_eq!(long, [vec![(0, 0..1)], vec![(1, 0..128)], vec![(1, 128..200), (2, 0..1)]]);
        let many = cut(&[1; 40]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [LOGIT_ROWS, 8], "as many as have logits");
    }
}
