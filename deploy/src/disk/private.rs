//! Mounts that nobody else sees, and that are gone with the process, however it ends.

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::thread;

/// Runs `act` in a thread with a mount namespace of its own.
///
/// # Errors
/// When the kernel gives none, and those of `act`.
pub fn run<T: Send>(act: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let ended = thread::scope(|scope| {
        let apart = || {
            unshare(CloneFlags::CLONE_NEWNS).context("leaving the mounts of others alone")?;
            // What others unmount is to go here as well: it would be kept busy.
            let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
                .context("keeping mounts from others")?;
            act()
        };
        scope.spawn(apart).join()
    });
    match ended {
        Ok(result) => result,
        Err(_) => bail!("a part of the work ended in a panic: this is a bug of Pitstop"),
    }
}
