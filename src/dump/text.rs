//! Bytes, keys and times as text, the same way everywhere.

use std::fmt::Write;

use crate::id::PART;

/// True for what must not reach a terminal as it is: control characters, and those that end a line or turn its direction.
#[must_use]
pub fn is_unprintable(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || matches!(character, '\u{2028}' | '\u{2029}') || character.is_control()
}

/// Text on one line: itself if all of it can be printed, else [`escaped`].
#[must_use]
pub fn one_line(text: &str) -> String {
    if text.chars().any(is_unprintable) { escaped(text, false) } else { text.to_owned() }
}

/// A key as text: itself if it is UTF-8 without [unprintable](is_unprintable) characters, else `hex:…`.
///
/// A key that begins with `hex:` itself is written in hexadecimal, so that
/// [`key_bytes`] gives back every key.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with("hex:") && !text.chars().any(is_unprintable) => text.to_owned(),
        _ => format!("hex:{}", hex(key)),
    }
}

/// The bytes of a key in either form of [`key_text`]; `None` for bad hexadecimal.
#[must_use]
pub fn key_bytes(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("hex:") {
        None => Some(text.as_bytes().to_vec()),
        Some(digits) => {
            let digit = |character: char| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let digits = digits.chars().map(digit).collect::<Option<Vec<u8>>>()?;
            let pairs = digits.chunks(2).map(|pair| match pair {
                [high, low] => Some(high << 4 | low),
                _ => None,
            });
            pairs.collect()
        }
    }
}

/// The number of a segment as text, as places have it: `12`, or `part-3` for a part.
#[must_use]
pub fn segment_text(number: u32) -> String {
    let part = if number & PART == 0 { "" } else { "part-" };
    format!("{part}{}", number & !PART)
}

/// The number in either form of [`segment_text`]; `None` for what is neither.
#[must_use]
pub fn segment_number(text: &str) -> Option<u32> {
    let (part, digits) = match text.strip_prefix("part-") {
        Some(digits) => (PART, digits),
        None => (0, text),
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u32> = digits.parse().ok().filter(|number| is_number && *number < PART);
    number.map(|number| number | part)
}

/// Text on one line: [unprintable](is_unprintable) characters and backslashes escaped, and quotes where asked.
#[must_use]
pub fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' if quotes => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unprintable(character) => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| {
        let _ = write!(out, "{byte:02x}");
    });
    out
}

/// Bytes in base64, with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Nanoseconds since 1970 as RFC 3339 in UTC, with nine digits of the second.
#[must_use]
pub fn rfc3339(nanoseconds: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400;
    let (seconds, fraction) = (nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let numbers = [year, month, day, hour, minute, second % 60, fraction];
    let places = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..29];
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    // Every line of every entry has one, and `format!` is slow for it.
    for (place, mut number) in places.into_iter().zip(numbers) {
        for digit in text.get_mut(place).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }
    std::str::from_utf8(&text).unwrap_or_default().to_owned()
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Counted in years that begin in March, so that the day that comes and goes is the last one,
/// and in eras of 400 years, which all have the same number of days.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    const MARCH_YEAR_0: i64 = 719_468;
    let days = days + MARCH_YEAR_0;
    let (era, of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The bytes of base64 with padding, as [`base64`] writes it; `None` for anything else, so that two
/// texts never stand for the same bytes.
#[must_use]
pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=');
    let (padding, rest) = (text.len() - digits.len(), digits.len() % 4);
    if rest == 1 || padding != (4 - rest) % 4 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.as_bytes().chunks(4) {
        let bits = group.iter().try_fold(0u32, |bits, byte| Some(bits << 6 | u32::from(digit(byte)?)))?;
        let word = (bits << (6 * (4 - group.len()))).to_le_bytes();
        let (kept, left) = (word.iter().rev().skip(1), group.len() - 1);
        // Bits that no byte takes are zero.
        if kept.clone().skip(left).any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend(kept.take(left));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_from_its_text() {
        for key in
            [&b"a"[..], b"with space/and slash", "z\u{fc}rich".as_bytes(), b"hex:00", b"\x00\xff", b"a\nb"]
        {
            assert_eq!(key_bytes(&key_text(key)).as_deref(), Some(key), "{key:?}");
        }
        assert_eq!(key_text(b"\x00\xff"), "hex:00ff");
        assert_eq!((key_bytes("hex:0"), key_bytes("hex:zz")), (None, None));
    }

    #[test]
    fn every_segment_and_part_comes_back_from_its_text() {
        for (number, text) in [(1, "1"), (PART | 3, "part-3"), (PART - 1, "2147483647")] {
            assert_eq!((segment_text(number), segment_number(text)), (text.to_owned(), Some(number)));
        }
        for wrong in ["", "part-", "part-x", "+1", "-1", "2147483651", "part-2147483651", "x"] {
            assert_eq!(segment_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_pads_like_everybody_else() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn base64_comes_back_and_no_other_text_does() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(91) ^ 0xa5).collect();
            assert_eq!(base64_bytes(&base64(&bytes)), Some(bytes));
        }
        for wrong in [
            "A", "AA", "AA=", "AAA", "AA===", "=", "====", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "Zg==Zg==",
            "-_8=", "ü===",
        ] {
            assert_eq!(base64_bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_are_right_on_both_sides_of_1970_and_on_leap_days() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199_000_000_007, "2024-02-29T23:59:59.000000007Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(rfc3339(nanoseconds), text);
        }
    }
}
