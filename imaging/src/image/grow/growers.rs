//! Which programs let a filesystem fill its partition.

use crate::event::Reporter;
use crate::tools;
use crate::unmount::unmount;
use crate::used::PartitionSummary;
use anyhow::{Context, bail};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::path::Path;
use sys_mount::{Mount, MountFlags, UnmountFlags};

/// The programs of one filesystem, in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Grower {
    filesystems: &'static [&'static str],
    /// What is asked of a file with the filesystem's first blocks: a program that fails for what it does not know.
    question: Option<(&'static str, &'static [&'static str])>,
    /// What it is mounted with, where it grows only while it is.
    mount: Option<&'static str>,
    steps: &'static [Step],
}

#[derive(Debug, PartialEq, Eq)]
struct Step {
    program: &'static str,
    /// In front of the device, or of where it is mounted.
    arguments: &'static [&'static str],
    /// The highest exit status that is none of a failure.
    accepted: i32,
}

const fn step(program: &'static str, arguments: &'static [&'static str]) -> Step {
    Step {
        program,
        arguments,
        accepted: 0,
    }
}

const GROWERS: &[Grower] = &[
    Grower {
        filesystems: &["ext2", "ext3", "ext4"],
        // resize2fs(8): -P tells the least size, and changes nothing.
        question: Some(("resize2fs", &["-P"])),
        mount: None,
        steps: &[
            Step {
                // e2fsck(8): 1 is for errors that were mended.
                accepted: 1,
                ..step("e2fsck", &["-f", "-p"])
            },
            step("resize2fs", &[]),
        ],
    },
    Grower {
        filesystems: &["xfs"],
        question: None,
        // The original may be mounted on the machine of an admin.
        mount: Some("nouuid"),
        steps: &[step("xfs_growfs", &[])],
    },
    Grower {
        filesystems: &["btrfs"],
        question: None,
        mount: Some(""),
        steps: &[step("btrfs", &["filesystem", "resize", "max"])],
    },
    Grower {
        filesystems: &["ntfs"],
        question: None,
        mount: None,
        steps: &[step("ntfsresize", &["--force", "--no-progress-bar"])],
    },
];

/// What lets `partition` grow.
///
/// # Errors
/// When nothing does, with the reason and what to do.
pub fn of(partition: &PartitionSummary) -> anyhow::Result<&'static Grower> {
    let name = partition.filesystem.as_str();
    let known = GROWERS
        .iter()
        .find(|grower| grower.filesystems.contains(&name));
    let fixed = partition.fixed_kind();
    let why = match (known, fixed) {
        _ if !partition.claims.is_empty() => {
            format!("it is not the only one who may own the blocks: {}", partition.reason)
        }
        (Some(grower), None) => return Ok(grower),
        (_, Some(kind)) => format!("it is of the type {kind}"),
        (None, None) => match name {
            "" => "nothing is recognised on it".into(),
            "LVM2_member" => {
                "what is in LVM grows in the system that is restored: parted resizepart, pvresize, lvextend".into()
            }
            name => format!("Pitstop knows no program that grows {name}"),
        },
    };
    let what = match partition.number {
        0 => "what is on the disk".into(),
        number => format!("partition {number}, which ends last,"),
    };
    bail!("grow: {what} cannot grow: {why}; restore without grow")
}

impl Grower {
    /// Whether its programs are here, and the kernel can mount it where that is needed.
    pub fn check(&self) -> anyhow::Result<()> {
        for step in self.steps {
            tools::find(step.program)?;
        }
        match (self.mount, self.filesystems) {
            (Some(_), [name, ..]) => check_mount(name),
            _ => Ok(()),
        }
    }

    /// A program and its arguments in front of the file.
    pub fn question(&self) -> Option<(&'static str, &'static [&'static str])> {
        self.question
    }

    /// Lets the filesystem on `device` fill it.
    pub fn grow(&self, device: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let (Some(options), [name, ..]) = (self.mount, self.filesystems) else {
            return self.run(device, reporter);
        };
        let folder = tempfile::tempdir().context("making a folder to mount in")?;
        Mount::builder()
            .fstype(*name)
            .data(options)
            .flags(MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID)
            .mount(device, folder.path())
            .with_context(|| format!("mounting {}", device.display()))?;
        let grown = self.run(folder.path(), reporter);
        let unmounted = unmount(folder.path());
        if unmounted.is_err() {
            // The error is told; the folder must not stay in the way of others.
            let _ = sys_mount::unmount(folder.path(), UnmountFlags::DETACH);
        }
        grown.and(unmounted.with_context(|| format!("unmounting {}", device.display())))
    }

    fn run(&self, place: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
        for step in self.steps {
            let mut arguments: Vec<&OsStr> = step.arguments.iter().map(OsStr::new).collect();
            arguments.push(place.as_os_str());
            tools::run(step.program, &arguments, step.accepted, reporter)?;
        }
        Ok(())
    }
}

/// Whether this kernel mounts a filesystem: of what it knows it says that nothing is no device.
fn check_mount(name: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a folder to mount in")?;
    let Err(error) = Mount::builder().fstype(name).mount("none", folder.path()) else {
        return unmount(folder.path()).context("unmounting nothing");
    };
    let is = |errno: Errno| error.raw_os_error() == Some(errno as i32);
    if is(Errno::ENODEV) {
        bail!(
            "this kernel has no {name}: put its module into the initramfs with mkimage --module {name}"
        );
    }
    if is(Errno::EPERM) {
        return Err(error).context("it grows only while it is mounted, which needs root");
    }
    Ok(())
}
