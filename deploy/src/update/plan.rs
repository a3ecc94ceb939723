//! What an update will do, found out without a change to anything.

use super::adapted;
use super::commit;
use super::grub::{self, Embed};
use super::local::{LOST_FOUND, Local, OWN};
use super::look::{self, Three};
use super::record::Record;
use super::room;
use super::rows::{Row, judge, mark_own, merge};
use super::side::Side;
use super::snapshot::Place;
use super::stage;
use super::table::{Act, Why, Wishes};
use super::volumes::Volumes;
use super::work::{Maker, Work};
use super::workshop::Workshop;
use super::{Update, Updated};
use crate::root::Root;
use crate::wishes::Strangers;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_trees::entry::Kind;
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::{TreePath, order};
use pitstop_trees::{Aspect, Meta, TreeImage, mount_table, weigh};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A path at which something is done, or is not although it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub path: TreePath,
    pub act: Act,
    pub why: Why,
    /// What of it is not as in the new tree.
    pub what: Vec<Aspect>,
    /// Whether the machine has something there now.
    pub there: bool,
}

/// Where a system that runs has its files in memory.
const MEMORY: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// All of it. Nothing is changed until it is run.
pub struct UpdatePlan<'a> {
    pub(super) image: &'a TreeImage<'a>,
    machine: Machine,
    threads: usize,
    pub lines: Vec<Line>,
    work: Work,
    /// What the last record says of itself.
    pub previous: Option<Meta>,
    /// Bytes of the image that have to be read beside its index.
    pub to_travel: u64,
}

/// Compares the trees and the machine.
///
/// # Errors
/// When something cannot be read, the machine's filesystems are not all there or have no room, or the wishes cannot be met.
pub fn plan<'a>(update: &Update<'a>) -> anyhow::Result<UpdatePlan<'a>> {
    if !rustix::process::geteuid().is_root() {
        bail!("an update needs root: files get their owners, and devices are made");
    }
    let machine = Machine::open(update.root.path(), Access::Write, &points(update.image)?)?;
    let previous = Record::of(&machine)?;
    let old = previous.as_ref().map(|record| Side::new(&record.index));
    let new = Side::new(&update.image.index);
    // What a capture left out by wish was never meant to be the tree's.
    let excludes = &update.image.meta.excludes;
    let patterns = [&update.local[..], &update.exclude, excludes].concat();
    let mut adapted = adapted::read(&machine)?;
    // The machine's own files stay its own where a link leads to them.
    for own in OWN {
        let own = TreePath::parse(own.as_bytes())?;
        adapted.extend(machine.follow(&own).ok().filter(|led| *led != own));
    }
    for point in machine.points() {
        adapted.insert(point.join(LOST_FOUND)?);
    }
    let local = Local::new(&patterns, running_kernel(update.root)?.as_deref(), adapted)?;
    check_mounts(&machine, update.image, &local)?;
    check_memory(&machine, update.root, update.image, &local)?;
    let known = |path: &TreePath| {
        let in_tree = |side: &Side| side.index.find(path.as_bytes()).is_some();
        // Of strangers that stay nobody needs to know what is in them.
        let entered = update.strangers != Strangers::Keep
            || in_tree(&new)
            || old.as_ref().is_some_and(in_tree);
        entered && !local.wished(path)
    };
    let nodes = machine.nodes(&known)?;
    let three = Three {
        old: old.as_ref(),
        new: &new,
        machine: &machine,
        nodes: &nodes,
        names: look::names(&nodes),
        check: update.check,
    };
    let mut rows = merge(old.as_ref(), &new, &nodes);
    mark_own(&mut rows, &nodes, &local);
    three.look(&mut rows)?;
    let wishes = Wishes {
        changes: update.changes,
        strangers: update.strangers,
    };
    judge(&mut rows, &three, wishes, &local);
    check_covered(&rows, update.root, &machine)?;
    let volumes = Volumes::new(&nodes);
    let work = Maker::new(&rows, &three, &volumes).make()?;
    let record = update.image.index_bytes().len() as u64;
    room::check(&machine, &update.image.index, &work, record)?;
    let to_travel = weigh(&update.image.index, work.spots.keys().copied(), &work.held)?;
    let lines = rows.iter().filter(|row| row.act != Act::Nothing).map(line);
    Ok(UpdatePlan {
        image: update.image,
        lines: lines.collect(),
        threads: update.threads,
        work,
        to_travel,
        previous: previous.as_ref().map(|record| record.meta.clone()),
        machine,
    })
}

