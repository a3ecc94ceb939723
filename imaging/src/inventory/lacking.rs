//! Firmware that drivers asked for and the image has not, by the kernel's own words.

use super::undriven::{self, Undriven};
use super::{Machine, hex, names, short_slot};
use crate::event::Reporter;
use crate::kernel_log;
use crate::modules::firmware;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Debian's kernel says both, others the second alone (`drivers/base/firmware_loader/main.c`). 2 is ENOENT: a file that is there and
/// cannot be read is another trouble.
const FAILED: [(&str, &str); 2] = [
    (": firmware: failed to load ", " (-2)"),
    (": Direct firmware load for ", " failed with error -2"),
];
/// What Debian's kernel says of a file that is there.
const LOADED: &str = ": firmware: direct-loading firmware ";
/// Of more files a driver has asked for one after the other, these are told.
const MOST_FILES: usize = 16;
/// So many of them in a sentence.
const NAMED_FILES: usize = 3;
/// `IFF_UP`
const SWITCHED_ON: u32 = 1;

/// A part whose driver asked for files that were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// `bnx2`
    pub driver: String,
    /// `01:00.0`; off PCI the kernel's name for the device.
    pub slot: String,
    /// Vendor and product: `14e4:1639`; empty off PCI.
    pub pci: String,
    pub kind: Kind,
    /// Below `/lib/firmware`, in the order in which they were asked for.
    pub files: Vec<String>,
    /// Network cards that hang on it: `eth0`.
    pub cards: Vec<String>,
    /// As far as can be seen: it has a disk, or a card that is on, or is a controller whose driver is content without.
    pub works: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Network,
    Disks,
    Usb,
    /// Off PCI: what it is for is not known.
    Other,
}

impl Lacking {
    pub fn is_network(&self) -> bool {
        matches!(self.kind, Kind::Network | Kind::Other)
    }

    /// For people: `network card 01:00.0 [14e4:1639]`.
    pub fn part(&self) -> String {
        let what = match self.kind {
            Kind::Network => "network card",
            Kind::Disks => "disk controller",
            Kind::Usb => "USB controller",
            Kind::Other => return format!("device {}", self.slot),
        };
        format!("{what} {} [{}]", self.slot, self.pci)
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sentence(
            &self.part(),
            &self.driver,
            &self.files,
            self.works,
        ))
    }
}

/// For people: which part lacks what, and what to do.
pub fn sentence(part: &str, driver: &str, files: &[String], works: bool) -> String {
    let state = if works {
        "works, but"
    } else {
        "did not come up:"
    };
    let named: Vec<&str> = files.iter().take(NAMED_FILES).map(String::as_str).collect();
    let mut asked = named.join(", ");
    if files.len() > NAMED_FILES {
        asked = format!("{asked} and {} more", files.len() - NAMED_FILES);
    }
    let (are, them) = if files.len() == 1 {
        ("is", "it")
    } else {
        ("are", "them")
    };
    let sets: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| firmware::package(file))
        .collect();
    let mend = if sets.is_empty() {
        format!("give the folder that has {them} to `mkimage build --firmware`")
    } else {
        let named: Vec<&str> = sets.into_iter().collect();
        let packages: Vec<String> = named.iter().map(|it| format!("firmware-{it}")).collect();
        format!(
            "`make image FIRMWARE={}` puts {them} in (Debian's {})",
            named.join(","),
            packages.join(", ")
        )
    };
    format!(
        "the {part} {state} its driver {driver} asked for the firmware {asked}, which {are} not in this image: {mend}"
    )
}

/// What lacks firmware at this moment; nothing where there is no kernel log, which whoever shows the log tells.
pub fn read(machine: &Machine) -> Vec<Lacking> {
    let log = kernel_log::read(&machine.dev.join("kmsg")).unwrap_or_default();
    let asked = asked(&log).into_iter();
    asked.filter_map(|it| judge(it, &machine.sysfs)).collect()
}

/// For people: why parts do not work, for want of firmware or of a driver; `None` where all do.
pub fn idle(undriven: &[Undriven], lacking: &[Lacking]) -> Option<String> {
    let idle = lacking.iter().filter(|it| !it.works);
    let mut sentences: Vec<String> = idle.map(ToString::to_string).collect();
    let others = undriven
        .iter()
        .filter(|part| lacking.iter().all(|it| it.slot != part.slot));
    sentences.extend(undriven::sentence(others));
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// Warns of what does not work. What works without a file is news, no more.
pub fn tell(machine: &Machine, undriven: &[Undriven], reporter: &dyn Reporter) {
    let lacking = read(machine);
    if let Some(text) = idle(undriven, &lacking) {
        reporter.warn(text);
    }
    for part in lacking.iter().filter(|it| it.works) {
        reporter.info(part.to_string());
    }
}

/// What a driver asked for on behalf of one device.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    driver: String,
    device: String,
    missing: Vec<String>,
    /// Another file was there.
    loaded: bool,
}

