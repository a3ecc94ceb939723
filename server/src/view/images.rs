//! Images on the share.

use super::looks::Looks;
use crate::before_store::Store;
use crate::file::Facts;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::runs::{Filter, Run, Runs};
use crate::site::Site;
use crate::verifier::Verifier;
use anyhow::{Context, anyhow};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_api::{Disk, Image, ImageDetail, Partition, Source, Use};
use pitstop_imaging::image::ImageMeta;
use pitstop_imaging::image::encrypted::SUFFIX;
use pitstop_protocol::image_version::{self, Version};
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Folders in folders that are looked into: layers of trees and files of people go deeper than images do.
const DEEPEST: usize = 4;
/// What stands beside an image and describes it.
const DESCRIPTION: &str = ".toml";
/// No description is longer, in bytes.
const LONGEST: u64 = 4 << 20;
/// Runs that are looked at for who used an image.
const LOOKED_AT: usize = 2000;
/// Uses of an image that are told.
const USES: usize = 20;

/// How images of whole disks end, the longest first; behind that, encrypted ones have another end.
const ENDS: [&str; 9] = [
    ".raw.gz", ".raw.xz", ".raw.zst", ".img.gz", ".gz", ".xz", ".zst", ".raw", ".img",
];

/// The disk that an image of this file name is of; `None` of what is no image.
fn device(name: &str) -> Option<&str> {
    let (name, _) = image_version::split(name);
    let name = name.strip_suffix(SUFFIX).unwrap_or(name);
    let device = ENDS.iter().find_map(|end| name.strip_suffix(end))?;
    // `tree.tar.gz` is no disk's.
    let is_one = !device.is_empty() && !device.starts_with('.') && !device.contains('.');
    is_one.then_some(device)
}

/// The disk that the image at `path` goes to, as its name says; `None` of what is no image.
pub fn named_for(path: &str) -> Option<&str> {
    let (_folder, name) = path.rsplit_once('/')?;
    device(name)
}

/// Whether a file of this path is an image.
pub fn is_image(path: &str) -> bool {
    named_for(path).is_some()
}

/// Where images are looked for, and what is known of them beside.
struct Place<'a> {
    shelf: Shelf<'a>,
    verifier: &'a Verifier,
    looks: &'a Looks,
}

