//! A root with jobs, for tests.

use super::store::Store;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::{Job, Order, State, VERSION};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ActionName;

pub struct Root {
    pub folder: tempfile::TempDir,
    pub hosts: Dir,
    pub store: Store,
}

impl Default for Root {
    fn default() -> Self {
        Self::new()
    }
}

impl Root {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("hosts")).unwrap();
        let hosts = Dir::open_ambient_dir(folder.path().join("hosts"), ambient_authority());
        Self {
            hosts: hosts.unwrap(),
            store: Store::at(folder.path()),
            folder,
        }
    }

    /// Sets a job for 10.0.2.NUMBER.
    pub fn set(&self, number: u8, now: Timestamp) -> Job {
        let job = job(number, now);
        self.store.lock().unwrap().set(&self.hosts, &job).unwrap();
        job
    }

    pub fn now(&self, job: &Job) -> Job {
        self.store.read(&job.id).unwrap().unwrap()
    }
}

pub fn job(number: u8, now: Timestamp) -> Job {
    let id = Id::new(now, u32::from(number));
    Job {
        version: VERSION,
        id: id.clone(),
        machine: format!("10.0.2.{number}"),
        name: None,
        action: ActionName::Backup,
        host_file: format!("0A0002{number:02X}.toml"),
        other_files: Vec::new(),
        state: State::Waiting,
        verdict: None,
        reason: None,
        set: now,
        set_by: "root@server".into(),
        changed: now,
        ended: None,
        at: None,
        every: None,
        last: None,
        series: None,
        follows: None,
        written: false,
        batch: id,
        slots: None,
        place: 0,
        order: Order::Given,
        turn: None,
        groups: Vec::new(),
        folder: Some(format!("10.0.2.{number}")),
        server: Some("http://10.0.2.2:8080".into()),
        attempts: 0,
        runs: Vec::new(),
        superseded_by: None,
        power: None,
        text: "version = 1\n".into(),
        signature: None,
    }
}
