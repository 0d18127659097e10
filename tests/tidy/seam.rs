//! The rule about the seam: what of a shard is seen outside it, and who decides the order of a turn.

use crate::code::{code_of, is_word, paths};
use crate::rules::Source;

/// The file that decides.
const SEAM: &str = "src/shard/seam.rs";

/// What tests and benches see of a shard: no release has it.
const INSPECTION: &str = "src/shard/inspect.rs";

/// What a host's wires do. Only the seam says when.
const WIRES: &[&str] = &[
    "attach",
    "may_flush",
    "flush_wire",
    "close_wire",
    "shut_down_write",
    "hand_over",
    "set_wanted",
    "do_file_work",
    "ring_bell",
];

/// What a turn leaves to do: noted all over the shard, done by the seam only.
const NOTES: &[&str] = &["outputs", "bells"];

/// Nothing outside the shard reaches its tables, and nothing but the seam ends a turn or a part of one: hosts that did either had
/// orders of their own, which drifted apart.
pub(crate) fn seam(source: &Source) -> Vec<String> {
    if !source.path.ends_with(".rs") || source.path == SEAM {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let is_within = source.path.starts_with("src/shard/");
    let mut faults = Vec::new();
    for (line, path) in paths(&code).into_iter().filter(|_| !is_within) {
        for hidden in [&["shard", "core"][..], &["effect", "Output"]] {
            if path.windows(hidden.len()).any(|part| part.iter().eq(hidden.iter())) {
                faults.push(format!("{}:{line}: {} is the shard's own", source.path, path.join("::")));
            }
        }
    }
    let is_inspection = source.path == INSPECTION;
    for (line, name, rest) in members(&code) {
        let is_call = rest.starts_with('(');
        let fault = if !is_within && name == "core" && !is_call {
            "a shard's core is its own: Shard has a method for what a host needs"
        } else if is_call && WIRES.contains(&name) {
            "only shard/seam.rs says when a wire does what"
        } else if is_within
            && NOTES.contains(&name)
            && !rest.starts_with(".push(")
            && !rest.starts_with(".contains(")
        {
            "what a turn leaves to do is done by shard/seam.rs only"
        } else if is_call && name == "new_turn" && !is_inspection {
            "a turn ends in shard/seam.rs only"
        } else {
            continue;
        };
        faults.push(format!("{}:{line}: .{name}: {fault}", source.path));
    }
    faults
}

/// Every name behind a point, with its line and what follows it.
fn members(code: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.match_indices('.').filter_map(move |(at, _)| {
            let rest = &line[at + 1..];
            let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
            (end > 0).then(|| (index + 1, &rest[..end], &rest[end..]))
        })
    })
}

#[test]
fn a_way_around_the_seam_is_found() {
    let rows = [
        ("src/driver/a.rs", "use crate::shard::core::Core;", 1),
        ("src/testing/a.rs", "use crate::shard::{self, core::{Core, SharedCore}};", 2),
        ("src/simulation/a.rs", "let core = shard.core.borrow();\nlet other = self.shards[0]\n    .core", 2),
        ("src/server/a.rs", "use crate::shard::value::effect::{Deferred, Output};", 1),
        ("src/driver/a.rs", "let id = cpus.core(1); use crate::shard::CoreParts; // shard.core", 0),
        ("src/driver/a.rs", "impl Wires for A { fn ring_bell(&mut self) {} }", 0),
        ("src/driver/a.rs", "wires.ring_bell(shard);\nself.0.close_wire(key, outbox);", 2),
        ("src/shard/run/a.rs", "core.outputs.push(Output::Close); self.bells.contains(&to)", 0),
        ("src/shard/run/a.rs", "let outputs = std::mem::take(&mut core.outputs);", 1),
        ("src/shard/run/a.rs", "self.core.borrow_mut().new_turn();", 1),
        ("src/shard/inspect.rs", "self.core.borrow_mut().new_turn();", 0),
        (
            "src/shard/seam.rs",
            "self.core.borrow_mut().new_turn(); wires.ring_bell(shard); core.bells.drain(..)",
            0,
        ),
    ];
    for (path, text, expected) in rows {
        let faults = seam(&Source { path: path.to_owned(), text: text.to_owned() });
        assert_eq!(faults.len(), expected, "{path}: {text}\n{faults:?}");
    }
}
