//! Which programs make a filesystem smaller, and how small it can be.

use super::owned::ext_block;
use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::tools;
use pitstop_imaging::unmount::unmount;
use pitstop_imaging::used::PartitionSummary;
use pitstop_imaging::used::claims::Filesystem;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The kernel makes no device of a Btrfs smaller, whatever its program says of the data (`btrfs_ioctl_resize`).
const BTRFS_LEAST: u64 = 256 << 20;

/// What shrinks a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shrinker {
    Ext,
    Ntfs,
    Btrfs,
}

impl Shrinker {
    /// What shrinks `partition`, the last one.
    ///
    /// # Errors
    /// When nothing does or its state forbids it, with what to do instead; when a program for it is not here.
    pub fn of(partition: &PartitionSummary) -> anyhow::Result<Self> {
        let what = match partition.number {
            0 => "what is on the disk".into(),
            number => format!("partition {number}, which ends last,"),
        };
        let shrinker = match partition.readable() {
            Some(Filesystem::Ext) => Some(Self::Ext),
            Some(Filesystem::Ntfs) => Some(Self::Ntfs),
            Some(Filesystem::Btrfs) => Some(Self::Btrfs),
            _ => None,
        };
        let Some(shrinker) = shrinker.filter(|_| partition.shrinks()) else {
            bail!("{what} {}", obstacle(partition, shrinker.is_some()));
        };
        for (program, package) in shrinker.programs() {
            if tools::find(program).is_err() {
                bail!("{what} cannot shrink: there is no {program} here: install {package}");
            }
        }
        Ok(shrinker)
    }

    /// Programs, and the packages that Debian has them in.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ext => &[("e2fsck", "e2fsprogs"), ("resize2fs", "e2fsprogs")],
            Self::Ntfs => &[("ntfsresize", "ntfs-3g")],
            Self::Btrfs => &[("btrfs", "btrfs-progs")],
        }
    }

    /// Whether the filesystem on `device` is whole.
    pub fn check(self, device: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
        match self {
            // e2fsck(8): 1 is for errors that were mended.
            Self::Ext => run("e2fsck", &["-f", "-p"], device, 1, reporter),
            Self::Ntfs => run(
                "ntfsresize",
                &["--check", "--no-progress-bar"],
                device,
                0,
                reporter,
            ),
            Self::Btrfs => run("btrfs", &["check", "--readonly"], device, 0, reporter),
        }
    }

    /// The least that it can have, in bytes, by its own programs.
    pub fn least(self, device: &Path) -> anyhow::Result<u64> {
        match self {
            Self::Ext => {
                let told = ask("resize2fs", &["-P"], device)?;
                let blocks = number_behind(&told, "Estimated minimum size of the filesystem: ")?;
                Ok(blocks.saturating_mul(ext_block(device)?))
            }
            Self::Ntfs => {
                let told = ask("ntfsresize", &["--info", "--no-progress-bar"], device)?;
                number_behind(&told, "You might resize at ")
            }
            Self::Btrfs => mounted(device, |folder| {
                let told = ask("btrfs", &["inspect-internal", "min-dev-size"], folder)?;
                Ok(number_behind(&told, "")?.max(BTRFS_LEAST))
            }),
        }
    }

    /// Shrinks it to `size` bytes of the device, and proves that it is whole.
    pub fn shrink(self, device: &Path, size: u64, reporter: &dyn Reporter) -> anyhow::Result<()> {
        match self {
            Self::Ext => {
                // In sectors of 512 bytes; the filesystem's blocks may be larger.
                let sectors = format!("{}s", size / 512);
                let arguments = [device.as_os_str(), sectors.as_ref()];
                tools::run("resize2fs", &arguments, 0, reporter)?;
                run("e2fsck", &["-f", "-n"], device, 0, reporter)
            }
            Self::Ntfs => {
                let size = size.to_string();
                let size = ["--no-progress-bar", "--size", &size];
                run(
                    "ntfsresize",
                    &[&["--no-action"], &size[..]].concat(),
                    device,
                    0,
                    reporter,
                )?;
                run(
                    "ntfsresize",
                    &[&["--force"], &size[..]].concat(),
                    device,
                    0,
                    reporter,
                )
            }
            Self::Btrfs => {
                let size = size.to_string();
                mounted(device, |folder| {
                    run(
                        "btrfs",
                        &["filesystem", "resize", &size],
                        folder,
                        0,
                        reporter,
                    )
                })?;
                self.check(device, reporter)
            }
        }
    }
}

