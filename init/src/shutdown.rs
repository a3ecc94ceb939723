//! The machine leaves: processes end, file systems are written and unmounted, and then it is off or up again.

use crate::console::Consoles;
use crate::supervise::{FEED_EVERY, Leave, Watchdog};
use crate::switch;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, sync};
use pitstop_imaging::event::Reporter;
use pitstop_payload::finish::CrashPolicy;
use pitstop_protocol::job::ActionName;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// How long writing back may take: a dead disk or server must not keep the machine.
const SYNC: Duration = Duration::from_secs(60);

/// Kinds that hold nothing that must be written.
const WITHOUT_DATA: &[&str] = &[
    "rootfs", "proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "efivarfs", "ramfs",
];

/// Does not return: if the firmware does not want to, the watchdog or a person ends it.
pub fn carry_out(leave: Leave, consoles: &Consoles, watchdog: &mut Watchdog) -> ! {
    let leave = match leave {
        Leave::Into(root) => {
            let Err(error) = switch::into(&root, consoles, watchdog);
            let policy = CrashPolicy {
                action: ActionName::Run.to_string(),
                ..CrashPolicy::default()
            };
            let finish = policy.failed(&format!("{error:#}"));
            consoles.result(&finish.result_line);
            wait(finish.wait, watchdog);
            Leave::Reboot
        }
        leave => leave,
    };
    consoles.info(match leave {
        Leave::Poweroff => "powering off".into(),
        Leave::Reboot | Leave::Into(_) => "rebooting".into(),
    });
    consoles.drain();
    end_processes();
    let written = within(
        SYNC,
        || watchdog.feed(),
        || {
            sync();
            unmount_all();
            sync();
        },
    );
    let (mode, request) = match leave {
        Leave::Reboot | Leave::Into(_) => (RebootMode::RB_AUTOBOOT, "b"),
        Leave::Poweroff => {
            watchdog.disarm();
            (RebootMode::RB_POWER_OFF, "o")
        }
    };
    // A disk that hangs would keep the kernel too, when it switches its devices off.
    if written {
        let Err(error) = reboot(mode);
        consoles.error(format!("the kernel does not leave: {error}"));
    } else {
        consoles.error("data cannot be written to the disks any more: leaving without it".into());
        consoles.drain();
    }
    // The same, past everything that the kernel would do first.
    if let Err(error) = fs::write("/proc/sysrq-trigger", request) {
        consoles.error(format!("nor by /proc/sysrq-trigger: {error}"));
    }
    loop {
        thread::sleep(GRACE);
    }
}

/// The machine cannot go on where it was to: people read why, and then it tries again.
fn wait(patience: Duration, watchdog: &mut Watchdog) {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        watchdog.feed();
        thread::sleep(GRACE);
    }
}

/// Everything but PID 1 ends.
pub fn end_processes() {
    let everyone = Pid::from_raw(-1);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // Nobody left is no error.
        if kill(everyone, signal).is_err() {
            return;
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            // No child left: all is done.
            if waitpid(None, Some(WaitPidFlag::WNOHANG)).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits for `work`, but not longer than `patience`. Writing back to a slow disk is no hang: `feed` is called all
/// along, for the watchdog. Whether it came to its end.
fn within(
    patience: Duration,
    mut feed: impl FnMut(),
    work: impl FnOnce() + Send + 'static,
) -> bool {
    let (done, waiting) = channel();
    thread::spawn(move || {
        work();
        // Nobody may wait any more.
        let _ = done.send(());
    });
    let deadline = Instant::now() + patience;
    loop {
        feed();
        let left = deadline.saturating_duration_since(Instant::now());
        match waiting.recv_timeout(left.min(FEED_EVERY)) {
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return false,
            Err(RecvTimeoutError::Timeout) => {}
            // Done, or dead: a thread ends with its sender.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

/// Unmounts what holds data, the last mounted first. What is busy is at least written by the sync after it.
fn unmount_all() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for target in data_mounts(&mounts).iter().rev() {
        if umount2(target.as_str(), MntFlags::empty()).is_err() {
            let _ = umount2(target.as_str(), MntFlags::MNT_DETACH);
        }
    }
}

/// The mount points of `/proc/self/mounts` that hold data, in order.
fn data_mounts(mounts: &str) -> Vec<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (target, kind) = (fields.nth(1)?, fields.next()?);
            (!WITHOUT_DATA.contains(&kind)).then(|| unescaped(target))
        })
        .collect()
}

/// Blanks and backslashes are octal in `/proc/mounts`: `\040`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        };
        match after.get(..3).and_then(octal) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_holds_data_is_unmounted() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\n\
                      /dev/sda1 /mnt/a\\040b ext4 rw 0 0\nserver:/x /run/pitstop/shares/x nfs4 rw 0 0\n";
        assert_eq!(data_mounts(mounts), ["/mnt/a b", "/run/pitstop/shares/x"]);
    }

    #[test]
    fn a_hung_sync_is_left_behind() {
        let begin = Instant::now();
        let mut fed = 0;
        let done = within(
            Duration::from_millis(50),
            || fed += 1,
            || thread::sleep(Duration::from_secs(600)),
        );
        assert!(!done);
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert!(fed > 0, "the watchdog starved");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}") {
            let _ = data_mounts(&text);
        }
    }
}
