//! What is mounted and made around a tree before a program of it runs, as a list of steps.

use super::lent::{POLICY, POLICY_NO, is_asked};
use super::links::{self, Links};
use super::resolver::{self, RESOLV_CONF, Resolver};
use super::steps::{Step, c_string};
use super::{Call, FILES};
use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_trees::mount_table;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that have something mounted on them. A system that boots needs them, too.
const POINTS: [&str; 5] = ["proc", "sys", "dev", "run", TMP];
const TMP: &str = "tmp";
/// The root of the system that runs: its programs need nothing around them.
const RUNNING: &str = "/";
/// Where programs that are not to be found are looked for.
const NULL: &str = "/dev/null";
/// GRUB would list the systems of other disks of this machine.
const OS_PROBERS: [&str; 2] = ["usr/bin/os-prober", "bin/os-prober"];
const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Which programs of a tree get what.
#[derive(Debug)]
pub struct Setup {
    root: PathBuf,
    links: Links,
    hostname: Option<String>,
    /// Files of the tree that are covered with something empty.
    hidden: Vec<&'static str>,
    /// And what is there meanwhile.
    resolver: Option<(Resolver, Vec<u8>)>,
    pub has_policy: bool,
    /// Whether programs of the tree may change the firmware's boot entries.
    pub shows_firmware: bool,
    /// Whether `/tmp` is a folder; some systems have a link there.
    has_tmp: bool,
    /// Why nothing can be run.
    refused: Option<String>,
}

impl Setup {
    /// Looks at the tree and at this machine. Makes the folders that are mounted on, where they are missing.
    ///
    /// # Errors
    /// When they cannot be made, or a disk cannot be read.
    pub fn of(root: &Root, hostname: Option<&str>) -> anyhow::Result<Self> {
        let path = fs::canonicalize(root.path())
            .with_context(|| format!("opening {}", root.path().display()))?;
        let files = Files::of(root)?;
        if path == Path::new(RUNNING) {
            return Ok(Self {
                root: path,
                links: Links::new(),
                hostname: None,
                hidden: Vec::new(),
                resolver: None,
                has_policy: false,
                shows_firmware: false,
                has_tmp: false,
                refused: None,
            });
        }
        let mut refused = None;
        let mut has_tmp = true;
        for point in POINTS {
            match files.link_target(point)? {
                None => files.make_folders(point)?,
                Some(_) if point == TMP => has_tmp = false,
                Some(_) => refused = Some(format!("{} is a symlink", files.shown(point))),
            }
        }
        let below = mount_table()?.into_iter();
        let below = below.filter(|mount| mount.point.starts_with(&path));
        let devices: BTreeSet<PathBuf> = below
            .map(|mount| mount.source)
            .filter(|source| source.starts_with("/dev"))
            .collect();
        let devices: Vec<PathBuf> = devices.into_iter().collect();
        let mut links = links::of_udev(Path::new("/dev/disk"));
        links.extend(links::of_devices(Path::new("/sys"), &devices)?);
        let is_file = |path: &&'static str| matches!(files.read(path), Ok(Some(_)));
        Ok(Self {
            links,
            hostname: hostname.map(str::to_owned),
            hidden: OS_PROBERS.into_iter().filter(is_file).collect(),
            resolver: resolver::found(&files)?,
            has_policy: is_asked(&files),
            shows_firmware: false,
            has_tmp,
            refused,
            root: path,
        })
    }

    /// Everything, in order.
    ///
    /// # Errors
    /// When a path has a zero byte.
    pub fn steps(&self, call: &Call) -> anyhow::Result<Vec<Step>> {
        if let Some(why) = &self.refused {
            bail!("{why}: nothing of this tree can be run");
        }
        let mut steps = vec![Step::bind_private()?];
        if self.root == Path::new(RUNNING) {
            steps.push(Step::folder(Path::new(FILES), 0o700)?);
            let trusted = libc::MS_NOSUID | libc::MS_NODEV;
            steps.push(Step::mount("tmpfs", Path::new(FILES), trusted, "mode=700")?);
            steps.push(Step::mount("proc", Path::new("/proc"), QUIET, "")?);
        } else {
            self.surroundings(&mut steps)?;
        }
        for given in &call.files {
            steps.push(Step::File {
                path: c_string(format!("{FILES}/{}", given.name))?,
                mode: given.mode,
                bytes: given.bytes.clone(),
            });
        }
        if let Some(name) = &self.hostname {
            steps.push(Step::HostName(c_string(name)?));
        }
        Ok(steps)
    }

