//! `pitstop tree update` as a person runs it: over the share, cut off at any point, beside apt. As root.

mod common;

use common::{Server, fails, pitstop, run, text};
use pitstop_testing::mounts::unmount;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tool(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    text(&output)
}

const FSTAB: &str = "LABEL=r / ext4 defaults 0 1\nLABEL=b /boot ext4 defaults 0 2\n";

/// A root filesystem and a `/boot` of its own, in files, mounted; and two images elsewhere.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Self { folder };
        for (name, on) in [("root", "machine"), ("boot", "machine/boot")] {
            let file = lab.at(&format!("{name}.img"));
            fs::File::create(&file).unwrap().set_len(128 << 20).unwrap();
            tool(Command::new("mkfs.ext4").arg("-qF").arg(&file));
            fs::create_dir_all(lab.at(on)).unwrap();
            tool(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&file)
                    .arg(lab.at(on)),
            );
        }
        for tree in ["a", "b"] {
            make_tree(&lab.at(tree), tree);
            let image = lab.path(&format!("{tree}.tar.gz"));
            text(&run(&["tree", "capture", &lab.path(tree), &image]));
        }
        lab
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn path(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    /// The machine as the first tree has it, with a record.
    fn deploy(&self) {
        let mut clear = Command::new("find");
        clear.arg(self.at("machine"));
        tool(clear.args(["-mindepth", "1", "!", "-path", "*/boot", "-delete"]));
        // Which filesystems it has, the machine says itself.
        fs::create_dir(self.at("machine/etc")).unwrap();
        fs::write(self.at("machine/etc/fstab"), FSTAB).unwrap();
        tool(
            Command::new("touch")
                .args(["-d", "@1800000000"])
                .arg(self.at("machine/etc/fstab")),
        );
        text(&self.update("a", &["--strangers", "delete", "--changes", "replace"]));
        fs::write(self.at("machine/etc/edited"), "mine").unwrap();
        fs::write(self.at("machine/srv/mine"), "mine").unwrap();
        for path in ["machine/etc/edited", "machine/srv/mine"] {
            tool(
                Command::new("touch")
                    .args(["-d", "@1800000000"])
                    .arg(self.at(path)),
            );
        }
    }

    fn arguments(&self, tree: &str, options: &[&str]) -> Vec<String> {
        let (image, machine) = (self.path(&format!("{tree}.tar.gz")), self.path("machine"));
        let fixed = ["tree", "update", &image, &machine];
        fixed
            .iter()
            .chain(options)
            .map(ToString::to_string)
            .collect()
    }

    fn update(&self, tree: &str, options: &[&str]) -> Output {
        pitstop()
            .args(self.arguments(tree, options))
            .output()
            .unwrap()
    }

    /// Every path with kind, mode, owner, time and content; folders without their times.
    fn state(&self) -> String {
        let script = r#"cd "$1" && find . -path ./lost+found -prune -o -path ./boot/lost+found -prune -o -path ./var/lib/pitstop -prune \
            -o -name .pitstop-update -prune -o -type d -printf '%p %y %m %U:%G\n' -o -type f -printf '%p %y %m %U:%G %n %T@ ' -exec sha256sum '{}' ';' \
            -o -printf '%p %y %m %U:%G %T@ %l\n' | LC_ALL=C sort"#;
        tool(
            Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(self.at("machine")),
        )
    }

    fn is_clean(&self) -> bool {
        ["machine", "machine/boot"]
            .iter()
            .all(|at| !self.at(at).join(".pitstop-update").exists())
    }

    /// Updates until the nth call of `syscall`, where it is killed. Whether it came to that.
    fn cut(&self, syscall: &str, nth: u32) -> bool {
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={syscall}"),
        ]);
        strace.args(["-e", &format!("inject={syscall}:signal=SIGKILL:when={nth}")]);
        strace.arg(pitstop().get_program());
        let output = strace.args(self.arguments("b", &[])).output().unwrap();
        output.status.signal() == Some(9) || output.status.code() == Some(137)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for on in ["machine/boot", "machine"] {
            let _ = Command::new("umount").arg("-l").arg(self.at(on)).status();
        }
    }
}

