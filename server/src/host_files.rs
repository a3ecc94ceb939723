//! A host file and what lies beside it: its signature, and what the server says without changing a byte that is signed. They
//! come together and go together.

use crate::write;
use cap_std::fs::Dir;
use pitstop_jobs::HostFiles;
use pitstop_protocol::job::beside::{SIGNATURE, UNSIGNED, companions};
use std::io;

/// Writes the host file `name`. What lies beside it comes first: a machine must not meet a file whose signature is still to
/// come.
pub fn put(hosts: &Dir, name: &str, files: &HostFiles) -> io::Result<()> {
    let beside = [
        (SIGNATURE, files.signature.as_deref()),
        (UNSIGNED, files.unsigned.as_deref()),
    ];
    for (suffix, text) in beside {
        if let Some(text) = text {
            write::replace(hosts, &format!("{name}{suffix}"), text)?;
        }
    }
    write::replace(hosts, name, &files.text)?;
    // What belongs to the job before.
    for (suffix, text) in beside {
        if text.is_none() {
            write::remove(hosts, &format!("{name}{suffix}"))?;
        }
    }
    Ok(())
}

/// Removes the host file `name` with what lies beside it. Returns whether it was there.
pub fn remove(hosts: &Dir, name: &str) -> io::Result<bool> {
    let was_there = write::remove(hosts, name)?;
    for companion in companions(name) {
        write::remove(hosts, &companion)?;
    }
    Ok(was_there)
}

/// Whether `name` is of a file that lies beside a host file.
pub fn is_companion(name: &str) -> bool {
    [SIGNATURE, UNSIGNED]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn all_of_a_job_comes_and_goes_together() {
        let root = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let there = || {
            let names = hosts
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let signed = HostFiles {
            text: "a".into(),
            signature: Some("b".into()),
            unsigned: Some("c".into()),
        };
        put(&hosts, "h.toml", &signed).unwrap();
        assert_eq!(there(), ["h.toml", "h.toml.minisig", "h.toml.unsigned"]);
        let plain = HostFiles {
            signature: None,
            unsigned: None,
            ..signed.clone()
        };
        put(&hosts, "h.toml", &plain).unwrap();
        assert_eq!(
            there(),
            ["h.toml"],
            "an old signature would belong to nothing"
        );
        put(&hosts, "h.toml", &signed).unwrap();
        assert!(remove(&hosts, "h.toml").unwrap());
        assert!(there().is_empty());
        assert!(!remove(&hosts, "h.toml").unwrap());
    }
}
