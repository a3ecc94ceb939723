//! A Debian that never was on a disk becomes a machine that boots: laid out, made bootable by its own programs, named, started.

mod common;

use common::debian::golden;
use common::disk_file::DiskFile;
use common::qemu::start;
use common::{MIB, one_disk, tree};
use pitstop_deploy::disk::{Deployment, plan};
use pitstop_deploy::hooks::Hook;
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::image::FileSource;
use pitstop_imaging::layout::Layout;
use pitstop_testing::mounts::Mounted;
use pitstop_trees::TreeImage;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Shown where the test fails.
struct Shown;

impl Reporter for Shown {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            println!("{text}");
        }
    }
}

const LAYOUT: &str = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"bios-boot\"\nsize = \"1MiB\"\n\
    [[partition]]\ntype = \"swap\"\nsize = \"64MiB\"\nfilesystem = \"swap\"\n\
    [[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nlabel = \"root\"\nmount = \"/\"\n";

/// An EFI system partition that the firmware starts and systemd-boot reads, and the root.
const LAYOUT_UEFI: &str = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"efi\"\nsize = \"200MiB\"\n\
    filesystem = \"vfat\"\nlabel = \"ESP\"\nmount = \"/boot/efi\"\n\
    [[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nlabel = \"root\"\nmount = \"/\"\n";

/// Captures the golden machine with what `more` puts into a folder over it; it is told the kernel's version.
fn capture_with(folder: &Path, image: &Path, more: impl FnOnce(&Path, &str)) {
    let at = |name: &str| folder.join(name);
    for name in ["upper/etc", "work", "root"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let kernels = fs::read_dir(golden().join("boot")).unwrap();
    let mut names = kernels.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let version = names
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .unwrap();
    more(&at("upper"), &version);
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        golden().display(),
        at("upper").display(),
        at("work").display()
    );
    let arguments = ["-t", "overlay", "overlay", "-o", &layers];
    let mounted = Mounted::new(&arguments, &at("root"));
    tree::capture_to(mounted.path(), image, &tree::options()).unwrap();
}

/// The golden machine, with a configuration of GRUB that finds the root by its label; on Btrfs, in that subvolume.
fn capture_with_grub(folder: &Path, image: &Path, subvolume: Option<&str>) {
    capture_with(folder, image, |upper, version| {
        let (mut top, mut flags) = (String::new(), String::new());
        if let Some(subvolume) = subvolume {
            top = format!("/{subvolume}");
            flags = format!(" rootflags=subvol={subvolume}");
            let fstab = format!("LABEL=root / btrfs subvol={subvolume} 0 0\n");
            fs::write(upper.join("etc/fstab"), fstab).unwrap();
        }
        let configuration = format!(
            "serial\nterminal_output serial\nsearch --label root --set=root\n\
             linux {top}/boot/vmlinuz-{version} root=LABEL=root{flags} console=ttyS0\ninitrd {top}/boot/initrd.img-{version}\nboot\n"
        );
        fs::create_dir_all(upper.join("boot/grub")).unwrap();
        fs::write(upper.join("boot/grub/grub.cfg"), configuration).unwrap();
    });
}

/// The golden machine as `bootctl install` and kernel-install(8) leave one: loader, entry, kernel and initramfs on the EFI system
/// partition, in a folder that is called as the machine-id of the golden one.
fn capture_with_systemd_boot(folder: &Path, image: &Path) {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    capture_with(folder, image, |upper, version| {
        let efi = upper.join("boot/efi");
        let own = format!("{TOKEN}/{version}");
        for name in ["EFI/systemd", "loader/entries", &own] {
            fs::create_dir_all(efi.join(name)).unwrap();
        }
        let copy = |from: &Path, to: &str| {
            fs::copy(from, efi.join(to))
                .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        };
        copy(Path::new(LOADER), "EFI/systemd/systemd-bootx64.efi");
        let boot = golden().join("boot");
        copy(
            &boot.join(format!("vmlinuz-{version}")),
            &format!("{own}/linux"),
        );
        copy(
            &boot.join(format!("initrd.img-{version}")),
            &format!("{own}/initrd"),
        );
        let entry = format!(
            "title Debian\nversion {version}\nmachine-id {TOKEN}\noptions root=LABEL=root console=ttyS0\n\
             linux /{own}/linux\ninitrd /{own}/initrd\n"
        );
        let at = format!("loader/entries/{TOKEN}-{version}.conf");
        let fstab = "LABEL=root / ext4 defaults 0 1\nLABEL=ESP /boot/efi vfat umask=0077 0 1\n";
        fs::write(efi.join(at), entry).unwrap();
        fs::write(efi.join("loader/loader.conf"), "timeout 0\n").unwrap();
        fs::write(upper.join("etc/fstab"), fstab).unwrap();
        fs::write(upper.join("etc/machine-id"), format!("{TOKEN}\n")).unwrap();
    });
}