/// Why a partition does not shrink, and what to do; `known` is whether a program shrinks its filesystem.
fn obstacle(partition: &PartitionSummary, known: bool) -> String {
    let filesystem = &partition.filesystem;
    match partition.fixed_kind() {
        Some(kind) => format!(
            "is of the type {kind}, which does not shrink: move it in front of the others on the machine, then back up \
             again"
        ),
        None if known => format!(
            "{filesystem}, is not in a state to shrink: {}; boot the machine, have it checked and shut down, then back \
             up again",
            partition.reason
        ),
        None => format!("cannot shrink: {}", instead(filesystem)),
    }
}

/// What to do about a filesystem that does not shrink.
fn instead(filesystem: &str) -> String {
    let why = match filesystem {
        "" => "nothing is recognised on it",
        "LVM2_member" => {
            return "what is in LVM shrinks on the machine: lvreduce --resizefs, pvresize, parted resizepart; then back up \
                    again"
                .into();
        }
        name => {
            return format!(
                "{name} has no program that shrinks it: make a smaller one and copy the files, or restore to a disk that \
             is large enough"
            );
        }
    };
    why.into()
}

fn run(
    program: &str,
    arguments: &[&str],
    place: &Path,
    accepted: i32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    arguments.push(place.as_os_str());
    tools::run(program, &arguments, accepted, reporter)
}

/// What a program says, in English.
fn ask(program: &str, arguments: &[&str], place: &Path) -> anyhow::Result<String> {
    let output = Command::new(tools::find(program)?)
        .args(arguments)
        .arg(place)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let text = said(&output.stdout) + &said(&output.stderr);
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "{program}: {}: {}",
            output.status,
            last.unwrap_or_default().trim()
        );
    }
    Ok(said(&output.stdout))
}

/// The number behind the words `key` in what a program said.
fn number_behind(text: &str, key: &str) -> anyhow::Result<u64> {
    let (_, rest) = text.split_once(key).unwrap_or_default();
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let number = rest[..end].parse().ok();
    number.with_context(|| {
        format!(
            "the smallest size is not where it was expected: {}",
            text.trim()
        )
    })
}

/// Does something with the Btrfs on `device` while it is mounted, where nobody else sees it: whatever ends this program,
/// it is mounted no more.
fn mounted<T>(device: &Path, act: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("leaving the mounts of others alone")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("leaving the mounts of others alone")?;
    // Nothing that removes what is in it: that may be what is mounted.
    let folder = tempfile::tempdir().context("making a folder to mount in")?;
    let folder = folder.keep();
    let done = mounted_at(&folder, device, act);
    let removed = fs::remove_dir(&folder);
    let done = done?;
    removed.with_context(|| format!("removing {}", folder.display()))?;
    Ok(done)
}

fn mounted_at<T>(
    folder: &Path,
    device: &Path,
    act: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
    mount(Some(device), folder, Some("btrfs"), flags, None::<&str>)
        .with_context(|| format!("mounting {}", device.display()))?;
    let done = act(folder);
    let unmounted = unmount(folder);
    if unmounted.is_err() {
        // The error is told; the folder must not stay in the way of others.
        let _ = umount2(folder, MntFlags::MNT_DETACH);
    }
    let done = done?;
    unmounted.with_context(|| format!("unmounting {}", device.display()))?;
    Ok(done)
}
