//! Which of the machine's disks a job is about.

use super::matching::same_disk;
use pitstop_imaging::inventory::{Disk, Inventory, Standing, undriven};
use pitstop_protocol::job::DiskSelector;
use std::fmt::Write as _;

/// Why no plan can be made of the disks. Each says what was seen, so that the next try can name it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    #[error("no fixed disk to work on; {seen}")]
    NoDisk { seen: String },
    #[error("the disk {wanted} is not in this machine; {seen}")]
    NoMatch { wanted: String, seen: String },
    #[error(
        "the disk {wanted} could be any of {matches}; name it by its WWN or by its device name"
    )]
    Several { wanted: String, matches: String },
    #[error("{disk} is in use on this machine: {used_by}; stop that first")]
    InUse { disk: String, used_by: String },
    #[error(
        "{disk} is {standing}, and the name {name} may be another disk's at the next boot: to write to it, \
         name it by its serial or WWN, as in disks = [{{ {identity} }}]"
    )]
    NameOnly {
        disk: String,
        name: String,
        standing: Standing,
        identity: String,
    },
    #[error("{disk} is read-only: it cannot be restored")]
    ReadOnly { disk: String },
    #[error("{disk} is not in disk-devices.lst, which lists the only disks to touch here")]
    NotListed { disk: String },
    #[error(
        "{disk} {why}, and a job that names no disk means every fixed one: mend that, or name the disks that \
         are meant in the job's `disks`"
    )]
    LeftOut { disk: String, why: String },
    #[error(
        "{disk} tells no size: it is broken or not ready, and a job that names no disk means every fixed one: \
             name the disks that are meant in the job's `disks`"
    )]
    NoSize { disk: String },
    #[error("disk-devices.lst lists {line}, and no such disk is here; {seen}")]
    ListedGone { line: String, seen: String },
    #[error(
        "{disk} and {doubles} say the same of themselves and hold the same: they may be one disk by two paths, or two \
         that cannot be told apart: name the one that is meant by its device name, as in disks = [{name:?}]"
    )]
    Doubles {
        disk: String,
        doubles: String,
        name: String,
    },
}

impl SelectError {
    /// Whether a disk that appears late may still mend it.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            SelectError::NoDisk { .. }
                | SelectError::NoMatch { .. }
                | SelectError::NoSize { .. }
                | SelectError::ListedGone { .. }
        )
    }
}

/// The disks of a job, and the others with the reason why each is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub disks: Vec<Disk>,
    pub left_alone: Vec<(Disk, String)>,
}

