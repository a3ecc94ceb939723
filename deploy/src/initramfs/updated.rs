//! The initramfs of a system that was brought up to date: the one that came is a golden machine's, and knows nothing of what this
//! root is on.

use super::kernels::Kernel;
use super::opens::{Found, check_opens, found};
use super::rebuild::Tool;
use super::{Need, ensure, needs};
use crate::boot::judge::runs_here;
use crate::chroot::Chroot;
use crate::devices::{self, fact};
use crate::files::Files;
use crate::root::Root;
use crate::wishes::Initrd;
use anyhow::bail;
use pitstop_imaging::event::Reporter;
use std::path::Path;

const CRYPTTAB: &str = "etc/crypttab";

/// LUKS that is open under a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Under which name: `system`.
    pub(super) name: String,
    /// Of its header: 32 hex digits.
    pub(super) uuid: String,
}

/// What it takes to reach the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    pub(super) needs: Vec<Need>,
    pub(super) mappings: Vec<Mapping>,
}

impl Way {
    /// That to the root on the block device `node`. Of a system that does not run here, drivers are another machine's; what it is on
    /// is its own.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn of(sysfs: &Path, node: &Path, is_live: bool) -> anyhow::Result<Self> {
        let mut needs = needs(sysfs, node)?;
        needs.retain(|need| is_live || matches!(need, Need::Module(_)));
        let folder = devices::folder_of(sysfs, node);
        let mappings = folder.map(|folder| mappings(&folder)).unwrap_or_default();
        Ok(Self { needs, mappings })
    }

    /// Whether nothing of the initramfs can be judged by it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.needs.is_empty()
    }

    /// What a plan says of it.
    #[must_use]
    pub fn told(&self, wish: Initrd) -> Option<String> {
        let names: Vec<&str> = self.mappings.iter().map(|it| it.name.as_str()).collect();
        (!names.is_empty() && wish != Initrd::Keep).then(|| {
            format!(
                "the root is on LUKS ({}): Debian's initramfs is made anew if it does not open it",
                names.join(", ")
            )
        })
    }

    /// Whether [`Way::ensure`] has what it takes, where an update of the system at `root` brings another kernel or initramfs: asked
    /// before anything is changed.
    ///
    /// # Errors
    /// When it has not, with what to do.
    pub fn check(&self, root: &Root, wish: Initrd, architecture: &str) -> anyhow::Result<()> {
        let is_plain = self.needs.is_empty() && wish != Initrd::Rebuild;
        if is_plain || wish == Initrd::Keep {
            return Ok(());
        }
        if !architecture.is_empty() && !runs_here(architecture) {
            bail!(
                "the initramfs of {} may have to be made anew, which the tree's own programs do, and those for {architecture} \
                 do not run here: update it where they run, or say initrd \"keep\"",
                root.path().display()
            );
        }
        let files = Files::of(root)?;
        if Tool::in_tree(&files) != Some(Tool::UpdateInitramfs) {
            return Ok(());
        }
        for mapping in &self.mappings {
            let Some(name) = name_of(&files, mapping)? else {
                continue;
            };
            if name != mapping.name {
                bail!(
                    "the root of {} is on LUKS that is open here as {}, and its /{CRYPTTAB} calls it {name}: the initramfs that \
                     the update needs is made by that name. Unmount it, type `cryptsetup close {}`, and open it as {name}; or say \
                     initrd \"keep\", if it is made elsewhere",
                    root.path().display(),
                    mapping.name,
                    mapping.name
                );
            }
        }
        Ok(())
    }

    /// Sees to it that the initramfs reaches the root, and opens it: else it is made anew by the tree's own programs.
    ///
    /// # Errors
    /// When it does not, and is to stay, or cannot be made.
    pub fn ensure(
        &self,
        chroot: &Chroot,
        wish: Initrd,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let names = self.names(chroot, reporter)?;
        let mut closed = false;
        match found(chroot.root(), &names)? {
            Found::Opens => {}
            Found::Closed(why) if wish == Initrd::Keep => {
                reporter.warn(format!(
                    "the system does not boot as it is: {why}; its initramfs is kept, as was said (initrd \"auto\" makes it anew)"
                ));
                return Ok(());
            }
            Found::Unknown(_) if wish == Initrd::Keep => {}
            Found::Closed(why) | Found::Unknown(why) => {
                reporter.info(format!("the initramfs is made anew: {why}"));
                closed = true;
            }
        }
        ensure(chroot, wish, &self.needs, closed, reporter)?;
        check_opens(chroot.root(), &names, reporter)
    }

    /// By which names an initramfs opens it. Others than Debian's go by the kernel's command line; of a tree without a kernel
    /// nothing is to be opened.
    fn names(&self, chroot: &Chroot, reporter: &dyn Reporter) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        let files = Files::of(chroot.root())?;
        let is_debians = Tool::of(chroot) == Some(Tool::UpdateInitramfs);
        if self.mappings.is_empty() || !is_debians || Kernel::of(&files)?.is_none() {
            return Ok(names);
        }
        for mapping in &self.mappings {
            let name = name_of(&files, mapping)?;
            if name.is_none() {
                reporter.warn(format!(
                    "/{CRYPTTAB} does not name the LUKS that the root is on ({}): nobody has looked whether the initramfs opens it",
                    mapping.name
                ));
            }
            names.extend(name);
        }
        Ok(names)
    }
}

