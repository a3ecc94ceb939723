//! What QEMU is told to make a machine of its [`Spec`].

use crate::arch::Architecture;
use crate::bus::{self, Bus};
use crate::nic::Rom;
use crate::paths;
use crate::tools;
use crate::vm::{Boot, Spec};
use anyhow::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where OVMF keeps its variables: new ones for each machine.
pub(crate) const VARIABLES: &str = "vars.fd";

pub(crate) fn command_line(spec: &Spec, folder: &Path, socket: &Path) -> Result<Command> {
    let architecture = spec.boot.architecture();
    let mut command = spec.network.qemu(architecture)?;
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    let is_ide = |disk: &(PathBuf, Bus, String)| disk.1 == Bus::Ide;
    let machine = match spec.boot {
        Boot::OvmfSecure | Boot::OvmfAsSold => "q35,smm=on,graphics=off",
        _ if spec.disks.iter().any(is_ide) => "pc,graphics=off",
        _ => "q35,graphics=off",
    };
    match architecture {
        // graphics=off makes SeaBIOS and the iPXE ROM speak on the serial line.
        Architecture::X86_64 => command.args(["-machine", machine]),
        // Of the newer processors each signed pointer is computed anew, which is slow.
        Architecture::Arm64 => command.args(["-machine", "virt", "-cpu", "cortex-a72"]),
    };
    if spec.own_time {
        // 4 ns an instruction: about as fast as they are done.
        command.args(["-accel", "tcg,thread=single", "-icount", "shift=2"]);
    } else {
        command.args(["-accel", "tcg,thread=multi"]);
    }
    command.args(["-smp", &spec.processors.to_string()]);
    command.args(["-m", &spec.memory_mib.to_string(), "-serial", "stdio"]);
    command
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()));
    command.args(["-device", "virtio-rng-pci"]);
    if spec.stop_at_reboot {
        command.arg("-no-reboot");
    }
    add_boot(&mut command, &spec.boot, folder)?;
    add_network(&mut command, spec)?;
    for (number, (path, disk_bus, serial)) in spec.disks.iter().enumerate() {
        bus::plug_in(&mut command, number, path, *disk_bus, serial)?;
    }
    command.args(&spec.extra);
    let complaints = File::create(folder.join("stderr"))?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints);
    Ok(command)
}

fn add_boot(command: &mut Command, boot: &Boot, folder: &Path) -> Result<()> {
    match boot {
        Boot::Direct {
            kernel,
            initrd,
            command_line,
        } => {
            command
                .arg("-kernel")
                .arg(paths::bare_kernel(kernel)?)
                .arg("-initrd")
                .arg(initrd)
                .args(["-append", command_line]);
        }
        Boot::SeaBios => {}
        Boot::Ovmf | Boot::OvmfHttp | Boot::OvmfPxe => {
            // Past iPXE, the firmware's own PXE would try every protocol before the disk, for minutes.
            let own = matches!(boot, Boot::OvmfPxe);
            allow_pxe(command, own);
            add_flash(command, &OVMF, ["CODE_4M.fd", "VARS_4M.fd"], folder)?;
        }
        Boot::Aavmf | Boot::AavmfHttp => {
            allow_pxe(command, matches!(boot, Boot::Aavmf));
            add_flash(command, &AAVMF, ["CODE.fd", "VARS.fd"], folder)?;
        }
        Boot::OvmfSecure | Boot::OvmfAsSold => {
            // Only code in system management mode may write the variables.
            command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            let files = if matches!(boot, Boot::OvmfAsSold) {
                allow_pxe(command, true);
                ["CODE_4M.ms.fd", "VARS_4M.ms.fd"]
            } else {
                ["CODE_4M.secboot.fd", "VARS_4M.snakeoil.fd"]
            };
            add_flash(command, &OVMF, files, folder)?;
        }
    }
    Ok(())
}

/// Whether the firmware's own PXE boots, over IPv4.
fn allow_pxe(command: &mut Command, allowed: bool) {
    for (version, wanted) in [("4", allowed), ("6", false)] {
        let answer = if wanted { "yes" } else { "no" };
        let name = format!("name=opt/org.tianocore/IPv{version}PXESupport,string={answer}");
        command.args(["-fw_cfg", &name]);
    }
}

/// A UEFI firmware: how the paths of its files begin, and its package.
type Flash = (&'static str, &'static str);

const OVMF: Flash = ("/usr/share/OVMF/OVMF_", "ovmf");
const AAVMF: Flash = ("/usr/share/AAVMF/AAVMF_", "qemu-efi-aarch64");

/// The firmware's code, and the machine's own copy of its variables.
fn add_flash(
    command: &mut Command,
    (begins, package): &Flash,
    [code, variables]: [&str; 2],
    folder: &Path,
) -> Result<()> {
    let packaged = |name: &str| tools::packaged(&format!("{begins}{name}"), package);
    let own = folder.join(VARIABLES);
    fs::copy(packaged(variables)?, &own)?;
    let code = packaged(code)?;
    for (unit, file, more) in [(0, code, ",readonly=on"), (1, own, "")] {
        let file = file.display();
        command.arg("-drive");
        command.arg(format!(
            "if=pflash,format=raw,unit={unit}{more},file={file}"
        ));
    }
    Ok(())
}

fn add_network(command: &mut Command, spec: &Spec) -> Result<()> {
    let Some(backend) = spec.network.backend("net0") else {
        return Ok(());
    };
    command.args(["-netdev", &backend]);
    let more = spec.network.mac().map(|mac| format!(",mac={mac}"));
    let rom = match spec.boot {
        // What boots directly would wait for the ROM's banner and its key in vain.
        Boot::Direct { .. }
        | Boot::OvmfHttp
        | Boot::OvmfPxe
        | Boot::OvmfSecure
        | Boot::OvmfAsSold
        | Boot::Aavmf
        | Boot::AavmfHttp => Rom::None,
        Boot::Ovmf => Rom::Uefi,
        Boot::SeaBios => Rom::Bios,
    };
    spec.nic.plug_in(command, rom, &more.unwrap_or_default())
}
