//! Outputs that are no plain files: nothing takes their place.

mod common;

use common::{Server, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Bench {
    folder: tempfile::TempDir,
    disk: String,
    image: String,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (disk, image) = (at("disk"), at("image.gz"));
        fs::write(&disk, vec![7; 1 << 20]).unwrap();
        let made = run(&["backup", &disk, &image]);
        assert!(made.status.success(), "{}", told(&made));
        Self {
            folder,
            disk,
            image,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A device of its own that takes nothing, as `/dev/full`: nobody else's is harmed.
    fn full(&self, name: &str) -> String {
        self.device(name, ["c", "1", "7"])
    }

    fn device(&self, name: &str, numbers: [&str; 3]) -> String {
        let made = Command::new("mknod")
            .arg(self.at(name))
            .args(numbers)
            .status();
        assert!(made.unwrap().success(), "this test needs root");
        self.at(name)
    }
}

/// As `head` closes it: nothing failed.
#[test]
fn who_closes_the_output_has_what_he_wants() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("system")).unwrap();
    fs::write(bench.path("system/large"), vec![7; 1 << 20]).unwrap();
    for number in 0..4000 {
        fs::write(bench.path(&format!("system/{number:0>200}")), "").unwrap();
    }
    let (system, tree) = (bench.at("system"), bench.at("tree.tar.gz"));
    let made = run(&["tree", "capture", &system, &tree]);
    assert!(made.status.success(), "{}", told(&made));
    for command in [
        &["cat", &tree, "large"][..],
        &["list", &tree],
        &["diff", &tree, &tree],
    ] {
        // One end of a pipe that nobody reads.
        let (_, closed) = std::io::pipe().unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_pitstop"))
            .arg("tree")
            .args(command)
            .stdout(closed)
            .output();
        let ended = ended.unwrap();
        assert_eq!(
            (ended.status.code(), told(&ended)),
            (Some(0), String::new()),
            "{command:?}"
        );
    }
}

/// As when the disk that has the log is full.
#[test]
fn a_log_that_takes_nothing_changes_no_exit_status() {
    let bench = Bench::new();
    let full = bench.full("full");
    let status = |arguments: &[&str]| {
        let log = File::options().write(true).open(&full).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
        command.args(arguments).stderr(log).status().unwrap().code()
    };
    assert_eq!(status(&["restore", &bench.image, &bench.disk]), Some(0));
    assert_eq!(status(&["restore", "nothing.gz", &bench.disk]), Some(1));
    assert_eq!(status(&["restore", &bench.image]), Some(2));
    let (list, root) = (bench.at("list"), bench.at("root"));
    fs::create_dir(&root).unwrap();
    fs::write(
        &list,
        "!client-1 homer 00:11:22:33:44:55 192.168.1.11\n!kernel-1 2.6\n",
    )
    .unwrap();
    let take = ["fleet", "import", &list, "--from", "clients.conf"];
    assert_eq!(status(&[&take[..], &["--root", &root]].concat()), Some(0));
}

