//! The kernel command line: what it tells the boot, and what it tells the job.

mod address;
mod bond;
mod defaults;
mod ntp;
mod vlan;
mod words;

pub use address::{IpSetting, StaticAddress};
pub use bond::{Bond, BondCard};
pub use defaults::with_defaults;
pub use ntp::NtpServer;
pub use vlan::Vlan;

use crate::job::{ActionName, DeleteTarget};
use crate::share_url::ShareUrl;
use std::fmt;

/// The VirtualBox scripts' spelling of an action.
const OLD_ACTION: &str = "testbox-action-";

/// What every parameter of Pitstop's own begins with.
const PREFIX: &str = "pitstop.";

/// A parameter of Pitstop's own.
#[derive(Clone, Copy)]
enum Parameter {
    Host,
    Action,
    Share,
    Delete,
    Medium,
    Ntp,
    Log,
}

/// Their names, without the prefix. Any other is an error.
const PARAMETERS: [(&str, Parameter); 7] = [
    ("host", Parameter::Host),
    ("action", Parameter::Action),
    ("share", Parameter::Share),
    ("delete", Parameter::Delete),
    ("medium", Parameter::Medium),
    ("ntp", Parameter::Ntp),
    ("log", Parameter::Log),
];

impl Parameter {
    fn named(name: &str) -> Option<Self> {
        PARAMETERS
            .into_iter()
            .find_map(|(known, parameter)| (known == name).then_some(parameter))
    }
}

/// RFC 8200 5: the least that IPv6 works with.
const LEAST_MTU: u16 = 1280;

/// What the boot needs before any job is known. Reading it never fails: an `ip=` that makes no sense
/// is kept as such for the network stage to report, and errors in `pitstop.…` are [`CommandLine`]'s.
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

/// What the command line says about the job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// `pitstop.host`, placeholders not yet filled in.
    pub host: Option<String>,
    pub action: Option<ActionName>,
    /// `pitstop.share`, placeholders not yet filled in.
    pub share: Option<String>,
    /// Each `pitstop.delete`, placeholders not yet filled in.
    pub delete: Vec<String>,
}

/// Everything that is wrong with the `pitstop.` parameters, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLineError {
    problems: Vec<String>,
    /// What could be read in spite of it.
    pub understood: CommandLine,
}

impl std::error::Error for CommandLineError {}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel command line: {}", self.problems.join("; "))
    }
}

impl CommandLine {
    /// Reads the `pitstop.` parameters and the old spelling of an action.
    ///
    /// # Errors
    /// Names every unknown parameter, every missing or bad value and every contradiction.
    pub fn parse(text: &str) -> Result<Self, Box<CommandLineError>> {
        let mut line = Self::default();
        let mut unknown: Vec<String> = Vec::new();
        let mut problems = Vec::new();
        let mut medium = None;
        for (key, value) in words::words(text) {
            let outcome = if let Some(name) = key.strip_prefix(PREFIX) {
                match Parameter::named(name) {
                    Some(Parameter::Host) => set(&mut line.host, &key, value),
                    Some(Parameter::Share) => set(&mut line.share, &key, value),
                    Some(Parameter::Action) => {
                        line.set_action(&key, value.as_deref().unwrap_or_default())
                    }
                    Some(Parameter::Delete) => line.add_delete(value),
                    Some(Parameter::Log) => check_log(value.as_deref()),
                    Some(Parameter::Medium) => set(&mut medium, &key, value),
                    Some(Parameter::Ntp) => check_ntp(value.as_deref()),
                    None => {
                        if !unknown.contains(&key) {
                            unknown.push(key);
                        }
                        Ok(())
                    }
                }
            } else if let (Some(name), None) = (key.strip_prefix(OLD_ACTION), &value) {
                line.set_action(&key, name)
            } else {
                Ok(())
            };
            problems.extend(outcome.err());
        }
        if !unknown.is_empty() {
            let named = if unknown.len() == 1 {
                "parameter"
            } else {
                "parameters"
            };
            problems.insert(
                0,
                format!(
                    "unknown {named} {}: there are {}",
                    unknown.join(", "),
                    PARAMETERS
                        .map(|(name, _)| format!("{PREFIX}{name}"))
                        .join(", ")
                ),
            );
        }
        if problems.is_empty() {
            Ok(line)
        } else {
            Err(Box::new(CommandLineError {
                problems,
                understood: line,
            }))
        }
    }

    fn set_action(&mut self, key: &str, name: &str) -> Result<(), String> {
        let action: ActionName = name.parse().map_err(|error| format!("{key}: {error}"))?;
        match self.action {
            Some(other) if other != action => Err(format!(
                "the action is given twice: {other} and {action}; leave one"
            )),
            _ => {
                self.action = Some(action);
                Ok(())
            }
        }
    }

    fn add_delete(&mut self, value: Option<String>) -> Result<(), String> {
        match value {
            Some(url) if !url.is_empty() => {
                if !self.delete.contains(&url) {
                    self.delete.push(url);
                }
                Ok(())
            }
            _ => Err("pitstop.delete needs a value".into()),
        }
    }

