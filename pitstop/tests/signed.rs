//! Signed jobs from the admin's side. What is signed here, minisign itself checks, and the other way round.

mod common;

use common::{Server, pitstop, run};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "7F000001.toml";

fn minisign(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("minisign")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the package minisign is installed")
}

fn works(output: &Output) -> String {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    said
}

fn fails(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{why:?} is not in {said:?}");
}

/// Runs `pitstop` with a password on its standard input.
fn with_password(password: &str, arguments: &[&str]) -> Output {
    let mut child = pitstop()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{password}").unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn keys_are_minisigns_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    works(&run(&["key", "new", &at("ours"), "--no-password"]));
    let mode = fs::metadata(at("ours.sec")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::write(at("f"), "text").unwrap();
    works(&minisign(
        folder.path(),
        &["-S", "-W", "-s", "ours.sec", "-m", "f"],
    ));
    works(&minisign(
        folder.path(),
        &["-V", "-p", "ours.pub", "-m", "f"],
    ));

    // The public half of either program's secret key.
    works(&minisign(
        folder.path(),
        &["-G", "-W", "-p", "theirs.pub", "-s", "theirs.sec"],
    ));
    for name in ["ours", "theirs"] {
        for end in ["sec", "pub"] {
            let shown = run(&["key", "show", &at(&format!("{name}.{end}"))]);
            works(&shown);
            let key = fs::read_to_string(at(&format!("{name}.pub"))).unwrap();
            let second = |text: &str| text.lines().nth(1).unwrap().to_owned();
            assert_eq!(
                second(&String::from_utf8(shown.stdout).unwrap()),
                second(&key)
            );
        }
    }
    let before = fs::read(at("ours.sec")).unwrap();
    fails(
        &run(&["key", "new", &at("ours"), "--no-password"]),
        "not overwritten",
    );
    assert_eq!(fs::read(at("ours.sec")).unwrap(), before);
    fails(&run(&["key", "show", &at("f")]), "opening the secret key");
}

#[test]
fn a_key_behind_a_password_opens_with_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    works(&with_password(
        "open sesame",
        &["key", "new", &at("k"), "--password-stdin"],
    ));
    let show = ["key", "show", &at("k.sec"), "--password-stdin"];
    works(&with_password("open sesame", &show));
    fails(&with_password("open barley", &show), "Wrong password");
    fails(&with_password("", &show), "no password");
}

/// A server that knows the machine 127.0.0.1: what it is, its disk, an image of that.
struct Lab {
    server: Server,
    keys: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            server: Server::start(),
            keys: tempfile::tempdir().unwrap(),
        };
        works(&run(&["key", "new", &lab.key("lab"), "--no-password"]));
        let folder = lab.server.path("share/127.0.0.1");
        fs::create_dir_all(&folder).unwrap();
        let machine = "version = 1\n[[machine]]\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\"\n\
                       macs = [\"52:54:00:12:34:56\"]\n[[disk]]\ndevice = \"sda\"\nmodel = \"X\"\nserial = \"QM00001\"\n\
                       wwn = \"\"\ntransport = \"\"\nsize = 1048576\nlogical-sector-size = 512\nphysical-sector-size = 512\n";
        fs::write(folder.join("machine.toml"), machine).unwrap();
        let disk = lab.keys.path().join("disk");
        fs::write(&disk, vec![7; 1 << 20]).unwrap();
        let image = folder.join("sda.raw.gz");
        works(&run(&[
            "backup",
            disk.to_str().unwrap(),
            image.to_str().unwrap(),
        ]));
        lab
    }

    fn key(&self, name: &str) -> String {
        self.keys.path().join(name).display().to_string()
    }

    fn host(&self, words: &[&str]) -> Output {
        let root = self.server.path("");
        let mut all = vec!["host"];
        all.extend(words);
        all.extend(["--root", root.to_str().unwrap()]);
        run(&all)
    }

    fn sign(&self, more: &[&str]) -> Output {
        let key = self.key("lab.sec");
        let mut all = vec!["set", "127.0.0.1", "restore", "--sign", &key];
        all.extend(more);
        self.host(&all)
    }

    fn hosts(&self) -> Vec<String> {
        common::everything_in(&self.server.path("hosts"))
    }

    /// minisign itself takes the signature that is there.
    fn is_signed(&self) -> String {
        let key = self.key("lab.pub");
        works(&minisign(
            &self.server.path("hosts"),
            &["-V", "-p", &key, "-m", FILE],
        ))
    }
}

