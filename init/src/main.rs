//! `/init`: PID 1 of a machine that is being imaged. It only supervises; the work runs in children of the
//! same program, so that a crash is a failed attempt and never a kernel panic.

mod clock;
mod console;
mod data;
mod drivers;
mod host_key;
mod identity;
mod libraries;
mod medium;
mod menu;
mod modules;
mod mounts;
mod net;
mod report;
mod rescue;
mod shutdown;
mod stick;
mod supervise;
mod switch;
mod trusted_keys;
mod worker;

use identity::Role;
use std::process::ExitCode;

fn main() -> ExitCode {
    match identity::role(std::env::args_os()) {
        Role::PidOne => pid_one(),
        Role::Devices => modules::devices::run(),
        Role::Modprobe(names) => modules::modprobe(&names),
        Role::Worker => worker::run(),
        Role::AfterCrash => worker::after_crash(),
        Role::Shell(console) => rescue::shell(&console),
        Role::Stranger(why) => {
            eprintln!("init: {why}");
            ExitCode::from(2)
        }
    }
}

fn pid_one() -> ! {
    let signals = supervise::take_signals();
    let mounted = mounts::all();
    let consoles = console::Consoles::open(&console::boot_parameters());
    supervise::guard_pid_one(&consoles);
    consoles.greet();
    consoles.report_failures(mounted);
    consoles.report_failures([clock::not_before_build_time(), modules::answer_the_kernel()]);
    consoles.report_failures([mounts::variables()]);
    let mut watchdog = supervise::Watchdog::default();
    let leave = supervise::run(&consoles, signals, &mut watchdog);
    shutdown::carry_out(leave, &consoles, &mut watchdog)
}
