//! What is different from one processor architecture to another, all of it: the other modules ask here.

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use std::fmt;

/// What a machine's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Arm64,
}

/// The offset of the PE header's offset, and the COFF machine in that header (Microsoft's "PE Format").
const PE_OFFSET: usize = 0x3c;
const PE_MACHINE: usize = 4;

impl Architecture {
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Arm64];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86-64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// `e_machine` of its programs and modules.
    pub fn elf(self) -> u16 {
        match self {
            Architecture::X86_64 => elf::EM_X86_64.0,
            Architecture::Arm64 => elf::EM_AARCH64.0,
        }
    }

    /// # Errors
    /// Names the number of one that there is no Pitstop for.
    pub fn of_elf(machine: u16) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|architecture| architecture.elf() == machine)
            .with_context(|| format!("it is built for another machine (ELF machine {machine})"))
    }

    /// The COFF machine of its UEFI programs.
    pub fn pe(self) -> u16 {
        match self {
            Architecture::X86_64 => 0x8664,
            Architecture::Arm64 => 0xaa64,
        }
    }

    /// # Errors
    /// Names the number of one that there is no Pitstop for.
    pub fn of_pe(machine: u16) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|architecture| architecture.pe() == machine)
            .with_context(|| format!("it is for another machine ({machine:#x})"))
    }

    /// What Rust calls it, as static programs are built for it.
    pub fn target(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-linux-musl",
            Architecture::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// What firmware starts on removable media (UEFI 2.10, 3.5.1.1), in `EFI/BOOT`.
    pub fn loader(self) -> &'static str {
        match self {
            Architecture::X86_64 => "BOOTX64.EFI",
            Architecture::Arm64 => "BOOTAA64.EFI",
        }
    }

    /// Where Debian's package systemd-boot-efi puts the stub.
    pub fn stub(self) -> &'static str {
        match self {
            Architecture::X86_64 => "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
            Architecture::Arm64 => "/usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
        }
    }

    /// Where Debian keeps its shared libraries; `/lib` and the like are looked at after them.
    pub fn library_folders(self) -> [&'static str; 2] {
        match self {
            Architecture::X86_64 => ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"],
            Architecture::Arm64 => ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu"],
        }
    }

    /// Whether its machines may have a BIOS.
    pub fn has_bios(self) -> bool {
        self == Architecture::X86_64
    }

    /// Whether a device tree may describe its machines, rather than ACPI.
    pub fn has_device_trees(self) -> bool {
        self == Architecture::Arm64
    }

    /// Where a kernel keeps the ciphers and checksums that it has written for this processor.
    pub fn crypto_folder(self) -> &'static str {
        match self {
            Architecture::X86_64 => "kernel/arch/x86/crypto/",
            Architecture::Arm64 => "kernel/arch/arm64/crypto/",
        }
    }

    /// Whether its kernels unpack an initramfs whose jumps xz has made absolute: they have the filter of their own
    /// processor alone, and that of arm64 came with Linux 6.13.
    pub fn filters_jumps(self) -> bool {
        self == Architecture::X86_64
    }

    /// Which one a kernel is for, that UEFI can start.
    ///
    /// # Errors
    /// Says what the file is instead.
    pub fn of_kernel(kernel: &[u8]) -> Result<Self> {
        // Documentation/arch/x86/boot.rst: the magic of the boot protocol.
        let bzimage = kernel.get(0x202..0x206) == Some(b"HdrS");
        ensure!(
            kernel.starts_with(b"MZ"),
            if bzimage {
                "the kernel has no UEFI entry: it was built without CONFIG_EFI_STUB"
            } else {
                "the kernel is no bzImage of x86 and no Image of arm64"
            }
        );
        if bzimage {
            return Ok(Architecture::X86_64);
        }
        let machine = kernel
            .get(PE_OFFSET..PE_OFFSET + 4)
            .and_then(|at| usize::try_from(u32::from_le_bytes(at.try_into().ok()?)).ok())
            .and_then(|at| at.checked_add(PE_MACHINE))
            .and_then(|at| kernel.get(at..at.checked_add(2)?));
        match machine {
            Some(machine) if machine == Architecture::Arm64.pe().to_le_bytes() => {
                Ok(Architecture::Arm64)
            }
            _ => bail!("the kernel is a UEFI program, and no bzImage of x86 and no Image of arm64"),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The beginning of a kernel as its architecture has it.
    pub fn kernel(architecture: Architecture) -> Vec<u8> {
        let mut kernel = vec![0; 0x400];
        kernel[..2].copy_from_slice(b"MZ");
        match architecture {
            Architecture::X86_64 => kernel[0x202..0x206].copy_from_slice(b"HdrS"),
            Architecture::Arm64 => {
                kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
                kernel[PE_OFFSET] = 0x40;
                kernel[0x40..0x44].copy_from_slice(b"PE\0\0");
                kernel[0x44..0x46].copy_from_slice(&architecture.pe().to_le_bytes());
            }
        }
        kernel
    }

    #[test]
    fn each_is_known_by_its_programs_and_kernels() {
        for architecture in Architecture::ALL {
            let kernel = kernel(architecture);
            assert_eq!(Architecture::of_kernel(&kernel).unwrap(), architecture);
            assert_eq!(
                Architecture::of_elf(architecture.elf()).unwrap(),
                architecture
            );
            assert_eq!(
                Architecture::of_pe(architecture.pe()).unwrap(),
                architecture
            );
        }
        let other = Architecture::of_elf(3).unwrap_err();
        assert_eq!(
            other.to_string(),
            "it is built for another machine (ELF machine 3)"
        );
        assert!(Architecture::of_pe(0x14c).is_err());
    }

    #[test]
    fn what_no_firmware_starts_is_refused() {
        let refusal = |kernel: &[u8]| Architecture::of_kernel(kernel).unwrap_err().to_string();
        assert!(refusal(b"\x7fELF").contains("no bzImage of x86 and no Image of arm64"));
        let mut no_stub = kernel(Architecture::X86_64);
        no_stub[0] = 0xea;
        assert!(refusal(&no_stub).contains("CONFIG_EFI_STUB"));
        let mut other = kernel(Architecture::Arm64);
        other[0x44] = 0x4c;
        assert!(refusal(&other).contains("is a UEFI program"));
        other[PE_OFFSET..PE_OFFSET + 4].copy_from_slice(&[0xff; 4]);
        assert!(refusal(&other).contains("is a UEFI program"));
    }

    proptest! {
        #[test]
        fn no_kernel_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..0x300)) {
            let mut kernel = b"MZ".to_vec();
            kernel.extend(head);
            let _ = Architecture::of_kernel(&kernel);
        }
    }
}
