//! What a disk's UEFI boot entries are, and how they are made anew where the disk is restored.

mod option;
mod vars;

use crate::arch::Architecture;
use crate::disk::size_of;
use crate::references;
use crate::source::Disk;
use crate::table::{self, Partition, Table, TableKind};
use anyhow::{Context, anyhow};
use option::{HardDrive, LoadOption, Signature};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use vars::Vars;

/// Where efivarfs is mounted, below `/sys`.
pub const VARIABLES: &str = "firmware/efi/efivars";

/// A boot loader on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Loader {
    /// The number of the partition that has it.
    pub partition: u32,
    /// `\EFI\debian\shimx64.efi`
    pub path: String,
    /// What the firmware's menu calls it; empty for the fallback, which needs no entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Loader {
    /// Whether a machine of this architecture can start it, as far as its name tells.
    fn runs_on(&self, here: Option<Architecture>) -> bool {
        let own = Architecture::of_loader(&self.path);
        own.is_none() || own == here
    }
}

/// The loaders of `disk`, whose logical sectors are `sector` bytes: what the firmware's entries in `efivars` point
/// to, in its order, and the fallbacks that are there, of any architecture. What cannot be read has none: a backup does not fail for it.
pub fn loaders(efivars: &Path, disk: &Path, sector: u32) -> Vec<Loader> {
    let Ok((file, table)) = open(disk, sector) else {
        return Vec::new();
    };
    let vars = Vars(efivars);
    let mut found = Vec::new();
    let mut numbers = vars.numbers("BootCurrent").unwrap_or_default();
    numbers.extend(vars.numbers("BootOrder").unwrap_or_default());
    for number in numbers {
        let data = vars.read(&entry_name(number)).ok().flatten();
        let Some(option) = data.and_then(|data| LoadOption::parse(&data)) else {
            continue;
        };
        let of_disk = |partition: &&Partition| {
            partition.number == option.drive.number
                && signature(&table, partition) == Some(option.drive.signature)
        };
        if let Some(partition) = table.partitions.iter().find(of_disk) {
            add(
                &mut found,
                partition.number,
                &option.file,
                option.description,
            );
        }
    }
    for partition in &table.partitions {
        if partition.kind.name() != Some("EFI system") {
            continue;
        }
        for fallback in Architecture::ALL.map(Architecture::fallback) {
            let path = fallback.trim_start_matches('\\').replace('\\', "/");
            if references::fat_has(&file, partition, &path) {
                add(&mut found, partition.number, fallback, String::new());
            }
        }
    }
    found
}

fn add(found: &mut Vec<Loader>, partition: u32, path: &str, description: String) {
    let known = found
        .iter()
        .any(|loader| loader.partition == partition && loader.path.eq_ignore_ascii_case(path));
    if !known {
        found.push(Loader {
            partition,
            path: path.to_owned(),
            description,
        });
    }
}

/// A disk that was restored, and the machine that is to start it.
pub struct Startable<'a> {
    /// Where the firmware's variables are.
    pub efivars: &'a Path,
    pub disk: &'a Path,
    /// Bytes of its logical sectors.
    pub sector: u32,
    /// Names the entry of a disk that has the fallback alone.
    pub label: &'a str,
    /// Every disk of the machine, this one among them, with its sectors.
    pub all: &'a [(PathBuf, u32)],
}

/// Makes sure that this machine's firmware has an entry for each of `loaders` on the disk that it can start, right behind the one that
/// booted the machine now, which stays first. An entry of the same name and loader for a partition that no disk of the
/// machine has any more is used for it. Answers what was done, a sentence each.
///
/// # Errors
/// When the table cannot be read, or the firmware takes no entries. The disk is not written.
pub fn enter(start: &Startable, loaders: &[Loader]) -> anyhow::Result<Vec<String>> {
    let Startable {
        efivars, sector, ..
    } = *start;
    let (_, table) = open(start.disk, sector)?;
    let vars = Vars(efivars);
    // Without a mount the folder is there and empty.
    if crate::inventory::names(efivars)?.is_empty() {
        anyhow::bail!("there are no EFI variables at {}", efivars.display());
    }
    let present = present(start.all);
    let mut said = Vec::new();
    let mut ours = Vec::new();
    let here = Architecture::here();
    let loaders: Vec<&Loader> = loaders
        .iter()
        .filter(|loader| loader.runs_on(here))
        .collect();
    let named = loaders.iter().any(|loader| !loader.description.is_empty());
    for loader in loaders {
        let description = match loader.description.as_str() {
            "" if named => continue,
            "" => start.label,
            description => description,
        };
        let option = option_of(loader, description, &table, sector)?;
        let (number, how) = number_of(&vars, &option, present.as_deref())?;
        said.push(format!(
            "the firmware's entry {} \"{description}\" for {} on partition {} {how}",
            entry_name(number),
            loader.path,
            loader.partition
        ));
        ours.push(number);
    }
    let current = vars.numbers("BootCurrent")?.first().copied();
    let order = vars.numbers("BootOrder")?;
    let wanted = ordered(&order, current, &ours);
    if wanted != order {
        let data: Vec<u8> = wanted
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        vars.write("BootOrder", &data)?;
        let shown: Vec<String> = wanted
            .iter()
            .map(|number| format!("{number:04X}"))
            .collect();
        said.push(format!("the firmware's boot order is {}", shown.join(", ")));
    }
    Ok(said)
}

