//! A program in namespaces of its own: mounts, processes, host name. Three processes take part:
//!
//! - the **keeper** is what was spawned. It makes the namespaces, waits for the next one, and ends as that ended;
//! - the **first** process of the new process namespace takes in orphans and waits for the program. When it ends, the kernel
//!   ends all others of the namespace, and with the last of them the mounts are gone;
//! - the **program**, which has the tree as its root.
//!
//! Each dies with the one before it (`PR_SET_PDEATHSIG`), so nothing is left when Pitstop itself is killed.

use super::steps::Step;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// How a program ended that a signal ended: as shells say it.
pub const SIGNAL: i32 = 128;
/// How it ended is not known.
const UNKNOWN: i32 = 125;

/// Where the set-up of a call stands, told through a pipe: one byte for each step that begins.
struct Told {
    writer: PipeWriter,
    reader: PipeReader,
}

/// Starts `command` after `steps`, in new namespaces.
///
/// # Errors
/// With the step that failed, or what else kept it from starting.
pub fn spawn(command: &mut Command, steps: Vec<Step>) -> anyhow::Result<Child> {
    let names: Vec<String> = steps.iter().map(Step::name).collect();
    let (reader, writer) = io::pipe()?;
    let told = Told { writer, reader };
    let telling = told.writer.as_raw_fd();
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let prepare = move || enter(&steps, telling, parent);
    // SAFETY: between fork and exec only calls to the kernel are made: no memory is asked for and no lock taken, whatever the
    // other threads of this process were at. `telling` is open until spawn has returned.
    unsafe { command.pre_exec(prepare) };
    // A group of its own: Ctrl-C is for Pitstop, which ends what it started.
    command.process_group(0);
    let started = command.spawn();
    let Told { writer, mut reader } = told;
    drop(writer);
    started.map_err(|error| {
        let mut begun = Vec::new();
        // Every other end is closed: this ends.
        let _ = reader.read_to_end(&mut begun);
        let what = match begun.len().checked_sub(1) {
            None => "making namespaces".to_owned(),
            Some(at) => match names.get(at) {
                Some(name) => name.clone(),
                None => format!("running {}", command.get_program().display()),
            },
        };
        anyhow::Error::new(error).context(what)
    })
}

/// Runs in the child of the fork; only the program's own process returns from it.
fn enter(steps: &[Step], telling: RawFd, parent: i32) -> io::Result<()> {
    die_with_parent()?;
    // SAFETY: plain calls to the kernel.
    unsafe {
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let apart = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS;
        if libc::unshare(apart) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let first = fork()?;
    if first > 0 {
        close_all();
        end_as(first);
    }
    die_with_parent()?;
    let program = fork()?;
    if program > 0 {
        close_all();
        end_as(program);
    }
    // SAFETY: plain calls to the kernel.
    unsafe {
        libc::setsid();
        libc::umask(0o022);
        libc::chdir(c"/".as_ptr());
    }
    for step in steps {
        tell(telling);
        step.run()?;
    }
    tell(telling);
    Ok(())
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: a plain call to the kernel.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The call itself: the C library's `fork` runs what others have registered for it, which may wait for locks that no thread of
/// this process will ever give back.
fn fork() -> io::Result<libc::pid_t> {
    // SAFETY: without a stack and with SIGCHLD alone it is what fork(2) is.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// What waits has no business with the files of those that it waits for: a pipe ends when they are done with it.
fn close_all() {
    // SAFETY: nothing of this process uses a descriptor from here on.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        // It came with Linux 5.9.
        for fd in 0..65_536 {
            libc::close(fd);
        }
    }
}

/// Waits until `wanted` has ended, takes in others that end meanwhile, and ends as it did.
fn end_as(wanted: libc::pid_t) -> ! {
    let mut status: libc::c_int = 0;
    let known = loop {
        // SAFETY: the pointer is that of a local number.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        // SAFETY: a plain call to the kernel; errno is this thread's.
        let interrupted = ended < 0 && unsafe { *libc::__errno_location() } == libc::EINTR;
        if ended == wanted || (ended < 0 && !interrupted) {
            break ended == wanted;
        }
    };
    let code = if !known {
        UNKNOWN
    } else if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        SIGNAL + libc::WTERMSIG(status)
    };
    // SAFETY: ends this process without running anything of the one it was forked from.
    unsafe { libc::_exit(code) }
}

fn tell(telling: RawFd) {
    let byte = [1u8];
    // SAFETY: one byte of a local array; a failure is told by the step's own error.
    unsafe { libc::write(telling, byte.as_ptr().cast(), 1) };
}
