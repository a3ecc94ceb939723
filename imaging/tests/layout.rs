//! Layouts on plain files, judged by the tools that everybody has: sgdisk, sfdisk, blkid, fsck.
//!
//! Needs gdisk, fdisk, util-linux, e2fsprogs, dosfstools.

use pitstop_imaging::disk::lock;
use pitstop_imaging::event::{Event, Reporter, Silent};
use pitstop_imaging::layout::apply::{apply, compare};
use pitstop_imaging::layout::{Layout, capture, import};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn disk(size: u64) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(size).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

/// Whoever would read the disk meanwhile is kept away, all the time.
struct Alone<'a>(&'a Path);

impl Reporter for Alone<'_> {
    fn event(&self, _: &Event) {
        let reader = File::open(self.0).unwrap();
        assert!(!lock::share(&reader), "a backup can begin");
    }
}

/// Applies twice: the second time there is nothing to do, and not a byte changes.
fn apply_twice(layout: &Layout, path: &str) {
    let path = Path::new(path);
    let changes = compare(layout, path).unwrap();
    assert!(changes.table);
    apply(&changes, path, &Alone(path)).unwrap();
    let before = blake3::hash(&fs::read(path).unwrap());
    let again = compare(layout, path).unwrap();
    assert!(again.is_empty(), "{again:?}");
    apply(&again, path, &Silent).unwrap();
    assert_eq!(blake3::hash(&fs::read(path).unwrap()), before);
}

const GPT: &str = r#"
version = 1
table = "gpt"
id = "11111111-2222-4333-8444-555555555555"

[[partition]]
type = "efi"
size = "40MiB"
name = "EFI system"
filesystem = "vfat"
label = "EFI"
uuid = "1234-ABCD"
flags = ["required"]

[[partition]]
type = "linux"
size = "fill"
name = "wurzel"
filesystem = "ext4"
label = "root"
uuid = "0a0b0c0d-0102-4304-8506-0708090a0b0c"

[[partition]]
type = "swap"
size = "10%"
filesystem = "swap"

[[partition]]
type = "lvm"
size = "20MiB"
"#;

