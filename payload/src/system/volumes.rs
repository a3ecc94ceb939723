//! What is on the partitions of disks: filesystems, swap, members of something larger.

use pitstop_imaging::inventory::{Disk, Machine};
use pitstop_imaging::source::{self, ReadAt, Window};
use pitstop_imaging::{table, used};
use std::fs::File;
use std::path::PathBuf;

/// Where ext2-4 keep their superblock, and in it the features that a kernel must know (`s_feature_incompat`); the bit that
/// says that the journal has to be replayed.
const EXT_INCOMPAT: u64 = 1024 + 0x60;
const EXT_RECOVER: u32 = 0x4;

/// A partition, or a disk without a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The kernel's name: `sda2`.
    pub name: String,
    pub node: PathBuf,
    /// The kernel's name of the disk that it is on.
    pub disk: String,
    /// Bytes.
    pub size: u64,
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
}

impl Volume {
    /// Whether `kind` is among what it may be: a member of an array whose superblock is at its end looks like what is in the array,
    /// too.
    #[must_use]
    pub fn is_of(&self, kind: &str) -> bool {
        self.filesystem.split(" or ").any(|name| name == kind)
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
                part_uuid: entry.map(|entry| entry.id.clone()).unwrap_or_default(),
                part_label: entry.map(|entry| entry.name.clone()).unwrap_or_default(),
                ..look(&window)
            };
            named(volume, &partition.name)
        })
        .collect()
}

fn look(volume: &dyn ReadAt) -> Volume {
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
