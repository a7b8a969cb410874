//! `loam devices`: what loam can run on.

use loam::backend::{DeviceInfo, Kind};
use serde_json::json;

use crate::args::DevicesArgs;
use crate::failure::Result;
use crate::output::{Output, bytes, escape};

/// Runs the verb.
pub fn run(args: &DevicesArgs) -> Result {
    let output = Output::new(args.json.json);
    let devices = pollster::block_on(loam::backend::select::devices())?;
    for device in &devices {
        output.line(escape(&device.name))?;
        output.line(format!("  backend   {} ({})", device.backend, kind(device.kind)))?;
        output.line(format!("  driver    {}", escape(&device.driver)))?;
        output.line(format!("  features  {}", device.features.join(", ")))?;
        let (binding, buffer) = (limit(device.limits.max_binding_bytes), limit(device.limits.max_buffer_bytes));
        output.line(format!("  limits    {binding} per binding, {buffer} per buffer"))?;
        if let Some(memory) = device.memory_bytes {
            output.line(format!("  memory    {}", bytes(memory)))?;
        }
    }
    output.object(&json!({"event": "done", "devices": devices.iter().map(object).collect::<Vec<_>>()}))
}

fn object(device: &DeviceInfo) -> serde_json::Value {
    json!({
        "name": device.name, "backend": device.backend, "kind": kind(device.kind), "features": device.features,
        "driver": device.driver, "memory_bytes": device.memory_bytes,
        "limits": {
            "max_binding_bytes": device.limits.max_binding_bytes, "max_buffer_bytes": device.limits.max_buffer_bytes,
        },
    })
}

/// A limit for people; the CPU has none but memory.
fn limit(count: u64) -> String {
    if count >= 1 << 60 { "no limit".to_owned() } else { bytes(count) }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Cpu => "cpu",
        Kind::DiscreteGpu => "discrete gpu",
        Kind::IntegratedGpu => "integrated gpu",
        Kind::VirtualGpu => "virtual gpu",
        Kind::Software => "software",
        Kind::Other => "other",
    }
}
