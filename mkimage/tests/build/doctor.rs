//! What an image drives, by a list of devices.

use crate::bench::{Bench, VERSION};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

#[test]
fn doctor_tells_what_an_image_drives_and_what_it_lacks() {
    let bench = Bench::new();
    bench.module(
        "kernel/drivers/net/ethernet/broadcom/bnx2.ko",
        &[
            "depends=",
            "alias=pci:v000014E4d00001639sv*sd*bc*sc*i*",
            "firmware=bnx2/bnx2-mips-09-6.2.1b.fw",
        ],
    );
    bench.file(
        &format!("lib/modules/{VERSION}/modules.builtin.modinfo"),
        b"virtio_pci.license=GPL\0virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\0",
    );
    let image = bench.nic_image("initramfs.img", &[]);
    // A second kernel knows a card that the first does not.
    let newer = Bench::new();
    newer.module(
        "kernel/drivers/net/ethernet/intel/igc.ko",
        &["depends=", "alias=pci:v00008086d000015F3sv*sd*bc*sc*i*"],
    );
    std::fs::remove_file(newer.path(&format!(
        "lib/modules/{VERSION}/kernel/drivers/ata/broken.ko"
    )))
    .unwrap();
    let command = |list: &str, more: &[&Path]| {
        let list = bench.file("machine.txt", list.as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkimage"));
        command.args(["doctor", "--image"]).arg(&image);
        command.args(more).arg(list);
        command
    };
    let doctor = |list: &str, more: &[&Path]| {
        let output = command(list, more).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text + &errors)
    };
    let driven = "00:02.0 VGA compatible controller [0300]: A card [1234:1111]\n\
                  00:03.0 Ethernet controller [0200]: Intel [8086:100e] (rev 03)\n\
                  00:04.0 SCSI storage controller [0100]: Red Hat [1af4:1001]\n";
    let (status, text) = doctor(driven, &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.starts_with(
            "network card 00:03.0 8086:100e: e1000; e1000 may want firmware that is not in the image, intel/gone.bin\n\
             disk controller 00:04.0 1af4:1001: virtio_pci\n"
        ),
        "{text}"
    );
    let (status, text) = doctor("00:05.0 0200: 14e4:1639\n", &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("bnx2 does nothing without firmware that is not in the image, bnx2/bnx2-mips-09-6.2.1b.fw: make image FIRMWARE=bnx2"),
        "{text}"
    );
    let newest = "00:06.0 0200: 8086:15f3\n";
    let (status, text) = doctor(newest, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("8086:15f3: no driver in "), "{text}");
    assert!(text.contains("KERNEL=backports"), "{text}");
    let (status, text) = doctor(newest, &[Path::new("--kernel-dir"), newer.folder.path()]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains(&format!("kernel {VERSION} has igc\n")),
        "{text}"
    );
    let (status, text) = doctor("no device\n", &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("machine.txt: there is no PCI device in it"),
        "{text}"
    );
    // Who cannot be told has an error, and no verdict.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(driven, &[]).stdout(full).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("writing to standard output"), "{error}");
}
