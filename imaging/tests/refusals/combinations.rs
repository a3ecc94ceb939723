//! Every option with every other one, over images and disks of all kinds. Each run ends well and right, or the disk is
//! as it was. Which cases there are is computed: every pair of two choices occurs.

use super::{State, bytes, disk, full, ok_or_untouched, sfdisk};
use crate::image_common::{image_of, noise};
use crate::used_common::{Loop, MIB, run, scribble, sparse};
use pitstop_imaging::image::{CaptureOptions, Delta, Part, RestoreOptions};
use pitstop_imaging::source::Disk;
use pitstop_imaging::table::{self, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SIZE: u64 = 24 * MIB;
const ONE: Range<u64> = MIB..9 * MIB;
/// The last partition of the image, of which the filesystem is.
const TWO: Range<u64> = 10 * MIB..20 * MIB;
/// What survives on the disk, where it is kept.
const KEPT: Range<u64> = 21 * MIB..22 * MIB;

/// What there is to choose, and from what. The first of each is the plain one.
const CHOICES: [(&str, &[&str]); 10] = [
    (
        "table",
        &[
            "gpt",
            "gpt without primary",
            "gpt without backup",
            "gpt of two minds",
            "mbr",
            "mbr with logical",
            "mbr beyond the end",
            "none",
        ],
    ),
    (
        "filesystem",
        &[
            "ext4",
            "nothing",
            "ext4 with bigalloc",
            "ext4 with errors",
            "ext2 not unmounted",
            "ntfs",
            "swap",
        ],
    ),
    ("image", &["own", "gzip", "raw"]),
    ("disk", &["same", "smaller", "much smaller", "larger"]),
    ("sectors", &["file", "512", "4096"]),
    ("on it", &["noise", "gpt", "mbr", "nothing"]),
    ("part", &["whole", "keep", "only", "keep what is not there"]),
    ("delta", &["off", "on"]),
    ("new ids", &["no", "yes"]),
    ("grow", &["no", "yes"]),
];

type Case = Vec<usize>;

/// What seldom lets a run get as far as its first write: left out of the second half of the cases.
const RARE: [&str; 13] = [
    "gpt of two minds",
    "mbr beyond the end",
    "nothing",
    "ext4 with bigalloc",
    "ext4 with errors",
    "ext2 not unmounted",
    "swap",
    "smaller",
    "much smaller",
    "4096",
    "keep",
    "only",
    "keep what is not there",
];

/// Cases in which every pair of choices occurs; `verify` goes with every second one.
fn cases(with_rare: bool) -> Vec<Case> {
    let allowed: Vec<Vec<usize>> = CHOICES
        .iter()
        .map(|(_, values)| {
            let all = 0..values.len();
            all.filter(|at| with_rare || !RARE.contains(&values[*at]))
                .collect()
        })
        .collect();
    let mut open = BTreeSet::new();
    for (one, ones) in allowed.iter().enumerate() {
        for (other, others) in allowed.iter().enumerate().skip(one + 1) {
            for a in ones {
                open.extend(others.iter().map(|b| (one, *a, other, *b)));
            }
        }
    }
    let pairs = |case: &Case| {
        let mut found = Vec::new();
        for one in 0..case.len() {
            found.extend((one + 1..case.len()).map(|other| (one, case[one], other, case[other])));
        }
        found
    };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut cases = Vec::new();
    while let Some(&(one, a, other, b)) = open.first() {
        // Of some candidates with that pair, the one that has most others.
        let candidates = (0..40).map(|_| {
            let mut case: Case = allowed
                .iter()
                .map(|values| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    values[usize::try_from(random >> 33).unwrap() % values.len()]
                })
                .collect();
            (case[one], case[other]) = (a, b);
            case
        });
        let best = candidates.max_by_key(|case| {
            pairs(case)
                .iter()
                .filter(|pair| open.contains(pair))
                .count()
        });
        let best = best.unwrap();
        for pair in pairs(&best) {
            open.remove(&pair);
        }
        cases.push(best);
    }
    cases
}

fn value(case: &Case, choice: &str) -> &'static str {
    let at = CHOICES
        .iter()
        .position(|(name, _)| *name == choice)
        .unwrap();
    CHOICES[at].1[case[at]]
}

fn filesystem(dir: &TempDir, kind: &str, size: u64) -> Option<PathBuf> {
    let path = sparse(dir, "filesystem", size);
    let name = path.to_str().unwrap();
    match kind {
        "nothing" => return None,
        "swap" => run("mkswap", &[name]),
        "ntfs" => run("mkfs.ntfs", &["-q", "-Q", "-F", name]),
        "ext4 with bigalloc" => run(
            "mke2fs",
            &["-q", "-F", "-t", "ext4", "-O", "bigalloc", name],
        ),
        "ext2 not unmounted" => {
            run("mke2fs", &["-q", "-F", "-t", "ext2", name]);
            run("debugfs", &["-w", "-R", "ssv state 0", name])
        }
        _ => run("mke2fs", &["-q", "-F", "-t", "ext4", name]),
    };
    if kind == "ext4 with errors" {
        run("debugfs", &["-w", "-R", "ssv state 2", name]);
    }
    Some(path)
}

