//! Machines: QEMU without KVM, so that they run the same everywhere, two at most at a time.

use crate::bus;
pub use crate::bus::Bus;
use crate::console::{Console, Listener};
use crate::disks::Disk;
pub use crate::network::Network;
pub use crate::nic::Nic;
use crate::nic::Rom;
use crate::paths;
use crate::qmp::Qmp;
use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything a machine does here on a busy two-core computer under emulation.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The address QEMU's user network gives the machine: names its folder on the share.
pub const ADDRESS: &str = "10.0.2.15";
/// [`ADDRESS`] as PXELINUX spells it.
pub const HEX_ADDRESS: &str = "0A00020F";
/// The computer that runs QEMU, as the machine sees it.
pub const HOST: &str = "10.0.2.2";

/// For every kernel here: the serial console, and no test of the timer, which an emulated machine on a busy
/// computer fails now and then ("IO-APIC + timer doesn't work").
pub const KERNEL_PARAMETERS: &str = "console=ttyS0,115200 no_timer_check";

/// Where OVMF keeps its variables: new ones for each machine.
const VARIABLES: &str = "vars.fd";

/// How a machine starts.
#[derive(Debug, Clone)]
pub enum Boot {
    /// The kernel is put into memory by QEMU: seconds instead of a firmware's dozen.
    Direct {
        kernel: PathBuf,
        initrd: PathBuf,
        command_line: String,
    },
    /// `SeaBIOS`: network first, then the disk.
    SeaBios,
    /// OVMF: network first, then the disk.
    Ovmf,
    /// OVMF whose NIC has no ROM: it boots over HTTP by itself.
    OvmfHttp,
    /// The same, over PXE.
    OvmfPxe,
    /// OVMF that starts only what is signed with its package's own test key, over HTTP or from a medium.
    OvmfSecure,
}

/// What a machine consists of.
pub struct Spec {
    /// Names its console log.
    pub name: String,
    pub memory_mib: u32,
    pub boot: Boot,
    pub network: Network,
    pub nic: Nic,
    pub disks: Vec<(PathBuf, Bus, String)>,
    /// Whether a reboot ends QEMU, so that a test sees that it came.
    pub stop_at_reboot: bool,
    pub listener: Option<Listener>,
    pub extra: Vec<String>,
}

impl Spec {
    /// 512 MiB, QEMU's user network, no disk; a reboot stops it.
    pub fn new(name: &str, boot: Boot) -> Spec {
        Spec {
            name: name.to_owned(),
            memory_mib: 512,
            boot,
            network: Network::user(),
            nic: Nic::Virtio,
            disks: Vec::new(),
            stop_at_reboot: true,
            listener: None,
            extra: Vec::new(),
        }
    }

    /// Adds a disk; the first one is the one that firmware boots.
    #[must_use]
    pub fn disk(mut self, disk: &Disk, bus: Bus, serial: &str) -> Spec {
        self.disks
            .push((disk.path().to_path_buf(), bus, serial.to_owned()));
        self
    }

    #[must_use]
    pub fn network(mut self, network: Network) -> Spec {
        self.network = network;
        self
    }

    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Spec {
        self.memory_mib = mebibytes;
        self
    }

    /// Lets reboots happen.
    #[must_use]
    pub fn keep_going(mut self) -> Spec {
        self.stop_at_reboot = false;
        self
    }

    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Spec {
        self.listener = Some(listener);
        self
    }

    /// Plugs it into a cable of these arguments instead of a network.
    #[must_use]
    pub fn plugged(mut self, card: Vec<String>) -> Spec {
        self.network = Network::None;
        self.extra.extend(card);
        self
    }

    /// Arguments for QEMU as they are.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Spec {
        self.extra.extend(arguments.iter().map(ToString::to_string));
        self
    }
}

/// How a machine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Reboot,
    PowerOff,
}

/// A running machine. Dropping it pulls the plug.
pub struct Vm {
    child: Child,
    pub console: Console,
    pub qmp: Qmp,
    /// Holds the monitor's socket and the firmware's variables.
    folder: tempfile::TempDir,
    /// Held while the machine runs.
    turn: File,
}

impl Vm {
    /// Whether OVMF's variables hold this text: the name of a boot entry.
    pub fn firmware_knows(&self, name: &str) -> Result<bool> {
        let variables = fs::read(self.folder.path().join(VARIABLES))?;
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Ok(variables.windows(name.len()).any(|window| window == name))
    }

    pub fn start(spec: Spec) -> Result<Vm> {
        Vm::start_in(spec, take_turn()?)
    }

    /// Starts a machine that runs together with this one, however many others do: for tests that are about several.
    pub fn start_beside(&self, spec: Spec) -> Result<Vm> {
        let turn = self.turn.try_clone().context("sharing a turn")?;
        Vm::start_in(spec, turn)
    }

