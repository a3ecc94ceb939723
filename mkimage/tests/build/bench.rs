//! A small kernel tree, made here with the C compiler.

use crate::common::run;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex};

pub const VERSION: &str = "6.1.0-test";

pub struct Bench {
    pub folder: tempfile::TempDir,
}

impl Bench {
    /// A kernel tree: e1000 needs mii (a library), asks softly for crc32c by alias, and names two firmware files.
    pub fn new() -> Self {
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

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn file(&self, below: &str, data: &[u8]) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, data).unwrap();
        path
    }

    pub fn module(&self, below: &str, fields: &[&str]) {
        let path = self.path(&format!("lib/modules/{VERSION}/{below}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, compiled(&fields.join("\\0"))).unwrap();
    }

    /// A certificate authority, made as admins make it.
    pub fn certificate(&self) -> PathBuf {
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

    pub fn mkimage(&self, more: &[&str]) -> Output {
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

    pub fn nic_image(&self, name: &str, more: &[&str]) -> PathBuf {
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

pub fn unpack(image: &Path, into: &Path, with: &str) {
    std::fs::create_dir_all(into).unwrap();
    let script = format!("{with} < {} | cpio --quiet -idm", image.display());
    run(Command::new("sh").arg("-ec").arg(script).current_dir(into));
}

/// A module that says this of itself. Each is compiled once.
fn compiled(text: &str) -> Vec<u8> {
    static DONE: LazyLock<Mutex<HashMap<String, Vec<u8>>>> = LazyLock::new(Mutex::default);
    let mut done = DONE.lock().unwrap();
    let module = done.entry(text.to_owned()).or_insert_with(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, module) = (
            folder.path().join("module.c"),
            folder.path().join("module.ko"),
        );
        let code = format!(
            "__attribute__((section(\".modinfo\"), used)) static const char info[] = \"{text}\";\n"
        );
        std::fs::write(&source, code).unwrap();
        run(Command::new("gcc")
            .arg("-c")
            .arg("-o")
            .arg(&module)
            .arg(source));
        std::fs::read(module).unwrap()
    });
    module.clone()
}
