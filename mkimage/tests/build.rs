//! mkimage as a user runs it, on a small kernel tree made here with the C compiler, checked with cpio and zstd themselves.

mod common;

use common::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSION: &str = "6.1.0-test";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A kernel tree: e1000 needs mii (a library), asks softly for crc32c by alias, and names two firmware files.
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        bench.module(
            "kernel/drivers/net/ethernet/intel/e1000.ko",
            &[
                "depends=mii",
                "alias=pci:v00008086d0000100E*",
                "softdep=pre: crc32c",
                "firmware=intel/there.bin",
                "firmware=intel/gone.bin",
            ],
        );
        bench.module("kernel/lib/mii.ko", &["depends="]);
        bench.module("kernel/crypto/crc32c_generic.ko", &["alias=crc32c"]);
        bench.module("kernel/drivers/gpu/big.ko", &["depends="]);
        bench.module("kernel/drivers/ata/broken.ko", &["depends=nowhere"]);
        bench.file("firmware/intel/there.bin", b"firmware");
        bench.file(
            &format!("lib/modules/{VERSION}/modules.builtin"),
            b"kernel/fs/ext4/ext4.ko\n",
        );
        bench
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn file(&self, below: &str, data: &[u8]) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, data).unwrap();
        path
    }

    fn module(&self, below: &str, fields: &[&str]) {
        let path = self.path(&format!("lib/modules/{VERSION}/{below}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = fields.join("\\0");
        let source = format!(
            "__attribute__((section(\".modinfo\"), used)) static const char info[] = \"{text}\";\n"
        );
        let source = self.file("module.c", source.as_bytes());
        run(Command::new("gcc")
            .arg("-c")
            .arg("-o")
            .arg(path)
            .arg(source));
    }

    /// A certificate authority, made as admins make it.
    fn certificate(&self) -> PathBuf {
        let (key, ca) = (self.path("ca.key"), self.path("ca.pem"));
        run(Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", "/CN=Pitstop tests", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&ca));
        ca
    }

    fn mkimage(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mkimage"))
            .arg("build")
            .args(if more.contains(&"--init") {
                &[][..]
            } else {
                &["--init", "/bin/busybox"]
            })
            .args(if more.contains(&"--kernel-version") {
                &[][..]
            } else {
                &["--kernel-version", VERSION]
            })
            .arg("--kernel-dir")
            .arg(self.folder.path())
            .arg("--firmware")
            .arg(self.path("firmware"))
            .args(more)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .unwrap()
    }

    fn nic_image(&self, name: &str, more: &[&str]) -> PathBuf {
        let image = self.path(name);
        let mut all = vec!["--drivers", "nic", "-o", image.to_str().unwrap()];
        all.extend(more);
        let output = self.mkimage(&all);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        image
    }
}

fn unpack(image: &Path, into: &Path, with: &str) {
    std::fs::create_dir_all(into).unwrap();
    let script = format!("{with} < {} | cpio --quiet -idm", image.display());
    run(Command::new("sh").arg("-ec").arg(script).current_dir(into));
}

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
        (&["--init", text.to_str().unwrap()], "is no x86-64 program"),
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("decompressing Zstd data"));
}

/// Keys are minisign's own.
fn minisign(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("minisign");
    run(command.current_dir(folder).args(arguments));
}

#[test]
fn keys_of_jobs_are_in_the_image_and_what_goes_with_them_is_signed() {
    let bench = Bench::new();
    let folder = bench.folder.path().to_owned();
    for name in ["lab", "other"] {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.sec"));
        minisign(&folder, &["-G", "-W", "-p", &public, "-s", &secret]);
    }
    let key = bench.path("lab.pub").display().to_string();
    let other = bench.path("other.pub").display().to_string();
    let job = bench.file("job.toml", b"version = 1\naction = \"rescue\"\n");
    let job = job.display().to_string();
    let image = bench.path("never.img").display().to_string();
    let refused = |more: &[&str], why: &str| {
        let output = bench.mkimage(&[&["--drivers", "nic", "-o", &image], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    };
    refused(&["--job-key", &job], "no public key of minisign's");
    refused(
        &["--job-key", &key, "--host-file", &job],
        "has to be signed",
    );
    minisign(&folder, &["-S", "-W", "-s", "other.sec", "-m", "job.toml"]);
    refused(
        &["--job-key", &key, "--host-file", &job],
        "signed with another key",
    );
    refused(
        &["--job-key", &key, "--param", "pitstop.action=rescue"],
        "no parameter says what is done",
    );

    minisign(&folder, &["-S", "-W", "-s", "lab.sec", "-m", "job.toml"]);
    let more = ["--job-key", &key, "--job-key", &other, "--host-file", &job];
    let root = bench.path("unpacked");
    unpack(&bench.nic_image("signed.img", &more), &root, "zstd -dc");
    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    assert_eq!(
        read("etc/pitstop/job-keys/00.pub"),
        std::fs::read(&key).unwrap()
    );
    assert_eq!(
        read("etc/pitstop/job-keys/01.pub"),
        std::fs::read(&other).unwrap()
    );
    let signature = std::fs::read(bench.path("job.toml.minisig")).unwrap();
    assert_eq!(read("etc/pitstop/host.toml.minisig"), signature);

    let root = bench.path("unpacked-without");
    unpack(&bench.nic_image("plain.img", &[]), &root, "zstd -dc");
    assert!(!root.join("etc/pitstop/job-keys").exists());
}