/// The release of the kernel, where it is the running system that is updated.
fn running_kernel(root: &Root) -> anyhow::Result<Option<String>> {
    if root.path() != Path::new("/") {
        return Ok(None);
    }
    let told = nix::sys::utsname::uname().context("asking which kernel runs")?;
    Ok(Some(told.release().to_string_lossy().into_owned()))
}

fn line(row: &Row) -> Line {
    Line {
        path: row.path.clone(),
        act: row.act,
        why: row.why,
        what: row.vs_new.clone(),
        there: row.here.is_some(),
    }
}

/// Where the tree's own filesystems were mounted.
pub(super) fn points(image: &TreeImage) -> anyhow::Result<Vec<TreePath>> {
    let mounts = image.meta.filesystems.iter();
    let points = mounts.map(|filesystem| TreePath::parse_loose(filesystem.mount.as_bytes()));
    points
        .collect::<Result<_, _>>()
        .with_context(|| format!("the filesystems of {}", image.name()))
}

/// A system of which a filesystem is not mounted would get its files in the wrong place, as would one where something else is
/// mounted over them.
fn check_mounts(machine: &Machine, image: &TreeImage, local: &Local) -> anyhow::Result<()> {
    for (point, what) in machine.others() {
        if has_files(image, point, local) {
            bail!(
                "{} has something mounted ({what}), and the tree has files there, which would go beneath it: unmount it, or \
                 leave {point} alone (exclude)",
                machine.shown(point)
            );
        }
    }
    if !machine.is_mounted() {
        return Ok(());
    }
    for point in machine.fstab()? {
        let mounted = machine.points().any(|it| *it == point);
        if !mounted && has_files(image, &point, local) {
            bail!(
                "{} is not mounted, and the tree has files there: mount it as this machine's etc/fstab says",
                machine.shown(&point)
            );
        }
    }
    Ok(())
}

/// Nor does anyone expect files of the tree beneath a tmpfs, but where every system has one.
fn check_memory(
    machine: &Machine,
    root: &Root,
    image: &TreeImage,
    local: &Local,
) -> anyhow::Result<()> {
    let above = fs::canonicalize(root.path())
        .with_context(|| format!("opening {}", root.path().display()))?;
    for mount in mount_table()? {
        let Ok(below) = mount.point.strip_prefix(&above) else {
            continue;
        };
        if mount.kind != "tmpfs" || MEMORY.iter().any(|usual| below.starts_with(usual)) {
            continue;
        }
        let point = TreePath::parse(below.as_os_str().as_bytes())
            .with_context(|| format!("the mount point {}", mount.point.display()))?;
        if !point.is_root() && has_files(image, &point, local) {
            bail!(
                "{} has something mounted (tmpfs), and the tree has files there, which would go beneath it: unmount it, or leave \
                 {point} alone (exclude)",
                machine.shown(&point)
            );
        }
    }
    Ok(())
}

/// Nothing can be renamed onto a place where something is mounted, nor removed there: a name server's file that a container
/// manager has laid over `etc/resolv.conf` would hold an update that is decided.
fn check_covered(rows: &[Row], root: &Root, machine: &Machine) -> anyhow::Result<()> {
    let above = fs::canonicalize(root.path())
        .with_context(|| format!("opening {}", root.path().display()))?;
    for mount in mount_table()? {
        let Ok(below) = mount.point.strip_prefix(&above) else {
            continue;
        };
        let at =
            rows.binary_search_by(|row| order(row.path.as_bytes(), below.as_os_str().as_bytes()));
        let row = at.ok().map(|at| &rows[at]);
        let moves = |row: &&Row| matches!(row.act, Act::Place | Act::Delete);
        if let Some(row) = row.filter(moves) {
            bail!(
                "{} has something mounted ({}), and the update is to replace what is beneath: unmount it, or leave {} alone \
                 (exclude)",
                machine.shown(row.path),
                mount.kind,
                row.path
            );
        }
    }
    Ok(())
}

/// Whether a tree has something at `point` that is no folder, or something in the folder, and it is not left alone.
fn has_files(image: &TreeImage, point: &TreePath, local: &Local) -> bool {
    let Some(at) = image.index.find(point.as_bytes()) else {
        return false;
    };
    let within = image.index.placed()[at..].iter().map(|it| &it.entry);
    within
        .take_while(|entry| entry.path.is_within(point.as_bytes()))
        .filter(|entry| entry.path != *point || entry.kind != Kind::Folder)
        .any(|entry| !is_left_alone(&entry.path, local))
}

fn is_left_alone(path: &TreePath, local: &Local) -> bool {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let above = ends.filter_map(|(end, _)| TreePath::parse(&bytes[..end]).ok());
    local.wished(path) || above.into_iter().any(|above| local.wished(&above))
}

