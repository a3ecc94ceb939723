//! A configuration takes its place: checked, the old one kept, one reload, and the old one back if the server does not live.

use super::file::{keep, replace};
use anyhow::{Context, anyhow, bail};
use pitstop_fleet::generate::{Format, MARK};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A server that dies of its configuration does so by then.
const SETTLED: Duration = Duration::from_secs(2);
/// Where servers' programs are, which a user's path may lack.
const SYSTEM: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Who reads a configuration.
pub struct Daemon {
    /// Where it goes by default.
    pub file: Option<&'static str>,
    /// The program that checks it, and its arguments before the file's name.
    checker: Option<&'static [&'static str]>,
    reload: Reload,
}

enum Reload {
    /// A unit of systemd, or a service of init.
    Service(&'static str),
    Command(&'static [&'static str]),
    Nothing,
}

impl Daemon {
    pub fn of(format: Format) -> Self {
        let (file, checker, reload): (_, Option<&[&str]>, _) = match format {
            Format::Dnsmasq => (
                Some("/etc/dnsmasq.d/pitstop.conf"),
                Some(&["dnsmasq", "--test", "-C"]),
                Reload::Service("dnsmasq"),
            ),
            Format::Dhcpd => (
                Some("/etc/dhcp/dhcpd.conf"),
                Some(&["dhcpd", "-4", "-t", "-cf"]),
                Reload::Service("isc-dhcp-server"),
            ),
            Format::Kea => (
                Some("/etc/kea/kea-dhcp4.conf"),
                Some(&["kea-dhcp4", "-t"]),
                Reload::Service("kea-dhcp4-server"),
            ),
            Format::Kea6 => (
                Some("/etc/kea/kea-dhcp6.conf"),
                Some(&["kea-dhcp6", "-t"]),
                Reload::Service("kea-dhcp6-server"),
            ),
            Format::Exports => (
                Some("/etc/exports.d/pitstop.exports"),
                None,
                Reload::Command(&["exportfs", "-ra"]),
            ),
            Format::Hosts => (Some("/etc/hosts"), None, Reload::Nothing),
            Format::Pxelinux => (None, None, Reload::Nothing),
        };
        Self {
            file,
            checker,
            reload,
        }
    }
}

/// Puts `text` in place of the file at `path`. Returns what was done, for people.
pub fn install(daemon: &Daemon, path: &Path, text: &str, reload: bool) -> anyhow::Result<String> {
    let name = path.display();
    let before = match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {name}")),
    };
    if before.as_deref() == Some(text.as_bytes()) {
        return Ok(format!("{name} is so already: nothing is changed\n"));
    }
    if daemon.checker.is_none() {
        // Nothing is installed with it that would have made the folder: /etc/exports.d, for one.
        let folder = folder(path);
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    check(daemon, path, text)?;
    let mut said = format!("{name} is installed\n");
    if let Some(bytes) = &before {
        let old = beside(path, ".old");
        keep(path, bytes, &old)?;
        // Writing to a String cannot fail.
        let _ = writeln!(said, "  the file before is {}", old.display());
        // The next one that is installed takes the place of .old: what the admin wrote stays for good.
        let own = beside(path, ".before-pitstop");
        if !is_ours(bytes) && !own.exists() {
            keep(path, bytes, &own)?;
            let _ = writeln!(said, "  it is not of pitstop: {} stays", own.display());
        }
    }
    replace(path, text.as_bytes())?;
    if !reload {
        return Ok(said);
    }
    match load(&daemon.reload) {
        Ok(what) => Ok(said + &format!("  {what}\n")),
        Err(error) => {
            put_back(path, before.as_deref())?;
            let again = match load(&daemon.reload) {
                Ok(_) => "the file before is back, and the server lives with it".to_owned(),
                Err(again) => format!(
                    "the file before is back, but the server does not live with it, either: {again:#}"
                ),
            };
            Err(error.context(format!("{name} does not work: {again}")))
        }
    }
}

fn put_back(path: &Path, before: Option<&[u8]>) -> anyhow::Result<()> {
    match before {
        Some(bytes) => replace(path, bytes),
        None => std::fs::remove_file(path).with_context(|| format!("removing {}", path.display())),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The name of a copy. Of a folder like `dnsmasq.d` servers read every file, whatever its name ends with, but for those
/// with a dot in front.
fn beside(path: &Path, end: &str) -> PathBuf {
    let folder = folder(path);
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let read = whole.extension().is_some_and(|end| end == "d");
    let mut name = OsString::from(if read { "." } else { "" });
    name.push(path.file_name().unwrap_or_default());
    name.push(end);
    path.with_file_name(name)
}

/// Whether an earlier `generate` made the file, or a part of it.
fn is_ours(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains(MARK)
}

/// Asks the server's own checker about the text, in a file beside the one it will be.
fn check(daemon: &Daemon, path: &Path, text: &str) -> anyhow::Result<()> {
    let Some([program, arguments @ ..]) = daemon.checker else {
        return Ok(());
    };
    let mut file = tempfile::Builder::new()
        // Servers that read whole folders pass over names with a dot in front.
        .prefix(".pitstop-")
        // Not in /tmp: AppArmor lets some servers read only their own folders.
        .tempfile_in(folder(path))
        .with_context(|| format!("making a file to check beside {}", path.display()))?;
    file.write_all(text.as_bytes())
        .context("writing a file to check")?;
    let mut command = system_command(program);
    let output = match command
        .args(arguments)
        .arg(file.path())
        .stdin(Stdio::null())
        .output()
    {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "{program} is not installed here, so nothing can check the configuration: {} stays as it is; generate -o FILE \
             writes one unchecked",
            path.display()
        ),
        output => output.with_context(|| format!("running {program}"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{program} does not take the configuration: {} stays as it is: {}",
        path.display(),
        said(&output)
    );
}

/// Lets the server read its configuration, once, and looks whether it lives.
fn load(reload: &Reload) -> anyhow::Result<String> {
    match reload {
        Reload::Nothing => Ok("nothing has to be reloaded".into()),
        Reload::Command([program, arguments @ ..]) => {
            done(system_command(program).args(arguments), program)?;
            Ok(format!("{program} has read it"))
        }
        Reload::Command([]) => Ok(String::new()),
        Reload::Service(service) => {
            let systemd = |word: &str| {
                let mut command = system_command("systemctl");
                command.args([word, service]);
                command
            };
            match done(&mut systemd("restart"), "systemctl restart") {
                Ok(()) => {
                    std::thread::sleep(SETTLED);
                    done(&mut systemd("is-active"), "systemctl is-active")
                        .with_context(|| format!("{service} does not live"))?;
                }
                Err(error) if missing(&error) => {
                    let init = |word: &str| {
                        let mut command = system_command("service");
                        command.args([service, word]);
                        command
                    };
                    done(&mut init("restart"), "service restart")?;
                    std::thread::sleep(SETTLED);
                    done(&mut init("status"), "service status")
                        .with_context(|| format!("{service} does not live"))?;
                }
                Err(error) => return Err(error),
            }
            Ok(format!("{service} lives with it"))
        }
    }
}

fn missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn system_command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:{SYSTEM}");
    // Looked up by hand: the child's own path does not count for finding it.
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| program.into()));
    command.env("PATH", &path);
    command
}

fn done(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(anyhow!("{what}: {} ({})", said(&output), output.status))
}

/// What a program said, in one line.
fn said(output: &std::process::Output) -> String {
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    // Some begin with a page about themselves.
    lines[lines.len().saturating_sub(12)..].join("; ")
}
