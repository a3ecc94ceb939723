//! Sections added to a UEFI program (PE/COFF, Microsoft's "PE Format"): how a stub becomes a kernel image.

use crate::arch::Architecture;
use anyhow::{Context, Result, bail, ensure};

/// Offsets in the DOS and PE headers and in the optional header of PE32+.
const PE_OFFSET: usize = 0x3c;
const COFF_SECTIONS: usize = 6;
const COFF_OPTIONAL_SIZE: usize = 20;
const COFF_SIZE: usize = 24;
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const SUBSYSTEM: usize = 68;
/// The size field of data directory 4, where signatures are.
const CERTIFICATES_SIZE: usize = 112 + 4 * 8 + 4;

const SECTION_SIZE: usize = 40;
const PE32_PLUS: u16 = 0x20b;
const EFI_APPLICATION: u16 = 10;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// Firmware that guards pages by section wants each to begin a page.
const PAGE: u32 = 4096;

/// What the linker of systemd's stub for arm64 has between the header and the code: instructions that do nothing
/// (`NOP`, Arm Architecture Reference Manual C6.2).
const FILLER: [u8; 4] = 0xd503_201f_u32.to_le_bytes();

/// A section to add. The name has at most 8 bytes.
pub struct Section<'a> {
    pub name: &'a str,
    pub data: &'a [u8],
}

/// What the headers say that matters here.
struct Headers {
    /// Of the optional header.
    optional: usize,
    coff: usize,
    /// Of the first byte after the last section header.
    table_end: usize,
    count: u16,
    section_alignment: u32,
    file_alignment: u32,
    /// Where the next section goes in memory.
    memory_end: u32,
    /// Section headers must end before this.
    room_end: usize,
}

/// Returns `program` with the sections at its end, in this order.
///
/// # Errors
/// If it is no unsigned UEFI program of `architecture`, has no room for the section headers, or has such a section already.
pub fn with_sections(
    program: &[u8],
    architecture: Architecture,
    sections: &[Section],
) -> Result<Vec<u8>> {
    let headers = Headers::read(program, architecture, sections)?;
    let mut image = program.to_vec();
    let mut memory = headers.memory_end;
    let mut grown = 0u32;
    for (index, section) in sections.iter().enumerate() {
        let start = align(image.len(), headers.file_alignment)?;
        image.resize(to_usize(start)?, 0);
        image.extend_from_slice(section.data);
        let end = align(image.len(), headers.file_alignment)?;
        image.resize(to_usize(end)?, 0);
        memory = align(to_usize(memory)?, headers.section_alignment.max(PAGE))?;
        let size = u32::try_from(section.data.len())?;
        let mut header = [0; SECTION_SIZE];
        header
            .iter_mut()
            .zip(section.name.bytes())
            .for_each(|(to, from)| *to = from);
        for (offset, value) in [
            (8, size),
            (12, memory),
            (16, end - start),
            (20, start),
            (36, READ_ONLY_DATA),
        ] {
            put(&mut header, offset, value)?;
        }
        let at = headers.table_end + index * SECTION_SIZE;
        image
            .get_mut(at..at + SECTION_SIZE)
            .context("the section table ends early")?
            .copy_from_slice(&header);
        memory = memory
            .checked_add(size)
            .context("the image is larger than 4 GiB")?;
        grown = grown.saturating_add(end - start);
    }
    finish(&mut image, &headers, sections.len(), memory, grown)?;
    Ok(image)
}

/// Brings the headers' counts and sums up to date.
fn finish(
    image: &mut [u8],
    headers: &Headers,
    added: usize,
    memory: u32,
    grown: u32,
) -> Result<()> {
    let count = usize::from(headers.count) + added;
    let at = headers.coff + COFF_SECTIONS;
    image
        .get_mut(at..at + 2)
        .context("the COFF header ends early")?
        .copy_from_slice(&u16::try_from(count)?.to_le_bytes());
    let data_at = headers.optional + SIZE_OF_INITIALIZED_DATA;
    let data = get32(image, data_at)?.saturating_add(grown);
    put(image, data_at, data)?;
    let size = align(to_usize(memory)?, headers.section_alignment)?;
    put(image, headers.optional + SIZE_OF_IMAGE, size)?;
    put(image, headers.optional + CHECKSUM, 0)?;
    let sum = checksum(image)?;
    put(image, headers.optional + CHECKSUM, sum)
}

