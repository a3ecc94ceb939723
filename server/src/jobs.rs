//! Which host file is a machine's: the search that the payload does, over the folder.

use cap_std::fs::Dir;
use pitstop_protocol::machine::hex_address;
use std::net::IpAddr;

/// What a boot loader tells of the machine it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    pub ip: Option<IpAddr>,
    /// Lower case, with dashes.
    pub mac: Option<String>,
    /// Lower case.
    pub uuid: Option<String>,
}

impl Asker {
    /// Takes what a boot loader wrote. What is no address, MAC or UUID is not there.
    pub fn new(ip: Option<&str>, mac: Option<&str>, uuid: Option<&str>) -> Self {
        let hex = |text: &str| {
            let text = text.to_ascii_lowercase().replace(':', "-");
            let plain = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
            (plain && (11..=36).contains(&text.len())).then_some(text)
        };
        Self {
            ip: ip.and_then(|ip| ip.parse().ok()),
            mac: mac.and_then(hex),
            // Firmware without a UUID says so with zeros or ones: it would be every such machine's.
            uuid: uuid
                .and_then(hex)
                .filter(|uuid| !uuid.chars().all(|c| matches!(c, '0' | 'f' | '-'))),
        }
    }

    /// The names under which its host file may be, in the order in which they are looked for.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .uuid
            .iter()
            .map(|uuid| format!("{uuid}.toml"))
            .collect();
        names.extend(self.mac.iter().map(|mac| format!("01-{mac}.toml")));
        if let Some(ip) = self.ip {
            let hex = hex_address(ip);
            names.extend(
                (1..=hex.len())
                    .rev()
                    .map(|digits| format!("{}.toml", &hex[..digits])),
            );
        }
        names.push("default.toml".into());
        names
    }

    /// The name of its host file.
    pub fn job(&self, hosts: &Dir) -> Option<String> {
        self.names().into_iter().find(|name| hosts.is_file(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn the_search_is_pxelinuxs() {
        let asker = Asker::new(
            Some("192.168.1.50"),
            Some("52:54:00:AB:12:34"),
            Some("4C4C4544-0038-4A10-804E-B7C04F503132"),
        );
        assert_eq!(
            asker.names(),
            [
                "4c4c4544-0038-4a10-804e-b7c04f503132.toml",
                "01-52-54-00-ab-12-34.toml",
                "C0A80132.toml",
                "C0A8013.toml",
                "C0A801.toml",
                "C0A80.toml",
                "C0A8.toml",
                "C0A.toml",
                "C0.toml",
                "C.toml",
                "default.toml",
            ]
        );
        let blank = "00000000-0000-0000-0000-000000000000";
        assert_eq!(Asker::new(None, None, Some(blank)), Asker::default());
        assert_eq!(
            Asker::new(Some("${ip}"), Some("../x"), Some("${uuid}")),
            Asker::default()
        );
    }

    #[test]
    fn the_first_that_exists_is_the_job() {
        let temp = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        let asker = Asker::new(Some("10.0.2.15"), Some("52:54:00:12:34:56"), None);
        assert_eq!(asker.job(&hosts), None);
        for name in ["default.toml", "0A00020F.toml", "01-52-54-00-12-34-56.toml"] {
            hosts.write(name, "").unwrap();
            assert_eq!(asker.job(&hosts).as_deref(), Some(name));
        }
        let asker = Asker::new(Some("2001:db8::7"), None, None);
        for name in ["2001.toml", "20010DB8000000000000000000000007.toml"] {
            hosts.write(name, "").unwrap();
            assert_eq!(asker.job(&hosts).as_deref(), Some(name));
        }
    }
}
