//! Which stored image belongs to which disk. Names change from boot to boot; serials and WWNs do not.

mod fit;
mod twins;

use super::select::bare_wwn;
use fit::{because, check_fit};
use pitstop_imaging::image::MinimumDisk;
use pitstop_imaging::inventory::disks::describe;
use pitstop_imaging::inventory::{Disk, DiskIdentity};
use pitstop_imaging::units;
use std::collections::BTreeMap;
use twins::alike;

/// An image on the share, as far as matching needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The file in the machine's folder: `sda.raw.gz`.
    pub file: String,
    /// The disk name that the file is named after: `sda`.
    pub stem: String,
    /// The disk it was taken of, where its `.toml` or the image itself tells.
    pub of: Option<DiskIdentity>,
    /// The identifier of its partition table; empty where it has none or does not tell.
    pub table: String,
    /// Bytes it restores to; `None` where only reading it all would tell.
    pub raw_size: Option<u64>,
    /// The smallest disk that it can be restored to, where that is known.
    pub minimum_disk: Option<MinimumDisk>,
    /// Whether it has an index, which tells what could be used on a disk with other sectors.
    pub indexed: bool,
}

/// What led from a disk to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Serial,
    Wwn,
    /// Of several disks that say the same of themselves, the one with the image's partition table.
    Table,
    /// Disks that tell neither serial nor WWN: the only one of the image's model and size.
    ModelAndSize,
    /// The name; the image is of another disk, or does not tell of which.
    Name,
}

/// A disk and the image that belongs on it; `image` counts in the slice that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub disk: Disk,
    pub image: usize,
    pub how: How,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MatchError {
    #[error("no image for {disk}; {seen}")]
    Missing { disk: String, seen: String },
    #[error(
        "{disk} could be restored from any of {images}, and the partition table on it does not tell which: remove or \
         rename all but one, or name the disk, which then gets the image of its name: disks = [{name:?}]"
    )]
    SeveralImages {
        disk: String,
        images: String,
        name: String,
    },
    #[error(
        "{image} could belong on {first} or on {second}, and the partition tables on them do not tell: name one disk \
         in the job's `disks`, by its device name"
    )]
    SeveralDisks {
        image: String,
        first: String,
        second: String,
    },
    #[error(
        "{image} is of {of}, which is not on this machine; seen: {seen}; to restore without it, name the \
         disks in the job's `disks`, or remove the image"
    )]
    Gone {
        image: String,
        of: String,
        seen: String,
    },
    #[error("{image} is of {of}, which is {there} here, not {disk}")]
    Moved {
        image: String,
        of: String,
        there: String,
        disk: String,
    },
    #[error("{disk} is too small for {image}: it has {has} bytes, the image needs {}{}", needs.bytes, because(needs, image, *has))]
    TooSmall {
        disk: String,
        image: String,
        has: u64,
        needs: MinimumDisk,
    },
    #[error(
        "{image} is of a disk with sectors of {image_sector} bytes, {disk} has sectors of \
         {disk_sector}: {why}"
    )]
    OtherSectors {
        disk: String,
        image: String,
        image_sector: u32,
        disk_sector: u32,
        why: &'static str,
    },
}

/// What helps where images and disks do not tell enough of themselves.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The identifiers of the partition tables on the disks, by kernel name; only where some disks are alike.
    pub tables: BTreeMap<String, String>,
    /// The disks that the job names by their kernel names.
    pub named: Vec<String>,
    /// Disks that the last run on this machine knew, and that are not here.
    pub gone: Vec<DiskIdentity>,
}

/// Finds the image of each of `disks`, or says why it is not certain. `all` are the machine's disks.
pub fn match_images(
    disks: &[Disk],
    all: &[Disk],
    images: &[Stored],
    hints: &Hints,
) -> Result<Vec<Match>, MatchError> {
    let mut matches: Vec<Match> = Vec::new();
    for disk in disks {
        let found = match_one(disk, all, images, hints)?;
        if let Some(other) = matches.iter().find(|other| other.image == found.image) {
            return Err(MatchError::SeveralDisks {
                image: images[found.image].file.clone(),
                first: other.disk.to_string(),
                second: disk.to_string(),
            });
        }
        check_fit(disk, &images[found.image], found.how)?;
        matches.push(found);
    }
    Ok(matches)
}

/// Whether looking for images under other names could find nothing better: each disk was found by more
/// than its name, or the disk or its image has nothing else to tell it by.
pub fn is_settled(matches: &[Match], images: &[Stored]) -> bool {
    let nameless = |identity: &DiskIdentity| identity.serial.is_empty() && identity.wwn.is_empty();
    matches.iter().all(|found| {
        found.how != How::Name
            || nameless(&found.disk.identity)
            || images[found.image].of.as_ref().is_none_or(nameless)
    })
}

fn match_one(
    disk: &Disk,
    all: &[Disk],
    images: &[Stored],
    hints: &Hints,
) -> Result<Match, MatchError> {
    if let Some((image, how)) = twins::resolve(disk, all, images, hints)? {
        return Ok(Match {
            disk: disk.clone(),
            image,
            how,
        });
    }
    let of_this: Vec<(usize, How)> = images
        .iter()
        .enumerate()
        .filter_map(|(index, image)| Some((index, same_disk(image.of.as_ref()?, &disk.identity)?)))
        .collect();
    // Several are twins, which are dealt with.
    match of_this.first() {
        Some((image, how)) => Ok(Match {
            disk: disk.clone(),
            image: *image,
            how: *how,
        }),
        None => by_less(disk, all, images, hints),
    }
}

