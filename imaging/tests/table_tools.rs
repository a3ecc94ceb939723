//! Tables by everybody's tools and installers, read and written by the one writer: the tools must say the same of what
//! was written as of what they made, and find nothing wrong.

mod used_common;

use pitstop_imaging::source::Disk;
use pitstop_imaging::table::{ParsedTable, TableKind, TableWrites, read};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{Loop, MIB, run, scribble, sparse, try_run};

const SIZE: u64 = 256 * MIB;

/// Somebody's disk.
struct Made {
    name: &'static str,
    sector: u32,
    /// A shell script that makes the table on `$D`.
    script: &'static str,
    kind: TableKind,
    /// Numbers of the partitions.
    numbers: &'static [u32],
}

const fn made(
    name: &'static str,
    sector: u32,
    kind: TableKind,
    numbers: &'static [u32],
    script: &'static str,
) -> Made {
    Made {
        name,
        sector,
        script,
        kind,
        numbers,
    }
}

use TableKind::{Gpt, Mbr};

/// What is odd in each case says its name.
const DISKS: &[Made] = &[
    made(
        "sfdisk, GPT with a gap in the numbers",
        512,
        Gpt,
        &[1, 7],
        "printf 'label: gpt\n/dev/x1 : start=2048,size=8192,type=U,name=esp\n/dev/x7 : start=90000,size=4001,type=L,name=\"mit Lücke\",attrs=\"RequiredPartition LegacyBIOSBootable GUID:48,59,63\"\n' | sfdisk -q $D",
    ),
    made(
        "sgdisk, partitions out of order",
        512,
        Gpt,
        &[1, 2, 3],
        "sgdisk -n 1:100M:+20M -t 1:8300 -n 2:1M:+5M -t 2:EF02 -n 3:40M:+10M -t 3:8E00 -c 3:pv $D",
    ),
    made(
        "parted, GPT",
        512,
        Gpt,
        &[1, 2],
        "parted -s $D mklabel gpt mkpart eins ext4 1MiB 100MiB mkpart zwei linux-swap 100MiB 100% set 1 boot on",
    ),
    made(
        "fdisk, GPT",
        512,
        Gpt,
        &[1, 2],
        "printf 'g\nn\n1\n\n+40M\nt\nuefi\nn\n2\n\n\nw\n' | fdisk $D",
    ),
    made(
        "16 entries",
        512,
        Gpt,
        &[1, 16],
        "printf 'label: gpt\ntable-length: 16\n/dev/x1 : size=10MiB\n/dev/x16 : size=20MiB\n' | sfdisk -q $D",
    ),
    made(
        "56 entries, as Apple's tools leave them",
        512,
        Gpt,
        &[1, 56],
        "printf 'label: gpt\ntable-length: 56\n/dev/x1 : size=10MiB\n/dev/x56 : size=20MiB\n' | sfdisk -q $D",
    ),
    made(
        "256 entries",
        512,
        Gpt,
        &[1, 256],
        "printf 'label: gpt\ntable-length: 256\n/dev/x1 : size=10MiB\n/dev/x256 : size=20MiB\n' | sfdisk -q $D",
    ),
    made(
        "130 entries, which fill no sector",
        512,
        Gpt,
        &[1, 130],
        "printf 'label: gpt\ntable-length: 130\n/dev/x1 : size=10MiB\n/dev/x130 : size=20MiB\n' | sfdisk -q $D",
    ),
    made(
        "entries moved away from the header",
        512,
        Gpt,
        &[1],
        "sgdisk -n 1:1M:+20M -j 40 $D",
    ),
    made(
        "a hybrid MBR",
        512,
        Gpt,
        &[1, 2, 3],
        "sgdisk -n 1:1M:+20M -t 1:EF00 -n 2:0:+40M -t 2:0700 -n 3:0:+40M -h 2:3 $D",
    ),
    made(
        "a hybrid MBR with the guard behind",
        512,
        Gpt,
        &[1, 2],
        "sgdisk -n 1:1M:+20M -t 1:EF00 -n 2:0:+40M -t 2:8300 -h 1:2:EE $D",
    ),
    made(
        "Windows, UEFI",
        512,
        Gpt,
        &[1, 2, 3, 4],
        "sgdisk -a 2048 -n 1:1M:+100M -t 1:EF00 -c '1:EFI system partition' -A 1:set:63 -n 2:0:+16M -t 2:0C01 -c '2:Microsoft reserved partition' -A 2:set:63 -n 3:0:+100M -t 3:0700 -c '3:Basic data partition' -n 4:0:0 -t 4:2700 -A 4:set:0 -A 4:set:63 $D",
    ),
    made(
        "Debian's installer, UEFI",
        512,
        Gpt,
        &[1, 2, 3],
        "parted -s $D mklabel gpt mkpart primary fat32 1MiB 65MiB set 1 boot on mkpart primary ext4 65MiB 200MiB mkpart primary linux-swap 200MiB 255MiB name 1 EFI name 2 '' name 3 ''",
    ),
    made(
        "sgdisk, 4096-byte sectors",
        4096,
        Gpt,
        &[1, 2],
        "sgdisk -n 1:1M:+50M -t 1:EF00 -n 2:0:0 -c 2:daten $D",
    ),
    made(
        "sfdisk, 4096-byte sectors, 16 entries",
        4096,
        Gpt,
        &[1, 9],
        "printf 'label: gpt\ntable-length: 16\n/dev/x1 : size=10MiB\n/dev/x9 : size=20MiB\n' | sfdisk -q $D",
    ),
    made(
        "parted, 4096-byte sectors",
        4096,
        Gpt,
        &[1, 2],
        "parted -s $D mklabel gpt mkpart a ext4 1MiB 100MiB mkpart b ext4 100MiB 200MiB",
    ),
    made(
        "sfdisk, MBR",
        512,
        Mbr,
        &[1, 3],
        "printf 'label: dos\nlabel-id: 0x1234abcd\n/dev/x1 : size=20MiB,type=7,bootable\n/dev/x3 : start=100000,size=77777,type=83\n' | sfdisk -q $D",
    ),
    made(
        "sfdisk, several logical partitions and gaps",
        512,
        Mbr,
        &[1, 5, 6, 7, 8],
        "printf 'label: dos\n1MiB,10MiB,83\n20MiB,200MiB,f\n/dev/x5 : start=21MiB,size=5MiB,type=82\n/dev/x6 : start=40MiB,size=11MiB,type=7\n/dev/x7 : start=80MiB,size=1MiB,type=c\n/dev/x8 : start=120MiB,size=60MiB,type=8e\n' | sfdisk -q $D",
    ),
    made(
        "fdisk, logical partitions",
        512,
        Mbr,
        &[2, 5, 6],
        "printf 'o\nn\ne\n1\n\n+100M\nn\nl\n\n+20M\nn\nl\n\n+30M\nn\np\n2\n\n\na\n2\nw\n' | fdisk $D",
    ),
    made(
        "parted, logical partitions",
        512,
        Mbr,
        &[1, 5, 6, 7],
        "parted -s $D mklabel msdos mkpart primary ext4 1MiB 50MiB mkpart extended 50MiB 100% mkpart logical ext4 51MiB 100MiB mkpart logical linux-swap 101MiB 150MiB mkpart logical ntfs 160MiB 200MiB set 1 boot on",
    ),
    made(
        "parted, a logical partition deleted in the middle",
        512,
        Mbr,
        &[5, 6],
        "parted -s $D mklabel msdos mkpart extended 1MiB 100% mkpart logical ext4 2MiB 50MiB mkpart logical ext4 51MiB 100MiB mkpart logical ext4 101MiB 150MiB rm 6",
    ),
    made(
        "cylinders of old: the first partition at sector 63",
        512,
        Mbr,
        &[1, 5],
        "printf 'label: dos\n63,40000,b,*\n40131,200000,5\n40194,100000,83\n' | sfdisk -q $D",
    ),
    made(
        "Debian's installer, BIOS: the extended partition at the end",
        512,
        Mbr,
        &[1, 5],
        "printf 'label: dos\n2048,458752,83,*\n462846,61440,5\n462848,61438,82\n' | sfdisk -q $D",
    ),
    made(
        "sfdisk, MBR of 4096-byte sectors",
        4096,
        Mbr,
        &[1, 5, 6],
        "printf 'label: dos\n256,4096,83\n8192,40000,5\n/dev/x5 : start=8448,size=2560,type=82\n/dev/x6 : start=20480,size=2560,type=83\n' | sfdisk -q $D",
    ),
];

