//! The Btrfs superblock.

use super::tree::Root;
use crate::source::ReadAt;
use crate::used::bytes::Fields;
use crate::used::{Label, Untrusted};

const OFFSET: u64 = 64 << 10;
const MAGIC: &[u8] = b"_BHRfS_M";
const ROOT_TREE: u64 = 1;
const CHUNK_TREE: u64 = 3;

/// Written, relocation done: what a healthy filesystem may have.
const FLAGS_KNOWN: u64 = 0x3;
const INCOMPAT_METADATA_UUID: u64 = 0x400;
/// Mixed backrefs, default subvolume, mixed groups, LZO, zstd, big metadata, extended inode references,
/// RAID56, skinny metadata, no holes, metadata UUID, RAID1C34, simple quotas.
const INCOMPAT_KNOWN: u64 = 0x1_0fff;
const COMPAT_RO_BLOCK_GROUP_TREE: u64 = 0x8;
/// Free space tree, its validity, verity, block group tree.
const COMPAT_RO_KNOWN: u64 = 0xf;

/// The fields that lead to the trees.
pub(super) struct Superblock {
    /// What every metadata block carries.
    pub(super) fsid: [u8; 16],
    pub(super) root: Root,
    pub(super) chunk_root: Root,
    pub(super) bytes_used: u64,
    pub(super) sector_size: u64,
    pub(super) node_size: u64,
    pub(super) device: u64,
    pub(super) device_size: u64,
    /// Bytes of chunks on the device.
    pub(super) device_used: u64,
    /// The system chunks, which the chunk tree itself is in.
    pub(super) system_chunks: Vec<u8>,
    compat_ro: u64,
    incompat: u64,
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let raw = volume.bytes_at(OFFSET, 4096)?;
    let sb = Fields(&raw);
    Ok(Label {
        uuid: sb.uuid(32)?,
        label: sb.text(299, 256)?,
    })
}

/// Whether the kernel mounts it for writing and lets its only device grow. A log tree is replayed then.
pub(super) fn check_growth(volume: &dyn ReadAt, to: u64) -> Result<(), Untrusted> {
    /// The kernel refuses to resize to less (Linux `btrfs_ioctl_resize`).
    const LEAST: u64 = 256 << 20;
    let raw = volume.bytes_at(OFFSET, 4096)?;
    let sb = Fields(&raw);
    if sb.u16(196)? == 0 {
        check_crc(&raw, "superblock")?;
    }
    let (devices, flags) = (sb.u64(136)?, sb.u64(56)?);
    if devices != 1 {
        return Err(Untrusted::new(format!("it spans {devices} devices")));
    }
    let (incompat, compat_ro) = (sb.u64(188)?, sb.u64(180)?);
    if flags & !FLAGS_KNOWN != 0
        || incompat & !INCOMPAT_KNOWN != 0
        || compat_ro & !COMPAT_RO_KNOWN != 0
    {
        return Err(unknown(flags, incompat, compat_ro));
    }
    if sb.u64(209)? > volume.size() {
        return Err(Untrusted::new("it says it is larger than the partition"));
    }
    if to < LEAST {
        return Err(Untrusted::new(
            "the kernel lets none grow to less than 256 MiB",
        ));
    }
    Ok(())
}

fn unknown(flags: u64, incompat: u64, compat_ro: u64) -> Untrusted {
    Untrusted::new(format!(
        "it has unknown features (flags {flags:#x}, incompat {incompat:#x}, compat_ro {compat_ro:#x})"
    ))
}

impl Superblock {
    pub(super) fn read(volume: &dyn ReadAt) -> Result<Self, Untrusted> {
        let raw = volume.bytes_at(OFFSET, 4096)?;
        let sb = Fields(&raw);
        if sb.u16(196)? != 0 {
            return Err(Untrusted::new("its checksums are not CRC32C"));
        }
        check_crc(&raw, "superblock")?;
        if sb.u64(48)? != OFFSET || sb.slice(64, 8)? != MAGIC {
            return Err(Untrusted::new("its superblock is out of place"));
        }
        if sb.u64(96)? != 0 {
            return Err(Untrusted::new("its log tree needs to be replayed"));
        }
        if sb.u64(136)? != 1 {
            return Err(Untrusted::new(format!("it spans {} devices", sb.u64(136)?)));
        }
        let incompat = sb.u64(188)?;
        let uuid_at = if incompat & INCOMPAT_METADATA_UUID != 0 {
            571
        } else {
            32
        };
        let mut fsid = [0; 16];
        fsid.copy_from_slice(sb.slice(uuid_at, 16)?);
        let root = |at: usize, level: usize, generation: usize, owner| -> Result<Root, Untrusted> {
            Ok(Root {
                logical: sb.u64(at)?,
                level: sb.u8(level)?,
                generation: sb.u64(generation)?,
                owner,
            })
        };
        let system_size = usize::try_from(sb.u32(160)?.min(2048)).unwrap_or(2048);
        let superblock = Self {
            fsid,
            root: root(80, 198, 72, ROOT_TREE)?,
            chunk_root: root(88, 199, 164, CHUNK_TREE)?,
            bytes_used: sb.u64(120)?,
            sector_size: u64::from(sb.u32(144)?),
            node_size: u64::from(sb.u32(148)?),
            device: sb.u64(201)?,
            device_size: sb.u64(209)?,
            device_used: sb.u64(217)?,
            system_chunks: sb.slice(811, system_size)?.to_vec(),
            compat_ro: sb.u64(180)?,
            incompat,
        };
        superblock.check(sb.u64(56)?, volume.size())?;
        Ok(superblock)
    }

    pub(super) fn has_block_group_tree(&self) -> bool {
        self.compat_ro & COMPAT_RO_BLOCK_GROUP_TREE != 0
    }

    fn check(&self, flags: u64, volume: u64) -> Result<(), Untrusted> {
        if flags & !FLAGS_KNOWN != 0
            || self.incompat & !INCOMPAT_KNOWN != 0
            || self.compat_ro & !COMPAT_RO_KNOWN != 0
        {
            return Err(unknown(flags, self.incompat, self.compat_ro));
        }
        let sizes_fit = self.sector_size.is_power_of_two()
            && (512..=65536).contains(&self.sector_size)
            && self.node_size.is_power_of_two()
            && (self.sector_size..=65536).contains(&self.node_size)
            && self.device != 0;
        if !sizes_fit {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        if self.device_size > volume {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        Ok(())
    }
}

/// Checks the checksum that the first 32 bytes of every block have room for.
pub(super) fn check_crc(block: &[u8], what: &str) -> Result<(), Untrusted> {
    let fields = Fields(block);
    let covered = fields.slice(32, block.len().saturating_sub(32))?;
    if crc32c::crc32c(covered) != fields.u32(0)? {
        return Err(Untrusted::new(format!(
            "the checksum of its {what} is wrong"
        )));
    }
    Ok(())
}
