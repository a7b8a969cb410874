//! The files of LoRA (Hu et al. 2021): the update of a weight W [out, in] is alpha / rank * B A, with A [rank, in] and
//! B [out, rank] row-major, as PyTorch has them.
//!
//! As llama.cpp loads them (`src/llama-adapter.cpp`): `adapter.lora.alpha`, and for each weight the tensors
//! `<name of W>.lora_a` {in, rank} and `<name of W>.lora_b` {rank, out} in GGUF's order. Experts have {in, rank,
//! experts} and {rank, out, experts}; of the token embedding [V, D] `lora_a` is {rank, V} and `lora_b` {rank, D}.

use super::{Method, Problem, Setting};
use crate::adapter::weights::kind_of;
use crate::adapter::{AdapterFile, Parameter, part};
use crate::gguf::{TOKEN_EMBD, TensorInfo};

/// Name of A.
pub const A: &str = "lora_a";
/// Name of B.
pub const B: &str = "lora_b";
/// Key of alpha.
pub const ALPHA: &str = "adapter.lora.alpha";
/// Largest rank: more than any weight has rows.
const MAX_RANK: u64 = 1 << 16;

/// The method.
pub static METHOD: Method = Method {
    name: "lora",
    llama_cpp: true,
    parts: &[A, B],
    settings: &[ALPHA],
    takes: |name| kind_of(name).is_some(),
    check,
    fits,
};

/// Whether rows of the weight `name` are looked up. Its map is from tokens to rows: `in` is the vocabulary, and A is
/// stored as its transpose, so that what a token adds is one row.
pub fn is_lookup(name: &str) -> bool {
    name == TOKEN_EMBD
}

/// A low-rank update of a weight W [out, in], or of each of several of them that lie one below the other (experts).
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// A, [rank, in], row-major; one for each matrix. Of the token embedding its transpose [tokens, rank].
    pub a: Vec<f32>,
    /// B, [out, rank], row-major; one for each matrix.
    pub b: Vec<f32>,
    /// Rank of the update.
    pub rank: usize,
    /// How many matrices the weight is made of: its experts, or 1.
    pub matrices: usize,
}

impl Pair {
    /// Input features of a matrix; of the embedding its tokens.
    pub fn inner(&self) -> usize {
        self.a.len() / self.rank.saturating_mul(self.matrices).max(1)
    }

    /// Output features of a matrix; of the embedding its width.
    pub fn rows(&self) -> usize {
        self.b.len() / self.rank.saturating_mul(self.matrices).max(1)
    }

    /// The parameters of the weight `site`.
    pub fn parameters(self, site: &str) -> [Parameter; 2] {
        let (inner, rank, rows) = (self.inner() as u64, self.rank as u64, self.rows() as u64);
        let a = if is_lookup(site) { [rank, inner] } else { [inner, rank] };
        let stack = (self.matrices > 1).then_some(self.matrices as u64);
        let parameter = |part, shape: [u64; 2], values| Parameter {
            site: site.to_owned(),
            part,
            shape: shape.into_iter().chain(stack).collect(),
            values,
        };
        [parameter(A, a, self.a), parameter(B, [rank, rows], self.b)]
    }
}

/// A LoRA adapter of these updates, by the names of the base's weights.
pub fn adapter(architecture: &str, alpha: f32, pairs: impl IntoIterator<Item = (String, Pair)>) -> AdapterFile {
    AdapterFile {
        architecture: architecture.to_owned(),
        method: &METHOD,
        settings: vec![Setting { key: ALPHA, value: alpha }],
        parameters: pairs.into_iter().flat_map(|(name, pair)| pair.parameters(&name)).collect(),
        metadata: Vec::new(),
    }
}

/// The updates of a LoRA adapter that was checked, by the names of the base's weights.
pub fn pairs(adapter: &AdapterFile) -> Vec<(&str, Pair)> {
    let pair = |of: &[&Parameter]| {
        let (a, b) = (part(of, A)?, part(of, B)?);
        let matrices = b.shape.get(2).map_or(1, |&matrices| matrices as usize);
        Some(Pair { a: a.values.clone(), b: b.values.clone(), rank: b.shape[0] as usize, matrices })
    };
    adapter.sites().into_iter().filter_map(|(name, of)| Some((name, pair(&of)?))).collect()
}

/// Its alpha.
pub fn alpha(settings: &[Setting]) -> f32 {
    settings.iter().find(|setting| setting.key == ALPHA).expect("a checked LoRA adapter has an alpha").value
}

/// The rank of all updates, if they have the same.
pub fn rank(adapter: &AdapterFile) -> Option<u64> {
    let mut ranks = adapter.parameters.iter().filter(|p| p.part == B).map(|p| p.shape[0]);
    let first = ranks.next()?;
    ranks.all(|rank| rank == first).then_some(first)
}

/// Both halves are there, with the same rank and for as many matrices.
fn check(of: &[&Parameter]) -> Result<(), Problem> {
    let missing = |part| Problem { part, problem: "is missing, its other half is there".into() };
    let a = part(of, A).ok_or_else(|| missing(A))?;
    let b = part(of, B).ok_or_else(|| missing(B))?;
    for half in [a, b] {
        if !(2..=3).contains(&half.shape.len()) {
            let problem = format!("has {} dimensions, needs 2 or 3", half.shape.len());
            return Err(Problem { part: half.part, problem });
        }
    }
    let (rank, other) = (b.shape[0], if is_lookup(&a.site) { a.shape[0] } else { a.shape[1] });
    if rank != other || rank > MAX_RANK {
        return Err(Problem { part: B, problem: format!("has rank {rank}, its lora_a has rank {other}") });
    }
    let [of_a, of_b] = [a, b].map(|half| half.shape.get(2).copied().unwrap_or(1));
    if of_a != of_b {
        return Err(Problem { part: B, problem: format!("is for {of_b} matrices, its lora_a for {of_a}") });
    }
    Ok(())
}

fn fits(of: &[&Parameter], weight: &TensorInfo) -> Result<(), String> {
    let (Some(a), Some(b)) = (part(of, A), part(of, B)) else { return Err("has only one half".into()) };
    let rows = b.shape[1];
    let fits = if is_lookup(&a.site) { [rows, a.shape[1]] } else { [a.shape[0], rows] };
    let fits = [fits[0], fits[1], b.shape.get(2).copied().unwrap_or(1)];
    let mut has = [1; 3];
    for (has, &n) in has.iter_mut().zip(&weight.shape) {
        *has = n;
    }
    if weight.shape.len() <= 3 && fits == has {
        return Ok(());
    }
    // As PyTorch shows shapes; a single matrix without the number of matrices.
    let shown = |shape: [u64; 3]| match shape {
        [cols, rows, 1] => format!("{:?} (out, in)", [rows, cols]),
        [cols, rows, matrices] => format!("{:?} (experts, out, in)", [matrices, rows, cols]),
    };
    Err(format!("fits a weight of {}, the base's is {}", shown(fits), shown(has)))
}
