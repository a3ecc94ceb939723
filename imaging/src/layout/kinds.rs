//! Partition types by the names that a layout uses.

use crate::table::{PartitionKind, TableKind};

/// A name, its GPT type GUID and its MBR code, where the table has such a type.
struct Known(&'static str, Option<&'static str>, Option<u8>);

/// Type GUIDs: UEFI 2.10 5.3.3 and the Discoverable Partitions Specification. The first of a code wins when a
/// disk is captured.
const KNOWN: &[Known] = &[
    Known(
        "efi",
        Some("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        Some(0xef),
    ),
    Known(
        "bios-boot",
        Some("21686148-6449-6E6F-744E-656564454649"),
        None,
    ),
    Known(
        "linux",
        Some("0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
        Some(0x83),
    ),
    Known(
        "swap",
        Some("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),
        Some(0x82),
    ),
    Known(
        "root",
        Some("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
        Some(0x83),
    ),
    Known(
        "home",
        Some("933AC7E1-2EB4-4F13-B844-0E14E2AEF915"),
        Some(0x83),
    ),
    Known(
        "srv",
        Some("3B8F8425-20E0-4F3B-907F-1A25A76F98E8"),
        Some(0x83),
    ),
    Known(
        "boot",
        Some("BC13C2FF-59E6-4262-A352-B275FD6F7172"),
        Some(0xea),
    ),
    Known(
        "lvm",
        Some("E6D6D379-F507-44C2-A23C-238F2A3DF928"),
        Some(0x8e),
    ),
    Known(
        "raid",
        Some("A19D880F-05FC-4D3B-A006-743F0F84911E"),
        Some(0xfd),
    ),
    Known(
        "luks",
        Some("CA7D7CCB-63ED-4C53-861C-1742536059CC"),
        Some(0xe8),
    ),
    Known(
        "msdata",
        Some("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"),
        Some(0x07),
    ),
    Known("msr", Some("E3C9E316-0B5C-4DB8-817D-F92DF00215AE"), None),
    Known(
        "winre",
        Some("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"),
        Some(0x27),
    ),
    Known(
        "zfs",
        Some("6A898CC3-1DD2-11B2-99A6-080020736631"),
        Some(0xbf),
    ),
    Known(
        "prep",
        Some("9E1A2D38-C612-4316-AA26-8B49521E5A8B"),
        Some(0x41),
    ),
    Known("fat32", None, Some(0x0c)),
    Known("fat16", None, Some(0x0e)),
    Known("extended", None, Some(0x0f)),
];

/// What the text of a layout means in such a table: a name, `0x83`, or a GUID.
///
/// # Errors
/// A sentence that says what is understood.
pub fn kind(text: &str, table: TableKind) -> Result<PartitionKind, String> {
    let text = text.trim();
    if let Some(Known(name, guid, code)) = KNOWN.iter().find(|known| known.0 == text) {
        let found = match table {
            TableKind::Gpt => guid.map(|guid| PartitionKind::Guid(guid.into())),
            TableKind::Mbr | TableKind::None => code.map(PartitionKind::Code),
        };
        return found.ok_or_else(|| format!("a {} table has no type {name:?}", table.name()));
    }
    match table {
        TableKind::Gpt if is_guid(text) => Ok(PartitionKind::Guid(text.to_ascii_uppercase())),
        TableKind::Mbr if text.starts_with("0x") => u8::from_str_radix(&text[2..], 16)
            .ok()
            .filter(|code| *code != 0)
            .map(PartitionKind::Code)
            .ok_or_else(|| format!("{text:?} is no type code: 0x01 to 0xff")),
        _ => Err(format!(
            "unknown type {text:?}: there are {}, {}",
            names(table).join(", "),
            match table {
                TableKind::Gpt => "and type GUIDs",
                TableKind::Mbr | TableKind::None => "and codes such as 0x83",
            }
        )),
    }
}

/// How a layout writes a type: by name where there is one.
pub fn name(kind: &PartitionKind) -> String {
    let found = KNOWN.iter().find(|Known(_, guid, code)| match kind {
        PartitionKind::Guid(have) => *guid == Some(have.as_str()),
        PartitionKind::Code(have) => *code == Some(*have),
    });
    match (found, kind) {
        (Some(known), _) => known.0.to_owned(),
        (None, PartitionKind::Guid(guid)) => guid.clone(),
        (None, PartitionKind::Code(code)) => format!("0x{code:02x}"),
    }
}

fn names(table: TableKind) -> Vec<&'static str> {
    KNOWN
        .iter()
        .filter(|Known(_, guid, code)| match table {
            TableKind::Gpt => guid.is_some(),
            TableKind::Mbr | TableKind::None => code.is_some(),
        })
        .map(|known| known.0)
        .collect()
}

/// Eight, four, four, four and twelve hex digits.
pub fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_codes_and_guids_are_understood_and_read_back() {
        for table in [TableKind::Gpt, TableKind::Mbr] {
            for text in names(table) {
                let found = kind(text, table).unwrap();
                assert_eq!(kind(&name(&found), table).unwrap(), found, "{text}");
            }
        }
        assert_eq!(kind("0x83", TableKind::Mbr), Ok(PartitionKind::Code(0x83)));
        let guid = "516e7cba-6ecf-11d6-8ff8-00022d09712b";
        assert_eq!(
            name(&kind(guid, TableKind::Gpt).unwrap()),
            guid.to_uppercase()
        );
        for (text, table, why) in [
            ("bios-boot", TableKind::Mbr, "a mbr table has no type"),
            ("extended", TableKind::Gpt, "a gpt table has no type"),
            ("0x100", TableKind::Mbr, "no type code"),
            ("ext4", TableKind::Gpt, "there are efi, bios-boot, linux"),
        ] {
            let error = kind(text, table).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
