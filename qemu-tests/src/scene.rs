//! What most tests need: a server with a share, a proxy before it that can break things, and a machine with a disk.

use crate::disks::{self, Disk};
use crate::paths;
use crate::proxy::Proxy;
use crate::servers::Server;
use crate::vm::{
    ADDRESS, Boot, Bus, End, HEX_ADDRESS, HOST, KERNEL_PARAMETERS, PATIENCE, Spec, Vm,
};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name of the image of the machine's only disk.
pub const IMAGE: &str = "vda.raw.gz";

/// A share, the machine's configuration, and the disk that must not be harmed.
pub struct Scene {
    pub server: Server,
    pub proxy: Proxy,
    pub disk: Disk,
    /// BLAKE3 of the disk as it was; `None` for one that is too large to be read again and again.
    before: Option<String>,
}

impl Scene {
    /// A scene with this disk, plugged in as `vda`.
    pub fn with(disk: Disk) -> Result<Scene> {
        Scene::served_by(Server::start()?, disk)
    }

    /// A scene with this disk and a server that has been started already.
    pub fn served_by(server: Server, disk: Disk) -> Result<Scene> {
        let before = Some(disk.digest()?);
        Ok(Scene {
            before,
            ..Scene::with_large(server, disk)?
        })
    }

    /// A scene with a disk that is too large to be watched: [`Scene::disk_untouched`] is an error.
    pub fn with_large(server: Server, disk: Disk) -> Result<Scene> {
        let proxy = Proxy::start(server.port())?;
        Ok(Scene {
            server,
            proxy,
            disk,
            before: None,
        })
    }

    /// A scene with a disk of 16 MiB that does not compress.
    pub fn new() -> Result<Scene> {
        Scene::with(Disk::noise(16 << 20, 7)?)
    }

    /// A path of the server, as the machine reaches it: through the proxy.
    pub fn url(&self, path: &str) -> String {
        format!("http://{HOST}:{}{path}", self.proxy.port())
    }

    /// The machine's host file.
    pub fn configuration(&self) -> PathBuf {
        self.server.hosts().join(format!("{HEX_ADDRESS}.toml"))
    }

    /// Writes the machine's host file as it is.
    pub fn configure(&self, text: &str) -> Result<()> {
        let path = self.configuration();
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Gives the machine a job; a failure is followed by a reboot after two seconds. `more` is added as it is.
    pub fn job(&self, action: &str, more: &str) -> Result<()> {
        let share = self.url("/share");
        self.configure(&format!(
            "version = 1\naction = \"{action}\"\nshare = \"{share}\"\nfailure-delay = \"2s\"\n{more}\n"
        ))
    }

    /// The machine's folder on the share.
    pub fn folder(&self) -> PathBuf {
        self.server.share().join(ADDRESS)
    }

    pub fn image(&self) -> PathBuf {
        self.folder().join(IMAGE)
    }

    /// The payload, started directly, that looks for its host file on the server.
    pub fn spec(&self, name: &str) -> Result<Spec> {
        self.spec_with(name, "")
    }

    /// The same with more on the kernel command line.
    pub fn spec_with(&self, name: &str, parameters: &str) -> Result<Spec> {
        let hosts = self.url("/hosts/");
        let spec = Spec::new(
            name,
            payload(&format!("pitstop.host={hosts} {parameters}"))?,
        );
        Ok(spec.disk(&self.disk, Bus::Virtio, "SCENE0"))
    }

    /// Starts the machine.
    pub fn boot(&self, name: &str) -> Result<Vm> {
        Vm::start(self.spec(name)?)
    }

    /// Runs a job that succeeds: the result is told, the configuration goes, the machine reboots.
    pub fn succeeds(&self, name: &str, action: &str) -> Result<()> {
        let mut vm = self.boot(name)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        ensure!(
            !self.configuration().exists(),
            "{action} is done and its configuration is still there"
        );
        Ok(())
    }

    /// Sees the machine fail for a reason that has these words, in front of a person and in both logs, leave the
    /// disk and the configuration alone, and reboot when the failure delay is over.
    pub fn fails(&self, vm: &mut Vm, action: &str, reason: &[&str]) -> Result<()> {
        let configuration = fs::read(self.configuration())?;
        expect_failure(vm, action, reason)?;
        vm.console.wait_for("ebooting in", PATIENCE)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        ensure!(
            fs::read(self.configuration())? == configuration,
            "the configuration changed"
        );
        self.logged(reason)?;
        self.nothing_half_made()?;
        self.disk_untouched()
    }

    /// Both logs on the share have an error with these words.
    pub fn logged(&self, reason: &[&str]) -> Result<()> {
        for log in [
            self.server.share().join("maintenance.log"),
            self.folder().join("maintenance.log"),
        ] {
            let text =
                fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
            let told = text.lines().any(|line| {
                line.contains("error") && reason.iter().all(|word| line.contains(word))
            });
            ensure!(
                told,
                "{} has no error with {reason:?}:\n{text}",
                log.display()
            );
            ensure!(
                text.contains(ADDRESS) || log.starts_with(self.folder()),
                "{} does not say who",
                log.display()
            );
        }
        Ok(())
    }

    /// No unfinished file is on the share.
    pub fn nothing_half_made(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return Ok(());
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ensure!(
                !name.contains(".part") && !name.contains(".new"),
                "{name} is left on the share"
            );
        }
        Ok(())
    }

