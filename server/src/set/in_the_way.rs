//! Jobs of other machines that wait where one is to be set: under an address that was another's when they were set.

use super::{Lab, One};
use crate::jobs::Store;
use pitstop_jobs::Job;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

/// A line for each of those that end when `new` are set, and whose machine then has none.
pub(super) fn told(root: &Path, new: &[One]) -> anyhow::Result<String> {
    let by_file: HashMap<String, &One> = new.iter().flat_map(files).collect();
    let jobs = Store::at(root).all()?.jobs;
    let ends = jobs.iter().filter_map(|job| {
        let one = by_file.get(&job.host_file)?;
        Some((job, other(one, job)?)).filter(|_| job.state.is_set())
    });
    let ends: Vec<(&Job, &String)> = ends.collect();
    if ends.is_empty() {
        return Ok(String::new());
    }
    let fleet = Lab::read(root)?.fleet.unwrap_or_default();
    let gets_one = |name: &String| {
        new.iter()
            .any(|one| one.target.label.as_ref() == Some(name))
    };
    let mut text = String::new();
    for (job, name) in ends {
        // One that is not there any more may be this one, by its name of before.
        if fleet.named(name).is_none() || gets_one(name) {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  warning     {name}'s job {} ({}) waited under {}, and ends with this: set it anew (pitstop host set {name} …)",
            job.id, job.action, job.machine
        );
    }
    Ok(text)
}

/// Every name under which a machine finds its job.
fn files(one: &One) -> impl Iterator<Item = (String, &One)> {
    let files = one.target.files().into_iter();
    files.map(move |file| (file, one))
}

/// The name of the machine of `job`, if that is another one: neither name nor card nor UUID is `one`'s.
fn other<'a>(one: &One, job: &'a Job) -> Option<&'a String> {
    let files = one.target.files();
    let has_its = job.other_files.iter().any(|file| files.contains(file));
    let name = job.name.as_ref()?;
    (one.target.label.as_ref() != Some(name) && !has_its).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::{Many, Set, Who, Wish, prepare};
    use crate::jobs::fake::Root;
    use pitstop_jobs::State;
    use pitstop_protocol::job::ActionName;
    use std::fs;

    /// Sets a job for the machines `who` of these.
    fn set(root: &Root, machines: &str, who: &str) -> Set {
        let text = format!("version = 1\n[network.\"10.0.2.0/24\"]\n{machines}");
        fs::write(root.folder.path().join("fleet.toml"), text).unwrap();
        let who: Who = who.parse().unwrap();
        let wish = Wish {
            machines: vec![who],
            action: ActionName::RefreshInfo,
            given: toml::Table::new(),
            url: Some("http://10.0.2.2:8080".into()),
            power: None,
            force: false,
            many: Many::default(),
            by: "root".into(),
            terms: None,
            from: None,
            follows: None,
        };
        let prepared = prepare(root.folder.path(), &root.hosts, &wish).unwrap();
        prepared.set().unwrap()
    }

    fn lab(a: u8, b: u8) -> String {
        let of = |name: &str, ip: u8, card: u8| {
            format!("[host.{name}]\nip = \"10.0.2.{ip}\"\nmac = \"52:54:00:00:0c:0{card}\"\n")
        };
        of("a", a, 1) + &of("b", b, 2)
    }

    #[test]
    fn a_job_that_ends_with_another_machines_is_told_under_whatever_name_that_one_is_set() {
        for who in ["a", "52:54:00:00:0c:01"] {
            let root = Root::new();
            let waits = set(&root, &lab(15, 16), "b").jobs.remove(0);
            let told = set(&root, &lab(16, 15), who).text;
            let why = format!("b's job {} (refresh-info) waited under 10.0.2.16", waits.id);
            assert!(told.contains(&why), "{told}");
            assert_eq!(root.now(&waits).state, State::Superseded);
        }
        let root = Root::new();
        set(&root, &lab(15, 16), "b");
        let told = set(&root, &lab(16, 15), "a,b").text;
        assert!(!told.contains("warning"), "{told}");
    }

    #[test]
    fn a_machine_with_a_new_name_is_no_other_machine() {
        let root = Root::new();
        let of = |name: &str| format!("[host.{name}]\nip = \"10.0.2.15\"\n");
        let waits = set(&root, &of("old"), "old").jobs.remove(0);
        let told = set(&root, &of("new"), "new").text;
        assert!(!told.contains("warning"), "{told}");
        assert_eq!(root.now(&waits).state, State::Superseded);
    }
}