impl UpdatePlan<'_> {
    /// What the new tree says of itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.image.meta
    }

    /// What is in the way of the update.
    pub fn refused(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.act == Act::Refuse)
    }

    /// Whether files change.
    pub fn changes_files(&self) -> bool {
        let changes = |line: &Line| matches!(line.act, Act::Place | Act::Set | Act::Delete);
        self.lines.iter().any(changes)
    }

    /// Stages all that is new, decides, and does it.
    ///
    /// # Errors
    /// Before the update is decided nothing is changed, and what was staged is removed. After it, what is left is done by
    /// [`roll_forward`](super::roll_forward).
    pub fn run(self, reporter: &dyn Reporter) -> anyhow::Result<Updated> {
        self.run_at(None, reporter)
    }

    /// The same, of the system of a place.
    ///
    /// # Errors
    /// As [`UpdatePlan::run`].
    pub fn run_in(self, place: &Place, reporter: &dyn Reporter) -> anyhow::Result<Updated> {
        self.run_at(Some(place), reporter)
    }

    fn run_at(self, place: Option<&Place>, reporter: &dyn Reporter) -> anyhow::Result<Updated> {
        if let Some(line) = self.refused().next() {
            bail!(
                "in the way of the update: {} ({}). Nothing was changed; --dry-run lists all {} of them",
                self.machine.shown(&line.path),
                line.why.text(),
                self.refused().count()
            );
        }
        room::check_writable(&self.machine)?;
        if self.is_recorded() && !self.changes_files() {
            return Ok(Updated {
                travelled: 0,
                boot_changed: false,
                took: Duration::ZERO,
            });
        }
        grub::warn_of_stale(&self.lines, reporter);
        for folder in &self.work.other_grub {
            reporter.warn(format!(
                "{folder} gets another GRUB, and the disk is started by one that is not the system's own: that is left as it is; \
                 if this system is to be started by it, run its own grub-install"
            ));
        }
        let mut workshops = Vec::new();
        let staged = stage::open(&self.machine, &self.work.journal, &mut workshops)
            .and_then(|()| self.stage(&workshops, place, reporter));
        let travelled = match staged {
            Ok(travelled) => travelled,
            Err(error) => {
                clean_up(workshops, reporter);
                return Err(error.context("nothing was changed"));
            }
        };
        let begun = Instant::now();
        let embed = place.map_or(Embed::Now, Place::embed);
        let done = commit::run(
            &self.machine,
            &self.work.journal,
            workshops,
            embed,
            reporter,
        );
        let lost = done.map_err(|error| match place {
            Some(place) if place.is_dropped_by_failure() => error,
            _ => error.context(commit::DECIDED),
        })?;
        if let Some(place) = place {
            place.committed();
        }
        lost?;
        Ok(Updated {
            travelled,
            boot_changed: self.boot_changed(),
            took: begun.elapsed(),
        })
    }

    fn stage(
        &self,
        workshops: &[Workshop],
        place: Option<&Place>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<u64> {
        let travelled = stage::fill(
            &self.machine,
            self.image,
            &self.work,
            workshops,
            self.threads,
            reporter,
        )?;
        stage::decide(&self.work.journal, workshops)?;
        if let Some(place) = place {
            place.decide(&self.machine, &self.work.journal, reporter)?;
        }
        Ok(travelled)
    }

    /// Whether the record says already that the machine has this very tree.
    fn is_recorded(&self) -> bool {
        let previous = self.previous.as_ref();
        previous.is_some_and(|previous| *previous == self.image.meta_beside())
    }

    /// Whether kernels, initramfs or boot loaders are among what changes.
    pub fn boot_changed(&self) -> bool {
        let changed = self
            .lines
            .iter()
            .filter(|line| matches!(line.act, Act::Place | Act::Set | Act::Delete));
        let places = [&b"boot"[..], b"efi", b"usr/lib/grub"];
        changed
            .flat_map(|line| places.map(|place| line.path.is_within(place)))
            .any(|within| within)
    }
}

/// What was staged by an update that failed is of no use.
fn clean_up(workshops: Vec<Workshop>, reporter: &dyn Reporter) {
    if let Err(error) = commit::withdraw(&workshops) {
        reporter.warn(format!("{error:#}"));
        return;
    }
    for workshop in workshops.into_iter().rev() {
        let name = workshop.name().to_owned();
        if let Err(error) = workshop.remove() {
            reporter.warn(format!("{name} could not be removed: {error:#}"));
        }
    }
}
