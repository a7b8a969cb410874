//! Updates on experts. GGUF has an A [rank, in] and a B [out, rank] per expert, one below the other, for the gate, up
//! and down projection each. PEFT has, of a model as Transformers 5 has it, one A [experts * rank, in] and one B [out,
//! rank * experts] for a whole parameter (`target_parameters`; `ParamWrapper` in peft/tuners/lora/layer.py), whose
//! columns run over the experts first; gate and up are one parameter. Of a model as Transformers 4 had it, it has a
//! module per expert and projection.

use std::collections::BTreeMap;
use std::path::Path;

use loam_files::adapter::lora::Pair;
use loam_files::gguf::Gguf;

use crate::{Error, Result};

/// Projections of an expert: GGUF name, module of Transformers 4.
const PROJECTIONS: [(&str, &str); 3] =
    [("ffn_gate_exps", "gate_proj"), ("ffn_up_exps", "up_proj"), ("ffn_down_exps", "down_proj")];

/// A module that belongs to experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A parameter of all experts of a layer.
    All {
        /// The layer.
        layer: u32,
    },
    /// A projection of one expert.
    One {
        /// The layer.
        layer: u32,
        /// The expert.
        expert: usize,
        /// GGUF name of the projection.
        gguf: &'static str,
    },
}

/// Where the module called `plain` belongs, if it is one of experts.
pub(super) fn place(plain: &str) -> Option<Place> {
    let (layer, rest) = plain.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = number(layer)?;
    let rest = rest.strip_prefix("mlp.experts")?;
    if rest.is_empty() || rest == ".base_layer" {
        return Some(Place::All { layer });
    }
    let (expert, module) = rest.strip_prefix('.')?.split_once('.')?;
    let (gguf, _) = PROJECTIONS.into_iter().find(|(_, hf)| *hf == module)?;
    Some(Place::One { layer, expert: number(expert)? as usize, gguf })
}

/// A number as it is printed.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n: &u32| n.to_string() == text)
}

/// Sizes of the base's experts.
#[derive(Debug, Clone, Copy)]
pub(in crate::peft) struct Sizes {
    /// Experts of a layer.
    pub count: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of an expert.
    pub intermediate: usize,
}

impl Sizes {
    /// Reads the metadata of a base of `architecture`.
    pub(in crate::peft) fn read(base: &Gguf, architecture: &str) -> Result<Sizes> {
        let count = |suffix: &str| base.u32_in(&format!("{architecture}.{suffix}"), 1..=1 << 24).map(|n| n as usize);
        let (hidden, intermediate) = (count("embedding_length")?, count("expert_feed_forward_length")?);
        Ok(Sizes { count: count("expert_count")?, hidden, intermediate })
    }

    /// Rows and columns of a projection of one expert.
    fn projection(self, gguf: &str) -> [usize; 2] {
        match gguf {
            "ffn_down_exps" => [self.hidden, self.intermediate],
            _ => [self.intermediate, self.hidden],
        }
    }
}

/// A and B of a module, row-major.
pub(super) struct Halves {
    /// A's values and shape.
    pub a: (Vec<f32>, [usize; 2]),
    /// B's values and shape.
    pub b: (Vec<f32>, [usize; 2]),
}

/// Name of a parameter in Transformers, and the updates that its halves are, by GGUF name.
pub(super) type Parameter = (&'static str, Vec<(&'static str, Pair)>);

