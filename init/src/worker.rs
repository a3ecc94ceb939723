//! The child that does the work: network, job, end. It may crash; PID 1 goes on.

use crate::console::{Consoles, boot_parameters, command_line};
use crate::report::{Crash, Pulse, Report};
use crate::{clock, host_key, job_keys, libraries, medium, net, rescue};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_payload::load::Rules;
use pitstop_payload::run::{self, Options};
use pitstop_protocol::job::Clock;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, panic, thread};

/// How long the drivers of what was there at the start may take. Disks that come later are the job's matter.
const DRIVERS: Duration = Duration::from_secs(15);

/// Runs the job and reports how it ended. Then it waits for PID 1 to end it: the lease is kept meanwhile.
pub fn run() -> ExitCode {
    let consoles = Consoles::open(&boot_parameters());
    reset_oom_score(&consoles);
    report_panics(&consoles);
    let machine = Machine {
        sysfs: PathBuf::from("/sys"),
        procfs: PathBuf::from("/proc"),
        dev: PathBuf::from("/dev"),
        command_line: command_line(),
    };
    let finish = work(&machine, &consoles);
    consoles.drain();
    Report::Finish(finish).send();
    loop {
        thread::park();
    }
}

fn work(machine: &Machine, consoles: &Consoles) -> pitstop_payload::finish::Finish {
    let reporter: Arc<dyn Reporter> = Arc::new(Pulse::new(consoles.clone()));
    if boot_parameters().debug {
        libraries::listen(Arc::clone(&reporter));
    }
    let keys = match job_keys::read() {
        Ok(keys) => keys,
        Err(error) => return run::failed_for_good(&format!("{error:#}")),
    };
    let mut rules = Rules {
        keys,
        clock: Clock::default(),
    };
    let lease = match net::bring_up(machine, &boot_parameters(), &reporter) {
        Ok(lease) => lease,
        Err(error) => return run::failed_before_job(machine, &rules, &format!("{error:#}")),
    };
    // The network may have told the time.
    rules.clock = clock::standing();
    if rules.clock == Clock::Behind {
        reporter.warn(format!(
            "this machine's clock was set to a time before its initramfs was made, and nobody has told the right one: \
             it stands at {:.0}",
            clock::now()
        ));
    }
    Report::Lease(lease.clone()).send();
    // The pipe from the process that loads drivers: a line, or its end, says that it has been through.
    match net::wait_readable(io::stdin(), DRIVERS) {
        Ok(true) => {}
        Ok(false) => reporter.warn("drivers are still being loaded".into()),
        Err(error) => reporter.warn(format!("waiting for drivers: {error}")),
    }
    if let Some(label) = &boot_parameters().medium
        && let Err(error) = medium::bring_up(label)
    {
        return run::failed_before_job(machine, &rules, &format!("{error:#}"));
    }
    let options = Options {
        on_policy: &|policy| Report::Policy(policy.clone()).send(),
        rules,
        host_key: host_key(consoles),
        ..Options::default()
    };
    run::run(machine, &lease, reporter, &options)
}

/// Of a machine that would let somebody in. Without one it has no way in, which is told.
fn host_key(consoles: &Consoles) -> String {
    if !rescue::has_ssh() {
        return String::new();
    }
    host_key::make().unwrap_or_else(|error| {
        consoles.warn(format!("{error:#}"));
        String::new()
    })
}

/// Writes to the share that a worker has crashed, as far as the share can be reached.
pub fn after_crash() -> ExitCode {
    let consoles = Consoles::open(&boot_parameters());
    reset_oom_score(&consoles);
    let mut text = String::new();
    let crash = io::stdin()
        .read_to_string(&mut text)
        .map_err(anyhow::Error::from)
        .and_then(|_| Ok(serde_json::from_str::<Crash>(&text)?));
    match crash {
        Ok(crash) => {
            let finish = run::after_crash(&crash.lease, &crash.policy, &crash.reason, &consoles);
            consoles.drain();
            Report::Finish(finish).send();
            ExitCode::SUCCESS
        }
        Err(error) => {
            consoles.error(format!("the crash could not be logged: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// PID 1 is never killed for memory; its children are as mortal as anyone.
pub fn reset_oom_score(reporter: &dyn Reporter) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "0") {
        reporter.debug(format!("setting oom_score_adj: {error}"));
    }
}

fn report_panics(consoles: &Consoles) {
    let consoles = consoles.clone();
    panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        consoles.error(format!("a fault in Pitstop itself: {text}"));
        Report::Panic(text).send();
    }));
}
