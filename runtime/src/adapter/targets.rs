//! Which tensors of a base an adapter is put on.

use std::collections::HashSet;
use std::str::FromStr;

use loam_files::adapter::AdapterFile;
use loam_files::adapter::weights::{LINEAR, all_kinds, kind_of};

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::option::OptionError;

/// Which weights an adapter is put on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Targets {
    /// Every linear layer of every block (PEFT's `all-linear`): no experts, nor the embedding, nor the head.
    #[default]
    AllLinear,
    /// These kinds in every block, by GGUF name without `blk.N.` and `.weight`, and `token_embd` or `output`.
    Kinds(Vec<String>),
}

impl Targets {
    /// The kinds of layers that `adapter` changes in `base`.
    pub fn changed_by(adapter: &AdapterFile, base: &Gguf) -> Self {
        let changed = kinds(adapter.parameters.iter().map(|parameter| parameter.site.as_str()));
        let present = kinds(base.tensors().iter().map(|info| info.name.as_str()));
        let present: Vec<String> = present.into_iter().filter(|kind| LINEAR.contains(&kind.as_str())).collect();
        if changed == present { Targets::AllLinear } else { Targets::Kinds(changed) }
    }

    /// Whether the weight called `name` is meant. Names are compared whole: `attn_q` is not `attn_q_norm`.
    pub fn contains(&self, name: &str) -> bool {
        let kind = kind_of(name);
        match self {
            Targets::AllLinear => kind.is_some_and(|k| LINEAR.contains(&k)),
            Targets::Kinds(kinds) => kind.is_some_and(|k| kinds.iter().any(|x| x == k)),
        }
    }
}

impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Targets::AllLinear => f.write_str("all-linear"),
            Targets::Kinds(kinds) => f.write_str(&kinds.join(",")),
        }
    }
}

impl FromStr for Targets {
    type Err = Error;

    /// `all-linear`, or a comma-separated list such as `attn_q,attn_v,token_embd`, also by PEFT's names.
    fn from_str(text: &str) -> Result<Self> {
        if text == "all-linear" {
            return Ok(Targets::AllLinear);
        }
        let mut kinds: Vec<String> = Vec::new();
        for kind in text.split(',').map(|name| from_peft(name.trim())) {
            if !all_kinds().any(|known| known == kind) {
                let known = all_kinds().collect::<Vec<_>>().join(", ");
                return Err(OptionError::unknown("targets", kind, format!("all-linear, or some of {known}")).into());
            }
            if !kinds.iter().any(|k| k == kind) {
                kinds.push(kind.to_owned());
            }
        }
        Ok(Targets::Kinds(kinds))
    }
}

/// Modules as Transformers and PEFT name them, and the kinds of weights that they are in GGUF.
const MODULES: [(&str, &str); 12] = [
    ("q_proj", "attn_q"),
    ("k_proj", "attn_k"),
    ("v_proj", "attn_v"),
    ("qkv_proj", "attn_qkv"),
    ("o_proj", "attn_output"),
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("gate_up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
    ("gate", "ffn_gate_inp"),
    ("embed_tokens", "token_embd"),
    ("lm_head", "output"),
];

/// The kind of weights that PEFT calls `name`, else `name`.
fn from_peft(name: &str) -> &str {
    MODULES.iter().find(|(module, _)| *module == name).map_or(name, |(_, kind)| kind)
}

/// The kinds of weights that occur in `names`.
pub(super) fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found: HashSet<&str> = names.filter_map(kind_of).collect();
    all_kinds().filter(|kind| found.contains(kind)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_whole_names() {
        let targets: Targets = "attn_q,attn_v".parse().unwrap();
        assert!(targets.contains("blk.0.attn_q.weight"));
        assert!(!targets.contains("blk.0.attn_q_norm.weight"));
        assert!(!targets.contains("blk.0.attn_output.weight"));
        assert!(Targets::AllLinear.contains("blk.3.ffn_down.weight"));
        assert!(!Targets::AllLinear.contains("output.weight") && !Targets::AllLinear.contains("token_embd.weight"));
        let peft: Targets = "q_proj, o_proj,attn_q,lm_head,embed_tokens".parse().unwrap();
        assert_eq!(peft.to_string(), "attn_q,attn_output,output,token_embd");
        assert!(MODULES.iter().all(|(_, kind)| all_kinds().any(|known| known == *kind)));
        let targets: Targets = "attn_q,output".parse().unwrap();
        assert!(targets.contains("output.weight") && !targets.contains("blk.0.attn_output.weight"));
        assert!(kind_of("output_norm.weight").is_none() && kind_of("blk.0.output.weight").is_none());
        assert!("attn_q,embed".parse::<Targets>().is_err());
        assert!("".parse::<Targets>().is_err());
    }
}