/// A file, or a loop device of it where sectors are large.
struct Held {
    path: PathBuf,
    device: Option<Loop>,
}

impl Held {
    fn new(path: PathBuf, sector: u32) -> Self {
        let device = (sector != 512).then(|| Loop::with_sectors(&path, sector));
        Self { path, device }
    }

    fn node(&self) -> &Path {
        self.device.as_ref().map_or(&self.path, |held| &held.device)
    }
}

/// All that four tools say of a disk.
fn says(disk: &Held, made: &Made) -> String {
    let Made { name, kind, .. } = *made;
    let node = disk.node().to_str().unwrap();
    let mut all = Vec::new();
    let mut ask = |program: &str, arguments: &[&str]| {
        let (status, text) = try_run(program, arguments);
        assert_eq!(status, Some(0), "{name}: {program}: {text}");
        all.push(text.replace(node, "DISK"));
    };
    ask("sfdisk", &["--dump", node]);
    ask("sfdisk", &["--verify", node]);
    ask("fdisk", &["--list", node]);
    ask("parted", &["-s", node, "unit", "s", "print"]);
    if kind == Gpt {
        ask("sgdisk", &["--verify", node]);
        ask("sgdisk", &["--print-mbr", node]);
    }
    all.join("\n")
}

fn assert_clean(text: &str, kind: TableKind, name: &str) {
    if kind == Gpt {
        assert!(text.contains("No problems found"), "{name}: {text}");
    }
    assert!(text.contains("No errors detected"), "{name}: {text}");
    for complaint in ["mismatch", "corrupt", "Error", "overlap", "not match"] {
        assert!(!text.contains(complaint), "{name}: {complaint}: {text}");
    }
}

