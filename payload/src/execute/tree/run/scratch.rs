//! A tree on the partition labelled `scratch`: unpacked once, brought up to date at each boot. Its filesystem is made only
//! where there is none, and one that has files of somebody else is left alone.

use super::root::NewRoot;
use crate::system::Volume;
use anyhow::{Context, bail};
use pitstop_deploy::root::Root;
use pitstop_deploy::update::{self, Record, Update};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::image::members::Inflater;
use pitstop_imaging::tools;
use pitstop_imaging::units;
use pitstop_imaging::wishes::{Changes, Check, Strangers, Writable};
use pitstop_trees::TreeImage;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The label of the filesystem, or the name of the partition in a GPT.
const LABEL: &str = "scratch";

/// The file that says whose the filesystem is.
const MARKER: &str = "pitstop-scratch";

const MARKER_TEXT: &str =
    "Pitstop keeps a tree here for `run`, and may remove everything beside it.\n";

/// The file that lies there from before the first write to `upper` until that is the machine's own.
const MAKING: &str = "making";

/// The folder of the tree, and of one that is not whole yet.
const TREE: &str = "tree";
const PART: &str = "tree.part";

/// What every ext filesystem has.
const LOST_FOUND: &str = "lost+found";

/// Filesystems that can hold a tree with all its attributes, and a layer that is written to.
const KINDS: [&str; 3] = ["ext4", "xfs", "btrfs"];

const MKFS: &str = "mkfs.ext4";

/// The partition labelled scratch, if there is one.
///
/// # Errors
/// There are several; or it holds what is not Pitstop's to replace.
pub fn choose(here: &[Volume]) -> anyhow::Result<Option<&Volume>> {
    let labelled = |volume: &&Volume| {
        volume.is_partition && (volume.label == LABEL || volume.part_label == LABEL)
    };
    let found: Vec<&Volume> = here.iter().filter(labelled).collect();
    let volume = match &found[..] {
        [] => return Ok(None),
        [one] => *one,
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            bail!(
                "{} are labelled scratch: name the disk of the one that is meant in disks",
                names.join(" and ")
            );
        }
    };
    let is_empty = volume.filesystem.is_empty() && volume.is_blank;
    if !is_empty && !KINDS.contains(&volume.filesystem.as_str()) {
        let what = match volume.filesystem.as_str() {
            "" => "what nothing is known of",
            known => known,
        };
        bail!(
            "{} is labelled scratch and holds {what}: it is left alone; empty it (wipefs -a and zeros at its beginning), or \
             make an ext4, XFS or Btrfs there",
            volume.name
        );
    }
    if is_empty {
        tools::find(MKFS).with_context(|| {
            format!(
                "{} is labelled scratch and empty: it needs a filesystem",
                volume.name
            )
        })?;
    }
    Ok(Some(volume))
}

/// What the plan says of it.
pub fn line(volume: &Volume, writable: Writable) -> String {
    let made = if volume.filesystem.is_empty() {
        "make an ext4 on it, and "
    } else {
        ""
    };
    let written = match writable {
        Writable::Memory => "what is written goes to memory",
        Writable::Scratch => "what is written stays there",
    };
    format!(
        "{made}keep the tree on {} ({}), labelled scratch; {written}",
        volume.name,
        units::bytes(volume.size)
    )
}

