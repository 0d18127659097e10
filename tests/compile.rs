//! What does not compile, and what the compiler says of it: `tests/compile`.
//!
//! Of the compiler's words only ours are compared, and those of its that make sense of a mistake. For each line of a file that is
//! followed by `//~ text` there is an error at that line, and `text` is in it; there are no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// Each is a crate of its own: the compiler is silent on what is lent while it finds types wrong, and on threads while it finds
/// other types wrong in the same function.
const FILES: [&str; 3] = ["handlers", "lent", "threads"];

/// What the files use, as this test does: `shardcast`, and `serde` with it.
const CRATES: [&str; 2] = ["serde", "shardcast"];

/// Features that this test may have been built with. With the same ones nothing is compiled anew.
const FEATURES: [(&str, bool); 3] = [
    ("default", cfg!(feature = "default")),
    ("cli", cfg!(feature = "cli")),
    ("bench-support", cfg!(feature = "bench-support")),
];

/// How the names of variables begin that are set for each package.
const OF_PACKAGES: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_", "OUT_DIR"];

/// What the compiler says in a file, by line.
type Said = BTreeMap<usize, Vec<String>>;

#[test]
fn mistakes_are_explained_where_they_are_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = libraries(root);
    let mut faults = Vec::new();
    for file in FILES {
        let path = root.join(format!("tests/compile/{file}.rs"));
        let mut said = compile(&path, &libraries);
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            let Some(expected) = line.trim().strip_prefix("//~ ") else { continue };
            match said.remove(&index) {
                Some(errors) if errors.iter().any(|error| error.contains(expected)) => {}
                other => faults.push(format!("{file}.rs:{index}: {expected:?} is not said: {other:#?}")),
            }
        }
        faults
            .extend(said.iter().map(|(line, errors)| format!("{file}.rs:{line}: not expected: {errors:#?}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The crates that this test was linked with. Cargo is asked for them, which has them already.
fn libraries(root: &Path) -> BTreeMap<String, PathBuf> {
    let features: Vec<&str> = FEATURES.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells a test of its package is not for the cargo below: scripts that build dependencies ask for some of it, would
    // see a change, and run again.
    for (name, _) in env::vars_os() {
        if OF_PACKAGES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["test", "--no-run", "--test", "compile", "--offline", "--locked", "--message-format=json"])
        .args(["--no-default-features", "--features", &features.join(",")])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    let mut found = BTreeMap::new();
    for message in messages(&output.stdout) {
        let target = &message["target"];
        let name = target["name"].as_str().unwrap_or_default();
        if message["reason"] == "compiler-artifact" && target["kind"][0] == "lib" && CRATES.contains(&name) {
            let files = message["filenames"].as_array().expect("a library has files");
            let file = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".rlib"));
            let former = found.insert(name.to_owned(), PathBuf::from(file.expect("one is an rlib")));
            assert!(former.is_none(), "which {name}?");
        }
    }
    assert_eq!(found.len(), CRATES.len(), "{}", String::from_utf8_lossy(&output.stderr));
    found
}

/// What the compiler says of a file that has mistakes.
fn compile(path: &Path, libraries: &BTreeMap<String, PathBuf>) -> Said {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=json"]).arg(path);
    rustc.arg("--out-dir").arg(env!("CARGO_TARGET_TMPDIR"));
    for (name, library) in libraries {
        rustc.arg("--extern").arg(format!("{name}={}", library.display()));
        rustc.arg("-L").arg(format!("dependency={}", library.parent().expect("it is in a folder").display()));
    }
    let output = rustc.output().expect("the compiler runs");
    let mut said = Said::new();
    for message in messages(&output.stderr).filter(|message| message["level"] == "error") {
        let spans = message["spans"].as_array().expect("a message has places");
        let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        let line = span["line_start"].as_u64().expect("a place has a line") as usize;
        said.entry(line).or_default().push(words(&message));
    }
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A message with what is said at its places, and its notes; none of the file's own text.
fn words(message: &Value) -> String {
    let mut lines = vec![message["message"].as_str().unwrap_or_default().to_owned()];
    let labels = message["spans"].as_array().into_iter().flatten();
    lines.extend(labels.filter_map(|span| span["label"].as_str()).map(str::to_owned));
    lines.extend(message["children"].as_array().into_iter().flatten().map(words));
    lines.join("\n")
}

/// Lines of JSON; others are left out.
fn messages(output: &[u8]) -> impl Iterator<Item = Value> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}
