//! Machines: QEMU without KVM, so that they run the same everywhere. Those that do more than wait take turns.

use crate::arch::Architecture;
pub use crate::bus::Bus;
use crate::command_line::{VARIABLES, command_line};
use crate::console::{Console, Listener};
use crate::disks::Disk;
pub use crate::network::Network;
pub use crate::nic::Nic;
use crate::paths;
use crate::qmp::Qmp;
use crate::turn;
use crate::usage::Usage;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything a machine does here on a busy two-core computer under emulation.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// How a run that failed begins its last line.
pub const FAILED: &str = "pitstop: result failed";

/// The address QEMU's user network gives the machine: names its folder on the share.
pub const ADDRESS: &str = "10.0.2.15";
/// [`ADDRESS`] as PXELINUX spells it.
pub const HEX_ADDRESS: &str = "0A00020F";
/// The computer that runs QEMU, as the machine sees it.
pub const HOST: &str = "10.0.2.2";

/// For every kernel of x86 here: the serial console, and what spares an emulated processor work.
/// - No test of the timer, which an emulated machine on a busy computer fails now and then ("IO-APIC + timer doesn't work").
/// - The same addresses for each program every time: it is translated once.
/// - Nothing against faults of processors that this one has not, and no tests of ciphers.
pub const KERNEL_PARAMETERS: &str =
    "console=ttyS0,115200 no_timer_check norandmaps mitigations=off cryptomgr.notests";

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
    /// OVMF with Microsoft's keys and Secure Boot on, over PXE.
    OvmfAsSold,
    /// OVMF that starts only what is signed with its package's own test key, over HTTP or from a medium.
    OvmfSecure,
    /// UEFI of arm64: PXE first, HTTP after it, then the disk.
    Aavmf,
    /// The same without PXE.
    AavmfHttp,
}

impl Boot {
    pub fn architecture(&self) -> Architecture {
        match self {
            Boot::Aavmf | Boot::AavmfHttp => Architecture::Arm64,
            _ => Architecture::X86_64,
        }
    }
}

/// What a machine consists of.
pub struct Spec {
    /// Names its console log.
    pub name: String,
    pub memory_mib: u32,
    /// One where nothing depends on it: each more is a thread of emulation, and they wait for each other.
    pub processors: u32,
    pub boot: Boot,
    pub network: Network,
    pub nic: Nic,
    pub disks: Vec<(PathBuf, Bus, String)>,
    /// Whether a reboot ends QEMU, so that a test sees that it came.
    pub stop_at_reboot: bool,
    /// Whether it runs beside the machines that have a turn.
    pub idle: bool,
    /// Whether its clock goes by what its processor does.
    pub own_time: bool,
    pub listener: Option<Listener>,
    pub extra: Vec<String>,
}