/// Brings the tree on the partition up to date, and lays what is writable over it, at `at`. Where all of it is needed, `feed`
/// brings it.
///
/// # Errors
/// The partition is somebody else's, has no room, or the tree does not come whole.
pub fn unpack(
    image: &TreeImage,
    volume: &Volume,
    writable: Writable,
    at: &Path,
    feed: Option<&dyn Feed>,
    reporter: &dyn Reporter,
) -> anyhow::Result<NewRoot> {
    let mut volume = volume.clone();
    if volume.filesystem.is_empty() {
        make(&volume, reporter)?;
        "ext4".clone_into(&mut volume.filesystem);
    }
    let mut new = NewRoot::new(at)?;
    let on = new.scratch(&volume)?;
    claim(&on, &volume.name)?;
    let tree = up_to_date(image, &on, feed, reporter)
        .with_context(|| format!("keeping the tree on {}", volume.name))?;
    let base = match writable {
        Writable::Memory => {
            let memory = on.join("memory");
            new.memory(&memory, free_memory()?)?;
            memory
        }
        Writable::Scratch => {
            begin(&mut new, &on)?;
            on
        }
    };
    let (upper, work) = (base.join("upper"), base.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    new.overlay(&tree, &upper, &work)?;
    Ok(new)
}

/// Finds out whether an earlier boot has made what is written there the machine's own. What one has only begun goes: no system
/// has run in it.
fn begin(new: &mut NewRoot, on: &Path) -> anyhow::Result<()> {
    let making = on.join(MAKING);
    let is_half = fs::symlink_metadata(&making).is_ok();
    if on.join("upper").exists() && !is_half {
        new.goes_on();
        return Ok(());
    }
    let doing = || format!("writing {}", making.display());
    fs::write(&making, "").with_context(doing)?;
    let folder = File::open(on).with_context(doing)?;
    folder.sync_all().with_context(doing)?;
    for half in ["upper", "work"] {
        remove(on, half)?;
    }
    new.begins(making);
    Ok(())
}

/// Half of the machine's memory: what is written there goes to swap as well.
fn free_memory() -> anyhow::Result<u64> {
    let info = nix::sys::sysinfo::sysinfo().context("asking how much memory there is")?;
    Ok(info.ram_total() / 2)
}

fn make(volume: &Volume, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let node = volume.node.as_os_str();
    let arguments: [&OsStr; 5] = [
        OsStr::new("-q"),
        OsStr::new("-F"),
        OsStr::new("-L"),
        OsStr::new(LABEL),
        node,
    ];
    tools::run(MKFS, &arguments, 0, reporter)
        .with_context(|| format!("making an ext4 on {}", volume.name))
}

/// Makes sure that the filesystem is Pitstop's: it says so, or it has nothing.
fn claim(on: &Path, name: &str) -> anyhow::Result<()> {
    let marker = on.join(MARKER);
    if fs::symlink_metadata(&marker).is_ok() {
        return Ok(());
    }
    let looking = || format!("looking at {name}");
    for entry in fs::read_dir(on).with_context(looking)? {
        let file = entry.with_context(looking)?.file_name();
        if file != LOST_FOUND {
            bail!(
                "{name} is labelled scratch and has files that are not Pitstop's ({}): it is left alone; empty it, or \
                 take the label away",
                file.display()
            );
        }
    }
    fs::write(&marker, MARKER_TEXT).with_context(|| format!("marking {name} as Pitstop's"))
}

/// The tree's folder, whole and as the image has it.
fn up_to_date(
    image: &TreeImage,
    on: &Path,
    feed: Option<&dyn Feed>,
    reporter: &dyn Reporter,
) -> anyhow::Result<PathBuf> {
    let tree = on.join(TREE);
    if tree.exists() {
        match bring_up_to_date(image, &tree, reporter) {
            Ok(()) => return Ok(tree),
            Err(error) => reporter.warn(format!(
                "the tree that is kept could not be brought up to date, and is unpacked anew: {error:#}"
            )),
        }
    }
    remove(on, PART)?;
    if tree.exists() && !has_room(image, on)? {
        // A server that is away is no reason to be left without any.
        image.read(0..1, &mut Inflater::new()?)?;
        reporter.warn(
            "there is no room for a second one: the tree that is kept is removed first".into(),
        );
        remove(on, TREE)?;
    }
    let part = on.join(PART);
    pitstop_trees::extract_fed(image, &part, 0, feed, reporter)?;
    Record::write(&Root::new(part.clone()), image)?;
    nix::unistd::sync();
    remove(on, TREE)?;
    fs::rename(&part, &tree).with_context(|| format!("naming {}", tree.display()))?;
    Ok(tree)
}

/// Whether a whole tree fits beside what is there.
fn has_room(image: &TreeImage, on: &Path) -> anyhow::Result<bool> {
    let free = rustix::fs::statvfs(on)
        .with_context(|| format!("asking how much is free in {}", on.display()))?;
    let entries = image.index.placed().len();
    let data: u64 = (0..entries)
        .map(|number| image.index.blocks_of(number, free.f_frsize))
        .sum();
    let files = entries as u64;
    // Each folder and each long attribute takes a block, and the record some more.
    let bytes = data.saturating_add(files.saturating_mul(free.f_frsize));
    let has_inodes = free.f_files == 0 || free.f_ffree > files;
    Ok(free.f_bavail.saturating_mul(free.f_frsize) > bytes && has_inodes)
}

/// Nobody works in the kept tree itself: whatever differs from the image is old, or was damaged.
fn bring_up_to_date(image: &TreeImage, tree: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let root = Root::new(tree.to_owned());
    update::roll_forward(&root, reporter)?;
    let planned = update::plan(&Update {
        image,
        root: &root,
        changes: Changes::Replace,
        strangers: Strangers::Keep,
        check: Check::Quick,
        local: Vec::new(),
        exclude: Vec::new(),
        threads: 0,
    })?;
    reporter.info(format!("the tree that is kept: {}", planned.summary()));
    planned.run(reporter)?;
    Ok(())
}

/// Removes a folder of ours, files that nothing may change (`chattr +i`) among what is in it.
fn remove(on: &Path, name: &str) -> anyhow::Result<()> {
    let removing = || format!("removing {}", on.join(name).display());
    let folder = File::open(on).with_context(removing)?;
    pitstop_deploy::remove_in(&folder.into(), name.as_bytes()).with_context(removing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, filesystem: &str, label: &str) -> Volume {
        Volume {
            name: name.into(),
            is_partition: true,
            filesystem: filesystem.into(),
            label: label.into(),
            ..Volume::default()
        }
    }

    #[test]
    fn only_one_partition_with_the_label_is_taken_and_only_for_what_can_hold_a_tree() {
        let root = volume("sda1", "ext4", "root");
        let ours = volume("sda2", "ext4", "scratch");
        assert_eq!(choose(std::slice::from_ref(&root)).unwrap(), None);
        let here = [root.clone(), ours.clone()];
        assert_eq!(choose(&here).unwrap(), Some(&ours));
        let named = Volume {
            part_label: "scratch".into(),
            ..volume("sda3", "xfs", "")
        };
        let error = choose(&[ours, named.clone()]).unwrap_err().to_string();
        assert!(error.starts_with("sda2 and sda3 are labelled"), "{error}");
        assert_eq!(choose(std::slice::from_ref(&named)).unwrap(), Some(&named));
        // A whole disk is no partition, whatever its label.
        let whole = Volume {
            is_partition: false,
            ..volume("sdb", "ext4", "scratch")
        };
        assert_eq!(choose(&[whole]).unwrap(), None);
        for held in ["ntfs", "LVM2_member", "vfat", "swap", ""] {
            let error = choose(&[volume("sda2", held, "scratch")])
                .unwrap_err()
                .to_string();
            assert!(error.contains("it is left alone"), "{held}: {error}");
        }
    }

    #[test]
    fn a_filesystem_with_files_of_somebody_else_is_never_taken() {
        let on = tempfile::tempdir().unwrap();
        fs::create_dir(on.path().join(LOST_FOUND)).unwrap();
        claim(on.path(), "sda2").unwrap();
        assert!(on.path().join(MARKER).exists());
        fs::write(on.path().join("tree"), "").unwrap();
        claim(on.path(), "sda2").unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.odt"), "years of work").unwrap();
        let error = claim(other.path(), "sda2").unwrap_err().to_string();
        assert!(
            error.contains("thesis.odt") && error.contains("left alone"),
            "{error}"
        );
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    }
}
