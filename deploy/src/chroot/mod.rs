//! Programs of a tree, run in it: with mounts, processes and a host name of their own, which are gone when they end, however
//! they end.

mod lent;
mod links;
mod output;
mod resolver;
mod setup;
mod spawn;
mod steps;

pub use lent::Lent;
pub use output::secrets_of;
pub use resolver::resolver;

use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::interrupt;
use setup::Setup;
use std::ffi::OsString;
use std::io::{self, BufReader, PipeReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where files of a call lie, in memory: `/run/pitstop/NAME`.
pub const FILES: &str = "/run/pitstop";

/// Where programs look for others.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every program finds, beside what its call says.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", PATH),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("GRUB_DISABLE_OS_PROBER", "true"),
];
/// Between two signs of life of a program that says nothing: far below the shortest `progress-timeout` of a host file.
const LIFE: Duration = Duration::from_secs(10);
/// How often one is looked at that goes on.
const LOOK: Duration = Duration::from_millis(20);
const BUSY_TRIES: u32 = 50;

/// A file for a program, in memory and for this call alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Below [`FILES`]: `hook`.
    pub name: String,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// An absolute path in the tree, or a name that is searched in its usual folders.
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Beside `PATH`, `HOME`, `LANG` and the like; nothing of this process' own.
    pub environment: Vec<(String, OsString)>,
    pub files: Vec<Given>,
    /// Words that no log may have.
    pub secrets: Vec<String>,
    pub limit: Duration,
    /// Before each line of its output.
    pub label: String,
}

impl Call {
    /// A program with nothing beside its arguments.
    #[must_use]
    pub fn new(program: &str, arguments: &[&str], limit: Duration) -> Self {
        let label = program.rsplit('/').next().unwrap_or(program).to_owned();
        Self {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            files: Vec::new(),
            secrets: Vec::new(),
            limit,
            label,
        }
    }
}

/// A tree whose programs are run.
#[derive(Debug)]
pub struct Chroot<'a> {
    root: &'a Root,
    setup: Setup,
}

/// How a program ended.
enum Ended {
    By(ExitStatus),
    TooLate,
}

impl<'a> Chroot<'a> {
    /// Looks at what is needed around the tree. Nothing is mounted until something runs. `hostname` is what programs see.
    ///
    /// # Errors
    /// When this is not root, or something cannot be read.
    pub fn enter(root: &'a Root, hostname: Option<&str>) -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("running programs of a tree needs root");
        }
        let setup = Setup::of(root, hostname).with_context(|| {
            format!("preparing {} to run programs of it", root.path().display())
        })?;
        Ok(Self { root, setup })
    }

    /// The tree is for this very machine: its programs may change the firmware's boot entries. Nobody else's would survive a
    /// `grub-install` or `bootctl` in a tree that is for another one.
    #[must_use]
    pub fn of_this_machine(mut self) -> Self {
        self.setup.shows_firmware = setup::has_variables();
        self
    }

    #[must_use]
    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// Whether the tree has this program: an absolute path.
    #[must_use]
    pub fn has(&self, program: &str) -> bool {
        Files::of(self.root).is_ok_and(|files| files.exists(program))
    }

    fn start(&self, call: &Call) -> anyhow::Result<(Child, PipeReader)> {
        let steps = self.setup.steps(call)?;
        let (reader, writer) = io::pipe().context("making a pipe")?;
        let mut command = Command::new(&call.program);
        command
            .args(&call.arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .envs(call.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("making a pipe")?)
            .stderr(writer);
        Ok((spawn::spawn(&mut command, steps)?, reader))
    }

    /// Runs it to its end; each line of its output goes to `reporter`.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, or ends with another status than 0.
    pub fn run(&self, call: &Call, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let label = &call.label;
        let policy = Lent::beneath(self.root, self.setup.has_policy)?;
        let mut tries = BUSY_TRIES;
        let (child, reader) = loop {
            match self.start(call) {
                Err(error) if tries > 0 && is_busy(&error) => {
                    tries -= 1;
                    thread::sleep(LOOK);
                }
                other => break other.with_context(|| format!("starting {label}"))?,
            }
        };
        let ended = follow(child, reader, call, reporter)
            .with_context(|| format!("waiting for {label}"))?;
        policy.take_away()?;
        if matches!(ended, Ended::TooLate) {
            interrupt::check().with_context(|| label.clone())?;
        }
        match ended {
            Ended::By(status) if status.success() => Ok(()),
            Ended::By(status) => match status.code() {
                Some(code) if code > spawn::SIGNAL => {
                    bail!("{label} was ended by signal {}", code - spawn::SIGNAL)
                }
                Some(code) => bail!("{label} ended with status {code}"),
                None => bail!("{label}: {status}"),
            },
            Ended::TooLate => bail!(
                "{label} did not end within {} and was ended with all that it started",
                pitstop_imaging::units::duration(call.limit)
            ),
        }
    }
}

/// A program that was just written may for a moment still be open in a process that another thread has forked meanwhile.
fn is_busy(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ExecutableFileBusy)
}

/// Tells what a program says, and waits until it and all that it started are gone.
fn follow(
    mut child: Child,
    output: PipeReader,
    call: &Call,
    reporter: &dyn Reporter,
) -> io::Result<Ended> {
    let end = Instant::now() + call.limit;
    let (sender, lines) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Whoever asks has gone only with this process.
            let _ = output::lines(BufReader::new(output), &mut |line| {
                let _ = sender.send(line);
            });
        });
        let in_time = tell(&lines, end, call, reporter) && wait(&mut child, end)?;
        if !in_time {
            // The keeper; all others end with it.
            child.kill()?;
        }
        let status = child.wait()?;
        for line in lines {
            reporter.info(line_of(call, line));
        }
        Ok(if in_time {
            Ended::By(status)
        } else {
            Ended::TooLate
        })
    })
}

/// Whether a program has to be over: its time is, or a signal asks for the end of all.
fn is_over(end: Instant) -> bool {
    Instant::now() >= end || interrupt::is_asked()
}

/// Until the output ends; whether it did in time.
fn tell(lines: &Receiver<String>, end: Instant, call: &Call, reporter: &dyn Reporter) -> bool {
    let began = Instant::now();
    let mut heard = began;
    while !is_over(end) {
        match lines.recv_timeout(LOOK) {
            Ok(line) => reporter.info(line_of(call, line)),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() < LIFE => continue,
            Err(RecvTimeoutError::Timeout) => reporter.debug(format!(
                "{} runs since {} s",
                call.label,
                began.elapsed().as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => return true,
        }
        heard = Instant::now();
    }
    false
}

/// One that has closed its output may still run.
fn wait(child: &mut Child, end: Instant) -> io::Result<bool> {
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if is_over(end) {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

fn line_of(call: &Call, line: String) -> String {
    format!("{}: {}", call.label, output::without(&call.secrets, line))
}

#[cfg(test)]
mod tests;
