//! Jobs that name disks, or none, and machines that have them, or not quite.

use super::*;
use crate::plan::tests::disk;

fn three() -> Inventory {
    let mut usb = disk("sdc", "STICK", 1 << 20);
    usb.standing = Standing::Usb;
    usb.unused = Standing::Usb;
    let mut second = disk("sdb", "B", 2 << 20);
    second.identity.wwn = "naa.5000c50012345678".into();
    Inventory {
        disks: vec![disk("sda", "A", 1 << 20), second, usb],
        ..Inventory::default()
    }
}

fn names(selection: &Selection) -> Vec<&str> {
    selection
        .disks
        .iter()
        .map(|disk| disk.identity.device.as_str())
        .collect()
}

#[test]
fn without_selectors_every_fixed_disk_and_the_others_with_a_reason() {
    let selection = select(&three(), &[], None, true).unwrap();
    assert_eq!(names(&selection), ["sda", "sdb"]);
    assert_eq!(selection.left_alone[0].1, "on USB");
}

#[test]
fn selectors_find_by_name_serial_and_wwn() {
    for selector in [
        DiskSelector::Name("sdb".into()),
        DiskSelector::Name("/dev/sdb".into()),
        DiskSelector::Serial("B".into()),
        DiskSelector::Wwn("0x5000C50012345678".into()),
    ] {
        let selection = select(&three(), &[selector], None, true).unwrap();
        assert_eq!(names(&selection), ["sdb"]);
    }
    let usb = [DiskSelector::Serial("STICK".into())];
    assert_eq!(names(&select(&three(), &usb, None, true).unwrap()), ["sdc"]);
}

#[test]
fn a_stick_is_written_to_by_identity_and_read_by_any_name() {
    let by_name = [DiskSelector::Name("sdc".into())];
    let error = select(&three(), &by_name, None, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sdc (serial STICK, 1.0 MiB) is on USB, and the name sdc may be another disk's at the next boot: \
         to write to it, name it by its serial or WWN, as in disks = [{ serial = \"STICK\" }]"
    );
    assert_eq!(
        names(&select(&three(), &by_name, None, false).unwrap()),
        ["sdc"]
    );
    let mut nameless = three();
    nameless.disks[2].identity.serial.clear();
    assert_eq!(
        names(&select(&nameless, &by_name, None, true).unwrap()),
        ["sdc"]
    );
}

#[test]
fn no_match_and_two_matches_tell_what_was_seen() {
    let mut inventory = three();
    let error = select(&inventory, &[DiskSelector::Name("sdq".into())], None, false);
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        "the disk sdq is not in this machine; seen: sda (serial A, 1.0 MiB), sdb (serial B, 2.0 MiB), \
         sdc (serial STICK, 1.0 MiB)"
    );
    inventory.disks[1].identity.serial = "A".into();
    let error = select(&inventory, &[DiskSelector::Serial("A".into())], None, false);
    let error = error.unwrap_err();
    assert!(matches!(error, SelectError::Several { .. }), "{error}");
    assert!(!error.may_pass());
}

#[test]
fn an_empty_serial_matches_nothing() {
    let mut inventory = three();
    inventory.disks[0].identity.serial.clear();
    let error = select(
        &inventory,
        &[DiskSelector::Serial(String::new())],
        None,
        false,
    );
    assert!(
        matches!(error, Err(SelectError::NoMatch { .. })),
        "{error:?}"
    );
}

#[test]
fn the_list_on_the_share_narrows_and_forbids() {
    let lines = parse_list("# the system disk\n\n  B  # by serial\n/dev/sdz\n");
    assert_eq!(lines, ["B", "/dev/sdz"]);
    let selection = select(&three(), &[], Some(&lines[..1]), true).unwrap();
    assert_eq!(names(&selection), ["sdb"]);
    let gone = select(&three(), &[], Some(&lines), true).unwrap_err();
    assert!(gone.may_pass());
    assert!(
        gone.to_string()
            .starts_with("disk-devices.lst lists /dev/sdz, and no such disk is here; seen: sda (")
    );
    let stick = ["B".to_owned(), "sdc".to_owned()];
    let stick = select(&three(), &[], Some(&stick), true).unwrap_err();
    assert!(
        stick.to_string().starts_with(
            "sdc (serial STICK, 1.0 MiB) is in disk-devices.lst and is on USB, and a job"
        ),
        "{stick}"
    );
    let forbidden = select(
        &three(),
        &[DiskSelector::Name("sda".into())],
        Some(&lines),
        true,
    );
    assert!(
        matches!(forbidden, Err(SelectError::NotListed { .. })),
        "{forbidden:?}"
    );
}

