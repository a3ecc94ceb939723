//! The golden disk: a disk that boots by itself, under `SeaBIOS` and under UEFI, and says so.
//!
//! GPT with an ESP (a unified kernel image as `BOOTX64.EFI` or `BOOTAA64.EFI`), an ext4 root with extlinux, and swap. Its userland
//! mounts the root read-only, checks every file's SHA-256, prints [`UP`] on the serial console and powers off.

use crate::arch::Architecture;
use crate::kernel::{self, Kernel};
use crate::paths;
use crate::tools;
use anyhow::{Context, Result, ensure};
use cpio::newc::{Builder, trailer};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the golden disk prints when its kernel, its root filesystem and its files are all there.
pub const UP: &str = "golden: up from /dev/vda2 tree OK";

/// The whole disk, in bytes.
pub const SIZE: u64 = 320 << 20;

pub const ESP: Part = Part {
    start: 1 << 20,
    size: 40 << 20,
};
pub const ROOT: Part = Part {
    start: 41 << 20,
    size: 240 << 20,
};
pub const SWAP: Part = Part {
    start: 281 << 20,
    size: 32 << 20,
};

/// Changes whenever this recipe does, so that no cached disk of an older one is used.
const RECIPE: &str = "8";

/// A partition, in bytes from the start of the disk.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub start: u64,
    pub size: u64,
}

const MEBIBYTE: u64 = 1 << 20;

