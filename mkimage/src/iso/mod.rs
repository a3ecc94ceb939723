//! `mkimage iso`: one image for CD and USB stick that UEFI (a unified kernel image) boots, and on x86-64 a BIOS (ISOLINUX).

mod data;
mod esp;

use crate::arch::Architecture;
use crate::command::IsoOptions;
use crate::input;
use crate::list;
use crate::output;
use crate::tools;
use crate::uki::{self, Kernel, Parts, Signer};
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

/// Where the EFI system partition lies in a CD's file system that a BIOS boots as well.
const EFI: &str = "boot/efi.img";

/// The type that Windows gives partitions with exFAT.
const DATA_TYPE: &str = "0x07";

/// Where the host file is, once `/init` has mounted the medium.
const HOST_FILE: &str = "pitstop.host=file:///run/medium/pitstop/host.toml";

pub fn run(options: &IsoOptions) -> Result<()> {
    let kernel = Kernel::read(&options.boot.kernel)?;
    let tools = Tools::find(kernel.architecture)?;
    let signer = Signer::of(&options.boot)?;
    let initramfs = list::initramfs(&options.boot.initramfs)?;
    let share = data::Share {
        folder: options.data.as_deref(),
        size: options.data_size,
    };
    let has_share = share.folder.is_some() || share.size.is_some();
    let line = line_of(options, has_share)?;
    let parts = Parts {
        kernel: &kernel,
        initramfs: &initramfs,
        command_line: &line,
    };
    let program = uki::assemble(options.boot.stub.as_deref(), &parts)?;
    let program = match &signer {
        Some(signer) => signer.sign(&program)?,
        None => program,
    };

    let stage = tempfile::tempdir().context("making a folder for the medium's files")?;
    let put = |name: &str, data: &[u8]| put(&stage.path().join(name), data);
    let system = esp::with(&program, kernel.architecture)?;
    // Beside the image: what the share holds may be larger than the folder for temporary files.
    let made = tempfile::tempdir_in(output::folder(&options.output))
        .with_context(|| format!("making a folder beside {}", options.output.display()))?;
    let partition = made.path().join("efi.img");
    if let Some(bios) = &tools.bios {
        put(EFI, &system)?;
        put("boot/vmlinuz", &kernel.data)?;
        put("boot/initramfs.img", &initramfs)?;
        put("isolinux/isolinux.cfg", menu(&line).as_bytes())?;
        put("isolinux/isolinux.bin", &input::read(&bios.isolinux)?)?;
        put("isolinux/ldlinux.c32", &input::read(&bios.ldlinux)?)?;
    } else {
        fs::write(&partition, &system)
            .with_context(|| format!("writing {}", partition.display()))?;
    }
    if let Some(file) = &options.host_file {
        put_host_file(stage.path(), file, &line)?;
    }
    let image = made.path().join("image.iso");
    let epoch = built(&options.boot.initramfs)?;
    let files = made.path().join("data.img");
    if has_share {
        data::make(&share, &files, &epoch)?;
    }
    let partitions = Partitions {
        efi: &partition,
        data: has_share.then_some(&files),
    };
    tools.master(stage.path(), &partitions, &image, epoch)?;
    if has_share {
        // Room for the copy that follows.
        fs::remove_file(&files).with_context(|| format!("removing {}", files.display()))?;
    }
    let size = output::write_whole(&options.output, |file| {
        io::copy(&mut File::open(&image)?, file)?;
        Ok(())
    })?;
    output::tell(&format!(
        "{}: {}\n",
        options.output.display(),
        weigh::kib(size)
    ));
    Ok(())
}

/// What the kernel of the medium is told.
fn line_of(options: &IsoOptions, has_share: bool) -> Result<String> {
    let given = &options.boot.cmdline;
    if !has_share {
        return Ok(command_line(given, options.host_file.is_some()));
    }
    let line = format!("{} {given}", data::parameters(given));
    input::parameters("--cmdline", &line)?;
    Ok(line.trim_end().to_owned())
}

/// Writes a file in a folder that may be new.
fn put(path: &Path, data: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::write(path, data))
        .with_context(|| format!("writing {}", path.display()))
}

/// The host file, which goes with this command line, and its signature where it has one.
fn put_host_file(stage: &Path, file: &Path, line: &str) -> Result<()> {
    let given = input::parameters("--cmdline", line)?;
    let there = stage.join("pitstop");
    put(&there.join("host.toml"), &input::host_file(file, &given)?)?;
    if let Some(signature) = input::signature_if_there(file)? {
        put(&there.join(format!("host.toml{SIGNATURE}")), &signature)?;
    }
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

/// What goes behind the medium's own files.
struct Partitions<'a> {
    /// For a medium that no BIOS boots.
    efi: &'a Path,
    data: Option<&'a PathBuf>,
}

/// What others made.
struct Tools {
    xorriso: PathBuf,
    /// Where there are machines with a BIOS.
    bios: Option<Bios>,
}

/// What a BIOS boots.
struct Bios {
    isolinux: PathBuf,
    ldlinux: PathBuf,
    /// The boot sector of the image when it is written to a USB stick.
    boot_sector: PathBuf,
}

impl Bios {
    fn find() -> Result<Self> {
        Ok(Self {
            isolinux: tools::packaged("/usr/lib/ISOLINUX/isolinux.bin", "isolinux")?,
            ldlinux: tools::packaged(
                "/usr/lib/syslinux/modules/bios/ldlinux.c32",
                "syslinux-common",
            )?,
            boot_sector: tools::packaged("/usr/lib/ISOLINUX/isohdpfx.bin", "isolinux")?,
        })
    }

    /// Has the image boot by ISOLINUX, and by UEFI where that finds its partition in the same table.
    fn options(&self, command: &mut Command) {
        command.arg("-isohybrid-mbr").arg(&self.boot_sector);
        command.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"]);
        command.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
        command.args(["-eltorito-alt-boot", "-e", EFI, "-no-emul-boot"]);
        command.arg("-isohybrid-gpt-basdat");
    }
}

impl Tools {
    fn find(architecture: Architecture) -> Result<Self> {
        Ok(Self {
            xorriso: tools::find("xorriso", "xorriso")?,
            bios: architecture.has_bios().then(Bios::find).transpose()?,
        })
    }

    /// Makes the image of the files under `stage`. Where no BIOS has to find its way, the EFI partition goes behind them.
    fn master(
        &self,
        stage: &Path,
        partitions: &Partitions,
        image: &Path,
        epoch: String,
    ) -> Result<()> {
        let mut command = Command::new(&self.xorriso);
        // All times, and all identifiers made of them, are this one.
        let dates = format!("={epoch}");
        command.env("SOURCE_DATE_EPOCH", epoch);
        command.args(["-no_rc", "-as", "mkisofs", "-quiet", "-r", "-V", LABEL]);
        command.args(["--set_all_file_dates", &dates]);
        if let Some(bios) = &self.bios {
            bios.options(&mut command);
        } else {
            // CD and stick share the partition: El Torito points to it.
            command
                .args(["-append_partition", "2", "0xef"])
                .arg(partitions.efi);
            command.args(["-appended_part_as_gpt", "-partition_offset", "16"]);
            command.args(["-e", "--interval:appended_partition_2:all::"]);
            command.arg("-no-emul-boot");
        }
        if let Some(data) = partitions.data {
            command
                .args(["-append_partition", "3", DATA_TYPE])
                .arg(data);
        }
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
