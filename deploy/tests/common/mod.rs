//! A golden machine made by hand: files of every kind, an fstab, GRUB's real images, loaders for UEFI; its image; and disks in files
//! that it is deployed to.

// Each test file is a program of its own, and none uses everything.
#![allow(dead_code, reason = "shared by several test programs")]

pub mod debian;
pub mod disk_file;
pub mod qemu;
#[path = "../../../trees/tests/common/mod.rs"]
pub mod tree;

use pitstop_deploy::disk::{Deployed, Deployment, plan};
use pitstop_imaging::event::{Reporter, Silent};
use pitstop_imaging::image::FileSource;
use pitstop_imaging::layout::Layout;
use pitstop_trees::entry::Entry;
use pitstop_trees::{Boot, Filesystem, Meta, TreeImage};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Held where a disk with the tree's UUIDs is made: there is no Btrfs beside another filesystem with its UUID.
pub fn one_disk() -> File {
    pitstop_testing::turns::take("uuids")
}

pub const MIB: u64 = 1 << 20;
pub const ROOT: &str = "11111111-2222-4333-8444-555555555555";
pub const BOOT: &str = "22222222-2222-4333-8444-555555555555";
pub const SWAP: &str = "33333333-2222-4333-8444-555555555555";
pub const ESP: &str = "1234-ABCD";
/// What GRUB prints on the serial port once it has found its folder, and then it switches the machine off.
pub const BOOTED: &str = "the tree has booted";
pub const GRUB_CFG: &str = "serial\nterminal_output serial\necho the tree has booted\nhalt\n";
const GRUB_MODULES: [&str; 8] = [
    "normal",
    "configfile",
    "echo",
    "serial",
    "terminal",
    "halt",
    "search_fs_uuid",
    "minicmd",
];
pub const LOADER: &str = "boot/efi/EFI/debian/shimx64.efi";

/// What the golden machine was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Golden {
    /// `gpt` or `mbr`.
    pub table: &'static str,
    /// Of the root.
    pub filesystem: &'static str,
    /// Whether `/boot` is a filesystem of its own.
    pub has_boot: bool,
    /// Whether everything of `trees`' tests is in it.
    pub everything: bool,
    /// Whether UEFI can start it: else the loaders are files that have their names and nothing else.
    pub real_loader: bool,
    /// What its boot configuration says that the root is; nothing if empty.
    pub root: &'static str,
}

impl Golden {
    pub fn gpt(filesystem: &'static str) -> Self {
        Self {
            table: "gpt",
            filesystem,
            has_boot: false,
            everything: true,
            real_loader: false,
            root: "",
        }
    }

    /// Which partition GRUB's folder is on.
    fn number(self) -> u32 {
        if self.table == "gpt" { 3 } else { 1 }
    }

    pub fn layout(self) -> Layout {
        let Self { filesystem, .. } = self;
        let head = if self.table == "gpt" {
            format!(
                "id = \"AAAAAAAA-2222-4333-8444-555555555555\"\n\
                 [[partition]]\ntype = \"bios-boot\"\nsize = \"1MiB\"\n\
                 [[partition]]\ntype = \"efi\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nuuid = \"{ESP}\"\n"
            )
        } else {
            "id = \"0x1a2b3c4d\"\n".into()
        };
        let boot = if self.has_boot {
            format!(
                "[[partition]]\ntype = \"linux\"\nsize = \"100MiB\"\nfilesystem = \"ext4\"\nuuid = \"{BOOT}\"\nlabel = \"boot\"\n"
            )
        } else {
            String::new()
        };
        let text = format!(
            "version = 1\ntable = \"{}\"\n{head}{boot}\
             [[partition]]\ntype = \"linux\"\nsize = \"2000MiB\"\nfilesystem = \"{filesystem}\"\nuuid = \"{ROOT}\"\nlabel = \"root\"\n\
             [[partition]]\ntype = \"swap\"\nsize = \"16MiB\"\nfilesystem = \"swap\"\nuuid = \"{SWAP}\"\n",
            self.table
        );
        Layout::parse(&text).unwrap()
    }

