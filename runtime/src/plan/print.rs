//! A plan as text: one line per node, then what it takes.

use std::fmt::Write;

use loam_shaders::Access;

use super::storage::Storage;
use super::{Location, Node, Plan};

impl Plan {
    /// One line per node (`kernel label inputs -> outputs grid`), then slots and bytes. The same plan always prints the
    /// same text, so that snapshots of it can be compared.
    pub fn print(&self, storage: &Storage) -> String {
        let mut out = format!("plan {}\n", self.name);
        for (i, node) in self.nodes.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "%{i:<4} {}", line(node, storage));
        }
        let _ = writeln!(out, "{} nodes, {} slots, {} bytes", self.nodes.len(), self.slots.len(), self.slot_bytes());
        out
    }
}

fn line(node: &Node, storage: &Storage) -> String {
    let side = |access: Access| {
        let bound = node.operands.iter().zip(node.call.kernel.source.bindings);
        let names = bound.filter(|(_, b)| b.access == access).map(|(view, _)| {
            let name = match view.location {
                Location::Slot(i) => format!("slot{i}"),
                Location::Stored(id) => storage.get(id).name.clone(),
            };
            let at = if view.offset == 0 { String::new() } else { format!("+{}", view.offset) };
            format!("{name}{at}[{}]", view.words)
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let [x, y, z] = node.call.grid;
    let above = node.when.above.map_or_else(String::new, |above| format!("  if rows > {above}"));
    let phase = node.when.phase.map_or_else(String::new, |phase| format!("  in {phase:?}").to_lowercase());
    format!(
        "{:<28} {:<24} {} -> {}  grid {x},{y},{z}{above}{phase}",
        node.call.kernel.name(),
        node.label,
        side(Access::Read),
        side(Access::ReadWrite)
    )
}
