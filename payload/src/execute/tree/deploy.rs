//! `deploy`: a tree onto a disk. All that can be refused is refused before the disk is written.

use super::{Opened, Ready as AnyReady, Work, hostname, parts};
use crate::execute::{Labelled, Prepared, partition};
use crate::plan::OfTree;
use anyhow::{Context, bail};
use pitstop_deploy::disk::{Deployment, Entries, Firmware, plan as judge};
use pitstop_deploy::hooks::Hook;
use pitstop_deploy::passphrase::Passphrase;
use pitstop_imaging::efi;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::Feed;
use pitstop_imaging::inventory::Disk;
use pitstop_imaging::layout::Layout;
use pitstop_imaging::units;
use pitstop_imaging::wishes::Identity;
use pitstop_protocol::job::DeployOptions as Options;
use pitstop_trees::Meta;
use std::path::{Path, PathBuf};

/// A tree and the disk that it goes onto.
pub(in crate::execute) struct Ready {
    tree: Opened,
    disk: Disk,
    /// The other disks of the layout's arrays.
    mirrors: Vec<Disk>,
    /// Every disk of the machine, for the firmware's entries.
    all: Vec<(PathBuf, u32)>,
    layout: Option<Layout>,
    hooks: Vec<Hook>,
    passphrase: Option<Passphrase>,
    secrets: Option<Vec<u8>>,
}

pub(super) fn plan(work: &mut Work<'_>, options: &Options) -> anyhow::Result<Prepared> {
    let tree = Opened::open(work, &options.tree)?;
    tree.distribute(work)?;
    let layout = match &options.layout {
        Some(file) => Some(partition::read(work, file)?),
        None => None,
    };
    let passphrase = match &options.luks_key {
        Some(file) => Some(parts::passphrase(work, file)?),
        None => None,
    };
    let hooks = parts::scripts(work, &options.hooks)?;
    let secrets = parts::secrets(work, options.secrets.as_deref())?;
    parts::check_layers(work, &options.overrides)?;
    let (inventory, selection) = work.select(true)?;
    let has_arrays = match &layout {
        Some(layout) => !layout.raid.is_empty(),
        None => own_arrays(&tree.image.meta),
    };
    let shown: Vec<String> = selection.disks.iter().map(ToString::to_string).collect();
    let shown = shown.join(", ");
    let [disk, mirrors @ ..] = &selection.disks[..] else {
        bail!("a tree goes onto a disk, and this job is about none: name one in disks");
    };
    check_count(
        selection.disks.len(),
        &shown,
        has_arrays,
        work.job.disks.is_empty(),
    )?;
    let all = inventory.disks.iter().map(|disk| {
        let sector = disk.identity.logical_sector_size;
        (disk.node(&work.machine.dev), sector)
    });
    let ready = Ready {
        all: all.collect(),
        disk: disk.clone(),
        mirrors: mirrors.to_vec(),
        tree,
        layout,
        hooks,
        passphrase,
        secrets,
    };
    let lines = {
        let at = Place::of(work, &ready.disk);
        let mut deployment = deployment(work, options, &ready, &at);
        deployment.overrides = parts::layers(work, &options.overrides)?;
        let judged = judge(deployment)
            .with_context(|| format!("deploying {} to {shown}", ready.tree.shown))?;
        let it = if mirrors.is_empty() { "it" } else { "them" };
        let mut lines = ready.tree.about();
        lines.push(format!("write it to {shown}; everything on {it} is lost"));
        lines.extend(judged.to_string().lines().map(str::to_owned));
        lines
    };
    let step = OfTree {
        tree: ready.tree.shown.clone(),
        disks: selection.disks.clone(),
        bytes: ready.tree.image.meta.bytes,
        lines,
    };
    let ready = AnyReady::Deploy(Box::new(ready));
    Ok(super::prepared(work, step, selection.left_alone, ready))
}

/// Whether the disk that the tree was captured from was a part of arrays.
fn own_arrays(meta: &Meta) -> bool {
    let own = meta.layout.as_ref().and_then(|own| own.get("raid"));
    own.and_then(toml::Value::as_array)
        .is_some_and(|arrays| !arrays.is_empty())
}

