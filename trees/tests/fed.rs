//! A tree whose members somebody else brings, in any order and wrong ones among them, and who has them back from the files. As root.

mod common;

use common::{Disk, capture_to, differences, entries, make_everything, options};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{Chunk, Fed, Feed, FileSource, Hand};
use pitstop_trees::{TreeImage, extract_fed};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const SIZE: u64 = 200 << 20;

/// Members by the number of their chunk.
type Members = Mutex<HashMap<u64, Vec<u8>>>;

fn member(restore: &dyn Fed, chunk: &Chunk) -> Vec<u8> {
    let size = usize::try_from(chunk.size).unwrap();
    restore.image().bytes_at(chunk.offset, size).unwrap()
}

/// Brings the last one first, each behind a wrong one; `again` is what the files give back when all are there.
struct Backwards<'a> {
    again: Members,
    target: &'a Path,
}

impl Feed for Backwards<'_> {
    fn run(
        &self,
        restore: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        assert!(restore.is_whole() && restore.count() == restore.chunks().len() as u64);
        let (mut hand, mut other) = (restore.hand()?, restore.hand()?);
        let chunks: Vec<Chunk> = restore.chunks().iter().map(|it| it.chunk).collect();
        for chunk in chunks.iter().rev() {
            let right = member(restore, chunk);
            let mut wrong = right.clone();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0x10;
            wrong.truncate(middle + 1);
            assert!(!hand.put(chunk, &wrong)?);
            let another = chunks.iter().find(|it| it.hash != chunk.hash).unwrap();
            assert!(!hand.put(chunk, &member(restore, another))?);
            assert!(hand.put(chunk, &right)?);
            assert!(other.pack(chunk).is_some(), "chunk {}", chunk.number);
        }
        finish()?;
        let mut again = self.again.lock().unwrap();
        for chunk in &chunks {
            let member = other.pack(chunk);
            let member = member.unwrap_or_else(|| panic!("chunk {}", chunk.number));
            assert!(member.len() <= restore.largest_member());
            again.insert(chunk.number, member);
        }
        // What somebody has changed since is not handed on as what it was.
        let lacking = |hand: &mut dyn Hand| -> Vec<u64> {
            let lost = chunks.iter().filter(|chunk| hand.pack(chunk).is_none());
            lost.map(|chunk| chunk.number).collect()
        };
        assert_eq!(lacking(&mut *other), [0; 0]);
        let edited = self.target.join("usr/bin/exact");
        let before = fs::read(&edited)?;
        fs::write(&edited, "edited")?;
        assert_eq!(lacking(&mut *other).len(), 1);
        fs::write(&edited, before)?;
        fs::remove_file(self.target.join("usr/small-7"))?;
        assert_eq!(lacking(&mut *other).len(), 1);
        Ok(())
    }
}

/// Brings what another machine has made anew of its files.
struct Given(Members);

impl Feed for Given {
    fn run(
        &self,
        restore: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut hand = restore.hand()?;
        let given = self.0.lock().unwrap();
        for known in restore.chunks() {
            assert!(hand.put(&known.chunk, &given[&known.chunk.number])?);
        }
        finish()
    }
}

#[test]
fn everything_comes_back_by_others_and_is_had_again_from_its_files() {
    let disk = Disk::new(SIZE, &[]);
    let root = disk.join("tree");
    fs::create_dir(&root).unwrap();
    make_everything(&root);
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("everything.tar.gz");
    capture_to(&root, &image, &options()).unwrap();
    let source = FileSource::open(&image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let first = Disk::new(SIZE, &[]);
    let backwards = Backwards {
        again: Members::default(),
        target: &first.path,
    };
    extract_fed(&image, &first.path, 2, Some(&backwards), &Silent).unwrap();
    let second = Disk::new(SIZE, &[]);
    let given = Given(backwards.again);
    extract_fed(&image, &second.path, 2, Some(&given), &Silent).unwrap();
    let found = differences(&entries(&root), &entries(&second.path), |_| {});
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Brings one half of the members, sees which files are open then, and brings the other half.
struct Halves<'a> {
    target: &'a Path,
    open: Mutex<Vec<PathBuf>>,
}

impl Feed for Halves<'_> {
    fn run(
        &self,
        restore: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut hand = restore.hand()?;
        for half in [0, 1] {
            for known in restore.chunks() {
                let chunk = &known.chunk;
                if chunk.number % 2 == half {
                    assert!(hand.put(chunk, &member(restore, chunk))?);
                }
            }
            let open = fs::read_dir("/proc/self/fd")?.flatten();
            let open = open.filter_map(|it| fs::read_link(it.path()).ok());
            let own = open.filter(|path| path.starts_with(self.target) && path.is_file());
            self.open.lock().unwrap().extend(own);
        }
        finish()
    }
}

#[test]
fn a_large_file_of_which_parts_are_missing_is_not_kept_open() {
    const FILES: usize = 8;
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("tree"), work.path().join("x.tar.gz"));
    fs::create_dir(&root).unwrap();
    let data = |number: usize| vec![u8::try_from(number).unwrap() + 1; 2 << 20];
    for number in 0..FILES {
        fs::write(root.join(number.to_string()), data(number)).unwrap();
    }
    capture_to(&root, &image, &options()).unwrap();
    let source = FileSource::open(&image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let target = fs::canonicalize(work.path()).unwrap().join("target");
    let halves = Halves {
        target: &target,
        open: Mutex::default(),
    };
    extract_fed(&image, &target, 2, Some(&halves), &Silent).unwrap();
    assert!(halves.open.lock().unwrap().is_empty());
    for number in 0..FILES {
        assert!(fs::read(target.join(number.to_string())).unwrap() == data(number));
    }
}
