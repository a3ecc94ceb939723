//! Runs of machines that do not report: what the last line of their log on the share says of them.

use super::summary::{Run, Summary, seconds};
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_protocol::event::Verdict;
use pitstop_protocol::id::Id;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// In each machine's folder.
const LOG: &str = "maintenance.log";
const PACES: &str = "last-run.toml";
/// The end of a log that is read: a result is one line.
const TAIL: u64 = 64 << 10;
/// What is larger is no such file.
const MOST_PACES: u64 = 64 << 10;
/// A result and the note of how long it took are of one run if they are no farther apart, in seconds.
const APART: i64 = 300;
const RESULT: &str = "pitstop: result ";

/// The last run of each machine that has a folder on the share, except those that `known` has: they reported it.
pub fn from_logs(share: &Dir, known: &[Run]) -> Vec<Run> {
    let mut runs = all_from_logs(share);
    runs.retain(|told| !known.iter().any(|run| is_reported(run, told)));
    runs
}

/// The last run of each machine that has a folder on the share, the newest first.
pub fn all_from_logs(share: &Dir) -> Vec<Run> {
    let Ok(entries) = share.entries() else {
        return Vec::new();
    };
    let mut runs = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // A folder without such a log is an image's alone.
        runs.extend(last_of_log(share, &name));
    }
    runs.sort_by(|a, b| b.summary.run.cmp(&a.summary.run));
    runs
}

/// Whether `run` is the one that a log tells of, or a later one of the same machine.
pub fn is_reported(run: &Run, told: &Run) -> bool {
    let end = |run: &Run| -> Option<Timestamp> {
        let end = run.summary.ended.as_deref().unwrap_or(&run.summary.began);
        end.parse().ok()
    };
    let (Some(theirs), Some(ended)) = (end(run), end(told)) else {
        return false;
    };
    run.summary.is_of(&told.summary.address) && ended.as_second() - theirs.as_second() <= APART
}

/// The last run that the log of `machine` on the share tells of.
pub fn last_of_log(share: &Dir, machine: &str) -> Option<Run> {
    last_of(share, machine).map(Run::ended)
}

fn last_of(share: &Dir, machine: &str) -> Option<Summary> {
    let mut log = share.open(format!("{machine}/{LOG}")).ok()?;
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    log.take(TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let (ended, mut summary) = tail.lines().rev().find_map(|line| result(machine, line))?;
    let paces = share.open(format!("{machine}/{PACES}")).ok();
    let mut text = String::new();
    if paces.is_some_and(|file| file.take(MOST_PACES).read_to_string(&mut text).is_ok()) {
        add_pace(&mut summary, ended, &text);
    }
    Some(summary)
}

/// `2026-11-20T12:00:00+00:00: 10.0.2.15: info: pitstop: result ok backup`
fn result(machine: &str, line: &str) -> Option<(Timestamp, Summary)> {
    let (before, result) = line.split_once(RESULT)?;
    let (time, _) = before.split_once(": ")?;
    let time: Timestamp = time.parse().ok()?;
    let (verdict, rest) = result.split_once(' ')?;
    let (verdict, action, reason) = match verdict {
        "ok" => (Verdict::Ok, rest, ""),
        "failed" => {
            let (action, reason) = rest.split_once(": ")?;
            (Verdict::Failed, action, reason)
        }
        _ => return None,
    };
    let hash = blake3::hash(machine.as_bytes());
    let tail = hash
        .as_bytes()
        .first_chunk()
        .map_or(0, |tail| u32::from_le_bytes(*tail));
    let mut summary = Summary::new(Id::new(time, tail), None, None);
    machine.clone_into(&mut summary.address);
    action.clone_into(&mut summary.action);
    reason.clone_into(&mut summary.reason);
    summary.verdict = Some(verdict);
    summary.ended = Some(seconds(time));
    Some((time, summary))
}

/// What `last-run.toml` says of how much it was and how long it took.
fn add_pace(summary: &mut Summary, ended: Timestamp, text: &str) {
    let Ok(table) = text.parse::<toml::Table>() else {
        return;
    };
    for pace in table.values().filter_map(toml::Value::as_table) {
        let finished = pace.get("finished").and_then(toml::Value::as_str);
        let finished: Option<Timestamp> = finished.and_then(|time| time.parse().ok());
        let near = |time: Timestamp| (-1..=APART).contains(&(ended.as_second() - time.as_second()));
        let (Some(bytes), Some(took)) = (
            pace.get("bytes").and_then(toml::Value::as_integer),
            pace.get("seconds").and_then(toml::Value::as_float),
        ) else {
            continue;
        };
        let took = Duration::try_from_secs_f64(took);
        if let (true, Ok(bytes), Ok(took)) =
            (finished.is_some_and(near), u64::try_from(bytes), took)
        {
            summary.bytes = bytes;
            summary.elapsed_ms = pitstop_protocol::event::millis(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;

    #[test]
    fn the_last_result_of_a_log_is_a_run() {
        let root = tempfile::tempdir().unwrap();
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        fs::create_dir(root.path().join("10.0.2.15")).unwrap();
        fs::create_dir(root.path().join("golden")).unwrap();
        let log = "2026-11-20T12:00:00+00:00: 10.0.2.15: error: pitstop: result failed restore: no disk\n\
                   2026-11-20T13:00:00+00:00: 10.0.2.15: info: pitstop: result ok backup\n\
                   2026-11-20T13:00:01+00:00: 10.0.2.15: info: hi\n";
        fs::write(root.path().join("10.0.2.15").join(LOG), log).unwrap();
        let paces = "[backup]\nbytes = 4096\nseconds = 2.5\nfinished = \"2026-11-20T12:59:58Z\"\n\
                     [restore]\nbytes = 1\nseconds = 1.0\nfinished = \"2026-11-19T12:59:58Z\"\n";
        fs::write(root.path().join("10.0.2.15").join(PACES), paces).unwrap();
        let found = from_logs(&share, &[]);
        let [run] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(run.summary.action, "backup");
        assert_eq!(run.summary.ended.as_deref(), Some("2026-11-20T13:00:00Z"));
        assert_eq!((run.summary.bytes, run.summary.elapsed_ms), (4096, 2500));
        // A machine that reported the same run is not there twice; one that stopped reporting since is.
        let mut reported = run.clone();
        reported.summary.ended = Some("2026-11-20T12:59:59Z".into());
        assert_eq!(from_logs(&share, &[reported.clone()]), []);
        reported.summary.ended = Some("2026-11-19T12:59:59Z".into());
        assert_eq!(from_logs(&share, &[reported]).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "\\PC{0,80}", text in "\\PC{0,80}") {
            let _ = result("m", &line);
            let _ = result("m", &format!("2026-11-20T13:00:00Z: m: {RESULT}{line}"));
            if let Some((time, mut summary)) = result("m", "2026-11-20T13:00:00Z: m: info: pitstop: result ok x") {
                add_pace(&mut summary, time, &text);
            }
        }
    }
}
