//! Sizes and times for people: `4.0 GiB`, `2m05s`, and back: `80MiB`, `5m`.

use std::time::Duration;

/// Bytes with a binary unit and one decimal: `512 B`, `4.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut whole = u128::from(count) * 10 / 1024;
    while whole >= 10240 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", whole / 10, whole % 10, UNITS[unit])
}

/// Bytes with the largest binary unit that leaves no fraction, as [`parse_bytes`] reads them: `20GiB`, `512MiB`, `1000`.
pub fn exact(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB")];
    let whole = units
        .into_iter()
        .find(|(bits, _)| count > 0 && count.trailing_zeros() >= *bits);
    whole.map_or_else(
        || count.to_string(),
        |(bits, unit)| format!("{}{unit}", count >> bits),
    )
}

/// A duration as people write it: `7s`, `2m05s`, `1h02m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Reads `300ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds.
///
/// # Errors
/// A sentence that says what was read and what is understood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let wrong =
        || format!("{text:?} is not a duration: write a number and ms, s, m, h or d, as in \"5m\"");
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match text[digits..].trim() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads `4096`, `80MiB`, `80 MB`, `4G`: binary units with `i` or alone, decimal ones with `B` alone.
///
/// # Errors
/// A sentence that says what was read and what is understood.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let wrong = || {
        format!(
            "{text:?} is not a size: write a number and a unit, as in \"80MiB\", \"4G\" or \"4096\""
        )
    };
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_one_decimal() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(4 << 30), "4.0 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn exact_sizes_read_back() {
        for (count, text) in [
            (20 << 30, "20GiB"),
            (1536 << 20, "1536MiB"),
            (1000, "1000"),
            (0, "0"),
        ] {
            assert_eq!(exact(count), text);
            assert_eq!(parse_bytes(text), Ok(count));
        }
    }

    #[test]
    fn durations_read_back() {
        assert_eq!(duration(Duration::from_secs(125)), "2m05s");
        assert_eq!(duration(Duration::from_secs(3720)), "1h02m");
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "m", "-1s", "5 fortnights", "99999999999999999999d"] {
            assert!(
                parse_duration(wrong)
                    .unwrap_err()
                    .contains("is not a duration"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn sizes_read_binary_and_decimal_units() {
        assert_eq!(parse_bytes("80MiB"), Ok(80 << 20));
        assert_eq!(parse_bytes("80 MB"), Ok(80_000_000));
        assert_eq!(parse_bytes("4G"), Ok(4 << 30));
        for wrong in ["", "G", "4X", "99999999999T"] {
            assert!(
                parse_bytes(wrong).unwrap_err().contains("is not a size"),
                "{wrong}"
            );
        }
    }
}
