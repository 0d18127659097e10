//! The rules, each from a file to what is wrong with it, and the samples that show that each can fail.

use std::collections::BTreeMap;

use crate::code::{code_of, is_word, paths, words};

/// A file by its path from the root, with slashes.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every layer with those it may use, from the bottom up. The binary uses the public face only, as a user does.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("protocol", &["base"]),
    ("config", &["base", "protocol"]),
    ("message", &["base", "protocol"]),
    ("mesh", &["base", "config", "message"]),
    ("bus", &["base", "protocol", "config", "message", "mesh"]),
    ("shard", &["base", "protocol", "config", "message", "mesh"]),
    ("driver", &["base", "protocol", "config", "message", "mesh", "bus", "shard"]),
    ("server", &["base", "protocol", "config", "message", "mesh", "bus", "shard", "driver"]),
    ("testing", &["base", "protocol", "config", "message", "mesh", "bus", "shard", "driver", "server"]),
];

/// Layers that see no socket, clock, thread or file.
const SYSTEM_FREE: &[&str] = &["base", "protocol", "config", "message", "mesh", "bus", "shard"];

/// Crates that are the system, or a way to it.
const SYSTEM_CRATES: &[&str] = &[
    "async_nats",
    "io_uring",
    "io_uring_06",
    "lapin",
    "libc",
    "monoio",
    "redis",
    "rskafka",
    "rustix",
    "signal_hook",
    "tokio",
];

/// What of `std` is the system. Addresses and paths are values, so they are allowed below.
const SYSTEM_MODULES: &[&[&str]] = &[
    &["std", "net"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["Instant", "now"],
    &["SystemTime", "now"],
];
const ADDRESS_VALUES: &[&str] =
    &["SocketAddr", "SocketAddrV4", "SocketAddrV6", "IpAddr", "Ipv4Addr", "Ipv6Addr", "AddrParseError"];

/// Files that may hold unsafe code; one that ends in a slash is a folder.
const UNSAFE_ALLOWED: &[&str] = &[
    "src/protocol/websocket/mask.rs",
    "src/bin/shardcast/allocator.rs",
    "src/driver/polled.rs",
    "src/driver/ring/",
    "src/server/lending.rs",
    "src/simulation/no_alloc.rs",
];

/// Modules that only tests have, declared under `#[cfg(test)]`: they may use what they like.
const TEST_MODULES: &[&str] = &["contract", "hub_tests", "simulation", "vectors", "vectors3"];

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 800;

fn layer_of(path: &str) -> Option<&'static str> {
    let first = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    LAYERS.iter().map(|(name, _)| *name).find(|name| *name == first)
}

fn is_of_tests(path: &str) -> bool {
    path.split('/').any(|part| TEST_MODULES.contains(&part.trim_end_matches(".rs")))
}

/// Which layer each name at the crate's root comes from: `pub use server::Server;` gives `Server` to `server`.
pub(crate) fn exports(lib: &str) -> BTreeMap<String, String> {
    let exported = paths(&code_of(lib)).into_iter().filter_map(|(_, path)| {
        let inner = path.strip_prefix(&["crate".to_owned()][..]).unwrap_or(&path);
        let (first, last) = (inner.first()?, inner.last()?);
        LAYERS.iter().any(|(name, _)| name == first).then(|| (last.clone(), first.clone()))
    });
    exported.collect()
}

/// A layer imports from the layers below it and from itself.
pub(crate) fn layers(source: &Source, exports: &BTreeMap<String, String>) -> Vec<String> {
    let Some(own) = layer_of(&source.path).filter(|_| !is_of_tests(&source.path)) else { return Vec::new() };
    let below = LAYERS.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, below)| below);
    let depth = module_depth(&source.path);
    let mut faults = Vec::new();
    for (line, path) in paths(&code_of(&source.text)) {
        let Some(target) = root_name(&path, depth) else { continue };
        let layer = exports.get(target).map_or(target, String::as_str);
        let is_layer = LAYERS.iter().any(|(name, _)| *name == layer);
        let is_named = path[0] == "crate";
        if layer != own && !below.contains(&layer) && (is_layer || is_named) {
            faults.push(format!("{}:{line}: {own} may not use {layer} ({})", source.path, path.join("::")));
        }
    }
    faults
}