#[test]
fn a_debian_that_never_was_on_a_disk_is_deployed_and_boots_with_its_name() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = folder.path().join("image.tar.gz");
    capture_with_grub(folder.path(), &image, None);
    let layer = folder.path().join("layer");
    fs::create_dir_all(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/motd"), "from the layer\n").unwrap();
    let disk = DiskFile::new(3000 * MIB);
    let source = FileSource::open(&image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let mut deployment = Deployment::new(&image, &disk.path);
    deployment.layout = Some(Layout::parse(LAYOUT).unwrap());
    deployment.hostname = Some("web-07".into());
    deployment.overrides = vec![Overlay {
        name: "layer".into(),
        from: From::Folder(layer),
        owners: Owners::Root,
    }];
    deployment.hooks = vec![Hook {
        name: "10-issue".into(),
        script: b"#!/bin/sh\necho \"$PITSTOP_HOSTNAME is deployed\" > /etc/issue\n".into(),
    }];
    let plan = plan(deployment).unwrap();
    let text = plan.to_string();
    assert!(
        text.contains("GRUB, made anew by the tree's own programs"),
        "{text}"
    );
    plan.run(&Shown).unwrap();
    let said = start(&disk.path, false, "web-07 login:");
    assert!(said.contains("web-07 is deployed"), "{said}");
    assert!(said.contains("web-07 login:"), "{said}");
}

#[test]
fn a_debian_on_a_subvolume_of_btrfs_is_captured_and_boots_on_another_layout() {
    let _one = one_disk();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = at("image.tar.gz");
    capture_with_grub(folder.path(), &image, Some("@"));
    // The golden machine: all of its disk is a Btrfs, and its root the subvolume.
    let file = at("golden");
    fs::File::create(&file)
        .unwrap()
        .set_len(3000 * MIB)
        .unwrap();
    tree::run(
        Command::new("mkfs.btrfs")
            .args(["-q", "-L", "root"])
            .arg(&file),
    );
    let mount = |options: &str, name: &str| {
        fs::create_dir(at(name)).unwrap();
        Mounted::new(&["-o", options, file.to_str().unwrap()], &at(name))
    };
    let top = mount("loop", "top");
    let create = ["-q", "subvolume", "create"];
    tree::run(Command::new("btrfs").args(create).arg(at("top/@")));
    drop(top);
    let root = mount("loop,subvol=@", "golden-root");
    tree::extract_to(&image, root.path()).unwrap();
    let meta = tree::capture_to(root.path(), &image, &tree::options()).unwrap();
    drop(root);
    let found = &meta.filesystems[0];
    assert_eq!(
        (found.kind.as_str(), found.subvolume.as_str()),
        ("btrfs", "/@")
    );
    let disk = DiskFile::new(3500 * MIB);
    let source = FileSource::open(&image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let mut deployment = Deployment::new(&image, &disk.path);
    let layout = LAYOUT
        .replace("\"ext4\"", "\"btrfs\"")
        .replace("label = \"root\"\n", "");
    deployment.layout = Some(Layout::parse(&layout).unwrap());
    deployment.hostname = Some("web-08".into());
    plan(deployment).unwrap().run(&Shown).unwrap();
    // Its kernel has found the subvolume, and systemd its name there.
    let named = "Hostname set to <web-08>";
    let said = start(&disk.path, false, named);
    assert!(said.contains(named), "{said}");
}

#[test]
fn a_debian_with_systemd_boot_is_deployed_and_uefi_starts_it_with_its_name() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = folder.path().join("image.tar.gz");
    capture_with_systemd_boot(folder.path(), &image);
    let disk = DiskFile::new(2000 * MIB);
    let source = FileSource::open(&image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let mut deployment = Deployment::new(&image, &disk.path);
    deployment.layout = Some(Layout::parse(LAYOUT_UEFI).unwrap());
    deployment.hostname = Some("web-09".into());
    plan(deployment).unwrap().run(&Shown).unwrap();
    // The loader has found its entry, the kernel its root, and systemd its name there.
    let named = "Hostname set to <web-09>";
    let said = start(&disk.path, true, named);
    assert!(said.contains(named), "{said}");
}