impl Spec {
    /// 512 MiB, one processor, QEMU's user network, no disk; a reboot stops it.
    pub fn new(name: &str, boot: Boot) -> Spec {
        Spec {
            name: name.to_owned(),
            memory_mib: 512,
            processors: 1,
            boot,
            network: Network::user(),
            nic: Nic::Virtio,
            disks: Vec::new(),
            stop_at_reboot: true,
            idle: false,
            own_time: false,
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

    #[must_use]
    pub fn processors(mut self, number: u32) -> Spec {
        self.processors = number;
        self
    }

    /// Takes no turn: for a machine that does next to nothing but wait.
    #[must_use]
    pub fn idle(mut self) -> Spec {
        self.idle = true;
        self
    }

    /// Its clock goes by the instructions that its processor has done, which takes half as long again: for a system that gives up after so
    /// many seconds, as a busy computer may do little in them.
    #[must_use]
    pub fn own_time(mut self) -> Spec {
        self.own_time = true;
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
    /// Held while the machine runs, unless it is an idle one.
    turn: Option<File>,
    usage: Usage,
}

impl Vm {
    /// Whether OVMF's variables hold this text: the name of a boot entry.
    pub fn firmware_knows(&self, name: &str) -> Result<bool> {
        let variables = fs::read(self.folder.path().join(VARIABLES))?;
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Ok(variables.windows(name.len()).any(|window| window == name))
    }

    pub fn start(spec: Spec) -> Result<Vm> {
        let turn = if spec.idle { None } else { Some(turn::take()?) };
        Vm::start_in(spec, turn)
    }

    /// Starts a machine that runs together with this one, however many others do: for tests that are about several.
    pub fn start_beside(&self, spec: Spec) -> Result<Vm> {
        let turn = self.turn.as_ref().map(File::try_clone).transpose();
        Vm::start_in(spec, turn.context("sharing a turn")?)
    }

    fn start_in(spec: Spec, turn: Option<File>) -> Result<Vm> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("qmp");
        let mut command = command_line(&spec, folder.path(), &socket)?;
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let usage = Usage::of(&spec.name, child.id());
        let logs = paths::cache()?.join("consoles");
        fs::create_dir_all(&logs)?;
        let log = logs.join(format!("{}.log", spec.name));
        let (Some(output), Some(keyboard)) = (child.stdout.take(), child.stdin.take()) else {
            bail!("QEMU has no console");
        };
        let console = Console::new(output, keyboard, &log, spec.listener)?;
        let qmp = match Qmp::connect(&socket, PATIENCE) {
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
            usage,
        })
    }

    /// Waits for a line on the console, in vain as soon as a run has failed; see [`Console::wait_unless`].
    pub fn sees(&mut self, wanted: &str) -> Result<String> {
        self.console.wait_unless(wanted, FAILED, PATIENCE)
    }

    /// Waits until the machine rebooted (one that stops at a reboot) or switched itself off.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<End> {
        let data = self.qmp.wait_for("SHUTDOWN", patience).with_context(|| {
            format!(
                "the machine neither rebooted nor switched off; its console is in {} and ends:\n{}",
                self.console.log().display(),
                self.console.screen()
            )
        })?;
        self.wait_for_exit(PATIENCE)?;
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
            let data: Value = self.qmp.wait_for("RESET", left).with_context(|| {
                let screen = self.console.screen();
                format!("the machine did not reboot; its console ends:\n{screen}")
            })?;
            if data["guest"] == true {
                return Ok(());
            }
        }
    }

    fn wait_for_exit(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            self.usage.look();
            if let Some(status) = self.child.try_wait()? {
                // The next one may have it while this one is still looked at: two tests that each wait for a second turn would wait
                // for ever.
                self.turn = None;
                self.usage.is_over();
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
        self.unplug().context("killing QEMU")?;
        Ok(())
    }

    fn unplug(&mut self) -> io::Result<()> {
        self.usage.look();
        self.child.kill()?;
        self.child.wait()?;
        self.usage.is_over();
        Ok(())
    }

    /// Has it stand still until [`goes_on`](Self::goes_on).
    pub fn stands_still(&mut self) -> Result<()> {
        self.qmp.execute("stop", &json!({}))?;
        Ok(())
    }

    pub fn goes_on(&mut self) -> Result<()> {
        self.qmp.execute("cont", &json!({}))?;
        Ok(())
    }

    /// Pulls the cable out of a network card, by the `id` of its device.
    pub fn unplug_cable(&mut self, device: &str) -> Result<()> {
        self.set_link(device, false)
    }

    /// Puts it back in.
    pub fn plug_cable_in(&mut self, device: &str) -> Result<()> {
        self.set_link(device, true)
    }

    fn set_link(&mut self, device: &str, up: bool) -> Result<()> {
        self.qmp
            .execute("set_link", &json!({"name": device, "up": up}))?;
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
        // It fails only when QEMU has ended already.
        let _ = self.unplug();
        self.usage.note();
    }
}
