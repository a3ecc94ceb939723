//! Which host file is a machine's: the search that the payload does, over the folder.

use cap_std::fs::Dir;
use pitstop_fleet::Identity;
use pitstop_protocol::host_name::{self, HostName, Mac, SUFFIX, Uuid};
use std::net::IpAddr;

/// What a boot loader tells of the machine it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    pub ip: Option<IpAddr>,
    pub mac: Option<Mac>,
    pub uuid: Option<Uuid>,
}

impl Asker {
    /// Takes what a boot loader wrote. What is no address, MAC or UUID is not there.
    pub fn new(ip: Option<&str>, mac: Option<&str>, uuid: Option<&str>) -> Self {
        Self {
            ip: ip.and_then(|ip| ip.parse().ok()),
            mac: mac.and_then(|mac| mac.parse().ok()),
            uuid: uuid.and_then(Uuid::parse),
        }
    }

    /// As the fleet file looks for it.
    pub fn identity(&self) -> Identity {
        Identity {
            macs: self.mac.into_iter().collect(),
            uuid: self.uuid,
            serial: None,
            ip: self.ip,
        }
    }

    /// The name of its host file.
    pub fn job(&self, hosts: &Dir) -> Option<String> {
        first(hosts, host_name::search(self.uuid, self.mac, self.ip))
    }
}

/// What the name of a configuration tells of the machine that asks for it.
pub fn asker_of_name(name: &str) -> Asker {
    let mut who = Asker::default();
    match HostName::from_stem(name) {
        Some(HostName::Mac(mac)) => who.mac = Some(mac),
        Some(HostName::Uuid(uuid)) => who.uuid = Some(uuid),
        Some(HostName::Ip(ip)) => who.ip = Some(ip),
        Some(HostName::Shortened(_) | HostName::Default) | None => {}
    }
    who
}

/// The host file that a boot loader means who asks for a configuration of this name. Of a UUID, PXELINUX writes the
/// bytes of three fields the other way round.
pub fn of_name(hosts: &Dir, name: &str) -> Option<String> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let spellings = match HostName::from_stem(name) {
        Some(found) => found.stems(),
        None => vec![name.to_owned()],
    };
    first(hosts, spellings)
}

fn first(hosts: &Dir, stems: Vec<String>) -> Option<String> {
    stems
        .into_iter()
        .map(|stem| stem + SUFFIX)
        .find(|file| hosts.is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    const UUID: &str = "4c4c4544-0038-4a10-804e-b7c04f503132";
    const TURNED: &str = "44454c4c-3800-104a-804e-b7c04f503132";

    fn folder() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        (temp, hosts)
    }

    #[test]
    fn what_is_no_identity_is_left_out() {
        let blank = "00000000-0000-0000-0000-000000000000";
        assert_eq!(Asker::new(None, None, Some(blank)), Asker::default());
        assert_eq!(
            Asker::new(Some("${ip}"), Some("../x"), Some("${uuid}")),
            Asker::default()
        );
    }

    #[test]
    fn the_first_that_exists_is_the_job() {
        let (_temp, hosts) = folder();
        let asker = Asker::new(
            Some("10.0.2.15"),
            Some("52:54:00:12:34:56"),
            Some(&UUID.to_uppercase()),
        );
        assert_eq!(asker.job(&hosts), None);
        let best_last = [
            "default.toml".to_owned(),
            "0A00020F.toml".into(),
            "01-52-54-00-12-34-56.toml".into(),
            format!("{TURNED}.toml"),
            format!("{UUID}.toml"),
        ];
        for name in best_last {
            hosts.write(&name, "").unwrap();
            assert_eq!(asker.job(&hosts), Some(name));
        }
        let asker = Asker::new(Some("2001:db8::7"), None, None);
        for name in ["2001.toml", "20010DB8000000000000000000000007.toml"] {
            hosts.write(name, "").unwrap();
            assert_eq!(asker.job(&hosts).as_deref(), Some(name));
        }
    }

    #[test]
    fn pxelinux_finds_a_uuid_that_was_written_the_other_way_round() {
        let (_temp, hosts) = folder();
        hosts.write(format!("{UUID}.toml"), "").unwrap();
        hosts.write("lab-7.toml", "").unwrap();
        let file = format!("{UUID}.toml");
        for name in [UUID, TURNED] {
            assert_eq!(of_name(&hosts, name).as_deref(), Some(file.as_str()));
        }
        assert_eq!(of_name(&hosts, "lab-7").as_deref(), Some("lab-7.toml"));
        for other in ["../lab-7", ".lab-7", "0A00020F"] {
            assert_eq!(of_name(&hosts, other), None, "{other}");
        }
    }
}
