//! The block device ioctls of `linux/fs.h` and `linux/loop.h`, each as one safe call.

use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

mod raw {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    nix::ioctl_read_bad!(blksszget, super::libc::BLKSSZGET, super::libc::c_int);
    nix::ioctl_read_bad!(blkpbszget, super::libc::BLKPBSZGET, super::libc::c_uint);
    nix::ioctl_read_bad!(
        blkroget,
        nix::request_code_none!(0x12, 94),
        super::libc::c_int
    );
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_none!(blkflsbuf, 0x12, 97);
    nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(blksecdiscard, nix::request_code_none!(0x12, 125), [u64; 2]);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, super::LoopConfig);
    nix::ioctl_read_bad!(loop_get_status64, 0x4c05, [u64; 29]);
}

fn done(result: Result<libc::c_int, Errno>) -> io::Result<()> {
    result.map(|_| ()).map_err(io::Error::from)
}

/// Bytes of the block device.
pub fn size(device: &File) -> io::Result<u64> {
    let mut size = 0;
    // SAFETY: the descriptor is open and the kernel writes one u64 to a live u64.
    done(unsafe { raw::blkgetsize64(device.as_raw_fd(), &raw mut size) })?;
    Ok(size)
}

/// Bytes that the device addresses as one.
pub fn logical_sector_size(device: &File) -> io::Result<u32> {
    let mut size = 0;
    // SAFETY: the descriptor is open and the kernel writes one int to a live int.
    done(unsafe { raw::blksszget(device.as_raw_fd(), &raw mut size) })?;
    u32::try_from(size).map_err(|_| io::Error::from(Errno::ERANGE))
}

/// Bytes that the device writes as one.
pub fn physical_sector_size(device: &File) -> io::Result<u32> {
    let mut size = 0;
    // SAFETY: the descriptor is open and the kernel writes one unsigned int to a live one.
    done(unsafe { raw::blkpbszget(device.as_raw_fd(), &raw mut size) })?;
    Ok(size)
}

/// Makes `length` bytes from `start` read as zeros; both are whole sectors. The kernel lets the
/// device do it, or writes them.
pub fn zero_out(device: &File, start: u64, length: u64) -> io::Result<()> {
    let range = [start, length];
    // SAFETY: the descriptor is open and the kernel reads two u64 from a live array.
    done(unsafe { raw::blkzeroout(device.as_raw_fd(), &raw const range) })
}

/// Tells the device that nobody needs `length` bytes from `start` any more; both are whole sectors.
pub fn discard(device: &File, start: u64, length: u64) -> io::Result<()> {
    let range = [start, length];
    // SAFETY: the descriptor is open and the kernel reads two u64 from a live array.
    done(unsafe { raw::blkdiscard(device.as_raw_fd(), &raw const range) })
}

/// The same, and has the device erase them so that nothing can bring them back.
pub fn discard_securely(device: &File, start: u64, length: u64) -> io::Result<()> {
    let range = [start, length];
    // SAFETY: the descriptor is open and the kernel reads two u64 from a live array.
    done(unsafe { raw::blksecdiscard(device.as_raw_fd(), &raw const range) })
}

/// Whether the kernel lets nobody write to the device.
pub fn is_write_protected(device: &File) -> io::Result<bool> {
    let mut protected = 0;
    // SAFETY: the descriptor is open and the kernel writes one int to a live one.
    done(unsafe { raw::blkroget(device.as_raw_fd(), &raw mut protected) })?;
    Ok(protected != 0)
}

/// Has the kernel read the partition table anew.
pub fn reread_table(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; this ioctl takes no argument.
    done(unsafe { raw::blkrrpart(device.as_raw_fd()) })
}

/// Drops what the kernel caches of the device, so that the next read asks the device.
pub fn drop_cache(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; this ioctl takes no argument.
    done(unsafe { raw::blkflsbuf(device.as_raw_fd()) })
}

/// `struct loop_config`, with its `struct loop_info64` and room for later fields as words.
#[repr(C)]
pub struct LoopConfig {
    file: u32,
    block_size: u32,
    device: [u64; 3],
    offset: u64,
    limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    rest: [u64; 30],
}

/// The number of a loop device that is free now. `control` is `/dev/loop-control`.
pub fn free_loop(control: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open; this ioctl takes no argument.
    let number = unsafe { raw::loop_ctl_get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| io::Error::from(Errno::ERANGE))
}

/// Makes the free loop `device`, with logical sectors of `sector` bytes, show `range` of `file`. It is free again when
/// nobody has it open any more.
pub fn set_up_loop(device: &File, file: &File, range: &Range<u64>, sector: u32) -> io::Result<()> {
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    let descriptor = u32::try_from(file.as_raw_fd()).map_err(|_| io::Error::from(Errno::EBADF))?;
    let config = LoopConfig {
        file: descriptor,
        block_size: sector,
        device: [0; 3],
        offset: range.start,
        limit: range.end - range.start,
        number: 0,
        encryption: [0; 2],
        flags: LO_FLAGS_AUTOCLEAR,
        rest: [0; 30],
    };
    // SAFETY: both descriptors are open and the kernel reads one loop_config from a live one of its size.
    done(unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) })
}

/// What a loop device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backing {
    /// The number of a block device; 0 for a file.
    pub device: u64,
    /// Of a file: the number of the device that its filesystem has, major and minor.
    pub filesystem: (u64, u64),
    pub inode: u64,
}

/// Which file or device the loop `device` shows.
pub fn loop_backing(device: &File) -> io::Result<Backing> {
    // `struct loop_info64` has 232 bytes: device, inode, device of a device, and what is not asked for here.
    let mut info = [0; 29];
    // SAFETY: the descriptor is open and the kernel writes one loop_info64 of 232 bytes to a live array of as many.
    done(unsafe { raw::loop_get_status64(device.as_raw_fd(), &raw mut info) })?;
    let [filesystem, inode, device, ..] = info;
    let (major, minor) = numbers(device);
    let device = if device == 0 {
        0
    } else {
        nix::sys::stat::makedev(major, minor)
    };
    Ok(Backing {
        device,
        filesystem: numbers(filesystem),
        inode,
    })
}

/// The kernel's own spelling of a device's number (`huge_encode_dev`).
fn numbers(device: u64) -> (u64, u64) {
    let major = (device & 0xf_ff00) >> 8;
    let minor = device & 0xff | (device >> 12) & 0xf_ff00;
    (major, minor)
}
