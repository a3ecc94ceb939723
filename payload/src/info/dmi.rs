//! SMBIOS structures as text: what the maker wrote into the firmware.
//!
//! Layout: DMTF DSP0134 3.7, section 6.1.2 (header) and 6.1.3 (strings), section 7 for each type.
//! The table comes from firmware, which gets it wrong often enough: nothing here trusts a length.

use std::fmt::Write as _;

/// How a field is shown; offsets count from the beginning of the structure.
enum Kind {
    Text,
    Byte,
    Word(&'static str),
    Uuid,
    /// Type 17: in MiB, or in KiB with the top bit set; 0x7fff: see the extended size.
    MemorySize,
}

struct Field(u8, &'static str, Kind);

struct Shape {
    kind: u8,
    title: &'static str,
    fields: &'static [Field],
}

use Kind::{Byte, MemorySize, Text, Uuid, Word};

const SHAPES: &[Shape] = &[
    Shape {
        kind: 0,
        title: "BIOS",
        fields: &[
            Field(0x04, "Vendor", Text),
            Field(0x05, "Version", Text),
            Field(0x08, "Release date", Text),
        ],
    },
    Shape {
        kind: 1,
        title: "System",
        fields: &[
            Field(0x04, "Manufacturer", Text),
            Field(0x05, "Product", Text),
            Field(0x06, "Version", Text),
            Field(0x07, "Serial number", Text),
            Field(0x08, "UUID", Uuid),
            Field(0x19, "SKU", Text),
            Field(0x1a, "Family", Text),
        ],
    },
    Shape {
        kind: 2,
        title: "Base board",
        fields: &[
            Field(0x04, "Manufacturer", Text),
            Field(0x05, "Product", Text),
            Field(0x06, "Version", Text),
            Field(0x07, "Serial number", Text),
            Field(0x08, "Asset tag", Text),
        ],
    },
    Shape {
        kind: 3,
        title: "Chassis",
        fields: &[
            Field(0x04, "Manufacturer", Text),
            Field(0x05, "Type", Byte),
            Field(0x06, "Version", Text),
            Field(0x07, "Serial number", Text),
            Field(0x08, "Asset tag", Text),
        ],
    },
    Shape {
        kind: 4,
        title: "Processor",
        fields: &[
            Field(0x04, "Socket", Text),
            Field(0x07, "Manufacturer", Text),
            Field(0x10, "Version", Text),
            Field(0x14, "Maximum speed", Word("MHz")),
            Field(0x16, "Current speed", Word("MHz")),
            Field(0x20, "Serial number", Text),
            Field(0x22, "Part number", Text),
            Field(0x23, "Cores", Byte),
            Field(0x25, "Threads", Byte),
        ],
    },
    Shape {
        kind: 8,
        title: "Port",
        fields: &[Field(0x04, "Inside", Text), Field(0x06, "Outside", Text)],
    },
    Shape {
        kind: 9,
        title: "Slot",
        fields: &[Field(0x04, "Designation", Text)],
    },
    Shape {
        kind: 17,
        title: "Memory device",
        fields: &[
            Field(0x10, "Locator", Text),
            Field(0x11, "Bank", Text),
            Field(0x0c, "Size", MemorySize),
            Field(0x15, "Speed", Word("MT/s")),
            Field(0x17, "Manufacturer", Text),
            Field(0x18, "Serial number", Text),
            Field(0x1a, "Part number", Text),
        ],
    },
    Shape {
        kind: 41,
        title: "Onboard device",
        fields: &[Field(0x04, "Designation", Text)],
    },
];

const PROCESSOR: u8 = 4;
const MEMORY_DEVICE: u8 = 17;
const END_OF_TABLE: u8 = 127;

struct Structure<'a> {
    kind: u8,
    handle: u16,
    /// Header included, as the specification counts offsets.
    formatted: &'a [u8],
    strings: Vec<String>,
}

/// Every structure of the table in `/sys/firmware/dmi/tables/DMI`, up to where it makes sense.
pub fn describe(table: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = table;
    while let Some((structure, after)) = next(rest) {
        describe_one(&structure, &mut text);
        if structure.kind == END_OF_TABLE {
            return text;
        }
        rest = after;
    }
    if !rest.is_empty() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "(the table breaks off: {} bytes make no structure)",
            rest.len()
        );
    }
    text
}