/// How many `super` lead from a file's module to the root.
fn module_depth(path: &str) -> usize {
    path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
}

/// The name that a path looks up at the crate's root, if it goes there.
fn root_name(path: &[String], depth: usize) -> Option<&str> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let at = if path[0] == "crate" {
        1
    } else if supers >= depth {
        supers
    } else {
        return None;
    };
    path.get(at).map(String::as_str)
}

/// What only tests have is declared under `#[cfg(test)]`, so that its upward imports reach no release.
pub(crate) fn test_modules(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let mut faults = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let declared = TEST_MODULES.iter().find(|name| {
            line.strip_suffix([';', '{'])
                .is_some_and(|line| line.trim_end().ends_with(&format!("mod {name}")))
        });
        if let Some(name) = declared
            && (index == 0 || lines[index - 1] != "#[cfg(test)]")
        {
            faults.push(format!("{}:{}: mod {name} needs #[cfg(test)]", source.path, index + 1));
        }
    }
    faults
}

/// A file says in its first line what it is, and is short enough to read.
pub(crate) fn shape(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//! ") {
        faults.push(format!("{}: the first line is not `//! ` and what the file is", source.path));
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path));
    }
    faults
}

/// Unsafe code stays in the files that are known for it.
pub(crate) fn unsafe_blocks(source: &Source) -> Vec<String> {
    let is_allowed = UNSAFE_ALLOWED.iter().any(|allowed| {
        source.path == *allowed || (allowed.ends_with('/') && source.path.starts_with(allowed))
    });
    if is_allowed {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let found = words(&code).filter(|(_, word)| matches!(*word, "unsafe" | "unsafe_code"));
    found
        .map(|(line, word)| format!("{}:{line}: {word} outside the list of UNSAFE_ALLOWED", source.path))
        .collect()
}

/// No reminder, no hole, no test that does not run.
pub(crate) fn undone(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let reminder = concat!("FIX", "ME");
    for (index, line) in source.text.lines().enumerate() {
        if line.contains(reminder) {
            faults.push(format!("{}:{}: {reminder}", source.path, index + 1));
        }
    }
    for (index, line) in code_of(&source.text).lines().enumerate() {
        for hole in ["todo!", "unimplemented!", "#[ignore"] {
            let starts = line.match_indices(hole).map(|(at, _)| line[..at].chars().next_back());
            if starts.into_iter().any(|before| !before.is_some_and(is_word)) {
                faults.push(format!("{}:{}: {hole}", source.path, index + 1));
            }
        }
    }
    faults
}

/// The layers below the driver name no part of the system. The exceptions: a broker's client, and the loop that works with one.
pub(crate) fn system(source: &Source) -> Vec<String> {
    let is_free = layer_of(&source.path).is_some_and(|layer| SYSTEM_FREE.contains(&layer));
    let is_client = source.path.starts_with("src/bus/") && source.path.ends_with("/client.rs")
        || source.path.starts_with("src/bus/run");
    if !is_free || is_client || is_of_tests(&source.path) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (line, path) in paths(&code_of(&source.text)) {
        let names_module = SYSTEM_MODULES
            .iter()
            .any(|module| path.windows(module.len()).any(|part| part.iter().eq(module.iter())));
        let is_value = path.last().is_some_and(|last| ADDRESS_VALUES.contains(&last.as_str()))
            || path.iter().any(|part| ADDRESS_VALUES.contains(&part.as_str()));
        if SYSTEM_CRATES.contains(&path[0].as_str()) || (names_module && !is_value) {
            faults.push(format!("{}:{line}: {} is the system", source.path, path.join("::")));
        }
    }
    faults
}

/// The public fields of a struct.
pub(crate) fn fields(text: &str, name: &str) -> Vec<String> {
    let code = code_of(text);
    let head = format!("pub struct {name} {{");
    let Some(start) = code.find(&head) else { return Vec::new() };
    let body = code[start + head.len()..].split("\n}").next().unwrap_or_default();
    let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    fields.map(|(field, _)| field.to_owned()).collect()
}

/// The code in the first column of the table below a heading.
pub(crate) fn first_column(page: &str, heading: &str) -> Vec<String> {
    let section = page.split_once(heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(cell, _)| cell.to_owned()).collect()
}

/// The crates that a manifest depends on, those of its tests among them.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_list = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"].contains(&line);
        } else if is_list && let Some((name, _)) = line.split_once(" = ") {
            found.push(name.to_owned());
        }
    }
    found
}