    /// What a tree that does not run finds around it.
    fn surroundings(&self, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        let at = |path: &str| self.root.join(path);
        steps.push(Step::bind(&self.root, &self.root, libc::MS_REC)?);
        steps.push(Step::bind(Path::new("/dev"), &at("dev"), libc::MS_REC)?);
        self.disks(steps)?;
        steps.push(Step::mount("proc", &at("proc"), QUIET, "")?);
        steps.push(Step::mount(
            "sysfs",
            &at("sys"),
            QUIET | libc::MS_RDONLY,
            "",
        )?);
        if self.shows_firmware {
            let variables = at("sys/firmware/efi/efivars");
            steps.push(Step::mount("efivarfs", &variables, QUIET, "")?);
        }
        let trusted = libc::MS_NOSUID | libc::MS_NODEV;
        steps.push(Step::mount("tmpfs", &at("run"), trusted, "mode=755")?);
        if self.has_tmp {
            steps.push(Step::mount("tmpfs", &at(TMP), trusted, "mode=1777")?);
        }
        steps.push(Step::folder(&at("run/lock"), 0o1777)?);
        steps.push(Step::Enter(c_string(&self.root)?));
        self.covers(steps)
    }

    /// `/dev/disk`, in memory over this machine's own.
    fn disks(&self, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        let folder = self.root.join("dev/disk");
        steps.push(Step::folder(&folder, 0o755)?);
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        steps.push(Step::mount("tmpfs", &folder, flags, "mode=755")?);
        let kinds = self.links.keys().filter_map(|path| path.split_once('/'));
        let kinds: BTreeSet<&str> = kinds.map(|(kind, _)| kind).collect();
        for kind in kinds {
            steps.push(Step::folder(&folder.join(kind), 0o755)?);
        }
        for (path, target) in &self.links {
            steps.push(Step::Link {
                target: c_string(target)?,
                path: c_string(folder.join(path))?,
            });
        }
        Ok(())
    }

    /// What hides files of the tree meanwhile. In the tree, where links lead to nothing outside.
    fn covers(&self, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        steps.push(Step::folder(Path::new(FILES), 0o700)?);
        for hidden in &self.hidden {
            let hidden = Path::new("/").join(hidden);
            steps.push(Step::bind(Path::new(NULL), &hidden, 0)?);
        }
        let mut cover = |name: &str, mode, bytes: &[u8], over: &str| -> anyhow::Result<()> {
            let path = Path::new(FILES).join(name);
            steps.push(Step::File {
                path: c_string(&path)?,
                mode,
                bytes: bytes.to_vec(),
            });
            steps.push(Step::bind(&path, &Path::new("/").join(over), 0)?);
            Ok(())
        };
        if self.has_policy {
            cover(".policy-rc.d", 0o755, POLICY_NO, POLICY)?;
        }
        match &self.resolver {
            Some((Resolver::Covered, bytes)) => cover(".resolv.conf", 0o644, bytes, RESOLV_CONF)?,
            Some((Resolver::Made(path), bytes)) => {
                let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
                folders.retain(|folder| folder.starts_with("/run") && *folder != Path::new("/run"));
                for folder in folders.into_iter().rev() {
                    steps.push(Step::folder(folder, 0o755)?);
                }
                let path = c_string(path)?;
                steps.push(Step::File {
                    path,
                    mode: 0o644,
                    bytes: bytes.clone(),
                });
            }
            None => {}
        }
        Ok(())
    }
}

impl Step {
    /// What is mounted from here on is nobody else's.
    fn bind_private() -> anyhow::Result<Self> {
        Ok(Self::Mount {
            source: c_string("none")?,
            target: c_string("/")?,
            kind: c_string("")?,
            flags: libc::MS_REC | libc::MS_PRIVATE,
            data: c_string("")?,
        })
    }
}

/// Whether the firmware is UEFI and the kernel shows its variables.
pub fn has_variables() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    Path::new("/sys/firmware/efi/efivars").is_dir()
        && known
            .lines()
            .any(|line| line.split_whitespace().last() == Some("efivarfs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::tree;
    use std::time::Duration;

    #[test]
    fn only_programs_of_this_machines_own_tree_see_its_firmware() {
        let (_folder, root) = tree(&[]);
        let mut setup = Setup::of(&root, None).unwrap();
        let call = Call::new("true", &[], Duration::from_secs(60));
        let shows = |setup: &Setup| {
            let steps = setup.steps(&call).unwrap();
            steps.iter().any(|step| match step {
                Step::Mount { kind, .. } => kind.as_bytes() == b"efivarfs",
                _ => false,
            })
        };
        assert!(!shows(&setup));
        setup.shows_firmware = true;
        assert!(shows(&setup));
    }
}
