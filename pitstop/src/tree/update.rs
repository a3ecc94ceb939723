//! `pitstop tree update IMAGE ROOT`: a system is brought up to date by what changed.

use super::parts::{Given, Parts};
use super::print;
use super::store::Where;
use crate::commands::place::reporter;
use crate::commands::place::signed::SignedBy;
use anyhow::{Context, bail};
use pitstop_deploy::chroot::Chroot;
use pitstop_deploy::disk::{HOOK_LIMIT, apart};
use pitstop_deploy::hooks::{self, HookEnvironment, Stage};
use pitstop_deploy::initramfs::Way;
use pitstop_deploy::overrides;
use pitstop_deploy::root::Root;
use pitstop_deploy::update::snapshot::{self, Place, Runs};
use pitstop_deploy::update::{Act, Update, UpdatePlan, adapted, is_cut_off, plan};
use pitstop_deploy::wishes::{self, Initrd};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::units;
use pitstop_trees::TreeImage;
use pitstop_trees::machine::{Access, Locks, Machine};
use pitstop_trees::path::TreePath;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree update web --live --dry-run
  pitstop tree update web --live
  pitstop tree update web@2026-11-01T080000Z /mnt

As root. What the tree changed comes, what was edited on the machine stays and is listed. --dry-run changes nothing and lists
every file and why: + new, M changed, - deleted, = stays, ! refused.")]
pub struct Args {
    /// A NAME or NAME@VERSION on the share, a path or an `http(s)://` URL
    image: String,
    /// The root of a system, with its filesystems mounted below
    #[arg(value_name = "ROOT", default_value = "/")]
    folder: PathBuf,
    /// Allow that it is the system that runs
    #[arg(long)]
    live: bool,
    /// List every file and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Files edited on the machine: keep, replace, or fail
    #[arg(long, default_value = "keep", value_name = "WISH")]
    changes: ChangesWord,
    /// Files of no tree: keep, delete, or fail
    #[arg(long, default_value = "keep", value_name = "WISH")]
    strangers: StrangersWord,
    /// How edits are found: quick, by size and time; full, by contents
    #[arg(long, default_value = "quick", value_name = "HOW")]
    check: CheckWord,
    /// What matches is the machine's own; may be repeated
    #[arg(long, value_name = "PATTERN")]
    local: Vec<String>,
    /// Leave alone what matches; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The initramfs: auto, made anew where it lacks a driver of this machine's disk; keep, or rebuild
    #[arg(long, default_value = "auto", value_name = "WISH")]
    initrd: InitrdWord,
    #[command(flatten)]
    parts: Parts,
    /// Cores to use; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signed: SignedBy,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ChangesWord {
    Keep,
    Replace,
    Fail,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StrangersWord {
    Keep,
    Delete,
    Fail,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CheckWord {
    Quick,
    Full,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InitrdWord {
    Auto,
    Keep,
    Rebuild,
}

impl InitrdWord {
    fn wish(self) -> Initrd {
        match self {
            Self::Auto => Initrd::Auto,
            Self::Keep => Initrd::Keep,
            Self::Rebuild => Initrd::Rebuild,
        }
    }
}

impl Args {
    fn runs(&self) -> Runs {
        if self.live { Runs::Yes } else { Runs::No }
    }

    fn update<'a>(&self, image: &'a TreeImage<'a>, root: &'a Root) -> Update<'a> {
        Update {
            image,
            root,
            changes: match self.changes {
                ChangesWord::Keep => wishes::Changes::Keep,
                ChangesWord::Replace => wishes::Changes::Replace,
                ChangesWord::Fail => wishes::Changes::Fail,
            },
            strangers: match self.strangers {
                StrangersWord::Keep => wishes::Strangers::Keep,
                StrangersWord::Delete => wishes::Strangers::Delete,
                StrangersWord::Fail => wishes::Strangers::Fail,
            },
            check: match self.check {
                CheckWord::Quick => wishes::Check::Quick,
                CheckWord::Full => wishes::Check::Full,
            },
            local: self.local.clone(),
            exclude: self.exclude.clone(),
            threads: self.threads,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let real = real_root(&args.folder, args.live)?;
    let reporter = reporter();
    let root = Root::new(real.clone());
    if args.dry_run {
        return dry_run(args, &root, &reporter);
    }
    // What is mounted for it is gone with it, however it ends.
    let swapped = apart(|| update(args, &root, &reporter))?;
    if let Some(path) = swapped {
        show(&real, &path, &reporter);
    }
    Ok(())
}

/// The root as the kernel names it.
pub fn real_root(folder: &Path, live: bool) -> anyhow::Result<PathBuf> {
    let real = fs::canonicalize(folder).with_context(|| format!("opening {}", folder.display()))?;
    if real == Path::new("/") && !live {
        bail!("/ is the system that runs: say --live to change it, or name another root");
    }
    Ok(real)
}

/// Has the root show the system that took the place of what is mounted there.
pub fn show(root: &Path, subvolume: &str, reporter: &dyn Reporter) {
    match snapshot::refresh(root, subvolume) {
        Ok(lost) => lost
            .into_iter()
            .for_each(|lost| reporter.warn(format!("no longer mounted: {lost}"))),
        Err(error) => reporter.warn(format!(
            "{} still shows the system as it was, which is put aside: unmount it, and mount it again ({error:#})",
            root.display()
        )),
    }
}

/// Returns the subvolume that became another one.
fn update(args: &Args, root: &Root, reporter: &dyn Reporter) -> anyhow::Result<Option<String>> {
    // Held to the end, but for hooks: what they install takes them itself.
    let mut locks = Some(Locks::take(&Machine::open(
        root.path(),
        Access::Write,
        &[],
    )?)?);
    check_system(root)?;
    // Read before anything is changed, and before what was cut off is finished.
    let mut given = args.parts.read()?;
    let way = way(args, root)?;
    let ((), swapped) = snapshot::within(root, args.runs(), reporter, |place| {
        let image = args
            .place
            .open_signed(&args.image, &args.signed, reporter)?;
        let plan = plan(&args.update(&image, place.root()))?;
        if args.json {
            print_json(&plan, &given)?;
        }
        check_programs(args, &plan, &given, &way, place.root())?;
        for missing in check_hooks(&given, &image, place.root())? {
            reporter.warn(missing);
        }
        bring(plan, &image, place, reporter)?;
        let laid = overrides::copy(place.root(), &mut given.layers, reporter)?;
        adapted::add(place.root(), &laid.paths)?;
        ensure_initramfs(args, &way, place.root(), reporter)?;
        if !given.hooks.is_empty() {
            locks = None;
        }
        run_hooks(given, &image, place.root(), reporter)
    })?;
    drop(locks);
    Ok(swapped)
}

/// An empty folder is where nobody mounted the system, and the whole tree would go onto this computer's own disk.
fn check_system(root: &Root) -> anyhow::Result<()> {
    let root = root.path();
    let entries = fs::read_dir(root).with_context(|| format!("reading {}", root.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", root.display()))?;
        // What mkfs makes.
        if entry.file_name() != "lost+found" {
            return Ok(());
        }
    }
    bail!(
        "there is no system in {}, for it is empty: mount its filesystems there first (a tree goes into an empty folder by \
         pitstop tree extract)",
        root.display()
    );
}

/// A dry run changes nothing, and so finishes nothing.
fn dry_run(args: &Args, root: &Root, reporter: &dyn Reporter) -> anyhow::Result<()> {
    check_system(root)?;
    if is_cut_off(root)? || snapshot::is_cut_off(root)? {
        bail!(
            "an update of {} was cut off after it was decided: run it without --dry-run to finish it first",
            root.path().display()
        );
    }
    let image = args
        .place
        .open_signed(&args.image, &args.signed, reporter)?;
    let plan = plan(&args.update(&image, root))?;
    let (given, way) = (args.parts.read()?, way(args, root)?);
    check_programs(args, &plan, &given, &way, root)?;
    for missing in check_hooks(&given, &image, root)? {
        reporter.warn(missing);
    }
    if args.json {
        return print_json(&plan, &given);
    }
    let told = [
        snapshot::told(root, args.runs())?,
        way.told(args.initrd.wish()),
    ];
    let told: String = told.into_iter().flatten().map(|told| told + "\n").collect();
    print(&(plan.text() + &given.text() + &told + &plan.summary() + "\n"))
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    plan: pitstop_deploy::update::Json<'a>,
    #[serde(flatten)]
    given: super::parts::Json<'a>,
}

fn print_json(plan: &UpdatePlan, given: &Given) -> anyhow::Result<()> {
    let all = Json {
        plan: plan.json(),
        given: given.json(),
    };
    let text = serde_json::to_string_pretty(&all).context("writing JSON")?;
    print(&(text + "\n"))
}

/// Whether the tree's own programs can do what they have to when its files are there.
fn check_programs(
    args: &Args,
    plan: &UpdatePlan,
    given: &Given,
    way: &Way,
    root: &Root,
) -> anyhow::Result<()> {
    let architecture = &plan.meta().architecture;
    hooks::check_runs_here(&given.hooks, architecture)?;
    let wish = args.initrd.wish();
    if plan.boot_changed() || wish == Initrd::Rebuild {
        way.check(root, wish, architecture)?;
    }
    Ok(())
}

/// Whether there is what runs the hooks.
fn check_hooks(given: &Given, image: &TreeImage, root: &Root) -> anyhow::Result<Vec<String>> {
    hooks::check_updated(&given.hooks, !given.layers.is_empty(), image, root)
}

fn bring(
    plan: UpdatePlan,
    image: &TreeImage,
    place: &Place,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let refused = plan.lines.iter().filter(|line| line.act == Act::Refuse);
    for line in refused {
        reporter.warn(format!("in the way: {} ({})", line.path, line.why.text()));
    }
    for conflict in plan.conflicts() {
        reporter.warn(conflict);
    }
    let summary = plan.summary();
    let done = plan.run_in(place, reporter)?;
    reporter.info(format!(
        "up to date with {}: {summary} ({} of {} and its index); changed in {:.2} s",
        image.name(),
        units::bytes(done.travelled),
        units::bytes(image.size()),
        done.took.as_secs_f64()
    ));
    Ok(())
}

fn run_hooks(
    given: Given,
    image: &TreeImage,
    root: &Root,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    if given.hooks.is_empty() {
        return Ok(());
    }
    let environment = HookEnvironment {
        stage: Stage::Update,
        disk: String::new(),
        hostname: String::new(),
        tree: image.meta.name.clone(),
        version: image.meta.version.clone(),
        secrets: given.secrets,
    };
    let chroot = Chroot::enter(root, None)?;
    hooks::run(&chroot, &given.hooks, &environment, HOOK_LIMIT, reporter)
}

/// What it takes to reach the disk that this system is on.
fn way(args: &Args, root: &Root) -> anyhow::Result<Way> {
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    match machine.source(&TreePath::root()) {
        Some(source) => Way::of(Path::new("/sys"), source, args.live),
        None => Ok(Way::default()),
    }
}

/// Whether the kernel that came reaches it.
fn ensure_initramfs(
    args: &Args,
    way: &Way,
    root: &Root,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let wish = args.initrd.wish();
    if way.is_unknown() && wish != Initrd::Rebuild {
        return Ok(());
    }
    let chroot = Chroot::enter(root, None)?;
    way.ensure(&chroot, wish, reporter)
}
