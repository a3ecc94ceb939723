//! `pxelinux.cfg` for a TFTP server that is not ours: a file a machine. With a job it boots Pitstop, without one its own disk.
//! `pitstop serve` answers by itself, and needs none of these.

use super::{Boot, Format, header};
use crate::fleet::{Fleet, Machine};
use pitstop_protocol::host_name::{HostName, Mac, SUFFIX, hex_address, search};
use std::collections::BTreeSet;

pub(super) fn files(
    fleet: &Fleet,
    boot: &Boot,
    jobs: &BTreeSet<String>,
    notes: &mut Vec<String>,
) -> Vec<(String, String)> {
    let header = header(fleet, Format::Pxelinux);
    let mut files = vec![("default".to_owned(), local(&header))];
    for machine in &fleet.machines {
        let names = names(machine);
        if names.is_empty() {
            notes.push(format!(
                "{} is left out: it has neither mac nor ip",
                machine.name
            ));
        }
        let standing = fleet.setting(machine, "action").is_some();
        for (name, card) in names {
            let job = job_of(machine, card, jobs);
            let args = fleet.kernel_args(machine);
            let default = if job.is_some() || standing {
                "pitstop"
            } else {
                "local"
            };
            let place = match &job {
                Some(job) => format!("{}/hosts/{job}", boot.machines),
                None => format!("{}/hosts/", boot.machines),
            };
            let append = format!("pitstop.host={place} {args}");
            let text = format!(
                "# {header}\n# {}\nDEFAULT {default}\nLABEL pitstop\n  KERNEL vmlinuz\n  INITRD initramfs.img\n  \
                 APPEND {}\n  IPAPPEND 2\nLABEL local\n  LOCALBOOT -1\n",
                machine.name,
                append.trim_end()
            );
            files.push((name, text));
        }
    }
    files
}

/// As PXELINUX asks: by card; by address where no card is known.
fn names(machine: &Machine) -> Vec<(String, Option<Mac>)> {
    if machine.macs.is_empty() {
        let ip = machine.ip.map(hex_address).into_iter();
        return ip.map(|name| (name, None)).collect();
    }
    let macs = machine.macs.iter();
    macs.map(|mac| (HostName::Mac(*mac).stem(), Some(*mac)))
        .collect()
}

/// The host file that the machine would take when it boots from `card`.
fn job_of(machine: &Machine, card: Option<Mac>, jobs: &BTreeSet<String>) -> Option<String> {
    let mut names = search(machine.uuid, card, machine.ip);
    let shared = |name: &String| HostName::from_stem(name).is_some_and(|name| name.is_shared());
    let shared = names.iter().position(shared).unwrap_or(names.len());
    // A job by another of its cards is its own as well, and better than one of many machines.
    let others = machine.macs.iter().filter(|mac| Some(**mac) != card);
    let others: Vec<String> = others.map(|mac| HostName::Mac(*mac).stem()).collect();
    names.splice(shared..shared, others);
    let mut files = names.into_iter().map(|name| name + SUFFIX);
    files.find(|file| jobs.contains(file))
}

/// For every machine that has no file of its own.
fn local(header: &str) -> String {
    format!("# {header}\nDEFAULT local\nLABEL local\n  LOCALBOOT -1\n")
}
