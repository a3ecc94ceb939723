//! Whose jobs are. An address goes from machine to machine, and a job stays its machine's.

use super::target::Target;
use pitstop_jobs::Job;
use std::collections::HashMap;

/// Machines by their names.
#[derive(Debug, Default)]
pub struct Machines {
    names: Vec<Names>,
    by_file: HashMap<String, usize>,
    by_label: HashMap<String, usize>,
}

#[derive(Debug)]
struct Names {
    /// Of host files.
    files: Vec<String>,
    /// In the fleet file.
    label: Option<String>,
}

impl Machines {
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let mut all = Self::default();
        for target in targets {
            let (files, label) = (target.files(), target.label.clone());
            let at = all.names.len();
            all.by_file
                .extend(files.iter().map(|file| (file.clone(), at)));
            all.by_label.extend(label.clone().map(|label| (label, at)));
            all.names.push(Names { files, label });
        }
        all
    }

    /// Which of them `job` is of.
    pub fn whose(&self, job: &Job) -> Option<usize> {
        let by_file = job.files().filter_map(|file| self.by_file.get(file));
        let label = job.name.as_ref();
        let by_label = label.and_then(|label| self.by_label.get(label));
        let mut likely = by_file.chain(by_label).copied();
        likely.find(|at| {
            let names = self.names.get(*at);
            names.is_some_and(|names| job.is_of(&names.files.iter(), names.label.as_deref()))
        })
    }

    /// Which of them finds the host file of `job`, or whose it is: what is set for that one ends it, whosever it is.
    pub fn finder(&self, job: &Job) -> Option<usize> {
        let by_file = || self.by_file.get(&job.host_file).copied();
        self.whose(job).or_else(by_file)
    }

    /// Whether one of them has host files of that name.
    pub fn have_file(&self, file: &str) -> bool {
        self.by_file.contains_key(file)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conflict, Need, Who, clear, image_folders, refuse_act, targets};
    use crate::jobs::fake::{Root, job};
    use crate::jobs::{Chosen, Which, chosen};
    use jiff::Timestamp;
    use pitstop_jobs::{Happened, Job, State};
    use pitstop_power::Act;
    use pitstop_protocol::id::Id;
    use std::fs;

    /// A backup of b, which was 10.0.2.16; that is a's by now.
    fn swapped(host_file: &str, other_file: &str) -> (Root, Job) {
        let root = Root::new();
        let fleet = "version = 1\n[network.\"10.0.2.0/24\"]\n\
            [host.a]\nip = \"10.0.2.16\"\nmac = \"52:54:00:00:0c:01\"\n\
            [host.b]\nip = \"10.0.2.15\"\nmac = \"52:54:00:00:0c:02\"\n";
        fs::write(root.folder.path().join("fleet.toml"), fleet).unwrap();
        let its = Job {
            name: Some("b".into()),
            host_file: host_file.into(),
            other_files: vec![other_file.into()],
            text: "version = 1\nimage = \"of-b\"\n".into(),
            ..job(16, Timestamp::UNIX_EPOCH)
        };
        root.store.lock().unwrap().set(&root.hosts, &its).unwrap();
        (root, its)
    }

    const CARD: &str = "01-52-54-00-00-0c-02.toml";
    const ADDRESS: &str = "0A000210.toml";

    #[test]
    fn a_job_is_not_whose_its_machines_old_address_is_now() {
        let (root, its) = swapped(CARD, ADDRESS);
        let path = root.folder.path();
        let who = |name: &str| -> Who { name.parse().unwrap() };
        let error = clear(path, &root.hosts, &[who("a")], "root").err().unwrap();
        assert!(error.is::<Conflict>(), "{error:#}");
        assert_eq!(root.now(&its).state, State::Waiting);
        let jobs = || root.store.all().unwrap().jobs;
        let meant = |name: &str| {
            let named = Chosen::new(path, &[Which::Machine(who(name))]).unwrap();
            chosen(jobs(), &named).unwrap().len()
        };
        assert_eq!([meant("a"), meant("b")], [0, 1]);
        let images = |name: &str| {
            let target = targets(path, &[who(name)], Need::Names).unwrap().remove(0);
            image_folders(&target, &jobs())
        };
        assert_eq!(images("a"), ["10.0.2.16"]);
        assert_eq!(images("b"), ["of-b", "10.0.2.15"]);
        let run = Id::new(its.set, 7);
        let lock = root.store.lock().unwrap();
        lock.change(&its.id, &Happened::Granted { run }, its.set)
            .unwrap();
        drop(lock);
        refuse_act(path, &[who("a")], Act::Off).unwrap();
        refuse_act(path, &[who("b")], Act::Off).unwrap_err();
    }

    #[test]
    fn a_job_that_is_found_under_a_machines_address_goes_with_its_own_and_whose_it_was_is_told() {
        let (root, its) = swapped(ADDRESS, CARD);
        let who = "a".parse().unwrap();
        let cleared = clear(root.folder.path(), &root.hosts, &[who], "root").unwrap();
        let told = format!("; b's job {} is cancelled", its.id);
        assert!(cleared.lines[0].contains(&told), "{:?}", cleared.lines);
        assert_eq!(root.now(&its).state, State::Cancelled);
        assert!(!root.hosts.exists(ADDRESS));
    }
}
