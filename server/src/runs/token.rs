//! The tokens of jobs: a machine reports to its own and to nobody else's. A file for each below `runs/tokens`, so that they
//! outlive the server; it holds the token's hash, which is of no use to who reads it.

use super::FOLDER;
use crate::write;
use anyhow::Context;
use pitstop_imaging::random;
use pitstop_protocol::id::Id;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below the folder of runs.
const TOKENS: &str = "tokens";
/// 128 bits: nobody guesses it.
const BYTES: usize = 16;

fn folder(root: &Path) -> PathBuf {
    root.join(FOLDER).join(TOKENS)
}

/// Makes a token for a job, in place of the one that it may have, and returns it: `report-token` of the host file.
///
/// # Errors
/// It cannot be written down.
pub fn issue(root: &Path, job: &Id) -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    random::fill(&mut bytes).context("making a token")?;
    let mut token = String::with_capacity(2 * BYTES);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    let folder = folder(root);
    let doing = || format!("writing {}", folder.join(job.as_str()).display());
    let open = write::make_folder(root, &[FOLDER, TOKENS]).with_context(doing)?;
    let hash = format!("{}\n", blake3::hash(token.as_bytes()).to_hex());
    write::replace(&open, job.as_str(), &hash).with_context(doing)?;
    Ok(token)
}

/// Forgets the token of a job. Returns whether there was one.
///
/// # Errors
/// It cannot be removed.
pub fn revoke(root: &Path, job: &Id) -> io::Result<bool> {
    match fs::remove_file(folder(root).join(job.as_str())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a presented token is to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The job has no token.
    None,
    Right,
    Wrong,
}

/// Whether `token` is the job's.
///
/// # Errors
/// The file cannot be read: then nobody gets in.
pub fn check(root: &Path, job: &Id, token: Option<&str>) -> io::Result<Answer> {
    let known = match fs::read_to_string(folder(root).join(job.as_str())) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Answer::None),
        known => known?,
    };
    let Ok(known) = blake3::Hash::from_hex(known.trim()) else {
        return Ok(Answer::Wrong);
    };
    // Hashes are compared in constant time.
    let right = token.is_some_and(|token| blake3::hash(token.as_bytes()) == known);
    Ok(if right { Answer::Right } else { Answer::Wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_jobs_alone_and_is_not_written_down() {
        let root = tempfile::tempdir().unwrap();
        let job: Id = "20261128-213000-a1b2".parse().unwrap();
        let other: Id = "20261128-213000-a1b3".parse().unwrap();
        let check = |job, token| check(root.path(), job, token).unwrap();
        assert_eq!(check(&job, Some("x")), Answer::None);
        let token = issue(root.path(), &job).unwrap();
        issue(root.path(), &other).unwrap();
        assert_eq!(check(&job, Some(&token)), Answer::Right);
        assert_eq!(check(&job, None), Answer::Wrong);
        assert_eq!(check(&other, Some(&token)), Answer::Wrong);
        let written = fs::read_to_string(folder(root.path()).join(job.as_str())).unwrap();
        assert!(!written.contains(&token));
        assert!(revoke(root.path(), &job).unwrap());
        assert!(!revoke(root.path(), &job).unwrap());
        assert_eq!(check(&job, Some(&token)), Answer::None);
    }
}
