//! `pitstop tree shell IMAGE`: a tree is unpacked, somebody works in it, and it becomes the next version.

use super::capture::NewTree;
use super::store::{Place, Where};
use crate::commands::place::reporter;
use anyhow::{Context, bail};
use pitstop_deploy::chroot::Policy;
use pitstop_deploy::root::Root;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::tools;
use pitstop_trees::{CaptureOptions, Excludes, TreeImage};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

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

/// The tree, in the folder of the work.
const ROOT: &str = "root";

/// Runs in namespaces of its own: nothing that is mounted or started in it outlives it. `$1` is the tree.
const ENTER: &str = r#"
set -e
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
[ ! -d proc ] || mount -t proc proc proc
[ ! -d sys ] || mount -t sysfs -o ro,nosuid,nodev,noexec sys sys
[ ! -d dev ] || mount --rbind /dev dev
[ ! -d run ] || mount -t tmpfs -o mode=755,nosuid,nodev run run
[ ! -d tmp ] || mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp
if [ -f /etc/resolv.conf ] && [ -f etc/resolv.conf ] && [ ! -L etc/resolv.conf ]; then
  mount --bind /etc/resolv.conf etc/resolv.conf
fi
exec chroot . /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  TERM="${TERM:-dumb}" LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
"#;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let name = match (&args.to, Place::parse(&args.image)?) {
        (Some(to), _) => to.clone(),
        (None, Place::Named { name, .. }) => name,
        (None, Place::File(file)) => bail!("{file} is a file: say where the result goes with --to"),
    };
    // What somebody does in it is lost where it cannot become an image.
    args.place
        .check_new(&name, args.packing.force, &args.packing.encrypt)?;
    tools::find("unshare").context("running a shell in a tree needs unshare (util-linux)")?;
    let reporter = reporter();
    let work = tempfile::Builder::new()
        .prefix("pitstop-tree-")
        .tempdir_in(&args.work)
        .with_context(|| format!("making a folder in {}", args.work.display()))?;
    let done = work_in(args, &name, &work.path().join(ROOT), &reporter);
    done.and(remove(work))
}

fn work_in(args: &Args, name: &str, root: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let before = {
        let source = args.place.open(&args.image)?;
        let image = TreeImage::open(&*source)?;
        pitstop_trees::extract(&image, root, args.packing.threads, reporter)?;
        image.meta.clone()
    };
    let tree = Root::new(root.to_owned());
    let policy = Policy::place(&tree)?;
    enter(root, &args.command)?;
    policy.take_away()?;
    let image = args
        .place
        .new_image(name, args.packing.force, &args.packing.encrypt)?;
    let options = CaptureOptions {
        packing: args.packing.packing(),
        // They are left out already; what was made since is meant.
        excludes: Excludes::new(&[])?,
        keep_identity: false,
        allow_changed: false,
        skipped: Vec::new(),
        // What it was on stays what it was on.
        meta: pitstop_trees::Meta {
            filesystems: before.filesystems,
            layout: before.layout,
            ..image.meta()
        },
    };
    image.write(|out| pitstop_trees::capture(root, &options, out, reporter))?;
    image.announce(reporter);
    Ok(())
}

/// Removes the unpacked tree, files that nothing may change (`chattr +i`) among it.
fn remove(work: TempDir) -> anyhow::Result<()> {
    let removing = || format!("removing the unpacked tree in {}", work.path().display());
    let folder = File::open(work.path()).with_context(removing)?;
    pitstop_deploy::remove_in(&folder.into(), ROOT.as_bytes()).with_context(removing)?;
    work.close()
        .context("removing the folder of the unpacked tree")
}

fn enter(root: &Path, command: &[OsString]) -> anyhow::Result<()> {
    let shell = [OsString::from("/bin/sh"), OsString::from("-i")];
    let command = if command.is_empty() { &shell } else { command };
    let status = Command::new("unshare")
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
        .args(command)
        .status()
        .context("running unshare")?;
    if !status.success() {
        bail!("what ran in the tree ended with {status}: no version is made");
    }
    Ok(())
}
