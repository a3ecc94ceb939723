//! A host file seen from the server: whether the machine will take it, before it boots.

use crate::job::cmdline::CommandLine;
use crate::job::hostfile::{HostFile, value_error};
use crate::job::locate::Placeholders;
use crate::job::{Job, check};
use crate::machine::{folder, hex_address};
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
    let name = |name: &str| Some(name.to_owned());
    let placeholders = Placeholders {
        ip: address.map_or_else(|| "IP".into(), folder),
        hexip: address.map_or_else(|| "HEXIP".into(), hex_address),
        mac: "MAC".into(),
        uuid: name("UUID"),
        serial: name("SERIAL"),
        hostname: name("HOSTNAME"),
    };
    let line = CommandLine::default();
    check::job(&line, &file, Some(url), &placeholders).map_err(|wrong| match wrong.key {
        Some(key) => value_error(bytes, &shown, key, &wrong.what).to_string(),
        None => wrong.what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Action;

    #[test]
    fn the_server_sees_what_the_machine_will() {
        let url = Url::parse("http://srv/hosts/0A00020F.toml").unwrap();
        let ip = "10.0.2.15".parse().ok();
        let good = b"version = 1\naction = \"backup\"\nshare = \"http://srv/share\"\n";
        let job = preview(good, &url, ip).unwrap();
        assert_eq!(
            (job.action, job.image.as_str()),
            (Action::Backup, "10.0.2.15")
        );
        let serial = [&good[..], b"image = \"lab/{serial}\"\n"].concat();
        assert_eq!(preview(&serial, &url, None).unwrap().image, "lab/SERIAL");
        let wrong = [&good[..], b"attempts = 0\n"].concat();
        assert_eq!(
            preview(&wrong, &url, ip).unwrap_err(),
            "host file http://srv/hosts/0A00020F.toml, line 4, column 1: key \"attempts\": it must be 1 or more"
        );
    }
}
