//! What a program says, line by line, while it runs.

use std::io::{self, BufRead};

/// A longer line is told in pieces.
const LONGEST: usize = 4096;
/// Shorter words stand everywhere.
const SHORTEST_SECRET: usize = 4;

/// Hands each line of `from` to `take`, as text, until its end.
///
/// # Errors
/// As reading has them.
pub fn lines(mut from: impl BufRead, take: &mut dyn FnMut(String)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let available = match from.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            flush(&mut line, take);
            return Ok(());
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let room = LONGEST.saturating_sub(line.len());
        let used = end.unwrap_or(available.len()).min(room);
        line.extend_from_slice(&available[..used]);
        let is_end = end == Some(used);
        from.consume(used + usize::from(is_end));
        if is_end || line.len() >= LONGEST {
            flush(&mut line, take);
        }
    }
}

/// A carriage return draws a line anew: its last state counts. What a terminal would act on is left out.
fn flush(line: &mut Vec<u8>, take: &mut dyn FnMut(String)) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let text: String = text.rsplit('\r').next().unwrap_or(text).to_owned();
    line.clear();
    let shown: String = text
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    if !shown.trim().is_empty() {
        take(shown);
    }
}

/// Words of a file of secrets: its lines, and what stands behind `=` in them, without quotes.
pub fn secrets_of(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let mut words = Vec::new();
    for line in text.lines().map(str::trim) {
        let value = line.split_once('=').map_or(line, |(_, value)| value).trim();
        let bare = value.trim_matches(|c| c == '"' || c == '\'');
        words.extend([line, value, bare].map(str::to_owned));
    }
    words.retain(|word| word.len() >= SHORTEST_SECRET);
    // The longest first, so that none is left in halves.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words
}

/// The line without the words that no log may have.
pub fn without(secrets: &[String], mut line: String) -> String {
    for secret in secrets {
        if line.contains(secret.as_str()) {
            line = line.replace(secret.as_str(), "***");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn told(bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        // A small buffer, so that lines come in pieces.
        let from = BufReader::with_capacity(7, bytes);
        lines(from, &mut |line| told.push(line)).unwrap();
        told
    }

    #[test]
    fn lines_come_one_by_one_and_without_what_a_terminal_would_do() {
        let said = b"one\n\n10 %\r20 %\rdone\r\n\x1b[1mbold\x07\tx\nlast";
        assert_eq!(told(said), ["one", "done", "[1mbold x", "last"]);
        let long = vec![b'x'; LONGEST + 5];
        let lengths: Vec<usize> = told(&long).iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST, 5]);
    }

    #[test]
    fn no_line_has_a_secret() {
        let secrets =
            secrets_of(b"PASSWORD='correct horse'\n\nTOKEN=abc123xyz\nplainsecret\nA=1\n");
        for (said, shown) in [
            ("+ join --password 'correct horse'", "+ join --password ***"),
            ("the password is correct horse", "the password is ***"),
            ("PASSWORD='correct horse'", "***"),
            ("token abc123xyz, plainsecret", "token ***, ***"),
            ("A=1 is no secret", "A=1 is no secret"),
        ] {
            assert_eq!(without(&secrets, said.into()), shown);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_told_without_control_characters(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for line in told(&bytes) {
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(line.len() <= LONGEST * 3);
            }
        }
    }
}