/// The code in the first cell of each row of the table below a heading; a cell may name several.
pub(crate) fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = page.split_once(heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// A source whose literals of several lines are in one, with quotes as they are shown.
pub(crate) fn joined_literals(text: &str) -> String {
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + piece.trim_start()).replace("\\\"", "\"")
}

/// The public constants of a file.
pub(crate) fn constants(text: &str) -> Vec<String> {
    let code = code_of(text);
    let found = code.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("pub(crate) const ").or(line.strip_prefix("pub const "))?.split_once(':')
    });
    found.map(|(name, _)| name.to_owned()).collect()
}

/// Files whose bounds are nobody's to know: tests, the load generator, what only benches and fuzz targets see.
const UNBOUNDED: &[&str] = &["src/bin/", "src/testing/", "src/simulation/", "src/bench_support.rs"];

/// The constants of a file that bound something, public or not: those with a name that ends in `_MAX`, and a few more kinds.
/// What stands in a function, and behind `#[cfg(test)]`, is not looked at.
pub(crate) fn bounds(source: &Source) -> Vec<String> {
    let is_exempt = UNBOUNDED.iter().any(|exempt| source.path.starts_with(exempt))
        || source.path.ends_with("/fuzz.rs")
        || source.path.ends_with("/fuzz3.rs")
        || is_of_tests(&source.path);
    if is_exempt || !source.path.starts_with("src/") {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let own = code.split("#[cfg(test)]").next().unwrap_or_default();
    let found = own.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("pub(crate) const ")
            .or(line.strip_prefix("pub(super) const "))
            .or(line.strip_prefix("pub const "))
            .or(line.strip_prefix("const "))?;
        Some(rest.split_once(':')?.0.to_owned())
    });
    let ends = ["_MAX", "_PATIENCE", "_GRACE", "_TIMEOUT", "BEHIND_BYTES", "LINGER"];
    found.filter(|name| ends.iter().any(|end| name.ends_with(end))).collect()
}

/// The constants in the first columns of a page's section *Constants*.
pub(crate) fn constants_shown(page: &str) -> Vec<String> {
    let section = page.split("\n## Constants\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let is_name = |text: &&str| {
        text.chars().all(|char| char == '_' || char.is_ascii_uppercase() || char.is_ascii_digit())
    };
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(is_name);
    names.map(str::to_owned).collect()
}

/// A line of the log shows no id whole, no query and no header that may hold a token.
pub(crate) fn secrets_logged(source: &Source) -> Vec<String> {
    const SECRETS: &[&str] = &[
        "%sid",
        "?sid",
        "%session,",
        "?session,",
        "%session_id,",
        ".id(),",
        ".sid,",
        "head.target",
        "head.query",
        "\"cookie\"",
    ];
    let is_looked_at = source.path.starts_with("src/") && !is_of_tests(&source.path);
    let calls = source.text.match_indices("tracing::").filter(|_| is_looked_at);
    let mut faults = Vec::new();
    for (at, _) in calls {
        let call = source.text[at..].split(");").next().unwrap_or_default();
        let name = call.trim_start_matches("tracing::").split(['!', '(']).next().unwrap_or_default();
        if !matches!(name, "error" | "warn" | "info" | "debug" | "trace") {
            continue;
        }
        let line = source.text[..at].matches('\n').count() + 1;
        let call = ["%session_id", "%session", "%sid", ".sid", ".id()"]
            .iter()
            .fold(call.to_owned(), |call, id| call.replace(&format!("{id}.brief()"), ""));
        for secret in SECRETS.iter().filter(|secret| call.contains(*secret)) {
            faults.push(format!("{}:{line}: the log shows {secret}; ids have brief()", source.path));
        }
    }
    faults
}

