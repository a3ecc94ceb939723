//! `mkimage uki`: kernel, initramfs and command line as one UEFI program, for UEFI HTTP boot and Secure Boot
//! (UAPI Group's "Unified Kernel Image").

mod pe;

use crate::command::{BootOptions, UkiOptions};
use crate::input;
use crate::output;
use crate::tools;
use crate::weigh;
use anyhow::{Context, Result, ensure};
use pe::Section;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a unified image is made of.
pub struct Parts<'a> {
    pub kernel: &'a [u8],
    pub initramfs: &'a [u8],
    pub command_line: &'a str,
}

pub fn run(options: &UkiOptions) -> Result<()> {
    let signer = Signer::of(&options.boot)?;
    let kernel = input::read(&options.boot.kernel)?;
    let initramfs = input::read(&options.boot.initramfs)?;
    let parts = Parts {
        kernel: &kernel,
        initramfs: &initramfs,
        command_line: &options.boot.cmdline,
    };
    let (image, how) = match signer {
        Some(signer) => (
            signer.sign(&assemble(&options.boot.stub, &parts)?)?,
            "signed",
        ),
        None => (assemble(&options.boot.stub, &parts)?, "not signed"),
    };
    let size = output::write_whole(&options.output, |file| Ok(file.write_all(&image)?))?;
    println!("{}: {}, {how}", options.output.display(), weigh::kib(size));
    Ok(())
}

/// The stub with everything it boots. The same input gives the same bytes.
pub fn assemble(stub: &Path, parts: &Parts) -> Result<Vec<u8>> {
    let program = input::read(stub).with_context(|| {
        let path = stub.display();
        format!("reading systemd's UEFI stub {path} (Debian's package systemd-boot-efi has it)")
    })?;
    // Documentation/arch/x86/boot.rst: the magic of the boot protocol.
    let magic = parts.kernel.get(0x202..0x206);
    ensure!(magic == Some(b"HdrS"), "the kernel is no x86 bzImage");
    ensure!(
        parts.kernel.starts_with(b"MZ"),
        "the kernel has no UEFI entry: it was built without CONFIG_EFI_STUB"
    );
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
            data: parts.kernel,
        },
    ];
    pe::with_sections(&program, &sections)
        .with_context(|| format!("adding to the stub {}", stub.display()))
}

/// One line that both the stub and boot loaders' configurations take.
pub fn check_command_line(line: &str) -> Result<()> {
    ensure!(
        !line.chars().any(char::is_control),
        "--cmdline {line:?} has a line break or another control character"
    );
    // The kernel cuts what is longer (COMMAND_LINE_SIZE of x86).
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

    fn kernel() -> Vec<u8> {
        let mut kernel = vec![0; 0x400];
        kernel[..2].copy_from_slice(b"MZ");
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel
    }

    fn refusal(kernel: &[u8], command_line: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let stub = folder.path().join("stub");
        fs::write(&stub, pe::tests::stub()).unwrap();
        let parts = Parts {
            kernel,
            initramfs: b"initramfs",
            command_line,
        };
        match assemble(&stub, &parts) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn what_would_not_boot_is_refused() {
        assert_eq!(refusal(&kernel(), "quiet"), "");
        assert_eq!(refusal(b"MZ", ""), "the kernel is no x86 bzImage");
        let mut no_stub = kernel();
        no_stub[0] = 0xea;
        let why = refusal(&no_stub, "");
        assert!(why.contains("CONFIG_EFI_STUB"), "{why}");
        let why = refusal(&kernel(), "quiet\npitstop.action=wipe");
        assert!(why.contains("control character"), "{why}");
        let why = refusal(&kernel(), &"a".repeat(2048));
        assert!(why.contains("2048 bytes"), "{why}");
    }
}
