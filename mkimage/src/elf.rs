//! Programs: what they are built for, whether one is static, and which shared libraries one needs. The loader is never run to find out.

use crate::arch::Architecture;
use crate::input;
use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

type Header = FileHeader64<Endianness>;

/// What a program asks its loader for.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    architecture: Architecture,
    interpreter: Option<String>,
    libraries: Vec<String>,
    /// `DT_RUNPATH` and `DT_RPATH`, split at colons.
    search: Vec<String>,
}

/// What `data` is built for: an ELF program that runs with nothing beside it.
///
/// # Errors
/// If it is no program, or needs others.
pub fn require_static(data: &[u8], path: &Path) -> Result<Architecture> {
    let needs = needs(data)
        .with_context(|| format!("{} is no program of x86-64 or arm64", path.display()))?;
    if let Some(interpreter) = needs.interpreter {
        bail!(
            "{} is dynamic: it asks for {interpreter}, which the initramfs has not. Build it for {}",
            path.display(),
            needs.architecture.target()
        );
    }
    if let Some(library) = needs.libraries.first() {
        bail!("{} is dynamic: it needs {library}", path.display());
    }
    Ok(needs.architecture)
}

/// Fails where `data` does not run on the machines that the image is for.
pub fn require(architecture: Architecture, found: Architecture, path: &Path) -> Result<()> {
    ensure!(
        found == architecture,
        "{} is built for {found}, and the image for {architecture}: take that of {architecture}",
        path.display()
    );
    Ok(())
}

fn needs(data: &[u8]) -> Result<Needs> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let mut needs = Needs {
        architecture: Architecture::of_elf(header.e_machine(endian).0)?,
        interpreter: None,
        libraries: Vec::new(),
        search: Vec::new(),
    };
    let segments = header.program_headers(endian, data)?;
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
    }
    let mut found = Vec::new();
    let (mut strings_at, mut strings_size) = (0, 0);
    for segment in segments {
        for entry in segment.dynamic(endian, data)?.unwrap_or_default() {
            match entry.d_tag(endian) {
                elf::DT_STRTAB => strings_at = entry.d_val(endian),
                elf::DT_STRSZ => strings_size = entry.d_val(endian),
                tag @ (elf::DT_NEEDED | elf::DT_RUNPATH | elf::DT_RPATH) => {
                    found.push((tag, entry.d_val(endian)));
                }
                _ => {}
            }
        }
    }
    let strings = segments
        .iter()
        .find_map(|segment| {
            segment
                .data_range(endian, data, strings_at, strings_size)
                .ok()
                .flatten()
        })
        .unwrap_or_default();
    for (tag, offset) in found {
        let offset = usize::try_from(offset)?;
        let tail = strings
            .get(offset..)
            .context("a name lies outside the string table")?;
        let name: Vec<u8> = tail.iter().copied().take_while(|byte| *byte != 0).collect();
        let name = String::from_utf8(name).context("a library name is not UTF-8")?;
        if tag == elf::DT_NEEDED {
            needs.libraries.push(name);
        } else {
            needs.search.extend(name.split(':').map(str::to_owned));
        }
    }
    Ok(needs)
}

/// The program, its interpreter and all its libraries: path in the image, path here. All are of one architecture.
///
/// Libraries are looked for where the loader would: `DT_RUNPATH`, `/etc/ld.so.conf`, the standard folders.
pub fn with_libraries(
    program: &Path,
    architecture: Architecture,
) -> Result<BTreeMap<String, PathBuf>> {
    let standard = standard_folders(architecture);
    let mut files = BTreeMap::new();
    let mut queue = VecDeque::from([program.to_path_buf()]);
    while let Some(path) = queue.pop_front() {
        let inside = path
            .to_str()
            .with_context(|| format!("{} is not UTF-8", path.display()))?;
        if files.insert(inside.to_owned(), path.clone()).is_some() {
            continue;
        }
        let data = input::read(&path)?;
        let needs = needs(&data)
            .with_context(|| format!("{} is no program of x86-64 or arm64", path.display()))?;
        require(architecture, needs.architecture, &path)?;
        queue.extend(needs.interpreter.map(PathBuf::from));
        let origin = path
            .parent()
            .map(|p| p.display().to_string())
            .unwrap_or_default();
        let own = needs
            .search
            .iter()
            .map(|folder| folder.replace("${ORIGIN}", "$ORIGIN"))
            .map(|folder| PathBuf::from(folder.replace("$ORIGIN", &origin)));
        let folders: Vec<PathBuf> = own.chain(standard.iter().cloned()).collect();
        for library in needs.libraries {
            let at = folders
                .iter()
                .map(|folder| folder.join(&library))
                .find(|path| is_library(path, architecture));
            queue.push_back(at.with_context(|| {
                format!(
                    "{} needs {library}, which is in none of the library folders",
                    path.display()
                )
            })?);
        }
    }
    Ok(files)
}

