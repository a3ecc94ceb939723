//! Two thousand machines: the page is there, and stays while rows change. How soon, and how long an update takes, is printed by the
//! browser's own clock: `cargo test -p pitstop --test pages two_thousand -- --nocapture`.

use crate::browser::{Browser, Looks};
use crate::lab::Lab;
use std::fmt::Write as _;

/// Two hundred machines in each of ten networks.
fn fleet() -> String {
    let mut fleet =
        "version = 1\n[network.\"10.0.0.0/16\"]\n[group.lab]\nmatch = \"lab-*\"\n".to_owned();
    for row in 0..10 {
        writeln!(
            fleet,
            "[host.\"pc{row}-[001-200]\"]\nip = \"10.0.{row}.[1-200]\"\ngroups = [\"lab\"]"
        )
        .unwrap();
    }
    fleet
}

#[test]
fn two_thousand_machines_are_there_at_once_and_stay_so() {
    let lab = Lab::of(&fleet());
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/");
    assert_eq!(browser.count("#machines tbody tr"), 2000);
    browser.until("document.getElementById('live').dataset.state === 'on'");
    let times = browser.js(
        "const paint = performance.getEntriesByName('first-contentful-paint')[0].startTime;
         const [load] = performance.getEntriesByType('navigation');
         return {paint, answered: load.responseStart, read: load.responseEnd, ready: load.domContentLoadedEventEnd,
                 bytes: load.decodedBodySize};",
    );
    browser.js("window.same = true");
    lab.does(&["host", "set", "pc0-*", "refresh-info"]);
    browser.until("document.querySelectorAll('#machines tr[data-rank=\"3\"]').length === 200");
    let updates = browser
        .js("return performance.getEntriesByName('pitstop-update').map((one) => one.duration)");
    println!("2000 machines: {times}; updates, ms: {updates}");
    assert!(times["paint"].as_f64().unwrap() > 0.0, "{times}");
    assert!(!updates.as_array().unwrap().is_empty());
    assert_eq!(browser.js("return window.same"), true, "it was loaded anew");
    browser.type_into("#filter", "pc7-123");
    browser.until("document.querySelectorAll('#machines tbody tr:not([hidden])').length === 1");
}
