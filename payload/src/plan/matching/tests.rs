//! Images and disks that belong together, and those that do not.

use super::*;
use crate::plan::tests::disk;

fn image(stem: &str, serial: &str, size: u64) -> Stored {
    Stored {
        file: format!("{stem}.raw.gz"),
        stem: stem.into(),
        of: Some(disk(stem, serial, size).identity),
        table: String::new(),
        raw_size: Some(size),
        minimum_disk: None,
        indexed: true,
    }
}

#[test]
fn a_serial_beats_a_name_that_changed() {
    let disks = [disk("sda", "B", 100), disk("sdb", "A", 100)];
    let images = [image("sda", "A", 100), image("sdb", "B", 100)];
    let matches = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    assert_eq!(matches[0].image, 1);
    assert_eq!(matches[1].image, 0);
    assert!(matches.iter().all(|m| m.how == How::Serial));
    assert!(is_settled(&matches, &images));
}

#[test]
fn a_wwn_does_where_there_is_no_serial() {
    let mut here = disk("sdb", "", 100);
    here.identity.wwn = "naa.5000".into();
    let mut stored = image("sda", "", 100);
    stored.of.as_mut().unwrap().wwn = "0x5000".into();
    let disks = [here];
    let matches = match_images(&disks, &disks, &[stored], &Hints::default()).unwrap();
    assert_eq!(matches[0].how, How::Wwn);
}

#[test]
fn namespaces_that_share_a_serial_are_told_apart() {
    let namespace = |name: &str, wwn: &str| {
        let mut disk = disk(name, "NV1", 100);
        disk.identity.wwn = wwn.into();
        disk
    };
    let disks = [
        namespace("nvme0n1", "eui.0002"),
        namespace("nvme0n2", "eui.0001"),
    ];
    let mut images = [image("nvme0n1", "NV1", 100), image("nvme0n2", "NV1", 100)];
    images[0].of.as_mut().unwrap().wwn = "eui.0001".into();
    images[1].of.as_mut().unwrap().wwn = "eui.0002".into();
    let matches = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    assert_eq!((matches[0].image, matches[1].image), (1, 0));
    // Two drives whose maker gave all of them one WWN.
    let drives = [disk("sda", "A", 100), disk("sdb", "B", 100)];
    let of = |disk: &Disk| {
        let mut of = disk.identity.clone();
        of.wwn = "naa.5000".into();
        of
    };
    assert_eq!(same_disk(&of(&drives[0]), &of(&drives[1])), None);
}

#[test]
fn an_image_whose_disk_is_gone_stops_a_job_that_names_no_disk() {
    // The first of two disks died, and the second took its name.
    let disks = [disk("sda", "B", 100)];
    let images = [image("sda", "A", 100), image("sdb", "B", 100)];
    let matches = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    let error = check_none_missing(&matches, &disks, &images, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of sda (serial A, 100 B), which is not on this machine; seen: sda (serial B, 100 B); \
         to restore without it, name the disks in the job's `disks`, or remove the image"
    );
    let images = [image("sda", "B", 100), image("vda", "GONE", 100)];
    let matches = match_images(&disks, &disks, &images[..1], &Hints::default()).unwrap();
    assert_eq!(check_none_missing(&matches, &disks, &images, &[]), Ok(()));
}

#[test]
fn a_replaced_disk_is_found_by_name_when_it_fits() {
    let disks = [disk("sda", "NEW", 200)];
    let images = [image("sda", "DEAD", 100)];
    let matches = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    assert_eq!(matches[0].how, How::Name);
    assert!(!is_settled(&matches, &images));

    let small = [disk("sda", "NEW", 50)];
    let error = match_images(&small, &small, &images, &Hints::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda (serial NEW, 50 B) is too small for sda.raw.gz: it has 50 bytes, the image needs 100"
    );

    let other = [large_sectors("NEW")];
    let error = match_images(&other, &other, &images, &Hints::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of a disk with sectors of 512 bytes, sda (serial NEW, 200 B) has sectors of 4096: a disk \
         with other sectors is not chosen by its name alone"
    );
}

fn large_sectors(serial: &str) -> Disk {
    let mut disk = disk("sda", serial, 200);
    disk.identity.logical_sector_size = 4096;
    disk
}

