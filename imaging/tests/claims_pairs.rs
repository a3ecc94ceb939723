//! Every pair of formats in one partition: the signature of an earlier life below, the real owner on top, each made by
//! its own tool where there is one. No byte of the owner is ever lost. `docs/claims.md` has what was kept.

mod image_common;
mod metadata_common;
mod used_common;

use image_common::{identity, noise, plain, source};
use metadata_common::{bitlocker_to_go, md_0, md_1, ufs_2, zfs_label};
use pitstop_imaging::event::Silent;
use pitstop_imaging::extents::Extents;
use pitstop_imaging::image::{CaptureOptions, capture, restore};
use pitstop_imaging::used::Survey;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use used_common::{Loop, MIB, copy_data, run, survey_file};

/// Bytes of a volume: what all of the tools take.
const VOLUME: u64 = 64 * MIB;

/// What makes a format on a volume.
#[derive(Clone, Copy)]
enum Maker {
    /// A shell's words, run on what lies below; `VOLUME` is the file.
    Tool(&'static str),
    /// The same on a block device, blank, whose sectors are then written over what lies below: not every tool does that
    /// itself.
    OnDevice(&'static str),
    /// Shell's words that make the file `VOLUME`, whose bytes are written to the beginning of the volume.
    Image(&'static str),
    /// The same on a blank file.
    Sectors(&'static str),
    /// Bytes and where they go, for a volume of [`VOLUME`] bytes.
    Hand(fn() -> Vec<(u64, Vec<u8>)>),
}

use Maker::{Hand, Image, OnDevice, Sectors, Tool};

struct Format {
    name: &'static str,
    /// Whether its map is read: what it does not use may be left out then.
    is_read: bool,
    maker: Maker,
}

const fn read(name: &'static str, maker: Maker) -> Format {
    Format {
        name,
        is_read: true,
        maker,
    }
}

const fn whole(name: &'static str, maker: Maker) -> Format {
    Format {
        name,
        is_read: false,
        maker,
    }
}

const NEAR_END: u64 = VOLUME - 8192;

/// None of the tools discards the volume first: on a file that would make zeros of all that lies below.
const FORMATS: &[Format] = &[
    read("ext4", Tool("mke2fs -q -F -t ext4 -E nodiscard VOLUME")),
    read("xfs", Tool("mkfs.xfs -q -f -K --unsupported VOLUME")),
    read("btrfs", Tool("mkfs.btrfs -q -f -K -M VOLUME")),
    read("vfat", Tool("mkfs.vfat VOLUME >&2")),
    read("exfat", Tool("mkfs.exfat VOLUME >&2")),
    read("ntfs", Tool("mkfs.ntfs -F -Q -q VOLUME")),
    read("f2fs", Tool("mkfs.f2fs -q -f -t 0 VOLUME >&2")),
    read("swap", Tool("mkswap -q -f VOLUME")),
    // Without a volume group its map is on no disk.
    whole(
        "LVM2",
        OnDevice("lvm pvcreate --config 'devices { use_devicesfile=0 }' -q -ff -y VOLUME >&2"),
    ),
    whole(
        "LUKS1",
        Sectors(
            "printf secret | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 VOLUME -",
        ),
    ),
    whole("jfs", Sectors("mkfs.jfs -q VOLUME >&2")),
    whole("nilfs2", Sectors("mkfs.nilfs2 -q -f -b 1024 -B 64 VOLUME")),
    whole("udf", Sectors("mkudffs VOLUME >&2")),
    whole(
        "squashfs",
        Image("mksquashfs TREE VOLUME -quiet -no-progress -noappend >&2"),
    ),
    // As with `sfdisk --wipe never`: the code in front of the entries stays.
    whole(
        "MBR",
        Hand(|| vec![(446, mbr_entry()), (510, vec![0x55, 0xaa])]),
    ),
    whole("GPT", Sectors("sgdisk -o -n 1:2048:65535 VOLUME >&2")),
    whole("md 0.90", Hand(|| vec![(VOLUME - 0x1_0000, md_0())])),
    whole("md 1.0", Hand(|| vec![(NEAR_END, md_1(NEAR_END / 512))])),
    whole("md 1.2", Hand(|| vec![(4096, md_1(8))])),
    whole("ZFS", Hand(zfs)),
    whole("BitLocker", Hand(|| vec![(0, bitlocker_to_go())])),
    whole("ufs", Hand(|| vec![(64 << 10, ufs_2())])),
];

fn zfs() -> Vec<(u64, Vec<u8>)> {
    let label = 256 << 10;
    [0, label, VOLUME - 2 * label, VOLUME - label]
        .map(|at| (at, zfs_label()))
        .to_vec()
}

fn mbr_entry() -> Vec<u8> {
    let mut entry = vec![0, 0, 0, 0, 7, 0, 0, 0];
    entry.extend(2048_u32.to_le_bytes());
    entry.extend(65536_u32.to_le_bytes());
    entry
}

/// Where volumes are made; a tree for those that are made of one.
struct Bench {
    dir: TempDir,
    /// What [`Image`] and [`Sectors`] made, for each of [`FORMATS`].
    made: Vec<Pieces>,
    /// The table of a disk of one partition.
    table: Pieces,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), noise(100_000, 3)).unwrap();
        let mut bench = Self {
            dir,
            made: Vec::new(),
            table: Vec::new(),
        };
        let disk = bench.path("table");
        File::create(&disk)
            .unwrap()
            .set_len(VOLUME + 2 * MIB)
            .unwrap();
        let sectors = VOLUME / 512;
        let words = format!("echo start=2048,size={sectors} | sfdisk -q --label gpt VOLUME");
        bench.shell(&words, &disk);
        bench.table = pieces(&fs::read(&disk).unwrap(), 4096);
        for format in FORMATS {
            let volume = bench.path("made");
            match format.maker {
                Image(words) => bench.shell(words, &volume),
                Sectors(words) => bench.shell(words, &bench.blank("made")),
                OnDevice(words) => {
                    let device = Loop::new(&bench.blank("made"));
                    bench.shell(words, &device.device);
                    run(
                        "blockdev",
                        &[OsStr::new("--flushbufs"), device.device.as_os_str()],
                    );
                }
                _ => fs::write(&volume, []).unwrap(),
            }
            let bytes = fs::read(&volume).unwrap();
            bench.made.push(match format.maker {
                Image(_) => vec![(0, bytes)],
                _ => pieces(&bytes, 512),
            });
            fs::remove_file(&volume).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn blank(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(VOLUME).unwrap();
        path
    }

    fn shell(&self, words: &str, volume: &Path) {
        let words = words
            .replace("TREE", self.path("tree").to_str().unwrap())
            .replace("VOLUME", volume.to_str().unwrap());
        run("sh", &["-c", &words]);
    }

    fn make(&self, at: usize, volume: &Path) {
        let format = &FORMATS[at];
        let file = OpenOptions::new().write(true).open(volume).unwrap();
        match format.maker {
            Tool(words) => self.shell(words, volume),
            Image(_) | Sectors(_) | OnDevice(_) => lay(&self.made[at], &file),
            Hand(pieces) => lay(&pieces(), &file),
        }
        let size = fs::metadata(volume).unwrap().len();
        assert_eq!(size, VOLUME, "{}", format.name);
    }

    /// A disk with a GPT of one partition, which is `volume`.
    fn disk(&self, name: &str, volume: &Path) -> PathBuf {
        let path = self.path(name);
        let disk = File::create(&path).unwrap();
        disk.set_len(VOLUME + 2 * MIB).unwrap();
        lay(&self.table, &disk);
        copy_data(&File::open(volume).unwrap(), &disk, MIB);
        path
    }
}

/// Bytes and where they are.
type Pieces = Vec<(u64, Vec<u8>)>;

/// What of `bytes` is not zero, in blocks, so that what lies below the rest stays as it is.
fn pieces(bytes: &[u8], block: usize) -> Pieces {
    let zeros = vec![0; block];
    let mut found = Pieces::new();
    for (at, block) in (0..).step_by(block).zip(bytes.chunks(block)) {
        if block == &zeros[..block.len()] {
            continue;
        }
        match found.last_mut() {
            Some((start, piece)) if *start + piece.len() as u64 == at => piece.extend(block),
            _ => found.push((at, block.to_vec())),
        }
    }
    found
}

fn lay(pieces: &Pieces, file: &File) {
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at).unwrap();
    }
}

/// What of the owner's volume must come back: of one that is read what its map has, of others all.
fn needed(bench: &Bench, at: usize) -> Extents {
    let format = &FORMATS[at];
    if !format.is_read {
        return Extents::single(MIB..MIB + VOLUME);
    }
    let name = format!("alone-{}", format.name);
    let volume = bench.blank(&name);
    bench.make(at, &volume);
    let disk = bench.disk(&format!("{name}-disk"), &volume);
    let survey = survey_file(&disk, 512);
    assert_eq!(
        survey.partitions[0].kept, "used blocks",
        "{}: {survey:?}",
        format.name
    );
    survey.kept.clipped(MIB..MIB + VOLUME)
}

/// Makes `owner` over `old`, takes that through an image, and answers whether every block was kept.
fn pair(bench: &Bench, at: (usize, usize), old: &Pieces, needed: &Extents) -> bool {
    let owner = &FORMATS[at.1];
    let pair = format!("{} over {}", owner.name, FORMATS[at.0].name);
    let volume = bench.blank(&format!("pair-{}-{}", at.0, at.1));
    let file = OpenOptions::new().write(true).open(&volume).unwrap();
    lay(old, &file);
    bench.make(at.1, &volume);
    if !owner.is_read {
        // Its data, all over the volume.
        for at in (700 << 10..VOLUME - 2 * MIB).step_by(1 << 20) {
            file.write_all_at(&noise(512, at), at).unwrap();
        }
    }
    let disk = bench.disk(&format!("disk-{}-{}", at.0, at.1), &volume);
    let survey = survey_file(&disk, 512);
    let lost = needed.without(&survey.kept);
    assert!(
        lost.is_empty(),
        "{pair}: {lost:?} of it are lost: {survey:?}"
    );
    let whole = is_whole(&survey, owner, &pair);
    // An image of every block is the same image whatever lies below: one of each owner is enough.
    if !whole || at.0 == 0 {
        through_an_image(&disk, needed, &pair);
    }
    for file in [&volume, &disk] {
        fs::remove_file(file).unwrap();
    }
    whole
}

/// Backs `disk` up, restores that, and compares what is needed.
fn through_an_image(disk: &Path, needed: &Extents, pair: &str) {
    let image = disk.with_extension("raw.gz");
    let copy = disk.with_extension("copy");
    let mut out = File::create(&image).unwrap();
    let options = CaptureOptions::default();
    capture(disk, &identity(disk), &options, &mut out, &Silent).unwrap();
    restore(&source(&image), &copy, &plain(), &Silent).unwrap();
    let (before, after) = (File::open(disk).unwrap(), File::open(&copy).unwrap());
    for range in needed.iter() {
        let [one, other] = [&before, &after].map(|file| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            file.read_exact_at(&mut bytes, range.start).unwrap();
            bytes
        });
        assert!(one == other, "{pair}: {range:?}");
    }
    for file in [&image, &copy] {
        fs::remove_file(file).unwrap();
    }
}

