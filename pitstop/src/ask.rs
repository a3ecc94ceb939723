//! A question at a terminal.

use anyhow::Context;
use std::io::BufRead;

/// Asks `question` on standard error. Only `y` and `yes` agree: an empty line and the end of the input do not.
pub fn agrees(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("reading the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
