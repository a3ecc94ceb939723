//! What the kernel command line tells the boot before any job is known: network, clock, consoles. Apart from the job,
//! and here rather than in `init`: whoever makes an initramfs is told beforehand what the machine would refuse.

mod address;
mod bond;
mod menu;
mod ntp;
mod vlan;
pub(crate) mod words;

pub use address::{IpSetting, StaticAddress};
pub use bond::{Bond, BondCard};
pub use menu::Menu;
pub use ntp::NtpServer;
pub use vlan::Vlan;

/// RFC 8200 5: the least that IPv6 works with.
const LEAST_MTU: u16 = 1280;

/// What the boot needs before any job is known. Reading it never fails: an `ip=` that makes no sense
/// is kept as such for the network stage to report, and errors in `pitstop.…` are [`CommandLine`](crate::job::CommandLine)'s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootParameters {
    /// `BOOTIF`: the NIC that loaded the kernel.
    pub boot_mac: Option<[u8; 6]>,
    pub ip: IpSetting,
    /// `bond=`; the sentence says why it is not understood.
    pub bond: Option<Result<Bond, String>>,
    /// `vlan=`; the sentence says why it is not understood.
    pub vlan: Option<Result<Vlan, String>>,
    /// `pitstop.log=debug`
    pub debug: bool,
    /// `pitstop.medium`: the volume name of the CD or USB stick that the machine booted from.
    pub medium: Option<String>,
    /// `pitstop.data`: the label of the filesystem with the share of this medium.
    pub data: Option<String>,
    /// `pitstop.menu`: how long the menu of that share waits for a key.
    pub menu: Menu,
    /// `pitstop.ntp`: time servers, best first.
    pub ntp: Vec<NtpServer>,
    /// Device names of each `console=`, in order, without options: `tty0`, `ttyS0`.
    pub consoles: Vec<String>,
}

impl BootParameters {
    pub fn parse(text: &str) -> Self {
        let mut boot = Self::default();
        for (key, value) in words::words(text) {
            // dracut's `bond` alone is a bond of every card.
            let alone = || (key == "bond").then(|| "bond0".to_owned());
            let Some(value) = value.or_else(alone) else {
                continue;
            };
            match key.as_str() {
                "BOOTIF" => boot.boot_mac = boot_mac(&value).or(boot.boot_mac),
                "bond" => boot.bond = Some(Bond::parse(&value)),
                "vlan" => boot.vlan = Some(Vlan::parse(&value)),
                "ip" => boot.ip = IpSetting::parse(&value),
                "pitstop.log" => boot.debug = value == "debug",
                "pitstop.medium" if !value.is_empty() => boot.medium = Some(value),
                "pitstop.data" if !value.is_empty() => boot.data = Some(value),
                "pitstop.menu" => boot.menu = Menu::parse(&value).unwrap_or(boot.menu),
                "pitstop.ntp" => boot.ntp.extend(NtpServer::list(&value).unwrap_or_default()),
                "console" => {
                    let device = device_of_console(&value);
                    if is_device_name(&device) && !boot.consoles.contains(&device) {
                        boot.consoles.push(device);
                    }
                }
                _ => {}
            }
        }
        boot
    }

    /// # Errors
    /// The sentence that the network stage would fail with.
    pub fn check(&self) -> Result<(), String> {
        if let IpSetting::Invalid(why) = &self.ip {
            return Err(why.clone());
        }
        let bond = self.bond.as_ref().map(Result::as_ref);
        bond.transpose().map_err(String::clone)?;
        let vlan = self.vlan.as_ref().map(Result::as_ref);
        vlan.transpose().map_err(String::clone)?;
        Ok(())
    }
}

/// Bytes of the largest packet, as `ip=` and `bond=` have them.
fn mtu(text: &str) -> Result<u16, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes >= LEAST_MTU);
    bytes.ok_or_else(|| format!("the MTU {text:?} is not a number from {LEAST_MTU} to 65535"))
}

/// PXELINUX writes the ARP hardware type before the address: `01-52-54-00-12-34-56`; others leave it out.
fn boot_mac(value: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = value.split(['-', ':']).collect();
    let address = match parts.as_slice() {
        [_hardware_type, rest @ ..] if rest.len() == 6 => rest,
        all => all,
    };
    let mut mac = [0; 6];
    if address.len() != mac.len() {
        return None;
    }
    for (byte, part) in mac.iter_mut().zip(address) {
        if part.len() != 2 {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    Some(mac)
}

/// The options after a comma are the kernel's. A console that is named by its port (`uart8250,io,0x3f8`,
/// kernel-parameters.txt) has no node of that name: the kernel's own `/dev/console` leads to it.
fn device_of_console(value: &str) -> String {
    match value.split(',').next().unwrap_or_default() {
        "uart" | "uart8250" => "console".to_owned(),
        device => device.to_owned(),
    }
}

/// `console=null` and `console=` name nothing; a path is not a device of `/dev` either.
fn is_device_name(device: &str) -> bool {
    !device.is_empty() && device != "null" && device.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pxelinux_line_tells_the_boot() {
        let text = "BOOT_IMAGE=vmlinuz initrd=initramfs.img console=tty0 console=ttyS0,115200n8 \
                    pitstop.host=tftp://10.0.2.2/hosts/ pitstop.log=debug BOOTIF=01-52-54-00-12-34-56\n";
        let boot = BootParameters::parse(text);
        assert_eq!(boot.boot_mac, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(boot.consoles, ["tty0", "ttyS0"]);
        let by_port = BootParameters::parse("console=uart8250,io,0x3f8,115200n8");
        assert_eq!(by_port.consoles, ["console"]);
        assert!(boot.debug);
        assert_eq!(boot.check(), Ok(()));
    }

    #[test]
    fn a_medium_a_bond_and_time_servers_are_for_the_boot() {
        let boot = BootParameters::parse("pitstop.medium=PITSTOP");
        assert_eq!(boot.medium.as_deref(), Some("PITSTOP"));
        for text in ["bond", "bond=bond0:all"] {
            let bond = BootParameters::parse(text).bond.unwrap().unwrap();
            assert_eq!((bond.name.as_str(), bond.cards.len()), ("bond0", 0));
        }
        let boot = BootParameters::parse("pitstop.ntp=a,b:1 pitstop.ntp=c");
        let ports: Vec<u16> = boot.ntp.iter().map(|server| server.port).collect();
        assert_eq!(ports, [123, 1, 123]);
    }

    #[test]
    fn a_broken_job_part_leaves_the_boot_part_alone() {
        let boot = BootParameters::parse("pitstop.bogus=1 BOOTIF=52:54:00:aa:bb:cc ip=dhcp");
        assert_eq!(boot.boot_mac, Some([0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]));
        assert_eq!(boot.ip, IpSetting::default());
        assert_eq!(BootParameters::parse("BOOTIF=01-5-54").boot_mac, None);
    }

    #[test]
    fn what_the_network_stage_would_fail_with_is_told() {
        for (text, why) in [
            ("ip=10.0.2.300::", "ip=10.0.2.300::"),
            ("bond=bond0:bond0", "cannot be one of its own cards"),
            ("vlan=5000", "not a number from 1 to 4094"),
        ] {
            let error = BootParameters::parse(text).check().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for text in ["", "ip=dhcp", "ip=off", "ip=:::::eth0:dhcp", "vlan=5 bond"] {
            assert_eq!(BootParameters::parse(text).check(), Ok(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(ip|bond|vlan|BOOTIF|console|pitstop.ntp)?=?.{0,100}") {
            let _ = BootParameters::parse(&text).check();
        }
    }
}
