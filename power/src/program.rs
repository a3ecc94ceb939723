//! Running another program: never longer than a limit, never more of its words than a screen.

use crate::error::{PowerError, one_line};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are kept of what a program says.
const KEPT: usize = 64 << 10;
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
    let linger = Instant::now() + LINGER;
    let (stdout, stderr) = (said(stdout.as_ref(), linger), said(stderr.as_ref(), linger));
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

/// Reads to the end, so that the program never waits for a full pipe, and gives each piece away.
fn read(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (said, hears) = channel();
    thread::spawn(move || {
        let (mut piece, mut kept) = ([0; 4096], 0);
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) if kept < KEPT => {
                    kept += count;
                    // Nobody waits any more for one that was stopped.
                    let _ = said.send(piece[..count].to_vec());
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What was read before an error is what there is.
                Err(_) => break,
            }
        }
    });
    hears
}

/// What was said, to the end or until `linger`: what the program started may hold its output open, and says nothing more.
fn said(from: Option<&Receiver<Vec<u8>>>, linger: Instant) -> String {
    let mut bytes = Vec::new();
    while let Some(from) = from
        && let Ok(mut piece) = from.recv_timeout(linger.saturating_duration_since(Instant::now()))
    {
        bytes.append(&mut piece);
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