    fn fstab(self) -> String {
        let mut text = String::from("# made by hand\n");
        let root = |mount: &str, subvolume: &str| match self.filesystem {
            "btrfs" => format!("UUID={ROOT} {mount} btrfs subvol={subvolume} 0 0\n"),
            other => format!("UUID={ROOT} {mount} {other} defaults 0 1\n"),
        };
        text += &root("/", "@");
        if self.filesystem == "btrfs" {
            text += &root("/home", "@home");
        }
        if self.has_boot {
            text += "LABEL=boot /boot ext4 defaults 0 2\n";
        }
        if self.table == "gpt" {
            text += "UUID=1234-ABCD /boot/efi vfat umask=0077 0 1\n";
        }
        text + &format!("UUID={SWAP} none swap sw 0 0\n")
    }

    fn filesystems(self) -> Vec<Filesystem> {
        let one = |mount: &str, kind: &str, uuid: &str, subvolume: &str| Filesystem {
            mount: mount.into(),
            kind: kind.into(),
            uuid: uuid.into(),
            subvolume: subvolume.into(),
            ..Filesystem::default()
        };
        let btrfs = self.filesystem == "btrfs";
        let mut all = vec![one(
            "/",
            self.filesystem,
            ROOT,
            if btrfs { "/@" } else { "" },
        )];
        if self.has_boot {
            all.push(one("/boot", "ext4", BOOT, ""));
        }
        if self.table == "gpt" {
            all.push(one("/boot/efi", "vfat", ESP, ""));
        }
        if btrfs {
            all.push(one("/home", "btrfs", ROOT, "/@home"));
        }
        all
    }

    /// Makes its files in `root`.
    fn make(self, root: &Path) {
        if self.everything {
            tree::make_everything(root);
        }
        for folder in ["dev", "proc", "run", "sys", "tmp", "var/lib"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let write = |path: &str, bytes: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("etc/fstab", self.fstab().as_bytes());
        write("etc/hostname", b"golden\n");
        write("etc/hosts", b"127.0.0.1 localhost\n127.0.1.1 golden\n");
        write("etc/machine-id", b"");
        write("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n");
        write("usr/bin/env", &fs::read("/usr/bin/env").unwrap());
        write("home/user/file", b"at home");
        let modules = Path::new("/usr/lib/grub/i386-pc");
        let core = core_img(self);
        write("boot/grub/i386-pc/core.img", &core);
        let boot = fs::read(modules.join("boot.img")).unwrap();
        write("boot/grub/i386-pc/boot.img", &boot);
        let kernel = match self.root {
            "" => String::new(),
            root => format!("linux /vmlinuz root={root} ro\n"),
        };
        write(
            "boot/grub/grub.cfg",
            (GRUB_CFG.to_owned() + &kernel).as_bytes(),
        );
        if self.table == "gpt" {
            for name in ["shimx64.efi", "grubx64.efi", "mmx64.efi", "BOOTX64.CSV"] {
                let program = name.repeat(100_000);
                write(&format!("boot/efi/EFI/debian/{name}"), program.as_bytes());
            }
            if self.real_loader {
                fs::remove_dir_all(root.join("boot/efi/EFI/debian")).unwrap();
                write("boot/efi/EFI/debian/grubx64.efi", &grub_efi(self));
            }
        }
    }

    /// Captures it to `image`.
    pub fn capture(self, image: &Path) -> GoldenTree {
        let disk = tree::Disk::new(1 << 30, &[]);
        self.make(&disk.path);
        let layout = self.layout().to_toml().unwrap().parse().unwrap();
        let options = pitstop_trees::CaptureOptions {
            meta: Meta {
                layout: Some(layout),
                ..Meta::default()
            },
            ..tree::options()
        };
        // Only of a folder within a filesystem nothing is told: what it was on is said here.
        let folder = disk.join("golden");
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(&disk.path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name != "golden" && name != "lost+found" {
                fs::rename(entry.path(), folder.join(name)).unwrap();
            }
        }
        let options = pitstop_trees::CaptureOptions {
            meta: Meta {
                filesystems: self.filesystems(),
                ..options.meta
            },
            ..options
        };
        tree::capture_to(&folder, image, &options).unwrap();
        let entries = tree::entries(&folder);
        GoldenTree {
            image: image.to_owned(),
            entries,
        }
    }
}

pub struct GoldenTree {
    pub image: PathBuf,
    pub entries: Vec<Entry>,
}

/// GRUB for UEFI, which looks for its folder by the partition's number.
fn grub_efi(golden: Golden) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grubx64.efi");
    tree::run(
        Command::new("grub-mkimage")
            .args(["-O", "x86_64-efi", "-p"])
            .arg(format!("(,gpt{})/boot/grub", golden.number()))
            .arg("-o")
            .arg(&path)
            .args(["part_gpt", "ext2", "fat"])
            .args(GRUB_MODULES),
    );
    fs::read(path).unwrap()
}