fn mappings(folder: &Path) -> Vec<Mapping> {
    let mut found = Vec::new();
    for device in devices::down(folder) {
        // CRYPT-LUKS2-UUID-NAME, as cryptsetup tells device-mapper.
        let uuid = fact(&device.join("dm/uuid"));
        let mut fields = uuid.splitn(4, '-');
        let is_luks = fields.next() == Some("CRYPT")
            && fields.next().is_some_and(|kind| kind.starts_with("LUKS"));
        if let Some(uuid) = fields.next().filter(|_| is_luks) {
            found.push(Mapping {
                name: fact(&device.join("dm/name")),
                uuid: uuid.to_ascii_lowercase(),
            });
        }
    }
    found
}

/// What the system's crypttab(5) calls it; `None` where that does not name it.
fn name_of(files: &Files, mapping: &Mapping) -> anyhow::Result<Option<String>> {
    let text = files.text(CRYPTTAB)?.unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next().filter(|name| !name.starts_with('#'))?;
        Some((name, fields.next()?))
    });
    let is_it = |source: &str| {
        let uuid = source
            .strip_prefix("UUID=")
            .or_else(|| source.strip_prefix("/dev/disk/by-uuid/"));
        uuid.is_some_and(|uuid| {
            let plain = uuid.trim_matches('"').replace('-', "");
            plain.eq_ignore_ascii_case(&mapping.uuid)
        })
    };
    let named = lines
        .clone()
        .find(|(_, source)| is_it(source))
        .or_else(|| lines.find(|(name, _)| *name == mapping.name));
    Ok(named.map(|(name, _)| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::tree;
    use std::fs;
    use std::os::unix::fs::symlink;

    const UUID: &str = "0d9f5f0a-6a0c-4c1a-9a77-1f6d6f2a5e11";

    #[test]
    fn luks_is_found_below_volumes_and_named_as_the_system_names_it() {
        let sysfs = tempfile::tempdir().unwrap();
        let device = |name: &str, uuid: &str, under: &str| {
            let folder = sysfs.path().join(name);
            fs::create_dir_all(folder.join("dm")).unwrap();
            fs::create_dir_all(folder.join("slaves")).unwrap();
            fs::write(folder.join("dm/uuid"), format!("{uuid}\n")).unwrap();
            fs::write(folder.join("dm/name"), format!("{name}\n")).unwrap();
            if !under.is_empty() {
                symlink(sysfs.path().join(under), folder.join("slaves").join(under)).unwrap();
            }
            folder
        };
        let plain = UUID.replace('-', "");
        device("here-x", &format!("CRYPT-LUKS2-{plain}-here-x"), "");
        let volume = device("vg-root", "LVM-abc", "here-x");
        let found = mappings(&volume);
        let mapping = Mapping {
            name: "here-x".into(),
            uuid: plain,
        };
        assert_eq!(found, [mapping]);
        let way = Way {
            needs: vec![Need::Module("dm_crypt".into())],
            mappings: found,
        };
        let told = way.told(Initrd::Auto).unwrap();
        assert!(told.contains("LUKS (here-x)"), "{told}");
        assert_eq!(way.told(Initrd::Keep), None);
        let program = ("usr/sbin/update-initramfs", "");
        let other = format!("# system UUID={UUID}\nsystem UUID={UUID} none luks\n");
        let by_id = format!("here-x /dev/disk/by-uuid/{UUID} none luks\n");
        let named = "here-x /dev/sda3 none luks\n";
        let checked = |files: &[(&str, &str)], wish, architecture: &str| {
            let (_folder, root) = tree(files);
            let checked = way.check(&root, wish, architecture);
            checked.err().map(|error| error.to_string())
        };
        for right in [&by_id, named, ""] {
            let files = [program, (CRYPTTAB, right)];
            assert_eq!(checked(&files, Initrd::Auto, ""), None, "{right}");
        }
        let files = [program, (CRYPTTAB, &other[..])];
        let error = checked(&files, Initrd::Auto, "").unwrap();
        assert!(
            error.contains("open here as here-x, and its /etc/crypttab calls it system"),
            "{error}"
        );
        assert_eq!(checked(&files, Initrd::Keep, ""), None);
        // Another distribution's goes by the kernel's command line.
        assert_eq!(checked(&files[1..], Initrd::Auto, ""), None);
        let error = checked(&files, Initrd::Rebuild, "m68k").unwrap();
        assert!(error.contains("those for m68k do not run here"), "{error}");
    }
}
