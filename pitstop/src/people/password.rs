//! A password: typed twice at a terminal, or a line of the standard input.

use anyhow::{Context, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Stdin};

/// Fewer characters are guessed in a while, lock-out or not.
const SHORT: usize = 8;

/// Asks for a password of `name`, or reads a line.
pub fn read(name: &str, from_stdin: bool) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let password = if from_stdin {
        line(&stdin)?
    } else if stdin.is_terminal() {
        ask(&stdin, name)?
    } else {
        bail!("there is no terminal to ask at for a password: give it with --password-stdin");
    };
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.chars().count() < SHORT {
        eprintln!("pitstop: warning: the password has fewer than {SHORT} characters");
    }
    Ok(password)
}

/// The first line, without its end.
fn line(stdin: &Stdin) -> anyhow::Result<String> {
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .context("reading the password")?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn ask(stdin: &Stdin, name: &str) -> anyhow::Result<String> {
    let _silent = Silent::new(stdin)?;
    eprint!("Password of {name}: ");
    let first = line(stdin)?;
    eprint!("\nOnce more: ");
    let second = line(stdin)?;
    eprintln!();
    if first != second {
        bail!("the two passwords differ: nothing was changed");
    }
    Ok(first)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a Stdin) -> anyhow::Result<Self> {
        let doing = "having the terminal show no password";
        let before = tcgetattr(terminal).context(doing)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent).context(doing)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // The terminal is gone if this fails.
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
    }
}
