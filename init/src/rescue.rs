//! Rescue: a shell on every console, and SSH for the holders of the admin's keys.

use crate::console::Consoles;
use crate::host_key;
use crate::supervise::{start_shell, unblocked};
use crate::worker::reset_oom_score;
use anyhow::{Context, bail};
use nix::unistd::Pid;
use pitstop_imaging::event::{Reporter, Silent};
use rustix::process::ioctl_tiocsctty;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"];
const DROPBEAR: &[&str] = &["/usr/sbin/dropbear", "/sbin/dropbear", "/bin/dropbear"];
const KEYS: &str = "/root/.ssh/authorized_keys";

/// A shell that ends at once is not started again and again without a pause.
const PAUSE: Duration = Duration::from_secs(2);

/// The shells that run.
pub struct Rescue {
    consoles: Vec<String>,
    shells: HashMap<Pid, String>,
    started: HashMap<String, Instant>,
}

impl Rescue {
    /// Prepares programs, starts the SSH server and says how to get in. What is missing is said. Without `shells` the
    /// consoles have none.
    pub fn start(consoles: &Consoles, address: Option<IpAddr>, shells: bool) -> Self {
        for outcome in [programs(), accounts()] {
            if let Err(error) = outcome {
                consoles.warn(format!("rescue: {error:#}"));
            }
        }
        match (ssh(), address) {
            (Ok(()), Some(address)) => consoles.info(format!("rescue: ssh root@{address}")),
            (Ok(()), None) => consoles.info("rescue: SSH is up, but there is no network".into()),
            (Err(error), _) => consoles.info(format!("rescue: no SSH: {error:#}")),
        }
        let names = if !shells {
            consoles.info(
                "rescue: no shell: this initramfs does signed jobs alone, and no signed job asked for one; \
                 Ctrl-Alt-Del reboots"
                    .into(),
            );
            Vec::new()
        } else if busybox().is_some() {
            consoles.info(
                "rescue: a shell is on each console; `reboot` or Ctrl-Alt-Del ends it".into(),
            );
            terminals(consoles.names())
        } else {
            consoles.warn("rescue: no shell: busybox is not in the initramfs".into());
            Vec::new()
        };
        // What was said must be on the screens before a prompt is.
        consoles.drain();
        Self {
            consoles: names,
            shells: HashMap::new(),
            started: HashMap::new(),
        }
    }

    /// Starts a shell where there is none.
    pub fn keep_shells(&mut self, reporter: &dyn Reporter) {
        for console in &self.consoles {
            let early = self
                .started
                .get(console)
                .is_some_and(|started| started.elapsed() < PAUSE);
            if early || self.shells.values().any(|running| running == console) {
                continue;
            }
            self.started.insert(console.clone(), Instant::now());
            match start_shell(console) {
                Ok(pid) => {
                    self.shells.insert(pid, console.clone());
                }
                Err(error) => reporter.warn(format!("rescue: {error:#}")),
            }
        }
    }

    /// A child has ended; it may be a shell.
    pub fn ended(&mut self, pid: Pid) {
        self.shells.remove(&pid);
    }
}

