//! What each part of an image weighs, so that an admin sees what to leave out.

use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// One group of files.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Weight {
    pub part: String,
    pub files: usize,
    /// Bytes in the machine's memory.
    pub unpacked: u64,
    /// About how many bytes of the image it makes up: by itself, quickly compressed.
    pub packed_about: u64,
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
pub fn weigh<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Vec<Weight>> {
    let mut parts: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for (path, data) in files.filter(|(_, data)| !data.is_empty()) {
        parts.entry(part_of(path)).or_default().push(data);
    }
    let mut weights = Vec::new();
    for (part, files) in parts {
        let mut packer = zstd::Encoder::new(Count(0), QUICK)?;
        for data in &files {
            packer.write_all(data)?;
        }
        weights.push(Weight {
            part: part.to_owned(),
            files: files.len(),
            unpacked: files.iter().map(|data| data.len() as u64).sum(),
            packed_about: packer.finish()?.0,
        });
    }
    weights.sort_by(|a, b| b.unpacked.cmp(&a.unpacked).then(a.part.cmp(&b.part)));
    Ok(weights)
}

/// A zstd level that takes a tenth of a second for a whole image.
const QUICK: i32 = 3;

/// Takes everything and keeps its length.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The table that `build` and `list` print.
pub fn table(weights: &[Weight]) -> String {
    let head = ["part", "files", "unpacked", "packed, about"].map(str::to_owned);
    let mut text = row(&head);
    for weight in weights {
        text += &row(&[
            weight.part.clone(),
            weight.files.to_string(),
            kib(weight.unpacked),
            kib(weight.packed_about),
        ]);
    }
    let files: usize = weights.iter().map(|weight| weight.files).sum();
    let unpacked: u64 = weights.iter().map(|weight| weight.unpacked).sum();
    text + &row(&[
        "all".into(),
        files.to_string(),
        kib(unpacked),
        String::new(),
    ])
}

fn row([part, files, unpacked, packed]: &[String; 4]) -> String {
    let line = format!("{part:<26} {files:>6} {unpacked:>12} {packed:>15}");
    format!("{}\n", line.trim_end())
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
        let noise: Vec<u8> = (0..1000u32).map(|n| (n * n % 251) as u8).collect();
        let files: [(&str, &[u8]); 5] = [
            ("init", &[7; 4096]),
            ("lib/modules/6.1/kernel/drivers/ata/ahci.ko.xz", &noise),
            ("lib/modules/6.1/kernel/drivers/ata/libata.ko.xz", &noise),
            ("lib/modules/6.1/kernel/lib/crc7.ko.xz", &[1; 5]),
            ("etc", &[]),
        ];
        let weights = weigh(files.into_iter()).unwrap();
        let parts: Vec<(&str, usize, u64)> = weights
            .iter()
            .map(|w| (w.part.as_str(), w.files, w.unpacked))
            .collect();
        assert_eq!(
            parts,
            [
                ("init", 1, 4096),
                ("ATA", 2, 2000),
                ("modules that others need", 1, 5)
            ]
        );
        assert!(weights[0].packed_about < 100, "{:?}", weights[0]);
        let table = table(&weights);
        assert!(
            table.ends_with("all                             4        6 KiB\n"),
            "{table}"
        );
    }
}