fn make_tree(root: &Path, tree: &str) {
    let at = |path: &str| root.join(path);
    for folder in ["etc", "boot", "usr/bin", "usr/lib", "srv", "var/lib"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("etc/fstab"), FSTAB).unwrap();
    fs::write(at("etc/edited"), tree).unwrap();
    fs::write(at("etc/same"), "same").unwrap();
    tool(
        Command::new("touch")
            .args(["-d", "@1700000000"])
            .arg(at("etc/same")),
    );
    fs::write(
        at(&format!("boot/vmlinuz-{tree}")),
        vec![tree.as_bytes()[0]; 2 << 20],
    )
    .unwrap();
    fs::write(at("boot/grub.cfg"), format!("menuentry {tree}\n")).unwrap();
    for number in 0..40 {
        let text = if number % 2 == 0 { tree } else { "same" };
        let path = at(&format!("usr/lib/lib{number}.so"));
        fs::write(&path, text.repeat(100 + number)).unwrap();
        if number % 2 == 1 {
            tool(Command::new("touch").args(["-d", "@1700000000"]).arg(&path));
        }
    }
    fs::write(at("usr/bin/su"), tree).unwrap();
    fs::set_permissions(at("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(at("usr/bin/su"), at("usr/bin/sudo")).unwrap();
    symlink(tree, at("usr/bin/current")).unwrap();
    if tree == "a" {
        fs::create_dir_all(at("usr/share/old/deep")).unwrap();
        fs::write(at("usr/share/old/deep/file"), "gone").unwrap();
        fs::write(at("usr/becomes-folder"), "file").unwrap();
        fs::create_dir(at("usr/becomes-file")).unwrap();
        fs::write(at("usr/becomes-file/in-it"), "file").unwrap();
    } else {
        fs::create_dir_all(at("usr/share/new/deep")).unwrap();
        fs::write(at("usr/share/new/deep/file"), "new").unwrap();
        fs::create_dir(at("usr/becomes-folder")).unwrap();
        fs::write(at("usr/becomes-folder/in-it"), "file").unwrap();
        fs::write(at("usr/becomes-file"), "file").unwrap();
    }
}

/// Points of a run that are told apart by what the program asks the kernel for.
const CUTS: [(&str, &[u32]); 5] = [
    // While it stages, and the journal of what was staged.
    ("mkdirat", &[1, 2, 3, 4]),
    ("fsync", &[1, 2, 3, 4]),
    ("syncfs", &[1, 2, 3, 4]),
    // The journal gets its name, then every file its place.
    ("renameat", &[1, 2, 3, 4, 5, 9, 14, 20, 26, 30]),
    ("unlinkat", &[1, 2, 3, 4, 5, 6, 7]),
];

#[test]
fn a_power_cut_at_any_point_leaves_the_old_system_or_is_rolled_forward_to_the_new() {
    let lab = Lab::new();
    lab.deploy();
    let old = lab.state();
    text(&lab.update("b", &[]));
    let new = lab.state();
    assert_ne!(old, new);
    let (mut undecided, mut decided) = (0, 0);
    for (syscall, points) in CUTS {
        for nth in points {
            lab.deploy();
            assert_eq!(lab.state(), old);
            if !lab.cut(syscall, *nth) {
                // It has fewer of these, and ran to its end.
                assert_eq!(lab.state(), new, "{syscall} {nth}");
                continue;
            }
            let journal = lab.at("machine/.pitstop-update/journal");
            if journal.exists() {
                decided += 1;
                let refused = fails(&lab.update("b", &["--dry-run"]));
                assert!(refused.contains("was cut off"), "{refused}");
            } else if lab.state() != new {
                undecided += 1;
                assert_eq!(
                    lab.state(),
                    old,
                    "{syscall} {nth}: changed before it was decided"
                );
            }
            let again = lab.update("b", &[]);
            text(&again);
            assert_eq!(lab.state(), new, "{syscall} {nth}");
            assert!(lab.is_clean(), "{syscall} {nth}");
        }
    }
    assert!(
        undecided >= 6 && decided >= 14,
        "{undecided} before, {decided} after"
    );
}

#[test]
fn only_what_changed_travels_and_nothing_where_nothing_did() {
    let lab = Lab::new();
    lab.deploy();
    let share = lab.at("server/share");
    fs::create_dir_all(&share).unwrap();
    let server = Server::start_in(&lab.at("server"), &[]);
    fs::copy(lab.at("b.tar.gz"), share.join("b.tar.gz")).unwrap();
    let url = format!("http://{}/share/b.tar.gz", server.http);
    let machine = lab.path("machine");
    let planned = text(&run(&[
        "tree",
        "update",
        &url,
        &machine,
        "--dry-run",
        "--json",
    ]));
    let planned: serde_json::Value = serde_json::from_str(&planned).unwrap();
    let size = fs::metadata(lab.at("b.tar.gz")).unwrap().size();
    assert!(planned["bytes"].as_u64().unwrap() < size);
    let act = |path: &str| {
        let paths = planned["paths"].as_array().unwrap();
        let found = paths.iter().find(|it| it["path"] == path);
        found.map(|it| (it["act"].as_str().unwrap(), it["why"].as_str().unwrap()))
    };
    assert_eq!(act("/usr/bin/su"), Some(("place", "changed")));
    assert_eq!(act("/usr/share/old/deep/file"), Some(("delete", "gone")));
    assert_eq!(act("/etc/edited"), Some(("keep", "edited-and-changed")));
    assert_eq!(act("/srv/mine"), Some(("keep", "stranger")));
    assert_eq!(act("/etc/same"), None);
    let done = run(&["tree", "update", &url, &machine]);
    text(&done);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.contains("kept: /etc/edited (edited on the machine, and changed in the tree)"),
        "{said}"
    );
    let before = lab.state();
    let again = run(&["tree", "update", &url, &machine]);
    text(&again);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        said.contains("0 to write") && said.contains("(0 B of"),
        "{said}"
    );
    assert_eq!(lab.state(), before);
}