/// The userland: no more than is needed to prove that the disk is whole.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
for module in /modules/*; do $b insmod "$module"; done
root=
for try in 1 2 3 4 5 6 7 8 9 10; do
    root=$($b findfs LABEL=golden) && break
    $b sleep 1
done
if $b mount -t ext4 -o ro "$root" /mnt && cd /mnt && $b sha256sum -c -s TREE.sha256; then
    swap=$($b findfs LABEL=goldswap) && $b swapon "$swap" && $b swapoff "$swap" && echo "golden: swap OK"
    echo "golden: up from $root tree OK"
else
    echo "golden: BROKEN root=$root"
fi
cd /
$b umount /mnt
$b sync
$b poweroff -f
"#;

/// The golden disk, made once and kept. Copy it with [`crate::disks::Disk::copy_of`]; never boot it itself.
pub fn gpt() -> Result<PathBuf> {
    let kernel = kernel::cloud()?;
    paths::cached(
        &format!("golden-gpt-{RECIPE}-{}.img", kernel.version),
        |path| make(path, &kernel, Architecture::X86_64),
    )
}

/// The same system for arm64; no BIOS boots it.
pub fn arm64() -> Result<PathBuf> {
    let kernel = kernel::cloud_of(Architecture::Arm64)?;
    paths::cached(
        &format!("golden-arm64-{RECIPE}-{}.img", kernel.version),
        |path| make(path, &kernel, Architecture::Arm64),
    )
}

fn make(path: &Path, kernel: &Kernel, architecture: Architecture) -> Result<()> {
    let work = tempfile::tempdir()?;
    let initrd = work.path().join("initrd.img");
    initramfs_of(architecture, &initrd, kernel)?;

    let disk = File::create(path)?;
    disk.set_len(SIZE)?;
    drop(disk);
    partition(path)?;

    let esp = work.path().join("esp.img");
    make_esp(&esp, kernel, &initrd, architecture)?;
    place(&esp, path, ESP.start)?;
    let root = work.path().join("root.img");
    make_root(&root, work.path(), kernel, &initrd)?;
    place(&root, path, ROOT.start)?;
    let swap = work.path().join("swap.img");
    make_swap(&swap)?;
    place(&swap, path, SWAP.start)
}

/// The golden system's initramfs, also of use to boot a trivial system over the network.
pub fn initramfs(path: &Path, kernel: &Kernel) -> Result<()> {
    initramfs_of(Architecture::X86_64, path, kernel)
}

fn initramfs_of(architecture: Architecture, path: &Path, kernel: &Kernel) -> Result<()> {
    let mut archive = File::create(path)?;
    let mut entries = Entries {
        number: 0,
        archive: &mut archive,
    };
    for folder in ["bin", "dev", "mnt", "modules", "proc", "sys"] {
        entries.add(folder, 0o040_755, &[])?;
    }
    let busybox = fs::read(architecture.busybox()?)?;
    entries.add("bin/busybox", 0o100_755, &busybox)?;
    entries.add("init", 0o100_755, INIT.as_bytes())?;
    let modules = kernel.modules(&["virtio_blk", "virtio_pci", "ext4", "crc32c_generic"])?;
    for (number, module) in modules.iter().enumerate() {
        let bytes = fs::read(module).with_context(|| format!("reading {}", module.display()))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        entries.add(&format!("modules/{number:02}-{name}"), 0o100_644, &bytes)?;
    }
    trailer(archive)?;
    Ok(())
}

struct Entries<'a> {
    number: u32,
    archive: &'a mut File,
}

impl Entries<'_> {
    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.number += 1;
        let length =
            u32::try_from(bytes.len()).with_context(|| format!("{name} is too large for newc"))?;
        let mut file = Builder::new(name)
            .ino(self.number)
            .mode(mode)
            .nlink(1)
            .write(&mut *self.archive, length);
        file.write_all(bytes)?;
        file.finish()?;
        Ok(())
    }
}

fn partition(disk: &Path) -> Result<()> {
    let sectors = |part: Part| format!("start={}, size={}", part.start / 512, part.size / 512);
    let (esp, root, swap) = (sectors(ESP), sectors(ROOT), sectors(SWAP));
    // LegacyBIOSBootable is what gptmbr.bin looks for.
    let script = format!(
        "label: gpt\nlabel-id: 6A09E667-F3BC-4908-B2FB-1366EA957D3E\n\
             {esp}, type=U, name=esp, uuid=510E527F-ADE6-42D1-9B05-688C2B3E6C1F\n\
             {root}, type=L, name=golden, attrs=LegacyBIOSBootable, uuid=1F83D9AB-FB41-4D6B-9BE0-CD19137E2179\n\
             {swap}, type=S, name=swap, uuid=CBBB9D5D-C105-49ED-8E62-9A2A299A0A02\n"
    );
    let mut sfdisk = Command::new(tools::find("sfdisk")?);
    sfdisk.args(["--quiet", "--no-tell-kernel"]).arg(disk);
    let work = tempfile::NamedTempFile::new()?;
    fs::write(work.path(), script)?;
    tools::output(sfdisk.stdin(File::open(work.path())?))?;
    let code = tools::packaged("/usr/lib/EXTLINUX/gptmbr.bin", "extlinux")?;
    place(&code, disk, 0)
}

fn make_esp(
    image: &Path,
    kernel: &Kernel,
    initrd: &Path,
    architecture: Architecture,
) -> Result<()> {
    File::create(image)?.set_len(ESP.size)?;
    // One sector a cluster: below 65525 clusters it would not be FAT32.
    let arguments = ["-F", "32", "-s", "1", "-n", "GOLDESP", "-i", "600dd15c"].map(Path::new);
    tools::run("mkfs.vfat", arguments.into_iter().chain([image]))?;
    let unified = image.with_extension("efi");
    unified_kernel_image(&unified, kernel, initrd, architecture)?;
    for folder in ["::/EFI", "::/EFI/BOOT"] {
        tools::run("mmd", [Path::new("-i"), image, Path::new(folder)])?;
    }
    tools::run(
        "mcopy",
        [
            Path::new("-i"),
            image,
            &unified,
            Path::new(&format!("::/EFI/BOOT/{}", architecture.loader())),
        ],
    )?;
    Ok(())
}

fn unified_kernel_image(
    path: &Path,
    kernel: &Kernel,
    initrd: &Path,
    architecture: Architecture,
) -> Result<()> {
    let stub = architecture.stub()?;
    let command_line = path.with_extension("cmdline");
    let parameters = architecture.kernel_parameters();
    fs::write(&command_line, format!("{parameters} quiet"))?;
    let kernel_size = fs::metadata(&kernel.image)?.len();
    ensure!(
        kernel_size < 0x0300_0000 - 0x0100_0000,
        "{} is too large for this layout",
        kernel.image.display()
    );
    let mut objcopy = Command::new(tools::find(architecture.objcopy())?);
    for (section, file, address) in [
        (".cmdline", command_line.as_path(), "0x30000"),
        (".linux", &kernel.image, "0x1000000"),
        (".initrd", initrd, "0x3000000"),
    ] {
        objcopy
            .arg("--add-section")
            .arg(format!("{section}={}", file.display()));
        objcopy
            .arg("--change-section-vma")
            .arg(format!("{section}={address}"));
    }
    tools::output(objcopy.arg(stub).arg(path))?;
    Ok(())
}

fn make_root(image: &Path, work: &Path, kernel: &Kernel, initrd: &Path) -> Result<()> {
    let tree = work.join("root");
    fs::create_dir_all(&tree)?;
    let modules = tools::packaged("/usr/lib/syslinux/modules", "syslinux-common")?;
    tools::run("cp", [Path::new("-a"), &modules, &tree.join("syslinux")])?;
    // Holes and names of every sort are what used-block maps get wrong.
    std::os::unix::fs::symlink("boot/initrd.img", tree.join("initrd"))?;
    let mut sparse = File::create(tree.join("sparse"))?;
    sparse.seek(SeekFrom::Start(6 * MEBIBYTE))?;
    sparse.write_all(b"the end of a long hole")?;
    drop(sparse);

    File::create(image)?.set_len(ROOT.size)?;
    // extlinux 6.04 reads no 64-bit ext4.
    let options = [
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-O",
        "^64bit",
        "-L",
        "golden",
        "-U",
        "a54ff53a-5f1d-4b6e-8c2b-3e6c1f9be0cd",
    ];
    tools::run(
        "mke2fs",
        options
            .map(Path::new)
            .into_iter()
            .chain([Path::new("-d"), &tree, image]),
    )?;
    with_mounted(image, |mounted| fill_root(mounted, kernel, initrd))
}

/// What must be written by the kernel, not by `mke2fs -d`: that one makes holes of zeros, and extlinux reads no file
/// with more extents than fit the inode.
fn fill_root(root: &Path, kernel: &Kernel, initrd: &Path) -> Result<()> {
    let boot = root.join("boot");
    let parameters = Architecture::X86_64.kernel_parameters();
    fs::create_dir(&boot)?;
    for (source, name) in [(kernel.image.as_path(), "vmlinuz"), (initrd, "initrd.img")] {
        let copy = boot.join(name);
        tools::run("cp", [Path::new("--sparse=never"), source, &copy])?;
        File::open(&copy)?.sync_all()?;
    }
    fs::hard_link(boot.join("vmlinuz"), root.join("vmlinuz"))?;
    fs::write(
        boot.join("extlinux.conf"),
        format!(
            "SERIAL 0 115200\nDEFAULT golden\nLABEL golden\n  KERNEL vmlinuz\n  INITRD initrd.img\n  APPEND {parameters} quiet\n"
        ),
    )?;
    write_checksums(root)?;
    tools::run("extlinux", [Path::new("--install"), &boot])?;
    // A deleted file leaves junk in blocks that no filesystem uses: no image may carry it.
    let junk = root.join("junk");
    fs::write(&junk, noise(24 * MEBIBYTE, 1))?;
    File::open(&junk)?.sync_all()?;
    Ok(fs::remove_file(&junk)?)
}

fn write_checksums(tree: &Path) -> Result<()> {
    let mut sum = Command::new(tools::find("sh")?);
    sum.args(["-ec", "find . -type f ! -name TREE.sha256 -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >TREE.sha256"]);
    tools::output(sum.current_dir(tree))?;
    Ok(())
}

/// Mounts a filesystem image while `work` is at it.
pub fn with_mounted(image: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    tools::run(
        "mount",
        [Path::new("-o"), Path::new("loop"), image, folder.path()],
    )
    .with_context(|| {
        format!(
            "mounting {} (making the golden disk needs root)",
            image.display()
        )
    })?;
    let result = work(folder.path());
    tools::run("umount", [folder.path()])?;
    result
}

fn make_swap(image: &Path) -> Result<()> {
    // Swapped-out pages are junk too; only the first page, the signature, is the disk's.
    fs::write(image, noise(SWAP.size, 2))?;
    tools::run(
        "mkswap",
        [
            Path::new("-q"),
            Path::new("-L"),
            Path::new("goldswap"),
            image,
        ],
    )?;
    Ok(())
}

/// Incompressible bytes that are the same each time.
pub fn noise(length: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Copies a file's bytes into the disk at `offset`, leaving holes where it has zeros.
pub(crate) fn place(source: &Path, disk: &Path, offset: u64) -> Result<()> {
    let mut source = File::open(source).with_context(|| format!("opening {}", source.display()))?;
    let mut disk = File::options().write(true).open(disk)?;
    let mut buffer = vec![0; 64 << 10];
    let mut position = offset;
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(position))?;
            disk.write_all(&buffer[..read])?;
        }
        position += u64::try_from(read).map_err(io::Error::other)?;
    }
}
