//! What cannot be an image, or would be none that a machine boots.

use crate::bench::{Bench, VERSION};
use std::path::Path;
use std::process::Command;

/// A copy of an ELF file that says it is for arm64 (`e_machine`, at 18).
fn as_arm64(from: &Path, to: &Path) {
    let mut data = std::fs::read(from).unwrap();
    data[18..20].copy_from_slice(&183u16.to_le_bytes());
    std::fs::write(to, data).unwrap();
}

#[test]
fn what_is_for_other_machines_is_refused() {
    let bench = Bench::new();
    let init = bench.path("init-arm64");
    as_arm64(Path::new("/bin/busybox"), &init);
    let image = bench.path("arm64.img");
    let of_arm64 = |more: &[&str]| {
        let mut all = vec!["--init", init.to_str().unwrap(), "--drivers", "nic"];
        all.extend(["-o", image.to_str().unwrap()]);
        all.extend(more);
        let output = bench.mkimage(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let (done, said) = of_arm64(&[]);
    assert!(!done && said.contains("is not for arm64"), "{said}");
    let modules = bench.path(&format!("lib/modules/{VERSION}/kernel"));
    for module in [
        "drivers/net/ethernet/intel/e1000.ko",
        "lib/mii.ko",
        "crypto/crc32c_generic.ko",
    ] {
        as_arm64(&modules.join(module), &modules.join(module));
    }
    let (done, said) = of_arm64(&[]);
    assert!(done, "{said}");
    let (done, said) = of_arm64(&["--busybox", "/bin/busybox"]);
    assert!(
        !done && said.contains("built for x86-64, and the image for arm64"),
        "{said}"
    );
    let (done, said) = of_arm64(&["--program", "/bin/sh"]);
    assert!(!done && said.contains("take that of arm64"), "{said}");
}

#[test]
fn modules_that_need_each_other_are_an_error_not_a_hang() {
    let bench = Bench::new();
    bench.module("kernel/lib/hen.ko", &["depends=egg"]);
    bench.module("kernel/lib/egg.ko", &["depends=hen"]);
    let image = bench.path("never.img");
    let output = bench.mkimage(&[
        "--drivers",
        "none",
        "--module",
        "hen",
        "-o",
        image.to_str().unwrap(),
    ]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("modules need each other in a circle: egg, hen, egg"),
        "{message}"
    );
    assert!(!image.exists());
}

#[test]
fn what_a_machine_will_refuse_is_refused_before() {
    let bench = Bench::new();
    let image = bench.path("never.img");
    let text = |name: &str, text: &str| {
        let path = bench.file(name, text.as_bytes());
        path.to_str().unwrap().to_owned()
    };
    let rubbish = "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n";
    let ca = text("ca.pem", rubbish);
    let job = text("job.toml", "version = 1\nactoin = \"backup\"\n");
    let wipe = text(
        "wipe.toml",
        "version = 1\naction = \"wipe\"\nmethod = \"gently\"\n",
    );
    let cases: [(&[&str], &str); 8] = [
        (&["--ca", &ca], "ca.pem"),
        (&["--ca", &job], "holds no PEM certificate"),
        (
            &["--param", "pitstop.hsot="],
            "unknown parameter pitstop.hsot",
        ),
        (&["--param", "pitstop.action=melt"], "unknown action"),
        (&["--host-file", &job], "line 2"),
        (
            &["--host-file", &wipe],
            "there are discard, zero and secure",
        ),
        (&["--host-file", "/dev/zero"], "/dev/zero is no file"),
        (&["--file", "/dev/zero:/x"], "/dev/zero is no file"),
    ];
    for (more, why) in cases {
        let out = image.to_str().unwrap();
        let output = bench.mkimage(&[&["--drivers", "nic", "-o", out], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
        assert!(!image.exists());
    }
}

#[test]
fn bad_input_is_named_and_leaves_no_image() {
    let bench = Bench::new();
    let image = bench.path("never.img");
    let out = image.to_str().unwrap();
    let text = bench.file("text", b"no program");
    let cases: [(&[&str], &str); 7] = [
        (&["--kernel-version", "5.0.0"], "no modules of kernel 5.0.0"),
        (
            &["--init", "/bin/sh"],
            "/bin/sh is dynamic: it asks for /lib",
        ),
        (
            &["--init", text.to_str().unwrap()],
            "is no program of x86-64 or arm64",
        ),
        (
            &["--module", "nosuch"],
            "kernel 6.1.0-test has no module nosuch",
        ),
        (
            &["--drivers", "ata"],
            "broken needs module nowhere, which kernel 6.1.0-test has not",
        ),
        (&["--file", "/nonexistent:/etc/x"], "reading /nonexistent"),
        (
            &["--authorized-keys", text.to_str().unwrap()],
            "holds no SSH public key",
        ),
    ];
    for (arguments, expected) in cases {
        let mut all = vec!["-o", out];
        if !arguments.contains(&"--drivers") {
            all.extend(["--drivers", "nic"]);
        }
        all.extend(arguments);
        let output = bench.mkimage(&all);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!image.exists(), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_image_and_nothing_else() {
    let bench = Bench::new();
    let folder = bench.path("small");
    std::fs::create_dir(&folder).unwrap();
    let old = folder.join("initramfs.img");
    std::fs::write(&old, b"old").unwrap();
    // A limit on the size of files stands for the full disk: both fail the write in the middle.
    let script = format!(
        "ulimit -f 64; trap '' XFSZ; exec {} build --init /bin/busybox -o {}",
        env!("CARGO_BIN_EXE_mkimage"),
        old.display()
    );
    let output = Command::new("bash").arg("-c").arg(script).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("initramfs.img: File too large"),
        "{message}"
    );
    assert_eq!(std::fs::read(&old).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}