/// The updates on all experts of a layer that a parameter's `halves` are. Which parameter it is follows from their
/// shapes.
pub(super) fn split(halves: &Halves, sizes: Sizes) -> std::result::Result<Parameter, String> {
    let Halves { a: (a, [a_rows, inner]), b: (b, [rows, columns]) } = halves;
    let Sizes { count, hidden, intermediate } = sizes;
    if a_rows != columns || *a_rows == 0 || !a_rows.is_multiple_of(count) {
        return Err(format!("has lora_A with {a_rows} rows and lora_B with {columns} columns, of {count} experts"));
    }
    let rank = a_rows / count;
    // The part of B's rows that is a projection's, expert by expert.
    let pair = |first: usize, out: usize| {
        let mut own = Vec::with_capacity(count * out * rank);
        for expert in 0..count {
            for row in first..first + out {
                own.extend((0..rank).map(|k| b[row * columns + k * count + expert]));
            }
        }
        Pair { a: a.clone(), b: own, rank, matrices: count }
    };
    if [*rows, *inner] == [2 * intermediate, hidden] {
        let parts = vec![("ffn_gate_exps", pair(0, intermediate)), ("ffn_up_exps", pair(intermediate, intermediate))];
        return Ok(("gate_up_proj", parts));
    }
    if [*rows, *inner] == [hidden, intermediate] {
        return Ok(("down_proj", vec![("ffn_down_exps", pair(0, hidden))]));
    }
    Err(format!("fits a parameter of {count} x [{rows}, {inner}], which experts of {intermediate} do not have"))
}

/// Which update of which expert.
pub(super) struct OneExpert {
    pub layer: u32,
    pub expert: usize,
    /// GGUF name of the stack.
    pub gguf: &'static str,
}

/// Updates of single experts until their layers are complete.
#[derive(Default)]
pub(super) struct Stacks {
    /// By layer and GGUF name: by expert.
    of: BTreeMap<(u32, &'static str), BTreeMap<usize, Pair>>,
}

impl Stacks {
    /// Adds the update of one expert, whose module is called `module`.
    pub(super) fn add(&mut self, dir: &Path, module: &str, place: OneExpert, pair: Pair, sizes: Sizes) -> Result<()> {
        let OneExpert { layer, expert, gguf } = place;
        let (has, fits) = ([pair.rows(), pair.inner()], sizes.projection(gguf));
        if has != fits || expert >= sizes.count {
            let problem =
                format!("fits expert {expert} with {has:?} (out, in), the base has {} with {fits:?}", sizes.count);
            return Err(Error::tensor(dir, module, problem));
        }
        self.of.entry((layer, gguf)).or_default().insert(expert, pair);
        Ok(())
    }

