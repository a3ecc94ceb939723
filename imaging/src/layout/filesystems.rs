//! Filesystems are made by their own tools, which `mkimage --program` puts into the initramfs.

use super::Entry;
use super::features;
use super::place::Place;
use crate::event::{Reporter, Silent};
use crate::tools;
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::path::Path;

/// A filesystem's tool and how it is told what is wanted.
pub(super) struct Maker {
    name: &'static str,
    pub(super) program: &'static str,
    fixed: &'static [&'static str],
    label: &'static str,
    /// The longest label, bytes.
    label_max: usize,
    /// Empty where the tool takes none.
    uuid: &'static str,
    /// How it is asked beforehand whether it would.
    rehearsal: Rehearsal,
}

/// What tells, before the disk is touched, whether a tool takes a size and all that is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rehearsal {
    /// With this option it does everything but write.
    DryRun(&'static str),
    /// It makes one in a file full of holes, which costs what it writes.
    File,
}

const EXT: &[&str] = &["-q", "-F"];

const MAKERS: &[Maker] = &[
    Maker {
        name: "ext2",
        program: "mkfs.ext2",
        fixed: EXT,
        label: "-L",
        label_max: 16,
        uuid: "-U",
        rehearsal: Rehearsal::DryRun("-n"),
    },
    Maker {
        name: "ext3",
        program: "mkfs.ext3",
        fixed: EXT,
        label: "-L",
        label_max: 16,
        uuid: "-U",
        rehearsal: Rehearsal::DryRun("-n"),
    },
    Maker {
        name: "ext4",
        program: "mkfs.ext4",
        fixed: EXT,
        label: "-L",
        label_max: 16,
        uuid: "-U",
        rehearsal: Rehearsal::DryRun("-n"),
    },
    Maker {
        name: "xfs",
        program: "mkfs.xfs",
        fixed: &["-q", "-f"],
        label: "-L",
        label_max: 12,
        uuid: "-m",
        rehearsal: Rehearsal::DryRun("-N"),
    },
    Maker {
        name: "btrfs",
        program: "mkfs.btrfs",
        fixed: &["-q", "-f"],
        label: "-L",
        label_max: 255,
        uuid: "-U",
        rehearsal: Rehearsal::File,
    },
    Maker {
        name: "vfat",
        program: "mkfs.vfat",
        fixed: &[],
        label: "-n",
        label_max: 11,
        uuid: "-i",
        rehearsal: Rehearsal::File,
    },
    Maker {
        name: "exfat",
        program: "mkfs.exfat",
        fixed: &[],
        label: "-L",
        label_max: 15,
        uuid: "",
        rehearsal: Rehearsal::File,
    },
    Maker {
        name: "ntfs",
        program: "mkfs.ntfs",
        fixed: &["-q", "-Q", "-F"],
        label: "-L",
        label_max: 32,
        uuid: "",
        rehearsal: Rehearsal::DryRun("-n"),
    },
    Maker {
        name: "swap",
        program: "mkswap",
        fixed: &["-f"],
        label: "-L",
        label_max: 15,
        uuid: "-U",
        rehearsal: Rehearsal::File,
    },
];

