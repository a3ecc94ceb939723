//! What kind of system a tree is, by its paths and a few of its files.

use crate::meta::{Meta, OsRelease};
use crate::path::{TreePath, shown};

/// Where os-release is (os-release(5)), the first one that is there.
pub const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Programs that tell for which processors a system is.
pub const PROGRAMS: [&str; 3] = ["usr/bin/sh", "bin/sh", "usr/bin/env"];

/// Kernels and boot loaders, as far as the names of files tell them.
pub fn of_paths<'a>(meta: &mut Meta, paths: impl Iterator<Item = &'a TreePath>) {
    let mut boot = crate::meta::Boot::default();
    for path in paths {
        let bytes = path.as_bytes();
        let folder = path.folder();
        let name = || shown(path.name());
        match folder {
            b"lib/modules" | b"usr/lib/modules" => meta.kernels.push(name()),
            _ if path.name() == b"core.img" || path.name() == b"core.efi" => {
                let above = folder.rsplit(|byte| *byte == b'/').next();
                if bytes.starts_with(b"boot/grub") {
                    boot.grub.push(shown(above.unwrap_or_default()));
                }
            }
            _ => {}
        }
        let text = path.to_string();
        let lower = text.to_ascii_lowercase();
        let is_in = |folder: &str| lower.contains(folder) && !lower.starts_with("/usr/");
        // FAT does not tell capitals from small letters.
        match lower.rsplit('.').next() {
            Some("efi") if is_in("/efi/") => boot.loaders.push(text),
            Some("conf") if is_in("/loader/entries/") => boot.entries.push(text),
            _ => {}
        }
    }
    meta.kernels.sort();
    meta.kernels.dedup();
    boot.grub.dedup();
    meta.boot = (boot != crate::meta::Boot::default()).then_some(boot);
}

/// Reads an os-release file: shell assignments (os-release(5)).
pub fn os_release(text: &str) -> Option<OsRelease> {
    let value = |key: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        Some(value.to_owned())
    };
    let release = OsRelease {
        id: value("ID").unwrap_or_default(),
        version: value("VERSION_ID").unwrap_or_default(),
        name: value("PRETTY_NAME").unwrap_or_default(),
    };
    (release != OsRelease::default()).then_some(release)
}

/// The processors that an ELF program is for, as `uname -m` names them (elf(5), `e_machine`).
pub fn architecture(program: &[u8]) -> Option<&'static str> {
    let magic = program.get(..4)? == b"\x7fELF";
    let little = *program.get(5)? == 1;
    let machine: [u8; 2] = program.get(18..20)?.try_into().ok()?;
    let machine = if little {
        u16::from_le_bytes(machine)
    } else {
        u16::from_be_bytes(machine)
    };
    if !magic {
        return None;
    }
    Some(match machine {
        3 => "i686",
        8 => "mips",
        21 => "ppc64le",
        22 => "s390x",
        40 => "armv7l",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_its_files() {
        let paths = [
            "boot/efi/EFI/debian/shimx64.efi",
            "boot/grub/i386-pc/core.img",
            "boot/loader/entries/a.conf",
            "usr/lib/modules/6.1.0-28-amd64",
            "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        ]
        .map(|path| TreePath::parse(path.as_bytes()).unwrap());
        let mut meta = Meta::default();
        of_paths(&mut meta, paths.iter());
        assert_eq!(meta.kernels, ["6.1.0-28-amd64"]);
        let boot = meta.boot.unwrap();
        assert_eq!(boot.grub, ["i386-pc"]);
        assert_eq!(boot.loaders, ["/boot/efi/EFI/debian/shimx64.efi"]);
        assert_eq!(boot.entries, ["/boot/loader/entries/a.conf"]);
        let release =
            os_release("PRETTY_NAME=\"Debian 12\"\nID=debian\nVERSION_ID='12'\n").unwrap();
        assert_eq!(
            (release.id.as_str(), release.version.as_str()),
            ("debian", "12")
        );
        assert_eq!(release.name, "Debian 12");
        assert_eq!(os_release("nothing"), None);
        let this = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(architecture(&this), Some(std::env::consts::ARCH));
        assert_eq!(architecture(b"#!/bin/sh"), None);
    }
}
