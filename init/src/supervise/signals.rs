//! The signals that PID 1 answers, as a descriptor.

use nix::sys::reboot::set_cad_enabled;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// A child has ended.
    Reap,
    Reboot,
    Poweroff,
}

/// Blocks the signals and gives the descriptor on which they arrive. To be called before any thread is
/// started: a thread that has them unblocked would swallow them.
pub fn take() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    // Ctrl-Alt-Del comes as SIGINT instead of an instant reset.
    set_cad_enabled(false)?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// Lets a child have its signals: it inherits what PID 1 blocks, and a shell without SIGINT, or an SSH server
/// that never hears that its sessions end, is of no use.
pub fn unblocked(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec this only calls pthread_sigmask(3), which is async-signal-safe, and
    // touches no memory of other threads.
    unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(io::Error::from)) }
}

/// All that has arrived.
pub fn read(signals: &SignalFd) -> Vec<SignalRequest> {
    let mut requests = Vec::new();
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = i32::try_from(info.ssi_signo).ok();
        requests.extend(
            signal
                .and_then(|number| Signal::try_from(number).ok())
                .and_then(request),
        );
    }
    requests
}

/// As busybox's init has them: its `reboot`, `poweroff` and `halt` send these to PID 1.
fn request(signal: Signal) -> Option<SignalRequest> {
    match signal {
        Signal::SIGCHLD => Some(SignalRequest::Reap),
        Signal::SIGINT | Signal::SIGTERM => Some(SignalRequest::Reboot),
        Signal::SIGUSR1 | Signal::SIGUSR2 => Some(SignalRequest::Poweroff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busyboxs_commands_and_the_keyboard_are_understood() {
        assert_eq!(request(Signal::SIGINT), Some(SignalRequest::Reboot));
        assert_eq!(request(Signal::SIGUSR2), Some(SignalRequest::Poweroff));
        assert_eq!(request(Signal::SIGHUP), None);
    }

    #[test]
    fn a_child_has_the_signals_that_its_parent_blocks() {
        let blocked = std::thread::spawn(|| {
            let mut set = SigSet::empty();
            set.add(Signal::SIGINT);
            set.thread_block().unwrap();
            let mut command = Command::new("grep");
            command.args(["SigBlk", "/proc/self/status"]);
            let output = unblocked(&mut command).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        assert_eq!(blocked.join().unwrap(), "SigBlk:\t0000000000000000\n");
    }
}
