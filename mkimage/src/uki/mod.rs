//! `mkimage uki`: kernel, initramfs and command line as one UEFI program, for UEFI HTTP boot and Secure Boot
//! (UAPI Group's "Unified Kernel Image").

mod pe;

use crate::arch::Architecture;
use crate::codec::Codec;
use crate::command::{BootOptions, UkiOptions};
use crate::input;
use crate::list;
use crate::output;
use crate::tools;
use crate::weigh;
use anyhow::{Context, Result, ensure};
use pe::Section;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The largest kernel taken, unpacked.
const LARGEST_KERNEL: u64 = 1 << 30;

/// A kernel that UEFI starts.
pub struct Kernel {
    pub data: Vec<u8>,
    pub architecture: Architecture,
}

impl Kernel {
    /// Reads a file. One that is compressed, as those of arm64 often are, is unpacked: a boot loader would do that, and the
    /// firmware does not.
    pub fn read(path: &Path) -> Result<Self> {
        let data = Codec::decompress(&input::read(path)?, LARGEST_KERNEL)
            .with_context(|| format!("unpacking {}", path.display()))?;
        let architecture =
            Architecture::of_kernel(&data).with_context(|| path.display().to_string())?;
        Ok(Self { data, architecture })
    }
}

/// What a unified image is made of.
pub struct Parts<'a> {
    pub kernel: &'a Kernel,
    pub initramfs: &'a [u8],
    pub command_line: &'a str,
}

pub fn run(options: &UkiOptions) -> Result<()> {
    let signer = Signer::of(&options.boot)?;
    let kernel = Kernel::read(&options.boot.kernel)?;
    let initramfs = list::initramfs(&options.boot.initramfs)?;
    let parts = Parts {
        kernel: &kernel,
        initramfs: &initramfs,
        command_line: &options.boot.cmdline,
    };
    let (image, how) = match signer {
        Some(signer) => (
            signer.sign(&assemble(options.boot.stub.as_deref(), &parts)?)?,
            "signed",
        ),
        None => (
            assemble(options.boot.stub.as_deref(), &parts)?,
            "not signed",
        ),
    };
    let size = output::write_whole(&options.output, |file| Ok(file.write_all(&image)?))?;
    output::tell(&format!(
        "{}: {}, {how}\n",
        options.output.display(),
        weigh::kib(size)
    ));
    Ok(())
}

/// The stub (that of the distribution, if none is given) with everything it boots. The same input gives the same bytes.
pub fn assemble(stub: Option<&Path>, parts: &Parts) -> Result<Vec<u8>> {
    let architecture = parts.kernel.architecture;
    let stub = stub.unwrap_or(Path::new(architecture.stub()));
    let program = input::read(stub).with_context(|| {
        let path = stub.display();
        format!("reading systemd's UEFI stub {path} (Debian's package systemd-boot-efi for {architecture} has it)")
    })?;
    check_command_line(parts.command_line)?;
    input::parameters("--cmdline", parts.command_line)?;
    let about = about();
    let sections = [
        Section {
            name: ".osrel",
            data: about.as_bytes(),
        },
        Section {
            name: ".cmdline",
            data: parts.command_line.as_bytes(),
        },
        Section {
            name: ".initrd",
            data: parts.initramfs,
        },
        Section {
            name: ".linux",
            data: &parts.kernel.data,
        },
    ];
    pe::with_sections(&program, architecture, &sections)
        .with_context(|| format!("adding to the stub {}", stub.display()))
}

/// One line that both the stub and boot loaders' configurations take.
pub fn check_command_line(line: &str) -> Result<()> {
    ensure!(
        !line.chars().any(char::is_control),
        "--cmdline {line:?} has a line break or another control character"
    );
    // The kernel cuts what is longer (COMMAND_LINE_SIZE of x86 and of arm64).
    ensure!(
        line.len() < 2048,
        "--cmdline has {} bytes, and the kernel takes 2047",
        line.len()
    );
    Ok(())
}

/// os-release(5): what boot menus show.
fn about() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("ID=pitstop\nNAME=Pitstop\nVERSION_ID={version}\nPRETTY_NAME=\"Pitstop {version}\"\n")
}

/// Signs with Authenticode, by sbsign. The signature holds the time of signing: two runs differ.
pub struct Signer<'a> {
    sbsign: PathBuf,
    key: &'a Path,
    certificate: &'a Path,
}

impl<'a> Signer<'a> {
    /// None when no key was given.
    ///
    /// # Errors
    /// If a key was given and sbsign is not installed: before the work, not after it.
    pub fn of(options: &'a BootOptions) -> Result<Option<Self>> {
        let pair = options
            .sign_key
            .as_deref()
            .zip(options.sign_cert.as_deref());
        let Some((key, certificate)) = pair else {
            return Ok(None);
        };
        Ok(Some(Self {
            sbsign: tools::find("sbsign", "sbsigntool")?,
            key,
            certificate,
        }))
    }

    pub fn sign(&self, image: &[u8]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().context("making a folder to sign in")?;
        let (plain, done) = (folder.path().join("plain"), folder.path().join("signed"));
        fs::write(&plain, image).with_context(|| format!("writing {}", plain.display()))?;
        let mut command = Command::new(&self.sbsign);
        command.arg("--key").arg(self.key);
        command.arg("--cert").arg(self.certificate);
        tools::run(command.arg("--output").arg(&done).arg(&plain))
            .with_context(|| format!("signing with {}", self.key.display()))?;
        input::read(&done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::arch::tests::kernel;

    /// What is wrong with a kernel of one architecture, a stub of another, and a command line.
    fn refusal(kernel: Architecture, stub: Architecture, command_line: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stub");
        fs::write(&path, pe::tests::stub(stub)).unwrap();
        let kernel = Kernel {
            data: self::kernel(kernel),
            architecture: kernel,
        };
        let parts = Parts {
            kernel: &kernel,
            initramfs: b"initramfs",
            command_line,
        };
        match assemble(Some(&path), &parts) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn what_would_not_boot_is_refused() {
        let (x86, arm) = (Architecture::X86_64, Architecture::Arm64);
        assert_eq!(refusal(x86, x86, "quiet"), "");
        assert_eq!(refusal(arm, arm, "quiet"), "");
        let why = refusal(arm, x86, "quiet");
        assert!(
            why.ends_with("it is for x86-64, and the kernel for arm64"),
            "{why}"
        );
        let why = refusal(x86, x86, "quiet\npitstop.action=wipe");
        assert!(why.contains("control character"), "{why}");
        let why = refusal(x86, x86, &"a".repeat(2048));
        assert!(why.contains("2048 bytes"), "{why}");
    }

    #[test]
    fn a_kernel_that_is_compressed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinuz");
        let plain = kernel(Architecture::Arm64);
        let mut packed = Vec::new();
        let codec = Codec::Gzip.compress(&plain, Architecture::Arm64, &mut packed);
        codec.unwrap();
        fs::write(&path, packed).unwrap();
        let read = Kernel::read(&path).unwrap();
        assert_eq!((read.data, read.architecture), (plain, Architecture::Arm64));
        fs::write(&path, "text").unwrap();
        let why = format!("{:#}", Kernel::read(&path).err().unwrap());
        assert!(why.contains("vmlinuz: the kernel is no bzImage"), "{why}");
    }
}
