//! GRUB for BIOS: its two images put where `grub-bios-setup` puts them. Pure.
//!
//! `boot.img` is the code of the boot sector; it loads the first sector of `core.img`, which loads the rest of it. Both are told where
//! that is (GRUB's `include/grub/i386/pc/boot.h` and `grub-core/boot/i386/pc/diskboot.S`).

use anyhow::{bail, ensure};
use std::ops::Range;

/// The only sectors that GRUB boots from by BIOS.
pub const SECTOR: u64 = 512;
const SIZE: usize = 512;

/// In `boot.img`: the jump over what a filesystem may have there, and the code behind that.
const JUMP: Range<usize> = 0..3;
const CODE: Range<usize> = 0x5a..0x1b8;
/// Where the first sector of `core.img` is on the disk: u64.
const KERNEL_SECTOR: Range<usize> = 0x5c..0x64;
/// A jump. Without it the code mends the number of the drive that some BIOSes tell wrongly, as GRUB's own setup does it for hard disks.
const DRIVE_CHECK: Range<usize> = 0x66..0x68;
const NOTHING: [u8; 2] = [0x90, 0x90];
const SIGNATURE: Range<usize> = 510..512;

/// In the first sector of `core.img`, at its end: where the rest is. First sector (u64), how many (u16), and the segment that they are
/// loaded to (u16). The list grows downwards, and ends with no sectors.
const LIST: Range<usize> = 0x1f4..0x200;
const LIST_END: Range<usize> = 0x1e8..0x1f4;
const SEGMENT: u16 = 0x820;

/// GRUB's two images.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    boot: Vec<u8>,
    core: Vec<u8>,
}

impl Images {
    /// # Errors
    /// When they are not what GRUB makes for BIOS.
    pub fn new(boot: Vec<u8>, core: Vec<u8>) -> anyhow::Result<Self> {
        ensure!(
            boot.len() == SIZE && boot[SIGNATURE] == [0x55, 0xaa] && boot[0] == 0xeb,
            "its boot.img is none of GRUB's"
        );
        let segment = core.get(LIST.end - 2..LIST.end);
        ensure!(
            core.len() > SIZE && segment == Some(&SEGMENT.to_le_bytes()[..]),
            "its core.img is none that GRUB makes for BIOS"
        );
        Ok(Self { boot, core })
    }

    /// Bytes that `core.img` takes.
    pub fn core_size(&self) -> u64 {
        self.core.len() as u64
    }

    /// `core.img` for a place that begins at byte `at` of the disk, in whole sectors.
    ///
    /// # Errors
    /// When it has too many sectors for its own list.
    pub fn core(&self, at: u64) -> anyhow::Result<Vec<u8>> {
        let mut core = self.core.clone();
        core.resize(core.len().next_multiple_of(SIZE), 0);
        let Ok(rest) = u16::try_from(core.len() / SIZE - 1) else {
            bail!("its core.img is too large to be loaded");
        };
        let next = at / SECTOR + 1;
        core[LIST_END].fill(0);
        core[LIST.start..LIST.start + 8].copy_from_slice(&next.to_le_bytes());
        core[LIST.start + 8..LIST.start + 10].copy_from_slice(&rest.to_le_bytes());
        core[LIST.start + 10..LIST.end].copy_from_slice(&SEGMENT.to_le_bytes());
        Ok(core)
    }

    /// The boot sector of a disk whose first sector is `sector`: table and signature stay as they are. `at` is where `core.img` begins.
    pub fn boot_sector(&self, mut sector: [u8; SIZE], at: u64) -> [u8; SIZE] {
        sector[JUMP].copy_from_slice(&self.boot[JUMP]);
        sector[CODE].copy_from_slice(&self.boot[CODE]);
        sector[KERNEL_SECTOR].copy_from_slice(&(at / SECTOR).to_le_bytes());
        sector[DRIVE_CHECK].copy_from_slice(&NOTHING);
        sector[SIGNATURE].copy_from_slice(&[0x55, 0xaa]);
        sector
    }
}

