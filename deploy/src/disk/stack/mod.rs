//! Arrays, LUKS and volumes under the filesystems of the new system: judged with the plan, made by their own tools, and let go before
//! anything makes the disk boot.

mod commands;
mod foreign;
mod luks;
mod reading;
mod running;
mod tree;

pub use luks::{check as check_luks, opened_early};
pub use reading::Reading;
pub use running::{Running, lock};
pub use tree::{check as check_tree, configure};

use super::volumes::Volumes;
use crate::boot::files;
use crate::boot::judge::Case;
use anyhow::{Context, bail, ensure};
use pitstop_imaging::event::Silent;
use pitstop_imaging::layout::apply::{Changes, uuids};
use pitstop_imaging::layout::stack::{EXTENT, On, Slot, mapped, sizes};
use pitstop_imaging::layout::{Layout, Placed, Wanted};
use pitstop_imaging::{random, tools};
use std::fs;
use std::path::Path;

/// What there is to make, with all names and sizes. Empty where the layout has partitions alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stack {
    pub arrays: Vec<Array>,
    pub luks: Vec<Encrypted>,
    pub groups: Vec<Group>,
}

/// An array of the same partition of each disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    pub name: String,
    /// As mdadm writes it: four times eight hex digits.
    pub uuid: String,
    /// The partition's number.
    pub partition: u32,
    /// Which of the layout's slots it is.
    pub slot: usize,
}

/// What is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encrypted {
    pub name: String,
    /// Of its header.
    pub uuid: String,
    pub on: On,
    /// Which of the layout's slots it is.
    pub slot: usize,
}

/// A group of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub on: Vec<On>,
    pub volumes: Vec<Logical>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logical {
    pub name: String,
    pub extents: u64,
    /// Which of the layout's slots it is.
    pub slot: usize,
}

/// The names below `/dev` that a slot has on every machine.
pub fn names(slot: Slot) -> Vec<String> {
    match slot {
        Slot::Partition => Vec::new(),
        Slot::Array(raid) => vec![format!("/dev/md/{}", raid.name)],
        Slot::Luks(luks) => vec![format!("/dev/mapper/{}", luks.name)],
        Slot::Volume(group, volume) => vec![
            mapped(&group.name, &volume.name),
            format!("/dev/{}/{}", group.name, volume.name),
        ],
    }
}

/// What GRUB needs to read a slot, beside the table and the filesystem. It reads nothing that is encrypted.
pub fn grub_modules(slot: Slot) -> Vec<&'static str> {
    const ARRAY: &str = "mdraid1x";
    match slot {
        Slot::Partition | Slot::Luks(_) => Vec::new(),
        Slot::Array(_) => vec![ARRAY],
        Slot::Volume(group, _) => {
            let is_array = |on: &On| matches!(on, On::Name(_));
            let array = group.on.iter().any(is_array).then_some(ARRAY);
            ["lvm"].into_iter().chain(array).collect()
        }
    }
}

/// Why GRUB's configuration is made anew: it was written for a root and kernels on partitions, or on others' volumes.
///
/// # Errors
/// When the layout numbers a partition wrongly.
pub fn is_told_to_grub(case: &Case) -> anyhow::Result<Option<String>> {
    let folders = ["/boot/grub", "/boot/grub2"];
    let configured = |folder: &&str| files::has(case.image, &format!("{folder}/grub.cfg"));
    let Some(folder) = folders.into_iter().find(configured) else {
        return Ok(None);
    };
    for path in ["/", folder] {
        if let Some(volume) = case.volumes.of(path)
            && case.volumes.slot(volume.index).0 != Slot::Partition
        {
            let place = case.volumes.shown(volume.index)?;
            return Ok(Some(format!("{folder}/grub.cfg, for {path} on {place}")));
        }
    }
    Ok(None)
}

/// Whether the root is on an array, LUKS or a volume: its initramfs has to put that together.
pub fn holds_root(volumes: &Volumes) -> bool {
    let root = volumes.of("/");
    root.is_some_and(|root| volumes.slot(root.index).0 != Slot::Partition)
}

