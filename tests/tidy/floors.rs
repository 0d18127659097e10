//! The rules about the floors of `src/shard`, and about circles of imports anywhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{code_of, paths, words};
use crate::rules::Source;

/// The floors from the bottom up, each with what it is: imports point down.
const FLOORS: &[(&str, &str)] = &[
    ("value", "plain data: it must be possible to read and test it by itself"),
    ("table", "what works on several tables: features, users and flows come and go above it"),
    ("feature", "works on the tables, and is understood without the rest of the shard"),
    ("core", "where features meet: it calls no user code, so it knows no handle and no flow"),
    ("user", "what users hold: it borrows the core for one call, and starts no flow"),
    ("run", "the flows, which may use everything"),
];

/// Floors that only the shard itself names. What others need is in the seam, in `user` or in `value`.
const PRIVATE: &[&str] = &["table", "feature", "core", "run"];

/// The file in which user code is called.
const GUARD: &str = "src/shard/run/guard.rs";

/// Files of a circle anywhere outside `src/shard`, at most: two that describe one thing. Inside it there is none.
const CIRCLE_FILES_MAX: usize = 2;

fn rank(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|(name, _)| *name == floor)
}

/// The floor of a file of the shard, and its module on that floor.
fn place(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.strip_prefix("src/shard/")?.split('/');
    let floor = parts.next()?;
    rank(floor)?;
    Some((floor, parts.next()?.trim_end_matches(".rs")))
}

/// The code that releases have: what comes before the tests of a file. How far a name is visible is no import.
fn released(source: &Source) -> String {
    let code = code_of(&source.text).replace("pub(in crate::shard)", "pub");
    let end = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
    code[..end].to_owned()
}

/// What a path names below `crate::shard`: a floor, and a module of it.
fn named(path: &[String]) -> Option<(&str, &str)> {
    let below = path.strip_prefix(&["crate".to_owned(), "shard".to_owned()][..])?;
    let floor = below.first()?;
    rank(floor)?;
    Some((floor, below.get(1).map_or("", String::as_str)))
}

/// A file of a floor names its own floor and those below; a feature names no other feature; outsiders name what is not private.
pub(crate) fn floors(source: &Source) -> Vec<String> {
    let is_ours = source.path.starts_with("src/") && source.path.ends_with(".rs");
    let is_of_tests = source.path.starts_with("src/simulation/");
    if !is_ours || is_of_tests {
        return Vec::new();
    }
    let own = place(&source.path);
    let is_within = source.path.starts_with("src/shard/");
    let mut faults = Vec::new();
    for (line, path) in paths(&released(source)) {
        let Some((floor, module)) = named(&path) else { continue };
        let shown = path.join("::");
        let fault = match own {
            Some((own_floor, _)) if rank(floor) > rank(own_floor) => {
                let why = FLOORS.iter().find(|(name, _)| *name == own_floor).map_or("", |(_, why)| why);
                format!("{own_floor} may not use {floor}. {own_floor} is {why}")
            }
            Some(("feature", own_module))
                if floor == "feature"
                    && module != own_module
                    && own_module != "mod"
                    && module != "Feature" =>
            {
                "features know no other feature: they meet in core".to_owned()
            }
            None if !is_within && PRIVATE.contains(&floor) => {
                format!("{floor} is the shard's own: the seam, user and value are what others see")
            }
            _ => continue,
        };
        faults.push(format!("{}:{line}: {shown}: {fault}", source.path));
    }
    faults
}

/// User code is called in one place; its closures and the shared core are kept where no table can reach them.
pub(crate) fn user_code(source: &Source) -> Vec<String> {
    let Some((floor, _)) = place(&source.path) else { return Vec::new() };
    let code = released(source);
    let mut faults = Vec::new();
    for (line, word) in words(&code) {
        let fault = match word {
            "guarded" | "catch_unwind" if source.path != GUARD => {
                "user code is called by run/guard.rs only, which asserts that nothing is borrowed"
            }
            "SharedCore" if matches!(floor, "value" | "table" | "feature") => {
                "the shared core is for handles and flows: tables and features are lent what they work on"
            }
            "Fn" if matches!(floor, "table" | "feature" | "core") && is_boxed(&code, line) => {
                "functions of the user's are kept in user/app.rs: tables know them by number"
            }
            _ => continue,
        };
        faults.push(format!("{}:{line}: {word}: {fault}", source.path));
    }
    faults
}

fn is_boxed(code: &str, line: usize) -> bool {
    code.lines().nth(line - 1).is_some_and(|line| line.contains("dyn Fn("))
}

