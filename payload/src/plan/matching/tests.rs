//! Images and disks that belong together, and those that do not.

use super::*;
use crate::plan::tests::disk;

fn image(stem: &str, serial: &str, size: u64) -> Stored {
    Stored {
        file: format!("{stem}.raw.gz"),
        stem: stem.into(),
        of: Some(disk(stem, serial, size).identity),
        raw_size: Some(size),
        least: None,
        indexed: true,
    }
}

#[test]
fn a_serial_beats_a_name_that_changed() {
    let disks = [disk("sda", "B", 100), disk("sdb", "A", 100)];
    let images = [image("sda", "A", 100), image("sdb", "B", 100)];
    let matches = match_images(&disks, &disks, &images).unwrap();
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
    let matches = match_images(&disks, &disks, &[stored]).unwrap();
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
    let matches = match_images(&disks, &disks, &images).unwrap();
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
    let matches = match_images(&disks, &disks, &images).unwrap();
    let error = check_none_missing(&matches, &disks, &images).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of sda (serial A, 100 B), which is not on this machine; seen: sda (serial B, 100 B); \
         to restore without it, name the disks in the job's `disks`, or remove the image"
    );
    let images = [image("sda", "B", 100), image("vda", "GONE", 100)];
    let matches = match_images(&disks, &disks, &images[..1]).unwrap();
    assert_eq!(check_none_missing(&matches, &disks, &images), Ok(()));
}

#[test]
fn a_replaced_disk_is_found_by_name_when_it_fits() {
    let disks = [disk("sda", "NEW", 200)];
    let images = [image("sda", "DEAD", 100)];
    let matches = match_images(&disks, &disks, &images).unwrap();
    assert_eq!(matches[0].how, How::Name);
    assert!(!is_settled(&matches, &images));

    let small = [disk("sda", "NEW", 50)];
    let error = match_images(&small, &small, &images).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda (serial NEW, 50 B) is too small for sda.raw.gz: it has 50 bytes, the image needs 100"
    );

    let other = [large_sectors("NEW")];
    let error = match_images(&other, &other, &images).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of a disk with sectors of 512 bytes, sda (serial NEW, 200 B) has sectors of 4096: no name \
         alone leads to such a disk"
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
    let matches = match_images(&disks, &disks, &[stored.clone()]).unwrap();
    assert_eq!(matches[0].how, How::Serial);

    stored.indexed = false;
    let error = match_images(&disks, &disks, &[stored]).unwrap_err();
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
    stored.least = Some(Least::of(60));
    assert!(match_images(&small, &small, &[stored.clone()]).is_ok());
    stored.least = Some(Least {
        bytes: 61,
        why: "its partition 2, ext4, ends at byte 61".into(),
        shrunk: Some(30),
    });
    let error = match_images(&small, &small, &[stored]).unwrap_err();
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
    let error = match_images(&all[..1], &all, &[image("sda", "A", 100)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda.raw.gz is of sda (serial A, 100 B), which is sdb here, not sda (serial NEW, 100 B)"
    );
}

#[test]
fn doubt_and_absence_stop_the_run() {
    let one = [disk("sda", "A", 100)];
    let images = [image("sda", "A", 100), image("sdb", "A", 100)];
    let error = match_images(&one, &one, &images).unwrap_err();
    assert!(matches!(error, MatchError::SeveralImages { .. }), "{error}");

    let twins = [disk("sda", "A", 100), disk("sdb", "A", 100)];
    let error = match_images(&twins, &twins, &images[..1]).unwrap_err();
    assert!(matches!(error, MatchError::SeveralDisks { .. }), "{error}");

    let error = match_images(&one, &one, &[image("sdb", "X", 100)]).unwrap_err();
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
        raw_size,
        least: None,
        indexed: false,
    };
    let matches = match_images(&disks, &disks, &[foreign(None)]).unwrap();
    assert!(is_settled(&matches, &[foreign(None)]));
    let error = match_images(&disks, &disks, &[foreign(Some(101))]).unwrap_err();
    assert!(
        matches!(
            error,
            MatchError::TooSmall {
                needs: Least { bytes: 101, .. },
                has: 100,
                ..
            }
        ),
        "{error}"
    );
}
