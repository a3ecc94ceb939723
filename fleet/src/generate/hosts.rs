//! `/etc/hosts`: our lines between two marks, all others as they are.

use super::{Format, header};
use crate::fleet::Fleet;
use std::fmt::Write;

const BEGIN: &str = "# Begin of pitstop's machines. ";
const END: &str = "# End of pitstop's machines.";

pub(super) fn lines(fleet: &Fleet, notes: &mut Vec<String>) -> String {
    let mut text = format!("{BEGIN}{}\n", header(fleet, Format::Hosts));
    for machine in &fleet.machines {
        let Some(ip) = machine.ip else {
            notes.push(format!("{} is left out: it has no ip", machine.name));
            continue;
        };
        let network = machine.network.and_then(|at| fleet.networks.get(at));
        let domain = network.and_then(|network| network.domain.as_deref());
        let name = &machine.name;
        // Writing to a String cannot fail.
        let _ = match domain.filter(|_| !name.contains('.')) {
            Some(domain) => writeln!(text, "{ip}\t{name}.{domain} {name}"),
            None => writeln!(text, "{ip}\t{name}"),
        };
    }
    let _ = writeln!(text, "{END}");
    text
}

/// Puts our lines into an `/etc/hosts` that is there: in place of those from the last time, else at the end.
///
/// Where an end mark was deleted, nothing tells our lines from the admin's: all but the begin mark stay.
pub fn merge_hosts(there: &str, ours: &str) -> String {
    let mut kept = String::new();
    let mut done = false;
    let mut lines = there.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if !line.starts_with(BEGIN) {
            kept.push_str(line);
            continue;
        }
        if !done {
            kept.push_str(ours);
            done = true;
        }
        let rest = lines.clone().take_while(|line| !line.starts_with(BEGIN));
        if rest.map(str::trim_end).any(|line| line == END) {
            while lines.next().is_some_and(|line| line.trim_end() != END) {}
        }
    }
    if !done {
        if !kept.is_empty() && !kept.ends_with('\n') {
            kept.push('\n');
        }
        kept.push_str(ours);
    }
    kept
}
