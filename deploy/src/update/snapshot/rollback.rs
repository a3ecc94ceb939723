//! Back to the root as it was before the last update. The one that was the root until now is kept in its turn.

use super::super::commit::{RolledForward, roll_forward_in_place};
use super::super::grub::{self, Embed, Started};
use super::super::record::Record;
use super::judge::{Judged, judge};
use super::kept::keep_before;
use super::state::State;
use super::view::View;
use super::{OLD, mount_folder, swap};
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_trees::btrfs::{self, Shelf};
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::TreePath;

/// The root that was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// `web@1`, as far as it is known.
    pub name: String,
    /// Its subvolume.
    pub path: String,
}

/// Has the root that was before the last update be the root again.
///
/// # Errors
/// When there is none, the root is none that can be swapped, or something cannot be done.
pub fn rollback(root: &Root, reporter: &dyn Reporter) -> anyhow::Result<Restored> {
    mount_folder::sweep(reporter);
    let rolled = roll_forward_in_place(root, Embed::Now, reporter)?;
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    let Some(Judged { site, why_not }) = judge(root, &machine)? else {
        bail!(
            "{} is on no Btrfs: of others the system before an update is not kept",
            machine.name()
        );
    };
    let nothing = || {
        format!(
            "there is nothing to go back to: no update of {} has kept the system that was there before",
            machine.name()
        )
    };
    let store = Shelf::existing(&site.source)?.with_context(nothing)?;
    swap::recover(&store, &site, &machine, reporter)?;
    let now = btrfs::about(site.current(&store)?).context("looking at the root")?;
    keep_before(&store, now, rolled == RolledForward::Finished, reporter)?;
    let old = store.get(OLD)?.with_context(nothing)?;
    if let Some(why) = why_not {
        bail!("the system cannot be swapped for the one before: {why}");
    }
    let before = btrfs::about(&old).with_context(|| format!("looking at {}", store.shown(OLD)))?;
    // Another system may be on the same Btrfs.
    if !before.is_kin(&now) {
        bail!(
            "{} was not made of {}: there is nothing to go back to",
            store.shown(OLD),
            machine.name()
        );
    }
    let view = View::new(&site, OLD, &machine)?;
    let restored = Root::new(view.path().to_owned());
    let state = State {
        root: site.path.clone(),
        beside: OLD.into(),
        old: now.id,
        new: before.id,
        changed: now.changed,
        default: site.is_default(now.id)?,
        grub: other_cores(&machine, &Machine::open(view.path(), Access::Read, &[])?)?,
        ..State::default()
    };
    let name = name_of(&restored)?;
    state.write(&store)?;
    swap::go_on(&store, &state, &view, reporter)?;
    view.close()?;
    Ok(Restored {
        name,
        path: site.path,
    })
}

/// The folders of GRUB that have another core in the root that comes, where that of this one starts the disk.
fn other_cores(now: &Machine, then: &Machine) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in grub::FOLDERS {
        let path = TreePath::parse(folder)?;
        let core = |machine: &Machine| grub::core(machine, &path);
        let Some(wanted) = core(then) else { continue };
        if core(now) != Some(wanted) && grub::started(now, &path) == Started::Own {
            found.push(super::text(&path));
        }
    }
    Ok(found)
}

fn name_of(root: &Root) -> anyhow::Result<String> {
    let record = Record::read(root)?;
    let meta = record.map(|record| record.meta);
    Ok(match meta {
        Some(meta) if !meta.name.is_empty() => format!("{}@{}", meta.name, meta.version),
        _ => "what it was".into(),
    })
}