/// Bytes of memory in all slots; 0 where the table does not tell.
pub fn installed_memory(table: &[u8]) -> u64 {
    let slots = structures(table).filter(|it| it.kind == MEMORY_DEVICE);
    let sizes = slots.filter_map(|slot| slot.memory_bytes());
    sizes.fold(0, u64::saturating_add)
}

/// Sockets with a processor in them, and what the first of those is.
pub fn processors(table: &[u8]) -> (u32, String) {
    // 7.5.6: bit 6 of the status says that the socket is populated.
    let populated =
        |it: &Structure<'_>| it.kind == PROCESSOR && it.byte(0x18).is_some_and(|it| it & 0x40 != 0);
    let mut found = structures(table).filter(populated);
    let first = found.next();
    let model = first.as_ref().and_then(|it| it.show(0x10, &Text));
    let count = usize::from(first.is_some()) + found.count();
    (
        u32::try_from(count).unwrap_or(u32::MAX),
        model.unwrap_or_default(),
    )
}

fn structures(table: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    let mut rest = table;
    std::iter::from_fn(move || {
        let (structure, after) = next(rest)?;
        rest = after;
        (structure.kind != END_OF_TABLE).then_some(structure)
    })
}

fn next(bytes: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let length = usize::from(*bytes.get(1)?);
    let formatted = bytes.get(..length).filter(|_| length >= 4)?;
    let mut rest = bytes.get(length..)?;
    let mut strings = Vec::new();
    // 6.1.3: strings end with a null each, the set with one more; no strings are two nulls.
    loop {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (string, after) = (rest.get(..end)?, rest.get(end + 1..)?);
        if string.is_empty() {
            let after = if strings.is_empty() {
                after.get(1..)?
            } else {
                after
            };
            rest = after;
            break;
        }
        strings.push(pitstop_imaging::inventory::printable(string));
        rest = after;
    }
    let structure = Structure {
        kind: *bytes.first()?,
        handle: u16::from_le_bytes([*bytes.get(2)?, *bytes.get(3)?]),
        formatted,
        strings,
    };
    Some((structure, rest))
}

fn describe_one(structure: &Structure<'_>, text: &mut String) {
    let shape = SHAPES.iter().find(|shape| shape.kind == structure.kind);
    let title = shape.map_or("Structure", |shape| shape.title);
    let _ = writeln!(
        text,
        "{title} (type {}, handle {:#06x})",
        structure.kind, structure.handle
    );
    let Some(shape) = shape else {
        for string in &structure.strings {
            let _ = writeln!(text, "    {string}");
        }
        return;
    };
    for Field(offset, label, kind) in shape.fields {
        if let Some(value) = structure.show(usize::from(*offset), kind) {
            let _ = writeln!(text, "    {label}: {value}");
        }
    }
}

impl Structure<'_> {
    fn byte(&self, offset: usize) -> Option<u8> {
        self.formatted.get(offset).copied()
    }

    fn word(&self, offset: usize) -> Option<u16> {
        Some(u16::from_le_bytes([
            self.byte(offset)?,
            self.byte(offset + 1)?,
        ]))
    }

    /// `None` for what this structure is too short for, or does not say.
    fn show(&self, offset: usize, kind: &Kind) -> Option<String> {
        match kind {
            Kind::Text => {
                let index = usize::from(self.byte(offset)?).checked_sub(1)?;
                self.strings.get(index).cloned()
            }
            Kind::Byte => self.byte(offset).map(|byte| byte.to_string()),
            Kind::Word(unit) => {
                let word = self.word(offset).filter(|word| *word != 0)?;
                Some(format!("{word} {unit}"))
            }
            Kind::Uuid => {
                let bytes: [u8; 16] = self.formatted.get(offset..offset + 16)?.try_into().ok()?;
                Some(uuid(bytes))
            }
            Kind::MemorySize => self.memory_size(offset),
        }
    }

    fn memory_size(&self, offset: usize) -> Option<String> {
        match self.word(offset)? {
            0 => Some("empty".into()),
            size if size & 0x8000 != 0 && size != 0xffff => Some(format!("{} KiB", size & 0x7fff)),
            _ => Some(format!("{} MiB", self.memory_bytes()? >> 20)),
        }
    }

    /// 7.18: of a memory device; nothing where it is not known, 0 of an empty slot.
    fn memory_bytes(&self) -> Option<u64> {
        const SIZE: usize = 0x0c;
        const EXTENDED: usize = 0x1c;
        match self.word(SIZE)? {
            0xffff => None,
            0x7fff => {
                let bytes = self.formatted.get(EXTENDED..EXTENDED + 4)?;
                let size = u32::from_le_bytes(bytes.try_into().ok()?) & 0x7fff_ffff;
                Some(u64::from(size) << 20)
            }
            size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) << 10),
            size => Some(u64::from(size) << 20),
        }
    }
}

