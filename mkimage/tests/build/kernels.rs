//! Kernels as other distributions pack them. Their own packages are none of this repository's: the shapes are made here.

use crate::bench::{Bench, VERSION, unpack};
use crate::common::run;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every module of the bench, compressed by this tool.
fn compress(bench: &Bench, tool: &str) {
    let modules = bench.path(&format!("lib/modules/{VERSION}"));
    let script = format!("find {} -name '*.ko' | xargs {tool}", modules.display());
    run(Command::new("sh").arg("-ec").arg(script));
}

/// The modules of an image of NIC drivers, as `find` prints them below the version's folder.
fn nic_modules(bench: &Bench, more: &[&str]) -> Vec<String> {
    let root = bench.path("unpacked");
    let more = [&["--compress", "none"], more].concat();
    unpack(&bench.nic_image("initramfs.img", &more), &root, "cat");
    let folder = root.join("lib/modules").join(VERSION);
    let mut find = Command::new("find");
    let found = run(find
        .args([".", "-name", "*.ko*", "-printf", "%P\n"])
        .current_dir(folder));
    let mut names: Vec<String> = String::from_utf8(found)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    fs::remove_dir_all(root).unwrap();
    names
}

#[test]
fn modules_that_come_compressed_go_in_as_they_are() {
    // Ubuntu, openSUSE and Arch; Debian and Fedora; and by hand.
    for (tool, suffix) in [
        ("zstd -q --rm", "zst"),
        ("xz --check=crc32", "xz"),
        ("gzip", "gz"),
    ] {
        let bench = Bench::new();
        compress(&bench, tool);
        let expected = [
            "crypto/crc32c_generic",
            "drivers/net/ethernet/intel/e1000",
            "lib/mii",
        ]
        .map(|name| format!("kernel/{name}.ko.{suffix}"));
        assert_eq!(nic_modules(&bench, &[]), expected);
    }
}

#[test]
fn a_merged_usr_and_a_kernel_beside_its_modules_are_no_obstacle() {
    // Fedora and openSUSE: everything of a kernel is in its folder below usr.
    let bench = Bench::new();
    let usr = bench.path("usr/lib");
    fs::create_dir_all(&usr).unwrap();
    fs::rename(bench.path("lib/modules"), usr.join("modules")).unwrap();
    let folder = usr.join("modules").join(VERSION);
    for beside in [
        "vmlinuz",
        "System.map",
        "config",
        "symvers.xz",
        "modules.order",
    ] {
        fs::write(folder.join(beside), "").unwrap();
    }
    std::os::unix::fs::symlink("/usr/src/linux", folder.join("build")).unwrap();
    assert_eq!(nic_modules(&bench, &[]).len(), 3);
    // As it is on a machine, where lib is a link.
    fs::remove_dir(bench.path("lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", bench.path("lib")).unwrap();
    assert_eq!(nic_modules(&bench, &[]).len(), 3);
}

#[test]
fn drivers_of_another_package_go_in_and_one_that_replaces_another_wins() {
    let bench = Bench::new();
    // Fedora's kernel-modules-extra.
    bench.module(
        "extra/drivers/net/ethernet/old/ne2k-pci.ko",
        &["depends=8390"],
    );
    bench.module("extra/drivers/net/ethernet/old/8390.ko", &["depends="]);
    bench.module("extra/drivers/gpu/tiny.ko", &["depends="]);
    // DKMS: a driver from elsewhere, in place of the kernel's, and one that the kernel has not.
    bench.module(
        "updates/dkms/e1000.ko",
        &["depends=", "alias=pci:v00008086d0000ABCD*"],
    );
    bench.module("updates/dkms/r8125.ko", &["depends="]);
    let found = nic_modules(&bench, &[]);
    assert_eq!(
        found,
        [
            "extra/drivers/net/ethernet/old/8390.ko.xz",
            "extra/drivers/net/ethernet/old/ne2k-pci.ko.xz",
            "updates/dkms/e1000.ko.xz",
        ]
    );
    let found = nic_modules(&bench, &["--module", "r8125"]);
    assert!(
        found.contains(&"updates/dkms/r8125.ko.xz".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_kernel_whose_packages_are_not_all_there_is_named() {
    let bench = Bench::new();
    fs::remove_file(bench.path(&format!("lib/modules/{VERSION}/modules.builtin"))).unwrap();
    let image = bench.path("never.img");
    let output = bench.mkimage(&["--drivers", "ata", "-o", image.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("has no modules.builtin; unpack the other packages"),
        "{said}"
    );
    assert!(!Path::new(&image).exists());
}
