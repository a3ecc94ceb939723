//! What the calls take and give, as the kernel lays it out (linux/btrfs.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Bytes of a name in a call, its zero included: `BTRFS_PATH_NAME_MAX` + 1, and `BTRFS_SUBVOL_NAME_MAX` + 1.
const NAME_MOST: usize = 4088;
const NAME_V2_MOST: usize = 4040;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// Of [`Info`].
pub const IS_READ_ONLY: u64 = 1;
/// Places in one answer about subvolumes within another.
const REFERENCES: usize = 255;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub struct Named {
    fd: i64,
    name: [u8; NAME_MOST],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
pub struct NamedV2 {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_V2_MOST],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub struct Info {
    pub tree: u64,
    name: [u8; 256],
    parent: u64,
    folder: u64,
    generation: u64,
    pub flags: u64,
    /// Its own, that of the one that it is a snapshot of, and that of the one that it was received of.
    pub uuids: [[u8; 16]; 3],
    pub changed: u64,
    others: [u64; 3],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

impl Default for Info {
    fn default() -> Self {
        Self {
            tree: 0,
            name: [0; 256],
            parent: 0,
            folder: 0,
            generation: 0,
            flags: 0,
            uuids: [[0; 16]; 3],
            changed: 0,
            others: [0; 3],
            times: [[0; 2]; 4],
            reserved: [0; 8],
        }
    }
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
pub struct References {
    least: u64,
    /// The number of a subvolume, and that of the folder that it is in.
    found: [[u64; 2]; REFERENCES],
    count: u8,
    align: [u8; 7],
}

impl Default for References {
    fn default() -> Self {
        Self {
            least: 0,
            found: [[0; 2]; REFERENCES],
            count: 0,
            align: [0; 7],
        }
    }
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
pub struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

mod calls {
    use super::{Info, Lookup, Named, NamedV2, References};
    nix::ioctl_write_ptr!(create, 0x94, 14, Named);
    nix::ioctl_write_ptr!(delete, 0x94, 15, Named);
    nix::ioctl_readwrite!(lookup, 0x94, 18, Lookup);
    nix::ioctl_write_ptr!(make_default, 0x94, 19, u64);
    nix::ioctl_write_ptr!(snapshot, 0x94, 23, NamedV2);
    nix::ioctl_read!(subvolume_info, 0x94, 60, Info);
    nix::ioctl_readwrite!(references, 0x94, 61, References);
}
pub use calls::{create, delete, make_default, references, snapshot, subvolume_info};

fn filled<const N: usize>(name: &[u8]) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // The last byte stays zero.
    let room = bytes[..N - 1].get_mut(..name.len());
    room.ok_or(io::ErrorKind::InvalidFilename)?
        .copy_from_slice(name);
    Ok(bytes)
}

impl Named {
    pub fn new(name: &[u8]) -> io::Result<Self> {
        Ok(Self {
            fd: 0,
            name: filled(name)?,
        })
    }
}

impl NamedV2 {
    pub fn new(of: RawFd, name: &[u8], read_only: bool) -> io::Result<Self> {
        Ok(Self {
            fd: of.into(),
            transaction: 0,
            flags: if read_only { READ_ONLY } else { 0 },
            unused: [0; 4],
            name: filled(name)?,
        })
    }
}

impl References {
    /// How many the last answer has.
    pub fn count(&self) -> usize {
        usize::from(self.count).min(REFERENCES)
    }

    /// The folders of the last answer.
    pub fn folders(&self) -> impl Iterator<Item = u64> {
        self.found[..self.count()].iter().map(|[_, folder]| *folder)
    }
}

/// Where a folder of the subvolume `tree` is, as a path from its top.
///
/// # Errors
/// As the kernel has them.
pub fn path_of(subvolume: BorrowedFd, tree: u64, folder: u64) -> io::Result<Vec<u8>> {
    let mut argument = Lookup {
        tree,
        object: folder,
        name: [0; 4080],
    };
    // SAFETY: the descriptor is open, and the kernel reads and writes one btrfs_ioctl_ino_lookup_args of its size.
    unsafe { calls::lookup(subvolume.as_raw_fd(), &raw mut argument) }?;
    let end = argument.name.iter().position(|byte| *byte == 0);
    let path = &argument.name[..end.unwrap_or(argument.name.len())];
    Ok(path.strip_suffix(b"/").unwrap_or(path).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<NamedV2>(), 4096);
        assert_eq!(size_of::<Info>(), 504);
        assert_eq!(size_of::<References>(), 4096);
        assert_eq!(size_of::<Lookup>(), 4096);
    }

    #[test]
    fn a_name_that_is_too_long_is_none() {
        assert!(Named::new(&[b'x'; NAME_MOST]).is_err());
        assert!(Named::new(&[b'x'; NAME_MOST - 1]).is_ok());
    }
}
