//! Which type each tensor of a model gets: every weight the same, or one of llama-quantize's mixes.
//!
//! The rules are those of llama.cpp's `llama_tensor_get_type` and `tensor_allows_quantization` (`src/llama-quant.cpp`).
//! They look at names, shapes and a few numbers of the metadata only, so that they hold for every architecture and for
//! models that come as GGUF already.

use loam_files::gguf::{Array, Metadata, Value};
use loam_shaders::Format;

use crate::architecture::{by_architecture, order};

/// What a model is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Name on the command line.
    pub name: &'static str,
    /// The type of weights that no rule names.
    pub format: Format,
    /// llama.cpp's number for such a file (`general.file_type`).
    pub file_type: u32,
    /// The mix whose rules apply; `None`: every weight in `format`, as `llama-quantize --pure` does.
    pub mix: Option<Mix>,
}

/// The rules of a mix. Those of the plain file types differ only in what an importance matrix changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "llama-quantize's own names")]
pub enum Mix {
    /// Head Q6_K, and what holds for every mix.
    Plain,
    /// With an importance matrix the first `ffn_down` in the variant with minima: Q4_0 and Q5_0.
    Symmetric,
    /// More bits for the first `ffn_down`, and for `attn_v` where many heads share it: IQ4_NL and IQ4_XS.
    Levels,
    /// "Small".
    Q4_K_S,
    /// "Medium".
    Q4_K_M,
    /// "Medium".
    Q5_K_M,
}

const fn recipe(name: &'static str, format: Format, file_type: u32, mix: Option<Mix>) -> Recipe {
    Recipe { name, format, file_type, mix }
}

impl Recipe {
    /// What llama-quantize makes by its names, without `--pure`.
    pub const ALL: [Recipe; 15] = [
        recipe("f32", Format::F32, 0, None),
        recipe("f16", Format::F16, 1, None),
        recipe("bf16", Format::BF16, 32, None),
        recipe("q8_0", Format::Q8_0, 7, Some(Mix::Plain)),
        recipe("q4_0", Format::Q4_0, 2, Some(Mix::Symmetric)),
        recipe("q4_1", Format::Q4_1, 3, Some(Mix::Plain)),
        recipe("q5_0", Format::Q5_0, 8, Some(Mix::Symmetric)),
        recipe("q5_1", Format::Q5_1, 9, Some(Mix::Plain)),
        recipe("q6_k", Format::Q6_K, 18, Some(Mix::Plain)),
        recipe("iq4_nl", Format::IQ4_NL, 25, Some(Mix::Levels)),
        recipe("iq4_xs", Format::IQ4_XS, 30, Some(Mix::Levels)),
        recipe("q4_k_s", Format::Q4_K, 14, Some(Mix::Q4_K_S)),
        Recipe::DEFAULT,
        recipe("q5_k_s", Format::Q5_K, 16, Some(Mix::Plain)),
        recipe("q5_k_m", Format::Q5_K, 17, Some(Mix::Q5_K_M)),
    ];

    /// Other names that llama-quantize takes.
    pub const ALIASES: [(&str, &str); 2] = [("q4_k", "q4_k_m"), ("q5_k", "q5_k_m")];

    /// What is made where nothing is asked for: little is lost, at about 4.8 bits a weight.
    pub const DEFAULT: Recipe = recipe("q4_k_m", Format::Q4_K, 15, Some(Mix::Q4_K_M));