/// The lines of `disk-devices.lst`: a name, serial or WWN each; `#` begins a comment.
pub fn parse_list(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Applies a job's selectors (none: every fixed disk) and the share's `disk-devices.lst` to what is there.
///
/// # Errors
/// A selector that means no disk, or several; a disk that is meant and cannot be had. Nothing narrows the set but
/// the job and the list.
pub fn select(
    inventory: &Inventory,
    selectors: &[DiskSelector],
    listed: Option<&[String]>,
    will_write: bool,
) -> Result<Selection, SelectError> {
    let is_listed = |disk: &Disk| listed.is_none_or(|lines| self::is_listed(disk, lines));
    let mut selection = Selection::default();
    let chosen = selectors
        .iter()
        .map(|selector| {
            let disk = named(inventory, selector)?;
            check_surely_meant(disk, selector, will_write)?;
            Ok(disk)
        })
        .collect::<Result<Vec<_>, SelectError>>()?;
    if selectors.is_empty() {
        check_every_one(inventory, listed, will_write)?;
    }
    for disk in &inventory.disks {
        let named = chosen.contains(&disk);
        if named {
            check_named(disk, is_listed(disk), will_write)?;
        }
        let reason = if named {
            None
        } else if !selectors.is_empty() {
            Some("not named by the job".to_owned())
        } else if disk.standing != Standing::Fixed {
            // Of fixed ones only the medium comes so far.
            Some(match disk.used_by.as_slice() {
                [] => disk.standing.to_string(),
                users => format!("{} ({})", disk.standing, users.join(", ")),
            })
        } else if !is_listed(disk) {
            Some("not in disk-devices.lst".to_owned())
        } else {
            None
        };
        match reason {
            None => selection.disks.push(disk.clone()),
            Some(reason) => selection.left_alone.push((disk.clone(), reason)),
        }
    }
    for (path, of) in &inventory.paths {
        let reason = format!("another path to {of}: one disk, done once");
        selection.left_alone.push((path.clone(), reason));
    }
    if selection.disks.is_empty() {
        return Err(SelectError::NoDisk {
            seen: seen(inventory, &selection.left_alone),
        });
    }
    Ok(selection)
}

/// A job without selectors means every fixed disk: one that it cannot have is not passed over in silence.
fn check_every_one(
    inventory: &Inventory,
    listed: Option<&[String]>,
    will_write: bool,
) -> Result<(), SelectError> {
    for line in listed.unwrap_or_default() {
        check_line(inventory, line)?;
    }
    let meant = |disk: &&Disk| {
        let is_listed = listed.is_none_or(|lines| is_listed(disk, lines));
        disk.unused == Standing::Fixed && disk.standing != Standing::Medium && is_listed
    };
    let lost = |disk: &&Disk| !is_standby(disk, inventory);
    if let Some(disk) = inventory.without_size.iter().filter(meant).find(lost) {
        return Err(SelectError::NoSize {
            disk: disk.to_string(),
        });
    }
    for disk in inventory.disks.iter().filter(meant) {
        let left_out = |why: String| SelectError::LeftOut {
            disk: disk.to_string(),
            why,
        };
        if disk.standing == Standing::InUse {
            return Err(left_out(format!("is in use ({})", disk.used_by.join(", "))));
        }
        if will_write && disk.read_only {
            return Err(left_out("is read-only".into()));
        }
        if !disk.doubles.is_empty() {
            return Err(SelectError::Doubles {
                disk: disk.to_string(),
                doubles: disk.doubles.join(", "),
                name: disk.identity.device.clone(),
            });
        }
    }
    Ok(())
}

/// Whether a disk without a size is another path to one that has it: a storage array tells none on paths that stand by
/// (ALUA).
fn is_standby(disk: &Disk, inventory: &Inventory) -> bool {
    let mut others = inventory.disks.iter();
    others.any(|other| {
        let one = same_disk(&other.identity, &disk.identity).is_some();
        is_wwn(other, &disk.identity.wwn) && one
    })
}

/// Who wrote a disk into `disk-devices.lst` wants it touched.
fn check_line(inventory: &Inventory, line: &str) -> Result<(), SelectError> {
    let mut of_line = inventory
        .disks
        .iter()
        .chain(&inventory.without_size)
        .filter(|disk| matches_line(disk, line))
        .peekable();
    let Some(first) = of_line.peek().copied() else {
        return Err(SelectError::ListedGone {
            line: line.to_owned(),
            seen: seen(inventory, &[]),
        });
    };
    if of_line.any(|disk| disk.unused == Standing::Fixed) {
        return Ok(());
    }
    Err(SelectError::LeftOut {
        disk: first.to_string(),
        why: format!("is in disk-devices.lst and is {}", first.unused),
    })
}

fn check_named(disk: &Disk, listed: bool, will_write: bool) -> Result<(), SelectError> {
    let name = || disk.to_string();
    if !listed {
        return Err(SelectError::NotListed { disk: name() });
    }
    if matches!(disk.standing, Standing::InUse | Standing::Medium) {
        return Err(SelectError::InUse {
            disk: name(),
            used_by: disk.used_by.join(", "),
        });
    }
    if will_write && disk.read_only {
        return Err(SelectError::ReadOnly { disk: name() });
    }
    Ok(())
}

/// A stick that enumerates first takes the name of a fixed disk: a name alone must not have it written to,
/// unless it has nothing else to be named by.
fn check_surely_meant(
    disk: &Disk,
    selector: &DiskSelector,
    will_write: bool,
) -> Result<(), SelectError> {
    let identity = &disk.identity;
    let told = if !identity.serial.is_empty() {
        format!("serial = {:?}", identity.serial)
    } else if !identity.wwn.is_empty() {
        format!("wwn = {:?}", identity.wwn)
    } else {
        return Ok(());
    };
    let movable = matches!(disk.standing, Standing::Removable | Standing::Usb);
    if !(will_write && movable && matches!(selector, DiskSelector::Name(_))) {
        return Ok(());
    }
    Err(SelectError::NameOnly {
        disk: disk.to_string(),
        name: identity.device.clone(),
        standing: disk.standing,
        identity: told,
    })
}

/// The one disk that a selector means.
fn named<'a>(inventory: &'a Inventory, selector: &DiskSelector) -> Result<&'a Disk, SelectError> {
    let matches: Vec<&Disk> = inventory
        .disks
        .iter()
        .filter(|disk| means(selector, disk))
        .collect();
    let wanted = match selector {
        DiskSelector::Name(name) => name.clone(),
        DiskSelector::Serial(serial) => format!("with serial {serial}"),
        DiskSelector::Wwn(wwn) => format!("with WWN {wwn}"),
    };
    match matches.as_slice() {
        [disk] => Ok(disk),
        [] => Err(SelectError::NoMatch {
            wanted,
            seen: seen(inventory, &[]),
        }),
        several => Err(SelectError::Several {
            wanted,
            matches: several
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Why a job with these selectors is about `disk`.
pub fn why(disk: &Disk, selectors: &[DiskSelector]) -> String {
    match selectors.iter().find(|selector| means(selector, disk)) {
        Some(selector) => format!("the job names {selector}"),
        None => "the job names no disk, so it means every fixed one".to_owned(),
    }
}

/// The kernel names of those disks that the selectors mean by their kernel names.
pub fn named_by_name(disks: &[Disk], selectors: &[DiskSelector]) -> Vec<String> {
    let by_name = |selector: &&DiskSelector| matches!(selector, DiskSelector::Name(_));
    disks
        .iter()
        .filter(|disk| {
            selectors
                .iter()
                .filter(by_name)
                .any(|name| means(name, disk))
        })
        .map(|disk| disk.identity.device.clone())
        .collect()
}

fn means(selector: &DiskSelector, disk: &Disk) -> bool {
    match selector {
        DiskSelector::Name(name) => is_name(disk, name),
        DiskSelector::Serial(serial) => is_serial(disk, serial),
        DiskSelector::Wwn(wwn) => is_wwn(disk, wwn),
    }
}

/// Whether one of the lines of `disk-devices.lst` means `disk`.
pub fn is_listed(disk: &Disk, lines: &[String]) -> bool {
    lines.iter().any(|line| matches_line(disk, line))
}

fn matches_line(disk: &Disk, line: &str) -> bool {
    is_name(disk, line) || is_serial(disk, line) || is_wwn(disk, line)
}

fn is_name(disk: &Disk, name: &str) -> bool {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let name = name.replace('/', "!");
    disk.identity.device == name || disk.also.contains(&name)
}

fn is_serial(disk: &Disk, serial: &str) -> bool {
    !serial.is_empty() && disk.identity.serial == serial.trim()
}

fn is_wwn(disk: &Disk, wwn: &str) -> bool {
    let wanted = bare_wwn(wwn);
    !wanted.is_empty() && bare_wwn(&disk.identity.wwn) == wanted
}

/// The digits alone: people write `0x5000…`, udev `wwn-0x5000…`, sysfs `naa.5000…`.
pub(super) fn bare_wwn(wwn: &str) -> String {
    let mut text = wwn.trim().to_ascii_lowercase();
    for prefix in ["wwn-", "naa.", "eui.", "uuid.", "0x"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.to_owned();
        }
    }
    text.replace('-', "")
}

/// What people are told when the disk they want is not there.
fn seen(inventory: &Inventory, reasons: &[(Disk, String)]) -> String {
    if inventory.disks.is_empty() {
        let controllers = inventory.undriven.iter().filter(|part| !part.is_network());
        let why = undriven::sentence(controllers).map(|why| format!("; {why}"));
        return "this machine shows no disk at all".to_owned() + &why.unwrap_or_default();
    }
    let mut text = "seen: ".to_owned();
    for (index, disk) in inventory.disks.iter().enumerate() {
        let reason = reasons
            .iter()
            .find(|(left, _)| left == disk)
            .map(|(_, reason)| format!(" {reason}"))
            .unwrap_or_default();
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{disk}{reason}");
    }
    text
}

#[cfg(test)]
mod tests;
