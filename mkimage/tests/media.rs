//! `mkimage uki` and `mkimage iso`, checked with the tools that read and sign such images.

mod common;

use common::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An initramfs with an init of 5,000 bytes, in cpio's format `newc`.
fn archive() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, mode, size) in [("init", 0o100_755, 5000), ("TRAILER!!!", 0, 0)] {
        let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend_from_slice(b"070701");
        for field in fields {
            bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.resize((bytes.len() + size).next_multiple_of(4), 9);
    }
    bytes
}

#[test]
fn a_file_that_is_no_initramfs_makes_no_medium() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (whole, other) = (folder.join("whole"), folder.join("other"));
    fs::write(&whole, &archive()[..2000]).unwrap();
    fs::write(&other, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    for file in [&whole, &other] {
        for kind in ["iso", "uki"] {
            let more = ["--initramfs", file.to_str().unwrap()];
            let (image, output) = make(folder, kind, "none", &more);
            let said = String::from_utf8_lossy(&output.stderr);
            let why = format!("{} is no initramfs", file.display());
            assert!(!output.status.success() && said.contains(&why), "{said}");
            assert!(!image.exists());
        }
    }
}

/// Makes `name` of a kernel that is none and an initramfs.
fn make(folder: &Path, kind: &str, name: &str, more: &[&str]) -> (PathBuf, Output) {
    let (kernel, initramfs) = (folder.join("vmlinuz"), folder.join("initramfs.img"));
    let mut bytes = vec![0; 4096];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(&kernel, bytes).unwrap();
    fs::write(&initramfs, archive()).unwrap();
    let image = folder.join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkimage"));
    command.arg(kind).arg("--kernel").arg(kernel);
    if !more.contains(&"--initramfs") {
        command.arg("--initramfs").arg(initramfs);
    }
    command.args(more).arg("-o").arg(&image);
    let output = command
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    (image, output)
}

fn must(made: (PathBuf, Output)) -> PathBuf {
    let said = String::from_utf8_lossy(&made.1.stderr);
    assert!(made.1.status.success(), "{said}");
    made.0
}

#[test]
fn a_medium_has_the_same_bytes_a_second_later_and_its_host_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let host = folder.join("host.toml");
    fs::write(&host, "version = 1\naction = \"rescue\"\n").unwrap();
    let more = ["--host-file", host.to_str().unwrap()];
    let first = must(make(folder, "iso", "one.iso", &more));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let again = must(make(folder, "--iso", "two.iso", &more));
    assert!(fs::read(&first).unwrap() == fs::read(&again).unwrap());
    let out = folder.join("extracted.toml");
    run(Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(&first)
        .args(["-extract", "/pitstop/host.toml"])
        .arg(&out));
    assert_eq!(fs::read(&out).unwrap(), fs::read(&host).unwrap());
}

#[test]
fn a_medium_for_arm64_is_for_uefi_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (kernel, initramfs) = (folder.join("Image"), folder.join("initramfs.img"));
    let mut bytes = vec![0; 4096];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    bytes[0x44..0x46].copy_from_slice(&0xaa64u16.to_le_bytes());
    fs::write(&kernel, bytes).unwrap();
    fs::write(&initramfs, archive()).unwrap();
    // The stub of x86-64, which says that it is for arm64.
    let stub = folder.join("stub");
    let mut bytes = fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").unwrap();
    let header =
        usize::try_from(u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap())).unwrap();
    bytes[header + 4..header + 6].copy_from_slice(&0xaa64u16.to_le_bytes());
    fs::write(&stub, bytes).unwrap();
    let image = folder.join("arm64.iso");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkimage"));
    command.arg("iso").arg("--kernel").arg(&kernel);
    command.arg("--initramfs").arg(&initramfs);
    command.arg("--stub").arg(&stub).arg("-o").arg(&image);
    run(&mut command);
    let esp = folder.join("esp.img");
    // The partition is found by the table of the stick.
    let table = Command::new("sfdisk").arg("--json").arg(&image).output();
    let table = String::from_utf8(table.unwrap().stdout).unwrap();
    let start = table
        .split("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
        .next()
        .unwrap();
    let start = start.rsplit("\"start\":").next().unwrap();
    let start: usize = start.split(',').next().unwrap().trim().parse().unwrap();
    fs::write(&esp, &fs::read(&image).unwrap()[start * 512..]).unwrap();
    let listed = Command::new("mdir")
        .arg("-i")
        .arg(&esp)
        .arg("-b")
        .arg("::/EFI/BOOT")
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(listed.contains("BOOTAA64.EFI"), "{listed}\n{table}");
}

