//! What UEFI starts: the loaders are files of the tree. The one that every firmware looks for on a disk without an entry is added where
//! it is missing, and entries name the others.

use super::grub;
use pitstop_imaging::efi::Loader;

/// Where firmware looks on a disk that it has no entry for (UEFI 2.10 3.5.1.1), for the processors of `uname -m`.
const FALLBACKS: [(&str, &str); 5] = [
    ("x86_64", "x64"),
    ("aarch64", "aa64"),
    ("i686", "ia32"),
    ("armv7l", "arm"),
    ("riscv64", "riscv64"),
];
/// Loaders by their names without the processor, the one that starts the others first.
const KNOWN: [&str; 3] = ["shim", "grub", "systemd-boot"];
/// What shim needs beside it.
const BESIDE_SHIM: [&str; 2] = ["grub", "mm"];

/// A file of the EFI system partition, as a path in it with `/`.
type File = String;

/// The loaders on one EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The main one, which is started by an entry.
    pub main: Option<File>,
    /// Whether a firmware without an entry finds one.
    pub has_fallback: bool,
    /// What is copied so that it does: from, to.
    pub copies: Vec<(File, File)>,
}

/// Looks which of `files`, all of an EFI system partition, start a system for processors `architecture`.
pub fn look(files: &[File], architecture: &str) -> Found {
    let known = FALLBACKS.iter().find(|(name, _)| *name == architecture);
    let Some((_, processor)) = known else {
        return Found::default();
    };
    let fallback = format!("EFI/BOOT/BOOT{}.EFI", processor.to_ascii_uppercase());
    let is = |file: &File, wanted: &str| file.eq_ignore_ascii_case(wanted);
    let has_fallback = files.iter().any(|file| is(file, &fallback));
    let main = main(files, processor);
    let mut copies = Vec::new();
    if let Some(main) = &main
        && !has_fallback
    {
        copies.push((main.clone(), fallback.clone()));
        if is_named(main, "shim", processor) {
            let beside = BESIDE_SHIM.iter().filter_map(|name| {
                let wanted = format!("{}/{name}{processor}.efi", folder(main));
                let found = files.iter().find(|file| is(file, &wanted))?;
                Some((found.clone(), format!("EFI/BOOT/{name}{processor}.efi")))
            });
            copies.extend(beside);
        }
    }
    Found {
        main,
        has_fallback,
        copies,
    }
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn is_named(file: &str, name: &str, processor: &str) -> bool {
    let last = file.rsplit('/').next().unwrap_or(file);
    last.eq_ignore_ascii_case(&format!("{name}{processor}.efi"))
}

fn main(files: &[File], processor: &str) -> Option<File> {
    let is_in = |file: &File, folder: &str| {
        let head = file.get(..folder.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(folder))
    };
    let of_vendor = |file: &&File| is_in(file, "EFI/") && !is_in(file, "EFI/BOOT/");
    for name in KNOWN {
        let mut named = files.iter().filter(of_vendor);
        if let Some(found) = named.find(|file| is_named(file, name, processor)) {
            return Some(found.clone());
        }
    }
    // A kernel that starts by itself; names grow with their versions.
    let kernels = files.iter().filter(|file| is_in(file, "EFI/Linux/"));
    kernels.max().cloned()
}

/// The entry for a loader on partition `partition`, which the firmware's menu calls `name`.
pub fn entry(file: &str, partition: u32, name: &str) -> Loader {
    Loader {
        partition,
        path: format!("\\{}", file.replace('/', "\\")),
        description: name.to_owned(),
    }
}

/// Why a GRUB does not find its folder, which is on partition `number`, or on `place` that it needs `modules` for.
pub fn lost(program: &[u8], number: Option<u32>, place: &str, modules: &[&str]) -> Option<String> {
    let named = grub::partitions_named(program);
    if let Some(first) = named.first()
        && !number.is_some_and(|number| named.contains(&number))
    {
        return Some(format!(
            "it looks for its files on partition {first}, and they are on {place} of this disk"
        ));
    }
    let mut lacking = modules
        .iter()
        .filter(|name| !grub::has_module(program, name));
    let lacking = lacking.next()?;
    Some(format!(
        "its files are on {place} of this disk, and it has no {lacking} to read that. Debian's signed one has it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<File> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn pair(from: &str, to: &str) -> (File, File) {
        (from.into(), to.into())
    }

    #[test]
    fn the_loader_that_starts_the_others_is_found_and_copied() {
        let debian = files(&[
            "EFI/debian/BOOTX64.CSV",
            "EFI/debian/grubx64.efi",
            "EFI/debian/mmx64.efi",
            "EFI/debian/shimx64.efi",
        ]);
        let found = look(&debian, "x86_64");
        assert_eq!(found.main.as_deref(), Some("EFI/debian/shimx64.efi"));
        assert_eq!(
            found.copies,
            [
                pair("EFI/debian/shimx64.efi", "EFI/BOOT/BOOTX64.EFI"),
                pair("EFI/debian/grubx64.efi", "EFI/BOOT/grubx64.efi"),
                pair("EFI/debian/mmx64.efi", "EFI/BOOT/mmx64.efi")
            ]
        );
        let systemd = files(&["EFI/BOOT/BootX64.efi", "EFI/systemd/systemd-bootx64.efi"]);
        let found = look(&systemd, "x86_64");
        assert!(found.has_fallback && found.copies.is_empty());
        assert_eq!(
            found.main.as_deref(),
            Some("EFI/systemd/systemd-bootx64.efi")
        );
        // For another processor there is nothing.
        assert_eq!(look(&debian, "aarch64"), Found::default());
        let kernels = files(&["EFI/Linux/a-6.1.efi", "EFI/Linux/a-6.12.efi"]);
        let main = look(&kernels, "aarch64").main;
        assert_eq!(main.as_deref(), Some("EFI/Linux/a-6.12.efi"));
    }

    #[test]
    fn entries_are_written_as_firmware_reads_them() {
        let entry = entry("EFI/debian/shimx64.efi", 1, "debian");
        assert_eq!(entry.path, "\\EFI\\debian\\shimx64.efi");
    }

    #[test]
    fn a_grub_that_looks_elsewhere_is_told() {
        let partition = |program: &[u8], number| {
            lost(program, Some(number), &format!("partition {number}"), &[])
        };
        assert_eq!(partition(b"..(,gpt2)/boot/grub", 2), None);
        assert_eq!(partition(b"../EFI/debian", 2), None);
        let volume = |program: &[u8]| lost(program, None, "volume vg0/root", &["lvm"]);
        assert_eq!(volume(b"../EFI/debian\0lvm\0"), None);
        let why = volume(b"../EFI/debian\0lvmid\0").unwrap();
        assert!(
            why.contains("on volume vg0/root of this disk, and it has no lvm"),
            "{why}"
        );
        assert!(volume(b"(,gpt2)/boot/grub\0lvm\0").is_some());
        let why = partition(b"..(,gpt2)/boot/grub", 3).unwrap();
        assert!(
            why.contains("on partition 2, and they are on partition 3"),
            "{why}"
        );
    }
}
