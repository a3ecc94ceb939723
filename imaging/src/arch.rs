//! What is different from one processor architecture to another in what a disk holds.

use std::fmt;

/// What a system on a disk runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    X86_64,
    Arm64,
}

impl Architecture {
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Arm64];

    /// This machine's; `None` where it is another one.
    pub fn here() -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|architecture| architecture.rust() == std::env::consts::ARCH)
    }

    fn rust(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Arm64 => "aarch64",
        }
    }

    /// What every firmware looks for on a disk without an entry (UEFI 2.10 3.5.1.1).
    pub fn fallback(self) -> &'static str {
        match self {
            Architecture::X86_64 => "\\EFI\\BOOT\\BOOTX64.EFI",
            Architecture::Arm64 => "\\EFI\\BOOT\\BOOTAA64.EFI",
        }
    }

    /// How names of its loaders end, in lower case: the fallback's as shim's, GRUB's and systemd's.
    fn loader_ending(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x64.efi",
            Architecture::Arm64 => "aa64.efi",
        }
    }

    /// What a loader runs on, by its name; `None` where that does not tell, as with Windows.
    pub fn of_loader(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let mut all = Self::ALL.into_iter();
        all.find(|architecture| path.ends_with(architecture.loader_ending()))
    }
}

/// As people write it.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Arm64 => "arm64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_tell_by_their_names() {
        for architecture in Architecture::ALL {
            let of_fallback = Architecture::of_loader(architecture.fallback());
            assert_eq!(of_fallback, Some(architecture));
        }
        for (path, expected) in [
            ("\\EFI\\debian\\shimx64.efi", Some(Architecture::X86_64)),
            ("\\efi\\DEBIAN\\GRUBAA64.EFI", Some(Architecture::Arm64)),
            (
                "\\EFI\\systemd\\systemd-bootaa64.efi",
                Some(Architecture::Arm64),
            ),
            ("\\EFI\\Microsoft\\Boot\\bootmgfw.efi", None),
            ("\\EFI\\BOOT\\BOOTIA32.EFI", None),
        ] {
            assert_eq!(Architecture::of_loader(path), expected, "{path}");
        }
    }
}