#[test]
fn an_update_waits_for_nobody_who_installs_and_the_running_system_is_asked_for() {
    let lab = Lab::new();
    lab.deploy();
    let lock = lab.at("machine/var/lib/dpkg/lock-frontend");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    // As dpkg takes it.
    let script = "import fcntl, sys, time\nlock = open(sys.argv[1], 'w')\nfcntl.lockf(lock, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()";
    let mut dpkg = Command::new("python3")
        .args(["-c", script])
        .arg(&lock)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(dpkg.stdout.as_mut().unwrap(), &mut held).unwrap();
    let before = lab.state();
    let error = fails(&lab.update("b", &[]));
    assert!(error.contains("lock-frontend is held"), "{error}");
    assert_eq!(lab.state(), before);
    // Looking is allowed meanwhile.
    text(&lab.update("b", &["--dry-run"]));
    drop(dpkg.stdin.take());
    dpkg.wait().unwrap();
    text(&lab.update("b", &[]));
    let error = fails(&run(&[
        "tree",
        "update",
        &lab.path("b.tar.gz"),
        "--dry-run",
    ]));
    assert!(error.contains("say --live"), "{error}");
}

#[test]
fn a_plan_has_layers_and_hooks_and_what_cannot_be_read_is_refused_before_anything_changes() {
    let lab = Lab::new();
    lab.deploy();
    let before = lab.state();
    for (path, text) in [
        ("layer/etc/one", "1"),
        ("layer/two", "2"),
        ("hook", "#!/bin/sh\ntrue\n"),
        ("windows", "#!/bin/sh\r\ntrue\r\n"),
        ("secrets", "TOKEN=s3cret\n"),
        ("no.tar", "this is no tar"),
    ] {
        fs::create_dir_all(lab.at(path).parent().unwrap()).unwrap();
        fs::write(lab.at(path), text).unwrap();
    }
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(lab.at("layer.tar"));
    tool(tar.arg("-C").arg(lab.at("layer")).arg("."));
    let given = |options: &[(&str, &str)]| -> Vec<String> {
        let pairs = options.iter();
        let words = pairs.flat_map(|(option, file)| [(*option).to_owned(), lab.path(file)]);
        words.collect()
    };
    let update = |given: &[String], more: &[&str]| {
        let given = given.iter().map(String::as_str);
        let options: Vec<&str> = given.chain(more.iter().copied()).collect();
        lab.update("b", &options)
    };
    let all = given(&[
        ("--overrides", "layer"),
        ("--overrides", "layer.tar"),
        ("--hook", "hook"),
        ("--secrets", "secrets"),
    ]);
    let planned = text(&update(&all, &["--dry-run"]));
    for line in [
        format!("\nover it: {} (2 files)\n", lab.path("layer")),
        format!("\nover it: {} (2 files)\n", lab.path("layer.tar")),
        "\nthen runs hook, with secrets\n".to_owned(),
    ] {
        assert!(planned.contains(&line), "{line}: {planned}");
    }
    assert!(!planned.contains("s3cret"), "{planned}");
    let planned = text(&update(&all, &["--dry-run", "--json"]));
    let planned: serde_json::Value = serde_json::from_str(&planned).unwrap();
    assert_eq!(planned["hooks"], serde_json::json!(["hook"]));
    assert_eq!(planned["secrets"], true);
    assert!(planned["paths"].is_array() && planned["overrides"].is_array());
    for (wrong, why) in [
        (given(&[("--overrides", "gone")]), "opening "),
        (given(&[("--overrides", "no.tar")]), "no.tar: "),
        (given(&[("--hook", "gone")]), "reading "),
        (
            given(&[("--hook", "windows")]),
            "the hook windows has lines",
        ),
        (
            given(&[("--hook", "hook"), ("--secrets", "gone")]),
            "reading the secrets ",
        ),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let error = fails(&update(&wrong, more));
            assert!(error.contains(why), "{wrong:?} {more:?}: {error}");
            assert_eq!(lab.state(), before);
            assert!(lab.is_clean());
        }
    }
}

