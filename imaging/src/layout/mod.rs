//! A layout: the partitions and filesystems that a disk is to have, written by people or captured from a disk.

pub mod apply;
mod capture;
mod ext;
mod features;
mod filesystems;
mod import;
mod kinds;
mod place;
pub mod stack;

pub use apply::{Outcome, apply};
pub use capture::capture;
pub use ext::ExtShape;
pub use filesystems::Wanted;
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
    /// Arrays, each of the same partition of several disks. Only a deploy makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raid: Vec<stack::Raid>,
    /// Partitions and arrays that are encrypted. Only a deploy makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub luks: Vec<stack::Luks>,
    /// Groups of volumes on all of these. Only a deploy makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lvm: Vec<stack::Group>,
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
    /// Of ext, XFS and Btrfs: the features that it has and no others, by the names of its tool; none given: the tool's own choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Where a system that is deployed onto the disk has it: `/boot`. Making the layout does not ask for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mount: String,
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
        let mut mounts: Vec<&str> = self.mounts().collect();
        mounts.sort_unstable();
        if let Some([twice, _]) = mounts.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two filesystems of the layout have mount = {twice:?}");
        }
        self.numbered()?;
        self.check_stack()
    }

    fn mounts(&self) -> impl Iterator<Item = &str> {
        let entries = self.slots().into_iter();
        let mounts = entries.map(|(_, entry)| entry.mount.as_str());
        mounts.filter(|mount| !mount.is_empty())
    }

    /// Every partition, with the number that it gets: logical ones last, from 5 on.
    ///
    /// # Errors
    /// When a number is not behind the one before, or is too large for the table.
    pub fn numbers(&self) -> anyhow::Result<Vec<(u32, &Entry)>> {
        let logical = self.partitions.iter().filter(|entry| entry.logical);
        let mut all = self.numbered()?;
        all.extend((5..).zip(logical));
        Ok(all)
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
        check_mount(entry)?;
        if entry.name.encode_utf16().count() > 36 {
            bail!("the name {:?} is longer than 36 letters", entry.name);
        }
        match &entry.filesystem {
            Some(_) if kind.is_extended() => {
                bail!("an extended partition has no filesystem")
            }
            Some(filesystem) => filesystems::check(filesystem, entry),
            None => check_bare(entry),
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

/// Whether it is mounted where a system can have it.
fn check_mount(entry: &Entry) -> anyhow::Result<()> {
    let mount = entry.mount.as_str();
    let of_root = mount == "/" || (mount.starts_with('/') && !mount.ends_with('/'));
    if !mount.is_empty() && !of_root {
        bail!(
            "mount = {mount:?} is no path of a system: it begins with a / and does not end with one"
        );
    }
    Ok(())
}

/// Whether nothing is asked of a filesystem where there is none.
fn check_bare(entry: &Entry) -> anyhow::Result<()> {
    let asked = !entry.label.is_empty()
        || !entry.uuid.is_empty()
        || !entry.features.is_empty()
        || !entry.mount.is_empty();
    if asked {
        bail!("label, uuid, features and mount are a filesystem's, and there is none");
    }
    Ok(())
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
mod tests;