/// By a log as `dmesg` shows it. Drivers try several files, and several times.
fn asked(log: &str) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for (driver, device, file, is_there) in log.lines().filter_map(outcome) {
        let is_it = |it: &Asked| it.driver == driver && it.device == device;
        let at = all.iter().position(is_it).unwrap_or_else(|| {
            all.push(Asked {
                driver: driver.to_owned(),
                device: device.to_owned(),
                ..Asked::default()
            });
            all.len() - 1
        });
        let Some(one) = all.get_mut(at) else { continue };
        if is_there {
            one.loaded = true;
            one.missing.retain(|it| it != file);
        } else if one.missing.len() < MOST_FILES && one.missing.iter().all(|it| it != file) {
            one.missing.push(file.to_owned());
        }
    }
    all.retain(|it| !it.missing.is_empty());
    all
}

/// `[    4.210011] bnx2 0000:01:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)`: driver, device, file, and whether it
/// was there.
fn outcome(line: &str) -> Option<(&str, &str, &str, bool)> {
    let (_, text) = line.split_once("] ")?;
    let failed = FAILED.iter().find_map(|(before, behind)| {
        let (who, rest) = text.split_once(before)?;
        Some((who, rest.strip_suffix(behind)?, false))
    });
    let loaded = || text.split_once(LOADED).map(|(who, file)| (who, file, true));
    let (who, file, is_there) = failed.or_else(loaded)?;
    let (driver, device) = who.rsplit_once(' ')?;
    (!file.is_empty()).then_some((driver, device, file, is_there))
}

/// `None` for what reaches neither disks nor networks, and for drivers that got on with another file.
fn judge(asked: Asked, sysfs: &Path) -> Option<Lacking> {
    let (folder, is_pci) = folder(sysfs, &asked.device)?;
    let class: String = hex(&folder.join("class")).chars().take(4).collect();
    // PCI code and ID assignment 1.1, as in what is undriven; 0c 03 is USB.
    let kind = match (is_pci, class.get(..2), class.as_str()) {
        (false, ..) => Kind::Other,
        (_, _, "0280") => return None,
        (_, Some("02"), _) => Kind::Network,
        (_, Some("01"), _) => Kind::Disks,
        (_, _, "0c03") => Kind::Usb,
        _ => return None,
    };
    let below = Below::read(sysfs, &folder);
    let known = asked
        .missing
        .iter()
        .any(|it| firmware::package(it).is_some());
    if kind == Kind::Other && !known && below.cards.is_empty() && !below.has_disk {
        return None;
    }
    // A controller may have no disk with nothing being wrong, and a card that nobody needs is off.
    let is_content = (kind != Kind::Network || !below.cards.is_empty())
        && folder.join("driver").exists()
        && !firmware::is_needed(&asked.driver);
    let works = below.has_disk || below.is_on || is_content;
    if works && asked.loaded {
        return None;
    }
    let pci = if is_pci {
        format!(
            "{}:{}",
            hex(&folder.join("vendor")),
            hex(&folder.join("device"))
        )
    } else {
        String::new()
    };
    Some(Lacking {
        slot: short_slot(&asked.device).to_owned(),
        driver: asked.driver,
        pci,
        kind,
        files: asked.missing,
        cards: below.cards,
        works,
    })
}

/// Where a device of this name is, and whether it is on PCI.
fn folder(sysfs: &Path, device: &str) -> Option<(PathBuf, bool)> {
    let buses = names(&sysfs.join("bus")).unwrap_or_default();
    let on = |bus: &str| {
        let folder = sysfs.join("bus").join(bus).join("devices");
        let is_there = names(&folder).is_ok_and(|all| all.iter().any(|it| it == device));
        is_there.then(|| folder.join(device))
    };
    let elsewhere = || Some((buses.iter().find_map(|bus| on(bus))?, false));
    on("pci").map(|path| (path, true)).or_else(elsewhere)
}

/// What hangs on a device.
#[derive(Default)]
struct Below {
    cards: Vec<String>,
    /// One of the cards.
    is_on: bool,
    has_disk: bool,
}

impl Below {
    fn read(sysfs: &Path, folder: &Path) -> Self {
        let mut below = Self::default();
        let Ok(device) = fs::canonicalize(folder) else {
            return below;
        };
        let hangs_on_it =
            |path: &Path| fs::canonicalize(path).is_ok_and(|it| it.starts_with(&device));
        let net = sysfs.join("class/net");
        for name in names(&net).unwrap_or_default() {
            let card = net.join(&name);
            if hangs_on_it(&card.join("device")) {
                let flags = u32::from_str_radix(&hex(&card.join("flags")), 16);
                below.is_on |= flags.is_ok_and(|flags| flags & SWITCHED_ON != 0);
                below.cards.push(name);
            }
        }
        let block = sysfs.join("block");
        let disks = names(&block).unwrap_or_default();
        below.has_disk = disks.iter().any(|name| hangs_on_it(&block.join(name)));
        below
    }
}

#[cfg(test)]
mod tests;
