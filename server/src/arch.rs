//! What is different from one processor architecture to another in what machines are served. What their firmware loads first
//! stands in `fleet/src/boot.rs`.

use crate::path::RelPath;

/// What a machine's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Arm64,
}

/// The serial line of the UART that Arm's base system has, and that of a PC.
const ARM_SERIAL: &str = "console=ttyAMA0";
const PC_SERIAL: &str = "console=ttyS0";

impl Architecture {
    const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Arm64];

    /// The folder of its boot files below the boot folder; empty where they lie in that itself.
    pub fn folder(self) -> &'static str {
        match self {
            Architecture::X86_64 => "",
            Architecture::Arm64 => "arm64/",
        }
    }

    /// Whether a path is that of a boot file of one architecture alone: no file of the same name elsewhere stands in for it.
    pub fn owns(path: &RelPath) -> bool {
        let Some((folder, _)) = path.split() else {
            return false;
        };
        let folder = format!("/{}/", folder.as_str());
        let mut own = Self::ALL.map(Self::folder).into_iter();
        own.any(|own| !own.is_empty() && folder.ends_with(&format!("/{own}")))
    }

    /// The kernel parameters with the serial line of this architecture beside that of a PC. The last console stays the last.
    pub fn parameters(self, parameters: &str) -> String {
        if self == Architecture::X86_64 || parameters.contains(ARM_SERIAL) {
            return parameters.to_owned();
        }
        let with_both = |word: &str| match word.strip_prefix(PC_SERIAL) {
            Some(rest) if rest.is_empty() || rest.starts_with(',') => {
                format!("{ARM_SERIAL}{rest} {word}")
            }
            _ => word.to_owned(),
        };
        let words: Vec<String> = parameters.split(' ').map(with_both).collect();
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_architecture_are_told_by_their_folder() {
        let owns = |path: &str| Architecture::owns(&RelPath::from_text(path).unwrap());
        assert!(owns("arm64/vmlinuz") && owns("boot/arm64/ipxe.efi"));
        for other in ["vmlinuz", "boot/vmlinuz", "arm64", "myarm64/vmlinuz", ""] {
            assert!(!owns(other), "{other}");
        }
    }

    #[test]
    fn a_machine_speaks_on_the_serial_line_that_it_has() {
        let arm = |text: &str| Architecture::Arm64.parameters(text);
        let usual = "quiet console=ttyS0,115200 console=tty0";
        assert_eq!(
            arm(usual),
            "quiet console=ttyAMA0,115200 console=ttyS0,115200 console=tty0"
        );
        assert_eq!(Architecture::X86_64.parameters(usual), usual);
        for kept in [
            "",
            "console=ttyS1",
            "console=ttyS01",
            "console=ttyAMA0 console=ttyS0",
        ] {
            assert_eq!(arm(kept), kept);
        }
    }
}
