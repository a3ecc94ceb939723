//! Tests of the engine on disks that fail on purpose.

use super::fakes::at;
use super::fakes::bad_disk::BadDisk;
use super::fakes::disk::{Act, Disk, OLD};
use super::fakes::image::{MIB, Memory, good_image, image_of, raw};
use crate::event::Silent;
use crate::extents::Extents;
use crate::image::loaded_index::load;
use crate::image::restore::restore_indexed;
use crate::image::{Delta, Part, RestoreOptions, Restored, verify};
use std::sync::atomic::AtomicU64;

fn restore_to(image: &Memory, disk: &Disk, verify: bool) -> anyhow::Result<Restored> {
    let options = RestoreOptions {
        part: Part::Whole,
        delta: Delta::Off,
        verify,
        new_ids: false,
        grow: false,
        threads: 2,
        ahead: None,
    };
    restore_indexed(image, &load(image).unwrap(), disk, &options, None, &Silent)
}

#[test]
fn bad_sectors_are_zeros_and_named_weak_ones_are_read() {
    let mut bytes = raw();
    let disk = BadDisk {
        bytes: bytes.clone(),
        dead: (2 << 20) + 5000..(2 << 20) + 9000,
        weak: (4 << 20)..(4 << 20) + 8192,
        tries: AtomicU64::new(0),
        most: usize::MAX,
    };
    let size = bytes.len() as u64;
    let (image, meta) = image_of(&disk, &Extents::single(0..size));
    // Whole pieces of 4096 bytes around what is dead.
    let lost = (2 << 20) + 4096..(2 << 20) + 12288;
    assert_eq!(meta.read_errors, [lost.clone().into()]);
    bytes[at(lost.start)..at(lost.end)].fill(0);
    let target = Disk::new(vec![OLD; bytes.len()]);
    restore_to(&image, &target, true).unwrap();
    assert!(*target.held.lock().unwrap() == bytes);
}

#[test]
fn unused_bytes_read_as_zeros_and_used_ones_stay() {
    let bytes = raw();
    let disk = BadDisk {
        bytes: bytes.clone(),
        dead: (3 << 20)..(3 << 20) + 4096,
        weak: 0..0,
        tries: AtomicU64::new(0),
        most: usize::MAX,
    };
    let mut kept = Extents::single(100..1000);
    kept.insert((1 << 20) - 3..(1 << 20) + 3);
    kept.insert((5 << 20) + 123_456..(5 << 20) + 300_000);
    let (image, meta) = image_of(&disk, &kept);
    assert_eq!(meta.read_errors, [], "what is unused is not read");
    let target = Disk::new(vec![OLD; bytes.len()]);
    restore_to(&image, &target, false).unwrap();
    let mut expected = vec![0; bytes.len()];
    for range in kept.iter() {
        let range = at(range.start)..at(range.end);
        expected[range.clone()].copy_from_slice(&bytes[range]);
    }
    assert!(*target.held.lock().unwrap() == expected);
    assert_eq!(
        verify(&image, 2, &Silent).unwrap().bytes(),
        bytes.len() as u64
    );
}

#[test]
fn the_first_chunk_is_written_last_after_all_else_is_flushed() {
    let (image, bytes) = good_image();
    let target = Disk::new(vec![OLD; bytes.len()]);
    restore_to(&image, &target, false).unwrap();
    assert!(*target.held.lock().unwrap() == bytes);
    // The place of each write; `None` is a flush.
    let acts: Vec<Option<u64>> = (target.acts.lock().unwrap().iter())
        .map(|act| match act {
            Act::Write { place, .. } => Some(*place),
            Act::Flush => None,
        })
        .collect();
    let tail = bytes.len() as u64 - (1 << 20);
    assert_eq!(acts[..3], [Some(0), Some(tail), None]);
    let ending = [None, Some(6 << 20), Some(5 << 20), None, Some(0), None];
    assert_eq!(acts[acts.len() - 6..], ending);
}

#[test]
fn a_target_that_fails_in_the_middle_does_not_boot() {
    let (image, bytes) = good_image();
    let mut target = Disk::new(vec![OLD; 2 * bytes.len()]);
    target.full_from = 3 << 20;
    let err = restore_to(&image, &target, false).unwrap_err();
    // The end of the disk is invalidated first, and fails first.
    assert!(
        format!("{err:#}").contains("writing /dev/fake at "),
        "{err:#}"
    );
    assert!(
        target.held.lock().unwrap()[..MIB]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn what_reads_back_wrong_is_written_once_more_and_then_given_up() {
    let (image, bytes) = good_image();
    let mut target = Disk::new(vec![OLD; bytes.len()]);
    target.forgets = 2 << 20;
    target.times = AtomicU64::new(1);
    assert!(restore_to(&image, &target, true).unwrap().verified);
    assert!(*target.held.lock().unwrap() == bytes);
    target.times = AtomicU64::new(100);
    let err = restore_to(&image, &target, true).unwrap_err();
    assert!(
        format!("{err:#}").contains("1 chunks read back wrong twice (2)"),
        "{err:#}"
    );
}