/// The disk that the image is of.
fn original(dir: &TempDir, table: &str, kind: &str) -> PathBuf {
    let sectors = |range: Range<u64>| {
        format!(
            "start={},size={}",
            range.start / 512,
            (range.end - range.start) / 512
        )
    };
    let two = format!("{}\n{}\n", sectors(ONE), sectors(TWO));
    let script = match table {
        "none" => String::new(),
        "mbr" => format!("label: dos\n{two}"),
        "mbr beyond the end" => format!("label: dos\n{two}start={},size=90000\n", 20 * MIB / 512),
        "mbr with logical" => {
            let within = sectors(9 * MIB..20 * MIB);
            format!(
                "label: dos\n{},type=83\n{within},type=5\n{},type=83\n",
                sectors(ONE),
                sectors(TWO)
            )
        }
        _ => format!("label: gpt\n{two}"),
    };
    let disk = disk(dir, "original", 80 * MIB, "");
    if table != "mbr beyond the end" {
        fs::File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(SIZE)
            .unwrap();
    }
    sfdisk(&disk, &script);
    fs::File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(SIZE)
        .unwrap();
    if table == "none" {
        if let Some(made) = filesystem(dir, kind, SIZE) {
            fs::copy(made, &disk).unwrap();
        }
        return disk;
    }
    scribble(&disk, ONE.start, &noise(bytes(ONE.end - ONE.start), 7));
    if let Some(made) = filesystem(dir, kind, TWO.end - TWO.start) {
        scribble(&disk, TWO.start, &fs::read(made).unwrap());
    }
    match table {
        "gpt without primary" => scribble(&disk, 512, &[0; 512]),
        "gpt without backup" => scribble(&disk, SIZE - 512, &[0; 512]),
        "gpt of two minds" => {
            let end = fs::read(&disk).unwrap().split_off(bytes(SIZE - MIB));
            sfdisk(&disk, &script);
            scribble(&disk, SIZE - MIB, &end);
        }
        _ => {}
    }
    disk
}

fn image(dir: &TempDir, original: &Path, kind: &str) -> PathBuf {
    match kind {
        "own" => image_of(dir.path(), original, 512, &CaptureOptions::default()),
        "gzip" => {
            let image = dir.path().join("packed.gz");
            run(
                "sh",
                &[
                    "-c",
                    &format!("gzip -1 < {} > {}", original.display(), image.display()),
                ],
            );
            image
        }
        _ => original.to_owned(),
    }
}

/// The disk that the image goes to, as a file.
fn target(dir: &TempDir, case: &Case) -> PathBuf {
    let size = match value(case, "disk") {
        "same" => SIZE,
        "smaller" => 23 * MIB,
        "much smaller" => 15 * MIB,
        _ => 40 * MIB,
    };
    let path = full(dir, "target", size);
    let sector: u64 = value(case, "sectors").parse().unwrap_or(512);
    let label = match value(case, "on it") {
        "gpt" => "gpt",
        "mbr" => "dos",
        "nothing" => {
            fs::write(&path, vec![0; bytes(size)]).unwrap();
            return path;
        }
        _ => return path,
    };
    let part = |number: u32, range: &Range<u64>| {
        let (start, size) = (range.start / sector, (range.end - range.start) / sector);
        format!("/dev/x{number} : start={start},size={size}\n")
    };
    let kept = if size > KEPT.end {
        part(3, &KEPT)
    } else {
        String::new()
    };
    let script = dir.path().join("script");
    fs::write(&script, format!("label: {label}\n{}{kept}", part(1, &ONE))).unwrap();
    let device = Loop::with_sectors(&path, u32::try_from(sector).unwrap());
    run(
        "sh",
        &[
            "-c",
            &format!(
                "sfdisk -q --wipe never {} < {}",
                device.device.display(),
                script.display()
            ),
        ],
    );
    path
}

fn options(case: &Case, number: usize) -> RestoreOptions {
    let named = |name: &str| vec![name.parse().unwrap()];
    RestoreOptions {
        part: match value(case, "part") {
            "keep" => Part::Keep(named("3")),
            "only" => Part::Only(named("1")),
            "keep what is not there" => Part::Keep(named("9")),
            _ => Part::Whole,
        },
        delta: if value(case, "delta") == "on" {
            Delta::On
        } else {
            Delta::Off
        },
        verify: number.is_multiple_of(2),
        new_ids: value(case, "new ids") == "yes",
        ahead: None,
        grow: value(case, "grow") == "yes",
        threads: 1,
    }
}

fn table_of(disk: &[u8], sector: u32) -> Option<Table> {
    let size = disk.len() as u64;
    table::read(&Disk::new(&mut std::io::Cursor::new(disk), size), sector).ok()
}

