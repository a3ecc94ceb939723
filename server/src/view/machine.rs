//! One machine, with all that is known of it.

use super::images::{named_for, of_folder};
use super::machines::machines;
use crate::inventory::Sources;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::set::{disk as machine_disk, record};
use crate::site::Site;
use pitstop_api::{Disk, Fact, Image, Job, Machine, MachineDetail, Run, Source};
use pitstop_imaging::units;
use pitstop_protocol::facts::Facts;
use pitstop_protocol::host_name::{Mac, Uuid};
use pitstop_protocol::machine::folder;
use std::net::IpAddr;

/// Runs and jobs that are told.
const LAST: usize = 20;

/// The machine of this name, address, MAC, UUID or serial number.
pub fn machine(site: &Site, name: &str) -> Result<MachineDetail, Refusal> {
    let all = machines(site)?;
    let found = all.into_iter().find(|machine| is_named(machine, name));
    let mut machine = found.ok_or_else(|| Refusal::not_found(format!("the machine {name}")))?;
    let fleet = site.fleet.current();
    let known = fleet.named(&machine.id).filter(|_| machine.known);
    let place = place(&machine);
    let record = place.as_ref().map(|place| record(&site.share, place));
    let record = record.unwrap_or_default();
    let images = match &place {
        Some(place) => of_folder(site, place)?,
        None => Vec::new(),
    };
    let runs = runs(site, &machine);
    let inventory = inventory(site, &machine);
    let mut disks: Vec<Disk> = record.disks.iter().map(machine_disk).collect();
    if disks.is_empty() {
        disks = inventory.as_ref().map(told).unwrap_or_default();
    }
    if disks.is_empty() {
        disks = planned(runs.first());
    }
    if disks.is_empty() {
        disks = imaged(site, &images);
    }
    for disk in &mut disks {
        add_partitions(site, disk, &images);
    }
    machine.model = inventory.as_ref().and_then(model);
    if machine.serial.is_none() {
        let told = record.machines.last().map(|told| told.serial.clone());
        machine.serial = told.filter(|serial| !serial.is_empty());
    }
    Ok(MachineDetail {
        folder: place,
        power: known
            .and_then(|known| fleet.power(known).ok())
            .map(|power| power.to_string()),
        line: known.map(|known| known.line),
        disks,
        images,
        jobs: jobs(site, &machine)?,
        facts: inventory.as_ref().map(facts).unwrap_or_default(),
        runs,
        machine,
    })
}

/// What the machine told of itself, if it did.
fn inventory(site: &Site, machine: &Machine) -> Option<Facts> {
    let sources = Sources::of(site);
    // Who never told is not known there, and one name may be several machines'.
    let names = [Some(&machine.id), machine.mac.first()];
    names.into_iter().flatten().find_map(|name| {
        let known = site.inventory.machine(&sources, name).ok()?;
        known.facts
    })
}

fn model(facts: &Facts) -> Option<String> {
    let made = format!("{} {}", facts.system.vendor, facts.system.product);
    Some(made.trim().to_owned()).filter(|made| !made.is_empty())
}

/// By the names of a search.
fn facts(facts: &Facts) -> Vec<Fact> {
    let firmware = &facts.firmware;
    let cpu = match facts.cpu.cores {
        0 => facts.cpu.model.clone(),
        cores => format!("{}, {cores} cores", facts.cpu.model),
    };
    let ram = match facts.ram.installed {
        0 => String::new(),
        bytes => units::bytes(bytes),
    };
    let disks = facts.disks.iter().map(|disk| {
        let health = disk.health.as_str();
        (
            "disk.health",
            format!("{} {health} {}", disk.device, disk.health_note),
        )
    });
    let lacking = facts.lacking_firmware.iter();
    let lacking = lacking.map(|part| ("lacking-firmware", part.to_string()));
    let known = [
        ("model", model(facts).unwrap_or_default()),
        ("serial", facts.system.serial.clone()),
        ("uuid", facts.uuid.clone()),
        ("cpu", cpu),
        ("ram", ram),
        (
            "firmware",
            format!("{} {}", firmware.vendor, firmware.version),
        ),
    ];
    known
        .into_iter()
        .chain(disks)
        .chain(lacking)
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| Fact { key, value })
        .collect()
}