#[test]
fn a_disk_that_was_formatted_to_other_sectors_is_found_by_its_serial() {
    let disks = [large_sectors("A")];
    let mut stored = image("sda", "A", 200);
    let matches = match_images(&disks, &disks, &[stored.clone()], &Hints::default()).unwrap();
    assert_eq!(matches[0].how, How::Serial);

    stored.indexed = false;
    let error = match_images(&disks, &disks, &[stored], &Hints::default()).unwrap_err();
    assert!(
        matches!(
            error,
            MatchError::OtherSectors {
                disk_sector: 4096,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_smaller_disk_does_where_the_images_end_is_free() {
    let small = [disk("sda", "NEW", 60)];
    let mut stored = image("sda", "DEAD", 100);
    stored.minimum_disk = Some(MinimumDisk::of(60));
    assert!(match_images(&small, &small, &[stored.clone()], &Hints::default()).is_ok());
    stored.minimum_disk = Some(MinimumDisk {
        bytes: 61,
        why: "its partition 2, ext4, ends at byte 61".into(),
        shrunk: Some(30),
    });
    let error = match_images(&small, &small, &[stored], &Hints::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(
                "the image needs 61: its partition 2, ext4, ends at byte 61; shrink it first: pitstop shrink sda.raw.gz \
                 smaller.raw.gz --to 60"
            ),
        "{error}"
    );
}

#[test]
fn an_image_of_a_disk_that_is_elsewhere_stays_off_this_one() {
    let all = [disk("sda", "NEW", 100), disk("sdb", "A", 100)];
    let error = match_images(
        &all[..1],
        &all,
        &[image("sda", "A", 100)],
        &Hints::default(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of sda (serial A, 100 B), which is sdb here, not sda (serial NEW, 100 B)"
    );
}

#[test]
fn doubt_and_absence_stop_the_run() {
    let one = [disk("sda", "A", 100)];
    let images = [image("sda", "A", 100), image("sdb", "A", 100)];
    let error = match_images(&one, &one, &images, &Hints::default()).unwrap_err();
    assert!(matches!(error, MatchError::SeveralImages { .. }), "{error}");

    let twins = [disk("sda", "A", 100), disk("sdb", "A", 100)];
    let error = match_images(&twins, &twins, &images[..1], &Hints::default()).unwrap_err();
    assert!(matches!(error, MatchError::SeveralDisks { .. }), "{error}");

    let error = match_images(&one, &one, &[image("sdb", "X", 100)], &Hints::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no image for sda (serial A, 100 B); seen: sdb.raw.gz of sdb (serial X, 100 B)"
    );
}

#[test]
fn a_foreign_image_is_trusted_by_name_as_far_as_its_size_is_known() {
    let disks = [disk("sda", "A", 100)];
    let foreign = |raw_size| Stored {
        file: "sda.gz".into(),
        stem: "sda".into(),
        of: None,
        table: String::new(),
        raw_size,
        minimum_disk: None,
        indexed: false,
    };
    let matches = match_images(&disks, &disks, &[foreign(None)], &Hints::default()).unwrap();
    assert!(is_settled(&matches, &[foreign(None)]));
    let error = match_images(&disks, &disks, &[foreign(Some(101))], &Hints::default()).unwrap_err();
    assert!(
        matches!(
            error,
            MatchError::TooSmall {
                needs: MinimumDisk { bytes: 101, .. },
                has: 100,
                ..
            }
        ),
        "{error}"
    );
}

/// Two images of disks that say nothing of themselves, the disks after they changed places, and what is on these.
fn changed_places(tables: [&str; 2]) -> (Vec<Disk>, Vec<Stored>, Hints) {
    let disks = vec![disk("vda", "", 100), disk("vdb", "", 100)];
    let mut images = vec![image("vda", "", 100), image("vdb", "", 100)];
    images[0].table = "first".into();
    images[1].table = "second".into();
    let names = ["vda", "vdb"].map(str::to_owned);
    let hints = Hints {
        tables: names.into_iter().zip(tables.map(str::to_owned)).collect(),
        ..Hints::default()
    };
    (disks, images, hints)
}

#[test]
fn twins_without_serials_that_changed_places_are_told_by_their_tables() {
    for tables in [["second", "first"], ["second", ""], ["", "first"]] {
        let (disks, images, hints) = changed_places(tables);
        let matches = match_images(&disks, &disks, &images, &hints).unwrap();
        let found: Vec<_> = matches
            .iter()
            .map(|found| (found.image, found.how))
            .collect();
        assert_eq!(found, [(1, How::Table), (0, How::Table)], "{tables:?}");
        assert!(is_settled(&matches, &images));
    }
}

#[test]
fn a_table_without_an_identifier_tells_no_twin() {
    for none in ["0x00000000", "00000000-0000-0000-0000-000000000000"] {
        let (disks, mut images, hints) = changed_places([none, ""]);
        images[1].table = none.into();
        let error = match_images(&disks, &disks, &images, &hints).unwrap_err();
        assert!(matches!(error, MatchError::SeveralImages { .. }), "{error}");
    }
    // The other's table tells, and this one is left.
    let (disks, mut images, hints) = changed_places(["0x00000000", "0x00000001"]);
    images[0].table = "0x00000001".into();
    images[1].table = "0x00000000".into();
    let matches = match_images(&disks, &disks, &images, &hints).unwrap();
    assert_eq!((matches[0].image, matches[1].image), (1, 0));
}

#[test]
fn twins_that_nothing_tells_apart_are_for_the_job_to_name() {
    for tables in [["", ""], ["first", "first"], ["other", ""]] {
        let (disks, images, mut hints) = changed_places(tables);
        let error = match_images(&disks, &disks, &images, &hints).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vda (100 B) could be restored from any of vda.raw.gz, vdb.raw.gz, and the partition table on it does \
             not tell which: remove or rename all but one, or name the disk, which then gets the image of its name: \
             disks = [\"vda\"]"
        );
        hints.named = vec!["vdb".into()];
        let matches = match_images(&disks[1..], &disks, &images, &hints).unwrap();
        assert_eq!((matches[0].image, matches[0].how), (1, How::Name));
    }
    // Disks of two sizes are no twins.
    let (mut disks, mut images, _) = changed_places(["", ""]);
    disks[1].identity.size = 200;
    images[1] = image("vdb", "", 200);
    assert!(match_images(&disks, &disks, &images, &Hints::default()).is_ok());
}

#[test]
fn drives_with_one_serial_are_told_by_their_tables() {
    let disks = [disk("sda", "A", 100), disk("sdb", "A", 100)];
    let mut images = [image("sda", "A", 100), image("sdb", "A", 100)];
    images[0].table = "first".into();
    images[1].table = "second".into();
    let hints = Hints {
        tables: [("sda".into(), "second".into())].into(),
        ..Hints::default()
    };
    let matches = match_images(&disks, &disks, &images, &hints).unwrap();
    assert_eq!((matches[0].image, matches[1].image), (1, 0));
}

#[test]
fn an_image_of_a_disk_that_the_last_run_knew_stops_a_job_that_names_none() {
    let disks = [disk("sda", "A", 100)];
    let images = [image("sda", "A", 100), image("sdb", "B", 100)];
    let matches = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    assert_eq!(check_none_missing(&matches, &disks, &images, &[]), Ok(()));
    let gone = [disk("sdb", "B", 100).identity];
    let error = check_none_missing(&matches, &disks, &images, &gone).unwrap_err();
    assert!(matches!(error, MatchError::Gone { .. }), "{error}");
}

#[test]
fn disks_without_numbers_that_changed_names_are_told_by_their_sizes() {
    let (small, large) = (|name| disk(name, "", 20), |name| disk(name, "", 40));
    let images = [image("sda", "", 20), image("sdb", "", 40)];
    let disks = [large("sda"), small("sdb")];
    let found = match_images(&disks, &disks, &images, &Hints::default()).unwrap();
    let found: Vec<_> = found.iter().map(|found| (found.image, found.how)).collect();
    assert_eq!(found, [(1, How::ModelAndSize), (0, How::ModelAndSize)]);
    // A new disk has the name of the one that the image is of.
    let disks = [disk("sda", "", 80), small("sdb")];
    let hints = Hints::default();
    let error = match_images(&disks[..1], &disks, &images[..1], &hints).unwrap_err();
    assert!(matches!(error, MatchError::Moved { there, .. } if there == "sdb"));
    // Who names the disk means it.
    let named = Hints {
        named: vec!["sda".into()],
        ..Hints::default()
    };
    let found = match_images(&disks[..1], &disks, &images[..1], &named).unwrap();
    assert_eq!((found[0].image, found[0].how), (0, How::Name));
}