fn at(disk: &[u8], range: &Range<u64>) -> Vec<u8> {
    disk[bytes(range.start)..bytes(range.end)].to_vec()
}

/// Whether what a restore left is what was asked for.
fn check(case: &Case, original: &Path, before: &[u8], target: &Path) {
    let from = fs::read(original).unwrap();
    let after = fs::read(target).unwrap();
    let sector: u32 = value(case, "sectors").parse().unwrap_or(512);
    let grown = value(case, "grow") == "yes" && value(case, "disk") == "larger";
    if value(case, "part") == "only" {
        assert!(at(&after, &ONE) == at(&from, &ONE), "the partition differs");
        assert!(at(&after, &(0..ONE.start)) == at(before, &(0..ONE.start)));
        let rest = ONE.end..before.len() as u64;
        assert!(at(&after, &rest) == at(before, &rest), "the rest changed");
        return;
    }
    if value(case, "part") == "keep" {
        assert!(
            at(&after, &KEPT) == at(before, &KEPT),
            "what is kept changed"
        );
    }
    if value(case, "table") == "none" {
        if grown {
            fsck(&after, &(0..after.len() as u64), value(case, "filesystem"));
        } else {
            assert!(at(&after, &(0..SIZE)) == from, "the disk differs");
        }
        return;
    }
    assert!(at(&after, &ONE) == at(&from, &ONE), "partition 1 differs");
    let Some(mut wanted) = table_of(&from, 512) else {
        return;
    };
    // An MBR does not tell the size of its sectors, and without an index nothing else does.
    if value(case, "image") != "own" && sector != 512 && value(case, "table").starts_with("mbr") {
        return;
    }
    let found = table_of(&after, sector).expect("the table holds");
    if value(case, "new ids") == "yes" {
        assert_ne!(found.id, wanted.id, "the identifier is the old one");
    } else {
        assert_eq!(found.id, wanted.id);
    }
    let last = found
        .partitions
        .iter()
        .find(|own| own.start == TWO.start)
        .expect("partition 2");
    if grown {
        assert!(last.size > TWO.end - TWO.start, "{last:?}");
        fsck(&after, &last.range(), value(case, "filesystem"));
        wanted.partitions.retain(|own| own.start != TWO.start);
    } else {
        assert!(at(&after, &TWO) == at(&from, &TWO), "partition 2 differs");
    }
    for own in &wanted.partitions {
        let same =
            |other: &&table::Partition| (other.number, other.range()) == (own.number, own.range());
        assert!(
            found.partitions.iter().any(|other| same(&other)),
            "{own:?} is gone: {found:?}"
        );
    }
}

fn fsck(disk: &[u8], range: &Range<u64>, kind: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), at(disk, range)).unwrap();
    let name = file.path().to_str().unwrap();
    match kind {
        "ntfs" => run("ntfsresize", &["--info", "--force", name]),
        _ => run("e2fsck", &["-f", "-n", name]),
    };
}

#[test]
fn every_run_ends_right_or_leaves_the_disk_untouched() {
    let cases = [cases(true), cases(false)].concat();
    let mut originals: BTreeMap<(&str, &str), TempDir> = BTreeMap::new();
    let (mut done, mut reasons) = (0, BTreeMap::new());
    for (number, case) in cases.iter().enumerate() {
        let names: Vec<_> = CHOICES
            .iter()
            .map(|(name, _)| format!("{name}: {}", value(case, name)))
            .collect();
        let told = format!("case {number} of {}: {}", cases.len(), names.join(", "));
        println!("{told}");
        let key = (value(case, "table"), value(case, "filesystem"));
        let made = originals.entry(key).or_insert_with(|| {
            let dir = TempDir::new().unwrap();
            original(&dir, key.0, key.1);
            dir
        });
        let original = made.path().join("original");
        let dir = TempDir::new().unwrap();
        let image = image(&dir, &original, value(case, "image"));
        let file = target(&dir, case);
        let before = State::of(&file).bytes;
        let device = value(case, "sectors")
            .parse()
            .ok()
            .map(|sector| Loop::with_sectors(&file, sector));
        let path = device
            .as_ref()
            .map_or(file.clone(), |device| device.device.clone());
        let ended = ok_or_untouched(&image, &path, &file, &options(case, number));
        drop(device);
        match ended {
            Ok(_) => {
                done += 1;
                check(case, &original, &before, &file);
            }
            Err(error) => {
                let error = format!("{error:#}");
                println!("refused: {error}");
                *reasons.entry(error).or_insert(0) += 1;
            }
        }
    }
    println!(
        "{} cases, {done} done, {} reasons",
        cases.len(),
        reasons.len()
    );
    assert!(
        done >= 10,
        "{done} of {} were done: {reasons:#?}",
        cases.len()
    );
    assert!(reasons.len() >= 15, "{reasons:#?}");
}