/// Names that a page does not show as code.
pub(crate) fn unnamed<'a>(page: &str, names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    names.filter(|name| !page.contains(&format!("`{name}`"))).map(String::as_str).collect()
}

/// Names of tests that a page shows as code and that are not there. A test is named as a fact: four words or more.
pub(crate) fn named_tests(page: &str, is_there: impl Fn(&str) -> bool) -> Vec<&str> {
    let shown = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_name = |text: &&str| {
        text.matches('_').count() >= 3
            && text.chars().all(|char| char == '_' || char.is_ascii_lowercase() || char.is_ascii_digit())
    };
    shown.filter(is_name).filter(|name| !is_there(name)).collect()
}

/// Links by reference, `[text][label]`: each has a definition in its page, which leads to a file, and those to guides another one in the
/// definitions for rustdoc.
pub(crate) fn references(source: &Source, for_rustdoc: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let definition = |line: &str| {
        let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
        Some((label.to_owned(), target.to_owned()))
    };
    let defined: BTreeMap<String, String> = source.text.lines().filter_map(definition).collect();
    let known: BTreeMap<String, String> = for_rustdoc.lines().filter_map(definition).collect();
    let mut faults = Vec::new();
    let mut is_code = false;
    for (index, line) in source.text.lines().enumerate() {
        let at = format!("{}:{}", source.path, index + 1);
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        // Code in a line is between backticks.
        let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for label in text.split("][").skip(1).filter_map(|rest| rest.split(']').next()).filter(|_| !is_code) {
            match defined.get(label) {
                None => faults.push(format!("{at}: [{label}] has no definition at the end of the page")),
                Some(_) if known.contains_key(label) => {}
                Some(_) => faults.push(format!("{at}: [{label}] has no definition in docs/rustdoc-links.md")),
            }
        }
        if let Some((_, target)) = definition(line).filter(|(_, target)| !target.contains("::"))
            && !exists(&resolve(folder, target.split('#').next().unwrap_or_default()))
        {
            faults.push(format!("{at}: nothing at {target}"));
        }
    }
    faults
}

