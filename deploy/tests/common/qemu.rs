//! Machines that start a disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(900);
const UEFI: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Starts the disk, and waits until it prints `wanted`. Nothing is written to it.
pub fn start(disk: &Path, uefi: bool, wanted: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (serial, variables) = (folder.path().join("serial"), folder.path().join("vars"));
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args(["-accel", "tcg,thread=multi", "-m", "512", "-no-reboot"])
        .args(["-display", "none", "-net", "none", "-snapshot", "-serial"])
        .arg(format!("file:{}", serial.display()))
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio", disk.display()));
    if uefi {
        fs::copy(VARIABLES, &variables).unwrap();
        let flash =
            |file: &Path, more: &str| format!("if=pflash,format=raw,file={}{more}", file.display());
        machine
            .args(["-drive", &flash(Path::new(UEFI), ",readonly=on")])
            .args(["-drive", &flash(&variables, "")]);
    }
    let mut running = machine.stdin(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let said = loop {
        let said = fs::read(&serial).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let ended = running.try_wait().unwrap().is_some();
        if said.contains(wanted) || ended || Instant::now() > until {
            break said;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let _ = running.kill();
    running.wait().unwrap();
    said
}
