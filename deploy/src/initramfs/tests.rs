use super::*;
use crate::test_tree::{Told, put, script, text, tree, with_shell};
use pitstop_imaging::image::{FileSource, Level};
use pitstop_trees::{CaptureOptions, Excludes, Meta, Packing, TreeImage};
use std::path::Path;
use std::process::{Command, Stdio};

const KERNEL: &str = "6.1.0-13-amd64";
const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";

/// A tree with a kernel: `virtio_blk`, `ahci` and `nvme` are modules, `sd_mod` is built in.
fn with_kernel() -> (tempfile::TempDir, Root) {
    let modules = |file: &str| format!("lib/modules/{KERNEL}/{file}");
    let (folder, root) = tree(&[
        (
            &modules("modules.dep"),
            "kernel/ata/ahci.ko.xz: kernel/ata/libata.ko.xz\nkernel/ata/libata.ko.xz:\nkernel/nvme/nvme.ko:\nkernel/virtio_blk.ko:\nkernel/fs/ext4.ko:\nkernel/pata.ko:\n",
        ),
        (
            &modules("modules.alias"),
            "alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci\nalias pci:v*d*sv*sd*bc01sc06i01* pata\nalias virtio:d00000002v* virtio-blk\nalias fs-ext4 ext4\n",
        ),
        (&modules("modules.builtin"), "kernel/scsi/sd_mod.ko\n"),
        (
            &modules("modules.builtin.modinfo"),
            "sd_mod.alias=scsi:t-0x00*\0",
        ),
        (&format!("boot/vmlinuz-{KERNEL}"), ""),
    ]);
    with_shell(&root);
    (folder, root)
}

fn initrd() -> String {
    format!("boot/initrd.img-{KERNEL}")
}

/// An initramfs with these modules of the kernel, packed, with microcode in front.
fn initramfs_with(root: &Root, path: &str, modules: &[&str]) {
    let modules = modules.iter().map(|module| {
        let path = format!("usr/lib/modules/{KERNEL}/kernel/{module}.ko.zst");
        (path, "x")
    });
    let mut files: Vec<(String, &str)> = modules.collect();
    files.push(("usr/bin/true".into(), ""));
    initramfs_of(root, path, &files);
}

/// One with these files.
fn initramfs_of(root: &Root, path: &str, files: &[(String, &str)]) {
    let (front, behind) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(front.path(), "kernel/x86/microcode/GenuineIntel.bin", "x");
    for (path, content) in files {
        put(behind.path(), path, content);
    }
    let pack = |folder: &Path, then: &str, out: &Path| {
        let line = format!(
            "cd {} && find * | cpio -o -H newc --quiet | {then} >>{}",
            folder.display(),
            out.display()
        );
        let status = Command::new("sh")
            .args(["-c", &line])
            .stderr(Stdio::inherit())
            .status()
            .unwrap();
        assert!(status.success(), "install cpio and zstd");
    };
    let out = root.path().join(path);
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&out);
    pack(front.path(), "cat", &out);
    pack(behind.path(), "zstd -q -c", &out);
}

fn device(modalias: &str, driver: &str) -> Need {
    Need::Device {
        modalias: modalias.into(),
        driver: Some(driver.into()),
    }
}

fn missing(root: &Root, needs: &[Need]) -> Vec<String> {
    let looked = look(root, needs).unwrap().unwrap();
    assert_eq!(looked.kernel, KERNEL);
    assert_eq!(looked.unknown, None);
    looked.missing
}

#[test]
fn what_is_in_the_initramfs_or_built_in_is_there() {
    let (_folder, root) = with_kernel();
    initramfs_with(&root, &initrd(), &["virtio_blk", "pata"]);
    let sd = device("scsi:t-0x00", "sd");
    let blk = device("virtio:d00000002v00001AF4", "virtio_blk");
    assert!(missing(&root, &[sd.clone(), blk]).is_empty());
    // Another module answers too, but the disk is driven by this one.
    assert_eq!(missing(&root, &[device(AHCI, "ahci"), sd]), ["ahci"]);
    // What drives it here is none of that kernel's: any that answers is enough.
    assert!(missing(&root, &[device(AHCI, "ahci_new")]).is_empty());
    let raid = device("pci:v00001000d00000014sv0sd0bc01sc04i00", "megaraid_sas");
    assert_eq!(missing(&root, &[raid]), ["megaraid_sas"]);
    // Buses that no module is for.
    assert!(missing(&root, &[device("acpi:PNP0A08:", "pci_root")]).is_empty());
    let modules = ["ext4", "dm_mod"].map(|name| Need::Module(name.into()));
    assert_eq!(missing(&root, &modules), ["dm_mod", "ext4"]);
}

