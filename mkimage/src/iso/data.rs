//! The partition with the share of a medium that serves machines without a network.

use super::LABEL;
use crate::exfat::{self, Folder, Names};
use anyhow::{Context, Result, anyhow};
use pitstop_protocol::host_name::{HostName, Meaning};
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::job::preview;
use pitstop_protocol::share_url::MARKERS;
use pitstop_protocol::stick::{self, HOSTS, JOBS};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use url::Url;

/// Bytes to spare where no size is given: logs, notes and inventories of some hundred machines.
const ROOM: u64 = 64 << 20;

/// What the partition is made of.
pub struct Share<'a> {
    /// The share's files; an empty share without it.
    pub folder: Option<&'a Path>,
    /// Bytes.
    pub size: Option<u64>,
}

/// Makes the filesystem in `file`. All host files are read as the machines will.
pub fn make(share: &Share, file: &Path, epoch: &str) -> Result<()> {
    let capitals = exfat::capitals();
    let mut root = match share.folder {
        Some(folder) => {
            check(folder)?;
            Folder::read(folder, &capitals)?
        }
        None => Folder::default(),
    };
    let [marker, ..] = MARKERS;
    root.file(marker, b"", &capitals)?;
    root.folder(HOSTS, &capitals)?;
    root.folder(JOBS, &capitals)?;
    let time = epoch
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {epoch:?}"))?;
    let names = Names {
        label: stick::LABEL,
        serial: serial(time),
        time,
    };
    let doing = || format!("making the partition {}", stick::LABEL);
    let file = File::create_new(file).with_context(doing)?;
    exfat::write(&file, &mut root, share.size, ROOM, &names).with_context(doing)?;
    Ok(())
}

/// A volume's serial number is of the time at which it was made, as formatters have it.
fn serial(time: i64) -> u32 {
    let [a, b, c, d, ..] = time.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Refuses host files that a machine would refuse.
fn check(folder: &Path) -> Result<()> {
    for below in [HOSTS, JOBS] {
        let Some(path) = named(folder, below)?.filter(|path| path.is_dir()) else {
            continue;
        };
        let doing = || format!("reading {}", path.display());
        for entry in fs::read_dir(&path).with_context(doing)? {
            let file = entry.with_context(doing)?.path();
            let name = file.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| stick::title(name).is_some()) else {
                continue;
            };
            if below == HOSTS {
                check_name(name).map_err(|why| anyhow!("{}: {why}", file.display()))?;
            }
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let url = Url::from_file_path(stick::share().join(below).join(name));
            let url = url.map_err(|()| anyhow!("{name:?} cannot be part of a URL"))?;
            preview(&bytes, &url, None).map_err(|why| anyhow!("{}: {why}", file.display()))?;
            if below == HOSTS && !name.eq_ignore_ascii_case(&stick::everyone()) {
                check_next(&path, &bytes).with_context(|| file.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// What a machine finds by this name, to which small and capital letters are the same on the stick.
fn named(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let doing = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(doing)? {
        let entry = entry.with_context(doing)?;
        if entry.file_name().eq_ignore_ascii_case(name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Refuses the file of one machine in the folder `hosts` that would have it do everybody's job after its own.
fn check_next(hosts: &Path, own: &[u8]) -> Result<()> {
    let Some(path) = named(hosts, &stick::everyone())?.filter(|path| path.is_file()) else {
        return Ok(());
    };
    let everyones = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let parsed = |bytes: &[u8]| HostFile::parse(bytes, "").ok();
    let (Some(own), Some(everyones)) = (parsed(own), parsed(&everyones)) else {
        // What is wrong with either is told as it is read.
        return Ok(());
    };
    stick::check_next(&own, &everyones).map_err(|why| anyhow!(why))
}

/// Refuses a name that means one machine and that no machine looks for: it would do everybody's job in place of its own. Small
/// and capital letters are the same on the stick; without dashes it may be a serial number.
fn check_name(name: &str) -> Result<(), String> {
    match Meaning::of_file(name) {
        Meaning::Misspelled(host @ (HostName::Mac(_) | HostName::Uuid(_)))
            if name.contains('-') && !name.eq_ignore_ascii_case(&host.file()) =>
        {
            Err(format!(
                "no machine looks for that name: call it {}",
                host.file()
            ))
        }
        _ => Ok(()),
    }
}

/// What the kernel command line needs beside what the admin wrote: the share, and no network unless one is set up.
pub fn parameters(given: &str) -> String {
    let sets = |name: &str| given.split_whitespace().any(|word| word.starts_with(name));
    let mut parameters = format!("pitstop.medium={LABEL}");
    if !sets("pitstop.data=") {
        parameters = format!("{parameters} pitstop.data={}", stick::LABEL);
    }
    if !sets("ip=") {
        parameters.push_str(" ip=off");
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_its_machine_would_not_find_is_refused() {
        let why = check_name("52-54-00-12-34-56.toml").unwrap_err();
        assert!(why.ends_with("call it 01-52-54-00-12-34-56.toml"), "{why}");
        for found in [
            "01-52-54-00-AB-34-56.toml",
            "4C4C4544-0038-4A10-804E-B7C04F503132.toml",
            "525400ab3456.toml",
            "PF-12-34.toml",
            "default.toml",
        ] {
            assert_eq!(check_name(found), Ok(()), "{found}");
        }
    }

    #[test]
    fn host_files_are_those_that_a_machine_finds_whatever_their_letters() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("Hosts");
        fs::create_dir(&hosts).unwrap();
        let restore = "version = 1\naction = \"restore\"\nimage = \"golden\"\n";
        fs::write(hosts.join("Default.toml"), restore).unwrap();
        let error = check(dir.path()).unwrap_err().to_string();
        assert!(error.contains("write round = "), "{error}");
        let round = format!("{restore}round = \"one\"\n");
        fs::write(hosts.join("Default.toml"), round).unwrap();
        check(dir.path()).unwrap();
        fs::write(hosts.join("PF-12-34.toml"), restore).unwrap();
        let error = format!("{:#}", check(dir.path()).unwrap_err());
        assert!(error.contains("at its next boot"), "{error}");
    }

    #[test]
    fn a_medium_with_a_share_waits_for_no_network_unless_one_is_set_up() {
        let without = "pitstop.medium=PITSTOP pitstop.data=PITSTOPDATA ip=off";
        assert_eq!(parameters("console=ttyS0"), without);
        let own = "ip=dhcp pitstop.data=OTHER";
        assert_eq!(parameters(own), "pitstop.medium=PITSTOP");
    }
}
