//! Where the host file is: placeholders, and PXELINUX's search order for a URL that ends in `/`.

use crate::host_name::{self, Mac, SUFFIX, Uuid, hex_address};
use crate::machine::Lease;
use pitstop_imaging::inventory::{Machine, firmware};
use url::Url;

/// What the placeholders in URLs and names stand for on this machine, each safe as a part of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placeholders {
    /// `192.168.1.50`, `2001-db8--7`; without a network the MAC address.
    pub ip: String,
    /// `C0A80132`, 32 digits for IPv6; nothing without a network.
    pub hexip: Option<String>,
    /// `52-54-00-12-34-56`, as PXELINUX writes it.
    pub mac: String,
    /// The firmware's system UUID, lower case.
    pub uuid: Option<String>,
    /// The firmware's system serial number.
    pub serial: Option<String>,
    pub hostname: Option<String>,
    /// Under which its host file is looked for, best first, without `.toml`.
    pub names: Vec<String>,
}

impl Placeholders {
    pub fn new(machine: &Machine, lease: &Lease) -> Self {
        let firmware = firmware::read(&machine.sysfs);
        let known = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(component);
        let uuid = Uuid::parse(&firmware.uuid);
        let mac = Mac(lease.mac);
        let address = Some(lease.address).filter(|_| !lease.is_offline());
        Self {
            ip: lease.folder(),
            hexip: address.map(hex_address),
            mac: mac.dashed(),
            uuid: uuid.map(|uuid| uuid.to_string()),
            serial: known(firmware.known_serial()),
            hostname: known(lease.hostname.as_deref()),
            names: host_name::search(uuid, Some(mac), address),
        }
    }

    /// `text` with each placeholder replaced.
    ///
    /// # Errors
    /// Names a placeholder that does not exist, or that has no value on this machine.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                return Err(format!("{{{after}: a placeholder has no closing brace"));
            };
            filled.push_str(self.value(name)?);
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, name: &str) -> Result<&str, String> {
        let value = match name {
            "ip" => Some(&self.ip),
            "mac" => Some(&self.mac),
            "hexip" => self.hexip.as_ref(),
            "uuid" => self.uuid.as_ref(),
            "serial" => self.serial.as_ref(),
            "hostname" => self.hostname.as_ref(),
            _ => {
                return Err(format!(
                    "unknown placeholder {{{name}}}: there are {{ip}}, {{hexip}}, {{mac}}, {{uuid}}, \
                     {{serial}} and {{hostname}}"
                ));
            }
        };
        value.map(String::as_str).ok_or_else(|| {
            let why = match name {
                "hexip" => "it uses no network (ip=off)",
                "hostname" => "neither DHCP nor reverse DNS gave a name",
                _ => "the firmware does not tell it",
            };
            format!("the placeholder {{{name}}} has no value on this machine: {why}")
        })
    }

    /// The URLs to try, best first: one, unless it ends in `/`.
    pub fn candidates(&self, url: &Url) -> Vec<Url> {
        if !url.path().ends_with('/') {
            return vec![url.clone()];
        }
        let beside = |name: &String| {
            let mut candidate = url.clone();
            candidate.set_path(&format!("{}{name}{SUFFIX}", url.path()));
            candidate
        };
        self.names.iter().map(beside).collect()
    }
}

/// Text that a vendor or a DHCP server chose, made fit to be one part of a path in a URL.
fn component(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            _ => '-',
        })
        .collect();
    // "." and ".." would leave the folder.
    if safe.bytes().all(|b| b == b'.') {
        safe.replace('.', "-")
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::BootSource;
    use pitstop_imaging::inventory::fake::FakeMachine;
    use proptest::prelude::*;

    fn lease() -> Lease {
        Lease {
            interface: "eth0".into(),
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0xAB],
            address: "10.0.2.15".parse().unwrap(),
            hostname: None,
            boot: BootSource::default(),
        }
    }

    fn placeholders() -> Placeholders {
        let fake = FakeMachine::new();
        fake.write_sys(
            "class/dmi/id/product_uuid",
            "ABCD1234-0000-0000-0000-000000000001\n",
        );
        fake.write_sys("class/dmi/id/product_serial", "PF/12 34\n");
        Placeholders::new(&fake.machine(), &lease())
    }

    #[test]
    fn placeholders_become_safe_parts_of_a_url() {
        let filled = placeholders().fill("http://s/{ip}/{hexip}/{mac}/{uuid}/{serial}.toml");
        assert_eq!(
            filled.unwrap(),
            "http://s/10.0.2.15/0A00020F/52-54-00-12-34-ab/abcd1234-0000-0000-0000-000000000001/PF-12-34.toml"
        );
    }

    #[test]
    fn a_placeholder_without_value_or_meaning_is_named() {
        let fake = FakeMachine::new();
        fake.write_sys("class/dmi/id/product_serial", "To Be Filled By O.E.M.\n");
        let bare = Placeholders::new(&fake.machine(), &lease());
        for (text, why) in [
            (
                "{serial}",
                "{serial} has no value on this machine: the firmware",
            ),
            ("{hostname}", "neither DHCP nor"),
            ("{IP}", "unknown placeholder {IP}"),
            ("a{ip", "no closing brace"),
        ] {
            let error = bare.fill(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_folder_is_searched_as_pxelinux_does() {
        let url = Url::parse("http://srv/hosts/").unwrap();
        let names: Vec<String> = placeholders()
            .candidates(&url)
            .iter()
            .map(|url| url.path().trim_start_matches("/hosts/").to_owned())
            .collect();
        let expected = [
            "abcd1234-0000-0000-0000-000000000001.toml",
            "3412cdab-0000-0000-0000-000000000001.toml",
            "01-52-54-00-12-34-ab.toml",
            "0A00020F.toml",
            "0A00020.toml",
            "0A0002.toml",
            "0A000.toml",
            "0A00.toml",
            "0A0.toml",
            "0A.toml",
            "0.toml",
            "default.toml",
        ];
        assert_eq!(names, expected);
        let file = Url::parse("tftp://srv/hosts/x.toml").unwrap();
        assert_eq!(placeholders().candidates(&file), [file]);
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_folder(text in ".{1,40}") {
            let part = component(&text);
            prop_assert!(!part.contains('/') && part != "." && part != "..");
            let _ = placeholders().fill(&text);
        }
    }
}
