//! What an adapter is made of: named parameters.

/// A parameter of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The tensor of the base that it belongs to, by its GGUF name: "blk.0.attn_q.weight".
    pub site: String,
    /// What it is there, one of its method's parts: "lora_a".
    pub part: &'static str,
    /// Dimensions in GGUF's order, which has the row length first.
    pub shape: Vec<u64>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

impl Parameter {
    /// Its name in a file: "blk.0.attn_q.weight.lora_a".
    pub fn name(&self) -> String {
        format!("{}.{}", self.site, self.part)
    }
}

/// The parameter called `part` of those of one site.
pub fn part<'p>(of: &[&'p Parameter], part: &str) -> Option<&'p Parameter> {
    of.iter().copied().find(|parameter| parameter.part == part)
}

/// Parameters by their sites, in the order in which the first of each site comes.
pub fn by_site(parameters: &[Parameter]) -> Vec<(&str, Vec<&Parameter>)> {
    let mut places = std::collections::HashMap::new();
    let mut sites: Vec<(&str, Vec<&Parameter>)> = Vec::new();
    for parameter in parameters {
        let place = *places.entry(parameter.site.as_str()).or_insert_with(|| {
            sites.push((&parameter.site, Vec::new()));
            sites.len() - 1
        });
        sites[place].1.push(parameter);
    }
    sites
}