#[test]
fn a_job_is_signed_served_checked_in_and_removed_with_its_signature() {
    let lab = Lab::new();
    let said = works(&lab.sign(&[]));
    for part in [
        "This is signed for 127.0.0.1:",
        "for = { uuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\" }",
        "disks = [{ serial = \"QM00001\" }]",
        "digests = { \"sda.raw.gz\" = \"blake3:",
        "not-after = \"2",
        "id = \"2",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(
        lab.is_signed().contains("restore of 127.0.0.1, job 2"),
        "{}",
        lab.is_signed()
    );

    let file = lab.server.get(&format!("/hosts/{FILE}"));
    assert_eq!(file.status, 200);
    assert!(
        !file.text().contains("check-in") && !file.text().contains("report"),
        "{}",
        file.text()
    );
    let signature = lab.server.get(&format!("/hosts/{FILE}.minisig"));
    assert_eq!(signature.status, 200);
    let beside = lab.server.get(&format!("/hosts/{FILE}.unsigned")).text();
    assert!(
        beside.contains("check-in = \"http://") && beside.contains("report-token = "),
        "{beside}"
    );

    // The machine's door is that of the job.
    let id = beside.lines().next().unwrap().rsplit('/').next().unwrap();
    let id = id.trim_end_matches('"');
    let ready = b"{\"version\":1,\"run\":\"20261128-213000-ab1234\",\"state\":\"ready\"}";
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        ready.len()
    );
    let door = lab
        .server
        .request("POST", &format!("/check-in/{id}"), &headers, ready);
    assert!(
        door.text().contains("\"go\""),
        "{} {}",
        door.status,
        door.text()
    );

    assert_eq!(
        lab.server
            .request("DELETE", &format!("/hosts/{FILE}"), "", b"")
            .status,
        204
    );
    assert_eq!(lab.hosts(), [""; 0], "the signature goes with its file");
}

