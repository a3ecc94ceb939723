use super::*;
use pitstop_api::inventory::{Disk, Nic};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn facts(taken: &str, ram: u64) -> Facts {
    let mut facts = Facts {
        version: 1,
        taken: taken.into(),
        name: "lab3-01".into(),
        uuid: "4c4c4544-0038-4a10-804e-b7c04f503132".into(),
        ..Facts::default()
    };
    facts.ram.installed = ram << 30;
    facts.nics.push(Nic {
        mac: "52:54:00:12:34:56".into(),
        ..Nic::default()
    });
    facts
}

fn names(root: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(FOLDER).join(folder)).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_kept_when_something_changed_and_at_no_other_time() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::below(root.path());
    assert_eq!(store.machines().unwrap(), []);
    let days = ["2026-03-01", "2026-03-02", "2026-03-03"];
    for (day, ram) in days.into_iter().zip([8, 8, 4]) {
        let noon = format!("{day}T12:00:00Z");
        let taken = store.take(facts(&noon, ram), time(&noon)).unwrap();
        assert_eq!(taken.is_new, day == days[0]);
        assert_eq!(taken.changes.len(), usize::from(ram == 4));
    }
    let folder = "4c4c4544-0038-4a10-804e-b7c04f503132";
    assert_eq!(
        names(root.path(), folder),
        [
            "20260301T120000Z.json",
            "20260303T120000Z.json",
            "latest.json"
        ]
    );
    // A server that was started anew knows the same, and an answer that comes twice is one.
    let anew = Store::below(root.path());
    let again = facts("2026-03-03T12:00:00Z", 4);
    assert!(
        anew.take(again, time("2026-03-04T00:00:00Z"))
            .unwrap()
            .is_old
    );
    let history = anew.history(folder).unwrap();
    let rams: Vec<u64> = history
        .iter()
        .map(|(_, it)| it.ram.installed >> 30)
        .collect();
    assert_eq!(rams, [8, 4]);
    // What somebody removes is gone; without the newest word the last copy is taken.
    fs::remove_file(root.path().join(FOLDER).join(folder).join(LATEST)).unwrap();
    assert_eq!(anew.machines().unwrap()[0].facts.ram.installed, 4 << 30);
    fs::remove_dir_all(root.path().join(FOLDER).join(folder)).unwrap();
    assert_eq!(anew.machines().unwrap(), []);
}

#[test]
fn a_swapped_board_is_the_same_machine_and_a_moved_disk_is_told() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::below(root.path());
    let disk = Disk {
        model: "EVO".into(),
        serial: "S3Z8NB0K".into(),
        ..Disk::default()
    };
    let mut first = facts("2026-03-01T12:00:00Z", 8);
    first.disks.push(disk.clone());
    let known = store
        .take(first.clone(), time("2026-03-01T12:00:00Z"))
        .unwrap();
    let mut swapped = first.clone();
    swapped.taken = "2026-03-02T12:00:00Z".into();
    swapped.uuid = "4c4c4544-0038-4a10-804e-b7c04f503199".into();
    swapped.nics[0].mac = "52:54:00:12:34:99".into();
    let taken = store.take(swapped, time("2026-03-02T12:00:00Z")).unwrap();
    assert_eq!(taken.folder, known.folder);
    let told: Vec<&str> = taken.changes.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(told, ["uuid", "nic", "nic"]);

    let mut other = facts("2026-03-03T12:00:00Z", 8);
    other.name = "lab3-02".into();
    other.uuid = "4c4c4544-0038-4a10-804e-b7c04f500000".into();
    other.nics[0].mac = "52:54:00:00:00:02".into();
    other.disks.push(disk);
    let moved = store.take(other, time("2026-03-03T12:00:00Z")).unwrap();
    assert!(moved.is_new);
    assert_eq!(
        store.notes(&moved.folder).unwrap(),
        ["the disk EVO (serial S3Z8NB0K, 0 B) was in lab3-01 on 2026-03-02T12:00:00Z"]
    );
}

#[test]
fn what_a_machine_says_of_itself_becomes_no_path_and_no_future() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::below(root.path());
    let evil = Facts {
        version: 1,
        taken: "2099-01-01T00:00:00Z".into(),
        mac: "../../etc/x".into(),
        ..Facts::default()
    };
    let taken = store.take(evil, time("2026-03-01T12:00:00Z")).unwrap();
    assert_eq!(taken.folder, "etcx");
    let known = &store.machines().unwrap()[0];
    assert_eq!(known.facts.taken, "2026-03-01T12:00:00Z");
    assert_eq!(file_name("../"), "");
}

#[test]
fn files_that_are_no_facts_harm_nobody() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::below(root.path());
    let noon = "2026-03-01T12:00:00Z";
    let taken = store.take(facts(noon, 8), time(noon)).unwrap();
    let folder = root.path().join(FOLDER);
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(
        folder.join(&taken.folder).join("20260201T120000Z.json"),
        "{",
    )
    .unwrap();
    fs::write(folder.join(&taken.folder).join("x.json"), "{}").unwrap();
    assert_eq!(store.machines().unwrap().len(), 1);
    assert_eq!(store.history(&taken.folder).unwrap().len(), 1);
}