/// Whether a layout is for as many disks as the job means: `shown`, `count` of them. A job that names none means every fixed one.
fn check_count(
    count: usize,
    shown: &str,
    has_arrays: bool,
    names_none: bool,
) -> anyhow::Result<()> {
    match (has_arrays, count) {
        (false, 2..) => {
            bail!("a tree goes onto one disk, and this job is about {shown}: name one in disks")
        }
        (true, 1) => bail!(
            "the layout has [[raid]], and this job is about {shown} alone: name two disks or more in disks"
        ),
        // Two are what an array needs; of more, some may hold somebody's data.
        (true, 3..) if names_none => bail!(
            "the layout has [[raid]], and this job names no disk, which would be {shown}: name those of the array in disks"
        ),
        _ => Ok(()),
    }
}

/// Where things of the machine are.
struct Place {
    node: PathBuf,
    efivars: PathBuf,
}

impl Place {
    fn of(work: &Work<'_>, disk: &Disk) -> Self {
        Self {
            node: disk.node(&work.machine.dev),
            efivars: work.machine.sysfs.join(efi::VARIABLES),
        }
    }
}

fn deployment<'a>(
    work: &Work<'_>,
    options: &Options,
    ready: &'a Ready,
    at: &'a Place,
) -> Deployment<'a> {
    let Place { node, efivars } = at;
    let uefi = is_uefi(&work.machine.sysfs);
    let named_by_network = options.identity == Identity::New;
    let mut deployment = Deployment::new(&ready.tree.image, node);
    let mirrors = ready.mirrors.iter();
    deployment.mirrors = mirrors.map(|disk| disk.node(&work.machine.dev)).collect();
    deployment.layout.clone_from(&ready.layout);
    deployment.passphrase.clone_from(&ready.passphrase);
    deployment.identity = options.identity;
    deployment.hostname = if named_by_network {
        hostname(work, options.hostname.as_ref())
    } else {
        options.hostname.clone()
    };
    deployment.new_ids = options.new_ids;
    deployment.boot = options.boot;
    deployment.initrd = options.initrd;
    deployment.hooks.clone_from(&ready.hooks);
    deployment.secrets.clone_from(&ready.secrets);
    deployment.firmware = if uefi { Firmware::Uefi } else { Firmware::Bios };
    deployment.entries = efivars.exists().then_some(Entries {
        efivars,
        disks: &ready.all,
    });
    deployment
}

fn is_uefi(sysfs: &Path) -> bool {
    sysfs.join("firmware/efi").exists()
}

pub(super) fn run(work: &Work<'_>, options: &Options, ready: &Ready) -> anyhow::Result<()> {
    let Ready { tree, disk, .. } = ready;
    let deploying = || format!("deploying {} to {disk}", tree.shown);
    let at = Place::of(work, disk);
    let mut deployment = deployment(work, options, ready, &at);
    deployment.overrides = parts::layers(work, &options.overrides)?;
    let judged = judge(deployment).with_context(deploying)?;
    let node = tree.join(work)?;
    let feed = node.as_ref().map(|node| node as &dyn Feed);
    let reporter = Labelled::new(work.log, Act::Extract, 1, disk);
    reporter.begins();
    let done = judged.fed_by(feed).run(&reporter);
    let done = done.with_context(deploying)?;
    reporter.is_done();
    reporter.info(format!(
        "{}: {} entries, {}, of {}",
        disk.identity.device,
        done.entries,
        units::bytes(done.bytes),
        tree.shown
    ));
    tree.tell_places(&reporter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_with_arrays_takes_no_third_disk_that_nobody_named() {
        let told = |count, has_arrays, names_none| {
            let checked = check_count(count, "sda, sdb, sdc", has_arrays, names_none);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(told(1, false, true), Ok(()));
        assert_eq!(told(2, true, true), Ok(()));
        assert_eq!(told(3, true, false), Ok(()));
        for (refused, why) in [
            (told(2, false, true), "a tree goes onto one disk"),
            (told(1, true, false), "name two disks or more in disks"),
            (told(3, true, true), "name those of the array in disks"),
        ] {
            let error = refused.unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
