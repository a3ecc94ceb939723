//! The kernel that golden disks boot: Debian's cloud kernel, which is small and has virtio.

use crate::arch::Architecture;
use crate::paths;
use crate::tools;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel image and the modules that belong to it.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub image: PathBuf,
    pub version: String,
    /// The folder that holds `lib/modules/<version>`.
    root: PathBuf,
}

/// The cloud kernel that is installed, else the archive's, fetched once.
pub fn cloud() -> Result<Kernel> {
    cloud_of(Architecture::X86_64)
}

/// The same of this architecture.
pub fn cloud_of(architecture: Architecture) -> Result<Kernel> {
    let (suffix, name) = architecture.cloud_kernel();
    if let Some(kernel) = in_folder(Path::new("/"), suffix)? {
        return Ok(kernel);
    }
    let unpacked = paths::cached(&format!("{name}-kernel"), |folder| fetch(folder, name))?;
    in_folder(&unpacked, suffix)?
        .with_context(|| format!("no kernel named *{suffix} under {}", unpacked.display()))
}

/// A kernel under `root` whose version ends so, and that has its modules as well.
fn in_folder(root: &Path, suffix: &str) -> Result<Option<Kernel>> {
    let boot = root.join("boot");
    let Ok(entries) = fs::read_dir(&boot) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", boot.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(version) = name
            .strip_prefix("vmlinuz-")
            .filter(|version| version.ends_with(suffix))
        else {
            continue;
        };
        if root
            .join("lib/modules")
            .join(version)
            .join("modules.dep")
            .is_file()
        {
            found.push(Kernel {
                image: entry.path(),
                version: version.to_owned(),
                root: root.to_path_buf(),
            });
        }
    }
    found.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(found.pop())
}

/// Fetches and unpacks the kernel as `make image` does, and indexes its modules.
fn fetch(folder: &Path, name: &str) -> Result<()> {
    let mut script = Command::new(paths::workspace().join("kernel-config/fetch"));
    tools::output(script.arg(name).arg(folder))?;
    let kernel_folder = folder.join("lib/modules");
    for entry in fs::read_dir(&kernel_folder)
        .with_context(|| format!("reading {}", kernel_folder.display()))?
    {
        let version = entry?.file_name();
        tools::run("depmod", [Path::new("-b"), folder, Path::new(&version)])?;
    }
    Ok(())
}

impl Kernel {
    /// The files of these modules and of all they depend on, in the order they must be loaded. Built-in ones
    /// have none.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut show = Command::new(tools::find("modprobe")?);
            show.arg("-d")
                .arg(&self.root)
                .args(["-S", &self.version, "--show-depends", name]);
            for line in tools::output(&mut show)?.lines() {
                let Some(file) = line.trim().strip_prefix("insmod ") else {
                    continue;
                };
                let file = PathBuf::from(file.trim());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}
