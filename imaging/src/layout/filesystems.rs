//! Filesystems are made by their own tools, which `mkimage --program` puts into the initramfs.

use super::Entry;
use super::place::Place;
use crate::event::{Reporter, Silent};
use crate::tools;
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::path::Path;

/// A filesystem's tool and how it is told what is wanted.
struct Maker {
    name: &'static str,
    program: &'static str,
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

fn maker(name: &str) -> anyhow::Result<&'static Maker> {
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
    Ok(())
}

/// The tool for each filesystem that will be made.
///
/// # Errors
/// When one is not there: before anything is written.
pub(super) fn find_tools<'a>(places: impl Iterator<Item = &'a Place>) -> anyhow::Result<()> {
    for place in places {
        if let Some(name) = &place.entry.filesystem {
            tools::find(maker(name)?.program)
                .with_context(|| format!("partition {} is to be {name}", place.number))?;
        }
    }
    Ok(())
}

/// A file allocation table takes a share of the whole: larger ones are not tried beforehand.
const FILE_MAX: u64 = 64 << 30;

/// Whether each tool will make what is asked of it: a partition may be too small for it, or a word one that this
/// version does not know.
///
/// # Errors
/// What the tool says: before anything is written.
pub(super) fn rehearse<'a>(
    places: impl Iterator<Item = &'a Place>,
    sector: u64,
) -> anyhow::Result<()> {
    for place in places {
        let Some(name) = place.entry.filesystem.as_deref() else {
            continue;
        };
        let maker = maker(name)?;
        if maker.rehearsal == Rehearsal::File && place.size > FILE_MAX {
            continue;
        }
        let file = tempfile::NamedTempFile::new().context("making a file for a filesystem")?;
        // What a folder cannot have a file of is not tried.
        if file.as_file().set_len(place.size).is_err() {
            continue;
        }
        let mut arguments = arguments(maker, &place.entry, sector);
        if let Rehearsal::DryRun(option) = maker.rehearsal {
            arguments.push(option.into());
        }
        arguments.push(file.path().into());
        tools::run(maker.program, &arguments, 0, &Silent)
            .with_context(|| format!("trying whether partition {} can be {name}", place.number))?;
    }
    Ok(())
}

/// Makes the filesystem of `place` in `device`, the partition's node or a file of its size.
pub(super) fn make(
    place: &Place,
    device: &Path,
    sector: u64,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let entry = &place.entry;
    let name = entry
        .filesystem
        .as_deref()
        .context("the partition has no filesystem")?;
    let maker = maker(name)?;
    let mut arguments = arguments(maker, entry, sector);
    arguments.push(device.into());
    tools::run(maker.program, &arguments, 0, reporter)
        .with_context(|| format!("making {name} on partition {}", place.number))
}

/// All that a tool is told, but for where.
fn arguments(maker: &Maker, entry: &Entry, sector: u64) -> Vec<OsString> {
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
    if maker.name == "vfat" && sector != 512 {
        add("-S", &sector.to_string());
    }
    arguments
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