    /// The disk has the bytes it had when the scene began.
    pub fn disk_untouched(&self) -> Result<()> {
        let before = self.before.as_ref().context("the disk is not watched")?;
        ensure!(self.disk.digest()? == *before, "the disk was written to");
        Ok(())
    }

    /// Nothing finds a partition table or a boot loader on the disk: both of its ends are zeros.
    pub fn disk_boots_nothing(&self) -> Result<()> {
        let bytes = fs::read(self.disk.path())?;
        let ends = [&bytes[..1 << 20], &bytes[bytes.len() - (1 << 20)..]];
        ensure!(
            ends.concat().iter().all(|byte| *byte == 0),
            "a disk that is not whole has something where tables and boot loaders are"
        );
        Ok(())
    }

    /// Puts an image of the scene's disk on the share, as the admin's command makes it.
    pub fn make_image(&self) -> Result<()> {
        image_of(&self.disk, &self.image())
    }

    /// BLAKE3 of the image on the share.
    pub fn image_digest(&self) -> Result<String> {
        disks::digest(&self.image())
    }
}

/// Makes the image of a disk, as the admin's command does, in a folder that may be new.
pub fn image_of(disk: &Disk, image: &Path) -> Result<()> {
    if let Some(folder) = image.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut backup = Command::new(paths::built("pitstop")?);
    crate::tools::output(backup.arg("backup").arg(disk.path()).arg(image))?;
    Ok(())
}

/// The payload on the cloud kernel, started by QEMU, speaking on the serial line. Firmware boots it packed, in other tests.
pub fn payload(parameters: &str) -> Result<Boot> {
    Ok(Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd: paths::unpacked(&paths::built_for_cloud("initramfs.img")?)?,
        command_line: format!("{KERNEL_PARAMETERS} {parameters}"),
    })
}

/// The payload as it is delivered: with the default kernel and all its drivers.
pub fn full_payload(parameters: &str) -> Result<Boot> {
    Ok(Boot::Direct {
        kernel: paths::built("vmlinuz")?,
        initrd: paths::unpacked(&paths::built("initramfs.img")?)?,
        command_line: format!("{KERNEL_PARAMETERS} {parameters}"),
    })
}

/// Waits for the result of a run, which must be good.
pub fn expect_success(vm: &mut Vm, action: &str) -> Result<String> {
    let line = vm.sees("pitstop: result ")?;
    ensure!(
        line.contains(&format!("pitstop: result ok {action}")),
        "expected success of {action}, saw: {line}"
    );
    Ok(line)
}

/// Waits for the result of a run, which must be a failure whose reason has all of these words.
pub fn expect_failure(vm: &mut Vm, action: &str, reason: &[&str]) -> Result<String> {
    let line = vm.sees("pitstop: result ")?;
    let right = line.contains(&format!("pitstop: result failed {action}: "));
    ensure!(right, "expected a failure of {action}, saw: {line}");
    let told = reason.iter().all(|word| line.contains(word));
    ensure!(told, "expected a reason with {reason:?}, saw: {line}");
    Ok(line)
}

/// The shell's answer to a command that nothing else on the console can be mistaken for.
pub fn shell_works(vm: &mut Vm) -> Result<()> {
    // The shell appears when it appears: what is typed before is lost or echoed.
    for _ in 0..PATIENCE.as_secs() / 3 {
        vm.console.type_line("echo $((6*7))-is-the-answer")?;
        if vm
            .console
            .wait_for("\n42-is-the-answer", Duration::from_secs(3))
            .is_ok()
        {
            return Ok(());
        }
    }
    vm.console
        .wait_for("\n42-is-the-answer", Duration::from_secs(1))
        .map(drop)
}
