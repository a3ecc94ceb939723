//! What is in an image.

use crate::bench::{Bench, VERSION, unpack};
use crate::common::run;
use std::process::Command;

#[test]
fn an_image_holds_the_drivers_with_all_they_need_and_nothing_else() {
    let bench = Bench::new();
    let image = bench.nic_image("initramfs.img", &[]);
    let root = bench.path("unpacked");
    unpack(&image, &root, "zstd -dc");
    let modules = root.join("lib/modules").join(VERSION);
    for there in [
        "kernel/drivers/net/ethernet/intel/e1000.ko.xz",
        "kernel/lib/mii.ko.xz",
        "kernel/crypto/crc32c_generic.ko.xz",
    ] {
        assert!(modules.join(there).is_file(), "{there}");
    }
    assert!(!modules.join("kernel/drivers/gpu/big.ko.xz").exists());
    let read = |name: &str| std::fs::read_to_string(modules.join(name)).unwrap();
    assert!(
        read("modules.dep")
            .contains("kernel/drivers/net/ethernet/intel/e1000.ko.xz: kernel/lib/mii.ko.xz\n")
    );
    assert!(read("modules.alias").contains("alias pci:v00008086d0000100E* e1000\n"));
    assert_eq!(read("modules.softdep"), "softdep e1000 pre: crc32c\n");
    assert_eq!(
        std::fs::read(root.join("lib/firmware/intel/there.bin")).unwrap(),
        b"firmware"
    );
    assert_eq!(
        std::fs::read(root.join("init")).unwrap(),
        std::fs::read("/bin/busybox").unwrap()
    );
    assert_eq!(
        std::fs::read_to_string(root.join("etc/pitstop/build-time")).unwrap(),
        "1700000000\n"
    );
}

#[test]
fn modules_are_compressed_unless_memory_is_to_spare() {
    let bench = Bench::new();
    let below = format!("lib/modules/{VERSION}/kernel/lib/mii.ko");
    let original = std::fs::read(bench.path(&below)).unwrap();
    let root = bench.path("unpacked");
    unpack(&bench.nic_image("small.img", &[]), &root, "zstd -dc");
    let packed = root.join(format!("{below}.xz"));
    assert_eq!(run(Command::new("xz").arg("-dc").arg(packed)), original);
    let root = bench.path("unpacked-plain");
    let image = bench.nic_image("plain.img", &["--plain-modules"]);
    unpack(&image, &root, "zstd -dc");
    assert_eq!(std::fs::read(root.join(&below)).unwrap(), original);
    let dep = std::fs::read_to_string(root.join(format!("lib/modules/{VERSION}/modules.dep")));
    assert!(dep.unwrap().contains("intel/e1000.ko: kernel/lib/mii.ko\n"));
}

#[test]
fn the_console_and_the_folders_are_there_before_anything_is_mounted() {
    let bench = Bench::new();
    let image = bench.nic_image("initramfs.img", &[]);
    let script = format!("zstd -dc < {} | cpio --quiet -itvn", image.display());
    let listing = String::from_utf8(run(Command::new("sh").arg("-ec").arg(script))).unwrap();
    let line = |name: &str| {
        let mut lines = listing.lines();
        lines
            .find(|line| line.ends_with(name))
            .unwrap_or_else(|| panic!("no {name} in {listing}"))
    };
    assert!(line(" dev/console").starts_with("crw-------"));
    assert!(line(" dev/console").contains("  5,   1"));
    assert!(line(" tmp").starts_with("drwxrwxrwt"));
    assert!(line(" root").starts_with("drwx------"));
    for folder in [" proc", " sys", " dev", " run", " mnt", " etc"] {
        assert!(line(folder).starts_with("drwxr-xr-x"), "{folder}");
    }
    let owners: Vec<Vec<&str>> = listing
        .lines()
        .map(|line| line.split_whitespace().skip(2).take(2).collect())
        .collect();
    assert!(owners.iter().all(|owner| owner == &["0", "0"]), "{listing}");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let bench = Bench::new();
    let first = std::fs::read(bench.nic_image("first.img", &[])).unwrap();
    let second = std::fs::read(bench.nic_image("second.img", &[])).unwrap();
    assert_eq!(first, second);
}

#[test]
fn every_compression_unpacks_with_its_own_tool() {
    let bench = Bench::new();
    for (name, tool) in [
        ("zstd", "zstd -dc"),
        ("xz", "xz -dc"),
        ("gzip", "gzip -dc"),
        ("none", "cat"),
    ] {
        let image = bench.nic_image(name, &["--compress", name]);
        let root = bench.path(&format!("unpacked-{name}"));
        unpack(&image, &root, tool);
        assert!(root.join("init").is_file(), "{name}");
    }
}

