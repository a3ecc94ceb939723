//! Running another program: never longer than a limit, never more of its words than a screen.

use crate::error::{PowerError, one_line};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are kept of what a program says.
const KEPT: u64 = 64 << 10;
/// How often is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How long what it started may hold its output open after its end.
const LINGER: Duration = Duration::from_secs(5);

/// What a program that went well said.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
}

/// Runs `command` for at most `limit`. `name` is how errors call it.
///
/// # Errors
/// It cannot be started, fails, or does not end in time: then it is stopped with all that it started.
pub fn run(mut command: Command, name: &str, limit: Duration) -> Result<Outcome, PowerError> {
    let running = |error| PowerError::Running {
        program: name.to_owned(),
        error,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that all of it can be stopped.
        .process_group(0)
        .spawn()
        .map_err(running)?;
    let stdout = child.stdout.take().map(read);
    let stderr = child.stderr.take().map(read);
    let status = wait(&mut child, limit).map_err(running)?;
    let Some(status) = status else {
        return Err(PowerError::Hangs {
            program: name.to_owned(),
            limit,
        });
    };
    let said = |from: Option<Receiver<String>>| {
        from.and_then(|from| from.recv_timeout(LINGER).ok())
            .unwrap_or_default()
    };
    let (stdout, stderr) = (said(stdout), said(stderr));
    if status.success() {
        return Ok(Outcome { stdout });
    }
    let text = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    Err(PowerError::Failed {
        program: name.to_owned(),
        status: ending(status),
        said: one_line(&text),
    })
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// Reads to the end, so that the program never waits for a full pipe, and gives back the beginning.
fn read(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (said, hears) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        // What was read before an error is what there is.
        let _ = from.by_ref().take(KEPT).read_to_end(&mut kept);
        let _ = std::io::copy(&mut from, &mut std::io::sink());
        // Nobody waits any more for one that was stopped.
        let _ = said.send(String::from_utf8_lossy(&kept).into_owned());
    });
    hears
}

/// `None` if it was stopped.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            break;
        }
        thread::sleep(PAUSE);
    }
    // Its group has its number. What has ended by itself meanwhile needs no signal.
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