    /// The recipe with this name, in any case.
    pub fn named(name: &str) -> Option<Recipe> {
        let alias = Recipe::ALIASES.into_iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = alias.map_or(name, |(_, name)| name);
        Recipe::ALL.into_iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name))
    }

    /// Every weight in this recipe's type, as `llama-quantize --pure` makes it.
    pub fn pure(self) -> Recipe {
        Recipe { mix: None, ..self }
    }

    /// The types of all tensors, in their order. `importance`: an importance matrix will be used.
    pub fn choose(&self, metadata: &Metadata, tensors: &[(&str, &[u64])], importance: bool) -> Vec<Choice> {
        let traits = Traits::read(metadata, tensors);
        // Layers are counted in the order of llama-quantize's output, whatever order the tensors have here.
        let mut by_order: Vec<usize> = (0..tensors.len()).collect();
        by_order.sort_by(|a, b| order(tensors[*a].0).cmp(&order(tensors[*b].0)));
        let mut choices = vec![Choice { format: Format::F32, fallback: false }; tensors.len()];
        let mut seen = Seen::default();
        for at in by_order {
            let (name, shape) = tensors[at];
            if quantised(name, shape) {
                let wanted = self.wanted(name, shape[0], &traits, &mut seen, importance);
                choices[at] = wanted.fitting(shape[0]);
            }
        }
        choices
    }

    /// What a weight with rows of `cols` would best be; its shape may not allow it.
    fn wanted(&self, name: &str, cols: u64, traits: &Traits, seen: &mut Seen, importance: bool) -> Choice {
        let Some(mix) = self.mix.filter(|_| self.format.block_len() > 1) else { return Choice::plain(self.format) };
        match Part::named(name) {
            Part::Output => self.head(cols),
            Part::Embedding if traits.tied => self.head(cols),
            Part::AttentionV => {
                seen.attn_v += 1;
                Choice::plain(self.attention_v(mix, traits, seen.attn_v - 1))
            }
            Part::AttentionQkv => Choice::plain(self.attention_qkv(mix)),
            Part::AttentionK if traits.experts == 8 => Choice::plain(Format::Q8_0),
            Part::AttentionOutput if traits.experts == 8 && mix.spares_attention_output() => {
                Choice::plain(Format::Q5_K)
            }
            Part::FfnDown => {
                seen.ffn_down += 1;
                let layer = if traits.experts > 1 { order(name).0.unwrap_or(0) } else { seen.ffn_down - 1 };
                Choice::plain(self.ffn_down(mix, layer, traits.layers, importance))
            }
            _ => Choice::plain(self.format),
        }
    }

    /// The head, or the embedding that serves as one.
    fn head(&self, cols: u64) -> Choice {
        match self.format {
            Format::Q8_0 => Choice::plain(Format::Q8_0),
            format if !cols.is_multiple_of(format.block_len() as u64) => {
                Choice { format: Format::Q8_0, fallback: true }
            }
            _ => Choice::plain(Format::Q6_K),
        }
    }

    /// q, k and v in one product. Versions of llama-quantize from mid-2026 on treat it as `attn_v`; this is the older
    /// rule.
    fn attention_qkv(&self, mix: Mix) -> Format {
        match mix {
            Mix::Q4_K_M => Format::Q5_K,
            Mix::Q5_K_M => Format::Q6_K,
            _ => self.format,
        }
    }

    /// `attn_v`. `index`: how many there were before.
    fn attention_v(&self, mix: Mix, traits: &Traits, index: u64) -> Format {
        if traits.experts == 8 {
            return Format::Q8_0;
        }
        let format = match mix {
            Mix::Levels if traits.heads_per_kv_head >= 4 => Format::Q5_K,
            Mix::Q4_K_M | Mix::Q5_K_M if more_bits(index, traits.attn_v) => Format::Q6_K,
            Mix::Q4_K_S if index < 4 => Format::Q5_K,
            _ => self.format,
        };
        if traits.seventy_billion && format == Format::Q4_K { Format::Q5_K } else { format }
    }

    fn ffn_down(&self, mix: Mix, layer: u64, layers: u64, importance: bool) -> Format {
        let early = layer < layers / 8;
        match mix {
            Mix::Q4_K_M | Mix::Q5_K_M if more_bits(layer, layers) => Format::Q6_K,
            Mix::Q4_K_S if early => Format::Q5_K,
            Mix::Levels if early && !importance => Format::Q5_K,
            Mix::Symmetric if early && importance && self.format == Format::Q4_0 => Format::Q4_1,
            Mix::Symmetric if early && importance => Format::Q5_1,
            _ => self.format,
        }
    }
}

impl From<Format> for Recipe {
    /// Every weight in `format`.
    fn from(format: Format) -> Recipe {
        // The first of a type: llama.cpp calls files of nothing but Q4_K or Q5_K "small".
        let named = Recipe::ALL.into_iter().find(|recipe| recipe.format == format);
        // A type that llama.cpp has no file type for: 1024 says that it is to be guessed.
        named.map_or(recipe(format.name(), format, 1024, None), Recipe::pure)
    }
}

impl Mix {
    /// The mixes that give the output projection of a model of eight experts Q5_K.
    fn spares_attention_output(self) -> bool {
        matches!(self, Mix::Levels | Mix::Q4_K_S | Mix::Q4_K_M)
    }
}

/// The type of one tensor, and why it is not the asked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// What is written.
    pub format: Format,
    /// The asked type could not be used: the row length is no multiple of its block.
    pub fallback: bool,
}