#[test]
fn disks_in_use_or_read_only_are_refused_whether_the_job_names_them_or_none() {
    let mut inventory = three();
    inventory.disks[1].read_only = true;
    let error = select(&inventory, &[], None, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sdb (serial B, 2.0 MiB) is read-only, and a job that names no disk means every fixed one: mend that, \
         or name the disks that are meant in the job's `disks`"
    );
    let backed_up = select(&inventory, &[], None, false).unwrap();
    assert_eq!(names(&backed_up), ["sda", "sdb"]);
    let named = |name: &str| [DiskSelector::Name(name.into())];
    let told_to = select(&inventory, &named("sda"), None, true).unwrap();
    assert_eq!(names(&told_to), ["sda"]);
    let lines = ["sda".to_owned()];
    let listed = select(&inventory, &[], Some(&lines), true).unwrap();
    assert_eq!(names(&listed), ["sda"]);
    let error = select(&inventory, &named("sdb"), None, true);
    assert!(
        matches!(error, Err(SelectError::ReadOnly { .. })),
        "{error:?}"
    );

    inventory.disks[0].standing = Standing::InUse;
    inventory.disks[0].used_by = vec!["sda1 is mounted at /mnt".into()];
    let error = select(&inventory, &[], None, false).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("sda (serial A, 1.0 MiB) is in use (sda1 is mounted at /mnt), and a job"),
        "{error}"
    );
    let error = select(&inventory, &named("sda"), None, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda (serial A, 1.0 MiB) is in use on this machine: sda1 is mounted at /mnt; stop that first"
    );
    // The medium that the machine booted from is nobody's to wipe or to back up.
    inventory.disks[0].standing = Standing::Medium;
    inventory.disks[1].read_only = false;
    let selection = select(&inventory, &[], None, true).unwrap();
    assert_eq!(names(&selection), ["sdb"]);
    assert_eq!(
        selection.left_alone[0].1,
        "a medium that the machine works from (sda1 is mounted at /mnt)"
    );
}

#[test]
fn a_fixed_disk_that_tells_no_size_is_waited_for_and_then_named() {
    let mut inventory = three();
    inventory.without_size = vec![disk("sdd", "BROKEN", 0), disk("sde", "", 0)];
    inventory.without_size[1].unused = Standing::Removable;
    let error = select(&inventory, &[], None, false).unwrap_err();
    assert!(error.may_pass());
    assert!(
        error
            .to_string()
            .starts_with("sdd (serial BROKEN, 0 B) tells no size: it is broken or not ready"),
        "{error}"
    );
    // An empty card reader is none of it.
    inventory.without_size.remove(0);
    assert!(select(&inventory, &[], None, false).is_ok());
}

#[test]
fn a_path_that_stands_by_is_no_disk_without_a_size() {
    let mut inventory = three();
    let mut path = disk("sdd", "", 0);
    path.identity.wwn = "naa.5000c50012345678".into();
    inventory.without_size = vec![path];
    let selection = select(&inventory, &[], None, true).unwrap();
    assert_eq!(names(&selection), ["sda", "sdb"]);
    // A maker's one WWN for all of its drives.
    inventory.without_size[0].identity.serial = "BROKEN".into();
    let error = select(&inventory, &[], None, true).unwrap_err();
    assert!(matches!(error, SelectError::NoSize { .. }), "{error}");
}

#[test]
fn one_disk_by_two_paths_is_done_once_and_answers_to_both_names() {
    let mut inventory = three();
    inventory.disks[0].also = vec!["sdq".into()];
    inventory.paths = vec![(disk("sdq", "A", 1 << 20), "sda".into())];
    let selection = select(&inventory, &[], None, true).unwrap();
    assert_eq!(names(&selection), ["sda", "sdb"]);
    let told = selection.left_alone.last().unwrap();
    assert_eq!(told.0.identity.device, "sdq");
    assert_eq!(told.1, "another path to sda: one disk, done once");
    let both = ["sda", "sdq"].map(|name| DiskSelector::Name(name.into()));
    assert_eq!(
        names(&select(&inventory, &both, None, true).unwrap()),
        ["sda"]
    );
}

#[test]
fn what_may_be_one_disk_or_two_is_for_the_job_to_say() {
    let mut inventory = three();
    inventory.disks[0].doubles = vec!["sdb".into()];
    inventory.disks[1].doubles = vec!["sda".into()];
    let error = select(&inventory, &[], None, false).unwrap_err();
    assert!(!error.may_pass());
    assert!(
        error.to_string().ends_with("as in disks = [\"sda\"]"),
        "{error}"
    );
    let named = [DiskSelector::Name("sdb".into())];
    assert_eq!(
        names(&select(&inventory, &named, None, true).unwrap()),
        ["sdb"]
    );
}

#[test]
fn a_machine_without_disks_says_so() {
    let error = select(&Inventory::default(), &[], None, false).unwrap_err();
    assert!(error.may_pass());
    assert!(error.to_string().contains("no disk at all"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_list_of_non_empty_lines(text in "\\PC*") {
        for line in parse_list(&text) {
            proptest::prop_assert!(!line.trim().is_empty() && !line.contains('#'));
        }
    }
}

#[test]
fn a_machine_without_disks_tells_what_nothing_drives() {
    let inventory = Inventory {
        undriven: vec![undriven::Undriven {
            slot: "00:17.0".into(),
            pci: "8086:a352".into(),
            class: "0106".into(),
        }],
        ..Inventory::default()
    };
    let selectors = [DiskSelector::Name("sda".into())];
    let error = select(&inventory, &selectors, None, true).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(
            "no disk at all; no driver of this image works the disk controller 00:17.0 [8086:a352]"
        ),
        "{text}"
    );
}