impl Headers {
    fn read(program: &[u8], architecture: Architecture, sections: &[Section]) -> Result<Self> {
        ensure!(program.starts_with(b"MZ"), "it has no DOS header");
        let coff = to_usize(get32(program, PE_OFFSET)?)?;
        ensure!(
            slice(program, coff, 4)? == b"PE\0\0",
            "it has no PE signature"
        );
        let machine = Architecture::of_pe(get16(program, coff + 4)?)?;
        ensure!(
            machine == architecture,
            "it is for {machine}, and the kernel for {architecture}"
        );
        let optional = coff + COFF_SIZE;
        ensure!(get16(program, optional)? == PE32_PLUS, "it is not PE32+");
        ensure!(
            get16(program, optional + SUBSYSTEM)? == EFI_APPLICATION,
            "it is not a UEFI application"
        );
        ensure!(
            get32(program, optional + CERTIFICATES_SIZE)? == 0,
            "it is signed already, and a change would break that: take the unsigned one"
        );
        let mut headers = Self {
            optional,
            coff,
            table_end: optional + usize::from(get16(program, coff + COFF_OPTIONAL_SIZE)?),
            count: get16(program, coff + COFF_SECTIONS)?,
            section_alignment: get32(program, optional + SECTION_ALIGNMENT)?,
            file_alignment: get32(program, optional + FILE_ALIGNMENT)?,
            memory_end: 0,
            room_end: to_usize(get32(program, optional + SIZE_OF_HEADERS)?)?,
        };
        for alignment in [headers.section_alignment, headers.file_alignment] {
            ensure!(
                alignment.is_power_of_two() && alignment <= 1 << 20,
                "it has an alignment of {alignment}"
            );
        }
        headers.read_table(program, sections)?;
        headers.check_room(program, sections.len())?;
        Ok(headers)
    }

    fn read_table(&mut self, program: &[u8], sections: &[Section]) -> Result<()> {
        for _ in 0..self.count {
            let header = slice(program, self.table_end, SECTION_SIZE)?;
            let name = slice(header, 0, 8)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if sections.iter().any(|new| new.name.as_bytes() == name) {
                bail!(
                    "it has a section {} already: take a bare stub",
                    String::from_utf8_lossy(name)
                );
            }
            let end = get32(header, 12)?
                .checked_add(get32(header, 8)?.max(get32(header, 16)?))
                .context("a section of it ends beyond 4 GiB")?;
            self.memory_end = self.memory_end.max(end);
            let data = to_usize(get32(header, 20)?)?;
            if data != 0 {
                self.room_end = self.room_end.min(data);
            }
            self.table_end += SECTION_SIZE;
        }
        Ok(())
    }

    fn check_room(&self, program: &[u8], added: usize) -> Result<()> {
        let wanted = added * SECTION_SIZE;
        ensure!(
            self.table_end + wanted <= self.room_end,
            "its header has no room for {added} more sections"
        );
        ensure!(
            slice(program, self.table_end, wanted)?
                .chunks(FILLER.len())
                .all(|word| word == FILLER || word.iter().all(|byte| *byte == 0)),
            "its header has something after the section table"
        );
        Ok(())
    }
}

/// The sum over 16-bit words with carry, plus the length (`CheckSumMappedFile`). The field itself must be zero.
fn checksum(image: &[u8]) -> Result<u32> {
    let sum = image.chunks(2).fold(0u32, |sum, word| {
        let low = word.first().copied().unwrap_or_default();
        let high = word.get(1).copied().unwrap_or_default();
        let sum = sum + u32::from(u16::from_le_bytes([low, high]));
        (sum & 0xffff) + (sum >> 16)
    });
    let length = u32::try_from(image.len()).context("the image is larger than 4 GiB")?;
    Ok(sum.wrapping_add(length))
}

fn align(value: usize, to: u32) -> Result<u32> {
    let to = to_usize(to)?;
    let aligned = value.checked_next_multiple_of(to);
    let aligned = aligned.and_then(|aligned| u32::try_from(aligned).ok());
    aligned.context("the image is larger than 4 GiB")
}

fn to_usize(value: u32) -> Result<usize> {
    Ok(usize::try_from(value)?)
}

fn slice(data: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    let end = at.checked_add(length);
    end.and_then(|end| data.get(at..end))
        .with_context(|| format!("its headers point beyond its end, to byte {at}"))
}

fn get16(data: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(slice(data, at, 2)?.try_into()?))
}

fn get32(data: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(slice(data, at, 4)?.try_into()?))
}

