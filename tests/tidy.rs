//! Rules about the sources themselves: layers, size, unsafe code, what is named where, links.
//!
//! Each rule is a function from texts to faults. One test runs it over the tree, another shows on bad samples
//! that it can fail. Does not judge formatting or what the compiler's and clippy's lints see already.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/seam.rs"]
mod seam;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Source;

/// Folders that hold nothing of ours.
const FOREIGN_FOLDERS: &[&str] = &["target", "node_modules", "artifacts", "corpus", "__pycache__"];

/// Files that people or tools of the project read and write as text.
const TEXT_EXTENSIONS: &[&str] =
    &["", "rs", "md", "toml", "sh", "js", "mjs", "py", "html", "css", "conf", "txt", "yml", "yaml", "json"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project with one of these extensions; an empty one stands for none.
fn sources(extensions: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.retain(|path| match path.extension() {
        Some(extension) => extensions.iter().any(|wanted| extension == *wanted),
        None => extensions.contains(&""),
    });
    paths.sort();
    assert!(paths.len() > 10, "the tree was not found at {}", root().display());
    paths.iter().map(|path| read(path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project can be listed") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = name == ".ci" || !(name.starts_with('.') || FOREIGN_FOLDERS.contains(&name.as_str()));
        if path.is_symlink() || !is_ours {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let bytes = fs::read(path).expect("a file of the project can be read");
    let shown = path.strip_prefix(root()).expect("it lies below the root");
    Source { path: shown.to_string_lossy().into_owned(), text: String::from_utf8_lossy(&bytes).into_owned() }
}

fn read_named(path: &str) -> Source {
    read(&root().join(path))
}

/// Fails with every fault of every file, so that one run shows them all.
fn assert_clean(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let faults: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn imports_point_down() {
    let exports = rules::exports(&read_named("src/lib.rs").text);
    assert!(exports.len() > 10, "the exports of lib.rs were not understood: {exports:?}");
    assert_clean(&sources(&["rs"]), |source| rules::layers(source, &exports));
}

#[test]
fn a_shard_is_reached_by_its_seam_only() {
    assert_clean(&sources(&["rs"]), seam::seam);
}

#[test]
fn floors_of_the_shard_know_those_below() {
    assert_clean(&sources(&["rs"]), floors::floors);
}

#[test]
fn user_code_is_called_in_one_place() {
    assert_clean(&sources(&["rs"]), floors::user_code);
}

#[test]
fn imports_make_no_circle() {
    let mut files = sources(&["rs"]);
    files.retain(|source| source.path.starts_with("src/") && !source.path.starts_with("src/bin/"));
    let circles = floors::circles(&files);
    let faults: Vec<_> = circles.into_iter().filter(|circle| !floors::is_allowed(circle)).collect();
    assert!(faults.is_empty(), "files that need each other to be understood: {faults:#?}");
}

#[test]
fn simulation_and_vectors_are_built_for_tests_only() {
    assert_clean(&sources(&["rs"]), rules::test_modules);
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    assert_clean(&sources(&["rs"]), rules::shape);
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    assert_clean(&sources(&["rs"]), rules::unsafe_blocks);
}

#[test]
fn nothing_is_left_undone() {
    assert_clean(&sources(&["rs"]), rules::undone);
}

#[test]
fn layers_below_the_driver_do_not_name_the_system() {
    assert_clean(&sources(&["rs"]), rules::system);
}

#[test]
fn no_line_of_the_log_shows_a_secret() {
    assert_clean(&sources(&["rs"]), rules::secrets_logged);
}

/// Every field of the configuration.
fn settings() -> Vec<String> {
    let mut fields = rules::fields(&read_named("src/config/mod.rs").text, "Config");
    fields.extend(rules::fields(&read_named("src/config/engine.rs").text, "EngineOptions"));
    fields
}

#[test]
fn tuning_names_every_field_and_every_limit() {
    let tuning = read_named("tuning.md").text;
    let fields = settings();
    assert!(fields.len() > 30, "the fields of Config were not understood: {fields:?}");
    let mut limits = rules::constants(&read_named("src/base/limits.rs").text);
    assert!(!limits.is_empty(), "no limit was found");
    limits.extend(sources(&["rs"]).iter().flat_map(rules::bounds));
    limits.sort();
    limits.dedup();
    assert!(limits.len() > 60, "the bounds of the sources were not understood: {limits:?}");
    let faults = rules::unnamed(&tuning, fields.iter().chain(&limits));
    assert!(faults.is_empty(), "not in tuning.md (a bound has a row in its section Constants): {faults:?}");
}

#[test]
fn every_constant_of_the_tuning_page_is_in_the_sources() {
    let named = rules::constants_shown(&read_named("tuning.md").text);
    assert!(named.len() > 60, "the tables were not understood: {named:?}");
    let sources = sources(&["rs"]);
    let is_there = |name: &String| {
        let declared = format!("const {name}:");
        sources.iter().any(|source| source.path.starts_with("src/") && source.text.contains(&declared))
    };
    let gone: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty(), "tuning.md names what is gone: {gone:?}");
}

#[test]
fn links_lead_somewhere() {
    assert_clean(&sources(&["md"]), |source| rules::links(source, |path| root().join(path).exists()));
    let for_rustdoc = read_named("docs/rustdoc-links.md").text;
    let pages = sources(&["md"]);
    assert_clean(&pages, |source| rules::references(source, &for_rustdoc, |path| root().join(path).exists()));
    let front = read_named("src/lib.rs").text;
    let is_included = |page: &Source| front.contains(&format!("include_str!(\"../{}\")", page.path));
    let included: Vec<Source> = pages.into_iter().filter(is_included).collect();
    assert!(included.len() > 20, "the guides are included");
    assert_clean(&included, rules::links_in_rustdoc);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    assert_clean(&sources(TEXT_EXTENSIONS), rules::machine_paths);
}

#[test]
fn the_readme_shows_the_server_that_the_doctests_check() {
    let readme = rules::rust_blocks(&read_named("README.md").text);
    let checked = rules::doc_blocks(&read_named("src/lib.rs").text);
    let first = readme.first().expect("README.md has a block of Rust");
    assert!(checked.contains(first), "README.md:\n{first}\nsrc/lib.rs:\n{}", checked.join("\n"));
}

#[test]
fn the_first_steps_show_an_example_that_is_built() {
    let page = read_named("docs/first-steps.md").text;
    let example = read_named("examples/first_steps/main.rs").text;
    let shown = rules::rust_blocks(&page);
    assert!(shown.first().is_some_and(|block| example.ends_with(block)), "they differ:\n{shown:?}");
    assert!(page.contains(&read_named("examples/first_steps/index.html").text), "the pages differ");
}

#[test]
fn every_log_line_of_the_troubleshooting_page_is_in_the_sources() {
    let page = read_named("docs/troubleshooting.md").text;
    let lines = rules::first_column(&page, "## Log lines");
    assert!(lines.len() > 25, "the table was not understood: {lines:?}");
    let sources: Vec<String> =
        sources(&["rs"]).iter().map(|source| rules::joined_literals(&source.text)).collect();
    let is_there = |part: &str| sources.iter().any(|text| text.contains(part));
    let missing: Vec<_> =
        lines.iter().filter(|line| !line.split("..").map(str::trim).all(is_there)).collect();
    assert!(missing.is_empty(), "not said by any source: {missing:?}");
}

/// Branches that both add to a list may leave it with a part twice when they are merged.
#[test]
fn no_page_has_a_section_or_a_row_twice() {
    for name in ["ARCHITECTURE.md", "CHANGELOG.md", "tuning.md"] {
        let page = read_named(name).text;
        let mut doubled = Vec::new();
        for section in page.split("\n## ") {
            let starts = section.lines().filter(|line| line.starts_with(['#', '-', '|']));
            let mut starts: Vec<_> = starts.map(|line| line.split(" | ").next().unwrap_or(line)).collect();
            starts.retain(|start| {
                !start.starts_with("|---")
                    && !start.starts_with("| field")
                    && !start.starts_with("| constant")
                    && *start != "| part"
            });
            starts.sort_unstable();
            doubled
                .extend(starts.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned()));
        }
        assert!(doubled.is_empty(), "{name} has twice: {doubled:#?}");
    }
}

#[test]
fn the_architecture_names_every_crate_and_no_other() {
    let manifest = read_named("Cargo.toml").text;
    let mut crates = rules::dependencies(&manifest);
    assert!(crates.len() > 30, "Cargo.toml was not understood: {crates:?}");
    let mut named = rules::first_cells(&read_named("ARCHITECTURE.md").text, "## What we stand on");
    // What the tests need as well as the program is in the manifest twice.
    crates.sort_unstable();
    crates.dedup();
    named.sort_unstable();
    assert_eq!(named, crates, "left: \"What we stand on\" in ARCHITECTURE.md, right: Cargo.toml");
}

#[test]
fn every_test_that_the_architecture_names_is_there() {
    let sources = sources(&["rs"]);
    let fields = settings();
    let is_test = |name: &str| sources.iter().any(|source| source.text.contains(&format!("fn {name}(")));
    let is_there = |name: &str| fields.iter().any(|field| field == name) || is_test(name);
    let page = read_named("ARCHITECTURE.md").text;
    let missing = rules::named_tests(&page, is_there);
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that are not there: {missing:?}");
}
