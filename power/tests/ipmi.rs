//! IPMI against `OpenIPMI`'s simulator, by the real ipmitool.

mod common;

use common::{PASSWORD, credentials, limits, login, power, target};
use pitstop_power::fake::IpmiSim;
use pitstop_power::{Act, Credentials, State};
use std::net::UdpSocket;

#[test]
fn a_machine_is_switched_and_asked_about() {
    let sim = IpmiSim::start(false);
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &login());
    let does = |act| {
        sim.power()
            .act_within(act, &target(), &logins, &limits(180, 180))
            .unwrap()
    };
    assert_eq!(does(Act::Status), State::Off);
    assert_eq!(does(Act::On), State::On);
    assert_eq!(sim.says("power"), "1");
    assert_eq!(does(Act::Pxe), State::On);
    assert_eq!(sim.says("boot"), "pxe");
    assert_eq!(does(Act::Cycle), State::On);
    assert_eq!(does(Act::Off), State::Off);
    // Of a machine that is off, on.
    assert_eq!(does(Act::Cycle), State::On);
    let mut orders: Vec<String> = sim
        .says("log")
        .lines()
        .filter(|line| line.contains("set power"))
        .map(str::to_owned)
        .collect();
    // On a busy computer the answer may come so late that ipmitool says it again.
    orders.dedup();
    assert_eq!(
        orders
            .iter()
            .filter_map(|line| line.chars().last())
            .collect::<String>(),
        "10101"
    );
    let state = sim
        .power()
        .boot_within(Act::Cycle, &target(), &logins, &limits(180, 180))
        .unwrap();
    assert_eq!(state, State::On);
    let log = sim.says("log");
    let mut last: Vec<&str> = log.lines().filter(|line| line.contains("set")).collect();
    last.dedup();
    // Told before, and again before it comes up: BMCs forget.
    assert_eq!(
        last[last.len() - 4..],
        [
            "0x20 set boot pxe",
            "0x20 set power 0",
            "0x20 set boot pxe",
            "0x20 set power 1"
        ]
    );
}

#[test]
fn a_bmc_that_lies_is_found_out() {
    let sim = IpmiSim::start(true);
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &login());
    let error = sim
        .power()
        .act_within(Act::On, &target(), &logins, &limits(180, 1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "127.0.0.1 took the order, but 1s later the machine is still not on: it is off"
    );
}

#[test]
fn wrong_words_and_no_words_are_told_without_the_password() {
    let sim = IpmiSim::start(false);
    let root = tempfile::tempdir().unwrap();
    let status = |logins: &Credentials| {
        let error = sim
            .power()
            .act_within(Act::Status, &target(), logins, &limits(180, 1))
            .unwrap_err();
        format!("{error} {error:?}")
    };
    let error = status(&credentials(
        root.path(),
        &login().replace(PASSWORD, "hush-wrong"),
    ));
    assert!(
        error.starts_with("127.0.0.1 refused: ") && !error.contains("hush"),
        "{error}"
    );
    let error = status(&credentials(root.path(), "[\"other\"]\nuser = \"x\"\n"));
    let file = root.path().join("credentials.toml");
    let asks = format!(
        "nothing says user and password for 127.0.0.1: write them into {}",
        file.display()
    );
    assert!(error.starts_with(&asks), "{error}");
}

#[test]
fn a_bmc_that_does_not_answer_is_given_up() {
    // Somebody listens, and says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bmc = power(&format!(
        "ipmi://127.0.0.1:{}",
        silent.local_addr().unwrap().port()
    ));
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &login());
    let error = bmc
        .act_within(Act::On, &target(), &logins, &limits(2, 1))
        .unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 did not answer within 2s");
}
