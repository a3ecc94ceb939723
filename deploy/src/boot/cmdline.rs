//! Where a boot configuration says that the root is: `root=` and `rootflags=` of the kernel that is started first. One that names a
//! volume which the new disk has not, waits for it for ever; one that names a subvolume which is none there, ends in a panic.

use crate::disk::fstab::{Means, Names, means};

/// Files of which the first kernel is started, and folders with a file for each kernel.
const FILES: [&str; 4] = [
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "boot/extlinux/extlinux.conf",
    "extlinux/extlinux.conf",
];
const FOLDERS: [&str; 3] = [
    "boot/loader/entries",
    "efi/loader/entries",
    "boot/efi/loader/entries",
];
/// How lines begin that have the arguments of a kernel.
const LINES: [&str; 5] = ["linux", "linuxefi", "linux16", "append", "options"];

/// The root of the new disk.
pub struct Root {
    pub names: Names,
    /// Of its partition, where it is on one.
    pub number: Option<u32>,
    /// Of Btrfs: the subvolume, as a path from the filesystem's top, which itself is the empty one.
    pub subvolume: Option<String>,
}

/// A configuration that names another root, or one that may be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// A path in the tree.
    pub path: String,
    /// The argument of the kernel: `root=UUID=…`, `rootflags=subvol=@`.
    pub argument: String,
    pub found: Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is no such thing on the disk.
    Nowhere,
    /// It is right where the disk has the same name on its machine.
    Perhaps,
}

impl Named {
    /// For people.
    pub fn text(&self) -> String {
        let Self {
            path,
            argument,
            found,
        } = self;
        match found {
            Found::Nowhere => {
                format!("/{path} has {argument}, which is not the root of this disk")
            }
            Found::Perhaps => format!(
                "/{path} has {argument}: it starts only where the disk has that name; a UUID is sure"
            ),
        }
    }

    pub fn is_grubs(&self) -> bool {
        self.path.ends_with("/grub.cfg")
    }
}

/// Looks at all that a tree has: `read` gives the text of a file, `list` the names in a folder.
///
/// # Errors
/// Those of `read`.
pub fn look(
    root: &Root,
    read: &dyn Fn(&str) -> anyhow::Result<Option<String>>,
    list: &dyn Fn(&str) -> Vec<String>,
) -> anyhow::Result<Vec<Named>> {
    let mut paths: Vec<String> = FILES.map(str::to_owned).into();
    for folder in FOLDERS {
        let names = list(folder).into_iter();
        let entries = names.filter(|name| name.strip_suffix(".conf").is_some());
        paths.extend(entries.map(|name| format!("{folder}/{name}")));
    }
    let mut found = Vec::new();
    for path in paths {
        let text = read(&path)?.unwrap_or_default();
        let Some(line) = first_kernel(&text) else {
            continue;
        };
        // What flags tell is certain; a root may only perhaps be another.
        let judged = ["rootflags=", "root="].into_iter().find_map(|key| {
            let value = argument(line, key)?;
            let how = match key {
                "root=" => root.judge(value),
                _ => root.judge_flags(value),
            };
            Some((format!("{key}{value}"), how?))
        });
        if let Some((argument, how)) = judged {
            found.push(Named {
                path,
                argument,
                found: how,
            });
        }
    }
    Ok(found)
}

/// The line of the first kernel in a configuration.
fn first_kernel(text: &str) -> Option<&str> {
    text.lines().find(|line| {
        let first = line.split_whitespace().next().unwrap_or_default();
        LINES.iter().any(|word| first.eq_ignore_ascii_case(word))
    })
}

/// What stands behind `key` there.
fn argument<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    // The kernel goes by the last one.
    let mut words = line.split_whitespace().rev();
    let value = words.find_map(|word| word.strip_prefix(key));
    value.map(|value| value.trim_matches(['"', '\'']))
}

impl Root {
    fn judge(&self, root: &str) -> Option<Found> {
        // A variable, or a partition told by its distance from another one.
        if root.contains('$') || root.contains("/PARTNROFF=") {
            return None;
        }
        match means(root, &self.names) {
            Means::Right | Means::Elsewhere => None,
            Means::Wrong => Some(Found::Nowhere),
            Means::Device if root.starts_with("/dev/disk/") => None,
            Means::Device => Some(self.node(root)),
        }
    }

    /// A subvolume where the root is none, or another one. Numbers tell nothing where there are subvolumes: they are new ones.
    fn judge_flags(&self, flags: &str) -> Option<Found> {
        let is_wrong = flags.split(',').any(|flag| {
            let named = flag.strip_prefix("subvol=");
            match &self.subvolume {
                None => named.is_some() || flag.starts_with("subvolid="),
                Some(own) => named.is_some_and(|named| {
                    !named.contains('$') && named.trim_matches('/') != own.trim_matches('/')
                }),
            }
        });
        is_wrong.then_some(Found::Nowhere)
    }

