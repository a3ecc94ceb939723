//! `mkimage iso`: one image for CD and USB stick that BIOS (ISOLINUX) and UEFI (a unified kernel image) boot.

mod esp;

use crate::command::IsoOptions;
use crate::input;
use crate::output;
use crate::tools;
use crate::uki::{self, Parts, Signer};
use crate::weigh;
use anyhow::{Context, Result};
use pitstop_protocol::job::beside::SIGNATURE;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The volume's name, by which `/init` finds the medium again.
const LABEL: &str = "PITSTOP";

/// Where the host file is, once `/init` has mounted the medium.
const HOST_FILE: &str = "pitstop.host=file:///run/medium/pitstop/host.toml";

pub fn run(options: &IsoOptions) -> Result<()> {
    let tools = Tools::find()?;
    let signer = Signer::of(&options.boot)?;
    let kernel = input::read(&options.boot.kernel)?;
    let initramfs = input::read(&options.boot.initramfs)?;
    let line = command_line(&options.boot.cmdline, options.host_file.is_some());
    let parts = Parts {
        kernel: &kernel,
        initramfs: &initramfs,
        command_line: &line,
    };
    let program = uki::assemble(&options.boot.stub, &parts)?;
    let program = match &signer {
        Some(signer) => signer.sign(&program)?,
        None => program,
    };

    let stage = tempfile::tempdir().context("making a folder for the medium's files")?;
    let put = |name: &str, data: &[u8]| -> Result<()> {
        let path = stage.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| fs::write(&path, data))
            .with_context(|| format!("writing {}", path.display()))
    };
    put("boot/vmlinuz", &kernel)?;
    put("boot/initramfs.img", &initramfs)?;
    put("boot/efi.img", &esp::with(&program)?)?;
    put("isolinux/isolinux.cfg", menu(&line).as_bytes())?;
    put("isolinux/isolinux.bin", &input::read(&tools.isolinux)?)?;
    put("isolinux/ldlinux.c32", &input::read(&tools.ldlinux)?)?;
    if let Some(file) = &options.host_file {
        let given = input::parameters("--cmdline", &line)?;
        put("pitstop/host.toml", &input::host_file(file, &given)?)?;
        if let Some(signature) = input::signature_if_there(file)? {
            put(&format!("pitstop/host.toml{SIGNATURE}"), &signature)?;
        }
    }
    let made = tempfile::tempdir().context("making a folder for the image")?;
    let image = made.path().join("image.iso");
    tools.master(stage.path(), &image, built(&options.boot.initramfs)?)?;
    let size = output::write_whole(&options.output, |file| {
        io::copy(&mut File::open(&image)?, file)?;
        Ok(())
    })?;
    println!("{}: {}", options.output.display(), weigh::kib(size));
    Ok(())
}

/// What the admin wrote, the medium's name, and the host file on the medium unless another was named.
fn command_line(given: &str, has_host_file: bool) -> String {
    let mut line = format!("pitstop.medium={LABEL}");
    let names = |name: &str| given.split_whitespace().any(|word| word.starts_with(name));
    if has_host_file && !names("pitstop.host=") {
        line = format!("{line} {HOST_FILE}");
    }
    format!("{line} {given}").trim_end().to_owned()
}

/// ISOLINUX speaks where the kernel does; there is nothing to choose.
fn menu(line: &str) -> String {
    let serial = if line.contains("console=ttyS") {
        "serial 0 115200\n"
    } else {
        ""
    };
    format!(
        "{serial}default pitstop\nprompt 0\nlabel pitstop\n  kernel /boot/vmlinuz\n  \
         initrd /boot/initramfs.img\n  append {line}\n"
    )
}

/// When the medium counts as made (Unix seconds): `SOURCE_DATE_EPOCH`, else the initramfs's modification time.
fn built(initramfs: &Path) -> Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => Ok(text),
        Err(_) => Ok(fs::metadata(initramfs)?.mtime().to_string()),
    }
}

/// What others made.
struct Tools {
    xorriso: PathBuf,
    isolinux: PathBuf,
    ldlinux: PathBuf,
    /// The boot sector of the image when it is written to a USB stick.
    boot_sector: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        Ok(Self {
            xorriso: tools::find("xorriso", "xorriso")?,
            isolinux: tools::packaged("/usr/lib/ISOLINUX/isolinux.bin", "isolinux")?,
            ldlinux: tools::packaged(
                "/usr/lib/syslinux/modules/bios/ldlinux.c32",
                "syslinux-common",
            )?,
            boot_sector: tools::packaged("/usr/lib/ISOLINUX/isohdpfx.bin", "isolinux")?,
        })
    }

    /// Makes the image of the files under `stage`.
    fn master(&self, stage: &Path, image: &Path, epoch: String) -> Result<()> {
        let mut command = Command::new(&self.xorriso);
        // All times, and all identifiers made of them, are this one.
        let dates = format!("={epoch}");
        command.env("SOURCE_DATE_EPOCH", epoch);
        command.args(["-no_rc", "-as", "mkisofs", "-quiet", "-r", "-V", LABEL]);
        command.args(["--set_all_file_dates", &dates]);
        command.arg("-isohybrid-mbr").arg(&self.boot_sector);
        command.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"]);
        command.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
        command.args(["-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot"]);
        command.arg("-isohybrid-gpt-basdat");
        tools::run(command.arg("-o").arg(image).arg(stage)).context("making the ISO image")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_file_on_the_medium_is_used_unless_another_is_named() {
        assert_eq!(command_line("", false), "pitstop.medium=PITSTOP");
        assert_eq!(
            command_line("console=ttyS0", true),
            "pitstop.medium=PITSTOP pitstop.host=file:///run/medium/pitstop/host.toml console=ttyS0"
        );
        let named = "pitstop.host=http://10.0.0.1/hosts/";
        assert_eq!(
            command_line(named, true),
            format!("pitstop.medium=PITSTOP {named}")
        );
    }

    #[test]
    fn isolinux_speaks_where_the_kernel_does() {
        assert!(menu("console=ttyS0,115200").starts_with("serial 0 115200\n"));
        assert!(menu("quiet").starts_with("default pitstop\n"));
    }
}
