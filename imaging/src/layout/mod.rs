//! A layout: the partitions and filesystems that a disk is to have, written by people or captured from a disk.

pub mod apply;
mod capture;
mod filesystems;
mod import;
mod kinds;
mod place;

pub use apply::{Outcome, apply};
pub use capture::capture;
pub use import::import;
pub use place::{Place, Placed};

use crate::table::{TableKind, signature};
use crate::units;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The only version there is.
const VERSION: u32 = 1;
/// Where partitions begin, unless the layout says otherwise.
const ALIGNMENT: u64 = 1 << 20;
/// What GPT has room for, as every tool writes it.
const MOST: usize = 128;

/// The contents of `layout.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layout {
    pub version: u32,
    /// `gpt` or `mbr`.
    pub table: TableKind,
    /// Disk GUID, or MBR signature as `0x` and eight hex digits; made up where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Partitions begin at multiples of this: `"1MiB"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<String>,
    #[serde(default, rename = "partition")]
    pub partitions: Vec<Entry>,
}

/// One partition, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// A name, a code as `0x83`, or a GUID.
    #[serde(rename = "type")]
    pub kind: String,
    /// `"512MiB"`, `"25%"` of the disk, or `"fill"`: what the others leave.
    pub size: String,
    /// Bytes from the beginning of the disk; behind the one before, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// As the kernel numbers it; the next one, unless given. Logical ones are numbered from 5 on, whatever is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Of an MBR: within the extended partition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logical: bool,
    /// The name in a GPT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Partition GUID, made up where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// GPT: `required`, `no-block-io`, `legacy-boot`, `grow`, `read-only`, `hidden`, `no-auto`. MBR: `boot`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// `ext2`, `ext3`, `ext4`, `xfs`, `btrfs`, `vfat`, `exfat`, `ntfs`, `swap`; none where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The filesystem's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
}

/// GPT attribute bits (UEFI 2.10 5.3.3, and the Discoverable Partitions Specification for those from 59 on).
const FLAGS: [(&str, u32); 7] = [
    ("required", 0),
    ("no-block-io", 1),
    ("legacy-boot", 2),
    ("grow", 59),
    ("read-only", 60),
    ("hidden", 62),
    ("no-auto", 63),
];

impl Layout {
    /// Reads the text of a `layout.toml`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let layout: Self = toml::from_str(text).context("reading the layout")?;
        if layout.version != VERSION {
            bail!(
                "the layout has version {}, this Pitstop reads version {VERSION}",
                layout.version
            );
        }
        layout.check()?;
        Ok(layout)
    }

    /// The text that [`parse`](Self::parse) reads.
    ///
    /// # Errors
    /// When a number does not fit TOML's signed 64 bits.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("writing the layout as TOML")
    }

    /// Everything that can be judged without a disk.
    fn check(&self) -> anyhow::Result<()> {
        if self.table == TableKind::None {
            bail!("a layout needs table = \"gpt\" or \"mbr\"");
        }
        if let Some(id) = &self.id {
            let right = match self.table {
                TableKind::Gpt => kinds::is_guid(id),
                _ => signature(id).is_some(),
            };
            if !right {
                bail!("id = {id:?} is no disk GUID, nor an MBR signature such as 0x1a2b3c4d");
            }
        }
        self.alignment()?;
        for (number, entry) in (1..).zip(&self.partitions) {
            self.check_entry(entry)
                .with_context(|| format!("partition {number} of the layout"))?;
        }
        self.numbered().map(drop)
    }

    /// The partitions that are not logical, each with its number.
    ///
    /// # Errors
    /// When a number is not behind the one before, or is too large for the table.
    fn numbered(&self) -> anyhow::Result<Vec<(u32, &Entry)>> {
        let most = match self.table {
            TableKind::Gpt => MOST,
            _ => 4,
        };
        let mut numbered = Vec::new();
        let mut next = 1;
        for entry in self.partitions.iter().filter(|entry| !entry.logical) {
            let number = entry.number.unwrap_or(next);
            if number < next {
                bail!(
                    "number = {number}: partitions stand in the order of their numbers, and the next one is {next}"
                );
            }
            if usize::try_from(number).is_ok_and(|number| number > most) {
                match self.table {
                    TableKind::Gpt => {
                        bail!("a GPT has up to {MOST} partitions, and no number {number}")
                    }
                    _ => bail!("an MBR has four partitions at most beside logical ones"),
                }
            }
            numbered.push((number, entry));
            next = number + 1;
        }
        Ok(numbered)
    }

    fn check_entry(&self, entry: &Entry) -> anyhow::Result<()> {
        let kind = kinds::kind(&entry.kind, self.table).map_err(anyhow::Error::msg)?;
        Size::parse(&entry.size).map_err(anyhow::Error::msg)?;
        flags(&entry.flags, self.table).map_err(anyhow::Error::msg)?;
        let gpt = self.table == TableKind::Gpt;
        if gpt && (entry.logical || self.partitions.len() > MOST) {
            bail!("a GPT has up to {MOST} partitions, none of them logical");
        }
        if entry.logical && entry.number.is_some() {
            bail!(
                "logical partitions are numbered from 5 on, one after the other: leave number out"
            );
        }
        if !gpt && (!entry.name.is_empty() || entry.id.is_some()) {
            bail!("an MBR gives partitions neither name nor id");
        }
        if entry.id.as_ref().is_some_and(|id| !kinds::is_guid(id)) {
            bail!(
                "id = {:?} is no GUID",
                entry.id.as_deref().unwrap_or_default()
            );
        }
        if entry.name.encode_utf16().count() > 36 {
            bail!("the name {:?} is longer than 36 letters", entry.name);
        }
        match &entry.filesystem {
            Some(_) if kind.is_extended() => {
                bail!("an extended partition has no filesystem")
            }
            Some(filesystem) => filesystems::check(filesystem, entry),
            None if entry.label.is_empty() && entry.uuid.is_empty() => Ok(()),
            None => bail!("label and uuid are a filesystem's, and there is none"),
        }
    }

    /// Bytes.
    fn alignment(&self) -> anyhow::Result<u64> {
        let Some(text) = &self.alignment else {
            return Ok(ALIGNMENT);
        };
        let bytes = units::parse_bytes(text).map_err(anyhow::Error::msg)?;
        if bytes < 512 || !bytes.is_power_of_two() || bytes > 1 << 30 {
            bail!("alignment = {text:?}: a power of two from 512 bytes to 1 GiB");
        }
        Ok(bytes)
    }
}