    /// A node that is none of its own names.
    fn node(&self, root: &str) -> Found {
        let name = root.strip_prefix("/dev/").unwrap_or(root);
        let is_disk = ["sd", "vd", "hd", "xvd", "nvme", "mmcblk"]
            .iter()
            .any(|start| name.starts_with(start));
        let digits = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = name
            .get(digits.len()..)
            .and_then(|number| number.parse().ok());
        if is_disk && number.is_some() && number == self.number {
            Found::Perhaps
        } else {
            Found::Nowhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            names: Names {
                uuid: "6a7b-1".into(),
                label: "root".into(),
                part_id: "aa-bb".into(),
                part_name: String::new(),
                nodes: vec!["/dev/mapper/vg0-root".into()],
            },
            number: Some(3),
            subvolume: None,
        }
    }

    #[test]
    fn a_root_is_the_disks_own_or_is_told() {
        for (named, found) in [
            ("UUID=6A7B-1", None),
            ("\"LABEL=root\"", None),
            ("PARTUUID=aa-bb", None),
            ("PARTUUID=cc-dd/PARTNROFF=1", None),
            ("$kernelopts", None),
            ("ZFS=rpool/x", None),
            ("/dev/disk/by-uuid/6a7b-1", None),
            ("UUID=6a7b-2", Some(Found::Nowhere)),
            ("/dev/mapper/vg0-root", None),
            ("/dev/mapper/vg-root", Some(Found::Nowhere)),
            ("/dev/vg/root3", Some(Found::Nowhere)),
            ("/dev/md3", Some(Found::Nowhere)),
            ("/dev/sda2", Some(Found::Nowhere)),
            ("/dev/sda", Some(Found::Nowhere)),
            ("/dev/sda3", Some(Found::Perhaps)),
            ("/dev/nvme0n1p3", Some(Found::Perhaps)),
        ] {
            let text = format!(
                "set root='hd0,gpt2'\nmenuentry x {{\n\tlinux /vmlinuz root={named} ro\n}}\nlinux /other root=UUID=of-another-system\n"
            );
            let read = |path: &str| Ok((path == "boot/grub/grub.cfg").then(|| text.clone()));
            let looked = look(&root(), &read, &|_| Vec::new()).unwrap();
            assert_eq!(looked.first().map(|it| it.found), found, "{named}");
        }
    }

    #[test]
    fn a_subvolume_that_the_root_is_not_is_told() {
        let told = |subvolume: Option<&str>, flags: &str| {
            let root = Root {
                subvolume: subvolume.map(str::to_owned),
                ..root()
            };
            let text = format!("linux /vmlinuz root=UUID=6a7b-1 ro rootflags={flags} quiet\n");
            let read = |path: &str| Ok((path == "boot/grub/grub.cfg").then(|| text.clone()));
            let looked = look(&root, &read, &|_| Vec::new()).unwrap();
            looked.first().map(|named| named.argument.clone())
        };
        for right in ["subvol=@", "subvol=/@,noatime", "noatime", "subvolid=256"] {
            assert_eq!(told(Some("@"), right), None, "{right}");
        }
        assert_eq!(told(None, "data=ordered"), None);
        for (subvolume, wrong) in [
            (None, "subvol=@"),
            (None, "noatime,subvolid=256"),
            (Some(""), "subvol=@"),
            (Some("@"), "subvol=root"),
        ] {
            let argument = format!("rootflags={wrong}");
            assert_eq!(told(subvolume, wrong), Some(argument), "{wrong}");
        }
    }

    #[test]
    fn each_entry_of_a_boot_loader_is_looked_at() {
        let read = |path: &str| {
            let ours = "title x\noptions root=UUID=6a7b-1 ro root=/dev/mapper/vg-root\n";
            Ok(path.ends_with("/a.conf").then(|| ours.to_owned()))
        };
        let list = |folder: &str| match folder {
            "boot/loader/entries" => vec!["a.conf".into(), "b.conf.old".into()],
            _ => Vec::new(),
        };
        let looked = look(&root(), &read, &list).unwrap();
        assert_eq!(looked.len(), 1);
        assert_eq!(
            looked[0].text(),
            "/boot/loader/entries/a.conf has root=/dev/mapper/vg-root, which is not the root of this disk"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_no_panic(text in "(linux [a-z=/$.0-9é ]{0,30}\n){0,3}", name in "\\PC{0,20}") {
            let read = |_: &str| Ok(Some(format!("{text}\nlinux root=/dev/{name}")));
            look(&root(), &read, &|_| Vec::new()).unwrap();
        }
    }
}