fn is_whole(survey: &Survey, owner: &Format, pair: &str) -> bool {
    let partition = &survey.partitions[0];
    if partition.kept == "every block" {
        return true;
    }
    assert!(owner.is_read, "{pair}: {survey:?}");
    assert_eq!(partition.filesystem, owner.name, "{pair}");
    assert!(partition.claims.is_empty(), "{pair}: {survey:?}");
    false
}

/// The table of `docs/claims.md`.
fn table(matrix: &[Vec<bool>]) -> String {
    let mut text = String::from("| on top | ");
    for format in FORMATS {
        text.push_str(format.name);
        text.push_str(" | ");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(FORMATS.len()));
    for (owner, row) in FORMATS.iter().zip(matrix) {
        for piece in ["\n| **", owner.name, "** |"] {
            text.push_str(piece);
        }
        for whole in row {
            text.push_str(if *whole { " ■ |" } else { " · |" });
        }
    }
    text.push('\n');
    text
}

#[test]
fn no_byte_of_the_owner_is_lost_whatever_lies_below() {
    let bench = Bench::new();
    let olds: Vec<Pieces> = (0..FORMATS.len())
        .map(|at| {
            let volume = bench.blank("old");
            bench.make(at, &volume);
            pieces(&fs::read(&volume).unwrap(), 4096)
        })
        .collect();
    let needs: Vec<Extents> = (0..FORMATS.len()).map(|at| needed(&bench, at)).collect();
    let count = FORMATS.len();
    let next = AtomicUsize::new(0);
    let matrix = Mutex::new(vec![vec![false; count]; count]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count * count {
                        break;
                    }
                    let (old, top) = (at % count, at / count);
                    let whole = pair(&bench, (old, top), &olds[old], &needs[top]);
                    matrix.lock().unwrap()[top][old] = whole;
                }
            });
        }
    });
    let table = table(&matrix.into_inner().unwrap());
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/claims.md");
    let text = fs::read_to_string(&document).unwrap();
    assert!(
        text.contains(&table),
        "{} has another table; this is today's:\n{table}",
        document.display()
    );
}