/// Links to files, `[text](file)`, which lead nowhere in a page that rustdoc includes.
pub(crate) fn links_in_rustdoc(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut is_code = false;
    for (index, line) in source.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        for (at, _) in line.match_indices("](").filter(|_| !is_code) {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with('#') {
                faults.push(format!(
                    "{}:{}: ({target}) leads nowhere within rustdoc: write [text][label], and define the label in both places",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    faults
}

/// Relative links of a page lead to a file or folder.
pub(crate) fn links(source: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut faults = Vec::new();
    let mut is_code = false;
    for (index, line) in source.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        for (at, _) in line.match_indices("](").filter(|_| !is_code) {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            let is_outside = target.contains("://") || target.starts_with("mailto:");
            let file = target.split('#').next().unwrap_or_default();
            if !is_outside && !file.is_empty() && !exists(&resolve(folder, file)) {
                faults.push(format!("{}:{}: nothing at {target}", source.path, index + 1));
            }
        }
    }
    faults
}

fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// No path that exists on somebody's machine only.
pub(crate) fn machine_paths(source: &Source) -> Vec<String> {
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    let mut faults = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for home in homes {
            let is_absolute = |at: usize| {
                !line[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|before| is_word(before) || "./-}*".contains(before))
            };
            if line.match_indices(home).any(|(at, _)| is_absolute(at)) {
                faults.push(format!("{}:{}: a path below {home}", source.path, index + 1));
            }
        }
    }
    faults
}

/// The blocks of Rust in a page.
pub(crate) fn rust_blocks(page: &str) -> Vec<String> {
    blocks(page.lines())
}

/// The blocks of Rust in a file's own documentation.
pub(crate) fn doc_blocks(text: &str) -> Vec<String> {
    blocks(
        text.lines()
            .filter_map(|line| line.strip_prefix("//!"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line)),
    )
}

fn blocks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut is_open, mut is_rust) = (false, false);
    for line in lines {
        if let Some(tag) = line.strip_prefix("```") {
            is_open = !is_open;
            is_rust = is_open && (tag.is_empty() || tag == "no_run" || tag.starts_with("rust"));
            if is_rust {
                found.push(String::new());
            }
        } else if let Some(block) = found.last_mut().filter(|_| is_rust) {
            block.push_str(line);
            block.push('\n');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// How many faults a rule finds in each of some files.
    fn check(rule: impl Fn(&Source) -> Vec<String>, rows: &[(&str, &str, usize)]) {
        for (path, text, expected) in rows {
            let faults = rule(&source(path, text));
            assert_eq!(faults.len(), *expected, "{path}: {text}\n{faults:?}");
        }
    }

    #[test]
    fn an_upward_import_is_found() {
        let exports = exports(
            "pub use server::{Error, handle::Handle}; pub mod http { pub use crate::protocol::http::status::Status; }",
        );
        let rows = [
            ("src/base/ids.rs", "use crate::base::limits;", 0),
            ("src/base/ids.rs", "use crate::mesh::Mesh;", 1),
            ("src/base/ids.rs", "// use crate::mesh::Mesh;\nconst TEXT: &str = \"crate::mesh\";", 0),
            ("src/protocol/http/head.rs", "use crate::{base::limits, shard::{core::Core, app::App}};", 2),
            ("src/protocol/http/head.rs", "use super::super::super::driver::clock;", 1),
            ("src/protocol/mod.rs", "use super::driver::clock;", 1),
            ("src/protocol/http/head.rs", "use super::super::websocket::frame;", 0),
            ("src/mesh/mod.rs", "fn f() { crate::protocol::http::head::decode() }", 1),
            ("src/bus/redis/codec.rs", "use crate::shard::Core;", 1),
            ("src/shard/core.rs", "use crate::mesh::Mesh; use crate::protocol::http::head::Head;", 0),
            ("src/shard/core.rs", "fn f(_: crate::Handle) {}", 1),
            ("src/shard/core.rs", "fn f(_: crate::Status) {}", 0),
            ("src/shard/core.rs", "fn f(_: crate::Unheard) {}", 1),
            ("src/driver/mod.rs", "use crate::shard::Shard;", 0),
            ("src/driver/mod.rs", "use crate::server::Server;", 1),
            ("src/server/mod.rs", "use crate::driver::start;", 0),
            ("src/shard/simulation/mod.rs", "use crate::driver::clock;", 0),
            ("src/protocol/http/vectors.rs", "use crate::driver::clock;", 0),
            ("src/bin/shardcast/main.rs", "use crate::server::Server;", 0),
            ("src/lib.rs", "pub use crate::server::Server;", 0),
        ];
        check(|source| layers(source, &exports), &rows);
    }

    #[test]
    fn a_module_of_tests_in_a_release_is_found() {
        let rows = [
            ("src/lib.rs", "#[cfg(test)]\nmod simulation;", 0),
            ("src/lib.rs", "mod simulation;", 1),
            ("src/shard/mod.rs", "mod tasks;\npub(crate) mod simulation {\n}", 1),
            ("src/protocol/http/mod.rs", "#[cfg(test)]\nmod vectors;", 0),
            ("src/protocol/http/mod.rs", "mod vectors;", 1),
        ];
        check(test_modules, &rows);
    }

    #[test]
    fn a_file_without_a_first_line_or_an_end_is_found() {
        let long = format!("//! Long.\n{}", "\n".repeat(FILE_LINES_MAX));
        let rows = [
            ("src/a.rs", "//! What it is.\n", 0),
            ("src/a.rs", "use std::fmt;\n", 1),
            ("src/a.rs", "\n//! Late.\n", 1),
            ("src/a.rs", long.as_str(), 1),
        ];
        check(shape, &rows);
    }

    #[test]
    fn unsafe_code_elsewhere_is_found() {
        let block = "fn f() { unsafe { g() } }";
        let rows = [
            ("src/shard/core.rs", block, 1),
            ("src/shard/core.rs", "#![allow(unsafe_code)]", 1),
            ("src/shard/core.rs", "// unsafe\nconst A: &str = \"unsafe\"; fn unsafe_looking() {}", 0),
            ("src/driver/polled.rs", block, 0),
            ("src/driver/ring/mod.rs", block, 0),
            ("src/driver/ring.rs", block, 1),
            ("tests/a.rs", block, 1),
        ];
        check(unsafe_blocks, &rows);
    }

    #[test]
    fn what_is_left_undone_is_found() {
        let reminder = format!("// {} later", concat!("FIX", "ME"));
        let rows = [
            ("src/a.rs", reminder.as_str(), 1),
            ("src/a.rs", "fn f() { todo!() }\nfn g() { unimplemented!(\"{}\", 1) }", 2),
            ("src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", 1),
            ("src/a.rs", "// a todo! in words\nmacro_rules! my_todo { () => {} }\nmy_todo!();", 0),
        ];
        check(undone, &rows);
    }

    #[test]
    fn the_system_below_the_driver_is_found() {
        let rows = [
            ("src/shard/a.rs", "use std::net::{IpAddr, TcpStream};", 1),
            ("src/shard/a.rs", "use std::net::{IpAddr, SocketAddr}; let a = std::net::IpAddr::V4(b);", 0),
            ("src/shard/a.rs", "let now = Instant::now();", 1),
            ("src/shard/a.rs", "use std::time::Instant; use std::{fs, thread};", 2),
            ("src/protocol/a.rs", "fn f() { libc::read(0) } use monoio::net::TcpStream;", 2),
            ("src/mesh/a.rs", "use rustix::event::eventfd;", 1),
            ("src/base/a.rs", "use std::path::PathBuf; thread_local! {}", 0),
            ("src/bus/redis/client.rs", "use std::net::TcpStream;", 0),
            ("src/bus/redis/codec.rs", "use std::net::TcpStream;", 1),
            ("src/driver/clock.rs", "let now = Instant::now();", 0),
            ("src/server/load.rs", "std::fs::read(path)", 0),
        ];
        check(system, &rows);
    }

    #[test]
    fn a_name_that_a_page_lacks_is_found() {
        let text = "/// Doc.\npub struct Config {\n    /// A: b.\n    pub bind: Vec<String>,\n    pub io: Io,\n    hidden: u8,\n}\npub struct Other {\n    pub no: u8,\n}\n";
        assert_eq!(fields(text, "Config"), ["bind", "io"]);
        assert_eq!(
            constants("/// A.\npub const A_MAX: usize = 1;\npub(crate) const B: u8 = 2;\nconst C: u8 = 2;\n"),
            ["A_MAX", "B"]
        );
        let names = ["bind".to_owned(), "io".to_owned()];
        assert_eq!(unnamed("| `bind` | io |", names.iter()), ["io"]);
    }

    #[test]
    fn bounds_are_found_wherever_they_are() {
        let text = "const A_MAX: u8 = 1;\npub(crate) const B_MAX: u8 = 1;\nconst SIZE: u8 = 1;\n\
                    fn f() {\n    const C_MAX: u8 = 1;\n}\n// const D_MAX: u8 = 1;\n#[cfg(test)]\nmod tests {\nconst E_MAX: u8 = 1;\n}\n";
        assert_eq!(bounds(&source("src/shard/a.rs", text)), ["A_MAX", "B_MAX"]);
        for exempt in ["src/testing/a.rs", "src/protocol/http/fuzz.rs", "src/simulation/a.rs", "tests/a.rs"] {
            assert!(bounds(&source(exempt, text)).is_empty(), "{exempt}");
        }
    }

    #[test]
    fn constants_of_a_page_are_read() {
        let page = "## A\n| `X_MAX` | 1 |\n## Constants\n| constant | a |\n|---|---|\n| `A_MAX`, `B` of c | `D` |\n## E\n| `F` |\n";
        assert_eq!(constants_shown(page), ["A_MAX", "B"]);
    }

    #[test]
    fn a_secret_in_a_log_line_is_found() {
        let rows = [
            ("src/shard/a.rs", "tracing::info!(%sid, \"a\");", 1),
            ("src/shard/a.rs", "tracing::warn!(\n    sid = %socket.id(),\n    \"a\"\n);", 1),
            ("src/shard/a.rs", "tracing::info!(url = head.target, \"a\");", 1),
            ("src/shard/a.rs", "tracing::info!(sid = %sid.brief(), path = head.path, \"a\"); f(%sid)", 0),
            ("src/simulation/a.rs", "tracing::info!(%sid, \"a\");", 0),
        ];
        check(secrets_logged, &rows);
    }

    #[test]
    fn crates_are_read_from_a_manifest_and_from_a_page() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\nc = \"1\"\n\n[dev-dependencies]\nd = { version = \"1\" }\n";
        assert_eq!(dependencies(manifest), ["b", "c", "d"]);
        assert_eq!(
            first_cells("## A\n| x | y |\n|---|---|\n| `b`, `c` | `z` |\n\n## B\n| `d` | e |\n", "## A"),
            ["b", "c"]
        );
    }

    #[test]
    fn a_table_is_read_by_its_first_column() {
        let page = "## A\n| `x` | 1 |\n## B\n| line | fix |\n|---|---|\n| `a .. b` | c |\n| d | `e` |\n## C\n| `f` |\n";
        assert_eq!(first_column(page, "## B"), ["a .. b"]);
        assert_eq!(joined_literals("\"one \\\n      two \\\"x\\\"\""), "\"one two \"x\"\"");
    }

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let page = "| no lock | `a_fact_that_holds`, `a_fact_that_was_renamed`; `max_len`, `A_B_C_D` |";
        assert_eq!(named_tests(page, |name| name == "a_fact_that_holds"), ["a_fact_that_was_renamed"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let there = ["README.md", "docs/a.md", "src"];
        let rows = [
            ("docs/a.md", "[up](../README.md) [self](#part) [out](https://a.example/b)", 0),
            ("docs/a.md", "[here](README.md)", 1),
            ("README.md", "[a](docs/a.md#part), [code](src/), [none](docs/b.md)", 1),
            ("README.md", "```\n[a](nowhere)\n```\n[b](nowhere)", 1),
        ];
        check(|source| links(source, |path| there.contains(&path)), &rows);
    }

    #[test]
    fn a_link_to_a_file_is_found_in_what_rustdoc_includes() {
        let rows = [
            ("docs/a.md", "[self](#part) [out](https://a.example/b) [b][b.md]", 0),
            ("docs/a.md", "[b](b.md)", 1),
            ("docs/a.md", "```\n[a](b.md)\n```\n[b](../c.rs)", 1),
        ];
        check(links_in_rustdoc, &rows);
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_found() {
        let known = "[a.md]: crate::guides::a\n[b.md#x]: crate::guides::b#x\n";
        let rows = [
            ("docs/c.md", "[one][a.md] and [two][b.md#x]\n\n[a.md]: a.md\n[b.md#x]: b.md#x", 0),
            ("docs/c.md", "[one][a.md] `x[0][1]`\n```\n[a][none]\n```", 1),
            ("docs/c.md", "[one][c.md]\n\n[c.md]: c.md", 2),
            ("tuning.md", "[one][a.md]\n\n[a.md]: docs/a.md", 0),
        ];
        let there = ["docs/a.md", "docs/b.md"];
        check(|source| references(source, known, |path| there.contains(&path)), &rows);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let home = concat!("/ho", "me/");
        let rows = [
            ("a.md", format!("see {home}me/notes"), 1),
            ("a.md", format!("see `{home}me`, https://a.example{home}b"), 1),
            ("a.md", "see /etc/nginx and /tmp/a".to_owned(), 0),
            ("a.sh", concat!("cd /wo", "rk/main").to_owned(), 1),
            ("a.md", concat!("net/wo", "rk/a and ../wo", "rk/a").to_owned(), 0),
        ];
        for (path, text, expected) in rows {
            assert_eq!(machine_paths(&source(path, &text)).len(), expected, "{text}");
        }
    }

    #[test]
    fn blocks_of_rust_are_told_from_others() {
        assert_eq!(rust_blocks("a\n```rust\nfn f() {}\n```\n```sh\nls\n```\n"), ["fn f() {}\n"]);
        assert_eq!(
            doc_blocks("//! a\n//! ```no_run\n//! fn f() {}\n//!\n//! ```\nfn g() {}"),
            ["fn f() {}\n\n"]
        );
    }
}
