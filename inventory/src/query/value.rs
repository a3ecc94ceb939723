//! Values by kind: sizes with units, times.

use super::fields::Kind;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::time::Duration;

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// In small letters.
    Text(String),
    Span(Span),
    /// So long ago.
    Ago(Duration),
}

/// A number that was written with so many digits: what is beside `at` is smaller or larger, and what is in `near` is equal.
/// Both begin where the first says, and end before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub at: (i64, i64),
    pub near: (i64, i64),
}

impl Span {
    fn exact(from: i64, to: i64) -> Self {
        Self {
            at: (from, to),
            near: (from, to),
        }
    }
}

/// Reads a value of a field of this kind.
///
/// # Errors
/// A sentence that says what was read and what is understood.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text => Ok(Value::Text(text.to_ascii_lowercase())),
        Kind::Words(words) => {
            let word = text.to_ascii_lowercase();
            if word.is_empty() || words.contains(&word.as_str()) {
                return Ok(Value::Text(word));
            }
            Err(format!("{text:?} is none of {}", words.join(", ")))
        }
        Kind::Number => {
            let number: u32 = text
                .parse()
                .map_err(|_| format!("{text:?} is not a number"))?;
            let number = i64::from(number);
            Ok(Value::Span(Span::exact(number, number + 1)))
        }
        Kind::Size => size(text).map(Value::Span).ok_or_else(|| {
            format!("{text:?} is not a size: write a number and a unit, as in 8GiB, 500GB or 1.8TB")
        }),
        Kind::Time => time(text).ok_or_else(|| {
            format!("{text:?} is not a time: write 30d, 12h, 2026-03-01 or 2026-03-01T12:00:00Z")
        }),
    }
}

/// `500GB` equals what is 500 GB when it is rounded: disks have a few bytes more.
fn size(text: &str) -> Option<Span> {
    const MOST_DIGITS: usize = 6;
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: i64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > MOST_DIGITS || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let tens = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    let exact = i128::from(digits) * i128::from(unit) / i128::from(tens);
    let exact = i64::try_from(exact)
        .ok()
        .filter(|exact| *exact < i64::MAX / 2)?;
    let half = unit / tens / 2;
    let near = if half == 0 {
        (exact, exact + 1)
    } else {
        (exact - half, exact + half)
    };
    Some(Span {
        at: (exact, exact + 1),
        near,
    })
}

fn time(text: &str) -> Option<Value> {
    if let Some(ago) = ago(text) {
        return Some(Value::Ago(ago));
    }
    let second = |time: DateTime| {
        let zoned = time.to_zoned(TimeZone::UTC).ok()?;
        Some(zoned.timestamp().as_second())
    };
    // Without an offset it is UTC, as everywhere in the server's files.
    if !text.contains([':', 'T', 't', ' '])
        && let Ok(day) = text.parse::<Date>()
    {
        let end = second(day.tomorrow().ok()?.at(0, 0, 0, 0))?;
        return Some(Value::Span(Span::exact(second(day.at(0, 0, 0, 0))?, end)));
    }
    let from = match text.parse::<Timestamp>() {
        Ok(time) => time.as_second(),
        Err(_) => second(text.parse().ok()?)?,
    };
    Some(Value::Span(Span::exact(from, from + 1)))
}

/// `90s`, `5m`, `12h`, `30d`, `2w`.
fn ago(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let seconds = match &text[end..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_equals_what_is_rounded_to_it() {
        let near = |text: &str| size(text).unwrap().near;
        let has = |text: &str, bytes: i64| (near(text).0..near(text).1).contains(&bytes);
        assert!(has("500GB", 500_107_862_016));
        assert!(!has("500GB", 512_110_190_592));
        assert!(has("1.8TB", 1_800_360_124_416));
        // What the kernel has of 8 GiB.
        assert!(has("8GiB", 8_234_000_000));
        assert!(has("4096", 4096) && !has("4096", 4097));
        assert_eq!(size("8GiB").unwrap().at, (8 << 30, (8 << 30) + 1));
        for wrong in [
            "",
            "GiB",
            "1.GB",
            ".",
            "8 giga",
            "-1",
            "1.1234567GB",
            "99999999TiB",
            "1e3",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_day_is_all_of_it() {
        let Some(Value::Span(day)) = time("2026-03-01") else {
            panic!("no day");
        };
        assert_eq!(day.at.1 - day.at.0, 86_400);
        assert_eq!(
            time("30d"),
            Some(Value::Ago(Duration::from_secs(30 * 86_400)))
        );
        assert_eq!(
            time("2026-03-01T00:00:00Z"),
            time("2026-03-01T01:00:00+01:00")
        );
        for wrong in [
            "30",
            "d",
            "yesterday",
            "2026-13-01",
            "30 d",
            "99999999999999999999d",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
