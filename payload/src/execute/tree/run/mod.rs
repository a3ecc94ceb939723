//! `run`: a machine without a system of its own goes on in a tree: in memory, or on a partition labelled `scratch` where the
//! tree is kept and brought up to date at each boot. No other partition is ever written.

mod memory;
mod own;
mod root;
mod scratch;
mod swap;

use super::{Opened, Ready as AnyReady, Work, hostname, parts};
use crate::execute::Prepared;
use crate::plan::OfTree;
use crate::system::{Volume, volumes};
use anyhow::{Context, bail};
use pitstop_deploy::identity::{self, IdentityWish};
use pitstop_deploy::overrides;
use pitstop_deploy::root::Root;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::inventory::{self, Disk, Standing};
use pitstop_imaging::units;
use pitstop_imaging::wishes::Writable;
use pitstop_protocol::job::RunOptions as Options;
use pitstop_relay::Node;
use root::NewRoot;
use std::path::{Path, PathBuf};

/// Where the tree is put together: in the initramfs, which goes away beneath it.
const NEW_ROOT: &str = "/pitstop-root";

/// Where a tree has its first program, as the kernel looks for it.
const INIT: [&str; 2] = ["sbin/init", "usr/sbin/init"];

/// A tree, and where it is to be.
pub(in crate::execute) struct Ready {
    tree: Opened,
    place: Place,
    swap: Vec<Volume>,
}

/// Where the tree lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Memory(memory::Size),
    Scratch(Box<Volume>),
}

pub(super) fn plan(work: &mut Work<'_>, options: &Options) -> anyhow::Result<Prepared> {
    let tree = Opened::open(work, &options.tree)?;
    tree.distribute(work)?;
    let index = &tree.image.index;
    if !INIT
        .iter()
        .any(|path| index.find(path.as_bytes()).is_some())
    {
        bail!(
            "{} has no /sbin/init: a machine cannot go on in it",
            tree.shown
        );
    }
    parts::check_layers(work, &options.overrides)?;
    let here = volumes(work.machine, &disks(work)?);
    let (swap, hibernated) = swap::choose(&here);
    let scratch = scratch::choose(&here)?;
    let mut lines = tree.about();
    let place = match scratch {
        Some(volume) => {
            lines.push(scratch::line(volume, options.writable));
            Place::Scratch(Box::new(volume.clone()))
        }
        None if options.writable == Writable::Scratch => bail!(
            "there is no partition labelled scratch, on which this job wants to write: give one that label (its \
             filesystem's, or its name in a GPT)"
        ),
        None => {
            let free = memory::Free::read(&work.machine.procfs, &swap)?;
            let size = memory::size(index, free)?;
            lines.push(format!(
                "unpack it to memory, {} of {} that are free; nothing of it survives a boot",
                units::bytes(size.tree),
                units::bytes(free.all())
            ));
            Place::Memory(size)
        }
    };
    lines.extend(swap.iter().map(|volume| format!("swap to {}", volume.name)));
    lines.extend(hibernated.iter().map(|volume| {
        format!(
            "{} is swap that holds a hibernated system: it is left alone",
            volume.name
        )
    }));
    let step = OfTree {
        tree: tree.shown.clone(),
        disks: Vec::new(),
        bytes: tree.image.meta.bytes,
        lines,
    };
    let ready = AnyReady::Run(Box::new(Ready { tree, place, swap }));
    Ok(super::prepared(work, step, Vec::new(), ready))
}

/// A machine that runs a tree may have no disk: it waits for none that the job does not name.
fn disks(work: &mut Work<'_>) -> anyhow::Result<Vec<Disk>> {
    if !work.job.disks.is_empty() {
        return Ok(work.select(true)?.1.disks);
    }
    let mut disks = inventory::read(work.machine)?.disks;
    disks.retain(|disk| disk.standing == Standing::Fixed && !disk.read_only);
    Ok(disks)
}

/// Puts the tree together. Returns its root.
pub(super) fn run(work: &Work<'_>, options: &Options, ready: &Ready) -> anyhow::Result<PathBuf> {
    let mut layers = parts::layers(work, &options.overrides)?;
    let swap = swap::on(&ready.swap, work.log);
    let at = Path::new(NEW_ROOT);
    // What others get is kept in the memory that the tree is to be in.
    let node = ready.tree.join(work)?.map(Node::sparing);
    let feed = node.as_ref().map(|node| node as &dyn Feed);
    let mut new = match &ready.place {
        Place::Memory(planned) => {
            let size = if swap.len() == ready.swap.len() {
                *planned
            } else {
                // The plan counted on more.
                let free = memory::Free::read(&work.machine.procfs, &swap)?;
                memory::size(&ready.tree.image.index, free)?
            };
            memory::unpack(&ready.tree.image, size, at, feed, work.log)?
        }
        Place::Scratch(volume) => {
            let Options { writable, .. } = options;
            scratch::unpack(&ready.tree.image, volume, *writable, at, feed, work.log)?
        }
    };
    ready.tree.tell_places(work.log);
    let name = hostname(work, options.hostname.as_ref());
    let wish = Wish {
        identity: options.identity,
        hostname: name.as_deref(),
        resolver: Path::new("/etc/resolv.conf"),
    };
    make_own(&new, &wish, &mut layers, work.log)
        .with_context(|| format!("making {} this machine's", ready.tree.shown))?;
    root::check(at, &INIT).with_context(|| ready.tree.shown.clone())?;
    new.made_own()
        .with_context(|| format!("making {} this machine's", ready.tree.shown))?;
    Ok(new.keep())
}

/// What makes a tree the machine's own.
struct Wish<'a> {
    identity: pitstop_imaging::wishes::Identity,
    hostname: Option<&'a str>,
    /// What this boot found out about name servers.
    resolver: &'a Path,
}

/// Files of the network and of disks first, then layer by layer, then who the machine is: what an admin lays over a tree wins.
fn make_own(
    new: &NewRoot,
    wish: &Wish<'_>,
    layers: &mut [overrides::Overlay],
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let root = Root::new(new.path().to_owned());
    if new.is_fresh() {
        own::fstab(new.path())?;
        own::resolver(new.path(), wish.resolver)?;
    }
    let laid = overrides::copy(&root, layers, reporter)?.paths;
    let identity = IdentityWish {
        // One that is there already goes on being itself.
        identity: if new.is_fresh() {
            wish.identity
        } else {
            pitstop_imaging::wishes::Identity::Keep
        },
        hostname: wish.hostname,
    };
    identity::renew_around(&root, &identity, &laid, reporter)
}

#[cfg(test)]
mod tests;
