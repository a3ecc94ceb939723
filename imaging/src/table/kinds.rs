//! What partition types are called.

use std::fmt;

/// The type a table gives a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKind {
    /// GPT type GUID, upper case.
    Guid(String),
    /// MBR type code.
    Code(u8),
}

impl PartitionKind {
    /// The type code, in an MBR.
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Guid(_) => None,
            Self::Code(code) => Some(*code),
        }
    }

    /// Whether it is an MBR's extended partition, which has others within.
    pub fn is_extended(&self) -> bool {
        matches!(self, Self::Code(0x05 | 0x0f | 0x85))
    }

    /// The one whose text, as in an image's `.toml`, begins with its code or GUID.
    pub fn of_text(text: &str) -> Option<Self> {
        let word = text.split(' ').next()?;
        match word.strip_prefix("0x") {
            Some(code) => u8::from_str_radix(code, 16).ok().map(Self::Code),
            None if word.len() == 36 => Some(Self::Guid(word.to_uppercase())),
            None => None,
        }
    }

    /// Whether it is for members of a Linux RAID.
    pub fn is_raid(&self) -> bool {
        match self {
            Self::Guid(guid) => guid == "A19D880F-05FC-4D3B-A006-743F0F84911E",
            Self::Code(code) => *code == 0xfd,
        }
    }

    /// Whether firmware or Windows find such a partition by its place, so that it keeps its size: EFI system, BIOS boot,
    /// Microsoft reserved, Windows recovery.
    pub fn is_fixed(&self) -> bool {
        match self {
            Self::Guid(guid) => matches!(
                guid.as_str(),
                "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
                    | "21686148-6449-6E6F-744E-656564454649"
                    | "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"
                    | "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"
            ),
            Self::Code(code) => matches!(code, 0xef | 0x27),
        }
    }

    /// What people call it, where that is known.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Guid(guid) => lookup(GUIDS, guid.as_str()),
            Self::Code(code) => lookup(CODES, *code),
        }
    }
}

impl fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid(guid) => write!(f, "{guid}")?,
            Self::Code(code) => write!(f, "0x{code:02x}")?,
        }
        match self.name() {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

fn lookup<K: PartialEq + Copy>(table: &[(K, &'static str)], key: K) -> Option<&'static str> {
    table
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, name)| *name)
}

/// UEFI 2.10 5.3.3, the Discoverable Partitions Specification, and Microsoft's list.
const GUIDS: &[(&str, &str)] = &[
    ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI system"),
    ("21686148-6449-6E6F-744E-656564454649", "BIOS boot"),
    ("9E1A2D38-C612-4316-AA26-8B49521E5A8B", "PReP boot"),
    ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux filesystem"),
    ("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "Linux swap"),
    ("E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"),
    ("A19D880F-05FC-4D3B-A006-743F0F84911E", "Linux RAID"),
    ("CA7D7CCB-63ED-4C53-861C-1742536059CC", "Linux LUKS"),
    ("933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "Linux home"),
    ("3B8F8425-20E0-4F3B-907F-1A25A76F98E8", "Linux server data"),
    (
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        "Linux root (x86-64)",
    ),
    (
        "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
        "Linux root (ARM-64)",
    ),
    (
        "BC13C2FF-59E6-4262-A352-B275FD6F7172",
        "Linux extended boot",
    ),
    ("8DA63339-0007-60C0-C436-083AC8230908", "Linux reserved"),
    (
        "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
        "Microsoft basic data",
    ),
    ("E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "Microsoft reserved"),
    ("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "Windows recovery"),
    (
        "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3",
        "Windows LDM metadata",
    ),
    ("AF9B60A0-1431-4F62-BC68-3311714A69AD", "Windows LDM data"),
    (
        "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D",
        "Windows storage spaces",
    ),
    ("516E7CB4-6ECF-11D6-8FF8-00022D09712B", "FreeBSD data"),
    ("516E7CBA-6ECF-11D6-8FF8-00022D09712B", "FreeBSD ZFS"),
    ("6A898CC3-1DD2-11B2-99A6-080020736631", "ZFS"),
    ("48465300-0000-11AA-AA11-00306543ECAC", "Apple HFS+"),
    ("7C3457EF-0000-11AA-AA11-00306543ECAC", "Apple APFS"),
];

/// The MBR type codes that are still met.
const CODES: &[(u8, &str)] = &[
    (0x01, "FAT12"),
    (0x04, "FAT16 <32M"),
    (0x06, "FAT16"),
    (0x07, "NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32 (LBA)"),
    (0x0e, "FAT16 (LBA)"),
    (0x11, "hidden FAT12"),
    (0x17, "hidden NTFS"),
    (0x1b, "hidden FAT32"),
    (0x1c, "hidden FAT32 (LBA)"),
    (0x27, "Windows recovery"),
    (0x42, "Windows LDM"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xa8, "Darwin UFS"),
    (0xa9, "NetBSD"),
    (0xaf, "Apple HFS+"),
    (0xbf, "Solaris"),
    (0xda, "data"),
    (0xef, "EFI system"),
    (0xfd, "Linux RAID"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_type_leads_back_to_it() {
        let guids = GUIDS
            .iter()
            .map(|(guid, _)| PartitionKind::Guid((*guid).into()));
        for kind in guids.chain((0..=255).map(PartitionKind::Code)) {
            assert_eq!(PartitionKind::of_text(&kind.to_string()), Some(kind));
        }
        for text in ["", "Linux", "0x", "0x123 much"] {
            assert_eq!(PartitionKind::of_text(text), None, "{text}");
        }
    }

    #[test]
    fn fixed_types_are_those_of_these_names() {
        let names = [
            "EFI system",
            "BIOS boot",
            "Microsoft reserved",
            "Windows recovery",
        ];
        let guids = GUIDS
            .iter()
            .map(|(guid, _)| PartitionKind::Guid((*guid).into()));
        for kind in guids.chain((0..=255).map(PartitionKind::Code)) {
            let is_one = kind.name().is_some_and(|name| names.contains(&name));
            assert_eq!(kind.is_fixed(), is_one, "{kind}");
        }
    }
}
