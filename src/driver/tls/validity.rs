//! Until when a certificate is valid (RFC 5280 §4.1.2.5), read from its DER encoding. It judges nothing else.

use crate::protocol::http::date::{
    DAYS_AN_ERA, DAYS_FROM_MARCH_OF_YEAR_0_TO_1970, SECONDS_A_DAY, civil_date,
};

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity, in seconds since 1970; `None` if it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    if let (EXPLICIT_VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, signature's algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let digits = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match (tag, digits.len()) {
        // Two digits of the year: those from 50 on are of the last century.
        (UTC_TIME, 12) => {
            seconds_of(number + if number >= 500_000_000_000 { 19 } else { 20 } * 1_000_000_000_000)
        }
        (GENERALIZED_TIME, 14) => seconds_of(number),
        _ => None,
    }
}

/// Seconds since 1970 of a moment in digits, `20261129063000`; what was before 1970 is 0.
fn seconds_of(digits: u64) -> Option<u64> {
    let part = |divisor: u64| digits / divisor % 100;
    let (hour, minute, second) = (part(10_000), part(100), part(1));
    let days = days_since_1970(digits / 10_000_000_000, part(100_000_000), part(1_000_000))?;
    let is_time = hour < 24 && minute < 60 && second <= 60;
    is_time.then(|| days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second)
}

/// The other way round than [`civil_date`], and as there.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year.checked_sub(u64::from(month <= 2))?;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((year / 400 * DAYS_AN_ERA + day_of_era).saturating_sub(DAYS_FROM_MARCH_OF_YEAR_0_TO_1970))
}

/// A moment as people write it.
pub(super) fn shown(unix_seconds: u64) -> String {
    let (year, month, day) = civil_date(unix_seconds / SECONDS_A_DAY);
    let minute = unix_seconds % SECONDS_A_DAY / 60;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

/// The first element: its tag, its content, and what follows it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_seconds_are_the_same_moment() {
        for (seconds, digits, text) in [
            (0, 19_700_101_000_000, "1970-01-01 00:00 UTC"),
            (951_782_400, 20_000_229_000_000, "2000-02-29 00:00 UTC"),
            (1_795_933_859, 20_261_129_063_059, "2026-11-29 06:30 UTC"),
        ] {
            assert_eq!((shown(seconds).as_str(), seconds_of(digits)), (text, Some(seconds)));
        }
        for days in 0..366 * 500 {
            let (year, month, day) = civil_date(days);
            assert_eq!(days_since_1970(year, month, day), Some(days));
        }
        assert_eq!(seconds_of(19_500_101_000_000), Some(0), "before 1970");
        for wrong in [
            20_261_329_000_000,
            20_260_029_000_000,
            20_261_100_000_000,
            20_261_129_240_000,
            20_261_129_006_000,
        ] {
            assert_eq!(seconds_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_end_is_read_from_both_forms_and_from_nothing_else() {
        let of = |tag: u8, text: &str| {
            let time = [&[tag, text.len() as u8][..], text.as_bytes()].concat();
            let validity = [&[UTC_TIME, 0][..], &time].concat();
            let mut fields = vec![EXPLICIT_VERSION, 1, 2, 2, 0, SEQUENCE, 0, SEQUENCE, 0, SEQUENCE];
            fields.push(validity.len() as u8);
            fields.extend(validity);
            let inner = [&[SEQUENCE, 0x81, fields.len() as u8][..], &fields].concat();
            [&[SEQUENCE, inner.len() as u8][..], &inner].concat()
        };
        for (tag, text, expected) in [
            (UTC_TIME, "261129063059Z", Some(1_795_933_859)),
            (UTC_TIME, "991231235959Z", Some(946_684_799)),
            (GENERALIZED_TIME, "20501231235959Z", Some(2_556_143_999)),
            (GENERALIZED_TIME, "501231235959Z", None),
            (UTC_TIME, "26112906305Z", None),
            (UTC_TIME, "+61129063059Z", None),
            (UTC_TIME, "261129063059", None),
            (0x0c, "261129063059Z", None),
        ] {
            let certificate = of(tag, text);
            assert_eq!(not_after(&certificate), expected, "{text}");
            for cut in 0..certificate.len() {
                assert_eq!(not_after(&certificate[..cut]), None);
            }
        }
    }
}