/// The numbers of partitions that a GRUB for UEFI looks for its folder on, beside the disk that it was started from: `(,gpt2)/boot/grub`.
/// One that searches by UUID, as signed ones do, has none.
pub fn partitions_named(program: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for start in ["(,gpt", "(,msdos"] {
        let mut rest = program;
        while let Some(at) = find(rest, start.as_bytes()) {
            rest = &rest[at + start.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            let digits: String = digits.map(|byte| char::from(*byte)).collect();
            let closed = rest.get(digits.len()..digits.len() + 2) == Some(b")/");
            if let Ok(number) = digits.parse()
                && closed
            {
                found.push(number);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a GRUB for UEFI has a module in it. Each has its name in a section of its own, as a text with a zero at its end.
pub fn has_module(program: &[u8], name: &str) -> bool {
    find(program, format!("\0{name}\0").as_bytes()).is_some()
}

/// Whether a program for UEFI is GRUB, whatever its name is: this prompt is in the part that every one has.
pub fn is_grub(program: &[u8]) -> bool {
    find(program, b"grub rescue> ").is_some()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn made(format: &str, prefix: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("core");
        let made = Command::new("grub-mkimage")
            .args(["-O", format, "-p", prefix, "-o"])
            .arg(&path)
            .args(["part_gpt", "ext2"])
            .output()
            .unwrap();
        assert!(made.status.success());
        fs::read(path).unwrap()
    }

    #[test]
    fn both_images_are_told_where_the_next_one_is() {
        let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap();
        let core = made("i386-pc", "(,gpt2)/boot/grub");
        let images = Images::new(boot.clone(), core.clone()).unwrap();
        let mut before = [0; 512];
        before[3..0x5a].fill(1);
        before[0x1b8..510].fill(2);
        let sector = images.boot_sector(before, 2048 * 512);
        assert_eq!(sector[..3], boot[..3]);
        assert_eq!(sector[3..0x5a], before[3..0x5a]);
        assert_eq!(sector[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(sector[0x68..0x1b8], boot[0x68..0x1b8]);
        assert_eq!(sector[0x1b8..510], before[0x1b8..510]);
        assert_eq!(sector[510..], [0x55, 0xaa]);
        let placed = images.core(2048 * 512).unwrap();
        assert_eq!(placed[..0x1e8], core[..0x1e8]);
        assert_eq!(placed[0x1f4..0x1fc], 2049u64.to_le_bytes());
        let sectors = u16::from_le_bytes([placed[0x1fc], placed[0x1fd]]);
        assert_eq!((usize::from(sectors) + 1) * 512, placed.len());
        assert_eq!(placed[512..core.len()], core[512..]);
    }

    #[test]
    fn what_grub_did_not_make_is_refused() {
        let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap();
        let core = made("i386-pc", "/boot/grub");
        assert!(Images::new(vec![0; 512], core.clone()).is_err());
        assert!(Images::new(boot[..511].to_vec(), core.clone()).is_err());
        assert!(Images::new(boot.clone(), core[..512].to_vec()).is_err());
        assert!(Images::new(boot.clone(), made("x86_64-efi", "/boot/grub")).is_err());
        let huge = [core, vec![1; 33 << 20]].concat();
        assert!(Images::new(boot, huge).unwrap().core(512).is_err());
    }

    #[test]
    fn a_grub_for_uefi_tells_which_partition_it_looks_for() {
        assert_eq!(
            partitions_named(&made("x86_64-efi", "(,gpt12)/boot/grub")),
            [12]
        );
        assert_eq!(partitions_named(&made("x86_64-efi", "/EFI/debian")), [0; 0]);
        assert_eq!(partitions_named(b"(,gpt)/ (,gpt1 (,msdos3)/x"), [3]);
    }

    #[test]
    fn a_grub_for_uefi_is_known_by_what_is_in_it() {
        let program = made("x86_64-efi", "/boot/grub");
        assert!(is_grub(&program) && has_module(&program, "ext2"));
        assert!(!has_module(&program, "lvm"));
        assert!(!is_grub(b"\\EFI\\debian\\grubx64.efi"));
    }
}
