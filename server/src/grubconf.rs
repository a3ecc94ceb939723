//! Configurations for the GRUB that Debian has signed for the network: all it loads, it loads over TFTP from the server that
//! its DHCP server names.

use crate::arch::Architecture;
use crate::host_search::Asker;
use crate::path::RelPath;
use crate::site::{INITRAMFS, KERNEL};
use pitstop_protocol::host_name::{HostName, Mac};
use std::fmt::Write as _;

/// Its prefix: where it looks for `grub.cfg`.
const FOLDER: &str = "grub";
const ENTRY: &str = "grub.cfg";
/// The first one that it asks for.
pub const PATH: &str = "grub/grub.cfg";
/// Below the prefix: what is made for one machine.
const MACHINE: &str = "machine";
const SUFFIX: &str = ".cfg";

/// Loaders of systems below `/EFI` on a machine's own disk, with GRUB's variable for what names the processor in them. Those
/// that start others, too, come first. A FAT does not tell capitals from small letters.
const SYSTEMS: [&str; 13] = [
    "debian/shim$cpu.efi",
    "ubuntu/shim$cpu.efi",
    "fedora/shim$cpu.efi",
    "redhat/shim$cpu.efi",
    "rocky/shim$cpu.efi",
    "almalinux/shim$cpu.efi",
    "centos/shim$cpu.efi",
    "opensuse/shim.efi",
    "sles/shim.efi",
    "debian/grub$cpu.efi",
    "systemd/systemd-boot$cpu.efi",
    "Microsoft/Boot/bootmgfw.efi",
    "BOOT/BOOT$cpu.EFI",
];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What everybody begins with.
    Entry,
    /// What this machine is to do.
    Machine(Asker),
}

impl Wanted {
    /// `None` for a path that is no configuration of GRUB's.
    pub fn of(path: &RelPath) -> Option<Self> {
        let path = path.as_str();
        let below = match path.strip_prefix(FOLDER) {
            Some(below) => below.strip_prefix('/')?,
            None => path.split_once(&format!("/{FOLDER}/"))?.1,
        };
        if below == ENTRY {
            return Some(Self::Entry);
        }
        let names = below.strip_prefix(MACHINE)?.strip_prefix('/')?;
        let (mac, rest) = names.strip_suffix(SUFFIX)?.split_once('/')?;
        let (ip, uuid) = rest.split_once('/')?;
        Some(Self::Machine(Asker::new(Some(ip), Some(mac), Some(uuid))))
    }
}

/// What `grub.cfg` says: ask again, with the machine's names.
pub fn entry() -> String {
    format!(
        "# GRUB fills in what it knows; the answer boots the payload or the machine's own disk.\n\
         set uuid=none\n\
         smbios --type 1 --get-uuid 8 --set uuid\n\
         source $prefix/{MACHINE}/$net_default_mac/$net_default_ip/$uuid{SUFFIX}\n\
         echo \"Pitstop: $net_default_server does not say what this machine is to do: trying again in 30 seconds\"\n\
         sleep 30\n\
         reboot\n"
    )
}

/// The answer to a machine: `job` is the name of its host file, `parameters` the kernel's.
pub fn payload(job: &str, parameters: &str, card: Option<Mac>) -> String {
    let card = card.map(|mac| format!("BOOTIF={}", HostName::Mac(mac).stem()));
    let load = |architecture: Architecture| {
        let parameters = architecture.parameters(parameters);
        let words = parameters.split_whitespace().map(str::to_owned);
        let words: Vec<String> = words
            .chain(card.clone())
            .map(|word| quoted(&word))
            .collect();
        let folder = format!("/boot/{}", architecture.folder());
        format!(
            "linux {folder}{KERNEL} {}\ninitrd {folder}{INITRAMFS}\n",
            words.join(" ")
        )
    };
    format!(
        "echo {}\n\
         if [ \"$grub_cpu\" = arm64 ]; then\n{}else\n{}fi\n\
         boot\n\
         echo \"Pitstop: cannot load {KERNEL} and {INITRAMFS} from $net_default_server: trying again in 30 seconds\"\n\
         sleep 30\n\
         reboot\n",
        quoted(&format!("Pitstop: {job} is the job of this machine")),
        load(Architecture::Arm64),
        load(Architecture::X86_64),
    )
}