/// As the loader sees it: a file for another architecture is passed over.
fn is_library(path: &Path, architecture: Architecture) -> bool {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    // EI_CLASS is ELFCLASS64; e_machine, little-endian, at 18 (System V gABI, ELF header).
    read.is_ok()
        && head.starts_with(b"\x7fELF\x02")
        && head.ends_with(&architecture.elf().to_le_bytes())
}

fn standard_folders(architecture: Architecture) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir("/etc/ld.so.conf.d")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files.insert(0, PathBuf::from("/etc/ld.so.conf"));
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        folders.extend(
            text.lines()
                .map(str::trim)
                .filter(|l| l.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    let usual = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
    folders.extend(
        architecture
            .library_folders()
            .into_iter()
            .chain(usual)
            .map(PathBuf::from),
    );
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        let shell = std::fs::read("/bin/sh").unwrap();
        let error = require_static(&shell, Path::new("/bin/sh")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/bin/sh is dynamic: it asks for /lib"),
            "{error}"
        );
        let busybox = std::fs::read("/bin/busybox").expect("install busybox-static");
        let built_for = require_static(&busybox, Path::new("/bin/busybox")).unwrap();
        assert_eq!(built_for, Architecture::X86_64);
        require(Architecture::X86_64, built_for, Path::new("busybox")).unwrap();
        let error = require(Architecture::Arm64, built_for, Path::new("busybox")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "busybox is built for x86-64, and the image for arm64: take that of arm64"
        );
        let error = require_static(b"#!/bin/sh\n", Path::new("script")).unwrap_err();
        assert_eq!(error.to_string(), "script is no program of x86-64 or arm64");
    }

    #[test]
    fn a_program_comes_with_its_loader_and_libraries() {
        let files = with_libraries(Path::new("/bin/sh"), Architecture::X86_64).unwrap();
        assert!(
            files.keys().any(|path| path.ends_with("libc.so.6")),
            "{files:?}"
        );
        assert!(
            files.keys().any(|path| path.contains("ld-linux-x86-64")),
            "{files:?}"
        );
    }

    #[test]
    fn a_library_of_another_architecture_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libc.so.6");
        let mut library = std::fs::read("/bin/sh").unwrap();
        std::fs::write(&path, &library).unwrap();
        let is_ours = |path: &Path| is_library(path, Architecture::X86_64);
        assert!(is_ours(&path));
        assert!(!is_library(&path, Architecture::Arm64));
        // EM_386 and EM_AARCH64.
        for machine in [3, 183] {
            library[18] = machine;
            std::fs::write(&path, &library).unwrap();
            assert!(!is_ours(&path));
        }
        assert!(is_library(&path, Architecture::Arm64));
        std::fs::write(&path, "GROUP ( /lib/libc.so.6 )").unwrap();
        assert!(!is_ours(&path), "a linker script");
        assert!(!is_ours(folder.path()));
    }

    #[test]
    fn a_damaged_program_is_an_error_never_a_panic() {
        let shell = std::fs::read("/bin/sh").unwrap();
        for cut in (0..shell.len()).step_by(997) {
            let _ = needs(&shell[..cut]);
        }
        for at in 0..4096.min(shell.len()) {
            let mut bent = shell.clone();
            bent[at] ^= 0xff;
            let _ = needs(&bent);
        }
    }
}
