//! What a module says of itself: the `.modinfo` section (kernel `include/linux/module.h`, `MODULE_INFO`).

use crate::codec::Codec;
use anyhow::{Context, Result};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

/// The largest module taken, unpacked; the largest of Debian's is under 10 MiB.
const LARGEST_MODULE: u64 = 256 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Names of the modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Device patterns and other names it is asked for by.
    pub aliases: Vec<String>,
    /// As written: `pre: crc32c post: x`.
    pub softdeps: Vec<String>,
    /// Firmware files below `/lib/firmware`.
    pub firmware: Vec<String>,
}

impl Info {
    /// Reads a module file, compressed or not: what it says, and the ELF machine that it is for.
    pub fn read(file: &[u8]) -> Result<(Self, u16)> {
        let plain = Codec::decompress(file, LARGEST_MODULE)?;
        let header =
            FileHeader64::<Endianness>::parse(plain.as_slice()).context("not an ELF module")?;
        let endian = header.endian()?;
        let sections = header.sections(endian, plain.as_slice())?;
        let section = sections.section_by_name(endian, b".modinfo");
        let data = match section {
            Some((_, section)) => section.data(endian, plain.as_slice())?,
            None => anyhow::bail!("has no .modinfo section"),
        };
        Ok((Self::parse(data), header.e_machine(endian).0))
    }

    fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for field in section.split(|byte| *byte == 0) {
            let Ok(field) = std::str::from_utf8(field) else {
                continue;
            };
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            match key {
                "depends" => {
                    info.depends
                        .extend(value.split(',').filter(|n| !n.is_empty()).map(normal));
                }
                "alias" => info.aliases.push(value.to_owned()),
                "softdep" => info.softdeps.push(value.to_owned()),
                "firmware" => info.firmware.push(value.to_owned()),
                _ => {}
            }
        }
        info
    }

    /// The names in its soft dependencies, before and after alike: all of them have to be in the image.
    pub fn soft_names(&self) -> impl Iterator<Item = &str> {
        self.softdeps
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter(|word| !matches!(*word, "pre:" | "post:"))
    }
}

/// The kernel's own spelling of a module's name: dashes are underscores.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_and_names_normalised() {
        let info = Info::parse(
            b"license=GPL\0depends=mii,crc-itu-t\0alias=pci:v00008086d*\0softdep=pre: crc32c post: arc4\0firmware=a/b.bin\0depends=\0",
        );
        assert_eq!(info.depends, ["mii", "crc_itu_t"]);
        assert_eq!(info.aliases, ["pci:v00008086d*"]);
        assert_eq!(info.firmware, ["a/b.bin"]);
        assert_eq!(info.soft_names().collect::<Vec<_>>(), ["crc32c", "arc4"]);
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        assert_eq!(
            Info::read(b"text").unwrap_err().to_string(),
            "not an ELF module"
        );
        let busybox = std::fs::read("/bin/busybox").expect("install busybox-static");
        assert_eq!(
            Info::read(&busybox).unwrap_err().to_string(),
            "has no .modinfo section"
        );
    }
}
