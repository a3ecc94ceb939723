//! The child that does the work: network, job, end. It may crash; PID 1 goes on.

use crate::console::{Consoles, boot_parameters, command_line};
use crate::drivers::Drivers;
use crate::report::{Crash, Pulse, Report};
use crate::stick::{Choosing, Chosen};
use crate::{clock, host_key, libraries, net, rescue, stick, trusted_keys};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_payload::finish::Finish;
use pitstop_payload::load::Rules;
use pitstop_payload::run::{self, Options};
use pitstop_protocol::boot_parameters::IpSetting;
use pitstop_protocol::job::Clock;
use pitstop_protocol::machine::Lease;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::{fs, io, panic, thread};

/// Runs the job and reports how it ended. Then it waits for PID 1 to end it: the lease is kept meanwhile.
pub fn run() -> ExitCode {
    let consoles = Consoles::open(&boot_parameters());
    reset_oom_score(&consoles);
    report_panics(&consoles);
    let mut machine = Machine {
        sysfs: PathBuf::from("/sys"),
        procfs: PathBuf::from("/proc"),
        dev: PathBuf::from("/dev"),
        command_line: command_line(),
    };
    let finish = work(&mut machine, &consoles);
    consoles.drain();
    Report::Finish(finish).send();
    loop {
        thread::park();
    }
}

fn work(machine: &mut Machine, consoles: &Consoles) -> Finish {
    let reporter: Arc<dyn Reporter> = Arc::new(Pulse::new(consoles.clone()));
    if boot_parameters().debug {
        libraries::listen(Arc::clone(&reporter));
    }
    let read = trusted_keys::of_jobs().and_then(|jobs| Ok((jobs, trusted_keys::of_images()?)));
    let (keys, image_keys) = match read {
        Ok(keys) => keys,
        Err(error) => return run::failed_for_good(&format!("{error:#}")),
    };
    let mut rules = Rules {
        keys,
        image_keys,
        clock: Clock::default(),
    };
    let drivers = Drivers::watch(machine);
    // A card is looked for in a moment only where no network is waited for.
    let is_offline = boot_parameters().ip == IpSetting::Off;
    if is_offline {
        drivers.wait(&*reporter);
    }
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
    if !is_offline {
        drivers.wait(&*reporter);
    }
    let chosen = match stick::bring_up(machine, &lease, consoles) {
        Ok(chosen) => chosen,
        Err(error) => return run::failed_before_job(machine, &rules, &format!("{error:#}")),
    };
    let options = Options {
        rules,
        disks: Some(drivers.disks()),
        ..Options::default()
    };
    match chosen {
        Chosen::AsBefore => job(
            machine,
            &lease,
            options,
            &Choosing::default(),
            consoles,
            reporter,
        ),
        Chosen::Job { parameter, how } => {
            machine.command_line = format!("{} {parameter}", machine.command_line.trim_end());
            job(machine, &lease, options, &how, consoles, reporter)
        }
        Chosen::Nothing(why) => run::nothing_to_do(&options.rules, &why),
    }
}

fn job(
    machine: &Machine,
    lease: &Lease,
    options: Options<'_>,
    how: &Choosing,
    consoles: &Consoles,
    reporter: Arc<dyn Reporter>,
) -> Finish {
    let shells = options.rules.keys.is_none();
    let options = Options {
        on_policy: &|policy| {
            let policy = policy.clone();
            let policy = if how.in_place_of_own {
                policy.without_reboot()
            } else {
                policy
            };
            Report::Policy(Box::new(policy)).send();
        },
        host_key: host_key(consoles),
        again: how.again,
        ..options
    };
    let finish = run::run(machine, lease, reporter, &options);
    stick::release(&finish, consoles);
    if how.in_place_of_own {
        return stick::hold(&finish, shells, consoles);
    }
    finish
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
