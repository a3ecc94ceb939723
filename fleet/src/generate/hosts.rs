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
pub fn merge_hosts(there: &str, ours: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    let mut done = false;
    for line in there.split_inclusive('\n') {
        if !inside && line.starts_with(BEGIN) && there.contains(END) {
            inside = true;
            if !done {
                kept.push_str(ours);
                done = true;
            }
        } else if inside {
            inside = line.trim_end() != END;
        } else {
            kept.push_str(line);
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