#[test]
fn hooks_of_a_signed_tree_come_into_the_job_that_is_signed() {
    let lab = Lab::new();
    let root = lab.server.path("").display().to_string();
    let system = lab.keys.path().join("system");
    fs::create_dir_all(system.join("etc")).unwrap();
    fs::write(system.join("etc/motd"), "hello\n").unwrap();
    let system = system.display().to_string();
    works(&run(&["tree", "capture", &system, "web", "--root", &root]));
    fs::create_dir_all(lab.server.path("share/hooks")).unwrap();
    fs::write(lab.server.path("share/hooks/a.sh"), "#!/bin/sh\n").unwrap();
    let deploy = ["set", "127.0.0.1", "deploy", "--tree", "web", "--signed"];
    let hook = ["--hook", "hooks/a.sh"];
    fails(
        &lab.host(&[&deploy[..], &hook, &["--disk", "sda"]].concat()),
        "nobody has signed hooks/a.sh",
    );
    let key = lab.key("lab.sec");
    let said = works(&lab.host(&[&deploy[..], &hook, &["--sign", &key]].concat()));
    for part in ["signed = true", "hooks/a.sh\" = \"blake3:"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    lab.is_signed();
}

#[test]
fn what_replaces_or_clears_a_signed_job_leaves_no_signature_behind() {
    let lab = Lab::new();
    works(&lab.sign(&[]));
    works(&lab.host(&["set", "127.0.0.1", "refresh-info"]));
    assert_eq!(lab.hosts(), [FILE]);
    works(&lab.sign(&["--not-after", "+2h", "--for", "mac=52:54:00:12:34:56"]));
    let text = fs::read_to_string(lab.server.path(&format!("hosts/{FILE}"))).unwrap();
    assert!(
        text.contains("for = { mac = \"52:54:00:12:34:56\" }"),
        "{text}"
    );
    works(&lab.host(&["clear", "127.0.0.1"]));
    assert_eq!(lab.hosts(), [""; 0]);

    // A signed job that was withdrawn comes again as it was signed.
    let root = lab.server.path("").display().to_string();
    works(&run(&["job", "retry", "127.0.0.1", "--root", &root]));
    lab.is_signed();
    let again = fs::read_to_string(lab.server.path(&format!("hosts/{FILE}"))).unwrap();
    assert_eq!(again, text);
    assert!(lab.hosts().contains(&format!("{FILE}.unsigned")));
}

#[test]
fn what_a_machine_would_refuse_is_not_signed() {
    let lab = Lab::new();
    fails(
        &lab.sign(&["--every", "0 22 * * *"]),
        "a signed job is done once",
    );
    fails(
        &lab.sign(&["--at", "+2h", "--not-after", "+1h"]),
        "would have expired before it is due",
    );
    fails(
        &lab.sign(&["--disk", "sdz"]),
        "which disk sdz is, nothing tells",
    );
    let key = lab.key("lab.sec");
    let stranger = [
        "set",
        "127.0.0.2",
        "wipe",
        "--method",
        "zero",
        "--disk",
        "serial=X",
        "--sign",
        &key,
    ];
    fails(
        &lab.host(&stranger),
        "nothing tells which machine 127.0.0.2 is",
    );
    let nothing = [
        "set",
        "127.0.0.2",
        "restore",
        "--force",
        "--disk",
        "serial=X",
        "--for",
        "serial=Y",
        "--sign",
        &key,
    ];
    fails(&lab.host(&nothing), "no image with an index");
    fails(
        &lab.host(&["set", "127.0.0.1", "restore", "--sign", "/none.sec"]),
        "opening the secret key /none.sec",
    );
    assert_eq!(lab.hosts(), [""; 0]);
    // By its kernel's name, which becomes what the disk says of itself.
    let said = works(&lab.sign(&["--disk", "sda"]));
    assert!(
        said.contains("disks = [{ serial = \"QM00001\" }]"),
        "{said}"
    );
    // Of an encrypted image no digest can be read here; of a plain one beside it that is signed all the same.
    let folder = lab.server.path("share/127.0.0.1");
    fs::write(folder.join("sdb.raw.gz.age"), "age-encryption.org/v1\n").unwrap();
    works(&lab.sign(&["--disk", "sda", "--force"]));
    fs::remove_file(folder.join("sda.raw.gz")).unwrap();
    fails(
        &lab.sign(&["--disk", "sda", "--force"]),
        "sdb.raw.gz.age is encrypted, and its digest cannot be read here",
    );
}

#[test]
fn a_signed_job_for_later_is_signed_now_and_set_then() {
    let lab = Lab::new();
    let told = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    works(&lab.sign(&["--at", "+3s"]));
    common::wait_until("the job is set", || lab.hosts().len() == 3);
    let file = lab.server.path(&format!("hosts/{FILE}"));
    let set = u64::try_from(fs::metadata(file).unwrap().ctime()).unwrap();
    // Of a second each, parts are left out.
    assert!(set >= told.as_secs() + 2, "{set}, {told:?}");
    lab.is_signed();
}

#[test]
fn images_and_trees_count_with_the_right_signature_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["lab", "other"] {
        works(&run(&["key", "new", &at(name), "--no-password"]));
    }
    let (key, other) = (at("lab.pub"), at("other.pub"));
    fs::create_dir_all(at("root/share")).unwrap();
    fs::create_dir_all(at("system/etc")).unwrap();
    fs::write(at("system/etc/motd"), "hello\n").unwrap();
    let root = at("root");
    let tree = |words: &[&str]| run(&[&["tree"], words, &["--root", &root]].concat());
    // What the command tells to type is what signs.
    let sign = |said: &str| {
        let line = said
            .lines()
            .find_map(|line| line.split_once("to sign it: minisign "));
        let words: Vec<&str> = line.expect("a line to type").1.split_whitespace().collect();
        let words: Vec<&str> = words
            .iter()
            .map(|word| if *word == "KEY.sec" { "lab.sec" } else { word })
            .collect();
        works(&minisign(folder.path(), &[&words[..], &["-W"]].concat()));
    };
    let said = works(&tree(&["capture", &at("system"), "web@1"]));
    fails(
        &tree(&["verify", "web", "--signed-by", &key]),
        "trees/web/1.toml is not signed",
    );
    sign(&said);
    works(&tree(&["verify", "web", "--signed-by", &key]));
    works(&tree(&[
        "verify",
        "web",
        "--signed-by",
        &other,
        "--signed-by",
        &key,
    ]));
    let by_other = ["--signed-by", other.as_str()];
    fails(
        &tree(&[&["verify", "web"], &by_other[..]].concat()),
        "signed with another key",
    );
    let disk = at("disk");
    fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let deploy = ["deploy", "web", &disk, "--yes"];
    fails(
        &tree(&[&deploy[..], &by_other].concat()),
        "signed with another key",
    );
    let update = ["update", "web", &at("system"), "--dry-run"];
    fails(
        &tree(&[&update[..], &by_other].concat()),
        "signed with another key",
    );

    // A file has a name that anybody gives it; what is in it is signed.
    let file = at("web.tar.gz");
    sign(&works(&tree(&["capture", &at("system"), &file])));
    works(&tree(&["verify", &file, "--signed-by", &key]));
    fs::copy(at("root/share/trees/web/1.tar.gz"), &file).unwrap();
    fails(
        &tree(&["verify", &file, "--signed-by", &key]),
        "it is of another image",
    );

    let image = at("sda.raw.gz");
    works(&run(&["backup", &disk, &image]));
    let (verify, restore) = (["verify", &image], ["restore", &image, &at("target")]);
    fails(
        &run(&[&verify[..], &["--signed-by", &key]].concat()),
        "is not signed",
    );
    works(&minisign(
        folder.path(),
        &["-S", "-W", "-s", "lab.sec", "-m", "sda.raw.gz.toml"],
    ));
    works(&run(&[&verify[..], &["--signed-by", &key]].concat()));
    fs::write(at("target"), vec![0; 1 << 20]).unwrap();
    fails(
        &run(&[&restore[..], &by_other].concat()),
        "signed with another key",
    );
    assert_eq!(fs::read(at("target")).unwrap(), vec![0; 1 << 20]);
    works(&run(&[&restore[..], &["--signed-by", &key]].concat()));
    assert_eq!(fs::read(at("target")).unwrap(), vec![7; 1 << 20]);
    fails(
        &run(&[&verify[..], &["--signed-by", &disk]].concat()),
        "no public key of minisign's",
    );
}

#[test]
fn a_plan_refuses_what_a_machine_with_a_key_of_images_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    works(&run(&["key", "new", &at("lab"), "--no-password"]));
    let job = at("job.toml");
    let text = format!(
        "version = 1\naction = \"deploy\"\nshare = \"file://{}\"\ntree = \"web\"\noverrides = [\"layers/a\"]\n",
        folder.path().display()
    );
    fs::write(&job, text).unwrap();
    fails(
        &run(&["plan", "--host-file", &job, "--signed-by", &at("lab.pub")]),
        "folders are not taken",
    );
}
