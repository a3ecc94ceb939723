//! Whether an image can go to the disk that it belongs on.

use super::{How, MatchError, Stored};
use pitstop_imaging::image::MinimumDisk;
use pitstop_imaging::inventory::Disk;

pub(super) fn check_fit(disk: &Disk, image: &Stored, how: How) -> Result<(), MatchError> {
    // The same disk may have been formatted to other sectors; another one is not what a name means.
    let why = match how {
        How::Name => Some("a disk with other sectors is not chosen by its name alone"),
        How::Serial | How::Wwn | How::Table | How::ModelAndSize if image.indexed => None,
        How::Serial | How::Wwn | How::Table | How::ModelAndSize => {
            Some("what it holds could not be read there")
        }
    };
    if let (Some(of), Some(why)) = (&image.of, why)
        && of.logical_sector_size != disk.identity.logical_sector_size
    {
        return Err(MatchError::OtherSectors {
            disk: disk.to_string(),
            image: image.file.clone(),
            image_sector: of.logical_sector_size,
            disk_sector: disk.identity.logical_sector_size,
            why,
        });
    }
    let size = image.raw_size.or(image.of.as_ref().map(|of| of.size));
    let needs = image.minimum_disk.clone().or(size.map(MinimumDisk::of));
    match needs {
        Some(needs) if needs.bytes > disk.identity.size => Err(MatchError::TooSmall {
            disk: disk.to_string(),
            image: image.file.clone(),
            has: disk.identity.size,
            needs,
        }),
        _ => Ok(()),
    }
}

/// What needs so much, where that is known, and what to do.
pub(super) fn because(needs: &MinimumDisk, image: &str, has: u64) -> String {
    let advice = needs.advice(image, has);
    match needs.why.as_str() {
        "" => advice,
        why => format!(": {why}{advice}"),
    }
}
