//! `pxelinux.cfg` for a TFTP server that is not ours: a file a machine. With a job it boots Pitstop, without one its own disk.
//! `pitstop serve` answers by itself, and needs none of these.

use super::{Boot, Format, header};
use crate::fleet::{Fleet, Machine};
use pitstop_protocol::host_name::hex_address;
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
        let job = jobs_of(machine).find(|job| jobs.contains(job));
        let standing = fleet.setting(machine, "action").is_some();
        for name in names {
            let args = fleet.kernel_args(machine);
            let default = if job.is_some() || standing {
                "pitstop"
            } else {
                "local"
            };
            let place = match &job {
                Some(job) => format!("{}/hosts/{job}", boot.url),
                None => format!("{}/hosts/", boot.url),
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
fn names(machine: &Machine) -> Vec<String> {
    if machine.macs.is_empty() {
        return machine.ip.map(hex_address).into_iter().collect();
    }
    machine
        .macs
        .iter()
        .map(|mac| format!("01-{}", mac.dashed()))
        .collect()
}

/// The host files that the machine would take, best first.
fn jobs_of(machine: &Machine) -> impl Iterator<Item = String> {
    let uuid = machine.uuid.map(|uuid| uuid.to_string());
    let macs = machine
        .macs
        .iter()
        .map(|mac| format!("01-{}", mac.dashed()));
    let ip = machine.ip.map(hex_address);
    let names: Vec<String> = uuid
        .into_iter()
        .chain(macs)
        .chain(ip)
        .map(|name| format!("{name}.toml"))
        .collect();
    names.into_iter()
}

/// For every machine that has no file of its own.
fn local(header: &str) -> String {
    format!("# {header}\nDEFAULT local\nLABEL local\n  LOCALBOOT -1\n")
}
