//! A disk as a picture, and the same as a table for whoever does not see it.

use crate::words::{self, size};
use maud::{Markup, html};
use pitstop_api::{Disk, Partition, Source};

/// The narrowest that a partition is drawn, in hundredths of a percent of the disk: it must be seen.
const NARROWEST: u64 = 120;
const WHOLE: u64 = 10_000;
/// A gap that is smaller, in bytes, is alignment, and nobody's business.
const SMALLEST_GAP: u64 = 16 << 20;

/// What a partition is for, which gives it its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Linux,
    Windows,
    Boot,
    Swap,
    Other,
}

impl Purpose {
    fn of(partition: &Partition) -> Self {
        let kind = partition.kind.to_ascii_lowercase();
        if kind.starts_with("efi") || kind.contains("bios boot") || kind.contains("reserved") {
            return Self::Boot;
        }
        match partition.filesystem.as_str() {
            "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "lvm" | "luks" | "jfs"
            | "nilfs2" => Self::Linux,
            "ntfs" | "exfat" | "refs" | "bitlocker" => Self::Windows,
            "vfat" | "fat" | "fat12" | "fat16" | "fat32" => Self::Boot,
            "swap" => Self::Swap,
            _ => Self::Other,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Boot => "boot",
            Self::Swap => "swap",
            Self::Other => "other",
        }
    }
}

/// Something that is drawn, from the left: hundredths of a percent.
struct Block<'a> {
    at: u64,
    wide: u64,
    /// `None` of a stretch that no partition has.
    partition: Option<&'a Partition>,
    bytes: u64,
}

/// A percentage for an attribute: `12.34%`.
fn percent(hundredths: u64) -> String {
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// `part` of `all` in hundredths of a percent; at most the whole.
fn share(part: u64, all: u64) -> u64 {
    let share = u128::from(part) * u128::from(WHOLE) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(WHOLE).min(WHOLE)
}

/// Partitions and gaps from left to right, as wide as they are large, and none too narrow to be seen.
fn blocks(disk: &Disk) -> Vec<Block<'_>> {
    let mut found: Vec<(Option<&Partition>, u64)> = Vec::new();
    let mut end = 0;
    let gap =
        |from: u64, to: u64| (to.saturating_sub(from) >= SMALLEST_GAP).then(|| (None, to - from));
    for partition in &disk.partitions {
        found.extend(gap(end, partition.start));
        found.push((Some(partition), partition.size));
        end = end.max(partition.start.saturating_add(partition.size));
    }
    found.extend(gap(end, disk.size));
    let all = found
        .iter()
        .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let wide: Vec<u64> = found
        .iter()
        .map(|(_, bytes)| share(*bytes, all).max(NARROWEST))
        .collect();
    let sum = wide.iter().sum::<u64>().max(1);
    let mut at = 0;
    found
        .into_iter()
        .zip(wide)
        .map(|((partition, bytes), wide)| {
            let wide = wide * WHOLE / sum;
            let block = Block {
                at,
                wide,
                partition,
                bytes,
            };
            at += wide;
            block
        })
        .collect()
}

/// The picture and the table of one disk.
pub fn show(disk: &Disk) -> Markup {
    html! {
        figure class="disk" {
            figcaption {
                strong { (disk.device) }
                span { (named(disk)) }
                span class="dim" { (size(disk.size)) }
                @if let Some(table) = &disk.table { span class="dim" { (table) } }
                @if let Some(from) = source(disk) { span class="dim" { (from) } }
            }
            @if disk.partitions.is_empty() {
                p class="dim" { "What is on it is not known: a backup of it would tell." }
            } @else {
                (picture(disk))
                div class="scroll" tabindex="0" { (table(disk)) }
            }
        }
    }
}

/// Model and serial, as far as it tells them.
pub fn named(disk: &Disk) -> String {
    let serial = if disk.serial.is_empty() {
        "no serial".to_owned()
    } else {
        format!("serial {}", disk.serial)
    };
    let model = if disk.model.is_empty() {
        "no model"
    } else {
        &disk.model
    };
    format!("{model}, {serial}")
}

fn source(disk: &Disk) -> Option<Markup> {
    let from = match disk.source {
        Source::Machine => return None,
        Source::Run => "as of its last run",
        Source::Image => "as of its image",
    };
    Some(html! { (from) @if let Some(seen) = disk.seen { ", " (words::time(seen)) } })
}