fn core_img(golden: Golden) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core.img");
    let part = if golden.table == "gpt" {
        "gpt"
    } else {
        "msdos"
    };
    let filesystem = match (golden.has_boot, golden.filesystem) {
        (false, "xfs") => "xfs",
        (false, "btrfs") => "btrfs",
        _ => "ext2",
    };
    let inside = match (golden.has_boot, golden.filesystem) {
        (true, _) => "/grub",
        (false, "btrfs") => "/@/boot/grub",
        _ => "/boot/grub",
    };
    tree::run(
        Command::new("grub-mkimage")
            .args(["-O", "i386-pc", "-p"])
            .arg(format!("(,{part}{}){inside}", golden.number()))
            .arg("-o")
            .arg(&path)
            .args(["biosdisk", &format!("part_{part}"), filesystem])
            .args(GRUB_MODULES),
    );
    fs::read(path).unwrap()
}

pub fn deploy(
    image: &Path,
    disk: &Path,
    change: impl FnOnce(&mut Deployment),
) -> anyhow::Result<Deployed> {
    deploy_telling(image, disk, change, &Silent)
}

pub fn deploy_telling(
    image: &Path,
    disk: &Path,
    change: impl FnOnce(&mut Deployment),
    reporter: &dyn Reporter,
) -> anyhow::Result<Deployed> {
    let source = FileSource::open(image)?;
    let image = TreeImage::open(&source)?;
    let mut deployment = Deployment::new(&image, disk);
    deployment.identity = pitstop_deploy::wishes::Identity::Keep;
    change(&mut deployment);
    plan(deployment)?.run(reporter)
}

/// What a plan says, or why there is none.
pub fn planned(
    image: &Path,
    disk: &Path,
    change: impl FnOnce(&mut Deployment),
) -> anyhow::Result<String> {
    let source = FileSource::open(image)?;
    let image = TreeImage::open(&source)?;
    let mut deployment = Deployment::new(&image, disk);
    change(&mut deployment);
    Ok(plan(deployment)?.to_string())
}

/// What differs between the golden tree and the mounted one, but for mount points and what is on a FAT.
pub fn differences(golden: &[Entry], mounted: &Path, but: &[&str]) -> Vec<String> {
    let keep = |entries: &[Entry]| -> Vec<Entry> {
        let of_tree = |entry: &&Entry| {
            let path = entry.path.as_bytes();
            let left_out = |but: &&&str| entry.path.is_within(but.as_bytes()) && !path.is_empty();
            !but.iter().any(|but| left_out(&but))
        };
        entries.iter().filter(of_tree).cloned().collect()
    };
    tree::differences(&keep(golden), &keep(&tree::entries(mounted)), |_| {})
}

pub fn boot_of(image: &Path) -> Option<Boot> {
    let source = FileSource::open(image).unwrap();
    TreeImage::open(&source).unwrap().meta.boot
}
