//! SSH host keys, made by the tree's own programs: they know which kinds their server takes.

use super::{Had, SYSTEMD};
use crate::chroot::{Call, Chroot};
use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use std::time::Duration;

const SSHD: [&str; 3] = ["usr/sbin/sshd", "sbin/sshd", "usr/bin/sshd"];
const KEYGEN: &str = "/usr/bin/ssh-keygen";
const DROPBEAR: [&str; 2] = ["usr/sbin/dropbear", "usr/bin/dropbear"];
const DROPBEARKEY: &str = "/usr/bin/dropbearkey";
const DROPBEAR_KINDS: [&str; 3] = ["rsa", "ecdsa", "ed25519"];
/// An RSA key of 4096 bits takes seconds, and minutes on a small machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A tree for another processor cannot make them here: its first boot does.
const UNIT: &str = "etc/systemd/system/pitstop-ssh-host-keys.service";
const UNIT_WANTED: &str =
    "etc/systemd/system/multi-user.target.wants/pitstop-ssh-host-keys.service";
const UNIT_TEXT: &str = "\
[Unit]
Description=SSH host keys of this machine alone
Documentation=man:ssh-keygen(1)
Before=ssh.service sshd.service ssh.socket sshd.socket
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
";

/// Makes keys where the tree has a server for them. The old ones are gone already.
///
/// # Errors
/// When there is a server and no key can be made, not even at the first boot: nobody could log in.
pub fn make(
    root: &Root,
    files: &Files,
    had: &Had,
    hostname: Option<&str>,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let has = |programs: &[&str]| programs.iter().any(|path| files.exists(path));
    let (ssh, dropbear) = (
        had.ssh_keys || has(&SSHD),
        had.dropbear_keys || has(&DROPBEAR),
    );
    if !ssh && !dropbear {
        return Ok(());
    }
    let chroot = Chroot::enter(root, hostname)?;
    if ssh {
        let call = Call::new(KEYGEN, &["-A"], LIMIT);
        let made = chroot.run(&call, reporter);
        let keys = label(files, had)?;
        if keys == 0 || made.is_err() {
            let why = made.err().map_or_else(
                || "ssh-keygen -A made none".to_owned(),
                |error| format!("{error:#}"),
            );
            at_first_boot(files, &why, reporter)?;
        } else {
            reporter.info(format!("{keys} SSH host keys are made"));
        }
    }
    if dropbear {
        of_dropbear(&chroot, files, reporter).context("making host keys for dropbear")?;
    }
    Ok(())
}

/// Gives new keys the label of the old ones; how many private ones there are.
fn label(files: &Files, had: &Had) -> anyhow::Result<usize> {
    let mut keys = 0;
    for name in files.list("etc/ssh")? {
        if name.starts_with("ssh_host_") {
            keys += usize::from(name.ends_with("_key"));
            files.set_label(&format!("etc/ssh/{name}"), had.key_label.as_deref())?;
        }
    }
    Ok(keys)
}

fn at_first_boot(files: &Files, why: &str, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let possible = SYSTEMD.iter().any(|path| files.exists(path)) && files.exists(KEYGEN);
    if !possible {
        bail!(
            "SSH host keys cannot be made: {why}. Make them in a hook, or keep the tree's with identity = \"keep\""
        );
    }
    files.make_folders("etc/systemd/system/multi-user.target.wants")?;
    files.write(UNIT, UNIT_TEXT.as_bytes(), 0o644)?;
    files.link(UNIT_WANTED, &format!("/{UNIT}"))?;
    reporter.warn(format!(
        "SSH host keys cannot be made here ({why}): the first boot makes them, by pitstop-ssh-host-keys.service"
    ));
    Ok(())
}

fn of_dropbear(chroot: &Chroot, files: &Files, reporter: &dyn Reporter) -> anyhow::Result<()> {
    files.make_folders("etc/dropbear")?;
    let mut error = None;
    let mut made = 0;
    for kind in DROPBEAR_KINDS {
        let path = format!("/etc/dropbear/dropbear_{kind}_host_key");
        let call = Call::new(DROPBEARKEY, &["-t", kind, "-f", &path], LIMIT);
        // Older ones do not know every kind.
        match chroot.run(&call, reporter) {
            Ok(()) => {
                made += 1;
                files.set_label(&path, None)?;
            }
            Err(why) => error = Some(why),
        }
    }
    match error {
        Some(error) if made == 0 => Err(error),
        _ => Ok(()),
    }
}