fn parsed(disk: &Held, sector: u32) -> ParsedTable {
    let mut file = File::open(disk.node()).unwrap();
    let parsed = ParsedTable::read(&Disk::new(&mut file, SIZE), sector).unwrap();
    parsed.expect("a table")
}

fn write(disk: &Held, pieces: &TableWrites) {
    let file = OpenOptions::new().write(true).open(disk.node()).unwrap();
    for (at, bytes) in pieces.backup.iter().chain(&pieces.primary) {
        file.write_all_at(bytes, *at).unwrap();
    }
    file.sync_all().unwrap();
}

impl Made {
    fn make(&self, dir: &TempDir) -> Held {
        let disk = Held::new(sparse(dir, "made", SIZE), self.sector);
        let shell = format!("set -e; D={}; {}", disk.node().display(), self.script);
        run("sh", &["-c", &shell]);
        disk
    }

    /// Reads the table and has the writer write all of it.
    fn writes(&self, disk: &Held) -> TableWrites {
        let mut parsed = parsed(disk, self.sector);
        assert_eq!(parsed.table.kind, self.kind, "{}", self.name);
        let partitions = parsed.table.partitions.iter();
        let numbers: Vec<u32> = partitions.map(|partition| partition.number).collect();
        assert_eq!(numbers, self.numbers, "{}", self.name);
        if numbers.iter().any(|number| parsed.raw.is_logical(*number)) {
            // A chain that stays as it is needs no writing; this one is written anew.
            parsed.raw.keep_only(&numbers);
        }
        parsed.raw.writes(SIZE).unwrap()
    }
}

#[test]
fn every_tools_table_is_written_back_as_it_was() {
    for made in DISKS {
        let dir = TempDir::new().unwrap();
        let disk = made.make(&dir);
        let before = says(&disk, made);
        let pieces = made.writes(&disk);
        let copy = Held::new(sparse(&dir, "copy", SIZE), made.sector);
        write(&copy, &pieces);
        let after = says(&copy, made);
        assert_eq!(before, after, "{}", made.name);
        assert_clean(&after, made.kind, made.name);
        assert_eq!(
            parsed(&disk, made.sector).table,
            parsed(&copy, made.sector).table
        );
    }
}

