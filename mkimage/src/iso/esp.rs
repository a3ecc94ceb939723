//! The EFI system partition of a boot medium: a FAT file system with one program, made in memory.

use crate::arch::Architecture;
use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use std::io::{Cursor, Write};

/// Besides the program: the boot sector, the root and two folders.
const OVERHEAD: usize = 1 << 20;

/// A file system that holds `program` where every UEFI firmware looks on removable media
/// (UEFI 2.10, 3.5.1.1). The same program gives the same bytes.
pub fn with(program: &[u8], architecture: Architecture) -> Result<Vec<u8>> {
    // Two tables take eight bytes for each cluster, which has 512 bytes at least.
    let size = (program.len() + program.len() / 32 + OVERHEAD).next_multiple_of(1 << 20);
    let mut disk = Cursor::new(vec![0; size]);
    let options = FormatVolumeOptions::new()
        .volume_id(0x5049_5453)
        .volume_label(*b"PITSTOP EFI");
    fatfs::format_volume(&mut disk, options).context("making the EFI system partition")?;
    let system = FileSystem::new(&mut disk, FsOptions::new())?;
    {
        let folder = system.root_dir().create_dir("EFI")?.create_dir("BOOT")?;
        let mut file = folder.create_file(architecture.loader())?;
        file.write_all(program)
            .context("writing to the EFI system partition")?;
        file.flush()?;
    }
    system.unmount()?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_program_is_where_firmware_looks_and_the_bytes_are_the_same_again() {
        for (size, architecture, loader) in [
            (1000, Architecture::X86_64, "EFI/BOOT/BOOTX64.EFI"),
            (3 << 20, Architecture::X86_64, "EFI/BOOT/BOOTX64.EFI"),
            (40 << 20, Architecture::Arm64, "EFI/BOOT/BOOTAA64.EFI"),
        ] {
            let program: Vec<u8> = (0u8..=250).cycle().take(size).collect();
            let mut image = with(&program, architecture).unwrap();
            assert_eq!(image, with(&program, architecture).unwrap());
            let system = FileSystem::new(Cursor::new(&mut image), FsOptions::new()).unwrap();
            let mut file = system.root_dir().open_file(loader).unwrap();
            let mut found = Vec::new();
            file.read_to_end(&mut found).unwrap();
            assert_eq!(found, program);
        }
    }
}