    /// All experts of a layer one below the other, by the names of the base's tensors.
    pub(super) fn finish(self, dir: &Path, sizes: Sizes) -> Result<Vec<(String, Pair)>> {
        let mut out = Vec::new();
        for ((layer, gguf), experts) in self.of {
            let name = format!("blk.{layer}.{gguf}.weight");
            let rank = experts.values().next().map_or(0, |pair| pair.rank);
            if experts.len() != sizes.count || experts.values().any(|pair| pair.rank != rank) {
                let problem = format!(
                    "{} of {} experts have an update; all must, of the same rank",
                    experts.values().filter(|pair| pair.rank == rank).count(),
                    sizes.count
                );
                return Err(Error::tensor(dir, name, problem));
            }
            let a = experts.values().flat_map(|pair| pair.a.iter().copied()).collect();
            let b = experts.values().flat_map(|pair| pair.b.iter().copied()).collect();
            out.push((name, Pair { a, b, rank, matrices: sizes.count }));
        }
        Ok(out)
    }
}

/// The projection's halves as PEFT has those of a parameter.
pub(super) fn join(pair: &Pair) -> Halves {
    let (rows, inner, rank, count) = (pair.rows(), pair.inner(), pair.rank, pair.matrices);
    let mut b = Vec::with_capacity(pair.b.len());
    for row in 0..rows {
        for k in 0..rank {
            b.extend((0..count).map(|expert| pair.b[(expert * rows + row) * rank + k]));
        }
    }
    Halves { a: (pair.a.clone(), [count * rank, inner]), b: (b, [rows, rank * count]) }
}

/// One update of the gate's rows and then the up projection's. With the same A it keeps the rank; otherwise A is both,
/// and each B has zeros for the other's. The update is scaled by alpha / rank, so that a larger rank takes a larger B.
pub(super) fn fuse(gate: &Pair, up: &Pair) -> Pair {
    let (count, rows, inner) = (gate.matrices, [gate.rows(), up.rows()], gate.inner());
    if gate.rank == up.rank && gate.a == up.a {
        let part = |expert: usize, pair: &Pair, rows: usize| {
            let len = rows * pair.rank;
            pair.b[expert * len..(expert + 1) * len].to_vec()
        };
        let b = (0..count).flat_map(|expert| [part(expert, gate, rows[0]), part(expert, up, rows[1])].concat());
        return Pair { a: gate.a.clone(), b: b.collect(), rank: gate.rank, matrices: count };
    }
    let rank = gate.rank + up.rank;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for expert in 0..count {
        for (pair, rows, before) in [(gate, rows[0], 0), (up, rows[1], gate.rank)] {
            a.extend_from_slice(&pair.a[expert * pair.rank * inner..][..pair.rank * inner]);
            let factor = rank as f32 / pair.rank as f32;
            for row in pair.b[expert * rows * pair.rank..][..rows * pair.rank].chunks_exact(pair.rank) {
                b.extend(std::iter::repeat_n(0.0, before));
                b.extend(row.iter().map(|x| x * factor));
                b.extend(std::iter::repeat_n(0.0, rank - before - pair.rank));
            }
        }
    }
    Pair { a, b, rank, matrices: count }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { count: 3, hidden: 4, intermediate: 2 };

    fn pair(rows: usize, inner: usize, rank: usize, start: f32) -> Pair {
        let values = |len: usize, start: f32| (0..len).map(|i| start + i as f32).collect();
        Pair { a: values(3 * rank * inner, start), b: values(3 * rows * rank, start + 0.5), rank, matrices: 3 }
    }

    /// B A of one expert's matrix, times 1 / rank.
    fn update(pair: &Pair, expert: usize) -> Vec<f32> {
        let (rows, inner, rank) = (pair.rows(), pair.inner(), pair.rank);
        let (a, b) = (&pair.a[expert * rank * inner..], &pair.b[expert * rows * rank..]);
        let entry = |i: usize, j: usize| (0..rank).map(|k| b[i * rank + k] * a[k * inner + j]).sum::<f32>();
        (0..rows * inner).map(|at| entry(at / inner, at % inner) / rank as f32).collect()
    }

    #[test]
    fn parameters_are_split_and_joined() {
        let down = pair(4, 2, 2, 1.0);
        let (parameter, parts) = split(&join(&down), SIZES).unwrap();
        assert!(parameter == "down_proj" && parts == [("ffn_down_exps", down)]);
        let (gate, mut up) = (pair(2, 4, 2, 1.0), pair(2, 4, 2, 1.0));
        up.b.iter_mut().for_each(|x| *x = -*x);
        let (parameter, parts) = split(&join(&fuse(&gate, &up)), SIZES).unwrap();
        assert!(parameter == "gate_up_proj" && parts == [("ffn_gate_exps", gate), ("ffn_up_exps", up)]);
        let wrong = Halves { a: (vec![0.0; 24], [6, 4]), b: (vec![0.0; 30], [5, 6]) };
        assert!(split(&wrong, SIZES).is_err());
    }

    /// With an A each, the fused update is that of both.
    #[test]
    fn updates_with_different_a_are_fused() {
        let (gate, up) = (pair(2, 4, 2, 1.0), pair(2, 4, 1, -9.0));
        let fused = fuse(&gate, &up);
        assert_eq!((fused.rank, fused.rows()), (3, 4));
        for expert in 0..3 {
            let both = [update(&gate, expert), update(&up, expert)].concat();
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * a.abs();
            assert!(both.iter().zip(&update(&fused, expert)).all(close));
        }
    }

    #[test]
    fn names_have_places() {
        assert_eq!(place("model.layers.3.mlp.experts"), Some(Place::All { layer: 3 }));
        assert_eq!(place("model.layers.3.mlp.experts.base_layer"), Some(Place::All { layer: 3 }));
        let one = Place::One { layer: 0, expert: 12, gguf: "ffn_up_exps" };
        assert_eq!(place("model.layers.0.mlp.experts.12.up_proj"), Some(one));
        for other in
            ["model.layers.0.mlp.experts.01.up_proj", "model.layers.0.mlp.experts.1.q_proj", "model.layers.0.mlp.gate"]
        {
            assert_eq!(place(other), None);
        }
    }
}
