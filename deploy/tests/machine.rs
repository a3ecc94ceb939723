//! A Debian that never was on a disk becomes a machine that boots: laid out, made bootable by its own programs, named, started.

mod common;

use common::debian::golden;
use common::disk_file::DiskFile;
use common::qemu::start;
use common::{MIB, tree};
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

/// The golden machine, with a configuration of GRUB that finds the root by its label.
fn capture_with_configuration(folder: &Path, image: &Path) {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("upper/boot/grub")).unwrap();
    fs::create_dir(at("work")).unwrap();
    fs::create_dir(at("root")).unwrap();
    let kernels = fs::read_dir(golden().join("boot")).unwrap();
    let mut names = kernels.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let version = names
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .unwrap();
    let configuration = format!(
        "serial\nterminal_output serial\nsearch --label root --set=root\n\
         linux /boot/vmlinuz-{version} root=LABEL=root console=ttyS0\ninitrd /boot/initrd.img-{version}\nboot\n"
    );
    fs::write(at("upper/boot/grub/grub.cfg"), configuration).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        golden().display(),
        at("upper").display(),
        at("work").display()
    );
    let arguments = ["-t", "overlay", "overlay", "-o", &options];
    let mounted = Mounted::new(&arguments, &at("root"));
    tree::capture_to(mounted.path(), image, &tree::options()).unwrap();
}

#[test]
fn a_debian_that_never_was_on_a_disk_is_deployed_and_boots_with_its_name() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = folder.path().join("image.tar.gz");
    capture_with_configuration(folder.path(), &image);
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
