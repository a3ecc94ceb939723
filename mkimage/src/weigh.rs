//! What each part of an image weighs, so that an admin sees what to leave out.

use serde::Serialize;
use std::fmt::Write;

/// One group of files.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Weight {
    pub part: String,
    pub files: usize,
    /// Bytes in the machine's memory.
    pub unpacked: u64,
}

/// Which part of the image a path belongs to.
pub fn part_of(path: &str) -> &'static str {
    let rest = path.split_once("lib/modules/").map(|(_, rest)| rest);
    if let Some(below) = rest
        .and_then(|rest| rest.split_once("/kernel/"))
        .map(|(_, below)| below)
    {
        return crate::modules::classes::Class::ALL
            .into_iter()
            .find(|class| class.holds(&format!("kernel/{below}")))
            .map_or("modules that others need", |class| class.name());
    }
    match path {
        "init" => "init",
        _ if rest.is_some() => "module indices",
        _ if path.starts_with("lib/firmware/") => "firmware",
        _ if path.starts_with("bin/") || path.starts_with("sbin/") => "busybox",
        _ if path.starts_with("usr/share/misc/") => "PCI names",
        _ if path.starts_with("usr/") || path.starts_with("lib") => "programs and libraries",
        _ => "configuration",
    }
}

/// Adds up files by part, heaviest first.
pub fn weigh<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> Vec<Weight> {
    let mut weights: Vec<Weight> = Vec::new();
    for (path, size) in files.filter(|(_, size)| *size > 0) {
        let part = part_of(path);
        match weights.iter_mut().find(|weight| weight.part == part) {
            Some(weight) => {
                weight.files += 1;
                weight.unpacked += size;
            }
            None => weights.push(Weight {
                part: part.to_owned(),
                files: 1,
                unpacked: size,
            }),
        }
    }
    weights.sort_by(|a, b| b.unpacked.cmp(&a.unpacked).then(a.part.cmp(&b.part)));
    weights
}

/// The table that `build` and `list` print.
pub fn table(weights: &[Weight]) -> String {
    let mut text = String::new();
    let mut row = |part: &str, files: &str, unpacked: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{part:<28} {files:>6} {unpacked:>12}");
    };
    row("part", "files", "unpacked");
    for weight in weights {
        row(
            &weight.part,
            &weight.files.to_string(),
            &kib(weight.unpacked),
        );
    }
    let total: u64 = weights.iter().map(|weight| weight.unpacked).sum();
    let files: usize = weights.iter().map(|weight| weight.files).sum();
    row("all", &files.to_string(), &kib(total));
    text
}

/// Bytes as whole KiB, rounded up.
pub fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_up_by_part() {
        let weights = weigh(
            [
                ("init", 2048),
                ("lib/modules/6.1/kernel/drivers/ata/ahci.ko.zst", 1000),
                ("lib/modules/6.1/kernel/drivers/ata/libata.ko.zst", 1000),
                ("lib/modules/6.1/kernel/lib/crc7.ko.zst", 5),
                ("etc", 0),
            ]
            .into_iter(),
        );
        let parts: Vec<(&str, usize, u64)> = weights
            .iter()
            .map(|w| (w.part.as_str(), w.files, w.unpacked))
            .collect();
        assert_eq!(
            parts,
            [
                ("init", 1, 2048),
                ("ATA", 2, 2000),
                ("modules that others need", 1, 5)
            ]
        );
        assert!(table(&weights).ends_with("all                               4        4 KiB\n"));
    }
}