#[test]
fn what_is_missing_is_added_by_the_trees_own_program_or_told() {
    let (_folder, root) = with_kernel();
    initramfs_with(&root, &initrd(), &["virtio_blk"]);
    initramfs_with(&root, "better.img", &["virtio_blk", "ahci", "libata"]);
    let needs = [device(AHCI, "ahci")];
    let chroot = Chroot::enter(&root, None).unwrap();
    let ensure = |wish, told: &Told| ensure(&chroot, wish, &needs, false, told);
    let told = Told::default();
    let error = ensure(Initrd::Keep, &told).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "kernel {KERNEL} of the tree would not find this disk: /{} has not ahci (initrd = \"auto\" makes it anew)",
            initrd()
        )
    );
    let error = ensure(Initrd::Auto, &told).unwrap_err().to_string();
    assert!(
        error.ends_with("has not ahci (the tree has no program that makes one)"),
        "{error}"
    );
    // One that changes nothing.
    script(&root, "usr/sbin/update-initramfs", "echo $* >/args");
    let error = ensure(Initrd::Auto, &told).unwrap_err().to_string();
    assert!(
        error.ends_with("has not ahci (it was made anew, and lacks it still)"),
        "{error}"
    );
    assert_eq!(text(&root, "args"), format!("-u -k {KERNEL}\n"));
    script(
        &root,
        "usr/sbin/update-initramfs",
        &format!("cat /better.img >/{}; rm /args", initrd()),
    );
    ensure(Initrd::Auto, &told).unwrap();
    assert!(
        told.has("lacks ahci: it is made anew"),
        "{:#?}",
        told.lines()
    );
    // Nothing is missing any more: nothing runs.
    script(&root, "usr/sbin/update-initramfs", "echo $* >/args");
    ensure(Initrd::Auto, &told).unwrap();
    ensure(Initrd::Keep, &told).unwrap();
    assert!(!root.path().join("args").exists());
    ensure(Initrd::Rebuild, &told).unwrap();
    assert!(root.path().join("args").exists());
}

#[test]
fn dracut_is_told_the_driver_and_the_place() {
    let (_folder, root) = with_kernel();
    let image = format!("boot/initramfs-{KERNEL}.img");
    initramfs_with(&root, &image, &[]);
    script(
        &root,
        "usr/bin/dracut",
        "for a in \"$@\"; do echo \"$a\" >>/args; done",
    );
    let chroot = Chroot::enter(&root, None).unwrap();
    let needs = [device(AHCI, "ahci"), Need::Module("dm-mod".into())];
    ensure(&chroot, Initrd::Auto, &needs, false, &Told::default()).unwrap_err();
    assert_eq!(
        text(&root, "args"),
        format!("--force\n--add-drivers\nahci dm_mod\n/{image}\n{KERNEL}\n")
    );
}

#[test]
fn changed_identifiers_want_a_new_one_and_an_unknown_packing_is_told() {
    let (_folder, root) = with_kernel();
    initramfs_with(&root, &initrd(), &["ahci"]);
    let chroot = Chroot::enter(&root, None).unwrap();
    let needs = [device(AHCI, "ahci")];
    let error = ensure(&chroot, Initrd::Auto, &needs, true, &Told::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot be made anew: the tree has none of update-initramfs"),
        "{error}"
    );
    put(root.path(), &initrd(), "\x02\x21\x4c\x18 packed with lz4");
    let told = Told::default();
    ensure(&chroot, Initrd::Keep, &needs, false, &told).unwrap();
    assert!(
        told.has("is not known: /boot/initrd.img-6.1.0-13-amd64: it is packed with lz4"),
        "{:#?}",
        told.lines()
    );
    script(&root, "usr/sbin/update-initramfs", "echo made >/args");
    ensure(&chroot, Initrd::Auto, &needs, false, &told).unwrap();
    assert_eq!(text(&root, "args"), "made\n");
    let (_folder, empty) = tree(&[("etc/passwd", "")]);
    let chroot = Chroot::enter(&empty, None).unwrap();
    ensure(&chroot, Initrd::Auto, &needs, true, &Told::default()).unwrap();
}

