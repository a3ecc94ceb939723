//! What is on the partitions of disks: filesystems, swap, members of something larger.

use pitstop_imaging::image::FileSource;
use pitstop_imaging::inventory::{Disk, Machine};
use pitstop_imaging::source::{self, ReadAt, Window};
use pitstop_imaging::used::VolumeGroup;
use pitstop_imaging::used::md::{self, Member};
use pitstop_imaging::{table, used};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where ext2-4 keep their superblock, and in it the features that a kernel must know (`s_feature_incompat`); the bit that
/// says that the journal has to be replayed.
const EXT_INCOMPAT: u64 = 1024 + 0x60;
const EXT_RECOVER: u32 = 0x4;

/// As a member of an array, and a physical volume of LVM, are recognised; and what is encrypted.
pub const MEMBER: &str = "md member";
pub const PHYSICAL: &str = "LVM2_member";
pub const LUKS: &str = "LUKS";

/// What holds other volumes, by the names under which it is recognised, and what to say of it.
pub const HOLDERS: [(&str, &str); 3] = [(PHYSICAL, "LVM"), (MEMBER, "RAID"), (LUKS, "LUKS")];

/// The level of arrays whose members are copies of each other.
pub const MIRROR: i32 = 1;

/// Where LUKS has its UUID, of both versions: a text of at most so many bytes.
const LUKS_UUID: (u64, usize) = (168, 40);

/// What a volume is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// An array, and what is in that as this member has it.
    Member(Member, Box<Volume>),
    /// A group of LVM, or why it cannot be read.
    Group(Result<VolumeGroup, String>),
}

/// A partition, or a disk without a table; or what stands on these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The kernel's name: `sda2`.
    pub name: String,
    pub node: PathBuf,
    /// The kernel's name of the disk that it is on.
    pub disk: String,
    /// Other disks that it stands on as well.
    pub also_on: Vec<String>,
    /// Bytes that its disk addresses as one.
    pub sector: u32,
    /// Bytes.
    pub size: u64,
    /// The partition's number in its table; 0 of what is none.
    pub number: u32,
    /// Of what is no partition: the names below `/dev` that its system has for it.
    pub names: Vec<String>,
    /// Whether it is a partition.
    pub is_partition: bool,
    /// As it is recognised: `ext4`, `swap`, `LVM2_member`; empty of what nothing is known of.
    pub filesystem: String,
    pub label: String,
    pub uuid: String,
    pub part_uuid: String,
    pub part_label: String,
    pub swap: Option<used::Swap>,
    /// Its journal has what was never written to its place. Known of ext3 and ext4 alone.
    pub journal: bool,
    /// Its first MiB is zeros.
    pub is_blank: bool,
    pub holds: Option<Holds>,
}

impl Volume {
    /// Whether `kind` is among what it may be: a member of an array whose superblock is at its end looks like what is in the array,
    /// too.
    #[must_use]
    pub fn is_of(&self, kind: &str) -> bool {
        self.filesystem.split(" or ").any(|name| name == kind)
    }

    /// Whether any of it is on the disk with this name.
    #[must_use]
    pub fn is_on(&self, disk: &str) -> bool {
        self.disk == disk || self.also_on.iter().any(|other| other == disk)
    }

    /// What is on the block device `node`, which stands on others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at(node: &Path) -> anyhow::Result<Self> {
        let volume = look(&FileSource::open(node)?);
        Ok(Self {
            node: node.to_owned(),
            ..volume
        })
    }
}

/// What is on `disks`. A disk that cannot be read has nothing.
#[must_use]
pub fn volumes(machine: &Machine, disks: &[Disk]) -> Vec<Volume> {
    disks
        .iter()
        .flat_map(|disk| of_disk(machine, disk))
        .collect()
}

fn of_disk(machine: &Machine, disk: &Disk) -> Vec<Volume> {
    let node = disk.node(&machine.dev);
    let Ok(mut file) = File::open(&node) else {
        return Vec::new();
    };
    let whole = source::Disk::new(&mut file, disk.identity.size);
    let named = |volume: Volume, name: &str| Volume {
        node: machine.dev.join(name.replace('!', "/")),
        name: name.to_owned(),
        disk: disk.identity.device.clone(),
        sector: disk.identity.logical_sector_size,
        ..volume
    };
    if disk.partitions.is_empty() {
        return vec![named(look(&whole), &disk.identity.device)];
    }
    let table = table::read(&whole, disk.identity.logical_sector_size).ok();
    let entries = table.map(|table| table.partitions).unwrap_or_default();
    disk.partitions
        .iter()
        .map(|partition| {
            let window = Window::new(&whole, partition.start, partition.size);
            let entry = entries.iter().find(|entry| entry.start == partition.start);
            let volume = Volume {
                is_partition: true,
                number: entry.map(|entry| entry.number).unwrap_or_default(),
                part_uuid: entry.map(|entry| entry.id.clone()).unwrap_or_default(),
                part_label: entry.map(|entry| entry.name.clone()).unwrap_or_default(),
                ..look(&window)
            };
            named(volume, &partition.name)
        })
        .collect()
}

fn look_plainly(volume: &dyn ReadAt) -> Volume {
    const LOOKED_AT: u64 = 1 << 20;
    let contents = used::recognise(volume);
    let journal = contents.filesystem.starts_with("ext")
        && volume
            .bytes_at(EXT_INCOMPAT, 4)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .is_some_and(|bytes| u32::from_le_bytes(bytes) & EXT_RECOVER != 0);
    let length = usize::try_from(volume.size().min(LOOKED_AT)).unwrap_or_default();
    let start = volume.bytes_at(0, length);
    Volume {
        size: volume.size(),
        filesystem: contents.filesystem,
        label: contents.label,
        uuid: contents.uuid,
        swap: used::swap(volume),
        journal,
        is_blank: start.is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)),
        ..Volume::default()
    }
}

/// What is on a volume, and in an array that it is a member of; arrays in arrays are not looked into.
fn look(volume: &dyn ReadAt) -> Volume {
    let found = look_plainly(volume);
    if !found.is_of(MEMBER) {
        return told(found, volume);
    }
    let holds = md::member(volume).map(|member| {
        // What a mirror shows each of its members has, from its first byte to its last.
        let inside = Window::new(volume, member.data.start, member.size);
        let inside = match member.level {
            MIRROR => told(look_plainly(&inside), &inside),
            _ => Volume::default(),
        };
        Holds::Member(member, Box::new(inside))
    });
    Volume { holds, ..found }
}

/// With what a group of LVM or LUKS says of itself.
fn told(found: Volume, volume: &dyn ReadAt) -> Volume {
    match found.filesystem.as_str() {
        PHYSICAL => Volume {
            holds: Some(Holds::Group(used::volume_group(volume))),
            ..found
        },
        LUKS => {
            let bytes = volume.bytes_at(LUKS_UUID.0, LUKS_UUID.1);
            let bytes = bytes.unwrap_or_default();
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            Volume {
                uuid: String::from_utf8_lossy(text).into_owned(),
                ..found
            }
        }
        _ => found,
    }
}