fn put(data: &mut [u8], at: usize, value: u32) -> Result<()> {
    data.get_mut(at..at + 4)
        .with_context(|| format!("byte {at} is beyond the end"))?
        .copy_from_slice(&value.to_le_bytes());
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use object::read::pe::PeFile64;
    use object::{Object, ObjectSection};
    use proptest::prelude::*;

    /// The smallest program that counts: one section of code and room for more headers.
    pub fn stub(architecture: Architecture) -> Vec<u8> {
        let mut data = vec![0; 0x600];
        data[..2].copy_from_slice(b"MZ");
        data[PE_OFFSET] = 0x40;
        data[0x40..0x44].copy_from_slice(b"PE\0\0");
        data[0x44..0x46].copy_from_slice(&architecture.pe().to_le_bytes());
        data[0x46] = 1;
        data[0x54] = 240;
        let optional = 0x58;
        data[optional..optional + 2].copy_from_slice(&PE32_PLUS.to_le_bytes());
        for (offset, value) in [
            (SECTION_ALIGNMENT, 0x200),
            (FILE_ALIGNMENT, 0x200),
            (SIZE_OF_IMAGE, 0x1100),
            (SIZE_OF_HEADERS, 0x400),
            (SUBSYSTEM, u32::from(EFI_APPLICATION)),
            (108, 16),
        ] {
            put(&mut data, optional + offset, value).unwrap();
        }
        let table = optional + 240;
        data[table..table + 5].copy_from_slice(b".text");
        for (offset, value) in [(8, 0x100), (12, 0x1000), (16, 0x200), (20, 0x400)] {
            put(&mut data, table + offset, value).unwrap();
        }
        data
    }

    const NEW: [Section; 2] = [
        Section {
            name: ".cmdline",
            data: b"quiet",
        },
        Section {
            name: ".linux",
            data: &[7; 5000],
        },
    ];

    fn with_new(program: &[u8]) -> Result<Vec<u8>> {
        with_sections(program, Architecture::X86_64, &NEW)
    }

    #[test]
    fn a_stub_of_another_architecture_is_refused() {
        let mut arm = stub(Architecture::Arm64);
        assert!(with_sections(&arm, Architecture::Arm64, &NEW).is_ok());
        let table_end = 0x58 + 240 + SECTION_SIZE;
        let behind = arm[table_end..0x400].chunks_exact_mut(4);
        behind.for_each(|word| word.copy_from_slice(&FILLER));
        assert!(with_sections(&arm, Architecture::Arm64, &NEW).is_ok());
        arm[table_end + 5] = 1;
        let why = with_sections(&arm, Architecture::Arm64, &NEW).unwrap_err();
        assert!(why.to_string().contains("something after"), "{why}");
        let why = with_new(&arm).unwrap_err().to_string();
        assert_eq!(why, "it is for arm64, and the kernel for x86-64");
    }

    #[test]
    fn sections_are_added_as_other_readers_see_them() {
        let image = with_new(&stub(Architecture::X86_64)).unwrap();
        let file = PeFile64::parse(&*image).unwrap();
        let seen: Vec<(String, u64, u64)> = file
            .sections()
            .map(|section| {
                let name = section.name().unwrap().to_owned();
                (name, section.address(), section.size())
            })
            .collect();
        let expected = [
            (".text", 0x1000, 0x100),
            (".cmdline", 0x2000, 5),
            (".linux", 0x3000, 5000),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, at, size)| (name.to_owned(), at, size))
        );
        for section in &NEW {
            let found = file.section_by_name(section.name).unwrap();
            assert_eq!(&found.data().unwrap()[..section.data.len()], section.data);
        }
        assert_eq!(get32(&image, 0x58 + SIZE_OF_IMAGE).unwrap(), 0x4400);
        assert_eq!(
            with_new(&stub(Architecture::X86_64)).unwrap(),
            image,
            "the same again"
        );
    }

    #[test]
    fn what_cannot_be_a_stub_is_refused() {
        let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut program = stub(Architecture::X86_64);
            change(&mut program);
            format!("{:#}", with_new(&program).unwrap_err())
        };
        assert_eq!(refusal(&|program| program[0] = 0), "it has no DOS header");
        let signed = refusal(&|program| program[0x58 + CERTIFICATES_SIZE] = 8);
        assert!(signed.starts_with("it is signed already"), "{signed}");
        let twice = refusal(&|program| *program = with_new(program).unwrap());
        assert!(
            twice.starts_with("it has a section .cmdline already"),
            "{twice}"
        );
        let full = refusal(&|program| program[0x58 + SIZE_OF_HEADERS + 1] = 1);
        assert_eq!(full, "its header has no room for 2 more sections");
        let short = refusal(&|program| program.truncate(0x100));
        assert!(
            short.starts_with("its headers point beyond its end"),
            "{short}"
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_grow(changes in prop::collection::vec((0..0x200usize, any::<u8>()), 0..20)) {
            let mut program = stub(Architecture::X86_64);
            for (at, byte) in changes {
                program[at] = byte;
            }
            if let Ok(image) = with_new(&program) {
                prop_assert!(image.len() < 4 << 20);
            }
        }
    }
}