#[test]
fn a_filesystem_that_is_not_mounted_is_missed_and_its_files_go_nowhere_else() {
    let lab = Lab::new();
    lab.deploy();
    unmount(&lab.at("machine/boot")).unwrap();
    let error = fails(&lab.update("b", &[]));
    assert!(error.contains("/boot is not mounted"), "{error}");
    assert_eq!(fs::read_dir(lab.at("machine/boot")).unwrap().count(), 0);
}

/// The commands that a page's section tells, in the order of the page.
fn told(page: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let text = fs::read_to_string(path).unwrap();
    let section = text.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let spans = section.split('`').skip(1).step_by(2);
    let commands = spans.filter(|span| span.starts_with("pitstop tree "));
    commands.map(str::to_owned).collect()
}

#[test]
fn who_comes_from_systemimager_gets_there_by_what_the_page_tells() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let told = told("coming-from.md", "## SystemImager\n");
    let tell = |begin: &str| {
        let found = told.iter().find(|it| it.starts_with(begin));
        found.unwrap_or_else(|| panic!("the page tells no {begin:?}: {told:?}"))
    };
    // What it says, with folders of this test in the place of those of the page.
    let follow = |begin: &str| {
        let command = tell(begin)
            .replace(
                "/var/lib/systemimager/images/web",
                at("images/web").to_str().unwrap(),
            )
            .replace("--live", at("client").to_str().unwrap());
        let mut arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let root = at("root");
        arguments.extend(["--root", root.to_str().unwrap()]);
        text(&run(&arguments))
    };
    fs::create_dir_all(at("root/share")).unwrap();
    make_tree(&at("images/web"), "a");
    follow("pitstop tree import");
    let root = at("root");
    let client = at("client");
    let place = ["--root", root.to_str().unwrap()];
    let extract = ["tree", "extract", "web", client.to_str().unwrap()];
    text(&run(&[&extract[..], &place[..]].concat()));
    follow("pitstop tree update web");
    // A golden machine's folder is edited, and imported again: a version more.
    fs::write(at("images/web/etc/motd"), "new").unwrap();
    fs::write(at("client/etc/same"), "edited").unwrap();
    follow("pitstop tree import");
    follow("pitstop tree update web");
    assert_eq!(fs::read_to_string(at("client/etc/motd")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("client/etc/same")).unwrap(), "edited");
    assert!(follow("pitstop tree list").contains("web"));
    // By ssh it is another test's.
    assert_eq!(
        tell("pitstop tree get root"),
        "pitstop tree get root@golden web"
    );
}

#[test]
fn a_folder_where_nobody_mounted_the_system_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    make_tree(Path::new(&at("a")), "a");
    let (image, machine) = (at("a.tar.gz"), at("mnt"));
    text(&run(&["tree", "capture", &at("a"), &image]));
    fs::create_dir_all(at("mnt/lost+found")).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let output = run(&[&["tree", "update", &image, &machine], more].concat());
        let error = fails(&output);
        assert!(error.contains("there is no system in"), "{error}");
    }
    assert_eq!(fs::read_dir(&machine).unwrap().count(), 1);
}

#[test]
fn what_mkfs_left_on_each_filesystem_is_no_stranger() {
    let lab = Lab::new();
    lab.deploy();
    fs::remove_file(lab.at("machine/srv/mine")).unwrap();
    let left = ["machine/lost+found", "machine/boot/lost+found"].map(|at| lab.at(at));
    for at in &left {
        fs::create_dir_all(at).unwrap();
    }
    text(&lab.update("b", &["--strangers", "fail"]));
    text(&lab.update("b", &["--strangers", "delete"]));
    for at in &left {
        assert!(at.is_dir(), "{}", at.display());
    }
}
