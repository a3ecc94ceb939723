//! An image that comes bit by bit, or from several places: each piece is proven by the index, wherever it is from.

mod common;

use common::{capture_to, extract_to, options};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, ImageSource};
use pitstop_imaging::source::ReadAt;
use pitstop_trees::{Pieces, TreeImage, extract, verify};
use std::fs;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

/// Larger than a few pieces, and of nothing that packs.
fn capture(folder: &Path) -> Vec<u8> {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    for (number, name) in ["large", "etc/a", "etc/b"].iter().enumerate() {
        let mut bytes = vec![0; [6 << 20, 5000, 70_000][number]];
        blake3::Hasher::new()
            .update(name.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        fs::write(tree.join(name), bytes).unwrap();
    }
    let image = folder.join("x.tar.gz");
    capture_to(&tree, &image, &options()).unwrap();
    fs::read(&image).unwrap()
}

#[test]
fn each_piece_is_proven_alone_and_together_they_are_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = capture(folder.path());
    let source = FileSource::open(&folder.path().join("x.tar.gz")).unwrap();
    let pieces = Pieces::load(&source).unwrap();
    assert!(pieces.count() > 3, "{}", pieces.count());
    assert!(pieces.end() < source.size());
    let mut at = 0;
    for number in 0..pieces.count() {
        let place = pieces.bytes(number);
        assert_eq!(place.start, at);
        at = place.end;
        assert_eq!(pieces.at(place.start), number);
        assert_eq!(pieces.at(place.end - 1), number);
        let from = usize::try_from(place.start).unwrap();
        let piece = &bytes[from..usize::try_from(place.end).unwrap()];
        pieces.prove(number, piece).unwrap();
        let mut wrong = piece.to_vec();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x10;
        pieces.prove(number, &wrong).unwrap_err();
        pieces.prove(number, &vec![0; piece.len()]).unwrap_err();
        pieces.prove(number, &piece[1..]).unwrap_err();
    }
    assert_eq!(at, pieces.end());
    pieces.prove(pieces.count(), &[]).unwrap_err();
}

/// An image that one place has wrong and another one right.
struct Two {
    wrong: Vec<u8>,
    right: Vec<u8>,
    /// Of what was said to have come wrong.
    blamed: Mutex<Vec<Range<u64>>>,
}

impl Two {
    fn now(&self) -> Vec<u8> {
        if self.blamed.lock().unwrap().is_empty() {
            self.wrong.clone()
        } else {
            self.right.clone()
        }
    }
}

impl ReadAt for Two {
    fn size(&self) -> u64 {
        self.right.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        buffer.copy_from_slice(&self.now()[at..at + buffer.len()]);
        Ok(())
    }
}

impl ImageSource for Two {
    fn name(&self) -> &'static str {
        "two places"
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut stream = Cursor::new(self.now());
        stream.set_position(offset);
        Ok(Box::new(stream))
    }

    fn came_wrong(&self, bytes: Range<u64>) -> bool {
        let mut blamed = self.blamed.lock().unwrap();
        blamed.push(bytes);
        // Several threads may have had the wrong one.
        blamed.len() < 100
    }
}

#[test]
fn what_came_wrong_is_read_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let right = capture(folder.path());
    let image = folder.path().join("x.tar.gz");
    let mut wrong = right.clone();
    let damage = right.len() / 2;
    wrong[damage] ^= 1;
    let two = |right: &[u8]| Two {
        wrong: wrong.clone(),
        right: right.to_vec(),
        blamed: Mutex::default(),
    };
    let source = two(&right);
    let tree = TreeImage::open(&source).unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    extract(&tree, &out, 2, &Silent).unwrap();
    let plain = folder.path().join("plain");
    fs::create_dir(&plain).unwrap();
    extract_to(&image, &plain).unwrap();
    for name in ["large", "etc/a", "etc/b"] {
        assert!(fs::read(out.join(name)).unwrap() == fs::read(plain.join(name)).unwrap());
    }
    let blamed = source.blamed.lock().unwrap().clone();
    let damage = damage as u64;
    assert!(blamed.iter().any(|it| it.contains(&damage)), "{blamed:?}");
    // Where all have it wrong, that is said.
    let source = two(&wrong);
    let tree = TreeImage::open(&source).unwrap();
    let told = format!("{:#}", verify(&tree, 2, &Silent).unwrap_err());
    assert!(told.contains("is damaged"), "{told}");
}
