//! Which stored image belongs to which disk. Names change from boot to boot; serials and WWNs do not.

use super::select::bare_wwn;
use crate::inventory::disks::describe;
use crate::inventory::{Disk, DiskIdentity};
use crate::units;

/// An image on the share, as far as matching needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The file in the machine's folder: `sda.raw.gz`.
    pub file: String,
    /// The disk name that the file is named after: `sda`.
    pub stem: String,
    /// The disk it was taken of, where its `.toml` or the image itself tells.
    pub of: Option<DiskIdentity>,
    /// Bytes it restores to; `None` where only reading it all would tell.
    pub raw_size: Option<u64>,
    /// Bytes of the smallest disk that it can be restored to, where that is known.
    pub least: Option<u64>,
}

/// What led from a disk to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Serial,
    Wwn,
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
    #[error("{disk} could be restored from any of {images}: remove or rename all but one")]
    SeveralImages { disk: String, images: String },
    #[error("{image} could belong on {first} or on {second}: name one disk in the job's `disks`")]
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
    #[error("{disk} is too small for {image}: it has {has} bytes, the image needs {needs}")]
    TooSmall {
        disk: String,
        image: String,
        has: u64,
        needs: u64,
    },
    #[error(
        "{image} is of a disk with sectors of {image_sector} bytes, {disk} has sectors of \
         {disk_sector}: what it holds could not be read there"
    )]
    OtherSectors {
        disk: String,
        image: String,
        image_sector: u32,
        disk_sector: u32,
    },
}