/// 7.2.1: the first three groups are little-endian.
fn uuid(b: [u8; 16]) -> String {
    let ordered = [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ];
    let mut text = String::new();
    for (index, byte) in ordered.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(kind: u8, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let length = u8::try_from(body.len() + 4).unwrap();
        let mut bytes = vec![kind, length, 0x34, 0x12];
        bytes.extend(body);
        for string in strings {
            bytes.extend(string.bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_table_is_told_in_words() {
        let mut system = vec![1, 2, 0, 3];
        system.extend(0..16u8);
        let mut table = structure(1, &system, &["QEMU", "Standard PC", "S-1"]);
        let mut memory = vec![0; 0x18];
        memory[0x0c - 4..0x0e - 4].copy_from_slice(&2048u16.to_le_bytes());
        memory[0x10 - 4] = 1;
        table.extend(structure(17, &memory, &["DIMM 0"]));
        table.extend(structure(200, &[], &["a maker's own"]));
        table.extend(structure(127, &[], &[]));
        table.extend([0xff; 9]);
        assert_eq!(
            describe(&table),
            "System (type 1, handle 0x1234)\n    Manufacturer: QEMU\n    Product: Standard PC\n    \
             Serial number: S-1\n    UUID: 03020100-0504-0706-0809-0a0b0c0d0e0f\n\
             Memory device (type 17, handle 0x1234)\n    Locator: DIMM 0\n    Size: 2048 MiB\n\
             Structure (type 200, handle 0x1234)\n    a maker's own\n\
             Structure (type 127, handle 0x1234)\n"
        );
    }

    #[test]
    fn memory_and_processors_are_counted() {
        let mut table = Vec::new();
        for (size, extended) in [
            (2048u16, 0u32),
            (0x7fff, 32 << 10),
            (0, 0),
            (0xffff, 0),
            (0x8200, 0),
        ] {
            let mut memory = vec![0; 0x1c];
            memory[0x0c - 4..0x0e - 4].copy_from_slice(&size.to_le_bytes());
            memory[0x1c - 4..].copy_from_slice(&extended.to_le_bytes());
            table.extend(structure(17, &memory, &[]));
        }
        assert_eq!(
            installed_memory(&table),
            (2048 << 20) + (32 << 30) + (512 << 10)
        );
        for status in [0x41, 0x41, 0x00] {
            let mut processor = vec![0; 0x16];
            processor[0x10 - 4] = 1;
            processor[0x18 - 4] = status;
            table.extend(structure(4, &processor, &["Xeon"]));
        }
        table.extend(structure(127, &[], &[]));
        table.extend(structure(4, &[0; 0x16], &["beyond"]));
        assert_eq!(processors(&table), (2, "Xeon".into()));
        assert_eq!(processors(&[]), (0, String::new()));
    }

    #[test]
    fn a_table_that_breaks_off_says_so() {
        let mut table = structure(0, &[1], &["SeaBIOS"]);
        table.extend([1, 2, 3]);
        assert!(describe(&table).contains("Vendor: SeaBIOS"));
        assert!(describe(&table).ends_with("3 bytes make no structure)\n"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(0u8..20, 0..400)) {
            describe(&bytes);
            installed_memory(&bytes);
            processors(&bytes);
        }
    }
}
