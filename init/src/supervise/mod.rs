//! PID 1 after the boot: it waits for the worker's end, reaps, feeds the watchdog, answers Ctrl-Alt-Del.

mod children;
mod countdown;
mod signals;
mod watchdog;

pub use children::shell as start_shell;
pub use signals::{take as take_signals, unblocked};
pub use watchdog::{FEED_EVERY, Watchdog};

use crate::console::Consoles;
use crate::report::{Crash, Reader, Report};
use crate::rescue::Rescue;
use children::Worker;
use countdown::Countdown;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::units;
use pitstop_payload::finish::{CrashPolicy, Finish};
use pitstop_protocol::job::After;
use pitstop_protocol::machine::Lease;
use signals::SignalRequest;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

/// How long logging a crash on the share may take.
const CRASH_LOG: Duration = Duration::from_secs(60);

/// The process that loads drivers is started again so often, should it die.
const RESTARTS: u32 = 5;

/// How the machine leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Reboot,
    Poweroff,
    /// For the root of a tree.
    Into(PathBuf),
}

/// Makes PID 1 the last to be killed for memory, and its faults visible.
pub fn guard_pid_one(consoles: &Consoles) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        consoles.warn(format!(
            "guarding PID 1 against the lack of memory: {error}"
        ));
    }
    let consoles = consoles.clone();
    std::panic::set_hook(Box::new(move |info| {
        consoles.error(format!("a fault in PID 1: {info}"));
    }));
}

/// Runs the machine from the start of the worker to the moment when it is to leave. Returns even if there is
/// a fault in here: by the policy of a machine that knows nothing of its job.
pub fn run(
    consoles: &Consoles,
    signals: anyhow::Result<SignalFd>,
    watchdog: &mut Watchdog,
) -> Leave {
    let signals = signals
        .map_err(|error| consoles.error(format!("listening to signals: {error:#}")))
        .ok();
    let guarded = catch_unwind(AssertUnwindSafe(|| supervise(consoles, signals, watchdog)));
    guarded.unwrap_or_else(|_| {
        let finish = CrashPolicy::default().failed("a fault in PID 1");
        consoles.result(&finish.result_line);
        let end = Instant::now() + finish.wait;
        while Instant::now() < end {
            watchdog.feed();
            std::thread::sleep(watchdog::FEED_EVERY);
        }
        Leave::Reboot
    })
}

fn supervise(consoles: &Consoles, signals: Option<SignalFd>, watchdog: &mut Watchdog) -> Leave {
    let mut supervisor = Supervisor {
        consoles,
        signals,
        watchdog,
        devices: None,
        restarts: 0,
        worker: None,
        reports: Reader::default(),
        policy: CrashPolicy::default(),
        lease: None,
        heard: Instant::now(),
        last_words: None,
        rescue: None,
    };
    let finish = match supervisor.work() {
        Ok(finish) => finish,
        Err(leave) => return leave,
    };
    match supervisor.end(&finish) {
        Ok(never) => match never {},
        Err(leave) => leave,
    }
}

/// What no function returns: the machine leaves only by [`Leave`].
enum Never {}

struct Supervisor<'a> {
    consoles: &'a Consoles,
    signals: Option<SignalFd>,
    watchdog: &'a mut Watchdog,
    devices: Option<Pid>,
    restarts: u32,
    worker: Option<Worker>,
    reports: Reader,
    policy: CrashPolicy,
    lease: Option<Lease>,
    /// When the worker last let hear of itself.
    heard: Instant,
    /// What a worker said of its own crash.
    last_words: Option<String>,
    rescue: Option<Rescue>,
}

/// What a wait was ended by.
enum Happened {
    Nothing,
    Finished(Finish),
    /// The worker is gone without a word: how.
    Died(String),
}