#[test]
fn keys_files_and_programs_land_where_they_were_sent() {
    let bench = Bench::new();
    let keys = bench.file("key.pub", b"ssh-ed25519 AAAA admin\n");
    let ca = bench.certificate();
    let note = bench.file("note", b"hello");
    let image = bench.nic_image(
        "extras.img",
        &[
            "--busybox",
            "/bin/busybox",
            "--authorized-keys",
            keys.to_str().unwrap(),
            "--ca",
            ca.to_str().unwrap(),
            "--program",
            "/usr/bin/env",
            "--param",
            "pitstop.host=http://192.168.1.10/hosts/",
            "--file",
            &format!("{}:/opt/note:0640", note.display()),
        ],
    );
    let root = bench.path("unpacked");
    unpack(&image, &root, "zstd -dc");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        read("root/.ssh/authorized_keys"),
        "ssh-ed25519 AAAA admin\n"
    );
    assert_eq!(
        read("etc/pitstop/params"),
        "pitstop.host=http://192.168.1.10/hosts/\n"
    );
    assert_eq!(read("opt/note"), "hello");
    assert!(root.join("etc/pitstop/ca/00.pem").is_file());
    assert!(root.join("bin/busybox").is_file());
    assert!(root.join("lib64/ld-linux-x86-64.so.2").exists());
}

#[test]
fn mdadm_and_lvm_bring_their_modules_along_where_the_kernel_has_them_as_files() {
    let bench = Bench::new();
    bench.module("kernel/drivers/md/md-mod.ko", &["depends="]);
    bench.module("kernel/drivers/md/raid1.ko", &["depends=md-mod"]);
    bench.module("kernel/drivers/block/loop.ko", &["depends="]);
    let programs = ["--program", "/usr/sbin/mdadm", "--program", "/usr/sbin/lvm"];
    let made = |name: &str| {
        let root = bench.path(&format!("unpacked-{name}"));
        unpack(&bench.nic_image(name, &programs), &root, "zstd -dc");
        let modules = root.join("lib/modules").join(VERSION);
        assert!(modules.join("kernel/drivers/block/loop.ko.xz").is_file());
        modules.join("kernel/drivers/md")
    };
    // Device-mapper may be built in.
    let modules = made("one.img");
    assert!(modules.join("raid1.ko.xz").is_file());
    assert!(modules.join("md-mod.ko.xz").is_file());
    bench.module("kernel/drivers/md/dm-mod.ko", &["depends="]);
    assert!(made("two.img").join("dm-mod.ko.xz").is_file());
}

#[test]
fn cryptsetup_brings_along_what_its_cipher_is_made_of() {
    let bench = Bench::new();
    bench.module("kernel/drivers/md/dm-crypt.ko", &["depends=dm-mod"]);
    bench.module("kernel/drivers/md/dm-mod.ko", &["depends="]);
    bench.module("kernel/crypto/xts.ko", &["depends="]);
    let root = bench.path("unpacked");
    let program = ["--program", "/usr/sbin/cryptsetup"];
    unpack(&bench.nic_image("one.img", &program), &root, "zstd -dc");
    let modules = root.join("lib/modules").join(VERSION).join("kernel");
    for module in ["drivers/md/dm-crypt", "drivers/md/dm-mod", "crypto/xts"] {
        let file = modules.join(format!("{module}.ko.xz"));
        assert!(file.is_file(), "{}", file.display());
    }
}

#[test]
fn list_shows_what_build_put_in() {
    let bench = Bench::new();
    let image = bench.nic_image("initramfs.img", &[]);
    let mkimage = || Command::new(env!("CARGO_BIN_EXE_mkimage"));
    let text = String::from_utf8(run(mkimage().arg("list").arg(&image))).unwrap();
    assert!(text.contains("100755"), "{text}");
    assert!(
        text.contains("kernel/drivers/net/ethernet/intel/e1000.ko.xz"),
        "{text}"
    );
    assert!(text.contains("wired NICs"), "{text}");
    let json = run(mkimage().args(["list", "--json"]).arg(&image));
    let listing: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(
        listing["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["path"] == "init")
    );
    let cut = std::fs::read(&image).unwrap();
    let cut = bench.file("cut.img", &cut[..cut.len() / 2]);
    let output = mkimage().arg("list").arg(&cut).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("unpacking it"));
}
