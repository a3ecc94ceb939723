//! extlinux, installed by its own program into the folder of its configuration.

use crate::root::Root;
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::table::TableKind;
use pitstop_imaging::tools;

pub const PROGRAM: &str = "extlinux";
/// Where distributions have what starts the active partition.
pub const CODE_FOLDERS: [&str; 4] = [
    "/usr/lib/EXTLINUX",
    "/usr/lib/syslinux/mbr",
    "/usr/share/syslinux",
    "/usr/lib/syslinux/bios",
];
/// The code of a boot sector ends where the disk's signature begins.
pub const CODE_MOST: usize = 440;

/// The file with the code for a kind of table, and the flag of the partition that it starts.
pub fn code_and_flag(table: TableKind) -> (&'static str, &'static str) {
    match table {
        TableKind::Gpt => ("gptmbr.bin", "legacy-boot"),
        TableKind::Mbr | TableKind::None => ("mbr.bin", "boot"),
    }
}

/// Has the program write its loader to the filesystem that `folder` is on.
///
/// # Errors
/// When the program is missing or fails.
pub fn install(root: &Root, folder: &str, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let path = root.path().join(folder.trim_start_matches('/'));
    let arguments = ["--install".into(), path.into_os_string()];
    tools::run(PROGRAM, &arguments, 0, reporter).context("installing extlinux")
}
