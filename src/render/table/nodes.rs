//! The nodes of a cluster and their GPUs, and the labels that cannot be believed.

use crate::inventory::{GpuPool, Inventory, Memory, Node, NodeGpus, Trust};
use crate::render::node::{problem, product, sharing_word};
use crate::render::text::{printable, quoted};

use super::{Style, finish, plain};

/// A row per node and kind of GPU. Nodes without GPUs are only in the wide table.
#[must_use]
pub fn nodes(nodes: &[NodeGpus], style: Style) -> String {
    let mut header = vec!["NODE", "STATUS", "GPU", "MEMORY", "FREE", "SHARING"];
    if style.wide {
        header.extend(["RESOURCE", "SOURCE"]);
    }
    let mut table = plain(header);
    let none = || "-".to_owned();
    for entry in nodes {
        if entry.pools.is_empty() && style.wide {
            let mut row = vec![printable(&entry.node.name), status(&entry.node)];
            row.extend((0..6).map(|_| none()));
            table.add_row(row);
        }
        for pool in entry.pools.iter() {
            let mut row = vec![
                printable(&entry.node.name),
                status(&entry.node),
                product(pool),
                pool.usable_memory().map_or_else(|| "unknown".to_owned(), |memory| memory.to_string()),
                format!("{}/{}", pool.free, pool.allocatable),
                Some(sharing_word(pool.sharing)).filter(|word| !word.is_empty()).unwrap_or_else(none),
            ];
            if style.wide {
                row.push(quoted(&pool.resource));
                row.push(source(pool));
            }
            table.add_row(row);
        }
    }
    finish(table)
}

/// A row per kind of GPU of which a label is missing, cannot be believed or does not agree with another, with why and the remedy; nothing if there is none.
#[must_use]
pub fn problems(inventory: &Inventory) -> Option<String> {
    let mut table = plain(vec!["NODE", "GPU", "PROBLEM"]);
    for entry in inventory.nodes() {
        for pool in entry.pools.iter() {
            if let Some(problem) = problem(&entry.node, pool, inventory.sources()) {
                table.add_row(vec![printable(&entry.node.name), product(pool), problem]);
            }
        }
    }
    (!table.is_empty()).then(|| finish(table))
}

fn status(node: &Node) -> String {
    let ready = if node.ready { "Ready" } else { "NotReady" };
    if node.unschedulable { format!("{ready},Cordoned") } else { ready.to_owned() }
}

fn source(pool: &GpuPool) -> String {
    match &pool.memory {
        Memory::Known { label, trust: Trust::Reported, .. } => quoted(label),
        Memory::Known { label, trust: Trust::ByName, .. } => format!("{} (by its name)", quoted(label)),
        Memory::Untrusted { label, .. } => format!("{} (not believed)", quoted(label)),
        Memory::Missing { .. } => "-".to_owned(),
    }
}