/// Finds the image of each of `disks`, or says why it is not certain. `all` are the machine's disks.
pub fn match_images(
    disks: &[Disk],
    all: &[Disk],
    images: &[Stored],
) -> Result<Vec<Match>, MatchError> {
    let mut matches: Vec<Match> = Vec::new();
    for disk in disks {
        let found = match_one(disk, all, images)?;
        if let Some(other) = matches.iter().find(|other| other.image == found.image) {
            return Err(MatchError::SeveralDisks {
                image: images[found.image].file.clone(),
                first: other.disk.to_string(),
                second: disk.to_string(),
            });
        }
        check_fit(disk, &images[found.image])?;
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

fn match_one(disk: &Disk, all: &[Disk], images: &[Stored]) -> Result<Match, MatchError> {
    let of_this: Vec<(usize, How)> = images
        .iter()
        .enumerate()
        .filter_map(|(index, image)| Some((index, same_disk(image.of.as_ref()?, &disk.identity)?)))
        .collect();
    match of_this.as_slice() {
        [(image, how)] => Ok(Match {
            disk: disk.clone(),
            image: *image,
            how: *how,
        }),
        [] => by_name(disk, all, images),
        several => Err(MatchError::SeveralImages {
            disk: disk.to_string(),
            images: several
                .iter()
                .map(|(index, _)| images[*index].file.clone())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn by_name(disk: &Disk, all: &[Disk], images: &[Stored]) -> Result<Match, MatchError> {
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
            other.identity.device != disk.identity.device
                && same_disk(of, &other.identity).is_some()
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
fn same_disk(of: &DiskIdentity, disk: &DiskIdentity) -> Option<How> {
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

/// An image whose disk is not on this machine, and whose name another disk took meanwhile, where nobody said
/// which disks are meant: half the machine would be restored and called whole. (Images under names that no
/// disk has here may be of a machine that was, and are passed over.)
pub fn check_none_missing(
    matches: &[Match],
    all: &[Disk],
    images: &[Stored],
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
        if named && known && !here {
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

fn check_fit(disk: &Disk, image: &Stored) -> Result<(), MatchError> {
    if let Some(of) = &image.of
        && of.logical_sector_size != disk.identity.logical_sector_size
    {
        return Err(MatchError::OtherSectors {
            disk: disk.to_string(),
            image: image.file.clone(),
            image_sector: of.logical_sector_size,
            disk_sector: disk.identity.logical_sector_size,
        });
    }
    let size = image.raw_size.or(image.of.as_ref().map(|of| of.size));
    let needs = image.least.or(size);
    match needs {
        Some(needs) if needs > disk.identity.size => Err(MatchError::TooSmall {
            disk: disk.to_string(),
            image: image.file.clone(),
            has: disk.identity.size,
            needs,
        }),
        _ => Ok(()),
    }
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
mod tests {
    use super::*;
    use crate::plan::tests::disk;

    fn image(stem: &str, serial: &str, size: u64) -> Stored {
        Stored {
            file: format!("{stem}.raw.gz"),
            stem: stem.into(),
            of: Some(disk(stem, serial, size).identity),
            raw_size: Some(size),
            least: None,
        }
    }

    #[test]
    fn a_serial_beats_a_name_that_changed() {
        let disks = [disk("sda", "B", 100), disk("sdb", "A", 100)];
        let images = [image("sda", "A", 100), image("sdb", "B", 100)];
        let matches = match_images(&disks, &disks, &images).unwrap();
        assert_eq!(matches[0].image, 1);
        assert_eq!(matches[1].image, 0);
        assert!(matches.iter().all(|m| m.how == How::Serial));
        assert!(is_settled(&matches, &images));
    }

    #[test]
    fn a_wwn_does_where_there_is_no_serial() {
        let mut here = disk("sdb", "", 100);
        here.identity.wwn = "naa.5000".into();
        let mut stored = image("sda", "", 100);
        stored.of.as_mut().unwrap().wwn = "0x5000".into();
        let disks = [here];
        let matches = match_images(&disks, &disks, &[stored]).unwrap();
        assert_eq!(matches[0].how, How::Wwn);
    }

    #[test]
    fn namespaces_that_share_a_serial_are_told_apart() {
        let namespace = |name: &str, wwn: &str| {
            let mut disk = disk(name, "NV1", 100);
            disk.identity.wwn = wwn.into();
            disk
        };
        let disks = [
            namespace("nvme0n1", "eui.0002"),
            namespace("nvme0n2", "eui.0001"),
        ];
        let mut images = [image("nvme0n1", "NV1", 100), image("nvme0n2", "NV1", 100)];
        images[0].of.as_mut().unwrap().wwn = "eui.0001".into();
        images[1].of.as_mut().unwrap().wwn = "eui.0002".into();
        let matches = match_images(&disks, &disks, &images).unwrap();
        assert_eq!((matches[0].image, matches[1].image), (1, 0));
        // Two drives whose maker gave all of them one WWN.
        let drives = [disk("sda", "A", 100), disk("sdb", "B", 100)];
        let of = |disk: &Disk| {
            let mut of = disk.identity.clone();
            of.wwn = "naa.5000".into();
            of
        };
        assert_eq!(same_disk(&of(&drives[0]), &of(&drives[1])), None);
    }

    #[test]
    fn an_image_whose_disk_is_gone_stops_a_job_that_names_no_disk() {
        // The first of two disks died, and the second took its name.
        let disks = [disk("sda", "B", 100)];
        let images = [image("sda", "A", 100), image("sdb", "B", 100)];
        let matches = match_images(&disks, &disks, &images).unwrap();
        let error = check_none_missing(&matches, &disks, &images).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sda.raw.gz is of sda (serial A, 100 B), which is not on this machine; seen: sda (serial B, 100 B); \
             to restore without it, name the disks in the job's `disks`, or remove the image"
        );
        let images = [image("sda", "B", 100), image("vda", "GONE", 100)];
        let matches = match_images(&disks, &disks, &images[..1]).unwrap();
        assert_eq!(check_none_missing(&matches, &disks, &images), Ok(()));
    }

    #[test]
    fn a_replaced_disk_is_found_by_name_when_it_fits() {
        let disks = [disk("sda", "NEW", 200)];
        let images = [image("sda", "DEAD", 100)];
        let matches = match_images(&disks, &disks, &images).unwrap();
        assert_eq!(matches[0].how, How::Name);
        assert!(!is_settled(&matches, &images));

        let small = [disk("sda", "NEW", 50)];
        let error = match_images(&small, &small, &images).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sda (serial NEW, 50 B) is too small for sda.raw.gz: it has 50 bytes, the image needs 100"
        );

        let mut other = disk("sda", "NEW", 200);
        other.identity.logical_sector_size = 4096;
        let other = [other];
        let error = match_images(&other, &other, &images).unwrap_err();
        assert!(
            matches!(
                error,
                MatchError::OtherSectors {
                    image_sector: 512,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_smaller_disk_does_where_the_images_end_is_free() {
        let small = [disk("sda", "NEW", 60)];
        let mut stored = image("sda", "DEAD", 100);
        stored.least = Some(60);
        assert!(match_images(&small, &small, &[stored.clone()]).is_ok());
        stored.least = Some(61);
        let error = match_images(&small, &small, &[stored]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it has 60 bytes, the image needs 61"),
            "{error}"
        );
    }

    #[test]
    fn an_image_of_a_disk_that_is_elsewhere_stays_off_this_one() {
        let all = [disk("sda", "NEW", 100), disk("sdb", "A", 100)];
        let error = match_images(&all[..1], &all, &[image("sda", "A", 100)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sda.raw.gz is of sda (serial A, 100 B), which is sdb here, not sda (serial NEW, 100 B)"
        );
    }

    #[test]
    fn doubt_and_absence_stop_the_run() {
        let one = [disk("sda", "A", 100)];
        let images = [image("sda", "A", 100), image("sdb", "A", 100)];
        let error = match_images(&one, &one, &images).unwrap_err();
        assert!(matches!(error, MatchError::SeveralImages { .. }), "{error}");

        let twins = [disk("sda", "A", 100), disk("sdb", "A", 100)];
        let error = match_images(&twins, &twins, &images[..1]).unwrap_err();
        assert!(matches!(error, MatchError::SeveralDisks { .. }), "{error}");

        let error = match_images(&one, &one, &[image("sdb", "X", 100)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no image for sda (serial A, 100 B); seen: sdb.raw.gz of sdb (serial X, 100 B)"
        );
    }

    #[test]
    fn a_foreign_image_is_trusted_by_name_as_far_as_its_size_is_known() {
        let disks = [disk("sda", "A", 100)];
        let foreign = |raw_size| Stored {
            file: "sda.gz".into(),
            stem: "sda".into(),
            of: None,
            raw_size,
            least: None,
        };
        let matches = match_images(&disks, &disks, &[foreign(None)]).unwrap();
        assert!(is_settled(&matches, &[foreign(None)]));
        let error = match_images(&disks, &disks, &[foreign(Some(101))]).unwrap_err();
        assert!(
            matches!(
                error,
                MatchError::TooSmall {
                    needs: 101,
                    has: 100,
                    ..
                }
            ),
            "{error}"
        );
    }
}
