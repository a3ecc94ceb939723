//! `EFI_LOAD_OPTION`, what a `Boot####` variable holds (UEFI 2.10 3.1.3), as far as it points to a file on a disk.

/// The firmware may start it without being asked.
const ACTIVE: u32 = 1;
/// Device path nodes (UEFI 2.10 10.3): types, subtypes, and the length of a hard drive's.
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE: u8 = 4;
const END: u8 = 0x7f;
const HARD_DRIVE_LENGTH: u16 = 42;
const NODE_HEADER: usize = 4;

/// A partition as a device path has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardDrive {
    pub number: u32,
    /// In sectors.
    pub start: u64,
    /// In sectors.
    pub size: u64,
    pub signature: Signature,
}

/// What tells the disk or partition from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// The disk signature of an MBR.
    Mbr(u32),
    /// A partition's GUID, in the byte order of a GPT.
    Guid([u8; 16]),
}

/// A boot entry that starts a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    pub description: String,
    pub drive: HardDrive,
    /// `\EFI\debian\shimx64.efi`
    pub file: String,
}

impl LoadOption {
    /// Reads a variable's data. `None` if it is damaged, or starts something else than a file on a partition.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let paths = usize::from(u16::from_le_bytes(array(data, 4)?));
        let (description, length) = text(data.get(6..)?)?;
        let start = 6 + length;
        let mut paths = data.get(start..start.checked_add(paths)?)?;
        let (mut drive, mut file) = (None, String::new());
        while let Some((kind, node, rest)) = node(paths) {
            match kind {
                (END, _) => break,
                (MEDIA, HARD_DRIVE) if drive.is_none() => drive = hard_drive(node),
                // A path may be cut into several nodes.
                (MEDIA, FILE) => {
                    let (part, _) = text(node)?;
                    if !file.is_empty() && !file.ends_with('\\') && !part.starts_with('\\') {
                        file.push('\\');
                    }
                    file.push_str(&part);
                }
                _ => {}
            }
            paths = rest;
        }
        Some(Self {
            description,
            drive: drive?,
            file: Some(file).filter(|file| !file.is_empty())?,
        })
    }

    /// The variable's data; `None` when a text is too long for it.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut paths = Vec::new();
        let drive = &self.drive;
        paths.extend([MEDIA, HARD_DRIVE]);
        paths.extend(HARD_DRIVE_LENGTH.to_le_bytes());
        paths.extend(drive.number.to_le_bytes());
        paths.extend(drive.start.to_le_bytes());
        paths.extend(drive.size.to_le_bytes());
        let (signature, kind) = match drive.signature {
            Signature::Mbr(signature) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&signature.to_le_bytes());
                (bytes, 1)
            }
            Signature::Guid(guid) => (guid, 2),
        };
        paths.extend(signature);
        // The table's format and the signature's type have the same numbers.
        paths.extend([kind, kind]);
        let file = utf16(&self.file);
        paths.extend([MEDIA, FILE]);
        paths.extend(u16::try_from(file.len() + NODE_HEADER).ok()?.to_le_bytes());
        paths.extend(file);
        paths.extend([END, 0xff, 4, 0]);
        let mut data = ACTIVE.to_le_bytes().to_vec();
        data.extend(u16::try_from(paths.len()).ok()?.to_le_bytes());
        data.extend(utf16(&self.description));
        data.extend(paths);
        Some(data)
    }
}

/// Type and subtype, content, and what follows.
type Node<'a> = ((u8, u8), &'a [u8], &'a [u8]);

fn node(path: &[u8]) -> Option<Node<'_>> {
    let kind = (*path.first()?, *path.get(1)?);
    let length = usize::from(u16::from_le_bytes(array(path, 2)?));
    let content = path.get(NODE_HEADER..length)?;
    Some((kind, content, path.get(length..)?))
}

fn hard_drive(node: &[u8]) -> Option<HardDrive> {
    let signature = match node.get(37)? {
        1 => Signature::Mbr(u32::from_le_bytes(array(node, 20)?)),
        2 => Signature::Guid(array(node, 20)?),
        _ => return None,
    };
    Some(HardDrive {
        number: u32::from_le_bytes(array(node, 0)?),
        start: u64::from_le_bytes(array(node, 4)?),
        size: u64::from_le_bytes(array(node, 12)?),
        signature,
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A text that ends in a NUL, and the bytes that it takes.
fn text(bytes: &[u8]) -> Option<(String, usize)> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let length = (units.len() + 1) * 2;
    (length <= bytes.len()).then(|| (String::from_utf16_lossy(&units), length))
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().filter(|unit| *unit != 0).chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option(signature: Signature) -> LoadOption {
        LoadOption {
            description: "debian".into(),
            drive: HardDrive {
                number: 1,
                start: 2048,
                size: 81920,
                signature,
            },
            file: "\\EFI\\debian\\shimx64.efi".into(),
        }
    }

    #[test]
    fn an_entry_has_the_bytes_that_the_specification_gives_it() {
        let data = option(Signature::Guid([7; 16])).to_bytes().unwrap();
        assert_eq!(data[..4], [1, 0, 0, 0]);
        assert_eq!(data[6..20], *b"d\0e\0b\0i\0a\0n\0\0\0");
        assert_eq!(data[20..28], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(data[44..62], [[7; 16].as_slice(), &[2, 2]].concat());
        assert_eq!(data[62..66], [4, 4, 52, 0]);
        assert_eq!(data[data.len() - 4..], [0x7f, 0xff, 4, 0]);
        assert_eq!(
            usize::from(u16::from_le_bytes([data[4], data[5]])),
            data.len() - 20
        );
    }

    #[test]
    fn what_starts_no_file_of_a_partition_is_passed_over() {
        let whole = option(Signature::Mbr(5)).to_bytes().unwrap();
        assert_eq!(LoadOption::parse(&whole), Some(option(Signature::Mbr(5))));
        // A full path has the controller in front (ACPI, PCI), which says nothing of the partition.
        let mut full = whole.clone();
        full.splice(
            20..20,
            [2, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 6, 0, 0, 3],
        );
        full[4] += 18;
        assert_eq!(LoadOption::parse(&full), Some(option(Signature::Mbr(5))));
        // The network: an address, no drive.
        let mut network = whole.clone();
        network[20] = 3;
        assert_eq!(LoadOption::parse(&network), None);
        assert_eq!(LoadOption::parse(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..120,
            damage in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let _ = LoadOption::parse(&noise);
            let mut data = option(Signature::Guid([7; 16])).to_bytes().unwrap();
            for (place, byte) in data.iter_mut().skip(at).zip(damage) {
                *place = byte;
            }
            let _ = LoadOption::parse(&data);
        }

        #[test]
        fn what_is_written_reads_back(
            description in "[^\\x00]{0,40}",
            file in "[^\\x00]{1,80}",
            number: u32,
            start: u64,
            guid: [u8; 16],
        ) {
            let signature = Signature::Guid(guid);
            let drive = HardDrive { number, start, size: 5, signature };
            let option = LoadOption { description, drive, file };
            prop_assert_eq!(LoadOption::parse(&option.to_bytes().unwrap()), Some(option));
        }
    }
}
