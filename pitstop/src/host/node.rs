//! A machine that runs Pitstop now: its log, and commands on it while it is in rescue.
//!
//! SSH is the system's own `ssh`. The machine has told its host key over the channel of its run, so that nobody is asked
//! whether a fingerprint looks right.

use super::{Root, say};
use anyhow::{Context, anyhow, bail};
use pitstop_server::runs::{Filter, Runs, Summary};
use pitstop_server::set::{Need, Target, Who, targets};
use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What ssh says when it could not log in.
const NO_LOGIN: i32 = 255;

/// How to reach a machine.
#[derive(clap::Args)]
pub struct Reach {
    #[command(flatten)]
    pub root: Root,
    /// The private key to log in with, if ssh would not find it
    #[arg(long, short = 'i', value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Where the machine is, if not at the address that it reported
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Its SSH port
    #[arg(long, short = 'p', value_name = "N", default_value_t = 22)]
    port: u16,
}

/// Prints the log of the last run of a machine, and with `follow` what comes, until that run is over.
pub fn log(root: &Root, who: &Who, follow: bool) -> anyhow::Result<()> {
    let target = one(root, who)?;
    let runs = Runs::below(&root.path);
    let run = last_run(&runs, &target)?;
    let mut log = runs.log(&run.run);
    loop {
        // Asked before the log is read: what was written before the end is printed.
        let now = runs.read(&run.run).context("reading the run")?;
        let goes_on = now.is_some_and(|now| now.summary.ended.is_none());
        let more = log.more();
        say(&more.with_context(|| format!("reading the run {}", run.run))?)?;
        if !follow || log.has_ended() || !goes_on {
            return Ok(());
        }
        sleep(LOOK);
    }
}

/// Runs a command on a machine in rescue, or a shell without one. Returns its exit status.
pub fn ssh(reach: &Reach, who: &Who, command: &[OsString]) -> anyhow::Result<i32> {
    let target = one(&reach.root, who)?;
    let run = last_run(&Runs::below(&reach.root.path), &target)?;
    let key = host_key(&run.host_key).ok_or_else(|| {
        anyhow!(
            "{target} has told no SSH host key in its last run ({}): its initramfs needs mkimage --dropbear and \
             --authorized-keys, and its job a server that takes reports",
            run.run
        )
    })?;
    let address = match reach.address {
        Some(address) => address.to_string(),
        None => address_of(&run)?,
    };
    let alias = format!("pitstop-{}", run.run);
    let mut known = tempfile::NamedTempFile::new().context("making a file of known hosts")?;
    writeln!(known, "{alias} {key}").context("writing a file of known hosts")?;
    let mut ssh = Command::new("ssh");
    options(&mut ssh, known.path(), &alias, reach);
    ssh.arg(format!("root@{address}"));
    // Without one it is a person at a terminal.
    if !command.is_empty() {
        ssh.arg("--").arg(words(command));
    }
    let status = ssh
        .status()
        .context("starting ssh (the package openssh-client)")?;
    let code = status.code().unwrap_or(NO_LOGIN);
    if code == NO_LOGIN {
        eprintln!(
            "pitstop: {target} is reached by SSH only while it is in rescue; its last run ({}) began at {}",
            run.action, run.began
        );
    }
    Ok(code)
}

fn options(ssh: &mut Command, known: &Path, alias: &str, reach: &Reach) {
    let mut set = |option: &str| {
        ssh.arg("-o").arg(option);
    };
    set(&format!("UserKnownHostsFile={}", known.display()));
    set("GlobalKnownHostsFile=/dev/null");
    set(&format!("HostKeyAlias={alias}"));
    set("HostKeyAlgorithms=ssh-ed25519");
    set("StrictHostKeyChecking=yes");
    // There is none, and ssh would ask for it.
    set("PasswordAuthentication=no");
    set("ConnectTimeout=20");
    ssh.arg("-p").arg(reach.port.to_string());
    if let Some(identity) = &reach.identity {
        ssh.arg("-i").arg(identity);
    }
}

/// One word is a line for the machine's shell; several are a program and its arguments, each as it is.
fn words(command: &[OsString]) -> OsString {
    if let [line] = command {
        return line.clone();
    }
    let mut whole = OsString::new();
    for word in command {
        if !whole.is_empty() {
            whole.push(" ");
        }
        whole.push("'");
        whole.push(word.to_string_lossy().replace('\'', "'\\''"));
        whole.push("'");
    }
    whole
}

fn one(root: &Root, who: &Who) -> anyhow::Result<Target> {
    let mut targets = targets(&root.path, std::slice::from_ref(who), Need::Names)?;
    match (targets.pop(), targets.len()) {
        (Some(target), 0) => Ok(target),
        (Some(_), more) => bail!("these are {} machines: name one", more + 1),
        (None, _) => bail!("no machine is meant by this"),
    }
}

fn last_run(runs: &Runs, target: &Target) -> anyhow::Result<Summary> {
    let names = target.names();
    for machine in names {
        let filter = Filter {
            machine: Some(machine),
            last: Some(1),
            ..Filter::default()
        };
        let found = runs
            .list(&filter)
            .context("looking for the machine's runs")?;
        if let Some(run) = found.into_iter().next() {
            return Ok(run.summary);
        }
    }
    bail!(
        "{target} has reported no run: pitstop host set gives a job that reports; pitstop job log shows what is on the share"
    )
}

fn address_of(run: &Summary) -> anyhow::Result<String> {
    // From the network: it must be an address and nothing that ssh takes for an option.
    let address: IpAddr = run
        .address
        .parse()
        .with_context(|| format!("the run {} tells no address", run.run))?;
    Ok(address.to_string())
}

/// A line for `known_hosts`: it comes from the network, and must hold one key and nothing else.
fn host_key(text: &str) -> Option<&str> {
    let blob = text.strip_prefix("ssh-ed25519 ")?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    (blob.len() == 68 && blob.bytes().all(is_base64)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_words_reach_the_program_as_they_are() {
        let line = |words_of: &[&str]| {
            let all: Vec<OsString> = words_of.iter().map(OsString::from).collect();
            words(&all).into_string().unwrap()
        };
        assert_eq!(line(&["ls | wc"]), "ls | wc");
        assert_eq!(line(&["echo", "a  b", "it's"]), "'echo' 'a  b' 'it'\\''s'");
    }

    #[test]
    fn a_host_key_is_one_key_and_nothing_else() {
        let key = format!("ssh-ed25519 {}", "A".repeat(68));
        assert_eq!(host_key(&key), Some(key.as_str()));
        for other in [
            String::new(),
            format!("ssh-rsa {}", "A".repeat(68)),
            format!("{key}\n* {key}"),
            format!("{key} x"),
            "ssh-ed25519 AAAA".into(),
        ] {
            assert_eq!(host_key(&other), None, "{other}");
        }
    }
}