/// What stands on the partitions, if this computer can make it. Writes nothing. `disks` are the ones that get the layout.
///
/// # Errors
/// When a program or a module is missing, something does not fit, or another disk has something of the same name.
pub fn plan(layout: &Layout, disks: &[(&Path, &Changes)]) -> anyhow::Result<Stack> {
    if !layout.is_stacked() {
        return Ok(Stack::default());
    }
    let placed: Vec<&Placed> = disks.iter().map(|(_, it)| &it.placed).collect();
    let sizes = sizes(layout, &placed)?;
    let stack = Stack::of(layout, &sizes).context("making identifiers")?;
    stack.check_tools()?;
    let sector = placed.first().map_or(512, |placed| placed.sector);
    ensure!(
        placed.iter().all(|placed| placed.sector == sector),
        "the disks have sectors of different sizes: one array cannot be on both"
    );
    let on_disks =
        |uuid: &str| -> bool { disks.iter().any(|(disk, _)| has_uuid(&uuids(disk), uuid)) };
    let made = layout.slots().into_iter().zip(&sizes);
    for ((slot, entry), size) in made.filter(|((slot, _), _)| *slot != Slot::Partition) {
        let wanted = Wanted {
            on: slot.to_string(),
            size: *size,
            entry,
        };
        wanted.check(sector, &on_disks)?;
    }
    let paths: Vec<&Path> = disks.iter().map(|(disk, _)| *disk).collect();
    foreign::check(&stack, &paths)?;
    Ok(stack)
}

fn has_uuid(all: &[String], uuid: &str) -> bool {
    all.iter().any(|has| has.eq_ignore_ascii_case(uuid))
}

impl Stack {
    fn of(layout: &Layout, sizes: &[u64]) -> std::io::Result<Self> {
        let first = layout.partitions.len();
        let mut stack = Self::default();
        for (slot, raid) in (first..).zip(&layout.raid) {
            stack.arrays.push(Array {
                name: raid.name.clone(),
                uuid: array_uuid()?,
                partition: raid.on,
                slot,
            });
        }
        let first = first + layout.raid.len();
        for (slot, luks) in (first..).zip(&layout.luks) {
            stack.luks.push(Encrypted {
                name: luks.name.clone(),
                uuid: random::guid()?.hyphenated().to_string(),
                on: luks.on.clone(),
                slot,
            });
        }
        let mut slot = first + layout.luks.len();
        for group in &layout.lvm {
            let mut volumes = Vec::new();
            for volume in &group.volumes {
                volumes.push(Logical {
                    name: volume.name.clone(),
                    extents: sizes.get(slot).map_or(0, |size| size / EXTENT),
                    slot,
                });
                slot += 1;
            }
            stack.groups.push(Group {
                name: group.name.clone(),
                on: group.on.clone(),
                volumes,
            });
        }
        Ok(stack)
    }

    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.luks.is_empty() && self.groups.is_empty()
    }

    fn check_tools(&self) -> anyhow::Result<()> {
        if let Some(array) = self.arrays.first() {
            let why = || format!("the layout has [[raid]] {:?}", array.name);
            tools::find(commands::MDADM).with_context(why)?;
            check_module("raid1").with_context(why)?;
        }
        if let Some(luks) = self.luks.first() {
            let why = || format!("the layout has [[luks]] {:?}", luks.name);
            tools::find(commands::CRYPTSETUP).with_context(why)?;
            load_crypt().with_context(why)?;
        }
        if let Some(group) = self.groups.first() {
            let why = || format!("the layout has [[lvm]] {:?}", group.name);
            tools::find(commands::LVM).with_context(why)?;
            check_module("dm_mod").with_context(why)?;
        }
        Ok(())
    }
}

/// Has the kernel know what is encrypted: lvm has it load device-mapper, and cryptsetup does not.
fn load_crypt() -> anyhow::Result<()> {
    const MODULE: &str = "dm_crypt";
    check_module(MODULE)?;
    if !Path::new("/sys/module").join(MODULE).exists() {
        tools::run("modprobe", &[MODULE], 0, &Silent)?;
    }
    Ok(())
}

fn array_uuid() -> std::io::Result<String> {
    let plain = random::guid()?.simple().to_string();
    let parts = [0..8, 8..16, 16..24, 24..32].map(|part| plain.get(part).unwrap_or_default());
    Ok(parts.join(":"))
}

/// Whether the kernel that runs here has a module, or has it built in.
fn check_module(name: &str) -> anyhow::Result<()> {
    if Path::new("/sys/module").join(name).exists() {
        return Ok(());
    }
    let uname = nix::sys::utsname::uname().context("asking which kernel runs here")?;
    let folder = Path::new("/lib/modules").join(uname.release());
    let lists = ["modules.dep", "modules.builtin"].map(|list| folder.join(list));
    if lists.iter().any(|list| is_listed(list, name)) {
        return Ok(());
    }
    bail!(
        "the kernel that runs here has no {name}: put it into the initramfs with mkimage --module {name}"
    )
}

fn is_listed(list: &Path, name: &str) -> bool {
    let text = fs::read_to_string(list).unwrap_or_default();
    let mut paths = text.lines().filter_map(|line| line.split(':').next());
    paths.any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = file.split(".ko").next().unwrap_or(file);
        stem.replace('-', "_") == name
    })
}

#[cfg(test)]
mod tests;
