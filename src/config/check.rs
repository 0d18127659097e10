//! How settings are read and judged: lengths of time with their unit, and the messages for whoever set them.

use std::time::Duration;

use serde::Deserialize;

/// The longest time there is: clients count it in milliseconds, in 31 bits. A browser's timer beyond that fires at once.
pub(crate) const TIME_MAX: Duration = Duration::from_millis((1 << 31) - 1);

/// A number without a unit from here on is not believed to be seconds: Node's `pingInterval: 25000` is 25 s.
const BARE_SECONDS_MAX: f64 = 1000.0;

/// The largest number of seconds that HTTP's headers know (RFC 9111 §1.2.2).
const SECONDS_MAX: f64 = ((1_u64 << 31) - 1) as f64;

/// How alike two words must be for one to be meant by the other, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.7;

/// The known word that is most like this one, if one is like it.
pub(crate) fn nearest<'a>(known: impl Iterator<Item = &'a str>, word: &str) -> Option<&'a str> {
    nearest_above(SIMILARITY_MIN, known, word)
}

/// The same, told how alike they must be.
pub(crate) fn nearest_above<'a>(
    similarity_min: f64,
    known: impl Iterator<Item = &'a str>,
    word: &str,
) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::jaro_winkler(word, name), name));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 >= similarity_min).then_some(best.1)
}

pub(crate) fn at_least_a_millisecond(times: &[(&str, Duration)]) -> Result<(), String> {
    match times.iter().find(|(_, time)| *time < Duration::from_millis(1)) {
        Some((name, time)) => Err(format!("{name} = {time:?}: the least is 1ms")),
        None => Ok(()),
    }
}

pub(crate) fn at_least_one(numbers: &[(&str, usize)]) -> Result<(), String> {
    match numbers.iter().find(|(_, number)| *number == 0) {
        Some((name, _)) => Err(format!("{name} = 0: it must be at least 1")),
        None => Ok(()),
    }
}

/// Says which time is longer than timers can count.
pub(crate) fn at_most_the_longest(times: &[(&str, Duration)]) -> Result<(), String> {
    match times.iter().find(|(_, time)| *time > TIME_MAX) {
        Some((name, time)) => Err(format!("{name} = {time:?}: the most is {TIME_MAX:?}, some 24 days")),
        None => Ok(()),
    }
}

/// Reads `25`, `0.3` (seconds, as Flask-SocketIO writes them) or `"300ms"`, `"25s"`, `"2m"`.
pub(crate) fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    read_duration(deserializer, (BARE_SECONDS_MAX, TIME_MAX))
}

/// The same, or `auto`: the server works it out.
pub(crate) fn auto_or_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = serde_json::Value::deserialize(deserializer)?;
    if text == "auto" {
        return Ok(None);
    }
    duration(text).map(Some).map_err(serde::de::Error::custom)
}

/// The same for what is a number of seconds wherever it is written, and may be days.
pub(crate) fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    read_duration(deserializer, (SECONDS_MAX, Duration::from_secs(SECONDS_MAX as u64)))
}

fn read_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    (bare_max, longest): (f64, Duration),
) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }
    let parsed = match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => bare_seconds(seconds, bare_max),
        Written::Text(text) => match text.trim().parse() {
            Ok(seconds) => bare_seconds(seconds, bare_max),
            Err(_) => parse_duration(&text),
        },
    };
    let bounded = parsed.and_then(|time| match time > longest {
        true => Err(format!("the most is {longest:?}, some {} days", longest.as_secs() / 86_400)),
        false => Ok(time),
    });
    bounded.map_err(serde::de::Error::custom)
}

/// A number without a unit. A large one is somebody's milliseconds.
fn bare_seconds(seconds: f64, bare_max: f64) -> Result<Duration, String> {
    if seconds.is_finite() && seconds >= bare_max {
        return Err(format!(
            "a bare number is seconds here, and milliseconds in Node: write \"{seconds}ms\", or \"{seconds}s\" if you mean it"
        ));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads a length of time with its unit; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_at = text.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?}: the unit {unit:?} is not one of us, ms, s, m, h")),
    };
    let seconds: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("{text:?}: write a number and a unit, such as 300ms or 25s"))?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|error| format!("{text:?}: {error}"))
}

pub(crate) fn one_or_many<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    list(deserializer, ',')
}

/// A list, or a text that is one with separators.
pub(crate) fn list<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    separator: char,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(text) => {
            let parts = text.split(separator).map(str::trim).filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        }
        Written::Many(list) => list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_a_unit_or_as_seconds() {
        let rows = [
            ("25", Ok(25_000)),
            ("0.3", Ok(300)),
            ("300ms", Ok(300)),
            ("25s", Ok(25_000)),
            ("2m", Ok(120_000)),
            (" 1.5 s ", Ok(1500)),
            ("10 parsecs", Err(())),
            ("-1s", Err(())),
            ("s", Err(())),
            ("", Err(())),
        ];
        for (text, expected) in rows {
            let millis = parse_duration(text).map(|duration| duration.as_millis()).map_err(|_| ());
            assert_eq!(millis, expected, "{text:?}");
        }
    }
}
