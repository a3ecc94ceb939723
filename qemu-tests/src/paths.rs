//! Where the tests find what `make image` built and where they keep what they made.

use crate::arch::Architecture;
use crate::tools;
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Names a file that is there while `.ci/test` makes what machines of arm64 boot, beside the tests of others.
const MAKING_ARM64: &str = "PITSTOP_MAKING_ARM64";

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}

/// Where `make image` left its outputs: `PITSTOP_OUT`, else `out/`.
pub fn out() -> PathBuf {
    env::var_os("PITSTOP_OUT").map_or_else(|| workspace().join("out"), PathBuf::from)
}

/// What `make image` builds, by its `KERNEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The one that is delivered: Debian's kernel with every driver for a module.
    Debian,
    /// Debian's cloud kernel, which knows little but virtio and boots in half the time.
    Cloud,
    /// The monolithic kernel of `make kernel`.
    Custom,
    /// For arm64: Debian's kernel with every driver.
    Arm64,
    /// For arm64: Debian's cloud kernel.
    Arm64Cloud,
}

impl Payload {
    /// What `KERNEL` calls it.
    pub fn kernel(self) -> &'static str {
        match self {
            Payload::Debian => "amd64",
            Payload::Cloud => "cloud",
            Payload::Custom => "custom",
            Payload::Arm64 => "arm64",
            Payload::Arm64Cloud => "cloud-arm64",
        }
    }

    pub fn architecture(self) -> Architecture {
        match self {
            Payload::Debian | Payload::Cloud | Payload::Custom => Architecture::X86_64,
            Payload::Arm64 | Payload::Arm64Cloud => Architecture::Arm64,
        }
    }

    /// What is said to `make image` for it.
    pub fn make_options(self) -> String {
        match self {
            Payload::Debian | Payload::Cloud | Payload::Custom => {
                format!("KERNEL={}", self.kernel())
            }
            Payload::Arm64 => "ARCH=arm64".into(),
            Payload::Arm64Cloud => "ARCH=arm64 KERNEL=cloud".into(),
        }
    }

    /// Where `make image` leaves it.
    pub fn folder(self) -> PathBuf {
        match self {
            Payload::Debian => out(),
            Payload::Cloud | Payload::Custom => out().join(self.kernel()),
            Payload::Arm64 => out().join("arm64"),
            Payload::Arm64Cloud => out().join("arm64/cloud"),
        }
    }

    /// One output; an error that says how to make it when it is not there. One that is being made is waited for.
    pub fn file(self, name: &str) -> Result<PathBuf> {
        if self == Payload::Arm64Cloud
            && let Some(making) = env::var_os(MAKING_ARM64)
        {
            while Path::new(&making).exists() {
                thread::sleep(Duration::from_secs(1));
            }
        }
        let folder = self.folder();
        let how = match self {
            Payload::Debian => String::new(),
            other => format!(" {} OUT={}", other.make_options(), folder.display()),
        };
        let path = folder.join(name);
        ensure!(
            path.is_file(),
            "{} is missing: run `make image{how}` first",
            path.display()
        );
        Ok(path)
    }
}

/// One output of the `make image` that is delivered.
pub fn built(name: &str) -> Result<PathBuf> {
    Payload::Debian.file(name)
}

/// The same payload on the cloud kernel.
pub fn built_for_cloud(name: &str) -> Result<PathBuf> {
    Payload::Cloud.file(name)
}

/// What is in an initramfs, the same and not compressed: an emulated processor takes a second to unpack it, at every boot.
pub fn unpacked(initramfs: &Path) -> Result<PathBuf> {
    let about =
        fs::metadata(initramfs).with_context(|| format!("reading {}", initramfs.display()))?;
    let name = format!("initramfs-{}-{}", about.mtime(), about.len());
    cached(&name, |path| {
        let mut zstd = tools::command("zstd")?;
        tools::output(zstd.arg("-dqfo").arg(path).arg(initramfs)).map(drop)
    })
}

/// The kernel that a bzImage unpacks, which QEMU starts by itself: an emulated processor takes seconds to unpack it, at every boot.
/// Firmware and boot loaders start the bzImage, in other tests.
pub fn bare_kernel(image: &Path) -> Result<PathBuf> {
    let about = fs::metadata(image).with_context(|| format!("reading {}", image.display()))?;
    let name = format!("vmlinux-{}-{}", about.mtime(), about.len());
    cached(&name, |path| {
        let bytes = fs::read(image)?;
        let packed =
            packed_kernel(&bytes).with_context(|| format!("{} is no bzImage", image.display()))?;
        let part = tempfile::NamedTempFile::new()?;
        fs::write(part.path(), packed)?;
        let mut unpack = tools::command("bsdcat")?;
        unpack.arg(part.path()).stdout(File::create(path)?);
        let status = unpack.status().context("starting bsdcat")?;
        ensure!(status.success(), "bsdcat: {status}");
        Ok(())
    })
}

/// Where a bzImage has its kernel, without the length behind it: boot protocol 2.08, Documentation/arch/x86/boot.rst.
fn packed_kernel(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup = (usize::from(*image.get(0x1f1)?) + 1) * 512;
    let start = setup + number(0x248)?;
    image.get(start..start + number(0x24c)?.checked_sub(4)?)
}

/// What is slow to make and safe to keep between runs.
pub fn cache() -> Result<PathBuf> {
    let folder = workspace().join("target/qemu-tests");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Makes `name` in the cache once, whoever asks first: `make` writes to the path it is given, which becomes
/// `name` when it is whole. Other processes and threads that ask meanwhile wait.
pub fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = cache()?.join(name);
    let lock_path = cache()?.join(format!("{name}.lock"));
    let lock =
        File::create(&lock_path).with_context(|| format!("making {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", lock_path.display()))?;
    if path.exists() {
        return Ok(path);
    }
    let unfinished = cache()?.join(format!("{name}.part"));
    if unfinished.is_dir() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("removing {}", unfinished.display()))?;
    }
    make(&unfinished).with_context(|| format!("making {}", path.display()))?;
    fs::rename(&unfinished, &path)
        .with_context(|| format!("renaming {} to {}", unfinished.display(), path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::packed_kernel;

    #[test]
    fn the_kernel_of_a_bzimage_is_between_its_setup_and_its_length() {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x248] = 16;
        image[0x24c] = 10;
        image.extend([0; 16]);
        image.extend(*b"packedLLLLbehind");
        assert_eq!(packed_kernel(&image), Some(&b"packed"[..]));
        assert_eq!(packed_kernel(&image[..1045]), None);
        assert_eq!(packed_kernel(b"MZ"), None);
    }
}