fn picture(disk: &Disk) -> Markup {
    html! {
        svg role="img" aria-label={ "The partitions of " (disk.device) ", as in the table below" } {
            @for block in blocks(disk) {
                @match block.partition {
                    Some(partition) => (drawn(&block, partition)),
                    None => {
                        rect class="gap" x=(percent(block.at)) width=(percent(block.wide)) height="100%" {
                            title { (size(block.bytes)) " in no partition" }
                        }
                    }
                }
            }
        }
    }
}

/// A partition, filled from below as far as it is used. What does not fit into it is cut off.
fn drawn(block: &Block<'_>, partition: &Partition) -> Markup {
    let used = partition.used.map_or(0, |used| share(used, partition.size));
    html! {
        svg class=(Purpose::of(partition).class()) x=(percent(block.at)) width=(percent(block.wide)) height="100%" {
            title { (title(partition)) ", " (size(partition.size)) (of_it_used(partition)) }
            rect class="all" width="100%" height="100%" {}
            rect class="used" y="72%" width=(percent(used)) height="28%" {}
            @if block.wide > 600 {
                text class="name" x="8" y="17" { (title(partition)) }
                text x="8" y="32" { (size(partition.size)) (of_it_used(partition)) }
            }
            rect class="edge" width="1" height="100%" {}
        }
    }
}

fn of_it_used(partition: &Partition) -> String {
    match partition.used {
        Some(used) => format!(", {} used", size(used)),
        None => String::new(),
    }
}

fn title(partition: &Partition) -> String {
    let names = [&partition.label, &partition.name, &partition.filesystem];
    let name = names.into_iter().find(|name| !name.is_empty());
    match (partition.number, name) {
        (0, Some(name)) => name.clone(),
        (0, None) => "whole disk".into(),
        (number, Some(name)) => format!("{number} {name}"),
        (number, None) => number.to_string(),
    }
}

fn table(disk: &Disk) -> Markup {
    html! {
        table {
            caption class="unseen" { "Partitions of " (disk.device) }
            thead {
                tr {
                    th scope="col" { "Partition" }
                    th scope="col" { "Filesystem" }
                    th scope="col" class="c-kind" { "Type" }
                    th scope="col" class="number" { "Size" }
                    th scope="col" class="number" { "Used" }
                    th scope="col" class="number" { "Free" }
                }
            }
            tbody {
                @for partition in &disk.partitions {
                    tr {
                        th scope="row" {
                            span class={ "key " (Purpose::of(partition).class()) } {}
                            (title(partition))
                        }
                        td { (partition.filesystem) }
                        td class="c-kind" { (partition.kind.split(" (").next().unwrap_or_default()) }
                        td class="number" { (size(partition.size)) }
                        td class="number" { @if let Some(used) = partition.used { (size(used)) } @else { "all, or not known" } }
                        td class="number" { @if let Some(free) = partition.free { (size(free)) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(number: u32, start: u64, size: u64, filesystem: &str) -> Partition {
        Partition {
            number,
            start,
            size,
            filesystem: filesystem.into(),
            used: Some(size / 2),
            ..Partition::default()
        }
    }

    #[test]
    fn a_small_partition_is_seen_and_a_gap_is_drawn() {
        let gib = 1 << 30;
        let disk = Disk {
            device: "sda".into(),
            size: 1000 * gib,
            partitions: vec![
                partition(1, 1 << 20, 100 << 20, "vfat"),
                partition(2, gib, 500 * gib, "ext4"),
            ],
            ..Disk::default()
        };
        let drawn = blocks(&disk);
        let kinds: Vec<bool> = drawn
            .iter()
            .map(|block| block.partition.is_some())
            .collect();
        assert_eq!(kinds, [true, false, true, false]);
        assert!(drawn[0].wide >= 100, "{}", drawn[0].wide);
        let text = show(&disk).into_string();
        assert!(text.contains("500.0 GiB, 250.0 GiB used"), "{text}");
        assert!(!text.contains("style="), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_drawn_stays_within_the_disk(
            size in any::<u64>(),
            parts in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<Option<u64>>()), 0..130),
        ) {
            let partitions = parts.into_iter().map(|(start, size, used)| Partition {
                start,
                size,
                used,
                ..Partition::default()
            });
            let disk = Disk { size, partitions: partitions.collect(), ..Disk::default() };
            for block in blocks(&disk) {
                prop_assert!(block.at + block.wide <= WHOLE);
            }
            show(&disk);
        }
    }
}
