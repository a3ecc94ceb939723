//! A real Debian, made once and kept for the next run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A server with SSH, a kernel with its initramfs, and GRUB that was never installed on a disk.
const PACKAGES: &str = "systemd-sysv,dbus,openssh-server,initramfs-tools,zstd,linux-image-cloud-amd64,isc-dhcp-client,grub2-common,grub-pc-bin";
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The system, made once for all tests and kept for the next run; it takes a minute.
pub fn golden() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make)
}

fn make() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-machine");
    let made_of = folder.join("made-of");
    let _turn = pitstop_testing::turns::take("debian-machine");
    if fs::read_to_string(&made_of).is_ok_and(|packages| packages == PACKAGES) {
        return folder.join("root");
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--mode=root", "--variant=minbase"])
        .arg(format!("--include={PACKAGES}"))
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
        ])
        .arg("bookworm")
        .arg(folder.join("root")));
    fs::write(made_of, PACKAGES).unwrap();
    folder.join("root")
}
