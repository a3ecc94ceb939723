use super::*;
use pitstop_imaging::event::Silent;
use pitstop_trees::WORKSHOP;
use pitstop_trees::entry::{Attributes, Kind, Time};
use pitstop_trees::flags::Flags;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// After a power cut every step is done again, those behind it among what is done already.
#[test]
fn what_a_new_flag_hinders_is_done_again_all_the_same() {
    // Not in memory, where older kernels know no flags.
    let folder = tempfile::tempdir_in(".").unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/f"), b"x").unwrap();
    let path = |path: &[u8]| TreePath::parse(path).unwrap();
    let kind = Kind::File {
        size: 0,
        extents: None,
        hash: [0; 32],
    };
    let time = Time {
        seconds: 1_000_000_000,
        nanos: 0,
    };
    let attributes = Attributes {
        mode: 0o640,
        mtime: time,
        ..Attributes::default()
    };
    let immutable = Flags::from_kernel(0x10);
    let steps = [
        Step::Set(path(b"d/f"), kind, attributes),
        Step::Time(path(b"d"), time),
        Step::Flags(path(b"d/f"), immutable),
        Step::Flags(path(b"d"), immutable),
    ];
    let machine = Machine::open(folder.path(), Access::Write, &[]).unwrap();
    let mut changer = Changer::new(&machine);
    let done: anyhow::Result<Vec<bool>> = [&steps, &steps]
        .into_iter()
        .flatten()
        .map(|step| do_step(&mut changer, step, &[]))
        .collect();
    let found = fs::metadata(folder.path().join("d/f")).unwrap();
    let hinders = fs::write(folder.path().join("d/f"), b"y").is_err();
    for path in [path(b"d"), path(b"d/f")] {
        changer.soften(&path).unwrap();
    }
    assert_eq!(done.unwrap(), [true; 8]);
    assert_eq!(found.permissions().mode() & 0o7777, 0o640);
    assert!(hinders, "the flag is set again");
}

/// Two names of one file come, and somebody made something else of one of them meanwhile: its staged name has the file's flags.
#[test]
fn what_somebody_changed_gets_no_flags_and_hinders_no_clearing() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let machine = Machine::open(folder.path(), Access::Write, &[]).unwrap();
    let workshop = Workshop::make(&machine, &TreePath::root()).unwrap();
    let staged = folder.path().join(WORKSHOP);
    fs::write(staged.join("n0"), b"new").unwrap();
    fs::hard_link(staged.join("n0"), staged.join("n1")).unwrap();
    fs::write(folder.path().join("b"), b"mine").unwrap();
    let path = |path: &[u8]| TreePath::parse(path).unwrap();
    let place = |name: &str, to: &[u8]| Step::Place {
        volume: 0,
        name: name.to_owned(),
        path: path(to),
        before: None,
    };
    let immutable = Flags::from_kernel(0x10);
    let journal = Journal {
        volumes: vec![TreePath::root()],
        steps: vec![
            place("n0", b"a"),
            place("n1", b"b"),
            Step::Flags(path(b"a"), immutable),
            Step::Flags(path(b"b"), immutable),
        ],
    };
    let done = run(&machine, &journal, vec![workshop], Embed::Later, &Silent);
    let (new, mine) = (folder.path().join("a"), folder.path().join("b"));
    let hinders = fs::write(&new, b"x").is_err();
    let written = fs::write(&mine, b"mine still");
    let changer = Changer::new(&machine);
    for path in [path(b"a"), path(b"b")] {
        changer.soften(&path).unwrap();
    }
    done.unwrap().unwrap();
    written.unwrap();
    assert!(hinders, "the flag is set again");
    assert!(!staged.exists());
}
