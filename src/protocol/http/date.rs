//! The `Date` header: seconds since 1970 to IMF-fixdate (RFC 9110 §5.6.7).
//!
//! Does not ask what time it is, and does not read dates.

/// How long an IMF-fixdate is: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) const HTTP_DATE_BYTES: usize = 29;

/// The last second that four digits of year can name.
const SECONDS_MAX: u64 = 253_402_300_799;

pub(crate) const SECONDS_A_DAY: u64 = 86_400;

/// The Gregorian calendar repeats itself after 400 years.
pub(crate) const DAYS_AN_ERA: u64 = 146_097;
pub(crate) const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;

const DAY_NAMES: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTH_NAMES: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Writes the date of a Unix time. A time beyond the year 9999 is written as its last second.
pub(crate) fn http_date(unix_seconds: u64, out: &mut [u8; HTTP_DATE_BYTES]) {
    let seconds = unix_seconds.min(SECONDS_MAX);
    let (days, second_of_day) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
    let (year, month, day) = civil_date(days);
    *out = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    out[0..3].copy_from_slice(DAY_NAMES[(days % 7) as usize]);
    write_two_digits(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTH_NAMES[(month - 1) as usize]);
    write_two_digits(&mut out[12..14], year / 100);
    write_two_digits(&mut out[14..16], year % 100);
    write_two_digits(&mut out[17..19], second_of_day / 3600);
    write_two_digits(&mut out[20..22], second_of_day / 60 % 60);
    write_two_digits(&mut out[23..25], second_of_day % 60);
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts years from March, so that the leap day is the last of its year, and in eras of 400 years, which
/// all have the same days.
pub(crate) fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let day_of_era = days % DAYS_AN_ERA;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days / DAYS_AN_ERA * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn write_two_digits(out: &mut [u8], number: u64) {
    out[0] = b'0' + (number / 10 % 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(unix_seconds: u64) -> String {
        let mut out = [0; HTTP_DATE_BYTES];
        http_date(unix_seconds, &mut out);
        String::from_utf8(out.to_vec()).expect("a date is ASCII")
    }

    #[test]
    fn s5_6_7_dates_are_imf_fixdates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_day_before() {
        let length = |year: u64, month| match month {
            4 | 6 | 9 | 11 => 30,
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for days in 0..366 * 500 {
            assert_eq!(civil_date(days), expected);
            let (year, month, day) = expected;
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == length(year, month) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
