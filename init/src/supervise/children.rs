//! Starts the child processes, all of them this program in another role.

use super::signals::unblocked;
use crate::identity::SELF;
use crate::report::Crash;
use anyhow::Context;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The worker, and the pipe on which it reports.
pub struct Worker {
    pub pid: Pid,
    pub reports: ChildStdout,
}

/// Starts the process that loads drivers. Its standard output says when those of the start are loaded.
pub fn devices() -> anyhow::Result<(Pid, Option<ChildStdout>)> {
    let mut child = part("--devices")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process that loads drivers")?;
    Ok((pid(&child)?, child.stdout.take()))
}

/// Starts the process that does the work; `settled` is the pipe of [`devices`].
pub fn worker(settled: Option<ChildStdout>) -> anyhow::Result<Worker> {
    let stdin = settled.map_or_else(Stdio::null, Stdio::from);
    reporting(part("--worker").stdin(stdin)).context("starting the worker")
}

/// Starts the process that logs a crash on the share.
pub fn after_crash(crash: &Crash) -> anyhow::Result<Worker> {
    let mut child = part("--after-crash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process that logs the crash")?;
    let text = serde_json::to_vec(crash).context("writing down the crash")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(&text)
            .context("telling of the crash to the process that logs it")?;
    }
    worker_of(child)
}

/// A rescue shell on a console.
pub fn shell(console: &str) -> anyhow::Result<Pid> {
    let child = part("--shell")
        .arg(console)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting a shell on {console}"))?;
    pid(&child)
}

fn reporting(command: &mut Command) -> anyhow::Result<Worker> {
    worker_of(command.stdout(Stdio::piped()).spawn()?)
}

fn worker_of(mut child: Child) -> anyhow::Result<Worker> {
    Ok(Worker {
        pid: pid(&child)?,
        reports: child.stdout.take().context("the worker has no pipe")?,
    })
}

fn part(name: &str) -> Command {
    let mut command = Command::new(SELF);
    command.arg(name);
    // What a library says in its last moments is kept with the kernel's messages.
    let stderr = OpenOptions::new().write(true).open("/dev/kmsg");
    command.stderr(stderr.map_or_else(|_| Stdio::null(), Stdio::from));
    unblocked(&mut command);
    command
}

/// The handle is let go: PID 1 reaps all children alike.
fn pid(child: &Child) -> anyhow::Result<Pid> {
    let raw = i32::try_from(child.id()).context("reading a process id")?;
    Ok(Pid::from_raw(raw))
}

/// All children that have ended, orphans of others included.
pub fn reap() -> Vec<WaitStatus> {
    let mut ended = Vec::new();
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
        ended.push(status);
    }
    ended
}

/// How a process ended, for people.
pub fn describe(status: &WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _) => {
            "killed, most likely because the machine ran out of memory".into()
        }
        WaitStatus::Signaled(_, signal, _) => format!("{signal}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn endings_read_as_sentences() {
        let pid = Pid::from_raw(7);
        assert_eq!(describe(&WaitStatus::Exited(pid, 101)), "exit status 101");
        assert_eq!(
            describe(&WaitStatus::Signaled(pid, Signal::SIGSEGV, false)),
            "SIGSEGV"
        );
        assert!(describe(&WaitStatus::Signaled(pid, Signal::SIGKILL, false)).contains("memory"));
    }
}
