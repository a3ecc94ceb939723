//! Which kernel a tree boots, and with which initramfs.

use crate::files::Files;
use std::cmp::Ordering;

/// Where modules are.
pub const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
/// Names of kernels in `/boot`, with the version behind.
const KERNELS: [&str; 3] = ["vmlinuz-", "vmlinux-", "kernel-"];
/// Where an EFI system partition may be mounted.
const ESPS: [&str; 3] = ["boot", "efi", "boot/efi"];
/// Where GRUB keeps which entry was chosen.
pub const ENVIRONMENTS: [&str; 2] = ["boot/grub2/grubenv", "boot/grub/grubenv"];

/// A kernel of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1.0-13-amd64`
    pub version: String,
    /// The folder of its modules.
    pub modules: String,
    /// By what name its files go where that is not the version: `linux` of Arch.
    name: String,
}

impl Kernel {
    /// The one that the tree boots: GRUB's saved choice, else the newest one that is in `/boot`, else the newest one that has
    /// modules.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn of(files: &Files) -> anyhow::Result<Option<Self>> {
        let mut kernels = Vec::new();
        for folder in MODULES {
            for version in files.list(folder)? {
                let modules = format!("{folder}/{version}");
                if !files.exists(&format!("{modules}/modules.dep")) {
                    continue;
                }
                let base = files.text(&format!("{modules}/pkgbase"))?;
                let name = base.map_or_else(|| version.clone(), |base| base.trim().to_owned());
                if kernels
                    .iter()
                    .all(|kernel: &Self| kernel.version != version)
                {
                    kernels.push(Self {
                        version,
                        modules,
                        name,
                    });
                }
            }
        }
        kernels.sort_by(|a, b| by_version(&a.version, &b.version));
        let boot = files.list("boot")?;
        let in_boot = |kernel: &&Self| {
            let names = [&kernel.version, &kernel.name];
            names.iter().any(|name| {
                let mut starts = KERNELS.iter();
                starts.any(|start| boot.contains(&format!("{start}{name}")))
            })
        };
        let saved = saved_entry(files)?;
        let chosen = kernels
            .iter()
            .find(|kernel| saved.ends_with(&format!("-{}", kernel.version)))
            .or_else(|| kernels.iter().rfind(in_boot))
            .or_else(|| kernels.last());
        Ok(chosen.cloned())
    }

    /// The path of its initramfs, where it has one.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn initramfs(&self, files: &Files) -> anyhow::Result<Option<String>> {
        let mut paths = Vec::new();
        for name in [&self.version, &self.name] {
            paths.extend([
                format!("boot/initrd.img-{name}"),
                format!("boot/initramfs-{name}.img"),
                format!("boot/initrd-{name}"),
                format!("boot/initrd-{name}.img"),
                format!("boot/initramfs-{name}"),
            ]);
        }
        // kernel-install(8): TOKEN/VERSION/initrd.
        for esp in ESPS {
            for token in files.list(esp)? {
                let folder = format!("{esp}/{token}/{}", self.version);
                let names = files.list(&folder)?;
                let names = names.iter().filter(|name| name.starts_with("init"));
                paths.extend(names.map(|name| format!("{folder}/{name}")));
            }
        }
        Ok(paths.into_iter().find(|path| files.exists(path)))
    }

    /// A unified kernel image, which has an initramfs within.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn unified(&self, files: &Files) -> anyhow::Result<Option<String>> {
        for esp in ESPS {
            let folder = format!("{esp}/EFI/Linux");
            let names = files.list(&folder)?;
            if let Some(name) = names.iter().find(|name| name.contains(&self.version)) {
                return Ok(Some(format!("{folder}/{name}")));
            }
        }
        Ok(None)
    }
}

/// `saved_entry=` of GRUB's environment block.
fn saved_entry(files: &Files) -> anyhow::Result<String> {
    for path in ENVIRONMENTS {
        let text = files.text(path)?.unwrap_or_default();
        let mut entries = text
            .lines()
            .filter_map(|line| line.strip_prefix("saved_entry="));
        if let Some(entry) = entries.next() {
            return Ok(entry.trim().trim_end_matches(".conf").to_owned());
        }
    }
    Ok(String::new())
}

