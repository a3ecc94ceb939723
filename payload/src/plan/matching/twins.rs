//! Disks that say the same of themselves, or nothing: which image belongs on which is not known by that. The tables on
//! them may tell, or the job does.

use super::{Hints, How, MatchError, Stored, same_disk};
use pitstop_imaging::inventory::{Disk, DiskIdentity};

/// Whether an image of `of` could be of `disk` by what both say: the same disk, or one like it.
pub(super) fn alike(of: &DiskIdentity, disk: &DiskIdentity) -> bool {
    let both_nameless = of.is_nameless() && disk.is_nameless();
    same_disk(of, disk).is_some()
        || (both_nameless && of.model == disk.model && of.size == disk.size)
}

/// Whether the identifier of a table is one: an MBR whose signature nobody set has zeros there.
fn tells(id: &str) -> bool {
    let digits = id.strip_prefix("0x").unwrap_or(id);
    digits.chars().any(|digit| !matches!(digit, '0' | '-'))
}

/// The disks and images that are alike.
struct Twins<'a> {
    disks: Vec<&'a Disk>,
    images: Vec<usize>,
}

/// Which image belongs on `disk`, where several disks or several images are alike; `None` where it has no twin.
pub(super) fn resolve(
    disk: &Disk,
    all: &[Disk],
    images: &[Stored],
    hints: &Hints,
) -> Result<Option<(usize, How)>, MatchError> {
    let of = |index: usize| images.get(index).and_then(|image| image.of.as_ref());
    let fitting = |disk: &Disk| {
        let fits = move |index: &usize| of(*index).is_some_and(|of| alike(of, &disk.identity));
        (0..images.len()).filter(fits).collect::<Vec<usize>>()
    };
    let fits = fitting(disk);
    let twins = Twins {
        disks: all
            .iter()
            .filter(|other| fitting(other).iter().any(|image| fits.contains(image)))
            .collect(),
        images: fits,
    };
    if twins.images.is_empty() || (twins.images.len() == 1 && twins.disks.len() <= 1) {
        return Ok(None);
    }
    if let Some(image) = twins.by_table(disk, images, hints) {
        return Ok(Some((image, How::Table)));
    }
    let named = hints.named.contains(&disk.identity.device);
    let of_its_name = twins.images.iter().copied().find(|index| {
        let image = images.get(*index);
        named && image.is_some_and(|image| image.stem == disk.identity.device)
    });
    if let Some(image) = of_its_name {
        return Ok(Some((image, How::Name)));
    }
    Err(twins.undecided(disk, images))
}

impl Twins<'_> {
    /// The image whose table is on `disk` and on no twin of it; else the one that is left for the disk that is left.
    fn by_table(&self, disk: &Disk, images: &[Stored], hints: &Hints) -> Option<usize> {
        let image_on = |disk: &Disk| {
            let id = hints.tables.get(&disk.identity.device)?;
            let here = |other: &&&Disk| hints.tables.get(&other.identity.device) == Some(id);
            let has = |index: &&usize| images.get(**index).is_some_and(|image| image.table == *id);
            let unique = self.disks.iter().filter(here).count() == 1
                && self.images.iter().filter(has).count() == 1;
            let mut having = self.images.iter().filter(has);
            having.next().copied().filter(|_| unique && tells(id))
        };
        if let Some(image) = image_on(disk) {
            return Some(image);
        }
        let taken: Vec<usize> = self
            .disks
            .iter()
            .filter_map(|disk| image_on(disk))
            .collect();
        let mut left = self.images.iter().filter(|image| !taken.contains(image));
        let others_are_known = taken.len() + 1 == self.disks.len();
        match (left.next(), left.next()) {
            (Some(image), None) if others_are_known && !taken.is_empty() => Some(*image),
            _ => None,
        }
    }

    fn undecided(&self, disk: &Disk, images: &[Stored]) -> MatchError {
        let files: Vec<&str> = self
            .images
            .iter()
            .filter_map(|index| Some(images.get(*index)?.file.as_str()))
            .collect();
        let other = self
            .disks
            .iter()
            .find(|other| other.identity.device != disk.identity.device);
        match (files.as_slice(), other) {
            ([image], Some(other)) => MatchError::SeveralDisks {
                image: (*image).to_owned(),
                first: disk.to_string(),
                second: other.to_string(),
            },
            _ => MatchError::SeveralImages {
                disk: disk.to_string(),
                images: files.join(", "),
                name: disk.identity.device.clone(),
            },
        }
    }
}