/// The share's files.
enum Shelf<'a> {
    Folder(&'a Dir),
    /// What a listing told, by path.
    Store(&'a Store, HashMap<String, Facts>),
}

impl<'a> Place<'a> {
    /// The folder at this path on the share, which is empty for the share itself.
    fn of(site: &'a Site, folder: &str) -> Result<Self, Refusal> {
        let shelf = match &site.store {
            Some(store) => Shelf::Store(store, store.files_below(folder)?.into_iter().collect()),
            None => Shelf::Folder(&site.share),
        };
        Ok(Self {
            shelf,
            verifier: &site.verifier,
            looks: &site.looks,
        })
    }

    /// The description of an image.
    fn meta(&self, beside: &str) -> Option<Arc<Result<ImageMeta, String>>> {
        let (file, read): (_, Box<dyn FnOnce() -> _>) = match &self.shelf {
            Shelf::Folder(share) => {
                let file = Facts::of(&share.metadata(beside).ok()?);
                (file, Box::new(|| read(share, beside)))
            }
            Shelf::Store(store, listed) => {
                let file = listed.get(beside)?.clone();
                (file, Box::new(|| fetch(store, beside)))
            }
        };
        Some(self.looks.image(beside, (file.modified, file.length), read))
    }

    /// The images of a folder, and of those in it, so many deep. `below` ends in a slash, or is empty.
    fn images(&self, below: &str, deep: usize) -> Result<Vec<Image>, Refusal> {
        let mut images = Vec::new();
        match &self.shelf {
            Shelf::Folder(share) => {
                let folder = below.trim_end_matches('/');
                let opened = share.open_dir(if folder.is_empty() { "." } else { folder });
                match opened {
                    Ok(dir) => collect(self, &dir, below, deep, &mut images)?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(Refusal::io(&format!("opening {folder}"), &error)),
                }
            }
            Shelf::Store(_, listed) => {
                let found = listed.iter().filter(|(path, _)| {
                    let rest = path.strip_prefix(below).unwrap_or_default();
                    is_image(path) && rest.matches('/').count() <= deep
                });
                images.extend(found.map(|(path, file)| described(self, path, file).0));
            }
        }
        images.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(images)
    }
}

fn fetch(store: &Store, path: &str) -> Result<ImageMeta, String> {
    let told = |error: anyhow::Error| format!("reading {path}: {error:#}");
    let bytes = store.read(path, LONGEST).map_err(told)?;
    ImageMeta::from_toml(&String::from_utf8_lossy(&bytes)).map_err(told)
}

/// Every image of a root that no server serves just now: of the `store` that is its share, else of the folder below it.
///
/// # Errors
/// The share cannot be read.
pub fn images_below(root: &Path, store: Option<&Store>) -> anyhow::Result<Vec<Image>> {
    let (verifier, looks) = (Verifier::new(root), Looks::default());
    let told = |refusal: Refusal| anyhow!(refusal.reason);
    let all_of = |shelf| {
        let place = Place {
            shelf,
            verifier: &verifier,
            looks: &looks,
        };
        all(&place, &Runs::below(root)).map_err(told)
    };
    if let Some(store) = store {
        let listed = store.files_below("").map_err(told)?;
        return all_of(Shelf::Store(store, listed.into_iter().collect()));
    }
    let path = root.join("share");
    let share = Dir::open_ambient_dir(&path, ambient_authority());
    let share = share.with_context(|| format!("opening {}", path.display()))?;
    all_of(Shelf::Folder(&share))
}

/// Every image, by path.
pub fn images(site: &Site) -> Result<Vec<Image>, Refusal> {
    all(&Place::of(site, "")?, site.runs.runs())
}

/// Where images are on the share.
///
/// # Errors
/// The share cannot be read.
pub fn image_paths(site: &Site) -> Result<Vec<String>, Refusal> {
    let images = Place::of(site, "")?.images("", DEEPEST)?;
    Ok(images.into_iter().map(|image| image.path).collect())
}

fn all(place: &Place, runs: &Runs) -> Result<Vec<Image>, Refusal> {
    let mut images = place.images("", DEEPEST)?;
    let uses = uses(runs);
    for image in &mut images {
        image.used_by = uses.get(&image.path).cloned().unwrap_or_default();
    }
    Ok(images)
}

/// The images of one folder of the share.
pub fn of_folder(site: &Site, folder: &str) -> Result<Vec<Image>, Refusal> {
    Place::of(site, folder)?.images(&format!("{folder}/"), 1)
}

fn collect(
    place: &Place,
    dir: &Dir,
    below: &str,
    deep: usize,
    images: &mut Vec<Image>,
) -> Result<(), Refusal> {
    let failed =
        |error: &std::io::Error| Refusal::io(&format!("listing the share, {below}"), error);
    for entry in dir.entries().map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // What goes away meanwhile is not there.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if name.starts_with('.') || RelPath::from_text(&name).is_err() {
            continue;
        }
        let path = format!("{below}{name}");
        if kind.is_dir() && deep > 0 {
            if let Ok(dir) = entry.open_dir() {
                collect(place, &dir, &format!("{path}/"), deep - 1, images)?;
            }
        } else if kind.is_file()
            && is_image(&path)
            && let Ok(metadata) = entry.metadata()
        {
            let (image, _) = described(place, &path, &Facts::of(&metadata));
            images.push(image);
        }
    }
    Ok(())
}

/// One image, with the disk that it is of.
pub fn image(site: &Site, path: &RelPath) -> Result<ImageDetail, Refusal> {
    let file = site.facts(path)?;
    let path = path.as_str();
    if !is_image(path) {
        return Err(Refusal::not_found(format!("the image {path}")));
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut image, disk) = described(&Place::of(site, folder)?, path, &file);
    image.used_by = uses(site.runs.runs()).remove(path).unwrap_or_default();
    Ok(ImageDetail { image, disk })
}

fn time(time: Option<SystemTime>) -> Option<Timestamp> {
    let time = Timestamp::try_from(time?).ok()?;
    Timestamp::from_second(time.as_second()).ok()
}

