//! Network cards from `/sys/class/net`.

use super::{fact, names};
use std::fs;
use std::path::Path;

/// A network card; the loopback and what the kernel made up are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    /// `52:54:00:12:34:56`
    pub mac: String,
    /// The kernel module: `virtio_net`; empty when unknown.
    pub driver: String,
    /// A cable with a live far end.
    pub carrier: bool,
    /// Mbit/s, where the card tells.
    pub speed: Option<u32>,
}

/// Every card that stands on hardware, ascending by name.
pub fn read(sysfs: &Path) -> anyhow::Result<Vec<Nic>> {
    let class = sysfs.join("class/net");
    let mut nics = Vec::new();
    for name in names(&class)? {
        let folder = class.join(&name);
        if !folder.join("device").exists() {
            continue;
        }
        let driver = fs::canonicalize(folder.join("device/driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
        nics.push(Nic {
            mac: fact(&folder.join("address")),
            driver,
            carrier: fact(&folder.join("carrier")) == "1",
            // -1 while there is no link.
            speed: fact(&folder.join("speed")).parse().ok(),
            name,
        });
    }
    Ok(nics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::FakeMachine;

    #[test]
    fn only_hardware_counts() {
        let fake = FakeMachine::new();
        fake.write_sys("class/net/lo/address", "00:00:00:00:00:00\n");
        fake.write_sys("class/net/eth0/address", "52:54:00:12:34:56\n");
        fake.write_sys("class/net/eth0/carrier", "1\n");
        fake.write_sys("class/net/eth0/speed", "-1\n");
        fake.write_sys("class/net/eth0/device/vendor", "0x1af4\n");
        let nics = read(&fake.machine().sysfs).unwrap();
        assert_eq!(
            nics,
            [Nic {
                name: "eth0".into(),
                mac: "52:54:00:12:34:56".into(),
                driver: String::new(),
                carrier: true,
                speed: None,
            }]
        );
    }
}
