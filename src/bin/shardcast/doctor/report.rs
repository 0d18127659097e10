//! Findings as people read them, or as JSON.

use std::io::{IsTerminal, Write};

use super::place::Place;
use super::verdicts::{Finding, Verdict};

/// Columns of a part's name.
const PART_WIDTH: usize = 15;

/// What is looked at now, where somebody watches: a part may take as long as its patience.
pub(super) fn progress(part: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[Klooking at: {part} ..");
    }
}

/// Says it on standard output.
pub(super) fn say(place: &Place, findings: &[Finding], as_json: bool) {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let is_colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = if as_json { json(place, findings) } else { table(place, findings, is_colored) };
    // Whoever reads may have gone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn json(place: &Place, findings: &[Finding]) -> String {
    let url = format!("{}{}", place.origin(), place.path);
    let mut text = serde_json::json!({ "url": url, "findings": findings }).to_string();
    text.push('\n');
    text
}

fn table(place: &Place, findings: &[Finding], is_colored: bool) -> String {
    let mut text = format!("{}{}\n", place.origin(), place.path);
    for Finding { part, verdict, saw, changes } in findings {
        let (word, color) = match verdict {
            Verdict::Well => ("well", 32),
            Verdict::Warning => ("warning", 33),
            Verdict::Fault => ("FAULT", 31),
        };
        let word = format!("{word:<8}");
        let word = if is_colored { format!("\x1b[{color}m{word}\x1b[0m") } else { word };
        text.push_str(&format!("  {word}{part:<PART_WIDTH$} {}\n", printable(saw)));
        for change in changes {
            text.push_str(&format!("          -> {:<12} {}\n", change.whose, printable(&change.line)));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (faults, warnings) = (count(Verdict::Fault), count(Verdict::Warning));
    text.push_str(&match (faults, warnings) {
        (0, 0) => "All is well.\n".to_owned(),
        _ => format!("Faults: {faults}, warnings: {warnings}. Mend the first fault first: later ones often come of it.\n"),
    });
    text
}

/// What servers said cannot move the cursor of whoever reads it.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '.' } else { char }).collect()
}
