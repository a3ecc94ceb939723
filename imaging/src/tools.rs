//! Programs of other projects, which `mkimage --program` puts into the initramfs: found before anything is written,
//! run without a question, and what they say is in the log.

use crate::event::Reporter;
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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
/// When it is not there, or ends with another status: with the last of what it said.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    accepted: i32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let output = Command::new(find(program)?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    let mut last = String::new();
    for said in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(said).lines() {
            let line = line.trim();
            if !line.is_empty() {
                reporter.info(format!("{program}: {line}"));
                line.clone_into(&mut last);
            }
        }
    }
    match output.status.code() {
        Some(code) if code <= accepted => Ok(()),
        _ => bail!("{program}: {}: {last}", output.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;

    #[test]
    fn a_program_that_fails_is_named_with_its_last_words() {
        let script = ["-c", "echo first; echo bad superblock >&2; exit 4"];
        let error = run("sh", &script, 1, &Silent).unwrap_err().to_string();
        assert_eq!(error, "sh: exit status: 4: bad superblock");
        run("sh", &["-c", "exit 1"], 1, &Silent).unwrap();
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
