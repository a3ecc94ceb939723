//! What ended.

use super::show::{local, text};
use super::which::jobs;
use crate::host::{Root, say};
use anyhow::Context;
use jiff::civil::Date;
use jiff::{Timestamp, Zoned};
use pitstop_api::Ended;
use pitstop_imaging::units;
use pitstop_protocol::host_name::printable;
use pitstop_server::jobs::{Chosen, Store, Which};
use pitstop_server::set::columns;

pub fn print(
    root: &Root,
    which: &[Which],
    since: Option<Timestamp>,
    json: bool,
) -> anyhow::Result<()> {
    // What has ended in the meantime is noted first.
    jobs(root)?;
    let named = Chosen::new(&root.path, which)?;
    let mut entries = Store::at(&root.path).history()?;
    entries.retain(|entry| {
        named.has(&entry.id, &entry.host_file) && since.is_none_or(|since| entry.ended >= since)
    });
    let entries: Vec<Ended> = entries.iter().map(Ended::from).collect();
    print_entries(&entries, json)
}

pub fn print_entries(entries: &[Ended], json: bool) -> anyhow::Result<()> {
    if json {
        let value = serde_json::to_value(entries).context("putting the history into JSON")?;
        return say(&text(&value)?);
    }
    if entries.is_empty() {
        return say("Nothing has ended\n");
    }
    let rows: Vec<[String; 6]> = entries.iter().map(row).collect();
    let head = ["ENDED", "JOB", "MACHINE", "ACTION", "STATE", "WHY"];
    say(&columns(&head, &rows))
}

fn row(entry: &Ended) -> [String; 6] {
    [
        local(entry.ended),
        entry.id.to_string(),
        printable(entry.shown()),
        printable(&entry.action),
        entry.state.to_string(),
        printable(entry.reason.as_deref().unwrap_or_default()),
    ]
}

/// `7d` ago, the beginning of a day, or a time.
pub fn since(word: &str) -> Result<Timestamp, String> {
    let now = Zoned::now();
    let wrong = || format!("{word:?} is not a time: write 7d, 2026-12-01 or \"2026-12-01 22:00\"");
    if let Ok(ago) = units::parse_duration(word) {
        return now.timestamp().checked_sub(ago).map_err(|_| wrong());
    }
    if let Ok(time) = word.parse::<Timestamp>() {
        return Ok(time);
    }
    let local = word
        .parse::<Date>()
        .map(|day| day.at(0, 0, 0, 0))
        .ok()
        .filter(|_| !word.contains(':'))
        .or_else(|| word.parse().ok());
    let local = local.ok_or_else(wrong)?;
    let zoned = local
        .to_zoned(now.time_zone().clone())
        .map_err(|_| wrong())?;
    Ok(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_past_is_said_in_each_way() {
        let now = Timestamp::now();
        let week = now.duration_since(since("7d").unwrap()).as_secs();
        assert!((7 * 86_400 - 5..7 * 86_400 + 5).contains(&week), "{week}");
        let day = since("2026-01-02").unwrap();
        let hour = since("2026-01-02 01:00").unwrap();
        assert_eq!(hour.duration_since(day).as_hours(), 1);
        assert!(since("2026-01-02T01:00:00Z").is_ok());
        assert!(since("last week").unwrap_err().contains("is not a time"));
    }
}
