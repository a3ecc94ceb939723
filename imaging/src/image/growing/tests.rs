use super::*;
use crate::event::Silent;
use crate::image::{CaptureOptions, FileSource, OpenedImage, capture};
use crate::inventory::DiskIdentity;
use proptest::prelude::*;
use std::fs;

const MIB: usize = 1 << 20;

/// The image of a disk of noise with a hole.
fn image() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let mut raw = vec![0; 64 * MIB + 4096];
    blake3::Hasher::new().finalize_xof().fill(&mut raw);
    raw[20 * MIB..24 * MIB].fill(0);
    fs::write(&disk, &raw).unwrap();
    let identity = DiskIdentity {
        device: "sda".into(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: raw.len() as u64,
        logical_sector_size: 512,
        physical_sector_size: 512,
    };
    let mut out = Vec::new();
    let options = CaptureOptions {
        exact: true,
        ..CaptureOptions::default()
    };
    capture(&disk, &identity, &options, &mut out, &Silent).unwrap();
    out
}

fn follow(growing: &mut Growing, file: &[u8], size: usize) {
    let mut read = |buffer: &mut [u8], at: u64| {
        let at = usize::try_from(at).unwrap();
        buffer.copy_from_slice(&file[at..at + buffer.len()]);
        Ok(())
    };
    while growing.step(size as u64, &mut read).unwrap() {}
}

#[test]
fn rounds_are_what_the_index_says_in_the_end_however_the_file_grew() {
    let file = image();
    let mut growing = Growing::new().unwrap();
    let mut seen = Vec::new();
    for size in (0..file.len()).step_by(3 * MIB + 17).chain([file.len()]) {
        let before = growing.rounds().to_vec();
        follow(&mut growing, &file, size);
        assert_eq!(growing.rounds()[..before.len()], before);
        assert!(
            growing
                .rounds()
                .iter()
                .all(|round| round.end() <= size as u64)
        );
        seen.push(growing.rounds().len());
    }
    assert!(seen.contains(&1), "{seen:?}");
    let mut again = Growing::new().unwrap();
    follow(&mut again, &file, file.len());
    assert_eq!(again.rounds(), growing.rounds());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sda.raw.gz");
    fs::write(&path, &file).unwrap();
    let image = OpenedImage::open(Box::new(FileSource::open(&path).unwrap())).unwrap();
    let index = &image.indexed().unwrap().index;
    let all: Vec<Chunk> = index
        .items()
        .filter_map(|item| match item {
            crate::image::index::Item::Chunk(chunk) => Some(chunk),
            crate::image::index::Item::Zeros { .. } => None,
        })
        .collect();
    let rounds: Vec<Chunk> = growing.rounds().iter().flat_map(Round::chunks).collect();
    assert_eq!(rounds, all[..rounds.len()]);
    assert!(rounds.len() > 40, "{}", rounds.len());
    let last = growing.rounds().last().unwrap();
    assert!(last.next() > rounds.len() as u64, "zeros count, too");
    assert_eq!(Round::parse(&last.to_bytes()).as_ref(), Ok(last));
}

#[test]
fn what_is_no_image_has_no_rounds_and_damage_holds_them_up() {
    let mut growing = Growing::new().unwrap();
    follow(&mut growing, &[7; 4096], 4096);
    assert!(growing.rounds().is_empty());
    let good = image();
    let mut bad = good.clone();
    bad[5 * MIB] ^= 1;
    let mut growing = Growing::new().unwrap();
    follow(&mut growing, &bad, bad.len());
    assert!(growing.rounds().is_empty());
    // It was sent again.
    follow(&mut growing, &good, good.len());
    assert!(!growing.rounds().is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        ours: bool,
    ) {
        let mut text = Vec::new();
        if ours {
            text.extend_from_slice(&MAGIC);
            text.extend_from_slice(&[0; 16]);
            text.extend_from_slice(&(1_u32 << 20).to_le_bytes());
        }
        text.extend(bytes);
        if let Ok(round) = Round::parse(&text) {
            prop_assert_eq!(round.to_bytes(), text);
            let _ = (round.chunks(), round.end(), round.next());
        }
    }
}
