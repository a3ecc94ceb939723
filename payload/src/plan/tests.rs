//! Plans, as people read them.

use super::*;
use pitstop_imaging::inventory::{DiskIdentity, Standing};
use pitstop_imaging::table::PartitionSelector;

pub(crate) fn disk(device: &str, serial: &str, size: u64) -> Disk {
    Disk {
        identity: DiskIdentity {
            device: device.into(),
            model: String::new(),
            serial: serial.into(),
            wwn: String::new(),
            transport: String::new(),
            size,
            logical_sector_size: 512,
            physical_sector_size: 512,
        },
        standing: Standing::Fixed,
        unused: Standing::Fixed,
        read_only: false,
        also: Vec::new(),
        doubles: Vec::new(),
        used_by: Vec::new(),
        partitions: Vec::new(),
    }
}

fn heading(action: ActionName) -> Heading {
    Heading {
        machine: "10.0.2.15 (testbox7)".into(),
        action,
        share: "http://srv/share".into(),
        folder: "10.0.2.15".into(),
    }
}

fn selection() -> Selection {
    Selection {
        disks: vec![disk("sda", "A", 4 << 30)],
        left_alone: vec![(disk("sdb", "B", 1 << 30), "on USB".into())],
    }
}

fn existing(file: &str) -> Existing {
    Existing {
        before: vec![file.to_owned()],
        own: false,
    }
}

#[test]
fn the_dry_run_of_a_backup_says_what_is_kept_and_what_is_left_alone() {
    let existing = [existing("sda.raw.gz")];
    let again = heading(ActionName::BackupAgain);
    let plan = Plan::capture(again, selection(), IMAGE_SUFFIX, &existing).unwrap();
    assert_eq!(
        plan.to_string(),
        "plan for 10.0.2.15 (testbox7): backup-again, share http://srv/share, folder 10.0.2.15\n  \
         read sda (serial A, 4.0 GiB) into sda.raw.gz; the disk is not written\n    \
         sda.raw.gz is kept as sda.raw.gz.old; an older .old is lost\n  \
         left alone: sdb (serial B, 1.0 GiB): on USB"
    );
}

#[test]
fn a_backup_refuses_where_there_is_an_image_even_the_old_scripts() {
    let existing = [existing("sda.gz")];
    let backup = heading(ActionName::Backup);
    let error = Plan::capture(backup, selection(), IMAGE_SUFFIX, &existing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "10.0.2.15 has an image of sda (serial A, 4.0 GiB) already: sda.gz; \
         use backup-again to keep it as .old, or remove it"
    );
}

#[test]
fn the_dry_run_of_a_restore_says_what_is_lost_and_why_this_image() {
    let image = Stored {
        file: "sda.raw.gz".into(),
        stem: "sda".into(),
        of: Some(disk("sda", "DEAD", 2 << 30).identity),
        table: String::new(),
        raw_size: Some(2 << 30),
        minimum_disk: None,
        indexed: true,
    };
    let found = Match {
        disk: disk("sda", "A", 4 << 30),
        image: 0,
        how: How::Name,
    };
    let plan = Plan::restore(
        heading(ActionName::Restore),
        vec![found],
        &[image],
        Vec::new(),
    );
    let selectors = || {
        vec![
            PartitionSelector::Number(3),
            PartitionSelector::Name("home".into()),
        ]
    };
    let kept = plan.clone().of_part(&Part::Keep(selectors())).to_string();
    let keeps = "; everything on sda is lost but its partitions 3, \"home\"\n";
    assert!(kept.contains(keeps), "{kept}");
    let only = plan.clone().of_part(&Part::Only(selectors())).to_string();
    let writes = "\n  write partitions 3, \"home\" of sda.raw.gz to the same of sda (serial A, 4.0 GiB); \
                  what is in these is lost, all else stays\n";
    assert!(only.contains(writes), "{only}");
    let text = plan.to_string();
    assert!(
        text.ends_with(
            "\n  write sda.raw.gz to sda (serial A, 4.0 GiB), 2.0 GiB; everything on sda is lost\n    \
             the image is of another disk: sda (serial DEAD, 2.0 GiB); chosen by name"
        ),
        "{text}"
    );
}
