//! Where a filesystem ends, by its superblock. What lies behind may be somebody else's, such as the hashes of dm-verity;
//! where it ends behind its partition, it claims what is a neighbour's.

use super::Filesystem;
use crate::extents::Extents;
use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::Fields;
use std::io;

/// The kernel's `Documentation/filesystems/ext4/super.rst`.
const EXT_SUPERBLOCK: u64 = 1024;
const EXT_64BIT: u32 = 0x80;
/// `btrfs_super_block`: where it is, and its `dev_item.total_bytes`.
const BTRFS_SUPERBLOCK: u64 = 64 << 10;
const BTRFS_TOTAL_BYTES: u64 = 0xc9 + 8;
const F2FS_SUPERBLOCK: u64 = 1024;

/// The bytes of `volume` that are `filesystem`'s own, and those behind it that it says are.
///
/// # Errors
/// When its superblock cannot be read, or has an impossible size.
pub fn owned(filesystem: Filesystem, volume: &dyn ReadAt) -> io::Result<Extents> {
    let size = volume.size();
    let end = end(filesystem, volume).map_err(|doubt| match doubt {
        Untrusted::Read(error) => error,
        Untrusted::Refused(why) => io::Error::new(io::ErrorKind::InvalidData, why),
    })?;
    let mut owned = Extents::single(0..end);
    if filesystem == Filesystem::Ntfs {
        // The copy of the boot sector lies behind the last sector that counts, or at the partition's end.
        let raw = volume.bytes_at(0x0b, 2)?;
        let sector = raw
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        owned.insert(size.saturating_sub(sector)..size);
    }
    Ok(owned)
}

/// One past the last byte that the filesystem has.
pub(in crate::used) fn end(filesystem: Filesystem, volume: &dyn ReadAt) -> Result<u64, Untrusted> {
    let block = |at, length| volume.bytes_at(at, length).map_err(Untrusted::from);
    Ok(match filesystem {
        Filesystem::Ext => {
            let raw = block(EXT_SUPERBLOCK, 1024)?;
            let sb = Fields(&raw);
            let low = u64::from(sb.u32(4)?);
            let high = if sb.u32(0x60)? & EXT_64BIT == 0 {
                0
            } else {
                u64::from(sb.u32(0x150)?)
            };
            let shift = sb.u32(0x18)?;
            if shift > 6 {
                return Err(Untrusted::new(
                    "its superblock has an impossible block size",
                ));
            }
            (high << 32 | low).saturating_mul(1024 << shift)
        }
        Filesystem::Btrfs => {
            let raw = block(BTRFS_SUPERBLOCK + BTRFS_TOTAL_BYTES, 8)?;
            Fields(&raw).u64(0)?
        }
        Filesystem::Ntfs => {
            let raw = block(0, 512)?;
            let boot = Fields(&raw);
            let sectors = boot.u64(0x28)?.saturating_add(1);
            sectors.saturating_mul(boot.u16(0x0b)?.into())
        }
        Filesystem::Xfs => {
            let raw = block(0, 512)?;
            let sb = Fields(&raw);
            sb.u64_be(8)?.saturating_mul(sb.u32_be(4)?.into())
        }
        Filesystem::Exfat => {
            let raw = block(0, 512)?;
            let boot = Fields(&raw);
            let shift = boot.u8(108)?;
            let sector = 1_u64.checked_shl(shift.into()).unwrap_or(0);
            boot.u64(72)?.saturating_mul(sector)
        }
        Filesystem::Fat => {
            let raw = block(0, 512)?;
            let bpb = Fields(&raw);
            let sectors = match bpb.u16(19)? {
                0 => u64::from(bpb.u32(32)?),
                few => u64::from(few),
            };
            sectors.saturating_mul(bpb.u16(11)?.into())
        }
        Filesystem::F2fs => {
            let raw = block(F2FS_SUPERBLOCK, 512)?;
            let sb = Fields(&raw);
            let shift = sb.u32(16)?;
            let size = 1_u64.checked_shl(shift).unwrap_or(0);
            sb.u64(36)?.saturating_mul(size)
        }
        Filesystem::Swap => {
            let pages = u64::from(Fields(&block(1028, 4)?).u32(0)?) + 1;
            let page = (12..=16).map(|shift| 1_u64 << shift).find(|page| {
                block(page - 10, 10).is_ok_and(|signature| signature == b"SWAPSPACE2")
            });
            pages.saturating_mul(page.unwrap_or(4096))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use std::io::Cursor;

    const SIZE: u64 = 1 << 20;

    fn owned_with(filesystem: Filesystem, fields: &[(usize, &[u8])]) -> Extents {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        for (at, field) in fields {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        let mut cursor = Cursor::new(bytes);
        owned(filesystem, &Disk::new(&mut cursor, SIZE)).unwrap()
    }

    #[test]
    fn ext_ends_behind_its_last_block() {
        let blocks = (1024 + 4, &100_u32.to_le_bytes()[..]);
        let block = (1024 + 0x18, &[2, 0, 0, 0][..]);
        let high = (1024 + 0x150, &[1, 0, 0, 0][..]);
        let large = (1024 + 0x60, &[0xc2, 2, 0, 0][..]);
        assert_eq!(
            owned_with(Filesystem::Ext, &[blocks, block, high]),
            Extents::single(0..409_600)
        );
        // More than the volume has: that is a neighbour's.
        assert_eq!(
            owned_with(Filesystem::Ext, &[blocks, block, high, large]).end(),
            (1 << 44) + 409_600
        );
    }

    #[test]
    fn btrfs_ends_where_its_device_does() {
        let total = (0x1_00d1, &700_000_u64.to_le_bytes()[..]);
        assert_eq!(
            owned_with(Filesystem::Btrfs, &[total]),
            Extents::single(0..700_000)
        );
    }

    #[test]
    fn ntfs_has_a_copy_of_its_boot_sector_behind_it() {
        let sector = (0x0b, &512_u16.to_le_bytes()[..]);
        let sectors = (0x28, &999_u64.to_le_bytes()[..]);
        let mut all = Extents::single(0..512_000);
        all.insert(SIZE - 512..SIZE);
        assert_eq!(owned_with(Filesystem::Ntfs, &[sector, sectors]), all);
    }

    #[test]
    fn the_others_end_as_their_headers_say() {
        for (filesystem, fields, end) in [
            (
                Filesystem::Xfs,
                &[(4, &[0, 0, 0x10, 0][..]), (15, &[100])][..],
                409_600,
            ),
            (Filesystem::Exfat, &[(72, &[0, 4]), (108, &[9])], 524_288),
            (Filesystem::Fat, &[(11, &[0, 2]), (19, &[0, 4])], 524_288),
            (Filesystem::Fat, &[(11, &[0, 2]), (32, &[0, 4])], 524_288),
            (
                Filesystem::F2fs,
                &[(1024 + 16, &[12]), (1024 + 36, &[100])],
                409_600,
            ),
            (Filesystem::Swap, &[(1028, &[99])], 409_600),
            (
                Filesystem::Swap,
                &[(1028, &[9]), (16374, b"SWAPSPACE2")],
                163_840,
            ),
        ] {
            let owned = owned_with(filesystem, fields);
            assert_eq!(owned, Extents::single(0..end), "{filesystem:?}");
        }
    }
}