pub(super) fn maker(name: &str) -> anyhow::Result<&'static Maker> {
    match MAKERS.iter().find(|maker| maker.name == name) {
        Some(maker) => Ok(maker),
        None => bail!(
            "unknown filesystem {name:?}: there are {}",
            MAKERS
                .iter()
                .map(|maker| maker.name)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Whether a layout can ask for it.
pub(super) fn is_known(name: &str) -> bool {
    maker(name).is_ok()
}

/// Whether its tool gives it a UUID of one's own.
pub(super) fn takes_uuid(name: &str) -> bool {
    maker(name).is_ok_and(|maker| !maker.uuid.is_empty())
}

/// Whether the tool will take what the layout says.
pub(super) fn check(name: &str, entry: &Entry) -> anyhow::Result<()> {
    let maker = maker(name)?;
    if entry.label.len() > maker.label_max {
        bail!(
            "the label {:?} is longer than the {} bytes that {name} has room for",
            entry.label,
            maker.label_max
        );
    }
    let dash = |text: &str| text.starts_with('-');
    if dash(&entry.label) || dash(&entry.uuid) {
        bail!("label and uuid cannot begin with a dash");
    }
    if !entry.uuid.is_empty() && maker.uuid.is_empty() {
        bail!("{} gives a {name} no uuid of one's own", maker.program);
    }
    features::check(name, &entry.features)
}

/// A filesystem that is to be made.
pub struct Wanted<'a> {
    /// What it will be on, for messages: `partition 2`, `volume vg0/root`.
    pub on: String,
    /// Bytes.
    pub size: u64,
    /// What it is to be.
    pub entry: &'a Entry,
}

impl<'a> Wanted<'a> {
    /// That of a partition.
    pub(super) fn of(place: &'a Place) -> Self {
        Self {
            on: format!("partition {}", place.number),
            size: place.size,
            entry: &place.entry,
        }
    }

    /// Whether its tool is here, and will make what is asked of it. Nothing where no filesystem is wanted. `on_disk` tells
    /// whether a disk that is to be written has a filesystem with some UUID now.
    ///
    /// # Errors
    /// When the tool is missing, and what it says.
    pub fn check(&self, sector: u64, on_disk: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
        self.find_tool()?;
        self.rehearse(sector, on_disk)
    }

    /// # Errors
    /// When its tool is not here.
    pub(super) fn find_tool(&self) -> anyhow::Result<()> {
        if let Some(name) = &self.entry.filesystem {
            tools::find(maker(name)?.program)
                .with_context(|| format!("{} is to be {name}", self.on))?;
        }
        Ok(())
    }

    /// Whether the tool will make what is asked of it: a partition may be too small for it, or a word one that this
    /// version does not know. `on_disk` tells whether the disk has a filesystem with some UUID now.
    ///
    /// # Errors
    /// What the tool says: before anything is written.
    pub(super) fn rehearse(
        &self,
        sector: u64,
        on_disk: &dyn Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let Self { on, size, entry } = self;
        let Some(name) = entry.filesystem.as_deref() else {
            return Ok(());
        };
        let maker = maker(name)?;
        if maker.rehearsal == Rehearsal::File && *size > FILE_MAX {
            return Ok(());
        }
        let file = tempfile::NamedTempFile::new().context("making a file for a filesystem")?;
        // What a folder cannot have a file of is not tried.
        if file.as_file().set_len(*size).is_err() {
            return Ok(());
        }
        let tried = |entry: &Entry| {
            let mut arguments = arguments(maker, entry, sector)?;
            if let Rehearsal::DryRun(option) = maker.rehearsal {
                arguments.push(option.into());
            }
            arguments.push(file.path().into());
            tools::run(maker.program, &arguments, 0, &Silent)
        };
        let mut outcome = tried(entry);
        if outcome.is_err() && name == UNIQUE && !entry.uuid.is_empty() {
            let another = Entry {
                uuid: String::new(),
                ..(*entry).clone()
            };
            outcome = tried(&another);
            if outcome.is_ok() && !on_disk(&entry.uuid) {
                bail!(
                    "another disk of this computer has a filesystem with the UUID {}, and {} makes no second one: take that disk away, \
                     or have new identifiers made",
                    entry.uuid,
                    maker.program
                );
            }
        }
        outcome.with_context(|| match entry.features.join(", ") {
            features if features.is_empty() => format!("trying whether {on} can be {name}"),
            features => format!("trying whether {on} can be {name} with the features {features}"),
        })
    }

    /// Makes it in `device`.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn make(&self, device: &Path, sector: u64, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let name = self.entry.filesystem.as_deref();
        let name = name.with_context(|| format!("{} has no filesystem", self.on))?;
        let maker = maker(name)?;
        let mut arguments = arguments(maker, self.entry, sector)?;
        arguments.push(device.into());
        tools::run(maker.program, &arguments, 0, reporter)
            .with_context(|| format!("making {name} on {}", self.on))
    }
}

/// A file allocation table takes a share of the whole: larger ones are not tried beforehand.
const FILE_MAX: u64 = 64 << 30;

/// The one whose tool makes no second filesystem with the UUID of one that this computer has.
const UNIQUE: &str = "btrfs";

/// All that a tool is told, but for where.
pub(super) fn arguments(
    maker: &Maker,
    entry: &Entry,
    sector: u64,
) -> anyhow::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = maker.fixed.iter().map(OsString::from).collect();
    let mut add = |option: &str, value: &str| arguments.extend([option.into(), value.into()]);
    if !entry.label.is_empty() {
        add(maker.label, &entry.label);
    }
    if !entry.uuid.is_empty() {
        match maker.name {
            // A volume number: eight digits without the dash that people write.
            "vfat" => add(maker.uuid, &entry.uuid.replace('-', "")),
            "xfs" => add("-m", &format!("uuid={}", entry.uuid)),
            _ => add(maker.uuid, &entry.uuid),
        }
    }
    // A file does not tell a tool which sectors the disk has.
    if sector != 512 {
        match maker.name {
            "vfat" => add("-S", &sector.to_string()),
            "xfs" => add("-s", &format!("size={sector}")),
            "ext2" | "ext3" | "ext4" => add("-b", &sector.to_string()),
            _ => {}
        }
    }
    let features = features::arguments(maker.name, maker.program, &entry.features)?;
    arguments.extend(features.into_iter().map(OsString::from));
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_uuids_are_checked_before_a_tool_sees_them() {
        let entry = |label: &str, uuid: &str| Entry {
            label: label.into(),
            uuid: uuid.into(),
            ..Entry::default()
        };
        assert!(check("ext4", &entry("root", "")).is_ok());
        for (name, entry, why) in [
            (
                "vfat",
                entry("TWELVELETTERS", ""),
                "longer than the 11 bytes",
            ),
            ("ntfs", entry("", "1234"), "no uuid of one's own"),
            ("ext4", entry("-O", ""), "begin with a dash"),
            ("zfs", entry("", ""), "there are ext2"),
        ] {
            let error = check(name, &entry).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