#[test]
fn an_initramfs_opens_what_its_table_names() {
    let (_folder, root) = with_kernel();
    let told = Told::default();
    let check = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        check_opens(&root, &names, &told).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(check(&[]), Ok(()));
    let error = check(&["system"]).unwrap_err();
    assert!(error.contains("has no initramfs"), "{error}");
    initramfs_with(&root, &initrd(), &["dm_crypt"]);
    let error = check(&["system"]).unwrap_err();
    assert!(error.contains("does not open system"), "{error}");
    let table = "other UUID=1 none luks\nsystem UUID=2 none luks\n";
    initramfs_of(&root, &initrd(), &[("cryptroot/crypttab".into(), table)]);
    assert_eq!(check(&["other", "system"]), Ok(()));
    let error = check(&["system", "syste"]).unwrap_err();
    assert!(error.contains("does not open syste,"), "{error}");
    // How this one is packed is not known here.
    put(root.path(), &initrd(), "\u{2}!L\u{18}x");
    assert_eq!(check(&["system"]), Ok(()));
    assert!(told.has("nobody has looked whether it opens system"));
}

/// A golden machine whose disk is plain has another initramfs.
#[test]
fn an_update_of_a_root_on_luks_gets_an_initramfs_that_opens_it() {
    let (_folder, root) = with_kernel();
    put(
        root.path(),
        "etc/crypttab",
        "system UUID=0d9f5f0a-6a0c-4c1a-9a77-1f6d6f2a5e11 none luks\n",
    );
    let module = format!("lib/modules/{KERNEL}/kernel/dm-crypt.ko");
    let table = ("cryptroot/crypttab".to_owned(), "system UUID=x none luks\n");
    initramfs_of(&root, "better.img", &[(module.clone(), ""), table]);
    let golden = || initramfs_of(&root, &initrd(), &[(module.clone(), "")]);
    golden();
    let make = format!("echo $* >/args; cat /better.img >/{}", initrd());
    script(&root, "usr/sbin/update-initramfs", &make);
    let way = updated::Way {
        needs: vec![Need::Module("dm_crypt".into())],
        mappings: vec![updated::Mapping {
            name: "system".into(),
            uuid: "0d9f5f0a6a0c4c1a9a771f6d6f2a5e11".into(),
        }],
    };
    let chroot = Chroot::enter(&root, None).unwrap();
    let ensure = |wish, told: &Told| {
        let done = way.ensure(&chroot, wish, told);
        done.err().map(|error| format!("{error:#}"))
    };
    let told = Told::default();
    // Who keeps it makes it elsewhere, and is told.
    assert_eq!(ensure(Initrd::Keep, &told), None);
    assert!(told.has("does not open system, which its root is on; its initramfs is kept"));
    assert_eq!(ensure(Initrd::Auto, &told), None);
    assert_eq!(text(&root, "args"), format!("-u -k {KERNEL}\n"));
    assert!(told.has("is made anew: /boot/initrd.img-"));
    // It opens it now: nothing runs.
    std::fs::remove_file(root.path().join("args")).unwrap();
    assert_eq!(ensure(Initrd::Auto, &told), None);
    assert_eq!(ensure(Initrd::Keep, &told), None);
    assert!(!root.path().join("args").exists());
    // A program that leaves it out.
    golden();
    script(&root, "usr/sbin/update-initramfs", "true");
    let error = ensure(Initrd::Auto, &told).unwrap();
    assert!(error.contains("does not open system"), "{error}");
    // Other distributions go by the kernel's command line.
    std::fs::remove_file(root.path().join("usr/sbin/update-initramfs")).unwrap();
    assert_eq!(ensure(Initrd::Auto, &told), None);
}

/// The tree as an image, from a machine of `architecture`.
fn captured(root: &Root, architecture: &str, out: &Path) -> TreeImage<'static> {
    let options = CaptureOptions {
        packing: Packing {
            level: Level::Fast,
            threads: 1,
        },
        excludes: Excludes::new(&[]).unwrap(),
        keep_identity: false,
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta::default(),
    };
    let mut file = File::create(out).unwrap();
    pitstop_trees::capture(root.path(), &options, &mut file, &Told::default()).unwrap();
    let mut image = TreeImage::of(Box::new(FileSource::open(out).unwrap())).unwrap();
    architecture.clone_into(&mut image.meta.architecture);
    image
}