#[test]
fn a_unified_image_is_signed_by_the_key_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    run(Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=Pitstop tests", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let more = ["--sign-key", key, "--sign-cert", certificate];
    let signed = must(make(folder, "uki", "signed.efi", &more));
    let verify = |image: &Path| {
        let mut command = Command::new("sbverify");
        let done = command.args(["--cert", certificate]).arg(image).output();
        done.unwrap().status.success()
    };
    assert!(verify(&signed));
    assert!(!verify(&must(make(folder, "--uki", "plain.efi", &[]))));
    let (image, refused) = make(folder, "uki", "half.efi", &["--sign-key", key]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!image.exists());
}

/// The partitions of an image, as the table's own tool sees them: number, type, first byte, bytes.
fn partitions(image: &Path) -> Vec<(u32, String, usize, usize)> {
    let listed = Command::new("sfdisk")
        .arg("--dump")
        .arg(image)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let name = format!("{}", image.display());
    let line = |line: &str| {
        let (number, facts) = line.strip_prefix(&name)?.split_once(':')?;
        let fact = |key: &str| {
            let (_, value) = facts.split_once(key)?;
            Some(
                value
                    .trim_start_matches(['=', ' '])
                    .split([',', ' '])
                    .next()?
                    .to_owned(),
            )
        };
        let bytes = |key: &str| Some(fact(key)?.parse::<usize>().ok()? * 512);
        Some((
            number.trim().parse().ok()?,
            fact("type")?,
            bytes("start")?,
            bytes("size")?,
        ))
    };
    listed.lines().filter_map(line).collect()
}

#[test]
fn a_stick_has_a_share_of_its_own_that_others_can_write_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let share = folder.join("share");
    fs::create_dir_all(share.join("hosts")).unwrap();
    fs::create_dir_all(share.join("golden")).unwrap();
    fs::write(share.join("golden/sda.raw.gz"), vec![0x5a; 3 << 20]).unwrap();
    let host = share.join("hosts/default.toml");
    fs::write(
        &host,
        "version = 1\naction = \"restore\"\nimage = \"golden\"\n",
    )
    .unwrap();
    let share = share.to_str().unwrap();
    let (image, refused) = make(folder, "iso", "refused.iso", &["--data", share]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("default.toml: it is for every machine") && said.contains("round ="),
        "{said}"
    );
    assert!(!image.exists());

    let text = "version = 1\naction = \"restore\"\nimage = \"golden\"\nround = \"one\"\n";
    fs::write(&host, text).unwrap();
    let more = ["--data", share, "--data-size", "80M"];
    let image = must(make(folder, "iso", "share.iso", &more));
    assert!(
        fs::read(&image).unwrap()
            == fs::read(must(make(folder, "iso", "again.iso", &more))).unwrap()
    );
    let content = fs::read(&image).unwrap();
    let (_, kind, start, size) = partitions(&image).into_iter().find(|it| it.0 == 3).unwrap();
    assert_eq!((kind.as_str(), size), ("7", 80 << 20));
    let data = folder.join("data.img");
    fs::write(&data, &content[start..start + size]).unwrap();
    run(Command::new("fsck.exfat").arg("-n").arg(&data));
    let label = Command::new("blkid")
        .args(["-o", "value", "-s", "LABEL"])
        .arg(&data)
        .output();
    assert_eq!(label.unwrap().stdout, b"PITSTOPDATA\n");
    // The parameters are where a BIOS finds them, and the share's host file is on no other part of the medium.
    let find = |text: &str| {
        content
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(find(
        "append pitstop.medium=PITSTOP pitstop.data=PITSTOPDATA ip=off\n"
    ));
}