#[test]
fn a_gpt_layout_satisfies_every_tool_and_its_second_time_changes_nothing() {
    let (_folder, path) = disk(256 * MIB);
    // An MBR from before, and noise where a filesystem will be.
    tool("sgdisk", &["-o", "-n", "1:0:0", &path]);
    apply_twice(&Layout::parse(GPT).unwrap(), &path);

    let verdict = tool("sgdisk", &["-v", &path]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    tool("sfdisk", &["--verify", "--no-tell-kernel", &path]);
    let table = tool("sfdisk", &["--dump", &path]);
    for part in [
        "label-id: 11111111-2222-4333-8444-555555555555",
        "name=\"wurzel\"",
        "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        "RequiredPartition",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    for (offset, facts) in [
        (
            MIB,
            ["TYPE=\"vfat\"", "LABEL=\"EFI\"", "UUID=\"1234-ABCD\""],
        ),
        (
            41 * MIB,
            [
                "TYPE=\"ext4\"",
                "LABEL=\"root\"",
                "UUID=\"0a0b0c0d-0102-4304-8506-0708090a0b0c\"",
            ],
        ),
    ] {
        let found = tool("blkid", &["-p", "-O", &offset.to_string(), &path]);
        for fact in facts {
            assert!(found.contains(fact), "{fact}: {found}");
        }
    }
    let content = fs::read(&path).unwrap();
    let start = usize::try_from(41 * MIB).unwrap();
    let root = tempfile::NamedTempFile::new().unwrap();
    fs::write(root.path(), &content[start..]).unwrap();
    tool("e2fsck", &["-fn", root.path().to_str().unwrap()]);
}

#[test]
fn a_description_of_ka_makes_an_mbr_with_logical_partitions() {
    let (_folder, path) = disk(200 * MIB);
    let layout =
        import("linux 40\nswap 20\nextended fill\nlogical linux 30\nlogical type8e fill\n")
            .unwrap();
    apply_twice(&layout, &path);
    let verdict = tool("sfdisk", &["--verify", "--no-tell-kernel", &path]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
    let table = tool("sfdisk", &["--dump", &path]);
    for part in ["type=83", "type=82", "type=f", "type=8e"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(table.contains("img6"), "{table}");
}

#[test]
fn what_is_captured_makes_the_same_disk_again() {
    for (label, script) in [
        ("gpt", "size=10MiB,type=U,name=\"esp\"\nsize=30MiB,type=L\n"),
        (
            "dos",
            "size=10MiB,type=83,bootable\ntype=5\nsize=20MiB,type=82\nsize=5MiB,type=83\n",
        ),
    ] {
        let (_folder, path) = disk(100 * MIB);
        let mut sfdisk = Command::new("/usr/sbin/sfdisk")
            .args(["-q", "--label", label, &path])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let layout = capture(Path::new(&path), true).unwrap();
        let text = layout.to_toml().unwrap();
        let layout = Layout::parse(&text).unwrap();
        assert!(
            compare(&layout, Path::new(&path)).unwrap().is_empty(),
            "{text}"
        );
        let dump = |path: &str| {
            tool("sfdisk", &["--dump", path])
                .replace(path, "disk")
                .lines()
                .filter(|line| !line.starts_with("device") && !line.starts_with("first-lba"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let (_other_folder, other) = disk(100 * MIB);
        apply_twice(&layout, &other);
        assert_eq!(dump(&path), dump(&other));
    }
}

#[test]
fn old_signatures_do_not_show_in_new_partitions() {
    let (_folder, path) = disk(64 * MIB);
    let old = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\n";
    apply_twice(&Layout::parse(old).unwrap(), &path);
    let new = "version = 1\ntable = \"mbr\"\n[[partition]]\ntype = \"raid\"\nsize = \"fill\"\n";
    apply_twice(&Layout::parse(new).unwrap(), &path);
    let found = Command::new("/usr/sbin/blkid")
        .args(["-p", "-O", &MIB.to_string(), &path])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_filesystem_that_was_lost_alone_is_made_anew() {
    let (_folder, path) = disk(64 * MIB);
    let layout = Layout::parse(
        "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"20MiB\"\nfilesystem = \"ext2\"\n\
         [[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"swap\"\nlabel = \"s\"\n",
    )
    .unwrap();
    apply_twice(&layout, &path);
    let mut content = fs::read(&path).unwrap();
    let start = usize::try_from(MIB).unwrap();
    content[start..start + 4096].fill(0);
    fs::write(&path, &content).unwrap();
    let changes = compare(&layout, Path::new(&path)).unwrap();
    assert_eq!(
        (changes.table, changes.filesystems.as_slice()),
        (false, &[1][..])
    );
}

#[test]
fn numbers_that_leave_some_out_stay_what_they_are() {
    for script in [
        "label: gpt\n2: start=2048,size=8192\n5: start=20480,size=8192\n128: start=40960,size=8192\n",
        "label: dos\n1: start=2048,size=8192,type=83\n4: start=20480,size=8192,type=83\n",
    ] {
        let (folder, from) = disk(64 * MIB);
        let made = folder.path().join("script");
        fs::write(&made, script).unwrap();
        tool(
            "sh",
            &["-c", &format!("sfdisk -q {from} < {}", made.display())],
        );
        let layout = capture(Path::new(&from), true).unwrap();
        let layout = Layout::parse(&layout.to_toml().unwrap()).unwrap();
        // The disk itself is as its own layout says: nothing of it is made again.
        assert!(compare(&layout, Path::new(&from)).unwrap().is_empty());
        let (_folder, to) = disk(64 * MIB);
        apply_twice(&layout, &to);
        let table = |disk: &str| {
            let text = tool("sfdisk", &["-d", disk]).replace(disk, "DISK");
            // Where the first partition may begin is the tool's choice.
            let lines = text.lines().filter(|line| !line.starts_with("first-lba"));
            lines.map(str::to_owned).collect::<Vec<String>>()
        };
        assert_eq!(table(&to), table(&from));
    }
    let text = |number: u32| {
        let one = "[[partition]]\ntype = \"linux\"\nsize = \"4MiB\"\n";
        format!("version = 1\ntable = \"gpt\"\n{one}number = 3\n{one}number = {number}\n")
    };
    Layout::parse(&text(9)).unwrap();
    let error = format!("{:#}", Layout::parse(&text(3)).unwrap_err());
    assert!(error.contains("the next one is 4"), "{error}");
    let error = format!("{:#}", Layout::parse(&text(129)).unwrap_err());
    assert!(error.contains("no number 129"), "{error}");
}

#[test]
fn logical_partitions_in_any_order_are_made_as_they_were() {
    let logicals = [
        // As deleting one and making it again leaves them.
        "5: start=50000,size=4096\n6: start=12000,size=4096\n7: start=80000,size=4096\n",
        "5: start=50000,size=4096\n6: start=12000,size=4096\n7: start=80000,size=4096\n8: start=30000,size=2048\n",
    ];
    for script in logicals {
        let (folder, from) = disk(64 * MIB);
        let made = folder.path().join("script");
        let put = |text: &str, option: &str| {
            fs::write(&made, text).unwrap();
            let shell = format!("sfdisk -q {option} {from} < {}", made.display());
            tool("sh", &["-c", &shell]);
        };
        put("label: dos\nstart=8192,size=100000,type=f\n", "");
        put(script, "-a");
        let layout = capture(Path::new(&from), false).unwrap();
        let layout = Layout::parse(&layout.to_toml().unwrap()).unwrap();
        let (_folder, to) = disk(64 * MIB);
        apply_twice(&layout, &to);
        let places = |disk: &str| {
            let text = tool("sfdisk", &["-d", disk]);
            let lines = text.lines().filter(|line| line.contains("start="));
            let lines = lines.map(|line| line.replace(disk, "DISK"));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(places(&to), places(&from));
        let text = tool("sfdisk", &["--verify", &to]);
        assert!(text.contains("No errors detected"), "{text}");
        // The disk itself is as its own layout says.
        assert!(compare(&layout, Path::new(&from)).unwrap().is_empty());
    }
}

#[test]
fn what_a_tool_would_refuse_is_refused_before_the_table_goes() {
    for (filesystem, size, more) in [
        ("xfs", "16MiB", ""),
        ("btrfs", "16MiB", ""),
        ("ntfs", "512KiB", ""),
        ("ext4", "16MiB", "uuid = \"no-uuid\"\n"),
        ("vfat", "16MiB", "uuid = \"no-uuid\"\n"),
        ("swap", "16MiB", "uuid = \"no-uuid\"\n"),
    ] {
        let (_folder, path) = disk(64 * MIB);
        fs::write(&path, vec![7; 64 << 20]).unwrap();
        let text = format!(
            "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"{size}\"\n\
             filesystem = \"{filesystem}\"\n{more}"
        );
        let layout = Layout::parse(&text).unwrap();
        let error = format!("{:#}", compare(&layout, Path::new(&path)).unwrap_err());
        let told = format!("trying whether partition 1 can be {filesystem}: mk");
        assert!(error.contains(&told), "{error}");
    }
}

#[test]
fn no_two_layouts_get_the_same_identifiers() {
    let layout = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"8MiB\"\n";
    let layout = Layout::parse(layout).unwrap();
    let made = || {
        let (_folder, path) = disk(32 * MIB);
        apply(
            &compare(&layout, Path::new(&path)).unwrap(),
            Path::new(&path),
            &Silent,
        )
        .unwrap();
        let exact = capture(Path::new(&path), true).unwrap();
        [exact.id.unwrap(), exact.partitions[0].id.clone().unwrap()]
    };
    let mut all: Vec<String> = (0..8).flat_map(|_| made()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 16);
}
