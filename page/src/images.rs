//! `/images`: what there is, of what, when it was made and checked, and who used it.

use crate::layout::Viewer;
use crate::words::{self, machine_path, path_below, size};
use crate::{browse, disk};
use maud::{Markup, html};
use pitstop_api::{Image, ImageDetail, Verified, VerifyState};

/// The content of the list.
pub fn list(images: &[Image], viewer: &Viewer) -> Markup {
    let all = images
        .iter()
        .fold(0_u64, |sum, image| sum.saturating_add(image.file_size));
    html! {
        div class="head" {
            h1 { "Images" }
            p class="sub" { (words::count(images.len())) ", " (size(all)) " on the share" }
            a class="push" href="/share/" { "The share's folders" }
        }
        div id="images" class="panel" data-part="" {
            @if images.is_empty() {
                p class="empty" { "No image yet. A backup of a machine makes one." }
            } @else {
                div class="scroll" tabindex="0" { (table(images, viewer)) }
            }
        }
    }
}

fn table(images: &[Image], viewer: &Viewer) -> Markup {
    html! {
        table class="cards" {
            caption class="unseen" { "Images on the share, by path" }
            thead {
                tr {
                    th scope="col" { "Image" }
                    th scope="col" { "Of" }
                    th scope="col" class="number" { "Size" }
                    th scope="col" { "Made" }
                    th scope="col" { "Checked" }
                    th scope="col" { "Used by" }
                    @if viewer.operates { th scope="col" { "Do" } }
                }
            }
            tbody {
                @for image in images {
                    tr id={ "i-" (image.path) } {
                        th scope="row" {
                            a href=(path_below("/images", &image.path)) { (image.path) }
                            @if image.old { " " span class="tag calm" { "an earlier one" } }
                            @if let Some(wrong) = &image.wrong { span class="why" { (wrong) } }
                        }
                        td data-label="of" { (of(image)) }
                        td class="number" data-label="size" {
                            (size(image.file_size))
                            @if let Some(raw) = image.raw_size { span class="why dim" { "of " (size(raw)) } }
                        }
                        td data-label="made" { (words::maybe_time(image.created.or(image.modified))) }
                        td data-label="checked" { (checked(image.verified.as_ref())) }
                        td data-label="used by" { (used_by(image)) }
                        @if viewer.operates { td { (verify(image, viewer)) } }
                    }
                }
            }
        }
    }
}

fn of(image: &Image) -> Markup {
    html! {
        @if image.model.is_empty() && image.serial.is_empty() { (image.device) }
        @else { (image.model) " " span class="dim mono" { (image.serial) } }
        @if image.read_errors > 0 {
            span class="why" { (image.read_errors) " places of the disk could not be read" }
        }
    }
}

fn checked(verified: Option<&Verified>) -> Markup {
    html! {
        @match verified {
            None => { span class="dim" { "never" } }
            Some(Verified { state: VerifyState::Running, percent, .. }) => {
                span class="tag running" { "being checked" @if let Some(percent) = percent { ", " (percent) " %" } }
            }
            Some(Verified { state: VerifyState::Ok, at, .. }) => { span class="tag good" { "good" } " " (words::time(*at)) }
            Some(Verified { state: VerifyState::Failed, at, reason, .. }) => {
                span class="tag failed" { "broken" } " " (words::time(*at)) span class="why" { (reason) }
            }
        }
    }
}

fn used_by(image: &Image) -> Markup {
    html! {
        @if image.used_by.is_empty() { span class="dim" { "nobody" } }
        @for (at, used) in image.used_by.iter().take(3).enumerate() {
            @if at > 0 { ", " }
            a href=(machine_path(&used.machine)) { (used.machine) }
        }
        @if image.used_by.len() > 3 { " and " (image.used_by.len() - 3) " more" }
    }
}

fn verify(image: &Image, viewer: &Viewer) -> Markup {
    let runs = matches!(
        &image.verified,
        Some(Verified {
            state: VerifyState::Running,
            ..
        })
    );
    html! {
        form method="post" action=(path_below("/verify", &image.path)) {
            (viewer.token())
            button class="small" disabled[runs] aria-label={ "Verify " (image.path) } { "Verify" }
        }
    }
}

/// The content of the page of one image.
pub fn one(detail: &ImageDetail, viewer: &Viewer) -> Markup {
    let image = &detail.image;
    html! {
        nav class="crumb" aria-label="Where you are" { a href="/images" { "Images" } " › " (image.path) }
        div class="head" { h1 { (image.path) } @if image.old { span class="tag calm" { "an earlier one" } } }
        div class="columns" {
            div {
                section class="panel" aria-labelledby="disk" {
                    h2 id="disk" { "The disk that it is of" }
                    div class="in" {
                        @if let Some(disk) = &detail.disk { (disk::show(disk)) }
                        @else { p class="dim" { "It was made by another tool, and does not tell." } }
                    }
                }
                (uses(image))
            }
            div {
                section class="panel" aria-labelledby="acts" {
                    h2 id="acts" { "Do something" }
                    div id="image-acts" class="in acts" data-part="" {
                        @if viewer.operates { (verify(image, viewer)) }
                        a class="button" href=(path_below("/share", &image.path)) download { "Download" }
                        @if detail.disk.is_some() {
                            a class="button" href=(browse::path(&image.path)) { "Look into it" }
                        }
                    }
                }
                section class="panel" aria-labelledby="what" {
                    h2 id="what" { "What it is" }
                    div id="facts" class="in" data-part="" { (facts(image)) }
                }
            }
        }
    }
}

fn facts(image: &Image) -> Markup {
    html! {
        dl class="facts" {
            dt { "File" } dd { (size(image.file_size)) }
            @if let Some(raw) = image.raw_size { dt { "Disk" } dd { (size(raw)) } }
            dt { "Checked" } dd { (checked(image.verified.as_ref())) }
            @if let Some(created) = image.created { dt { "Made" } dd { (words::time(created)) } }
            @if let Some(pitstop) = &image.pitstop { dt { "By Pitstop" } dd { (pitstop) } }
            dt { "Blocks" } dd { @if image.exact { "every one" } @else { "those in use" } }
            @if image.read_errors > 0 { dt { "Unreadable" } dd { (image.read_errors) " places" } }
            @if let Some(blake3) = &image.blake3 { dt { "BLAKE3" } dd class="mono" { (blake3) } }
        }
    }
}

fn uses(image: &Image) -> Markup {
    html! {
        section class="panel" aria-labelledby="uses" {
            h2 id="uses" { "Used by" }
            @if image.used_by.is_empty() {
                p class="empty" { "No run that is still known used it." }
            } @else {
                div class="scroll" tabindex="0" {
                    table {
                        caption class="unseen" { "Runs that made or used the image, the last first" }
                        thead { tr { th scope="col" { "Machine" } th scope="col" { "Action" } th scope="col" { "Run" } } }
                        tbody {
                            @for used in &image.used_by {
                                tr {
                                    th scope="row" { a href=(machine_path(&used.machine)) { (used.machine) } }
                                    td { (used.action) }
                                    td {
                                        a href={ "/runs/" (used.run) } {
                                            @if let Some(ended) = used.ended { (words::time(ended)) } @else { (used.run) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
