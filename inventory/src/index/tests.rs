use super::*;
use crate::query::{Query, tests::searches};
use crate::store::Known;
use jiff::Timestamp;
use pitstop_api::inventory::{Disk, Facts, Health, Nic};
use proptest::prelude::*;

const NOW: &str = "2026-11-29T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn disk(model: &str, size: u64, health: Health) -> Disk {
    Disk {
        model: model.into(),
        serial: format!("{model}-1"),
        size,
        health,
        ..Disk::default()
    }
}

fn machine(number: u8, ram: u64, disks: Vec<Disk>) -> Known {
    let mut facts = Facts {
        version: 1,
        taken: NOW.into(),
        name: format!("pc{number}"),
        address: format!("10.0.2.{number}"),
        mac: format!("52:54:00:00:00:0{number}"),
        uuid: format!("4c4c4544-0038-4a10-804e-b7c04f50313{number}"),
        disks,
        ..Facts::default()
    };
    facts.ram.installed = ram;
    facts.cpu.cores = u32::from(number);
    facts.nics.push(Nic {
        mac: facts.mac.clone(),
        driver: "e1000e".into(),
        speed: Some(1000),
        ..Nic::default()
    });
    Known {
        folder: facts.uuid.clone(),
        stamp: format!("{facts:?}").len().to_string(),
        facts,
    }
}

fn run(id: &str, of: &str, result: &str, when: &str) -> RunRow {
    RunRow {
        id: id.into(),
        machine: String::new(),
        address: String::new(),
        mac: of.into(),
        action: "restore".into(),
        result: result.into(),
        reason: String::new(),
        when: when.parse().unwrap(),
        is_open: false,
        from_log: false,
    }
}

fn lab() -> (Vec<Known>, Vec<Named>, Vec<RunRow>) {
    let evo = disk("Samsung SSD 860 EVO", 500_107_862_016, Health::Ok);
    let big = disk("WDC WD40", 4_000_787_030_016, Health::Failing);
    let known = vec![
        machine(1, 4 << 30, vec![evo.clone()]),
        machine(2, 16 << 30, vec![evo, big]),
        machine(3, 0, vec![]),
    ];
    let fleet = vec![
        Named {
            name: "lab3-01".into(),
            groups: vec!["lab3".into(), "windows".into()],
            macs: vec!["52:54:00:00:00:01".into()],
            ..Named::default()
        },
        Named {
            name: "never-came".into(),
            address: "10.0.2.99".into(),
            macs: vec!["52:54:00:00:00:99".into()],
            ..Named::default()
        },
    ];
    let runs = vec![
        run(
            "20261001-000000-000001",
            "52:54:00:00:00:01",
            "failed",
            "2026-10-01T00:00:00Z",
        ),
        run(
            "20261128-000000-000001",
            "52:54:00:00:00:01",
            "ok",
            "2026-11-28T00:00:00Z",
        ),
        run(
            "20261001-000000-000002",
            "52:54:00:00:00:02",
            "failed",
            "2026-10-01T00:00:00Z",
        ),
        run(
            "20261101-000000-000003",
            "52:54:00:00:00:77",
            "ok",
            "2026-11-01T00:00:00Z",
        ),
    ];
    (known, fleet, runs)
}

fn filled() -> Index {
    let index = Index::in_memory().unwrap();
    fill(&index);
    index
}

fn fill(index: &Index) {
    let (known, fleet, runs) = lab();
    index.note_runs(&runs).unwrap();
    index.sync_machines(&known, &fleet).unwrap();
}

fn names(index: &Index, query: &str) -> Vec<String> {
    let query = Query::parse(query).unwrap();
    let found = index.search(&query, now()).unwrap();
    found.into_iter().map(|row| row.name).collect()
}

