//! Programs of other projects, which `mkimage --program` puts into the initramfs: found before anything is written,
//! run without a question, and what they say is in the log.

use crate::event::{Reporter, Silent};
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Finds a program in `PATH` or where distributions keep those of administrators.
///
/// # Errors
/// When it is not there, with what to do.
pub fn find(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
        .with_context(|| {
            let folder = if program == "btrfs" { "bin" } else { "sbin" };
            format!(
                "there is no {program} here: put it into the initramfs with mkimage --program /usr/{folder}/{program}"
            )
        })
}

/// Runs a program to its end. Statuses up to `accepted` are good ones: 0, but for checkers that mend.
///
/// # Errors
/// When it is not there, or ends with another status: with all that it said on its standard error, or else on its
/// output.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    accepted: i32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    run_with(program, arguments, &[], accepted, reporter)
}

/// The same with more in its environment.
///
/// # Errors
/// As [`run`].
pub fn run_with<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    environment: &[(&str, &str)],
    accepted: i32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let mut command = command(program, arguments, environment)?;
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    judged(program, &output, accepted, reporter)
}

/// Asks a program something. Returns what it says on its standard output.
///
/// # Errors
/// As [`run`], where it ends with another status than 0.
pub fn ask<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    environment: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut command = command(program, arguments, environment)?;
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    judged(program, &output, 0, &Silent)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run_with`], with `input` on its standard input, which nobody else sees: less than a pipe holds. It has to end with status 0.
///
/// # Errors
/// As [`run`].
pub fn run_fed<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    environment: &[(&str, &str)],
    input: &[u8],
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let running = || format!("running {program}");
    let mut child = command(program, arguments, environment)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(running)?;
    let fed = child.stdin.take().map(|mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().with_context(running)?;
    judged(program, &output, 0, reporter)?;
    // One that fails without having read it has said why.
    fed.transpose().with_context(running)?;
    Ok(())
}

fn command<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    environment: &[(&str, &str)],
) -> anyhow::Result<Command> {
    let mut command = Command::new(find(program)?);
    command.args(arguments).envs(environment.iter().copied());
    Ok(command)
}

/// Logs what it said, and whether it ended well.
fn judged(
    program: &str,
    output: &Output,
    accepted: i32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let said = [&output.stdout, &output.stderr].map(|said| lines(said));
    for line in said.iter().flatten() {
        reporter.info(format!("{program}: {line}"));
    }
    match output.status.code() {
        Some(code) if code <= accepted => Ok(()),
        _ => {
            let [printed, complained] = said;
            let why = if complained.is_empty() {
                printed
            } else {
                complained
            };
            bail!("{program}: {}: {}", output.status, quoted(&why))
        }
    }
}

/// What a program said, without empty lines. A carriage return draws a line anew: its last state counts.
fn lines(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().map(|line| {
        let line = line.trim();
        line.rsplit('\r').next().unwrap_or(line).trim().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect()
}

/// All of it in one line, and of thousands of lines the first and the last ones.
fn quoted(lines: &[String]) -> String {
    const MOST: usize = 40;
    let half = MOST / 2;
    if lines.len() <= MOST {
        return lines.join(" / ");
    }
    let (first, last) = (&lines[..half], &lines[lines.len() - half..]);
    let between = lines.len() - MOST;
    format!(
        "{} / ({between} more lines) / {}",
        first.join(" / "),
        last.join(" / ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_all_its_words() {
        let script = [
            "-c",
            "echo first; echo bad superblock >&2; echo; echo give up >&2; exit 4",
        ];
        let error = run("sh", &script, 1, &Silent).unwrap_err().to_string();
        assert_eq!(error, "sh: exit status: 4: bad superblock / give up");
        let script = ["-c", "for i in $(seq 100); do echo $i; done; exit 9"];
        let error = run("sh", &script, 1, &Silent).unwrap_err().to_string();
        assert!(error.starts_with("sh: exit status: 9: 1 / 2 / "), "{error}");
        assert!(error.contains(" / 20 / (60 more lines) / 81 / "), "{error}");
        run("sh", &["-c", "exit 1"], 1, &Silent).unwrap();
    }

    #[test]
    fn what_is_fed_is_read_to_its_end_and_one_that_does_not_read_says_why() {
        let feed = |script: &str| {
            run_fed("sh", &["-c", script], &[], b"a word", &Silent).map_err(|it| it.to_string())
        };
        assert_eq!(feed("test \"$(cat)\" = 'a word'"), Ok(()));
        let error = feed("exec <&-; echo no >&2; exit 3").unwrap_err();
        assert_eq!(error, "sh: exit status: 3: no");
    }

    #[test]
    fn a_missing_program_is_told_with_the_way_to_have_it() {
        let error = find("resize9fs").unwrap_err().to_string();
        assert!(
            error.ends_with("mkimage --program /usr/sbin/resize9fs"),
            "{error}"
        );
    }
}