/// Numbers by their size, the rest as text (`sort -V`).
fn by_version(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let length = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (a, b) = (length(one), length(other));
        let (left, right) = (&one[..a], &other[..b]);
        let bare = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == b'0').count();
            number[zeros..].to_vec()
        };
        let (left, right) = (bare(left), bare(right));
        let numbers = left.len().cmp(&right.len()).then_with(|| left.cmp(&right));
        if numbers != Ordering::Equal {
            return numbers;
        }
        (one, other) = (&one[a..], &other[b..]);
        match (one.split_first(), other.split_first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some((a, left)), Some((b, right))) => {
                if a != b {
                    return a.cmp(b);
                }
                (one, other) = (left, right);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::tree;
    use proptest::prelude::*;

    fn found(paths: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let (_folder, root) = tree(paths);
        let files = Files::of(&root).unwrap();
        let kernel = Kernel::of(&files).unwrap()?;
        let initramfs = kernel.initramfs(&files).unwrap();
        Some((kernel.version, initramfs))
    }

    fn is(version: &str, initramfs: &str) -> (String, Option<String>) {
        (version.into(), Some(initramfs.into()))
    }

    #[test]
    fn each_distribution_has_its_own_names() {
        let debian = [
            ("lib/modules/6.1.0-9-amd64/modules.dep", ""),
            ("lib/modules/6.1.0-13-amd64/modules.dep", ""),
            ("lib/modules/6.5.0-1-amd64/modules.dep", ""),
            ("boot/vmlinuz-6.1.0-9-amd64", ""),
            ("boot/vmlinuz-6.1.0-13-amd64", ""),
            ("boot/initrd.img-6.1.0-9-amd64", ""),
            ("boot/initrd.img-6.1.0-13-amd64", ""),
        ];
        assert_eq!(
            found(&debian),
            Some(is("6.1.0-13-amd64", "boot/initrd.img-6.1.0-13-amd64"))
        );
        let red_hat = [
            ("lib/modules/5.14.0-1.el9.x86_64/modules.dep", ""),
            ("lib/modules/5.14.0-2.el9.x86_64/modules.dep", ""),
            ("boot/vmlinuz-5.14.0-1.el9.x86_64", ""),
            ("boot/vmlinuz-5.14.0-2.el9.x86_64", ""),
            ("boot/initramfs-5.14.0-1.el9.x86_64.img", ""),
            (
                "boot/grub2/grubenv",
                "# GRUB\nsaved_entry=0123-5.14.0-1.el9.x86_64\n",
            ),
        ];
        assert_eq!(
            found(&red_hat),
            Some(is(
                "5.14.0-1.el9.x86_64",
                "boot/initramfs-5.14.0-1.el9.x86_64.img"
            ))
        );
        let arch = [
            ("usr/lib/modules/6.6.1-arch1-1/modules.dep", ""),
            ("usr/lib/modules/6.6.1-arch1-1/pkgbase", "linux\n"),
            ("boot/vmlinuz-linux", ""),
            ("boot/initramfs-linux.img", ""),
        ];
        assert_eq!(
            found(&arch),
            Some(is("6.6.1-arch1-1", "boot/initramfs-linux.img"))
        );
        let systemd_boot = [
            ("usr/lib/modules/6.1.0/modules.dep", ""),
            ("efi/0123456789abcdef/6.1.0/linux", ""),
            ("efi/0123456789abcdef/6.1.0/initrd.img-6.1.0", ""),
        ];
        assert_eq!(
            found(&systemd_boot),
            Some(is("6.1.0", "efi/0123456789abcdef/6.1.0/initrd.img-6.1.0"))
        );
        assert_eq!(found(&[("etc/passwd", "")]), None);
    }

    #[test]
    fn versions_go_by_their_numbers() {
        let mut versions = [
            "6.10.0",
            "6.9.0",
            "6.1.0-13",
            "6.1.0-9",
            "6.1.0",
            "6.01.0-rc1",
        ];
        versions.sort_by(|a, b| by_version(a, b));
        assert_eq!(
            versions,
            [
                "6.1.0",
                "6.01.0-rc1",
                "6.1.0-9",
                "6.1.0-13",
                "6.9.0",
                "6.10.0"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_versions_have_an_order(a in "[0-9a-z.-]{0,12}", b in "[0-9a-z.-]{0,12}") {
            prop_assert_eq!(by_version(&a, &b), by_version(&b, &a).reverse());
            prop_assert_eq!(by_version(&a, &a), Ordering::Equal);
        }
    }
}