impl Supervisor<'_> {
    /// From the start of the worker to its end, well or not.
    fn work(&mut self) -> Result<Finish, Leave> {
        let settled = match children::devices() {
            Ok((pid, settled)) => {
                self.devices = Some(pid);
                settled
            }
            Err(error) => {
                self.consoles.error(format!("{error:#}"));
                None
            }
        };
        match children::worker(settled) {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => return Ok(self.policy.failed(&format!("{error:#}"))),
        }
        loop {
            match self.wait(watchdog::FEED_EVERY)? {
                Happened::Nothing if self.heard.elapsed() > self.policy.progress_timeout => {
                    return self.hung();
                }
                Happened::Nothing => {}
                Happened::Finished(finish) => return Ok(finish),
                Happened::Died(how) => return self.crashed(&how),
            }
        }
    }

    /// Nothing moves: a disk, a driver or a server hangs. A process in the middle of that cannot even be killed.
    fn hung(&mut self) -> Result<Finish, Leave> {
        self.dismiss_worker();
        let silence = units::duration(self.policy.progress_timeout);
        self.give_up(format!(
            "nothing moved for {silence}: a disk or a driver hangs"
        ))
    }

    fn crashed(&mut self, how: &str) -> Result<Finish, Leave> {
        let reason = match self.last_words.take() {
            Some(words) => format!("the worker crashed: {words}"),
            None => format!("the worker ended without a result: {how}"),
        };
        self.give_up(reason)
    }

    /// Has another process tell the share why there is no worker any more.
    fn give_up(&mut self, reason: String) -> Result<Finish, Leave> {
        self.consoles.error(reason.clone());
        let fallback = self.policy.failed(&reason);
        let Some(lease) = self.lease.clone() else {
            return Ok(fallback);
        };
        let crash = Crash {
            lease,
            policy: self.policy.clone(),
            reason,
        };
        match children::after_crash(&crash) {
            Ok(logger) => self.worker = Some(logger),
            Err(error) => {
                self.consoles.warn(format!("{error:#}"));
                return Ok(fallback);
            }
        }
        let deadline = Instant::now() + CRASH_LOG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wait(left)? {
                Happened::Nothing if left.is_zero() => {
                    self.consoles
                        .warn("the crash could not be logged on the share in time".into());
                    self.dismiss_worker();
                    return Ok(fallback);
                }
                Happened::Nothing => {}
                Happened::Finished(finish) => return Ok(finish),
                Happened::Died(_) => return Ok(fallback),
            }
        }
    }

    /// The result is shown, the wait is waited, and the machine leaves; or it holds until somebody asks.
    fn end(&mut self, finish: &Finish) -> Result<Never, Leave> {
        self.consoles.result(&finish.result_line);
        if let Some(root) = &finish.root {
            return Err(Leave::Into(root.clone()));
        }
        let (act, leave) = match finish.then {
            After::Reboot => ("rebooting", Leave::Reboot),
            After::Poweroff => ("powering off", Leave::Poweroff),
            After::Rescue => return self.hold(finish.shells),
        };
        let mut countdown = Countdown::new(act, finish.wait, Instant::now());
        loop {
            let now = Instant::now();
            let left = countdown.left(now);
            if left.is_zero() {
                return Err(leave);
            }
            if let Some(text) = countdown.due(now) {
                self.consoles.info(text);
            }
            self.wait(left.min(Duration::from_secs(1)))?;
        }
    }

    /// Rescue: a shell on each console, if there shall be `shells`, until somebody reboots the machine.
    fn hold(&mut self, shells: bool) -> Result<Never, Leave> {
        let lease = self.lease.as_ref().filter(|lease| !lease.is_offline());
        let address = lease.map(|lease| lease.address);
        self.rescue = Some(Rescue::start(self.consoles, address, shells));
        loop {
            self.wait(Duration::from_secs(1))?;
            if let Some(rescue) = &mut self.rescue {
                rescue.keep_shells(self.consoles);
            }
        }
    }

    /// Waits for a signal, a report or the end of `patience`.
    fn wait(&mut self, patience: Duration) -> Result<Happened, Leave> {
        self.watchdog.feed();
        self.poll(patience.min(watchdog::FEED_EVERY));
        let requests = match &self.signals {
            Some(signals) => signals::read(signals),
            // Without the descriptor nobody tells: look each time.
            None => vec![SignalRequest::Reap],
        };
        for request in &requests {
            match request {
                SignalRequest::Reboot => return Err(Leave::Reboot),
                SignalRequest::Poweroff => return Err(Leave::Poweroff),
                SignalRequest::Reap => {}
            }
        }
        // Before the reaping: the last report comes before the end.
        let finish = self.read_reports();
        let died = if requests.is_empty() {
            None
        } else {
            self.reap()
        };
        let finish = finish.or_else(|| self.read_reports());
        if died.is_some() {
            // Its number may be another's from now on, and its closed pipe would end every poll at once.
            self.worker = None;
        }
        Ok(match (finish, died) {
            (Some(finish), _) => Happened::Finished(finish),
            (None, Some(how)) => Happened::Died(how),
            (None, None) => Happened::Nothing,
        })
    }

    fn poll(&self, patience: Duration) {
        let mut fds = Vec::new();
        if let Some(signals) = &self.signals {
            fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        }
        if let Some(worker) = &self.worker {
            fds.push(PollFd::new(worker.reports.as_fd(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(patience.as_millis()).unwrap_or(PollTimeout::MAX);
        // An interrupted or failed poll is a short wait: the callers look at all sources anyway.
        if poll(&mut fds, timeout).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Takes what the worker has written so far.
    fn read_reports(&mut self) -> Option<Finish> {
        let mut finish = None;
        let mut ended = false;
        while let Some(worker) = &mut self.worker {
            let mut buffer = [0; 4096];
            if !ready(&worker.reports) {
                break;
            }
            let length = worker.reports.read(&mut buffer).unwrap_or(0);
            if length == 0 {
                ended = true;
                break;
            }
            self.heard = Instant::now();
            for report in self.reports.push(buffer.get(..length).unwrap_or_default()) {
                match report {
                    Report::Lease(lease) => self.lease = Some(lease),
                    Report::Policy(policy) => self.policy = *policy,
                    Report::Alive => {}
                    Report::Panic(words) => self.last_words = Some(words),
                    Report::Finish(end) => finish = Some(end),
                }
            }
        }
        if ended {
            // A worker that closed its pipe is as good as gone: its end is about to be reaped.
            self.dismiss_worker();
        }
        finish
    }

    fn dismiss_worker(&mut self) {
        if let Some(worker) = &self.worker {
            // It may have gone by itself.
            let _ = kill(worker.pid, Signal::SIGKILL);
        }
    }

    /// Reaps all that ended. Says how the worker did, if it did.
    fn reap(&mut self) -> Option<String> {
        let mut died = None;
        for status in children::reap() {
            let pid = status.pid();
            if pid.is_some() && pid == self.worker.as_ref().map(|worker| worker.pid) {
                died = Some(children::describe(&status));
            } else if pid.is_some() && pid == self.devices {
                self.restart_devices(&status);
            } else if let (Some(rescue), Some(pid)) = (&mut self.rescue, pid) {
                rescue.ended(pid);
            }
        }
        died
    }

    fn restart_devices(&mut self, status: &WaitStatus) {
        self.devices = None;
        self.consoles.warn(format!(
            "the process that loads drivers ended: {}",
            children::describe(status)
        ));
        self.restarts += 1;
        if self.restarts > RESTARTS {
            return;
        }
        match children::devices() {
            Ok((pid, _)) => self.devices = Some(pid),
            Err(error) => self.consoles.error(format!("{error:#}")),
        }
    }
}

/// Whether a read would not block.
fn ready(pipe: &ChildStdout) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}