    fn start_in(spec: Spec, turn: File) -> Result<Vm> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("qmp");
        let mut command = command_line(&spec, folder.path(), &socket)?;
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let logs = paths::cache()?.join("consoles");
        fs::create_dir_all(&logs)?;
        let log = logs.join(format!("{}.log", spec.name));
        let (Some(output), Some(keyboard)) = (child.stdout.take(), child.stdin.take()) else {
            bail!("QEMU has no console");
        };
        let console = Console::new(output, keyboard, &log, spec.listener)?;
        let qmp = match Qmp::connect(&socket, Duration::from_secs(30)) {
            Ok(qmp) => qmp,
            Err(error) => {
                child
                    .kill()
                    .and_then(|()| child.wait())
                    .context("ending QEMU")?;
                let complaint =
                    fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                return Err(error.context(format!("QEMU did not start: {complaint}{command:?}")));
            }
        };
        Ok(Vm {
            child,
            console,
            qmp,
            folder,
            turn,
        })
    }

    /// Waits for a line on the console; see [`Console::wait_for`].
    pub fn sees(&mut self, wanted: &str) -> Result<String> {
        self.console.wait_for(wanted, PATIENCE)
    }

    /// Waits until the machine rebooted (one that stops at a reboot) or switched itself off.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<End> {
        let data = self.qmp.wait_for("SHUTDOWN", patience).with_context(|| {
            format!(
                "the machine neither rebooted nor switched off; its console is in {}",
                self.console.log().display()
            )
        })?;
        self.wait_for_exit(Duration::from_secs(60))?;
        match data["reason"].as_str() {
            Some("guest-reset") => Ok(End::Reboot),
            Some("guest-shutdown") => Ok(End::PowerOff),
            other => bail!("the machine ended in an odd way: {other:?}"),
        }
    }

    /// Waits for a reset of a machine that goes on after it.
    pub fn wait_for_reset(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let data: Value = self.qmp.wait_for("RESET", left)?;
            if data["guest"] == true {
                return Ok(());
            }
        }
    }

    fn wait_for_exit(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "QEMU did not exit within {patience:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Pulls the plug: QEMU is killed, and nothing that the machine has not written yet is written any more.
    ///
    /// What QEMU has written stays in this computer's page cache, as in a disk that loses nothing it took: disks
    /// that lose their own cache are in `payload`'s tests.
    pub fn cut_power(mut self) -> Result<()> {
        self.child.kill().context("killing QEMU")?;
        self.child.wait().context("waiting for QEMU's end")?;
        Ok(())
    }

    /// Pulls the cable out of a network card, by the `id` of its device.
    pub fn unplug_cable(&mut self, device: &str) -> Result<()> {
        self.qmp
            .execute("set_link", &json!({"name": device, "up": false}))?;
        Ok(())
    }

    /// Presses keys together: `["ctrl", "alt", "delete"]`.
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| json!({"type": "qcode", "data": key}))
            .collect();
        self.qmp.execute("send-key", &json!({"keys": keys}))?;
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Both fail only when QEMU has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until fewer than two machines run on this computer. The lock goes with the file.
fn take_turn() -> Result<File> {
    let folder = paths::cache()?;
    loop {
        for slot in ["machine-0", "machine-1"] {
            let path = folder.join(slot);
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            if file.try_lock().is_ok() {
                return Ok(file);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn command_line(spec: &Spec, folder: &Path, socket: &Path) -> Result<Command> {
    let mut command = spec.network.qemu()?;
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    let is_ide = |disk: &(PathBuf, Bus, String)| disk.1 == Bus::Ide;
    let machine = match spec.boot {
        Boot::OvmfSecure => "q35,smm=on,graphics=off",
        _ if spec.disks.iter().any(is_ide) => "pc,graphics=off",
        _ => "q35,graphics=off",
    };
    // graphics=off makes SeaBIOS and the iPXE ROM speak on the serial line.
    command.args([
        "-machine",
        machine,
        "-accel",
        "tcg,thread=multi",
        "-smp",
        "2",
    ]);
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
                .arg(kernel)
                .arg("-initrd")
                .arg(initrd)
                .args(["-append", command_line]);
        }
        Boot::SeaBios => {}
        Boot::Ovmf | Boot::OvmfHttp | Boot::OvmfPxe => {
            // Past iPXE, the firmware's own PXE would try every protocol before the disk, for minutes.
            let own = matches!(boot, Boot::OvmfPxe);
            for (version, wanted) in [("4", own), ("6", false)] {
                let answer = if wanted { "yes" } else { "no" };
                let name = format!("name=opt/org.tianocore/IPv{version}PXESupport,string={answer}");
                command.args(["-fw_cfg", &name]);
            }
            add_flash(command, "CODE_4M.fd", "VARS_4M.fd", folder)?;
        }
        Boot::OvmfSecure => {
            // Only code in system management mode may write the variables.
            command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            add_flash(command, "CODE_4M.secboot.fd", "VARS_4M.snakeoil.fd", folder)?;
        }
    }
    Ok(())
}

/// OVMF's code, and the machine's own copy of its variables.
fn add_flash(command: &mut Command, code: &str, variables: &str, folder: &Path) -> Result<()> {
    let packaged = |name: &str| tools::packaged(&format!("/usr/share/OVMF/OVMF_{name}"), "ovmf");
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
        Boot::OvmfHttp | Boot::OvmfPxe | Boot::OvmfSecure => Rom::None,
        Boot::Ovmf => Rom::Uefi,
        Boot::SeaBios | Boot::Direct { .. } => Rom::Bios,
    };
    spec.nic.plug_in(command, rom, &more.unwrap_or_default())
}
