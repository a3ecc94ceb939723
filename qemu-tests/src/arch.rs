//! What is different from one processor architecture to another in the machines of the tests.

use crate::paths;
use crate::tools;
use crate::vm::KERNEL_PARAMETERS;
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// What a machine's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Arm64,
}

impl Architecture {
    /// QEMU's program for it.
    pub fn qemu(self) -> &'static str {
        match self {
            Architecture::X86_64 => "qemu-system-x86_64",
            Architecture::Arm64 => "qemu-system-aarch64",
        }
    }

    /// For every kernel: the serial console.
    pub fn kernel_parameters(self) -> &'static str {
        match self {
            Architecture::X86_64 => KERNEL_PARAMETERS,
            Architecture::Arm64 => "console=ttyAMA0",
        }
    }

    /// What UEFI looks for on a disk without an entry.
    pub fn loader(self) -> &'static str {
        match self {
            Architecture::X86_64 => "BOOTX64.EFI",
            Architecture::Arm64 => "BOOTAA64.EFI",
        }
    }

    /// How Debian's cloud kernels of it end, and what `kernel-config/fetch` calls them.
    pub fn cloud_kernel(self) -> (&'static str, &'static str) {
        match self {
            Architecture::X86_64 => ("-cloud-amd64", "cloud"),
            Architecture::Arm64 => ("-cloud-arm64", "cloud-arm64"),
        }
    }

    /// systemd's UEFI stub.
    pub fn stub(self) -> Result<PathBuf> {
        match self {
            Architecture::X86_64 => tools::packaged(
                "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
                "systemd-boot-efi",
            ),
            Architecture::Arm64 => of_setup("usr/lib/systemd/boot/efi/linuxaa64.efi.stub"),
        }
    }

    /// A static busybox.
    pub fn busybox(self) -> Result<PathBuf> {
        match self {
            Architecture::X86_64 => tools::find("busybox"),
            Architecture::Arm64 => of_setup("bin/busybox"),
        }
    }

    /// What adds sections to its programs.
    pub fn objcopy(self) -> &'static str {
        match self {
            Architecture::X86_64 => "objcopy",
            Architecture::Arm64 => "aarch64-linux-gnu-objcopy",
        }
    }
}

/// A file of Debian's arm64 packages that `.ci/setup arm64` unpacks.
fn of_setup(name: &str) -> Result<PathBuf> {
    let path = paths::workspace().join("target/tools/arm64").join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `.ci/setup arm64` first",
        path.display()
    );
    Ok(path)
}
