//! A request that opened a session, as Node describes it to others: headers and query as objects, times as JavaScript writes them.

use std::borrow::Cow;

use crate::protocol::http::date::civil_date;
use crate::protocol::http::query;

/// Headers of which Node takes the first and leaves others of the same name; of the rest it joins all values.
const SINGLE_HEADERS: [&str; 17] = [
    "age",
    "authorization",
    "content-length",
    "content-type",
    "etag",
    "expires",
    "from",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "proxy-authorization",
    "referer",
    "retry-after",
    "user-agent",
];

const MILLIS_A_DAY: u64 = 86_400_000;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The latest time that is written: the year 9999 ends then.
const LAST_ISSUED_MILLIS: u64 = 253_402_300_799_999;

/// The headers as Node has them: each name once, in small letters.
pub(crate) fn headers_of(request: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut headers: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    // A line that begins with `=` has a value's raw bytes.
    let lines = request.split('\n').skip(1).take_while(|line| !line.starts_with('='));
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = name.to_ascii_lowercase();
        match headers.iter_mut().find(|(other, _)| *other == name) {
            None => headers.push((name.into(), value.into())),
            Some(_) if SINGLE_HEADERS.contains(&&*name) => {}
            Some((_, values)) => {
                let values = values.to_mut();
                values.push_str(if name == "cookie" { "; " } else { ", " });
                values.push_str(value);
            }
        }
    }
    headers
}

/// The parameters of the query: of a repeated one the last, at the place of the first.
pub(crate) fn query_of(url: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    for (name, value) in query::pairs(url.split_once('?').map_or("", |(_, query)| query)) {
        match pairs.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => pairs.push((name, value)),
        }
    }
    pairs
}

/// As `new Date(millis).toString()` writes it where the time zone is UTC.
pub(crate) fn time_text(unix_millis: u64) -> String {
    let millis = unix_millis.min(LAST_ISSUED_MILLIS);
    let (days, time) = (millis / MILLIS_A_DAY, millis % MILLIS_A_DAY / 1000);
    let (year, month, day) = civil_date(days);
    let weekday = WEEKDAYS.get((days % 7) as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!(
        "{weekday} {month} {day:02} {year:04} {hour:02}:{minute:02}:{second:02} GMT+0000 (Coordinated Universal Time)"
    )
}

/// As JSON has a date of JavaScript: `2026-11-28T11:33:34.138Z`.
pub(crate) fn iso_text(unix_millis: u64) -> String {
    let millis = unix_millis.min(LAST_ISSUED_MILLIS);
    let (days, time) = (millis / MILLIS_A_DAY, millis % MILLIS_A_DAY);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_javascript_writes_them() {
        for (millis, expected) in [
            (0, "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)"),
            (951_782_399_999, "Mon Feb 28 2000 23:59:59 GMT+0000 (Coordinated Universal Time)"),
            (951_782_400_000, "Tue Feb 29 2000 00:00:00 GMT+0000 (Coordinated Universal Time)"),
            (u64::MAX, "Fri Dec 31 9999 23:59:59 GMT+0000 (Coordinated Universal Time)"),
        ] {
            assert_eq!(time_text(millis), expected);
        }
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_865_614_138, "2026-11-28T11:33:34.138Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_text(millis), expected);
        }
    }
}