/// Finds the image of a disk that no number tells. Virtual disks change their names as others do: who named no disk
/// means the one that the image was taken of, not whichever has its name today.
fn by_less(
    disk: &Disk,
    all: &[Disk],
    images: &[Stored],
    hints: &Hints,
) -> Result<Match, MatchError> {
    if hints.named.contains(&disk.identity.device) {
        return by_name(disk, all, images, |of, there| {
            same_disk(of, there).is_some()
        });
    }
    // There is one at the most: of more, twins made a choice or an error.
    let of_its_kind = images.iter().position(|image| {
        image
            .of
            .as_ref()
            .is_some_and(|of| alike(of, &disk.identity))
    });
    match of_its_kind {
        Some(index) if images[index].stem != disk.identity.device => Ok(Match {
            disk: disk.clone(),
            image: index,
            how: How::ModelAndSize,
        }),
        _ => by_name(disk, all, images, |of, there| {
            alike(of, there) && !alike(of, &disk.identity)
        }),
    }
}

/// `is_there` says of another disk whether the image is rather of that one.
fn by_name(
    disk: &Disk,
    all: &[Disk],
    images: &[Stored],
    is_there: impl Fn(&DiskIdentity, &DiskIdentity) -> bool,
) -> Result<Match, MatchError> {
    let Some(index) = images
        .iter()
        .position(|image| image.stem == disk.identity.device)
    else {
        return Err(MatchError::Missing {
            disk: disk.to_string(),
            seen: seen(images),
        });
    };
    let image = &images[index];
    if let Some(of) = &image.of {
        let elsewhere = all.iter().find(|other| {
            other.identity.device != disk.identity.device && is_there(of, &other.identity)
        });
        if let Some(there) = elsewhere {
            return Err(MatchError::Moved {
                image: image.file.clone(),
                of: describe(of),
                there: there.identity.device.clone(),
                disk: disk.to_string(),
            });
        }
    }
    Ok(Match {
        disk: disk.clone(),
        image: index,
        how: How::Name,
    })
}

/// Whether both are one disk. The namespaces of an NVMe drive share its serial, and cheap drives a WWN:
/// where both sides tell both, the two must agree.
pub fn same_disk(of: &DiskIdentity, disk: &DiskIdentity) -> Option<How> {
    let (stored, here) = (bare_wwn(&of.wwn), bare_wwn(&disk.wwn));
    // A name of another kind says nothing: which one is told depends on the kernel.
    let comparable = !stored.is_empty() && stored.len() == here.len();
    let serials = !of.serial.is_empty() && !disk.serial.is_empty();
    let same_serial = serials && of.serial == disk.serial;
    let same_wwn = comparable && stored == here;
    if same_serial && (same_wwn || !comparable) {
        return Some(How::Serial);
    }
    (same_wwn && !serials).then_some(How::Wwn)
}

/// Whether a disk is the one that was `known`: by what it says of itself, or by its name where it says nothing.
pub fn is_of(known: &DiskIdentity, disk: &DiskIdentity) -> bool {
    let nameless = known.is_nameless() && disk.is_nameless();
    same_disk(known, disk).is_some() || (nameless && known.device == disk.device)
}

/// An image whose disk is not on this machine, and whose name another disk took meanwhile, where nobody said
/// which disks are meant: half the machine would be restored and called whole. (Images under names that no
/// disk has here may be of a machine that was, and are passed over, unless the last run here knew their disk: `gone`.)
pub fn check_none_missing(
    matches: &[Match],
    all: &[Disk],
    images: &[Stored],
    gone: &[DiskIdentity],
) -> Result<(), MatchError> {
    let unused = images
        .iter()
        .enumerate()
        .filter(|(index, _)| matches.iter().all(|found| found.image != *index));
    for (_, image) in unused {
        let Some(of) = &image.of else { continue };
        let named = all.iter().any(|disk| disk.identity.device == image.stem);
        let known = !of.serial.is_empty() || !of.wwn.is_empty();
        let here = all
            .iter()
            .any(|disk| same_disk(of, &disk.identity).is_some());
        let was_here = gone.iter().any(|disk| is_of(disk, of));
        if (named && known && !here) || was_here {
            return Err(MatchError::Gone {
                image: image.file.clone(),
                of: describe(of),
                seen: all
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
    }
    Ok(())
}

fn seen(images: &[Stored]) -> String {
    if images.is_empty() {
        return "the folder has no image under any usual disk name".to_owned();
    }
    let list: Vec<String> = images
        .iter()
        .map(|image| match (&image.of, image.raw_size) {
            (Some(of), _) => format!("{} of {}", image.file, describe(of)),
            (None, Some(size)) => format!("{} of {}", image.file, units::bytes(size)),
            (None, None) => image.file.clone(),
        })
        .collect();
    format!("seen: {}", list.join(", "))
}

#[cfg(test)]
mod tests;
