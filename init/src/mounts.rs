//! The file systems that every stage relies on, as a table.

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
    /// Only where this exists.
    only_with: Option<&'static str>,
}

const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// In order: each may need the ones before it.
const TABLE: &[Mount] = &[
    always("/proc", "proc", QUIET, ""),
    always("/sys", "sysfs", QUIET, ""),
    always("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
    always(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "mode=0620,ptmxmode=0666",
    ),
    always("/run", "tmpfs", QUIET, "mode=0755,size=25%"),
    always(
        "/tmp",
        "tmpfs",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        "mode=1777,size=25%",
    ),
];

/// The firmware's variables. A kernel asks for the module of this filesystem only when it is mounted.
const VARIABLES: Mount = Mount {
    target: "/sys/firmware/efi/efivars",
    kind: "efivarfs",
    flags: QUIET,
    data: "",
    only_with: Some("/sys/firmware/efi/efivars"),
};

/// What shells and their programs expect in `/dev`.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("fd/0", "/dev/stdin"),
    ("fd/1", "/dev/stdout"),
    ("fd/2", "/dev/stderr"),
];

const fn always(
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
) -> Mount {
    Mount {
        target,
        kind,
        flags,
        data,
        only_with: None,
    }
}

/// Mounts the whole table; each entry that failed says so, and the boot goes on with what there is.
pub fn all() -> Vec<anyhow::Result<()>> {
    let mut outcomes: Vec<_> = TABLE.iter().map(Mount::mount).collect();
    for (target, link) in LINKS {
        if fs::symlink_metadata(link).is_err() {
            outcomes.push(symlink(target, link).with_context(|| format!("linking {link}")));
        }
    }
    outcomes
}

/// Mounts the firmware's variables, where there are any. The kernel must be able to ask for modules by now.
pub fn variables() -> anyhow::Result<()> {
    VARIABLES.mount()
}

impl Mount {
    fn mount(&self) -> anyhow::Result<()> {
        if self.only_with.is_some_and(|path| !Path::new(path).exists()) {
            return Ok(());
        }
        let act = || format!("mounting {} at {}", self.kind, self.target);
        if self.only_with.is_none() {
            fs::create_dir_all(self.target).with_context(act)?;
        }
        match mount(
            Some(self.kind),
            self.target,
            Some(self.kind),
            self.flags,
            Some(self.data),
        ) {
            // The kernel or an earlier init has done it.
            Ok(()) | Err(Errno::EBUSY) => Ok(()),
            // A kernel without EFI variables: nothing here needs them.
            Err(Errno::ENODEV) if self.only_with.is_some() => Ok(()),
            Err(error) => Err(error).with_context(act),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mount_comes_after_the_one_it_lies_on() {
        for (index, inner) in TABLE.iter().enumerate() {
            for outer in &TABLE[index + 1..] {
                assert!(
                    !Path::new(inner.target).starts_with(outer.target),
                    "{} is mounted before {}",
                    inner.target,
                    outer.target
                );
            }
        }
    }
}