fn is_named(machine: &Machine, name: &str) -> bool {
    let is = |text: &str| text.eq_ignore_ascii_case(name);
    let mac: Option<Mac> = name.parse().ok();
    let mac = mac.map(|mac| mac.to_string());
    let ip: Option<IpAddr> = name.parse().ok();
    let uuid = Uuid::parse(&name.to_ascii_lowercase());
    is(&machine.id)
        || machine.name.as_deref().is_some_and(is)
        || ip.is_some_and(|ip| machine.addresses.contains(&ip))
        || mac.is_some_and(|mac| machine.mac.contains(&mac))
        || machine.serial.as_deref().is_some_and(is)
        || uuid.is_some_and(|uuid| {
            let known = machine.uuid.as_deref();
            known.is_some_and(|known| {
                known == uuid.to_string() || known == uuid.turned().to_string()
            })
        })
}

/// Its folder on the share: its address's.
fn place(machine: &Machine) -> Option<String> {
    machine.addresses.first().map(|ip| folder(*ip))
}

fn runs(site: &Site, machine: &Machine) -> Vec<Run> {
    let addresses = machine.addresses.iter().map(ToString::to_string);
    let names: Vec<String> = machine.mac.iter().cloned().chain(addresses).collect();
    let reported = names.iter().flat_map(|name| site.runs.of(name, LAST));
    let mut runs: Vec<Run> = reported.map(|run| Run::from(&run)).collect();
    let told = site.looks.logs(&site.share);
    let told = told.iter().filter(|told| {
        let is_its = names.contains(&told.summary.address);
        is_its
            && runs.iter().all(|run| {
                run.ended
                    .is_none_or(|ended| Some(ended) < Run::from(*told).ended)
            })
    });
    let told: Vec<Run> = told.map(Run::from).collect();
    runs.extend(told);
    runs.sort_by(|a, b| b.run.cmp(&a.run));
    runs.dedup_by(|a, b| a.run == b.run);
    runs.truncate(LAST);
    runs
}

fn jobs(site: &Site, machine: &Machine) -> Result<Vec<Job>, Refusal> {
    let found = site.jobs.found().map_err(|e| super::failed(&e))?;
    let is = |job: &&pitstop_jobs::Job| {
        is_named(machine, job.shown()) || is_named(machine, &job.machine)
    };
    let jobs = found.jobs.iter().rev().filter(is).take(LAST);
    Ok(jobs.map(Job::from).collect())
}

/// The disks that its inventory tells: what is plugged in for a while is not the machine's.
fn told(facts: &Facts) -> Vec<Disk> {
    let own = facts.disks.iter().filter(|disk| !disk.removable);
    let disks = own.map(|disk| Disk {
        device: disk.device.clone(),
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        transport: disk.bus.clone(),
        size: disk.size,
        logical_sector_size: disk.logical_sector_size,
        source: Source::Machine,
        seen: facts.taken.parse().ok(),
        ..Disk::default()
    });
    disks.collect()
}

/// The disks of its images, where nothing else tells of any.
fn imaged(site: &Site, images: &[Image]) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    for image in images.iter().filter(|image| !image.old) {
        if let Some(mut disk) = disk_of(site, image) {
            // What it was made of may have been another machine's, or a file.
            if let Some(device) = named_for(&image.path) {
                device.clone_into(&mut disk.device);
            }
            if disks.iter().all(|other| other.device != disk.device) {
                disks.push(disk);
            }
        }
    }
    disks
}

/// The disks of a run's plan.
fn planned(run: Option<&Run>) -> Vec<Disk> {
    let Some(run) = run else {
        return Vec::new();
    };
    let disks = run.disks.iter().map(|disk| Disk {
        device: disk.disk.clone(),
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        size: disk.size,
        source: Source::Run,
        seen: run.began,
        ..Disk::default()
    });
    disks.collect()
}

/// The partitions of a disk, as its newest image tells them.
fn add_partitions(site: &Site, disk: &mut Disk, images: &[Image]) {
    let is_of = |image: &&Image| {
        if disk.serial.is_empty() || image.serial.is_empty() {
            named_for(&image.path) == Some(&disk.device)
        } else {
            image.serial == disk.serial
        }
    };
    let of_disk = images.iter().filter(is_of);
    let Some(newest) = of_disk.max_by_key(|image| image.created) else {
        return;
    };
    if let Some(on_image) = disk_of(site, newest) {
        disk.table = on_image.table;
        disk.partitions = on_image.partitions;
        disk.image = on_image.image;
        disk.seen = on_image.seen;
    }
}

/// The disk that an image is of, where the image tells.
fn disk_of(site: &Site, image: &Image) -> Option<Disk> {
    let path = RelPath::from_text(&image.path).ok()?;
    super::images::image(site, &path).ok()?.disk
}
