//! The signals that PID 1 answers, as a descriptor.

use nix::sys::reboot::set_cad_enabled;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
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

/// All that has arrived.
pub fn read(signals: &SignalFd) -> Vec<Wish> {
    let mut wishes = Vec::new();
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = i32::try_from(info.ssi_signo).ok();
        wishes.extend(
            signal
                .and_then(|number| Signal::try_from(number).ok())
                .and_then(wish),
        );
    }
    wishes
}

/// As busybox's init has them: its `reboot`, `poweroff` and `halt` send these to PID 1.
fn wish(signal: Signal) -> Option<Wish> {
    match signal {
        Signal::SIGCHLD => Some(Wish::Reap),
        Signal::SIGINT | Signal::SIGTERM => Some(Wish::Reboot),
        Signal::SIGUSR1 | Signal::SIGUSR2 => Some(Wish::Poweroff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busyboxs_commands_and_the_keyboard_are_understood() {
        assert_eq!(wish(Signal::SIGINT), Some(Wish::Reboot));
        assert_eq!(wish(Signal::SIGUSR2), Some(Wish::Poweroff));
        assert_eq!(wish(Signal::SIGHUP), None);
    }
}
