//! Programs of others that do a step, where no crate does.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of a program; an error that names its Debian package where it is missing.
pub fn find(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{program} is not installed: `apt-get install {package}`"))
}

/// A file that a Debian package brings; an error that names the package where it is missing.
pub fn packaged(path: &str, package: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if !path.is_file() {
        bail!("{} is missing: `apt-get install {package}`", path.display());
    }
    Ok(path)
}

/// Runs a command to its end; an error has what it complained of.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{program}: {}: {}", done.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let error = find("no-such-program", "some-package").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program is not installed: `apt-get install some-package`"
        );
        let error = packaged("/nowhere/file", "some-package").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/file is missing: `apt-get install some-package`"
        );
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3: why");
    }
}
