//! An fstab (fstab(5)), as far as it tells which filesystems belong to a system.

use super::Volume;
use pitstop_trees::fstab::Fields;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Kinds that are kept as files. `auto` may be any.
const KINDS: [&str; 9] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "msdos", "f2fs", "auto",
];

/// What an entry calls its filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Uuid(String),
    Label(String),
    PartUuid(String),
    PartLabel(String),
    /// A kernel's name, which was true when the file was written: `sda2`.
    Node(String),
    /// Made by the device mapper: `/dev/mapper/vg-root`, `/dev/vg/root`.
    Mapped(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(text) => write!(f, "UUID={text}"),
            Self::Label(text) => write!(f, "LABEL={text}"),
            Self::PartUuid(text) => write!(f, "PARTUUID={text}"),
            Self::PartLabel(text) => write!(f, "PARTLABEL={text}"),
            Self::Node(text) => write!(f, "/dev/{text}"),
            Self::Mapped(text) => f.write_str(text),
        }
    }
}

impl Source {
    /// `None` of what is no disk: `tmpfs`, `server:/export`.
    fn parse(text: &str) -> Option<Self> {
        if let Some((tag, value)) = text.split_once('=') {
            return match tag {
                "UUID" => Some(Self::Uuid(value.to_owned())),
                "LABEL" => Some(Self::Label(value.to_owned())),
                "PARTUUID" => Some(Self::PartUuid(value.to_owned())),
                "PARTLABEL" => Some(Self::PartLabel(value.to_owned())),
                _ => None,
            };
        }
        let name = text.strip_prefix("/dev/")?;
        let by = name
            .strip_prefix("disk/by-")
            .and_then(|rest| rest.split_once('/'));
        Some(match by {
            Some(("uuid", value)) => Self::Uuid(value.to_owned()),
            Some(("label", value)) => Self::Label(value.to_owned()),
            Some(("partuuid", value)) => Self::PartUuid(value.to_owned()),
            Some(("partlabel", value)) => Self::PartLabel(value.to_owned()),
            // Names by path and serial are udev's own.
            Some(_) => Self::Mapped(text.to_owned()),
            None if name.contains('/') || name.starts_with("dm-") || name.starts_with("md") => {
                Self::Mapped(text.to_owned())
            }
            None => Self::Node(name.to_owned()),
        })
    }

    /// Whether it means `volume`.
    pub fn is(&self, volume: &Volume) -> bool {
        let same = |one: &str, other: &str| !other.is_empty() && one.eq_ignore_ascii_case(other);
        match self {
            Self::Uuid(text) => same(text, &volume.uuid),
            Self::Label(text) => !volume.label.is_empty() && *text == volume.label,
            Self::PartUuid(text) => same(text, &volume.part_uuid),
            Self::PartLabel(text) => !volume.part_label.is_empty() && *text == volume.part_label,
            Self::Node(text) => *text == volume.name,
            Self::Mapped(text) => volume.names.contains(text),
        }
    }
}

/// What a crypttab(5) opens: by which name, and with which UUID in its header.
pub fn encrypted(crypttab: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| !name.starts_with('#'))?;
        match Source::parse(words.next()?)? {
            Source::Uuid(uuid) => Some((name.to_owned(), uuid)),
            _ => None,
        }
    };
    crypttab.lines().filter_map(line).collect()
}

/// One filesystem of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub source: Source,
    /// Below the root; empty for the root itself.
    point: PathBuf,
    options: Vec<String>,
}

impl Entry {
    /// Where it is mounted, without the `/` in front.
    pub fn below(&self) -> &Path {
        &self.point
    }

    pub fn subvolume(&self) -> Option<&str> {
        let mut options = self.options.iter();
        let name = options.find_map(|option| option.strip_prefix("subvol="))?;
        Some(name.trim_start_matches('/'))
    }

    /// Whether the system starts without it.
    pub fn is_optional(&self) -> bool {
        let lenient = ["nofail", "noauto"];
        let mut options = self.options.iter();
        options.any(|option| lenient.contains(&option.as_str()))
    }
}

/// The entries about filesystems on disks that are kept. A point that would lead out of the root is none.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let fields = Fields::parse(line)?;
    let mut kinds = fields.filesystem.split(',');
    if !kinds.any(|kind| KINDS.contains(&kind)) {
        return None;
    }
    let below = Path::new(fields.mount.strip_prefix('/')?);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    below.components().all(plain).then_some(())?;
    Some(Entry {
        source: Source::parse(&fields.spec)?,
        point: below.components().collect(),
        options: fields.options.split(',').map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FSTAB: &str = "# <file system> <mount point>\n\
        UUID=1-2 / btrfs defaults,subvol=/@ 0 1\n\
        UUID=ABCD-1234\t/boot/efi\tvfat\tumask=0077 0 1\n\
        /dev/sda3 none swap sw 0 0\n\
        LABEL=data /srv/my\\040data ext4 nofail,ro 0 2\n\
        /dev/mapper/vg-home /home xfs defaults 0 2\n\
        /dev/disk/by-partuuid/77-1 /boot ext4 defaults 0 2\n\
        proc /proc proc defaults 0 0\n\
        server:/x /mnt nfs defaults 0 0\n\
        UUID=9 /../../etc ext4 defaults 0 0\n\
        tmpfs /tmp tmpfs size=1g 0 0\n";

    #[test]
    fn filesystems_of_disks_are_read_and_nothing_else() {
        let entries = parse(FSTAB);
        let points: Vec<&str> = entries
            .iter()
            .map(|entry| entry.below().to_str().unwrap())
            .collect();
        assert_eq!(points, ["", "boot/efi", "srv/my data", "home", "boot"]);
        assert_eq!(entries[0].subvolume(), Some("@"));
        assert!(entries[2].is_optional() && !entries[1].is_optional());
        assert_eq!(
            entries[3].source,
            Source::Mapped("/dev/mapper/vg-home".into())
        );
        assert_eq!(entries[4].source, Source::PartUuid("77-1".into()));
    }

    #[test]
    fn a_source_means_a_volume_by_what_is_written_there() {
        let volume = Volume {
            name: "sda2".into(),
            uuid: "abcd-1234".into(),
            label: "data".into(),
            ..Volume::default()
        };
        let is = |text: &str| Source::parse(text).is_some_and(|source| source.is(&volume));
        for text in ["UUID=ABCD-1234", "LABEL=data", "/dev/sda2", "\"\"UUID=x"] {
            assert_eq!(is(text), !text.starts_with('"'), "{text}");
        }
        // What a volume does not have is no name of it.
        for text in ["PARTUUID=", "PARTLABEL=", "LABEL=DATA", "/dev/mapper/sda2"] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn a_crypttab_names_what_is_encrypted_by_its_header() {
        let text = "# <target> <source>\nsystem UUID=1-2 none luks\nswap /dev/sda3 /dev/urandom swap\n\
                    home /dev/disk/by-uuid/3-4 none luks\n";
        let pair = |name: &str, uuid: &str| (name.to_owned(), uuid.to_owned());
        assert_eq!(
            encrypted(text),
            [pair("system", "1-2"), pair("home", "3-4")]
        );
    }

    proptest! {
        #[test]
        fn no_entry_leads_out_of_the_root(text in "\\PC{0,60}", point in "[/.a]{0,12}") {
            let whole = format!("{text}\nUUID=1 {point} ext4 defaults 0 0\n");
            for entry in parse(&whole) {
                prop_assert!(entry.below().is_relative());
                prop_assert!(entry.below().components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