#[test]
fn a_gpt_with_one_good_copy_is_repaired() {
    // Bytes from the beginning, or from the end where negative, and what the note says.
    let damages = |sector: i64| {
        [
            (sector + 20, "the primary GPT is damaged"),
            (sector, "the primary GPT is damaged"),
            (2 * sector + 60, "the primary GPT is damaged"),
            (-sector + 20, "the backup GPT is damaged"),
            (-sector, "the backup GPT is damaged"),
            (-sector - 128 * 16 + 60, "the backup GPT is damaged"),
        ]
    };
    let some = ["gap", "a hybrid MBR", "Windows", "sgdisk, 4096"];
    let chosen =
        |made: &&Made| some.iter().any(|part| made.name.contains(part)) && made.kind == Gpt;
    for made in DISKS.iter().filter(chosen) {
        let dir = TempDir::new().unwrap();
        let disk = made.make(&dir);
        let before = says(&disk, made);
        let good = File::open(&disk.path).unwrap();
        for (at, note) in damages(made.sector.into()) {
            let place = if at < 0 {
                SIZE.checked_add_signed(at).unwrap()
            } else {
                at.unsigned_abs()
            };
            let mut bytes = [0; 8];
            good.read_exact_at(&mut bytes, place).unwrap();
            for byte in &mut bytes {
                *byte ^= 0x5a;
            }
            scribble(&disk.path, place, &bytes);
            let found = parsed(&disk, made.sector).table.note;
            assert!(found.contains(note), "{}: {place}: {found:?}", made.name);
            write(&disk, &made.writes(&disk));
            let after = says(&disk, made);
            assert_eq!(before, after, "{}: {place}", made.name);
            assert_clean(&after, made.kind, made.name);
        }
    }
}

/// Bytes, and where they go.
type Damage<'a> = &'a [(u64, &'a [u8])];

#[test]
fn garbage_is_refused_with_its_reason() {
    const GPT: &str = "sgdisk -n 1:1M:+20M -n 2:0:+20M $D";
    const LOGICAL: &str = "printf 'label: dos\n2048,40960,83\n43008,102400,5\n45056,8192,82\n55296,20480,83\n' | sfdisk -q $D";
    let backup = SIZE - 512;
    let cases: [(&str, Damage, &str); 8] = [
        (
            GPT,
            &[(512 + 30, b"x"), (backup + 30, b"x")],
            "both copies of the GPT are damaged",
        ),
        (
            GPT,
            &[(446, &[0; 64])],
            "there is a GPT but no protective MBR",
        ),
        (
            LOGICAL,
            &[(43008 * 512 + 510, b"xx")],
            "an extended boot record is damaged",
        ),
        // The link of the first record leads to itself, the next one out of the extended partition.
        (
            LOGICAL,
            &[(43008 * 512 + 446 + 16 + 8, &[0; 4])],
            "does not end",
        ),
        (
            LOGICAL,
            &[(43008 * 512 + 446 + 16 + 8, &[0, 0, 0, 8])],
            "a link leaves the extended partition",
        ),
        (
            LOGICAL,
            &[(43008 * 512 + 446 + 12, &[0, 0, 0, 8])],
            "a logical partition leaves its extended partition",
        ),
        (
            LOGICAL,
            &[(446 + 12, &[0, 0, 1, 0])],
            "the MBR's partitions overlap",
        ),
        (
            LOGICAL,
            &[(446 + 16 + 4, &[0x83]), (446 + 16 + 12, &[0, 0, 0, 8])],
            "behind the end of the disk",
        ),
    ];
    for (script, damage, reason) in cases {
        let dir = TempDir::new().unwrap();
        let disk = made("garbage", 512, Mbr, &[], script).make(&dir);
        for (at, bytes) in damage {
            scribble(&disk.path, *at, bytes);
        }
        let mut file = File::open(&disk.path).unwrap();
        let why = read(&Disk::new(&mut file, SIZE), 512)
            .unwrap_err()
            .to_string();
        assert!(why.contains(reason), "{reason}: {why}");
    }
}
