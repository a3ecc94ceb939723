//! A host file seen from the server: whether the machine will take it, before it boots.

use crate::boot_parameters::BootParameters;
use crate::host_name::hex_address;
use crate::job::Job;
use crate::job::check::{self, Wrong};
use crate::job::cmdline::CommandLine;
use crate::job::host_file_search::Placeholders;
use crate::job::hostfile::{HostFile, value_error};
use crate::machine::folder;
use std::net::IpAddr;
use url::Url;

/// Reads and checks a host file as the machine at `address` will that finds it at `url`. What only the
/// machine knows, its serial number for one, stands as its placeholder's name.
///
/// # Errors
/// The sentence that the machine would end its run with.
pub fn preview(bytes: &[u8], url: &Url, address: Option<IpAddr>) -> Result<Job, String> {
    let shown = crate::redacted(url);
    let file = HostFile::parse(bytes, &shown).map_err(|error| error.to_string())?;
    let line = CommandLine::default();
    check::job(&line, &file, Some(url), &placeholders(address))
        .map_err(|wrong| sentence(wrong, bytes, &shown))
}

/// Checks kernel parameters as every machine will that gets them, whatever its boot loader adds.
///
/// # Errors
/// The sentence that the machine would end its run with.
pub fn check_parameters(text: &str) -> Result<CommandLine, String> {
    let line = CommandLine::parse(text).map_err(|error| error.to_string())?;
    let boot = BootParameters::parse(text);
    boot.check()
        .map_err(|why| format!("kernel command line: {why}"))?;
    let placeholders = placeholders(None);
    let urls = line.host.iter().chain(&line.share).chain(&line.delete);
    for text in urls {
        placeholders
            .fill(text)
            .map_err(|why| format!("kernel command line: {why}"))?;
    }
    Ok(line)
}

/// Checks a host file that goes with these parameters. A boot loader may add an action and a share to both: that one
/// is missing is no error yet.
///
/// # Errors
/// The sentence that every machine would end its run with.
pub fn check_host_file(bytes: &[u8], name: &str, line: &CommandLine) -> Result<(), String> {
    let file = HostFile::parse(bytes, name).map_err(|error| error.to_string())?;
    if line.action.is_none() && file.action.is_none() {
        return Ok(());
    }
    let mut line = line.clone();
    if line.share.is_none() && file.share.is_none() {
        line.share = Some("http://server/share".into());
    }
    let from = Url::parse("file:///etc/pitstop/host.toml").ok();
    check::job(&line, &file, from.as_ref(), &placeholders(None))
        .map(drop)
        .map_err(|wrong| sentence(wrong, bytes, name))
}

fn sentence(wrong: Wrong, bytes: &[u8], file: &str) -> String {
    match wrong.key {
        Some(key) => value_error(bytes, file, key, &wrong.what).to_string(),
        None => wrong.what,
    }
}

/// What a machine puts in for placeholders, as far as its address tells; the names of the others stand for themselves.
pub(super) fn placeholders(address: Option<IpAddr>) -> Placeholders {
    let name = |name: &str| Some(name.to_owned());
    Placeholders {
        ip: address.map_or_else(|| "IP".into(), folder),
        hexip: Some(address.map_or_else(|| "HEXIP".into(), hex_address)),
        mac: "MAC".into(),
        uuid: name("UUID"),
        serial: name("SERIAL"),
        hostname: name("HOSTNAME"),
        names: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ActionName;

    #[test]
    fn the_server_sees_what_the_machine_will() {
        let url = Url::parse("http://srv/hosts/0A00020F.toml").unwrap();
        let ip = "10.0.2.15".parse().ok();
        let good = b"version = 1\naction = \"backup\"\nshare = \"http://srv/share\"\n";
        let job = preview(good, &url, ip).unwrap();
        assert_eq!(
            (job.action.name(), job.image.as_str()),
            (ActionName::Backup, "10.0.2.15")
        );
        let serial = [&good[..], b"image = \"lab/{serial}\"\n"].concat();
        assert_eq!(preview(&serial, &url, None).unwrap().image, "lab/SERIAL");
        assert!(!job.image_named);
        // Made of the address, it is as the folder that is not named.
        for (image, folder, named) in [
            ("lab/{ip}", "lab/10.0.2.15", false),
            ("{hexip}", "0A00020F", false),
            ("lab/{mac}", "lab/MAC", true),
            ("10.0.2.15", "10.0.2.15", true),
        ] {
            let line = format!("image = {image:?}\n");
            let job = preview(&[&good[..], line.as_bytes()].concat(), &url, ip).unwrap();
            assert_eq!((job.image.as_str(), job.image_named), (folder, named));
        }
        let wrong = [&good[..], b"attempts = 0\n"].concat();
        assert_eq!(
            preview(&wrong, &url, ip).unwrap_err(),
            "host file http://srv/hosts/0A00020F.toml, line 4, column 1: key \"attempts\": it must be 1 or more"
        );
    }

    #[test]
    fn what_every_machine_will_refuse_is_refused_beforehand() {
        for (line, why) in [
            ("pitstop.hsot=http://srv/", "unknown parameter pitstop.hsot"),
            ("pitstop.action=melt", "unknown action"),
            ("quiet vlan=5000", "vlan=5000: it is not a number"),
            (
                "pitstop.host=http://srv/{nic}.toml",
                "unknown placeholder {nic}",
            ),
        ] {
            let error = check_parameters(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let none = check_parameters("quiet console=ttyS0").unwrap();
        let check =
            |text: &str, line: &CommandLine| check_host_file(text.as_bytes(), "job.toml", line);
        for (text, why) in [
            ("hello", "job.toml, line 1"),
            ("version = 1\nactoin = \"backup\"\n", "actoin"),
            (
                "version = 1\naction = \"backup\"\nattempts = 0\n",
                "line 3, column 1",
            ),
            ("version = 1\naction = \"wipe\"\n", "a wipe needs a method"),
        ] {
            let error = check(text, &none).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        // A boot loader says the rest.
        for text in [
            "version = 1\n",
            "version = 1\naction = \"backup\"\n",
            "version = 1\ngrow = true\n",
        ] {
            check(text, &none).unwrap();
        }
        let wipe = check_parameters("pitstop.action=wipe").unwrap();
        assert!(check("version = 1\n", &wipe).is_err());
    }
}