/// A small machine's folders are in its memory.
#[test]
fn an_initramfs_is_looked_into_without_a_copy_of_it() {
    let (_folder, root) = with_kernel();
    initramfs_with(&root, &initrd(), &["virtio_blk", "ahci"]);
    let images = tempfile::tempdir().unwrap();
    let image = captured(&root, "x86_64", &images.path().join("x.tar.gz"));
    let needs = [device(AHCI, "ahci"), Need::Module("nvme".into())];
    let (_folder, place) = tree(&[]);
    let files = Files::of(&place).unwrap();
    let looked = before::look_ahead(&image, &files, &needs).unwrap().unwrap();
    assert_eq!(Some(looked), look(&root, &needs).unwrap());
    let copy = std::fs::metadata(place.path().join(initrd())).unwrap();
    assert_eq!(copy.len(), 0);
    // One that is none is read to its end as well.
    put(root.path(), &initrd(), &"no archive".repeat(100_000));
    let image = captured(&root, "x86_64", &images.path().join("y.tar.gz"));
    let (_folder, place) = tree(&[]);
    let files = Files::of(&place).unwrap();
    let looked = before::look_ahead(&image, &files, &needs).unwrap().unwrap();
    let unknown = looked.unknown.unwrap();
    assert!(unknown.starts_with("/boot/initrd.img-"), "{unknown}");
}

#[test]
fn what_cannot_be_added_is_told_before_the_disk_is_written() {
    let (_folder, root) = with_kernel();
    initramfs_with(&root, &initrd(), &["virtio_blk"]);
    let images = tempfile::tempdir().unwrap();
    let out = images.path().join("x.tar.gz");
    let blk = device("virtio:d00000002v00001AF4", "virtio_blk");
    let (ahci, none) = (device(AHCI, "ahci"), Need::Module("dm_mod".into()));
    let refused = |image: &TreeImage, need: &Need, wish, changed, runs| {
        let checked = check(image, std::slice::from_ref(need), wish, changed, runs);
        checked
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    // As the tree is, nothing of it can be made anew.
    let bare = captured(&root, "aarch64", &out);
    assert_eq!(refused(&bare, &blk, Initrd::Auto, false, false), "");
    for (need, wish, changed, why) in [
        (
            &ahci,
            Initrd::Auto,
            false,
            "has not ahci (the tree has no program",
        ),
        (
            &ahci,
            Initrd::Keep,
            false,
            "has not ahci (initrd = \"auto\"",
        ),
        (&none, Initrd::Auto, false, "it has no driver dm_mod"),
        (
            &blk,
            Initrd::Auto,
            true,
            "cannot be made anew: the tree has none of",
        ),
        (
            &blk,
            Initrd::Rebuild,
            false,
            "cannot be made anew: the tree has none of",
        ),
    ] {
        let error = refused(&bare, need, wish, changed, true);
        assert!(error.contains(why), "{why}: {error}");
    }
    // Its program is found by the tree's own links.
    script(&root, "usr/bin/update-initramfs", "true");
    std::os::unix::fs::symlink("bin", root.path().join("usr/sbin")).unwrap();
    let whole = captured(&root, "aarch64", &images.path().join("y.tar.gz"));
    assert_eq!(refused(&whole, &ahci, Initrd::Auto, false, true), "");
    assert_eq!(refused(&whole, &blk, Initrd::Auto, true, true), "");
    let error = refused(&whole, &ahci, Initrd::Auto, false, false);
    assert!(
        error.contains("programs for aarch64 do not run here"),
        "{error}"
    );
    // How it is packed is not known here: it would be made anew.
    put(root.path(), &initrd(), "\x02\x21\x4c\x18 packed with lz4");
    let packed = captured(&root, "aarch64", &images.path().join("z.tar.gz"));
    assert_eq!(refused(&packed, &ahci, Initrd::Auto, false, true), "");
    let error = refused(&packed, &ahci, Initrd::Auto, false, false);
    assert!(error.contains("initrd = \"keep\""), "{error}");
}
