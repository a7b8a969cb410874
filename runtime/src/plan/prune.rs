//! Nodes that are not needed: those whose results are neither stored nor read by a node that is needed. A layer that is
//! recorded again for its gradients has some: its own result is there already.

use loam_shaders::Access;

use super::{Location, Node};

/// The nodes of `nodes`, over `temporaries` temporaries, that are needed.
pub fn used(nodes: Vec<Node>, temporaries: usize) -> Vec<Node> {
    let mut read = vec![false; temporaries];
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes.into_iter().rev() {
        let mut written = node.operands.iter().zip(node.call.kernel.source.bindings);
        let needed = written.any(|(view, binding)| {
            binding.access == Access::ReadWrite
                && match view.location {
                    Location::Stored(_) => true,
                    Location::Slot(t) => read[t as usize],
                }
        });
        if !needed {
            continue;
        }
        for view in &node.operands {
            // A node may add to what it writes, so that counts as read.
            if let Location::Slot(t) = view.location {
                read[t as usize] = true;
            }
        }
        kept.push(node);
    }
    kept.reverse();
    kept
}