/// The answer to a machine without a job. Its end GRUB tells to the firmware as a success, after which firmware shows its
/// set-up instead of the next boot option (UEFI 2.10 3.1.1): so a loader on the disk is started from here.
pub fn local() -> String {
    let mut text = String::from(
        "echo \"Pitstop: no job for this machine: booting from the local disk\"\nunset disk\n\
         set cpu=x64\nif [ \"$grub_cpu\" = arm64 ]; then set cpu=aa64; fi\n",
    );
    for system in SYSTEMS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "if search --no-floppy --file --set=disk /EFI/{system}; then chainloader ($disk)/EFI/{system} && boot; fi"
        );
    }
    text.push_str("echo \"Pitstop: no disk of this machine has a loader\"\nsleep 10\nexit\n");
    text
}

/// A word as GRUB's shell takes it letter by letter.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(path: &str) -> Option<Wanted> {
        Wanted::of(&RelPath::from_text(path).unwrap())
    }

    #[test]
    fn grub_asks_twice_the_second_time_with_its_names() {
        assert_eq!(wanted("grub/grub.cfg"), Some(Wanted::Entry));
        assert_eq!(wanted("tftp/root/grub/grub.cfg"), Some(Wanted::Entry));
        let uuid = "4c4c4544-0038-4a10-804e-b7c04f503132";
        let path = format!("grub/machine/52:54:00:12:34:56/10.0.2.15/{uuid}.cfg");
        let asker = Asker::new(Some("10.0.2.15"), Some("52:54:00:12:34:56"), Some(uuid));
        assert_eq!(wanted(&path), Some(Wanted::Machine(asker)));
        for other in [
            "grub.cfg",
            "grubs/grub.cfg",
            "grub/x86_64-efi/fs.lst",
            "grub/machine/x.cfg",
        ] {
            assert_eq!(wanted(other), None, "{other}");
        }
    }

    #[test]
    fn a_job_boots_the_payload_and_none_the_disk() {
        let card = "52:54:00:12:34:56".parse().ok();
        let text = payload(
            "0A00020F.toml",
            "pitstop.host=http://s:80/hosts/a b='c' $x;y",
            card,
        );
        assert!(
            text.contains(
                "\nlinux /boot/vmlinuz 'pitstop.host=http://s:80/hosts/a' 'b='\\''c'\\''' '$x;y' \
                 'BOOTIF=01-52-54-00-12-34-56'\ninitrd /boot/initramfs.img\nfi\nboot\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "\nif [ \"$grub_cpu\" = arm64 ]; then\nlinux /boot/arm64/vmlinuz 'pitstop.host=http://s:80/hosts/a' "
            ) && text.contains("\ninitrd /boot/arm64/initramfs.img\nelse\n"),
            "{text}"
        );
        let text = local();
        let shim = text
            .find("($disk)/EFI/debian/shim$cpu.efi && boot")
            .unwrap();
        let windows = text.find("/EFI/Microsoft/Boot/bootmgfw.efi").unwrap();
        assert!(shim < windows && !text.contains("linux "), "{text}");
        assert!(
            entry()
                .contains("\nsource $prefix/machine/$net_default_mac/$net_default_ip/$uuid.cfg\n")
        );
    }

    proptest! {
        /// No word ends the quotes around it: a shell that reads it has it again, and nothing stands outside of quotes.
        #[test]
        fn words_stay_words(word in "[ -~]{0,40}") {
            let text = quoted(&word);
            let (mut read, mut inside) = (String::new(), false);
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                match (inside, letter) {
                    (_, '\'') => inside = !inside,
                    (true, letter) => read.push(letter),
                    (false, '\\') => read.extend(letters.next()),
                    (false, _) => prop_assert!(false, "{letter} in {text}"),
                }
            }
            prop_assert!(!inside && read == word, "{text}");
        }

        #[test]
        fn no_path_is_too_odd(path in "[a-z/:.$-]{0,60}") {
            if let Ok(path) = RelPath::from_text(&path) {
                let _ = Wanted::of(&path);
            }
        }
    }
}
