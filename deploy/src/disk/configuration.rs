//! Whether the tree's boot configuration is right for the new disk.

use super::Deployment;
use super::fstab::Names;
use super::stack;
use super::volumes::Volumes;
use crate::boot::cmdline::{self, Found};
use crate::boot::files;
use crate::boot::judge::{Case, Ways, moved, runs_here};
use crate::new_ids::{self, Changed};
use crate::wishes;
use anyhow::{Context, bail};
use pitstop_imaging::layout::Layout;
use pitstop_imaging::table::TableKind;

/// What of the boot configuration is wrong on this disk, and can be made anew; and what may be wrong.
///
/// # Errors
/// When it cannot be made anew: the disk would not boot.
pub fn configuration(
    case: &Case,
    ways: &Ways,
    deployment: &Deployment,
    renamed: &[Changed],
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let image = case.image;
    let read = |path: &str| {
        let bytes = files::read(image, &format!("/{path}"))?;
        Ok(bytes
            .map(|bytes| String::from_utf8_lossy(&new_ids::renewed(bytes, renamed)).into_owned()))
    };
    let list = |folder: &str| files::list(image, folder);
    let found = cmdline::look(&root_of(case.volumes)?, &read, &list)?;
    let (perhaps, mut wrong): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|named| named.found == Found::Perhaps);
    if case.wish == wishes::BootWish::None {
        wrong.clear();
    }
    let moved = moved(case)?.filter(|_| case.wish != wishes::BootWish::None);
    let mut why: Vec<String> = wrong.iter().map(|named| named.text()).collect();
    why.extend(moved.clone());
    if case.wish != wishes::BootWish::None {
        why.extend(stack::is_told_to_grub(case)?);
    }
    let architecture = &image.meta.architecture;
    let can_mend = !case.is_file
        && (architecture.is_empty() || runs_here(architecture))
        && new_ids::makers().any(|program| files::has(image, program))
        && wrong.iter().all(|named| named.is_grubs())
        // GRUB's stub on the EFI system partition leads to the old place.
        && (moved.is_none() || ways.uefi.is_empty());
    let may_change = !deployment.hooks.is_empty() || !deployment.overrides.is_empty();
    if !why.is_empty() && !can_mend && !may_change {
        bail!(
            "the disk would not boot: {}. A hook can write it anew (boot = \"none\" leaves booting to you)",
            why.join("; ")
        );
    }
    Ok((why, perhaps.iter().map(|named| named.text()).collect()))
}

/// The root of the new disk, by all its names.
pub fn root_of(volumes: &Volumes) -> anyhow::Result<cmdline::Root> {
    let root = volumes.of("/").context("the root is a volume")?;
    Ok(cmdline::Root {
        names: names(volumes, root.index)?,
        number: volumes.number(root.index)?,
        subvolume: (volumes.filesystem(root) == "btrfs").then(|| root.subvolume.clone()),
    })
}

/// What fstab can name one of the layout's slots by.
pub fn names(volumes: &Volumes, index: usize) -> anyhow::Result<Names> {
    let (slot, entry) = volumes.slot(index);
    let number = volumes.number(index)?;
    let part_id = number.map(|number| part_id(&volumes.layout, number, entry.id.as_deref()));
    Ok(Names {
        uuid: entry.uuid.clone(),
        label: entry.label.clone(),
        part_id: part_id.unwrap_or_default(),
        part_name: entry.name.clone(),
        nodes: stack::names(slot),
    })
}

/// What `PARTUUID=` names a partition by.
pub fn part_id(layout: &Layout, number: u32, id: Option<&str>) -> String {
    match (layout.table, id, &layout.id) {
        (TableKind::Gpt, Some(id), _) => id.to_ascii_lowercase(),
        (TableKind::Mbr, _, Some(disk)) => {
            format!("{}-{number:02x}", disk.trim_start_matches("0x"))
        }
        _ => String::new(),
    }
}