/// Every circle of imports, as sorted lists of files: what each needs to be understood is each of the others.
pub(crate) fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let modules: BTreeMap<String, usize> =
        sources.iter().enumerate().map(|(index, source)| (module_of(&source.path), index)).collect();
    let edges: Vec<BTreeSet<usize>> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| {
            let mut targets: BTreeSet<usize> =
                paths(&released(source)).iter().filter_map(|(_, path)| target(path, &modules)).collect();
            targets.remove(&index);
            targets
        })
        .collect();
    let reach: Vec<BTreeSet<usize>> = (0..sources.len()).map(|from| reachable(from, &edges)).collect();
    let mut found = BTreeSet::new();
    for (from, reached) in reach.iter().enumerate().filter(|(from, reached)| reached.contains(from)) {
        let circle: Vec<String> = reached
            .iter()
            .filter(|&&to| reach[to].contains(&from))
            .map(|&to| sources[to].path.clone())
            .collect();
        found.insert(circle);
    }
    found.into_iter().collect()
}

/// Whether a circle may be.
pub(crate) fn is_allowed(circle: &[String]) -> bool {
    circle.len() <= CIRCLE_FILES_MAX && !circle.iter().any(|path| path.starts_with("src/shard/"))
}

fn module_of(path: &str) -> String {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    module.replace('/', "::")
}

/// The file that a path from the root leads to: the deepest module that it names.
fn target(path: &[String], modules: &BTreeMap<String, usize>) -> Option<usize> {
    let inner = path.strip_prefix(&["crate".to_owned()][..])?;
    (1..=inner.len()).rev().find_map(|len| modules.get(&inner[..len].join("::")).copied())
}

fn reachable(from: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut todo: Vec<usize> = edges[from].iter().copied().collect();
    while let Some(next) = todo.pop() {
        if reached.insert(next) {
            todo.extend(&edges[next]);
        }
    }
    reached
}

#[test]
fn each_rule_of_the_floors_can_fail() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let rows = [
        ("src/shard/value/a.rs", "use crate::shard::value::outbox::Outbox;", 0),
        ("src/shard/value/a.rs", "use crate::shard::table::Tables;", 1),
        ("src/shard/table/a.rs", "use crate::shard::feature::acks::Acks;\nuse crate::shard::core::Core;", 2),
        ("src/shard/table/a.rs", "#[cfg(test)]\nmod tests { use crate::shard::run::Shard; }", 0),
        ("src/shard/feature/a.rs", "use crate::shard::feature::{Feature, b::B};", 1),
        ("src/shard/feature/a/c.rs", "use crate::shard::feature::a::A;", 0),
        ("src/shard/core/a.rs", "use crate::shard::user::socket::Socket;", 1),
        ("src/shard/user/a.rs", "let shard: crate::shard::run::Shard;", 1),
        ("src/shard/run/a.rs", "use crate::shard::user::app::App; use crate::shard::core::Core;", 0),
        ("src/shard/mod.rs", "use crate::shard::run::Shard;", 0),
        ("src/server/a.rs", "use crate::shard::{Shard, user::app::App, value::stats::ShardStats};", 0),
        ("src/server/a.rs", "use crate::shard::{table::Tables, feature::acks::Acks};", 2),
    ];
    for (path, text, expected) in rows {
        let faults = floors(&source(path, text));
        assert_eq!(faults.len(), expected, "{path}: {text}\n{faults:?}");
    }
    let rows = [
        ("src/shard/run/a.rs", "let done = guarded(|| handler());", 1),
        (GUARD, "let done = guarded(|| handler());", 0),
        ("src/shard/feature/a.rs", "fn a(core: &SharedCore) {}", 1),
        ("src/shard/user/a.rs", "fn a(core: &SharedCore, call: Box<dyn Fn()>) {}", 0),
        ("src/shard/table/a.rs", "struct A { call: Box<dyn Fn(&Event)> }", 1),
        ("src/shard/table/a.rs", "fn a(is_live: impl Fn(Key) -> bool) {}", 0),
    ];
    for (path, text, expected) in rows {
        let faults = user_code(&source(path, text));
        assert_eq!(faults.len(), expected, "{path}: {text}\n{faults:?}");
    }
    let three = [
        source("src/a.rs", "use crate::b::{self, d::D};"),
        source("src/b/mod.rs", "use crate::c::C;"),
        source("src/c.rs", "fn c() -> crate::a::A { todo }"),
        source("src/b/d.rs", "use crate::c;"),
        source("src/e.rs", "use crate::a;"),
    ];
    let found = circles(&three);
    assert_eq!(found, [["src/a.rs", "src/b/mod.rs", "src/c.rs", "src/b/d.rs"].map(str::to_owned)]);
    assert!(!is_allowed(&found[0]));
    assert!(is_allowed(&["src/a.rs".to_owned(), "src/b.rs".to_owned()]));
    assert!(!is_allowed(&["src/shard/a.rs".to_owned(), "src/b.rs".to_owned()]));
}
