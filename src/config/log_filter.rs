//! What `log` means: a level, or levels by target, `info,shardcast::engineio=debug`.
//!
//! Reads and checks; whoever writes the log applies it. A word that means nothing is an error that names the nearest.

use strsim::damerau_levenshtein;
use tracing::level_filters::LevelFilter;

use crate::config::check::nearest_above;

/// The parts of this crate that log lines come from. `shardcast` stands for all of them.
const TARGETS: &[&str] = &[
    "shardcast",
    crate::base::log::SOCKETIO,
    crate::base::log::ENGINEIO,
    crate::base::log::TRACE,
    "shardcast::base",
    "shardcast::protocol",
    "shardcast::mesh",
    "shardcast::shard",
    "shardcast::driver",
    "shardcast::server",
    "shardcast::log",
    "shardcast::testing",
];

const LEVELS: &[(&str, LevelFilter)] = &[
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("off", LevelFilter::OFF),
];

/// What of the log is written, by target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter {
    /// For what no other part says anything about. Nothing, if only targets are named.
    pub(crate) default: LevelFilter,
    pub(crate) targets: Vec<(String, LevelFilter)>,
}

impl LogFilter {
    /// Reads `info`, `info,shardcast::engineio=debug`, `my_app=debug`.
    ///
    /// # Errors
    /// A word that is neither a level nor a target, with the nearest one.
    pub(crate) fn parse(text: &str) -> Result<LogFilter, String> {
        let mut filter = LogFilter { default: LevelFilter::OFF, targets: Vec::new() };
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err("write error, warn, info, debug, trace or off".to_owned());
        }
        for part in parts {
            match part.split_once('=') {
                Some((target, level)) => {
                    let (target, level) = (target.trim(), parse_level(level.trim())?);
                    check_target(target)?;
                    filter.targets.push((target.to_owned(), level));
                }
                None if TARGETS.contains(&part) => {
                    filter.targets.push((part.to_owned(), LevelFilter::TRACE));
                }
                None => filter.default = parse_level(part)?,
            }
        }
        Ok(filter)
    }
}

/// Reads one level.
///
/// # Errors
/// What is none, with the nearest one.
pub(crate) fn parse_level(text: &str) -> Result<LevelFilter, String> {
    let found = LEVELS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    found.map(|(_, level)| *level).ok_or_else(|| {
        let small = text.to_ascii_lowercase();
        let levels = LEVELS.iter().map(|(name, _)| *name);
        let near = nearest_above(0.75, levels.chain(TARGETS.iter().copied()), &small);
        match near {
            Some(near) => format!("{text:?} is no level; did you mean {near}?"),
            None => format!("{text:?} is no level: write error, warn, info, debug, trace or off"),
        }
    })
}

/// Targets of this crate are known, and a name that is not among them is an error. Those of other crates are not known; a name
/// that is one or two letters from ours is taken for a slip.
fn check_target(target: &str) -> Result<(), String> {
    let root = target.split("::").next().unwrap_or_default();
    let is_path = !target.is_empty()
        && target.split("::").all(|name| {
            !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || "_-.".contains(char))
        });
    if !is_path {
        return Err(format!(
            "{target:?} is no target: write the path of a module, such as shardcast::engineio"
        ));
    }
    if TARGETS.contains(&target) {
        return Ok(());
    }
    /// A slip of so many letters.
    const DISTANCE_MAX: usize = 2;
    let is_slip = |known: &&str| {
        let own_name = known.rsplit("::").next().unwrap_or(known);
        damerau_levenshtein(root, own_name) <= DISTANCE_MAX
    };
    let slips_of = ["shardcast", crate::base::log::SOCKETIO, crate::base::log::ENGINEIO];
    let Some(near) = slips_of.iter().find(|known| is_slip(known)) else { return Ok(()) };
    let nearest_of_all = nearest_above(0.9, TARGETS.iter().copied(), target);
    let meant = if root == "shardcast" || target.contains("::") { nearest_of_all } else { None };
    Err(format!("nothing is logged by {target:?}; did you mean {}?", meant.unwrap_or(near)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_read() {
        let rows = [
            ("info", LevelFilter::INFO, vec![]),
            (" WARN ", LevelFilter::WARN, vec![]),
            (
                "info, shardcast::engineio=debug,",
                LevelFilter::INFO,
                vec![("shardcast::engineio", LevelFilter::DEBUG)],
            ),
            ("shardcast", LevelFilter::OFF, vec![("shardcast", LevelFilter::TRACE)]),
            ("my_app::web=trace", LevelFilter::OFF, vec![("my_app::web", LevelFilter::TRACE)]),
            ("shardcast_chat=off", LevelFilter::OFF, vec![("shardcast_chat", LevelFilter::OFF)]),
        ];
        for (text, default, targets) in rows {
            let targets = targets.into_iter().map(|(name, level)| (name.to_owned(), level)).collect();
            assert_eq!(LogFilter::parse(text), Ok(LogFilter { default, targets }), "{text}");
        }
    }

    #[test]
    fn a_word_that_means_nothing_is_named_with_the_nearest() {
        let rows = [
            ("", "write error, warn, info"),
            (",", "write error, warn, info"),
            ("verbose", "\"verbose\" is no level: write error"),
            ("warning", "did you mean warn?"),
            ("inof", "did you mean info?"),
            ("shardcats", "did you mean shardcast?"),
            ("info,shardcast=loud", "\"loud\" is no level"),
            ("info,shardcast=debg", "did you mean debug?"),
            ("info,shardcats=debug", "did you mean shardcast?"),
            ("info,shardcast::enginio=debug", "did you mean shardcast::engineio?"),
            ("info,shardcast::nothing=debug", "nothing is logged by \"shardcast::nothing\"; did you mean"),
            ("info,shardcast:engineio=debug", "is no target"),
            ("engineio=debug", "did you mean shardcast::engineio?"),
            ("socket_io=debug", "did you mean shardcast::socketio?"),
            ("info,=debug", "is no target"),
            ("info,shardcast[span]=debug", "is no target"),
            ("info,shardcast=debug=info", "is no level"),
        ];
        for (text, expected) in rows {
            let fault = LogFilter::parse(text).expect_err(text);
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }
}