/// How large a partition is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Bytes(u64),
    /// Of the room for partitions on the disk.
    Percent(u64),
    Fill,
}

impl Size {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "fill" {
            return Ok(Size::Fill);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .map(Size::Percent)
                .ok_or_else(|| format!("{text:?} is no share: write 1% to 100%"));
        }
        match units::parse_bytes(text) {
            Ok(0) => Err("a partition of 0 bytes cannot be made".into()),
            Ok(bytes) => Ok(Size::Bytes(bytes)),
            Err(why) => Err(format!("{why}, \"25%\" or \"fill\"")),
        }
    }
}

/// GPT attribute bits; of an MBR, bit 0 says that it is the active one.
fn flags(words: &[String], table: TableKind) -> Result<u64, String> {
    words.iter().try_fold(0, |bits, word| {
        let bit = match table {
            TableKind::Gpt => FLAGS.iter().find(|(name, _)| name == word).map(|f| f.1),
            _ => (word == "boot").then_some(0),
        };
        match bit {
            Some(bit) => Ok(bits | 1 << bit),
            None => Err(match table {
                TableKind::Gpt => format!(
                    "unknown flag {word:?}: there are {}",
                    FLAGS.map(|(name, _)| name).join(", ")
                ),
                _ => format!("unknown flag {word:?}: an MBR has boot"),
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_reads_back() {
        let text = r#"
version = 1
table = "gpt"
alignment = "1MiB"

[[partition]]
type = "efi"
size = "512MiB"
filesystem = "vfat"
label = "EFI"

[[partition]]
type = "linux"
size = "fill"
name = "root"
flags = ["legacy-boot", "grow"]
"#;
        let layout = Layout::parse(text).unwrap();
        assert_eq!(Layout::parse(&layout.to_toml().unwrap()).unwrap(), layout);
        assert_eq!(
            flags(&layout.partitions[1].flags, TableKind::Gpt),
            Ok(4 | 1 << 59)
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_partition() {
        let with = |table: &str, entry: &str| {
            let text = format!("version = 1\ntable = {table:?}\n[[partition]]\n{entry}");
            format!("{:#}", Layout::parse(&text).unwrap_err())
        };
        for (table, entry, why) in [
            (
                "gpt",
                "type = \"linux\"\nsize = \"0\"",
                "0 bytes cannot be made",
            ),
            ("gpt", "type = \"linux\"\nsize = \"101%\"", "1% to 100%"),
            (
                "gpt",
                "type = \"linux\"\nsize = \"big\"",
                "\"25%\" or \"fill\"",
            ),
            (
                "gpt",
                "type = \"linux\"\nsize = \"fill\"\nlogical = true",
                "none of them logical",
            ),
            (
                "mbr",
                "type = \"linux\"\nsize = \"fill\"\nname = \"x\"",
                "neither name nor id",
            ),
            (
                "mbr",
                "type = \"linux\"\nsize = \"fill\"\nflags = [\"grow\"]",
                "an MBR has boot",
            ),
            (
                "gpt",
                "type = \"linux\"\nsize = \"fill\"\nflags = [\"boot\"]",
                "there are required",
            ),
            (
                "gpt",
                "type = \"linux\"\nsize = \"fill\"\nlabel = \"x\"",
                "there is none",
            ),
            (
                "gpt",
                "type = \"linux\"\nsize = \"fill\"\nfilesystem = \"zfs\"",
                "there are ext2",
            ),
            (
                "none",
                "type = \"linux\"\nsize = \"fill\"",
                "\"gpt\" or \"mbr\"",
            ),
            (
                "gpt",
                "type = \"linux\"\nsise = \"fill\"",
                "unknown field `sise`",
            ),
        ] {
            let error = with(table, entry);
            assert!(error.contains(why), "{entry}: {error}");
        }
        let error = Layout::parse("version = 2\ntable = \"gpt\"").unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = Layout::parse(&text);
            let _ = Size::parse(&text);
            let _ = kinds::kind(&text, TableKind::Mbr);
        }
    }
}
