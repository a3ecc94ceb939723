//! Values to render in tests: a fleet with something of everything, and the same with names that want to be markup.

use crate::layout::Viewer;
use pitstop_api::inventory::{InventoryList, InventoryRow};
use pitstop_api::{
    Disk, Entry, Fact, Image, ImageEntry, ImageEntryKind, ImageFolder, ImageVolume, ImageVolumes,
    Job, JobOrder, JobState, LastResult, Machine, MachineDetail, MachineState, Partition, Progress,
    Queue, Role, Run, RunState, Schedule, Token, Use, User, Verified, VerifyState,
};
use pitstop_imaging::event::Act;

/// What a hostile machine calls itself.
pub const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>";

pub fn operator() -> Viewer {
    Viewer {
        name: Some("kim".into()),
        operates: true,
        administers: false,
        csrf: "csrf-of-kim".into(),
    }
}

fn id(text: &str) -> pitstop_api::Id {
    text.parse().unwrap()
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

pub fn progress() -> Progress {
    Progress {
        step: 1,
        disk: "sda".into(),
        label: "QEMU HARDDISK QM00001".into(),
        act: Act::Restore,
        done: 3 << 30,
        total: Some(8 << 30),
        transferred: 1 << 30,
        elapsed_ms: 30_000,
        percent: Some(37),
        rate: 112 << 20,
        seconds_left: Some(190),
    }
}

pub fn job(name: &str, state: JobState) -> Job {
    Job {
        version: 1,
        id: id("20261128-213000-3fa9c1"),
        machine: "192.168.1.101".into(),
        name: Some(name.into()),
        action: "restore".into(),
        host_file: "C0A80165.toml".into(),
        other_files: Vec::new(),
        state,
        verdict: None,
        reason: Some(name.into()),
        set: time("2026-11-28T21:30:00Z"),
        set_by: name.into(),
        changed: time("2026-11-28T21:30:00Z"),
        ended: None,
        at: Some(time("2026-12-04T21:00:00Z")),
        every: Some("0 22 * * 5".into()),
        last: None,
        series: None,
        follows: None,
        batch: id("20261128-213000-3fa9c1"),
        slots: None,
        place: 0,
        order: JobOrder::Given,
        groups: vec![name.into()],
        folder: Some(name.into()),
        server: None,
        attempts: 1,
        runs: Vec::new(),
        superseded_by: None,
        power: None,
    }
}

pub fn run(name: &str, state: RunState) -> Run {
    Run {
        run: id("20261128-213000-a1b2c3"),
        job: None,
        state,
        machine: name.into(),
        address: "192.168.1.101".into(),
        mac: "52:54:00:12:34:56".into(),
        peer: "192.168.1.101".into(),
        pitstop: "0.2.0".into(),
        action: name.into(),
        began: Some(time("2026-11-28T21:30:00Z")),
        ended: Some(time("2026-11-28T21:31:00Z")),
        verdict: None,
        reason: name.into(),
        bytes: 8 << 30,
        elapsed_ms: 60_000,
        read_errors: 2,
        disks: Vec::new(),
        progress: Some(progress()),
    }
}

pub fn machine(name: &str, state: MachineState) -> Machine {
    Machine {
        id: name.into(),
        name: Some(name.into()),
        addresses: vec!["192.168.1.101".parse().unwrap()],
        mac: vec!["52:54:00:12:34:56".into()],
        groups: vec![name.into()],
        model: Some(name.into()),
        known: true,
        state,
        job: Some(job(name, JobState::Running)),
        waits_at: Some(3),
        progress: Some(progress()),
        last: Some(LastResult {
            run: None,
            job: None,
            action: name.into(),
            state: RunState::Failed,
            reason: format!("the image of {name} is truncated"),
            ended: Some(time("2026-11-28T21:30:00Z")),
        }),
        seen: Some(time("2026-11-28T21:30:00Z")),
        ..Machine::default()
    }
}

pub fn disk(name: &str) -> Disk {
    let part = |number, start: u64, size: u64, filesystem: &str, used| Partition {
        number,
        start,
        size,
        kind: name.into(),
        name: name.into(),
        label: name.into(),
        filesystem: filesystem.into(),
        used,
        free: used.map(|used| size - used),
        ..Partition::default()
    };
    let mib = 1 << 20;
    Disk {
        device: "sda".into(),
        model: name.into(),
        serial: name.into(),
        size: 256 << 30,
        table: Some("gpt".into()),
        partitions: vec![
            part(1, mib, 512 * mib, "vfat", Some(33 * mib)),
            part(2, 513 * mib, 120 << 30, "ntfs", Some(71 << 30)),
            part(3, 121 << 30, 100 << 30, "ext4", Some(22 << 30)),
            part(4, 221 << 30, 8 << 30, "swap", None),
        ],
        ..Disk::default()
    }
}

pub fn detail(name: &str, state: MachineState) -> MachineDetail {
    MachineDetail {
        machine: machine(name, state),
        folder: Some(name.into()),
        power: Some(name.into()),
        line: Some(12),
        disks: vec![disk(name)],
        images: vec![image(name)],
        runs: vec![run(name, RunState::Failed)],
        jobs: vec![job(name, JobState::Waiting)],
        facts: vec![Fact {
            key: name.into(),
            value: name.into(),
        }],
    }
}

pub fn image(name: &str) -> Image {
    Image {
        path: format!("{name}/sda.raw.gz"),
        folder: name.into(),
        file_size: 3 << 30,
        device: "sda".into(),
        model: name.into(),
        serial: name.into(),
        raw_size: Some(8 << 30),
        created: Some(time("2026-11-28T21:30:00Z")),
        verified: Some(Verified {
            state: VerifyState::Failed,
            at: time("2026-11-28T21:30:00Z"),
            reason: name.into(),
            percent: None,
        }),
        used_by: vec![Use {
            machine: name.into(),
            run: id("20261128-213000-a1b2c3"),
            action: name.into(),
            ended: None,
        }],
        wrong: Some(name.into()),
        ..Image::default()
    }
}

pub fn volumes(name: &str) -> ImageVolumes {
    ImageVolumes {
        path: format!("{name}/sda.raw.gz"),
        volumes: vec![ImageVolume {
            number: 1,
            filesystem: name.into(),
            label: name.into(),
            size: 1 << 30,
            readable: true,
        }],
    }
}

pub fn folder(name: &str) -> ImageFolder {
    let entry = |kind| ImageEntry {
        name: name.into(),
        kind,
        size: 3,
        target: name.into(),
    };
    ImageFolder {
        path: format!("{name}/sda.raw.gz"),
        volume: 1,
        folder: name.into(),
        entries: [
            ImageEntryKind::Folder,
            ImageEntryKind::File,
            ImageEntryKind::Link,
        ]
        .map(entry)
        .into(),
        more: true,
    }
}

pub fn user(name: &str) -> User {
    User {
        name: name.into(),
        role: Role::Admin,
        created: None,
    }
}

pub fn token(name: &str) -> Token {
    Token {
        id: name.into(),
        user: name.into(),
        note: name.into(),
        role: Role::Viewer,
        created: None,
        expires: None,
    }
}

pub fn found(name: &str) -> InventoryList {
    InventoryList {
        query: name.into(),
        known: 1,
        machines: vec![InventoryRow {
            name: name.into(),
            address: name.into(),
            vendor: name.into(),
            model: name.into(),
            serial: name.into(),
            cpu: name.into(),
            disks_text: name.into(),
            ..InventoryRow::default()
        }],
    }
}

pub fn queue(name: &str) -> Queue {
    let entry = |state, waits_at| Entry {
        job: job(name, state),
        waits_at,
        run: None,
        progress: Some(progress()),
    };
    Queue {
        slots: Some(4),
        used: 1,
        free: Some(3),
        groups: Vec::new(),
        running: vec![entry(JobState::Running, None)],
        queued: vec![entry(JobState::Queued, Some(1))],
        waiting: vec![entry(JobState::Waiting, None)],
    }
}

pub fn schedule(name: &str) -> Schedule {
    Schedule {
        schedule: vec![job(name, JobState::Scheduled)],
    }
}