#[test]
fn searches_find_what_they_are_about() {
    let index = filled();
    let all = ["52:54:00:00:00:77", "lab3-01", "never-came", "pc2", "pc3"];
    for (query, found) in [
        ("", &all[..]),
        ("ram<8GiB disk.model~\"EVO\"", &["lab3-01"]),
        ("disk.model~evo", &["lab3-01", "pc2"]),
        ("disk.size=500GB", &["lab3-01", "pc2"]),
        ("disk.size>1TB", &["pc2"]),
        ("disk.health=failing or group=WINDOWS", &["lab3-01", "pc2"]),
        // Unknown is neither less nor more.
        ("ram<8GiB or ram>=8GiB", &["lab3-01", "pc2"]),
        (
            "not ram<8GiB",
            &["52:54:00:00:00:77", "never-came", "pc2", "pc3"],
        ),
        ("disks=0", &["pc3"]),
        ("mac=52:54:00:00:00:99", &["never-came"]),
        (
            "nic.driver=E1000E nic.speed>=1000 cores<=2",
            &["lab3-01", "pc2"],
        ),
        ("last.result=failed", &["pc2"]),
        ("last.when<30d", &["52:54:00:00:00:77", "lab3-01"]),
        ("last.when>30d", &["pc2"]),
        ("last.when<2026-11-01", &["pc2"]),
        ("last.when=2026-11-01", &["52:54:00:00:00:77"]),
        ("last.result=\"\"", &["never-came", "pc3"]),
        ("wd40", &["pc2"]),
        ("windows evo", &["lab3-01"]),
        ("name~%", &[]),
        ("seen=2026-11-29 not name=pc2", &["lab3-01", "pc3"]),
        ("uuid=4C4C4544-0038-4A10-804E-B7C04F503133", &["pc3"]),
    ] {
        assert_eq!(names(&index, query), found, "{query}");
    }
    let row = &index.named("LAB3-01").unwrap()[0].row;
    assert_eq!(
        row.disks_text,
        "Samsung SSD 860 EVO (serial Samsung SSD 860 EVO-1, 465.7 GiB): ok"
    );
    assert_eq!(row.last.as_ref().unwrap().run, "20261128-000000-000001");
    for name in [
        "10.0.2.2",
        "52:54:00:00:00:02",
        "pc2",
        "4c4c4544-0038-4a10-804e-b7c04f503132",
    ] {
        assert_eq!(index.named(name).unwrap()[0].row.name, "pc2", "{name}");
    }
    assert_eq!(index.named("nobody").unwrap(), []);
    assert_eq!(index.count().unwrap(), 5);
}

#[test]
fn what_changes_is_taken_over_and_what_went_is_gone() {
    let index = filled();
    let (mut known, mut fleet, _) = lab();
    known.remove(2);
    known[1].facts.disks.clear();
    known[1].stamp = "changed".into();
    fleet[0].name = "lab3-99".into();
    fleet[0].groups.clear();
    fleet.remove(1);
    // The machine of which only runs were known says what it is.
    known.push(machine(7, 1 << 30, vec![]));
    known[2].facts.nics[0].mac = "52:54:00:00:00:77".into();
    index.sync_machines(&known, &fleet).unwrap();
    assert_eq!(names(&index, ""), ["lab3-99", "pc2", "pc7"]);
    assert_eq!(names(&index, "disk.model~evo"), ["lab3-99"]);
    assert_eq!(names(&index, "group=windows"), [""; 0]);
    assert_eq!(names(&index, "last.result=ok"), ["lab3-99", "pc7"]);
    let ids = ["20261128-000000-000001", "20261129-000000-000009"];
    let read = |id: &str| {
        Some(run(
            id,
            "52:54:00:00:00:02",
            "cancelled",
            "2026-11-29T00:00:00Z",
        ))
    };
    index.sync_runs(&ids.map(String::from), read).unwrap();
    index.sync_machines(&known, &fleet).unwrap();
    assert_eq!(names(&index, "last.result=cancelled"), ["pc2"]);
}

#[test]
fn a_damaged_index_and_one_of_another_version_are_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(FILE);
    fs::write(
        &path,
        "this is no database, and long enough to be looked at as one",
    )
    .unwrap();
    let index = Index::open(root.path()).unwrap();
    fill(&index);
    assert_eq!(index.count().unwrap(), 5);
    drop(index);
    // It is kept.
    let index = Index::open(root.path()).unwrap();
    assert_eq!(names(&index, "evo"), ["lab3-01", "pc2"]);
    index.set_runs_stamp("1").unwrap();
    drop(index);
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("PRAGMA user_version = 77; CREATE TABLE \"a\"\"b\" (x)")
        .unwrap();
    drop(other);
    let index = Index::open(root.path()).unwrap();
    assert_eq!(index.count().unwrap(), 0);
    assert_eq!(index.runs_stamp().unwrap(), None);
    fill(&index);
    drop(index);
    // Damage in the middle shows when it is read.
    let mut bytes = fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(4096) {
        *byte = 0xa5;
    }
    fs::write(&path, bytes).unwrap();
    let index = Index::open(root.path()).unwrap();
    let all = Query::parse("").unwrap();
    assert!(matches!(
        index.search(&all, now()),
        Err(IndexError::Damaged(_))
    ));
    fill(&index);
    assert_eq!(index.count().unwrap(), 5);
}

proptest! {
    #[test]
    fn every_search_is_answered_and_not_is_the_rest(text in searches()) {
        if let (Ok(query), Ok(rest)) = (Query::parse(&text), Query::parse(&format!("not ({text})"))) {
            let index = filled();
            let found = index.search(&query, now()).unwrap().len() + index.search(&rest, now()).unwrap().len();
            prop_assert_eq!(found, 5, "{}", text);
        }
    }
}