    /// The deletions as targets, once placeholders are filled in by `fill`.
    pub fn targets(
        &self,
        fill: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<DeleteTarget>, String> {
        self.delete
            .iter()
            .map(|text| fill(text)?.parse())
            .collect::<Result<_, String>>()
            .map_err(|error| format!("kernel command line: pitstop.delete: {error}"))
    }

    /// The share, once placeholders are filled in by `fill`.
    pub fn share_url(
        &self,
        fill: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Option<ShareUrl>, String> {
        let Some(text) = &self.share else {
            return Ok(None);
        };
        fill(text)
            .and_then(|text| text.parse().map_err(|error| format!("{error}")))
            .map(Some)
            .map_err(|error| format!("kernel command line: pitstop.share: {error}"))
    }
}

fn set(slot: &mut Option<String>, key: &str, value: Option<String>) -> Result<(), String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(format!("{key} needs a value"));
    };
    match slot {
        // The values may hold passwords: they are not shown.
        Some(held) if *held != value => Err(format!("{key} is given twice with different values")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn check_log(value: Option<&str>) -> Result<(), String> {
    match value {
        Some("debug" | "info") => Ok(()),
        other => Err(format!(
            "pitstop.log={}: there are debug and info",
            other.unwrap_or_default()
        )),
    }
}

fn check_ntp(value: Option<&str>) -> Result<(), String> {
    NtpServer::list(value.unwrap_or_default())
        .map(drop)
        .map_err(|error| format!("pitstop.ntp: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pxelinux_line_tells_boot_and_job() {
        let text = "BOOT_IMAGE=vmlinuz initrd=initramfs.img console=tty0 console=ttyS0,115200n8 \
                    pitstop.host=tftp://10.0.2.2/hosts/ pitstop.log=debug BOOTIF=01-52-54-00-12-34-56\n";
        let boot = BootParameters::parse(text);
        assert_eq!(boot.boot_mac, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(boot.consoles, ["tty0", "ttyS0"]);
        let by_port = BootParameters::parse("console=uart8250,io,0x3f8,115200n8");
        assert_eq!(by_port.consoles, ["console"]);
        assert!(boot.debug);
        let line = CommandLine::parse(text).unwrap();
        assert_eq!(line.host.as_deref(), Some("tftp://10.0.2.2/hosts/"));
    }

    #[test]
    fn the_name_of_the_program_is_no_parameter() {
        // As iPXE passes `chain http://boot/pitstop.efi pitstop.action=rescue` on.
        let line = CommandLine::parse("pitstop.efi pitstop.action=rescue").unwrap();
        assert_eq!(line.action, Some(ActionName::Rescue));
        let error = CommandLine::parse("quiet pitstop.efi").unwrap_err();
        assert!(error.to_string().contains("unknown parameter pitstop.efi"));
    }

    #[test]
    fn a_medium_is_named_for_the_boot() {
        let boot = BootParameters::parse("pitstop.medium=PITSTOP");
        assert_eq!(boot.medium.as_deref(), Some("PITSTOP"));
        CommandLine::parse("pitstop.medium=PITSTOP").unwrap();
        let error = CommandLine::parse("pitstop.medium=A pitstop.medium=B").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("pitstop.medium is given twice"), "{text}");
    }

    #[test]
    fn a_bond_is_for_the_boot() {
        for text in ["bond", "bond=bond0:all"] {
            let bond = BootParameters::parse(text).bond.unwrap().unwrap();
            assert_eq!((bond.name.as_str(), bond.cards.len()), ("bond0", 0));
        }
    }

    #[test]
    fn time_servers_are_for_the_boot() {
        let boot = BootParameters::parse("pitstop.ntp=a,b:1 pitstop.ntp=c");
        let ports: Vec<u16> = boot.ntp.iter().map(|server| server.port).collect();
        assert_eq!(ports, [123, 1, 123]);
        let error = CommandLine::parse("pitstop.ntp=a,").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel command line: pitstop.ntp: \"\" is not a server: write a name or an address, or HOST:PORT"
        );
    }

    #[test]
    fn the_old_spelling_is_the_same_action() {
        let line = CommandLine::parse("testbox-action-backup-again pitstop.action=backup-again");
        assert_eq!(line.unwrap().action, Some(ActionName::BackupAgain));
        let error = CommandLine::parse("testbox-action-backup pitstop.action=restore").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel command line: the action is given twice: backup and restore; leave one"
        );
    }

    #[test]
    fn every_problem_is_named_and_the_rest_is_understood() {
        let error = CommandLine::parse(
            "pitstop.hots=x pitstop.action=destroy pitstop.share=http://a/ pitstop.share=http://b/ \
             pitstop.hots pitstop.Action=x pitstop.delete= pitstop.log=loud pitstop.host",
        )
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "unknown parameters pitstop.hots, pitstop.Action: there are",
            "pitstop.action: unknown action \"destroy\"",
            "pitstop.share is given twice with different values",
            "pitstop.delete needs a value",
            "pitstop.log=loud: there are debug and info",
            "pitstop.host needs a value",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(error.understood.share.as_deref(), Some("http://a/"));
    }

    #[test]
    fn a_broken_job_part_leaves_the_boot_part_alone() {
        let boot = BootParameters::parse("pitstop.bogus=1 BOOTIF=52:54:00:aa:bb:cc ip=dhcp");
        assert_eq!(boot.boot_mac, Some([0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]));
        assert_eq!(boot.ip, IpSetting::default());
        assert_eq!(BootParameters::parse("BOOTIF=01-5-54").boot_mac, None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            let _ = BootParameters::parse(&text);
            if let Err(error) = CommandLine::parse(&format!("pitstop.host={text}")) {
                prop_assert!(!error.problems.is_empty());
            }
        }
    }
}
