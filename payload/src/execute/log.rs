//! The two logs on the share: the machine's own, and the one of all machines.
//!
//! Lines are kept here until they are flushed at the milestones of a run: an append over HTTP costs a
//! read and a write of the whole log.

use anyhow::Context;
use jiff::Timestamp;
use pitstop_imaging::event::{Event, Level, Reporter};
use pitstop_imaging::render::{one_line, sentence};
use pitstop_transport::share::Share;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// In the root of the share, and in each machine's folder.
pub const LOG: &str = "maintenance.log";

/// Lines kept between two flushes: a disk with a million bad sectors must not fill the memory.
const MOST_LINES: usize = 5_000;

/// Passes events on to the consoles and keeps what belongs into the logs.
pub struct RunLog {
    console: Arc<dyn Reporter>,
    /// Names the machine in the shared log.
    address: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    own: Lines,
    shared: Lines,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    dropped: usize,
}

impl Lines {
    fn push(&mut self, line: String) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(line);
        } else {
            self.dropped += 1;
        }
    }

    fn text(&self) -> String {
        let mut text = self.lines.concat();
        if self.dropped > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "({} more lines were not kept)", self.dropped);
        }
        text
    }
}

impl RunLog {
    pub fn new(console: Arc<dyn Reporter>, address: String) -> Self {
        Self {
            console,
            address,
            kept: Mutex::default(),
        }
    }

    /// A line for the log of all machines too: hi, the action, the result.
    pub fn announce(&self, text: &str) {
        self.keep(Level::Info, text, true);
        self.console.info(text.to_owned());
    }

    /// A line for both logs that the consoles get by other means: the result.
    pub fn record(&self, level: Level, text: &str) {
        self.keep(level, text, true);
    }

    /// Writes what was kept to both logs. What could not be written stays kept.
    pub fn flush(&self, share: &dyn Share, folder: &str) -> anyhow::Result<()> {
        let own = self.write(share, &format!("{folder}/{LOG}"), |kept| &mut kept.own);
        let shared = self.write(share, LOG, |kept| &mut kept.shared);
        match (own, shared) {
            (Err(own), Err(shared)) => Err(own.context(format!("{shared:#}; and"))),
            (own, shared) => own.and(shared),
        }
    }

    fn write(
        &self,
        share: &dyn Share,
        path: &str,
        which: fn(&mut Kept) -> &mut Lines,
    ) -> anyhow::Result<()> {
        let taken = std::mem::take(which(&mut self.locked()));
        if taken.lines.is_empty() {
            return Ok(());
        }
        let written = share
            .append(path, &taken.text())
            .with_context(|| format!("adding to the log {path} on {}", share.name()));
        if written.is_err() {
            // Before whatever was said meanwhile.
            let mut kept = self.locked();
            let newer = std::mem::replace(which(&mut kept), taken);
            for line in newer.lines {
                which(&mut kept).push(line);
            }
        }
        written
    }

    fn keep(&self, level: Level, text: &str, for_all: bool) {
        let mut kept = self.locked();
        for line in text.lines().map(one_line_keeping_indent) {
            let line = log_line(&self.address, level, &line);
            if for_all || level >= Level::Error {
                kept.shared.push(line.clone());
            }
            kept.own.push(line);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for RunLog {
    fn event(&self, event: &Event) {
        if let Some((level, text)) = sentence(event)
            && level > Level::Debug
        {
            self.keep(level, &text, false);
        }
        self.console.event(event);
    }
}

/// `2026-11-20T12:00:00+00:00: 10.0.2.15: info: …`, as VirtualBox's script writes it.
pub fn log_line(address: &str, level: Level, text: &str) -> String {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+00:00");
    format!("{now}: {address}: {}: {text}\n", level.word())
}

fn one_line_keeping_indent(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    format!("{}{}", &line[..indent], one_line(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;
    use pitstop_transport::share::DirectoryShare;
    use std::fs;

    fn log() -> RunLog {
        RunLog::new(Arc::new(Silent), "10.0.2.15".into())
    }

    #[test]
    fn lines_look_like_virtualboxs() {
        let line = log_line("10.0.2.15", Level::Error, "no disk");
        let (time, rest) = line.split_once(": ").unwrap();
        assert_eq!(rest, "10.0.2.15: error: no disk\n");
        let parsed: Timestamp = time.parse().unwrap();
        assert!(parsed.as_second() > 0);
        assert!(time.ends_with("+00:00"), "{time}");
    }

    #[test]
    fn the_shared_log_gets_announcements_and_errors_only() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let log = log();
        log.announce("hi");
        log.info("detail".into());
        log.debug("noise".into());
        log.error("bad\nworse".into());
        log.flush(&share, "m").unwrap();
        log.flush(&share, "m").unwrap();
        let count = |path: &str| {
            fs::read_to_string(root.path().join(path))
                .unwrap()
                .lines()
                .count()
        };
        assert_eq!(count("maintenance.log"), 3);
        assert_eq!(count("m/maintenance.log"), 4);
    }

    #[test]
    fn what_cannot_be_written_stays_and_the_error_names_the_log() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("m"), "a file where the folder should be").unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let log = log();
        log.announce("hi");
        let error = log.flush(&share, "m").unwrap_err();
        assert!(
            format!("{error:#}").contains("m/maintenance.log"),
            "{error:#}"
        );
        fs::remove_file(root.path().join("m")).unwrap();
        log.flush(&share, "m").unwrap();
        let own = fs::read_to_string(root.path().join("m/maintenance.log")).unwrap();
        assert!(own.contains("info: hi"), "{own}");
        let all = fs::read_to_string(root.path().join(LOG)).unwrap();
        assert_eq!(all.lines().count(), 1, "written once: {all}");
    }

    #[test]
    fn a_flood_of_lines_is_bounded_and_said_to_be() {
        let log = log();
        for number in 0..MOST_LINES + 7 {
            log.warn(format!("sector {number}"));
        }
        let root = tempfile::tempdir().unwrap();
        log.flush(&DirectoryShare::open(root.path()).unwrap(), "m")
            .unwrap();
        let own = fs::read_to_string(root.path().join("m/maintenance.log")).unwrap();
        assert!(own.ends_with("(7 more lines were not kept)\n"));
    }
}
