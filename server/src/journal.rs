//! What happens, and one line for each request: on stderr, and the last ones kept for the status page.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// How many lines the status page can show.
const KEPT: usize = 40;

/// Where requests are noted. Shared by the HTTP and the TFTP server.
#[derive(Debug)]
pub struct Journal {
    quiet: bool,
    lines: Mutex<VecDeque<String>>,
}

impl Journal {
    /// `quiet` keeps the lines of requests off stderr; the status page has them all the same.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            lines: Mutex::new(VecDeque::with_capacity(KEPT)),
        }
    }

    /// Notes a line. Control characters in it, which only a hostile client sends, become spaces.
    pub fn note(&self, line: &dyn Display) {
        self.keep(line, true);
    }

    /// Notes a request.
    pub fn request(&self, line: &dyn Display) {
        self.keep(line, !self.quiet);
    }

    fn keep(&self, line: &dyn Display, is_told: bool) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let line = format!("{now} {line}").replace(char::is_control, " ");
        if is_told {
            // A closed stderr must not end the server.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines, oldest first.
    pub fn last(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept() {
        let journal = Journal::new(true);
        for i in 0..=KEPT {
            journal.request(&format!("request {i}\nforged"));
        }
        let lines = journal.last();
        assert_eq!(lines.len(), KEPT);
        assert!(lines[0].ends_with("request 1 forged"), "{}", lines[0]);
    }
}