impl Choice {
    fn plain(format: Format) -> Choice {
        Choice { format, fallback: false }
    }

    /// What rows of `cols` weights allow: else the next larger type with blocks of 32 weights, else F16.
    fn fitting(self, cols: u64) -> Choice {
        let fits = |format: Format| cols.is_multiple_of(format.block_len() as u64);
        match [Some(self.format), self.format.smaller_blocks()].into_iter().flatten().find(|format| fits(*format)) {
            Some(format) => Choice { format, fallback: self.fallback || format != self.format },
            None => Choice { format: Format::F16, fallback: true },
        }
    }
}

/// What the rules know of a model.
struct Traits {
    layers: u64,
    /// Tensors that v is a part of.
    attn_v: u64,
    heads_per_kv_head: u64,
    experts: u64,
    /// What llama-quantize takes for a "70B".
    seventy_billion: bool,
    /// There is no head but the embedding.
    tied: bool,
}

impl Traits {
    fn read(metadata: &Metadata, tensors: &[(&str, &[u64])]) -> Traits {
        let architecture = match metadata.get("general.architecture") {
            Some(Value::String(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => String::new(),
        };
        let number = |key: &str| first_number(metadata.get(&format!("{architecture}.{key}")));
        let layers = number("block_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(0);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let experts = number("expert_count").unwrap_or(0);
        let family = by_architecture(&architecture);
        Traits {
            layers,
            attn_v: tensors.iter().filter(|(name, _)| Part::named(name).holds_values()).count() as u64,
            heads_per_kv_head: heads.checked_div(kv_heads).unwrap_or(0),
            experts,
            seventy_billion: family.is_some_and(|f| f.seventy_billion.holds(layers, (heads, kv_heads), experts)),
            tied: !tensors.iter().any(|(name, _)| Part::named(name) == Part::Output),
        }
    }
}

/// A count, or that of the first layer where each has its own.
fn first_number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::U32(n) => Some(u64::from(*n)),
        Value::U64(n) => Some(*n),
        Value::I32(n) => u64::try_from(*n).ok(),
        Value::Array(Array::U32(list)) => list.first().map(|n| u64::from(*n)),
        Value::Array(Array::I32(list)) => list.first().and_then(|n| u64::try_from(*n).ok()),
        _ => None,
    }
}

/// How many tensors of a kind there were so far.
#[derive(Default)]
struct Seen {
    attn_v: u64,
    ffn_down: u64,
}

/// The parts of a model that rules name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Output,
    Embedding,
    AttentionV,
    /// q, k and v in one.
    AttentionQkv,
    /// The latent k and v.
    AttentionKv,
    AttentionK,
    AttentionOutput,
    FfnDown,
    Other,
}

impl Part {
    fn named(name: &str) -> Part {
        let among = |list: &[&str]| list.iter().any(|part| name.contains(part));
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Part::Embedding,
            _ if among(&["attn_v.weight"]) => Part::AttentionV,
            _ if among(&["attn_qkv.weight"]) => Part::AttentionQkv,
            _ if among(&["attn_kv_b.weight"]) => Part::AttentionKv,
            _ if among(&["attn_k.weight"]) => Part::AttentionK,
            _ if among(&["attn_output.weight"]) => Part::AttentionOutput,
            _ if among(&["ffn_down"]) => Part::FfnDown,
            _ => Part::Other,
        }
    }

    /// Whether v is in it: what llama-quantize counts as a layer of attention.
    fn holds_values(self) -> bool {
        matches!(self, Part::AttentionV | Part::AttentionQkv | Part::AttentionKv)
    }
}

/// The first and the last eighth of the layers, and every third of the others.
fn more_bits(layer: u64, layers: u64) -> bool {
    let first = layers / 8;
    layer < first || layer >= 7 * layers / 8 || (layer - first) % 3 == 2
}

/// Parts of names whose tensors stay F32: norms, routers, and what is small and delicate.
const NEVER: [&str; 25] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    ".patch_embd",
];

/// Whether a tensor of this name and shape is a weight that may be stored in blocks.
pub fn quantised(name: &str, shape: &[u64]) -> bool {
    let matrix = shape.iter().skip(1).any(|&n| n > 1);
    let embedding = matches!(name, "position_embd.weight" | "token_types.weight");
    matrix && name.ends_with("weight") && !embedding && !NEVER.iter().any(|part| name.contains(part))
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
