//! IA3 folders. A vector is `ia3_l`: of a feed-forward module it scales the input and has shape [1, in], of another
//! module it scales the output and has shape [out, 1].

use std::path::Path;

use loam_files::adapter::ia3::{INPUT, METHOD, OUTPUT};
use loam_files::adapter::{AdapterFile, Parameter, part};
use loam_files::gguf::{GgufFile, Value};
use serde_json::json;

use super::folder::{self, Tensor, open, plain, view};
use super::{BASE_NAME, Exchange, Layout, PREFIX, options};
use crate::architecture::order;
use crate::source::Json;
use crate::{Error, Result};

/// IA3's folders.
pub(super) const EXCHANGE: Exchange = Exchange { method: &METHOD, peft_type: "IA3", read, write };

/// Options that GGUF cannot express: refused unless null, false or empty.
const REFUSED: [(&str, &str); 2] = [
    ("modules_to_save", "whole modules were trained besides the adapter"),
    ("fan_in_fan_out", "weights are stored transposed"),
];
/// Options that the weights answer (which modules, which side), or that say how it was trained or where it is from.
const HARMLESS: [&str; 11] = [
    "peft_type",
    "base_model_name_or_path",
    "target_modules",
    "exclude_modules",
    "feedforward_modules",
    "init_ia3_weights",
    "inference_mode",
    "task_type",
    "auto_mapping",
    "revision",
    "peft_version",
];
/// Ends of PEFT's tensor names.
const ENDS: [&str; 2] = [".ia3_l", ".ia3_l.default"];

/// Reads the folder `dir` into the base's names and row order.
fn read(dir: &Path, config: &Json, _: &GgufFile, layout: &Layout) -> Result<AdapterFile> {
    options::check(config, &[&HARMLESS], &REFUSED)?;
    let weights = open(dir)?;
    let mut parameters = Vec::new();
    for name in weights.names() {
        let view = view(dir, &weights, name)?;
        parameters.push(parameter(dir, name, view.shape, view.to_f32(), layout)?);
    }
    parameters.sort_by(|a, b| order(&a.site).cmp(&order(&b.site)));
    if let Some(pair) = parameters.windows(2).find(|pair| pair[0].site == pair[1].site) {
        return Err(Error::tensor(dir, pair[0].site.as_str(), "has two vectors"));
    }
    let name = config.text("base_model_name_or_path")?;
    let metadata = name.map(|name| (BASE_NAME.to_owned(), Value::from(name))).into_iter().collect();
    let architecture = layout.family.architecture.into();
    Ok(AdapterFile { architecture, method: &METHOD, settings: Vec::new(), parameters, metadata })
}

/// The tensor `name` as a parameter of the base's tensor.
fn parameter(dir: &Path, name: &str, shape: &[usize], values: Vec<f32>, layout: &Layout) -> Result<Parameter> {
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    let module = ENDS.iter().find_map(|end| inner.strip_suffix(end)).ok_or_else(|| {
        let problem = "is not base_model.model.<module>.ia3_l; nothing of an adapter may be ignored";
        Error::tensor(dir, name, problem)
    })?;
    let site = layout.tensor_name(&plain(module)).filter(|site| (METHOD.takes)(site)).ok_or_else(|| {
        let family = layout.family.architecture;
        Error::tensor(dir, name, format!("is on no linear layer of a {family} model, and none may be left out"))
    })?;
    let (part, values) = match *shape {
        [1, len] if len > 1 => (INPUT, values),
        [rows, 1] => {
            layout.check_rows(dir, &site, rows)?;
            (OUTPUT, (0..rows).map(|row| values[layout.source_row(&site, row)]).collect())
        }
        _ => return Err(Error::tensor(dir, name, format!("has shape {shape:?}, needs [out, 1] or [1, in]"))),
    };
    Ok(Parameter { site, part, shape: vec![values.len() as u64], values })
}

/// Writes the folder `out`. `path` is the adapter's file.
fn write(adapter: &AdapterFile, path: &Path, layout: &Layout, out: &Path) -> Result<()> {
    let (mut tensors, mut modules, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
    for (site, of) in adapter.sites() {
        let module = layout.need_module(path, site)?;
        let name = format!("{PREFIX}{module}.ia3_l");
        match (part(&of, INPUT), part(&of, OUTPUT)) {
            (Some(input), None) => {
                tensors.push(Tensor { name, shape: [1, input.values.len()], values: input.values.clone() });
                inputs.push(module.clone());
            }
            (None, Some(output)) => {
                let rows = output.values.len();
                layout.check_rows(path, site, rows)?;
                let mut values = vec![0.0; rows];
                (0..rows).for_each(|row| values[layout.source_row(site, row)] = output.values[row]);
                tensors.push(Tensor { name, shape: [rows, 1], values });
            }
            _ => {
                return Err(Error::tensor(
                    path,
                    site,
                    "has factors of its input and of its output, PEFT has one vector",
                ));
            }
        }
        modules.push(module);
    }
    let config = config(adapter, layout, &modules, &inputs);
    folder::write(path, &tensors.iter().collect::<Vec<_>>(), &config, out)
}

/// adapter_config.json.
fn config(adapter: &AdapterFile, layout: &Layout, modules: &[String], inputs: &[String]) -> serde_json::Value {
    let of = |modules: &[String]| {
        let all: Vec<&str> = modules.iter().map(String::as_str).collect();
        folder::names(layout, &all, false)
    };
    // What PEFT calls a feed-forward module must be among the modules by the same name.
    let (targets, feed_forward) = (of(modules), of(inputs));
    let short = feed_forward.iter().all(|name| targets.contains(name));
    let [targets, feed_forward] = if short { [targets, feed_forward] } else { [modules.to_vec(), inputs.to_vec()] };
    json!({
        "peft_type": "IA3",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.text(BASE_NAME),
        "inference_mode": true,
        "target_modules": targets,
        "feedforward_modules": feed_forward,
        "fan_in_fan_out": false,
        "modules_to_save": null,
        "init_ia3_weights": true,
    })
}
