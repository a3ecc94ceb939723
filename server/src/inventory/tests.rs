use super::*;
use crate::runs::{FOLDER, Summary};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_fleet::Fleet;
use pitstop_inventory::Query;
use pitstop_protocol::event::Verdict;
use std::fs;

struct Lab {
    root: tempfile::TempDir,
    share: Dir,
    fleet: Fleet,
    inventory: Inventory,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("share")).unwrap();
        let share = Dir::open_ambient_dir(root.path().join("share"), ambient_authority()).unwrap();
        let text = "version = 1\n[host.lab3-01]\nmac = [\"52:54:00:12:34:56\"]\nip = \"10.0.2.15\"\n\
                    [network.\"10.0.2.0/24\"]\n";
        Self {
            inventory: Inventory::below(root.path()),
            root,
            share,
            fleet: Fleet::parse(text.as_bytes(), "fleet.toml").unwrap(),
        }
    }

    fn sources(&self) -> Sources<'_> {
        Sources::new(self.root.path(), Some(&self.share), &self.fleet)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn says(&self, taken: &str, gib: u64) {
        let mut facts = Facts {
            version: 1,
            taken: taken.into(),
            address: "10.0.2.15".into(),
            mac: "52:54:00:12:34:56".into(),
            ..Facts::default()
        };
        facts.ram.installed = gib << 30;
        self.put("share/10.0.2.15/inventory.json", &facts.text().unwrap());
    }

    fn ran(&self, id: &str, ended: &str, verdict: Verdict) -> Id {
        let id: Id = id.parse().unwrap();
        let mut summary = Summary::new(id.clone(), None, None);
        summary.mac = "52:54:00:12:34:56".into();
        summary.address = "10.0.2.15".into();
        summary.action = "restore".into();
        summary.ended = Some(ended.into());
        summary.verdict = Some(verdict);
        self.put(&format!("{FOLDER}/{id}/run.toml"), &summary.text().unwrap());
        id
    }

    fn finds(&self, query: &str) -> Vec<String> {
        let parsed = Query::parse(query).unwrap();
        let found = self
            .inventory
            .search(&self.sources(), query, &parsed)
            .unwrap();
        found.machines.into_iter().map(|row| row.name).collect()
    }

    fn refresh(&self) {
        self.inventory.refresh(&self.sources()).unwrap();
    }
}

#[test]
fn a_machine_that_does_not_report_is_known_from_the_share() {
    let lab = Lab::new();
    assert_eq!(lab.finds(""), ["lab3-01"]);
    assert_eq!(lab.finds("ram<8GiB"), [""; 0]);
    lab.says("2026-03-01T12:00:00Z", 4);
    lab.put("share/golden/inventory.json", "{");
    let log =
        "2026-03-01T12:00:00+00:00: 10.0.2.15: error: pitstop: result failed restore: no disk\n";
    lab.put("share/10.0.2.15/maintenance.log", log);
    lab.refresh();
    assert_eq!(
        lab.finds("ram<8GiB last.result=failed last.reason~disk"),
        ["lab3-01"]
    );
    lab.says("2026-03-02T12:00:00Z", 16);
    lab.refresh();
    assert_eq!(lab.finds("ram<8GiB"), [""; 0]);
    let machine = lab.inventory.machine(&lab.sources(), "10.0.2.15").unwrap();
    assert_eq!(machine.history.len(), 2);
    assert_eq!(machine.history[0].changes[0].field, "ram");
    let diff = lab
        .inventory
        .changes(&lab.sources(), "lab3-01", None)
        .unwrap();
    assert_eq!(diff.changes[0].was.as_deref(), Some("4.0 GiB"));
}

#[test]
fn runs_are_found_where_they_are_and_where_they_were_heard_of() {
    let lab = Lab::new();
    lab.ran(
        "20260301-120000-000001",
        "2026-03-01T12:00:00Z",
        Verdict::Failed,
    );
    lab.refresh();
    assert_eq!(lab.finds("last.result=failed"), ["lab3-01"]);
    // A log that tells of the run that was reported, or of an older one, tells nothing new.
    let log = "2026-03-01T12:00:05+00:00: 10.0.2.15: info: pitstop: result ok backup\n";
    lab.put("share/10.0.2.15/maintenance.log", log);
    lab.refresh();
    assert_eq!(lab.finds("last.result=failed"), ["lab3-01"]);
    let run = lab.ran(
        "20260302-120000-000001",
        "2026-03-02T12:00:00Z",
        Verdict::Ok,
    );
    lab.inventory.note_run(&run);
    assert_eq!(lab.finds("last.result=ok last.action=restore"), ["lab3-01"]);
    // Another process finds the same, from what is kept and from what is new.
    let other = Lab {
        inventory: Inventory::below(lab.root.path()),
        ..lab
    };
    other.ran(
        "20260303-120000-000001",
        "2026-03-03T12:00:00Z",
        Verdict::Cancelled,
    );
    other.refresh();
    assert_eq!(other.finds("last.result=cancelled"), ["lab3-01"]);
}

#[test]
fn an_index_that_is_damaged_under_way_is_made_anew_from_the_files() {
    let lab = Lab::new();
    lab.says("2026-03-01T12:00:00Z", 4);
    lab.ran(
        "20260301-120000-000001",
        "2026-03-01T12:00:00Z",
        Verdict::Failed,
    );
    lab.refresh();
    drop(lab.finds(""));
    let path = lab.root.path().join("inventory/index.sqlite");
    // All of it into the one file.
    close_index(&lab);
    let mut bytes = fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(4096) {
        *byte = 0xa5;
    }
    fs::write(&path, bytes).unwrap();
    let anew = Lab {
        inventory: Inventory::below(lab.root.path()),
        ..lab
    };
    assert_eq!(anew.finds("ram=4GiB last.result=failed"), ["lab3-01"]);
}

/// Closing the last connection moves the log into the file.
fn close_index(lab: &Lab) {
    locked(&lab.inventory.index).take();
}

#[test]
fn names_that_mean_nobody_or_several_are_told() {
    let lab = Lab::new();
    let error = lab.inventory.machine(&lab.sources(), "x").unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&NotKnown::Nobody("x".into())));
    let error = lab
        .inventory
        .changes(&lab.sources(), "lab3-01", None)
        .unwrap_err();
    assert_eq!(
        error.downcast_ref(),
        Some(&NotKnown::NoFacts("lab3-01".into()))
    );
    assert_eq!(
        lab.inventory
            .machine(&lab.sources(), "lab3-01")
            .unwrap()
            .facts,
        None
    );
}
