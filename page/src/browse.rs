//! `/browse/IMAGE`: what is in an image: its partitions, then folders. Files are for operators.

use crate::words::{path_below, size};
use maud::{Markup, html};
use pitstop_api::{ImageEntry, ImageEntryKind, ImageFolder, ImageVolume, ImageVolumes};

/// Where the API has an image's files.
const DOWNLOAD: &str = "/api/v1/images";
const BROWSE: &str = "/browse";

/// The content of the page of an image.
pub fn volumes(volumes: &ImageVolumes) -> Markup {
    html! {
        (crumb(&volumes.path, None))
        div class="head" { h1 { "In " (volumes.path) } }
        div id="volumes" class="panel" {
            @if volumes.volumes.is_empty() { p class="empty" { "It has no partition." } }
            @else {
                div class="scroll" tabindex="0" {
                    table class="cards" {
                        caption class="unseen" { "Partitions in the image" }
                        thead {
                            tr {
                                th scope="col" { "Partition" }
                                th scope="col" { "Filesystem" }
                                th scope="col" { "Label" }
                                th scope="col" class="number" { "Size" }
                            }
                        }
                        tbody { @for volume in &volumes.volumes { (volume_row(&volumes.path, volume)) } }
                    }
                }
            }
        }
        p class="dim" { "Files of ext2 to ext4, FAT and NTFS are told here; " code { "pitstop mount" } " shows those of others." }
    }
}

fn volume_row(image: &str, volume: &ImageVolume) -> Markup {
    let name = match volume.number {
        0 => "the whole disk".to_owned(),
        number => format!("Partition {number}"),
    };
    html! {
        tr {
            th scope="row" {
                @if volume.readable { a href=(place(BROWSE, image, volume.number, "")) { (name) } } @else { (name) }
            }
            td data-label="filesystem" { @if volume.filesystem.is_empty() { "not recognised" } @else { (volume.filesystem) } }
            td data-label="label" { (volume.label) }
            td class="number" data-label="size" { (size(volume.size)) }
        }
    }
}

/// The content of the page of a folder.
pub fn folder(folder: &ImageFolder, may_download: bool) -> Markup {
    html! {
        (crumb(&folder.path, Some(folder)))
        div class="head" { h1 { "/" (folder.folder) } p class="sub" { "partition " (folder.volume) " of " (folder.path) } }
        div id="entries" class="panel" {
            @if folder.entries.is_empty() { p class="empty" { "The folder is empty." } }
            @else {
                div class="scroll" tabindex="0" {
                    table class="cards" {
                        caption class="unseen" { "Names in the folder, folders first" }
                        thead {
                            tr { th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" class="number" { "Size" } }
                        }
                        tbody { @for entry in &folder.entries { (entry_row(folder, entry, may_download)) } }
                    }
                }
            }
        }
        @if folder.more { p { "There are more than these." } }
        @if !may_download { p class="dim" { "Operators can download files." } }
    }
}

fn entry_row(folder: &ImageFolder, entry: &ImageEntry, may_download: bool) -> Markup {
    let path = match folder.folder.as_str() {
        "" => entry.name.clone(),
        before => format!("{before}/{}", entry.name),
    };
    let to = |before| place(before, &folder.path, folder.volume, &path);
    html! {
        tr {
            th scope="row" {
                @match entry.kind {
                    ImageEntryKind::Folder => { a href=(to(BROWSE)) { (entry.name) "/" } }
                    ImageEntryKind::File if may_download => { a href=(to(DOWNLOAD)) download { (entry.name) } }
                    _ => { (entry.name) }
                }
            }
            td data-label="kind" {
                @match entry.kind {
                    ImageEntryKind::Folder => { "folder" }
                    ImageEntryKind::File => { "file" }
                    ImageEntryKind::Link => { "link to " span class="mono" { (entry.target) } }
                    ImageEntryKind::Other => { "device, socket or pipe" }
                }
            }
            td class="number" data-label="size" { @if entry.kind == ImageEntryKind::File { (size(entry.size)) } }
        }
    }
}

/// Where something of an image is, below `before`.
fn place(before: &str, image: &str, volume: u32, path: &str) -> String {
    let files = format!("{}/files/{volume}", path_below(before, image));
    if path.is_empty() {
        files
    } else {
        path_below(&files, path)
    }
}

fn crumb(image: &str, folder: Option<&ImageFolder>) -> Markup {
    let names = folder.map(|folder| folder.folder.split('/').filter(|name| !name.is_empty()));
    let names: Vec<&str> = names.into_iter().flatten().collect();
    html! {
        nav class="crumb" aria-label="Where you are" {
            a href="/images" { "Images" } " › "
            a href=(path_below("/images", image)) { (image) }
            @if let Some(folder) = folder {
                " › " a href=(path_below(BROWSE, image)) { "Partitions" }
                " › " a href=(place(BROWSE, image, folder.volume, "")) { "Partition " (folder.volume) }
                @for (at, name) in names.iter().enumerate() {
                    " › " a href=(place(BROWSE, image, folder.volume, &names.get(..=at).unwrap_or_default().join("/"))) { (name) }
                }
            } @else { " › Partitions" }
        }
    }
}

/// The page of the folders of an image.
pub(crate) fn path(image: &str) -> String {
    path_below(BROWSE, image)
}
