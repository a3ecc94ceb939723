//! A machine's names on storage networks.

use super::{Given, Had, is_given};
use crate::files::Files;
use pitstop_imaging::random;
use std::fmt::Write as _;

pub const INITIATOR: &str = "etc/iscsi/initiatorname.iscsi";
const ISCSI: [&str; 2] = ["usr/sbin/iscsid", "sbin/iscsid"];
const NVME: [&str; 2] = ["usr/sbin/nvme", "sbin/nvme"];
const HOST_NQN: &str = "etc/nvme/hostnqn";
const HOST_ID: &str = "etc/nvme/hostid";
/// What the names of distributions begin with, by what is in `os-release`.
const PREFIXES: [(&str, &str); 3] = [
    ("debian", "iqn.1993-08.org.debian:01"),
    ("rhel", "iqn.1994-05.com.redhat"),
    ("suse", "iqn.1996-04.de.suse:01"),
];

/// New names where the system is one that has such.
pub fn rename(files: &Files, had: &Had, given: &Given) -> anyhow::Result<()> {
    let has = |programs: &[&str]| programs.iter().any(|path| files.exists(path));
    let named = is_given(given, INITIATOR);
    if !named && (had.initiator.is_some() || has(&ISCSI)) {
        let prefix = prefix(files, had.initiator.as_deref())?;
        files.make_folders("etc/iscsi")?;
        let mut own = [0; 6];
        random::fill(&mut own)?;
        let name = format!("InitiatorName={prefix}:{}\n", hex(&own));
        files.write(INITIATOR, name.as_bytes(), 0o600)?;
    }
    let named = is_given(given, HOST_NQN) || is_given(given, HOST_ID);
    if !named && has(&NVME) {
        let id = random::guid()?;
        files.make_folders("etc/nvme")?;
        // NVM Express Base Specification 2.0, 4.5.
        let name = format!("nqn.2014-08.org.nvmexpress:uuid:{id}\n");
        files.write(HOST_NQN, name.as_bytes(), 0o644)?;
        files.write(HOST_ID, format!("{id}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

fn prefix(files: &Files, old: Option<&str>) -> anyhow::Result<String> {
    let old = old.unwrap_or_default().lines();
    let mut old = old.filter_map(|line| line.trim().strip_prefix("InitiatorName="));
    if let Some((prefix, _)) = old.next_back().and_then(|name| name.rsplit_once(':')) {
        return Ok(prefix.to_owned());
    }
    let os = match files.text("etc/os-release")? {
        Some(text) => text,
        None => files.text("usr/lib/os-release")?.unwrap_or_default(),
    };
    let ids = os
        .lines()
        .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
    let ids: String = ids.collect();
    let found = PREFIXES.iter().find(|(id, _)| ids.contains(id));
    // Debian's, whose tools many others took.
    Ok(found.map_or(PREFIXES[0].1, |(_, prefix)| prefix).to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
