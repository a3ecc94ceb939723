//! `pitstop tree shell IMAGE`: a tree is unpacked, somebody works in it, and it becomes the next version.

use super::capture::NewTree;
use super::store::{Place, Where};
use super::work_folder::WorkFolder;
use crate::commands::place::reporter;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use pitstop_deploy::chroot::{Lent, resolver};
use pitstop_deploy::root::Root;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::{interrupt, tools};
use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::{CaptureOptions, Excludes, Identity, TreeImage, Verdict};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use std::{fs, io, thread};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree shell web
  pitstop tree shell web -- apt-get -y upgrade
  pitstop tree shell old.tar.gz --to new.tar.gz

As root. The next version is made when the shell or the command ends with status 0; otherwise nothing is. Services that a
package starts do not start in it.")]
pub struct Args {
    /// A NAME or NAME@VERSION on the share, a path or an `http(s)://` URL
    image: String,
    /// What is run in it [default: a shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Where the result goes [default: the next version of the same NAME]
    #[arg(long, value_name = "IMAGE")]
    to: Option<String>,
    /// Where it is unpacked meanwhile
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    work: PathBuf,
    #[command(flatten)]
    packing: NewTree,
    #[command(flatten)]
    place: Where,
}

/// How often what runs is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs in namespaces of its own: nothing that is mounted or started in it outlives it. `$1` is the tree, `$2` where it looks for name
/// servers, by its path here. What is made in it is the system's, and not as private as what is made here may be.
const ENTER: &str = r#"
set -e
umask 022
root=$1; resolver=$2; shift 2
mount --bind "$root" "$root"
cd "$root"
[ ! -d proc ] || mount -t proc proc proc
[ ! -d sys ] || mount -t sysfs -o ro,nosuid,nodev,noexec sys sys
[ ! -d dev ] || mount --rbind /dev dev
[ ! -d run ] || mount -t tmpfs -o mode=755,nosuid,nodev run run
[ ! -d tmp ] || mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp
case $resolver in
  '') ;;
  "$root"/run/*)
    if [ -d run ] && [ ! -L run ]; then mkdir -p "${resolver%/*}"; cat /etc/resolv.conf > "$resolver"; fi ;;
  # This computer's own file: nothing in the tree writes to it.
  *) mount --bind /etc/resolv.conf "$resolver"; mount -o remount,bind,ro "$resolver" ;;
esac
exec chroot . /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  TERM="${TERM:-dumb}" LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
"#;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let place = &args.place;
    let from = Place::parse(&args.image)?;
    let to = match (&args.to, &from) {
        (Some(to), _) => to.clone(),
        (None, Place::Named { name, .. }) => name.clone(),
        (None, Place::File(file)) => bail!("{file} is a file: say where the result goes with --to"),
    };
    // What somebody does in it is lost where it cannot become an image.
    place.check_new(&to, args.packing.force, &args.packing.encrypt)?;
    let is_file = matches!(Place::parse(&to)?, Place::File(_));
    if !is_file && !args.packing.encrypt.is_asked() && place.is_encrypted(&args.image)? {
        bail!(
            "{} is encrypted, and the next version would be there for all to read: say for whom it is with --recipient age1…, or name \
             a file with --to",
            args.image
        );
    }
    let mut job = Job {
        image: args.image.clone(),
        to,
        follows: None,
    };
    if let Place::Named {
        name,
        version: None,
    } = from
        && let Some(current) = place.current(&name)?
    {
        // The one that is unpacked, whatever becomes the current one meanwhile.
        job.image = format!("{name}@{current}");
        job.follows = Some(current).filter(|_| job.is_for(&name));
    }
    tools::find("unshare").context("running a shell in a tree needs unshare (util-linux)")?;
    let reporter = reporter();
    // The unpacked tree goes, whatever ends this.
    interrupt::heed().context("asking for signals")?;
    let work = WorkFolder::new(&args.work, &reporter)?;
    let done = work_in(args, job, &work.root(), &reporter);
    let removed = work.remove();
    done.and(removed)
}

/// What becomes of what.
struct Job {
    image: String,
    to: String,
    /// The current version, where the result is to follow it.
    follows: Option<String>,
}

impl Job {
    /// Whether the result is a version of this tree.
    fn is_for(&self, tree: &str) -> bool {
        let to = Place::parse(&self.to);
        matches!(to, Ok(Place::Named { name, .. }) if name == tree)
    }
}

fn work_in(args: &Args, job: Job, root: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let (before, keep_identity) = {
        let source = args.place.open(&job.image)?;
        let image = TreeImage::open(&*source)?;
        pitstop_trees::extract(&image, root, args.packing.threads, reporter)?;
        (image.meta.clone(), keeps_identity(&image)?)
    };
    let tree = Root::new(root.to_owned());
    let policy = Lent::policy(&tree)?;
    let resolver = Lent::resolver(&tree)?;
    interrupt::check()?;
    enter(&tree, &args.command)?;
    resolver.take_away()?;
    policy.take_away()?;
    let mut image = args
        .place
        .new_image(&job.to, args.packing.force, &args.packing.encrypt)?;
    image.follow(job.follows);
    let options = CaptureOptions {
        packing: args.packing.packing(),
        // They are left out already; what was made since is meant.
        excludes: Excludes::new(&[])?,
        keep_identity,
        allow_changed: false,
        skipped: Vec::new(),
        // What it was on stays what it was on, and what is a machine's own stays its own in an update.
        meta: pitstop_trees::Meta {
            filesystems: before.filesystems,
            layout: before.layout,
            excludes: before.excludes,
            ..image.meta()
        },
    };
    interrupt::check()?;
    image.write(|out| pitstop_trees::capture(root, &options, out, reporter))?;
    image.announce(reporter);
    Ok(())
}

/// Whether the image was made with what is one machine's alone: then the next version has it, too.
fn keeps_identity(image: &TreeImage) -> anyhow::Result<bool> {
    let identity = Identity::new()?;
    let is_kept = |entry: &Entry| match identity.verdict(&entry.path) {
        Verdict::Kept => false,
        Verdict::Emptied => matches!(entry.kind, Kind::File { size, .. } if size > 0),
        Verdict::LeftOut => true,
    };
    // An older release left out less than this one.
    Ok(image.meta.identity.is_empty() && image.index.entries().any(is_kept))
}

fn enter(tree: &Root, command: &[OsString]) -> anyhow::Result<()> {
    // As the kernel names it: so does what is found in it.
    let root = fs::canonicalize(tree.path())
        .with_context(|| format!("opening {}", tree.path().display()))?;
    let resolver = resolver(&Root::new(root.clone()))?;
    let shell = [OsString::from("/bin/sh"), OsString::from("-i")];
    let command = if command.is_empty() { &shell } else { command };
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ])
        .args(["/bin/sh", "-c", ENTER, "pitstop"])
        .arg(root)
        .arg(resolver.unwrap_or_default())
        .args(command);
    let parent = getpid();
    let die_with_parent = move || -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: plain calls to the kernel, which ask for no memory and take no lock.
    unsafe { unshare.pre_exec(die_with_parent) };
    let mut child = unshare.spawn().context("running unshare")?;
    let status = wait(&mut child).context("waiting for what runs in the tree")?;
    interrupt::check().context("no version is made")?;
    if !status.success() {
        bail!("what ran in the tree ended with {status}: no version is made");
    }
    Ok(())
}

/// Until it ends by itself, or a signal asks for the end.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::is_asked() {
            kill_all(child)?;
            return child.wait();
        }
        thread::sleep(LOOK);
    }
}

/// The first process of the namespace goes, and all others before it: when `unshare` sees that, nobody writes into the tree any more.
fn kill_all(child: &mut Child) -> io::Result<()> {
    let unshare = child.id();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    let first = children.ok().and_then(|all| all.trim().parse().ok());
    match first.map(|first| kill(Pid::from_raw(first), Signal::SIGKILL)) {
        Some(Ok(())) => Ok(()),
        // It has not begun yet, or is over.
        _ => child.kill(),
    }
}