fn first(paths: &[&'static str]) -> Option<&'static str> {
    paths.iter().copied().find(|path| Path::new(path).exists())
}

fn busybox() -> Option<&'static str> {
    first(BUSYBOX)
}

/// A name in `/bin` for each thing that busybox can do. Programs that are there already stay.
fn programs() -> anyhow::Result<()> {
    let Some(busybox) = busybox() else {
        return Ok(());
    };
    for folder in ["/bin", "/sbin", "/usr/bin", "/usr/sbin"] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    }
    Command::new(busybox)
        .args(["--install", "-s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("naming the programs of {busybox}"))?;
    Ok(())
}

/// Who root is: SSH servers and shells ask.
fn accounts() -> anyhow::Result<()> {
    for (path, text) in [
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("/etc/group", "root:x:0:\n"),
        ("/etc/shells", "/bin/sh\n"),
    ] {
        if !Path::new(path).exists() {
            fs::write(path, text).with_context(|| format!("writing {path}"))?;
        }
    }
    fs::create_dir_all("/root").context("making /root")
}

/// Whether rescue would let anybody in over the network.
pub fn has_ssh() -> bool {
    first(DROPBEAR).is_some() && has_keys()
}

fn has_keys() -> bool {
    let keys = fs::read_to_string(KEYS).unwrap_or_default();
    keys.lines().any(is_key)
}

/// Starts dropbear for the holders of the admin's keys. No passwords, and no keys are no way in.
fn ssh() -> anyhow::Result<()> {
    let Some(dropbear) = first(DROPBEAR) else {
        bail!("dropbear is not in the initramfs");
    };
    if !has_keys() {
        bail!("no keys are in {KEYS}: give them to mkimage");
    }
    // dropbear believes keys only where nobody else could have written them.
    for (path, mode) in [("/root", 0o700), ("/root/.ssh", 0o700), (KEYS, 0o600)] {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .and_then(|()| std::os::unix::fs::chown(path, Some(0), Some(0)))
            .with_context(|| format!("closing {path}"))?;
    }
    // The host key that the run has told of; -R: where there is none, one made when somebody asks. -s: no passwords; -F: not
    // in the background.
    let key: &[&str] = if Path::new(host_key::FILE).exists() {
        &["-r", host_key::FILE]
    } else {
        &["-R"]
    };
    fs::create_dir_all("/etc/dropbear").context("making /etc/dropbear")?;
    fs::create_dir_all("/var/run").context("making /var/run")?;
    fs::create_dir_all("/var/log").context("making /var/log")?;
    let log = OpenOptions::new().write(true).open("/dev/kmsg");
    unblocked(&mut Command::new(dropbear))
        .args(["-F", "-E", "-s"])
        .args(key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn()
        .with_context(|| format!("starting {dropbear}"))?;
    Ok(())
}

fn is_key(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// The terminals behind the consoles' names: `tty0` is whichever is in front, `console` is another's name.
pub fn terminals(names: &[String]) -> Vec<String> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut shells: Vec<String> = Vec::new();
    for name in names {
        let device = match name.as_str() {
            "tty0" => Some("tty1"),
            "console" => active.split_whitespace().last().map(|name| match name {
                "tty0" => "tty1",
                other => other,
            }),
            other => Some(other),
        };
        if let Some(device) = device.filter(|device| !shells.iter().any(|known| known == device)) {
            shells.push(device.to_owned());
        }
    }
    shells
}

/// Becomes a login shell on the console: the part of the program that runs in the child.
pub fn shell(console: &str) -> ExitCode {
    reset_oom_score(&Silent);
    let Err(error) = become_shell(console);
    eprintln!("init: a shell on {console}: {error:#}");
    ExitCode::FAILURE
}

fn become_shell(console: &str) -> anyhow::Result<std::convert::Infallible> {
    let busybox = busybox().context("busybox is not in the initramfs")?;
    let terminal = open_terminal(console)?;
    rustix::process::setsid().context("starting a session")?;
    ioctl_tiocsctty(&terminal).context("taking the terminal")?;
    dup2_stdin(&terminal).context("reading from the terminal")?;
    dup2_stdout(&terminal).context("writing to the terminal")?;
    dup2_stderr(&terminal).context("writing to the terminal")?;
    let kind = if console.trim_start_matches("tty").parse::<u8>().is_ok() {
        "linux"
    } else {
        "vt102"
    };
    let home = if Path::new("/root").is_dir() {
        "/root"
    } else {
        "/"
    };
    let error = Command::new(busybox)
        .arg0("-sh")
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", kind)
        .env("PS1", "pitstop rescue:\\w# ")
        .current_dir(home)
        .exec();
    Err(error).with_context(|| format!("starting {busybox}"))
}

/// Opens without waiting for a modem to dial in; from then on the line is a local one.
pub fn open_terminal(console: &str) -> anyhow::Result<File> {
    let path = Path::new("/dev").join(console);
    let act = || format!("opening {}", path.display());
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(&path)
        .with_context(act)?;
    let mut settings = tcgetattr(&terminal).with_context(act)?;
    settings.control_modes |= ControlModes::CLOCAL;
    tcsetattr(&terminal, OptionalActions::Now, &settings).with_context(act)?;
    drop(terminal);
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(&path)
        .with_context(act)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_terminal_gets_one_shell() {
        let names = ["tty0", "ttyS0", "tty1"].map(str::to_owned);
        assert_eq!(terminals(&names), ["tty1", "ttyS0"]);
    }

    #[test]
    fn comments_and_blank_lines_are_no_keys() {
        assert!(is_key("ssh-ed25519 AAAA admin@desk"));
        assert!(!is_key("  # nobody"));
        assert!(!is_key("   "));
    }
}