/// An image by what stands beside it.
fn described(place: &Place, path: &str, file: &Facts) -> (Image, Option<Disk>) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut image = Image {
        path: path.to_owned(),
        folder: folder.to_owned(),
        file_size: file.length,
        modified: time(file.modified),
        old: image_version::split(name).1 != Version::Last,
        device: device(name).unwrap_or(name).to_owned(),
        verified: place.verifier.known(path, file),
        ..Image::default()
    };
    let beside = format!("{path}{DESCRIPTION}");
    let Some(meta) = place.meta(&beside) else {
        return (image, None);
    };
    let meta = match &*meta {
        Ok(meta) => meta,
        Err(why) => {
            image.wrong = Some(why.clone());
            return (image, None);
        }
    };
    image.device.clone_from(&meta.disk.device);
    image.model.clone_from(&meta.disk.model);
    image.serial.clone_from(&meta.disk.serial);
    image.raw_size = Some(meta.disk.size);
    image.created = meta.created.parse().ok();
    image.pitstop = Some(meta.pitstop.clone());
    image.exact = meta.exact;
    image.blake3 = Some(meta.blake3.clone()).filter(|hash| !hash.is_empty());
    image.read_errors = meta.read_errors.len() as u64;
    let disk = disk(path, meta);
    (image, Some(disk))
}

fn read(share: &Dir, path: &str) -> Result<ImageMeta, String> {
    let mut text = String::new();
    let file = share.open(path);
    file.and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|error| format!("reading {path}: {error}"))?;
    ImageMeta::from_toml(&text).map_err(|error| format!("{path}: {error:#}"))
}

/// The disk that an image is of.
fn disk(path: &str, meta: &ImageMeta) -> Disk {
    let partitions = meta.partitions.iter().map(|part| {
        // Where every block is kept nobody looked which are used.
        let is_read = part.reason.is_empty() && !part.filesystem.is_empty() && !meta.exact;
        Partition {
            number: part.number,
            start: part.start,
            size: part.size,
            kind: part.kind.clone(),
            name: part.name.clone(),
            id: part.id.clone(),
            filesystem: part.filesystem.clone(),
            label: part.label.clone(),
            uuid: part.uuid.clone(),
            used: is_read.then_some(part.used),
            free: is_read.then(|| part.size.saturating_sub(part.used)),
            reason: part.reason.clone(),
        }
    });
    let mut partitions: Vec<Partition> = partitions.collect();
    partitions.sort_by_key(|part| part.start);
    Disk {
        device: meta.disk.device.clone(),
        model: meta.disk.model.clone(),
        serial: meta.disk.serial.clone(),
        wwn: meta.disk.wwn.clone(),
        transport: meta.disk.transport.clone(),
        size: meta.disk.size,
        logical_sector_size: meta.disk.logical_sector_size,
        table: Some(meta.table.kind.clone()).filter(|kind| !kind.is_empty()),
        partitions,
        source: Source::Image,
        image: Some(path.to_owned()),
        seen: meta.created.parse().ok(),
    }
}

/// By which machines each image was used, the last first.
fn uses(runs: &Runs) -> HashMap<String, Vec<Use>> {
    let newest = Filter {
        last: Some(LOOKED_AT),
        ..Filter::default()
    };
    // Whoever cannot be asked has used nothing that is known.
    let runs = runs.list(&newest).unwrap_or_default();
    let mut uses: HashMap<String, Vec<Use>> = HashMap::new();
    for run in &runs {
        for disk in run
            .summary
            .disks
            .iter()
            .filter(|disk| !disk.image.is_empty())
        {
            let of_image = uses.entry(disk.image.clone()).or_default();
            if of_image.len() < USES {
                of_image.push(used(run));
            }
        }
    }
    uses
}

fn used(run: &Run) -> Use {
    Use {
        machine: run.summary.name().to_owned(),
        run: run.summary.run.clone(),
        action: run.summary.action.clone(),
        ended: run
            .summary
            .ended
            .as_deref()
            .and_then(|time| time.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_from_other_files() {
        for (path, of) in [
            ("10.0.2.15/sda.raw.gz", Some("sda")),
            ("10.0.2.15/sda.raw.gz.old", Some("sda")),
            ("10.0.2.15/sda.raw.gz.20261120T120000Z", Some("sda")),
            ("golden/lab3/nvme0n1.gz", Some("nvme0n1")),
            ("10.0.2.15/vda.img", Some("vda")),
            ("10.0.2.15/sda.raw.gz.age", Some("sda")),
            ("10.0.2.15/sda.raw.gz.age.old", Some("sda")),
            ("10.0.2.15/sda.age", None),
            ("trees/web/1.tar.gz.age", None),
            ("sda.raw.gz", None),
            ("10.0.2.15/sda.raw.gz.toml", None),
            ("10.0.2.15/sda.raw.gz.part", None),
            ("10.0.2.15/testbox-info.zip", None),
            ("trees/debian.tar.gz", None),
            ("10.0.2.15/.gz", None),
        ] {
            assert_eq!(named_for(path), of, "{path}");
        }
    }
}