#[test]
fn a_server_whose_log_takes_nothing_ends_as_ever() {
    let bench = Bench::new();
    let log = File::options().write(true).open(bench.full("full"));
    let mut server = Server::start_logging(bench.folder.path(), log.unwrap());
    kill(Pid::from_raw(server.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(server.wait(), Some(0));
}

/// An image would have half of what the disk was and half of what it becomes.
#[test]
fn a_disk_is_not_backed_up_while_it_is_restored_nor_the_other_way_round() {
    let bench = Bench::new();
    let again = bench.at("again.gz");
    let held = File::options().write(true).open(&bench.disk).unwrap();
    assert!(pitstop_imaging::disk::lock::take(&held));
    let refused = run(&["backup", &bench.disk, &again]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        told(&refused).contains("disk is being written"),
        "{}",
        told(&refused)
    );
    assert!(!bench.path("again.gz").exists());
    drop(held);
    let held = File::open(&bench.disk).unwrap();
    assert!(pitstop_imaging::disk::lock::share(&held));
    let refused = run(&["restore", &bench.image, &bench.disk]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains("a backup"), "{}", told(&refused));
    let made = run(&["backup", &bench.disk, &again]);
    assert!(made.status.success(), "{}", told(&made));
}

/// It is what another command is making, or a link that leads to what somebody needs.
#[test]
fn the_unfinished_file_of_another_conversion_is_left_alone() {
    let bench = Bench::new();
    let (raw, part) = (bench.at("disk.raw"), bench.path("disk.raw.part"));
    fs::write(&part, b"another's").unwrap();
    let held = File::options().write(true).open(&part).unwrap();
    assert!(pitstop_imaging::disk::lock::take(&held));
    let convert = || run(&["convert", &bench.image, &raw]);
    let refused = told(&convert());
    assert!(refused.contains("is writing"), "{refused}");
    assert!(refused.contains("disk.raw.part"), "{refused}");
    assert_eq!(fs::read(&part).unwrap(), b"another's");
    fs::remove_file(&part).unwrap();
    symlink(&bench.disk, &part).unwrap();
    let refused = told(&convert());
    assert!(refused.contains("no plain file"), "{refused}");
    fs::remove_file(&part).unwrap();
    // What a command that was killed has left goes.
    fs::write(&part, b"left").unwrap();
    let made = convert();
    assert!(made.status.success(), "{}", told(&made));
    assert!(!part.exists());
    assert!(fs::read(&raw).unwrap() == fs::read(&bench.disk).unwrap());
}

fn is_device(path: &str) -> bool {
    fs::symlink_metadata(path)
        .unwrap()
        .file_type()
        .is_char_device()
}

#[test]
fn a_device_stays_one_and_what_it_does_not_take_is_an_error() {
    let bench = Bench::new();
    let full = bench.full("full.img");
    let converted = run(&["convert", &bench.image, &full, "--force"]);
    assert_eq!(converted.status.code(), Some(1));
    assert!(
        told(&converted).contains("is not a plain file"),
        "{}",
        told(&converted)
    );
    assert!(is_device(&full));
    fs::write(bench.path("fleet.toml"), "version = 1\n").unwrap();
    let root = bench.at("");
    let made = run(&["fleet", "generate", "hosts", "-o", &full, "--root", &root]);
    assert_eq!(made.status.code(), Some(1), "{}", told(&made));
    assert!(told(&made).contains("No space left"), "{}", told(&made));
    assert!(is_device(&full));
    // A loop device that nobody has: only its name is looked at.
    let disk = bench.device("disk.dev", ["b", "7", "250"]);
    let made = run(&["fleet", "generate", "hosts", "-o", &disk, "--root", &root]);
    assert_eq!(made.status.code(), Some(1), "{}", told(&made));
    assert!(
        told(&made).contains("is not a plain file"),
        "{}",
        told(&made)
    );
    let found = fs::symlink_metadata(&disk).unwrap();
    assert!(found.file_type().is_block_device());
}

#[test]
fn what_makes_a_file_writes_to_standard_output_too() {
    let bench = Bench::new();
    let table = Command::new("sfdisk")
        .args(["-q", &bench.disk])
        .stdin(Stdio::from(File::open(bench.table()).unwrap()))
        .status();
    assert!(table.unwrap().success());
    let layout = run(&["layout", "capture", &bench.disk, "-o", "/dev/stdout"]);
    assert!(layout.status.success(), "{}", told(&layout));
    let text = String::from_utf8_lossy(&layout.stdout);
    assert!(text.contains("table = \"mbr\""), "{text}");
    fs::write(bench.path("fleet.toml"), "version = 1\n").unwrap();
    let root = bench.at("");
    let to = |out: &[&str]| {
        let words = ["fleet", "generate", "hosts", "--root", &root];
        let made = run(&[&words[..], out].concat());
        assert!(made.status.success(), "{}", told(&made));
        made.stdout
    };
    assert!(to(&["-o", "/dev/stdout"]) == to(&[]));
}

impl Bench {
    fn table(&self) -> PathBuf {
        let table = self.path("table");
        fs::write(&table, "label: dos\n,,83\n").unwrap();
        table
    }
}

#[test]
fn a_link_is_followed_and_one_that_leads_nowhere_is_refused() {
    let bench = Bench::new();
    let link = bench.at("link.img");
    symlink(bench.path("real.img"), &link).unwrap();
    let packed = bench.at("link.raw.gz");
    symlink(bench.path("real.raw.gz"), &packed).unwrap();
    let nowhere = run(&["backup", &bench.disk, &packed]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(told(&nowhere).contains("what it leads to is not there"));
    assert!(Path::new(&packed).is_symlink() && !bench.path("real.raw.gz").exists());
    let nowhere = run(&["convert", &bench.image, &link]);
    assert!(told(&nowhere).contains("what it leads to is not there"));
    assert!(Path::new(&link).is_symlink() && !bench.path("real.img").exists());
    fs::write(bench.path("fleet.toml"), "version = 1\n").unwrap();
    let root = bench.at("");
    let nowhere = run(&["fleet", "generate", "hosts", "-o", &link, "--root", &root]);
    assert!(told(&nowhere).contains("what it leads to is not there"));
    assert!(Path::new(&link).is_symlink() && !bench.path("real.img").exists());
    fs::write(bench.path("real.img"), "old").unwrap();
    let converted = run(&["convert", &bench.image, &link, "--force"]);
    assert!(converted.status.success(), "{}", told(&converted));
    assert!(Path::new(&link).is_symlink());
    assert!(fs::read(bench.path("real.img")).unwrap() == fs::read(&bench.disk).unwrap());
}

#[test]
fn an_image_takes_its_name_once_its_description_is_there() {
    let bench = Bench::new();
    let server = FakeServer::start();
    let url = server.url("/share/sda.raw.gz");
    let (image, about) = ("/share/sda.raw.gz", "/share/sda.raw.gz.toml");
    server.put(image, b"the image before");
    server.put(about, b"of the image before");
    let backup = || run(&["backup", "--force", &bench.disk, url.as_str()]);
    server.fail(&format!("PUT {about}.part"), Fault::Status(507));
    let refused = backup();
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    let names = [image, about].map(str::to_owned);
    assert_eq!(server.names(), names);
    assert_eq!(server.get(image).unwrap(), b"the image before");
    assert_eq!(server.get(about).unwrap(), b"of the image before");
    let done = backup();
    assert!(done.status.success(), "{}", told(&done));
    assert!(server.get(image).unwrap().starts_with(&[0x1f, 0x8b]));
    let about = String::from_utf8(server.get(about).unwrap()).unwrap();
    assert!(about.contains("chunk"), "{about}");
    assert_eq!(server.names(), names);
}

#[test]
fn the_name_of_a_folder_is_no_name_of_an_image() {
    let bench = Bench::new();
    let folder = bench.at("images/");
    let refused = run(&["backup", &bench.disk, &folder]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        told(&refused).contains("is the name of a folder"),
        "{}",
        told(&refused)
    );
    assert!(!bench.path("images").exists());
}

#[test]
fn a_file_that_is_called_as_a_note_would_be_stays() {
    let bench = Bench::new();
    let beside = bench.path("again.gz.levels");
    fs::write(&beside, "mine").unwrap();
    let made = run(&["backup", &bench.disk, &bench.at("again.gz")]);
    assert!(made.status.success(), "{}", told(&made));
    assert_eq!(fs::read_to_string(&beside).unwrap(), "mine");
}

#[test]
fn what_is_printed_and_nobody_gets_is_a_failure() {
    let bench = Bench::new();
    let torrent = ["torrent", &bench.image, "--tracker", "http://127.0.0.1:1/"];
    for arguments in [&["backup", "--help"][..], &torrent] {
        let shown = common::pitstop()
            .args(arguments)
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        assert_eq!(shown.status.code(), Some(1));
        assert!(told(&shown).contains("No space left"), "{}", told(&shown));
    }
}