/// The entry that booted the machine stays first, so that the next job reaches it; ours follow.
fn ordered(order: &[u16], current: Option<u16>, ours: &[u16]) -> Vec<u16> {
    let current = current.filter(|current| order.contains(current) && !ours.contains(current));
    let first = current.or_else(|| order.first().copied().filter(|first| !ours.contains(first)));
    let mut wanted: Vec<u16> = first.into_iter().chain(ours.iter().copied()).collect();
    for number in order {
        if !wanted.contains(number) {
            wanted.push(*number);
        }
    }
    wanted
}

/// The identifiers of all partitions of `disks`; `None` if one of them has a table that cannot be read: then none can be
/// said to be gone.
fn present(disks: &[(PathBuf, u32)]) -> Option<Vec<Signature>> {
    let mut found = Vec::new();
    for (disk, sector) in disks {
        let (_, table) = open(disk, *sector).ok()?;
        let partitions = table.partitions.iter();
        found.extend(partitions.filter_map(|partition| signature(&table, partition)));
    }
    Some(found)
}

/// The number of an entry that starts the same; else that of one that started it before, or of a new one. What was done
/// with it.
fn number_of(
    vars: &Vars<'_>,
    option: &LoadOption,
    present: Option<&[Signature]>,
) -> anyhow::Result<(u16, &'static str)> {
    let taken = vars.entries()?;
    let mut stale = None;
    for number in &taken {
        let data = vars.read(&entry_name(*number))?.unwrap_or_default();
        let Some(found) = LoadOption::parse(&data) else {
            continue;
        };
        if !found.file.eq_ignore_ascii_case(&option.file) {
            continue;
        }
        let signature = found.drive.signature;
        if signature == option.drive.signature && found.drive.number == option.drive.number {
            return Ok((*number, "is there already"));
        }
        let gone = present.is_some_and(|present| !present.contains(&signature));
        if gone && found.description == option.description {
            stale = stale.or(Some(*number));
        }
    }
    let number = stale
        .or_else(|| (0..=u16::MAX).find(|number| !taken.contains(number)))
        .context("the firmware has no number left for a boot entry")?;
    let data = option
        .to_bytes()
        .with_context(|| format!("{} is too long for a boot entry", option.file))?;
    let name = entry_name(number);
    vars.write(&name, &data)?;
    if vars.read(&name)?.as_deref() != Some(&data) {
        anyhow::bail!("the firmware took {name} and does not have it");
    }
    let how = match stale {
        Some(_) => "takes the place of one for a partition that is gone",
        None => "is made",
    };
    Ok((number, how))
}

fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn option_of(
    loader: &Loader,
    description: &str,
    table: &Table,
    sector: u32,
) -> anyhow::Result<LoadOption> {
    let number = loader.partition;
    let partition = table.partitions.iter().find(|found| found.number == number);
    let partition = partition.with_context(|| format!("the disk has no partition {number}"))?;
    let signature = signature(table, partition)
        .ok_or_else(|| anyhow!("partition {number} has no identifier: {:?}", partition.id))?;
    let sector = u64::from(sector.max(1));
    Ok(LoadOption {
        description: description.to_owned(),
        drive: HardDrive {
            number,
            start: partition.start / sector,
            size: partition.size / sector,
            signature,
        },
        file: loader.path.clone(),
    })
}

fn signature(table: &Table, partition: &Partition) -> Option<Signature> {
    match table.kind {
        TableKind::None => None,
        TableKind::Gpt => {
            let guid = uuid::Uuid::try_parse(&partition.id).ok()?;
            Some(Signature::Guid(guid.to_bytes_le()))
        }
        TableKind::Mbr => {
            let digits = table.id.strip_prefix("0x")?;
            Some(Signature::Mbr(u32::from_str_radix(digits, 16).ok()?))
        }
    }
}

fn open(disk: &Path, sector: u32) -> anyhow::Result<(File, Table)> {
    let mut file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let size = size_of(&file).with_context(|| format!("sizing {}", disk.display()))?;
    let table = table::read(&Disk::new(&mut file, size), sector)
        .with_context(|| format!("reading the partition table of {}", disk.display()))?;
    Ok((file, table))
}

#[cfg(test)]
mod tests;
