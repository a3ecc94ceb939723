//! A machine's serial console: what it says, as it says it, and a keyboard.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing comes after this.
const PANIC: &str = "end Kernel panic";

/// How much of the console an error shows.
const LINES: usize = 40;

/// Called with each whole line as it comes.
pub type Listener = Box<dyn Fn(&str) + Send>;

/// Reads a console in a thread of its own; waits look only at what came after the last match.
pub struct Console {
    shared: Arc<Shared>,
    keyboard: ChildStdin,
    seen: usize,
    log: PathBuf,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    /// When the text had grown to so many bytes.
    times: Vec<(usize, Instant)>,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The text is whole after each line, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Takes over both ends of a console; everything it says is also kept in the file `log`.
    pub fn new(
        output: ChildStdout,
        keyboard: ChildStdin,
        log: &Path,
        listener: Option<Listener>,
    ) -> Result<Console> {
        let shared = Arc::new(Shared::default());
        // A new file, not an emptied one: its times then tell how long the machine ran.
        if log.exists() {
            fs::remove_file(log).with_context(|| format!("removing {}", log.display()))?;
        }
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        let reader = Arc::clone(&shared);
        thread::Builder::new()
            .name("console".into())
            .spawn(move || read_console(output, file, &reader, listener.as_ref()))?;
        Ok(Console {
            shared,
            keyboard,
            seen: 0,
            log: log.to_path_buf(),
        })
    }

    /// Waits until the console says `wanted` and returns the line that has it.
    pub fn wait_for(&mut self, wanted: &str, patience: Duration) -> Result<String> {
        self.wait_for_any(&[wanted], patience)
    }

    /// Waits for the first of several texts and returns its line. The next wait starts after it.
    pub fn wait_for_any(&mut self, wanted: &[&str], patience: Duration) -> Result<String> {
        self.wait(wanted, None, true, patience)
    }

    /// Waits for a question: its line has no end until it is answered.
    pub fn wait_for_question(&mut self, wanted: &str, patience: Duration) -> Result<String> {
        self.wait(&[wanted], None, false, patience)
    }

    /// Waits for `wanted`, in vain as soon as the console says `end`.
    pub fn wait_unless(&mut self, wanted: &str, end: &str, patience: Duration) -> Result<String> {
        self.wait(&[wanted], Some(end), true, patience)
    }

