//! `update`: the system on this machine's disks is brought up to date with a tree. An update that was cut off after it was
//! decided is finished first.

use super::{Opened, Ready as AnyReady, Work, parts};
use crate::execute::Prepared;
use crate::plan::OfTree;
use crate::system::{self, Access, System};
use anyhow::Context;
use pitstop_deploy::chroot::Chroot;
use pitstop_deploy::hooks::{self, Hook, HookEnvironment, Stage};
use pitstop_deploy::initramfs;
use pitstop_deploy::overrides::{self, Overlay};
use pitstop_deploy::root::Root;
use pitstop_deploy::update::snapshot::{self, Place, Runs};
use pitstop_deploy::update::{self, Update, adapted};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Disk;
use pitstop_imaging::units;
use pitstop_imaging::wishes::Initrd;
use pitstop_protocol::job::UpdateOptions as Options;

/// The most paths that a plan shows: `pitstop tree update --dry-run` lists all.
const SHOWN: usize = 20;

/// A tree, and where the system is that is to be like it.
pub(in crate::execute) struct Ready {
    tree: Opened,
    /// Those that its filesystems are on.
    disks: Vec<Disk>,
    hooks: Vec<Hook>,
    secrets: Option<Vec<u8>>,
}

pub(super) fn plan(work: &mut Work<'_>, options: &Options) -> anyhow::Result<Prepared> {
    let tree = Opened::open(work, &options.tree)?;
    let hooks = parts::scripts(work, &options.hooks)?;
    let secrets = parts::secrets(work, options.secrets.as_deref())?;
    parts::check_layers(work, &options.overrides)?;
    let (inventory, selection) = work.select(true)?;
    system::check_awake(&system::volumes(work.machine, &inventory.disks))?;
    // As it is now, so that a plan writes nothing.
    let system = mount(work, &selection.disks, &inventory.disks, Access::Read)?;
    system::check_files_awake(system.root())?;
    let mut lines = tree.about();
    lines.push(format!("bring {} up to date with it", system.name));
    lines.extend(system.places.clone());
    let root = Root::new(system.root().to_owned());
    if update::is_cut_off(&root)? || snapshot::is_cut_off(&root)? {
        lines.push("an update that was cut off is finished first, then this one is planned".into());
    } else {
        let planned = update::plan(&asked(options, &tree, &root))
            .with_context(|| format!("updating {} to {}", system.name, tree.shown))?;
        let text = planned.text();
        let all = text.lines().count();
        lines.extend(text.lines().take(SHOWN).map(str::to_owned));
        if all > SHOWN {
            lines.push(format!("and {} more paths", all - SHOWN));
        }
        lines.push(planned.summary());
        hooks::check_runs_here(&hooks, &tree.image.meta.architecture)?;
        let has_layers = !options.overrides.is_empty();
        let missing = hooks::check_updated(&hooks, has_layers, &tree.image, &root)?;
        lines.extend(missing);
        lines.extend(snapshot::told(&root, Runs::No)?);
    }
    let layers = options.overrides.iter();
    lines.extend(layers.map(|layer| format!("over it: {layer}")));
    lines.extend(hooks.iter().map(|hook| format!("then runs {}", hook.name)));
    let disks = system.disks.clone();
    system.unmount()?;
    let step = OfTree {
        tree: tree.shown.clone(),
        disks: disks.clone(),
        bytes: tree.image.meta.bytes,
        lines,
    };
    let ready = AnyReady::Update(Box::new(Ready {
        tree,
        disks,
        hooks,
        secrets,
    }));
    Ok(super::prepared(work, step, selection.left_alone, ready))
}

fn mount(work: &Work<'_>, disks: &[Disk], all: &[Disk], access: Access) -> anyhow::Result<System> {
    system::mount(work.machine, disks, all, access, work.log)
}

fn asked<'a>(options: &Options, tree: &'a Opened, root: &'a Root) -> Update<'a> {
    Update {
        image: &tree.image,
        root,
        changes: options.changes,
        strangers: options.strangers,
        check: options.check,
        local: options.local.clone(),
        exclude: options.exclude.clone(),
        threads: 0,
    }
}

pub(super) fn run(work: &Work<'_>, options: &Options, ready: &Ready) -> anyhow::Result<()> {
    let Ready { tree, disks, .. } = ready;
    let mut layers = parts::layers(work, &options.overrides)?;
    let system = mount(work, disks, disks, Access::Write)?;
    let root = Root::new(system.root().to_owned());
    let doing = || format!("updating {} to {}", system.name, tree.shown);
    snapshot::within(&root, Runs::No, work.log, |place| {
        bring(work, options, ready, &mut layers, &system, place)
    })
    .with_context(doing)?;
    system.unmount()
}

fn bring(
    work: &Work<'_>,
    options: &Options,
    ready: &Ready,
    layers: &mut [Overlay],
    system: &System,
    place: &Place,
) -> anyhow::Result<()> {
    let Ready { tree, disks, .. } = ready;
    let root = place.root();
    let planned = update::plan(&asked(options, tree, root))?;
    for line in planned.text().lines() {
        work.log.debug(line.to_owned());
    }
    let done = planned.run_in(place, work.log)?;
    work.log.info(format!(
        "{} is {} now; {} of the image travelled",
        system.name,
        tree.shown,
        units::bytes(done.travelled)
    ));
    tree.tell_places(work.log);
    let laid = overrides::copy(root, layers, work.log)?;
    adapted::add(root, &laid.paths)?;
    // Also where nothing changed: an earlier try may have been cut off, or failed, before it came so far.
    check_initramfs(work, options.initrd, root, disks)?;
    run_hooks(work, ready, root)
}

/// Whether the kernel that came finds this machine's disks.
fn check_initramfs(
    work: &Work<'_>,
    wish: Initrd,
    root: &Root,
    disks: &[Disk],
) -> anyhow::Result<()> {
    let mut needs = Vec::new();
    for disk in disks {
        needs.extend(initramfs::needs(
            &work.machine.sysfs,
            &disk.node(&work.machine.dev),
        )?);
    }
    let chroot = Chroot::enter(root, None)?.of_this_machine();
    initramfs::ensure(&chroot, wish, &needs, false, work.log)
}

fn run_hooks(work: &Work<'_>, ready: &Ready, root: &Root) -> anyhow::Result<()> {
    let Ready { tree, hooks, .. } = ready;
    if hooks.is_empty() {
        return Ok(());
    }
    let hostname = work.lease.hostname.clone().unwrap_or_default();
    let environment = HookEnvironment {
        stage: Stage::Update,
        disk: String::new(),
        hostname,
        tree: tree.image.meta.name.clone(),
        version: tree.image.meta.version.clone(),
        secrets: ready.secrets.clone(),
    };
    let chroot = Chroot::enter(root, None)?.of_this_machine();
    let limit = pitstop_deploy::disk::HOOK_LIMIT;
    hooks::run(&chroot, hooks, &environment, limit, work.log)
}