    fn wait(
        &mut self,
        wanted: &[&str],
        end: Option<&str>,
        is_whole: bool,
        patience: Duration,
    ) -> Result<String> {
        let deadline = Instant::now() + patience;
        let shared = Arc::clone(&self.shared);
        let needles = wanted.iter().chain(end.as_ref()).chain([&PANIC]);
        let longest = needles.map(|text| text.len()).max().unwrap_or(0);
        // Nothing begins before it: what came is looked through once, however slowly it comes.
        let mut from = self.seen;
        let mut state = shared.lock();
        loop {
            let fresh = &state.text[from..];
            let first = wanted
                .iter()
                .filter_map(|text| fresh.find(text).map(|at| (at, text.len())))
                .min();
            let over = end.and_then(|end| fresh.find(end));
            let over = over.is_some_and(|over| first.is_none_or(|(at, _)| over < at));
            if let Some((at, length)) = first.filter(|_| !over) {
                let line = whole_line(&state.text, from + at);
                // A line that is still being written is waited for, so that what is returned is all of it.
                if let Some(line) = line.or_else(|| {
                    (state.ended || !is_whole).then(|| rest_of_line(&state.text, from + at))
                }) {
                    let line = line.to_owned();
                    self.seen = from + at + length;
                    return Ok(line);
                }
            }
            let now = Instant::now();
            let panicked = fresh.contains(PANIC);
            if state.ended || panicked || over || now >= deadline {
                let why = match (panicked, over, state.ended) {
                    (true, ..) => "the kernel panicked",
                    (_, true, _) => "something else came",
                    (.., true) => "the machine stopped",
                    _ => "time is up",
                };
                bail!(
                    "{why}: the console did not say {wanted:?} within {patience:?}; it is in {} and ends:\n{}",
                    self.log.display(),
                    tail(&state.text, LINES)
                );
            }
            // The text is ASCII: it may be cut anywhere.
            from = first.map_or(
                state.text.len().saturating_sub(longest).max(from),
                |(at, _)| from + at,
            );
            state = shared
                .grown
                .wait_timeout(state, deadline - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// What a person would see on the screen now.
    pub fn screen(&self) -> String {
        tail(&self.shared.lock().text, LINES)
    }

    /// Everything that was said so far, without escape sequences.
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// When the console first said this.
    pub fn time_of(&self, text: &str) -> Option<Instant> {
        let state = self.shared.lock();
        let at = state.text.find(text)?;
        state
            .times
            .iter()
            .find(|(length, _)| *length > at)
            .map(|(_, time)| *time)
    }

    /// Types a line and Enter.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.keyboard
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| self.keyboard.flush())
            .context("typing on the console")
    }

    /// Where everything that was said is kept.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

fn read_console(
    mut output: ChildStdout,
    mut log: File,
    shared: &Shared,
    listener: Option<&Listener>,
) {
    let mut escapes = EscapeFilter::default();
    let mut line = String::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut buffer) {
        // The log is a help for people: a full disk must not stop the machine from being read.
        let _ = log.write_all(&buffer[..read]);
        let text = escapes.plain(&buffer[..read]);
        if let Some(listener) = listener {
            for character in text.chars() {
                if character == '\n' {
                    listener(&line);
                    line.clear();
                } else {
                    line.push(character);
                }
            }
        }
        let mut state = shared.lock();
        state.text.push_str(&text);
        let length = state.text.len();
        state.times.push((length, Instant::now()));
        drop(state);
        shared.grown.notify_all();
    }
    shared.lock().ended = true;
    shared.grown.notify_all();
}

/// The line around `at`, when its end has come.
fn whole_line(text: &str, at: usize) -> Option<&str> {
    let end = text[at..].find('\n')? + at;
    Some(rest_of_line(&text[..end], at))
}

fn rest_of_line(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].trim_end()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Drops ECMA-48 control sequences, which firmware uses to move its cursor, and everything that is not text.
#[derive(Default)]
struct EscapeFilter {
    state: Escape,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    Text,
    Started,
    Sequence,
}

impl EscapeFilter {
    fn plain(&mut self, bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len());
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (Escape::Text, 0x1b) => Escape::Started,
                (Escape::Text, b'\n' | b'\t' | 0x20..=0x7e) => {
                    text.push(char::from(byte));
                    Escape::Text
                }
                // Parameters and intermediate bytes; a final byte is 0x40 to 0x7e (ECMA-48 5.4).
                (Escape::Started, b'[') | (Escape::Sequence, 0x20..=0x3f) => Escape::Sequence,
                _ => Escape::Text,
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn escape_sequences_are_dropped_even_when_cut_in_two() {
        let mut filter = EscapeFilter::default();
        assert_eq!(filter.plain(b"\x1b[2J\x1b[01;3"), "");
        assert_eq!(filter.plain(b"1mred\x1b[0m\r\nnext"), "red\nnext");
    }

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let text = "one\ntwo thr";
        assert_eq!(whole_line(text, 0), Some("one"));
        assert_eq!(whole_line(text, 5), None);
        assert_eq!(rest_of_line(text, 8), "two thr");
    }

    #[test]
    fn words_that_come_in_pieces_are_found() {
        let script = "printf 'one tw'; sleep 0.1; printf 'o three\\nfour'; sleep 0.1; printf ' five\\n'; sleep 0.1; printf six";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let (output, keyboard) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let mut console = Console::new(output, keyboard, log.path(), None).unwrap();
        let patience = Duration::from_secs(60);
        let line = console.wait_for("two three", patience).unwrap();
        assert_eq!(line, "one two three");
        let line = console.wait_unless("four", "five", patience).unwrap();
        assert_eq!(line, "four five");
        let error = console.wait_unless("seven", "five", patience).unwrap_err();
        assert!(
            error.to_string().starts_with("something else came"),
            "{error}"
        );
        assert_eq!(console.wait_for("six", patience).unwrap(), "six");
        let error = console.wait_for("one", patience).unwrap_err();
        assert!(
            error.to_string().starts_with("the machine stopped"),
            "{error}"
        );
        child.wait().unwrap();
    }
}
