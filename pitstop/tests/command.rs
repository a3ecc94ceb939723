//! The command line, as a shell sees it.

mod common;

use common::{Server, everything_in, run};
use std::fs;
use std::process::Output;

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("pitstop: error: "), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    for wrong in [
        &[][..],
        &["bakcup"],
        &["serve"],
        &["serve", "--root", "x", "--listen", "nonsense"],
        &["serve", "--root", "x", "--url", "srv"],
        &["host", "set", "10.0.2.300", "backup"],
        &["host", "set", "10.0.2.15", "destroy"],
        &["host", "set", "10.0.2.15"],
        &["host", "set", "--all", "10.0.2.15", "backup"],
        &["host", "clear"],
        &["host", "clear", "--all", "10.0.2.15"],
        &[
            "host",
            "set",
            "10.0.2.15",
            "backup",
            "--on-failure",
            "shout",
        ],
        &["completions", "tcsh"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["host", "set", "--help"], &["--version"]] {
        let output = run(right);
        assert_eq!(output.status.code(), Some(0), "{right:?}");
        assert!(output.stderr.is_empty(), "{right:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).stdout;
        assert!(String::from_utf8_lossy(&script).contains("backup-again") || script.len() > 1000);
    }
}

#[test]
fn a_backup_that_makes_no_sense_is_refused_and_leaves_everything() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("disk"), vec![1; 1 << 20]).unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("there.raw.gz"), b"an image").unwrap();
    let before = everything_in(folder.path());
    for (disk, image, why) in [
        (at("disk"), at("disk"), "is the disk itself"),
        (at("disk"), at("there.raw.gz"), "is there already"),
        (at("disk"), at("none/a.raw.gz"), "none"),
        (at("disk"), "-".into(), "/dev/stdout"),
        (at("disk"), at("sda.zst"), "what is made is gzip"),
        (at("disk"), at("sda.raw"), "ends in .gz"),
        (at("disk"), at("sda.raw.XZ"), "what is made is gzip"),
        (at("empty"), at("new.raw.gz"), "has no bytes"),
        (at("none"), at("new.raw.gz"), "none"),
    ] {
        let told = error(&run(&["backup", &disk, &image]));
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(everything_in(folder.path()), before);
}

#[test]
fn a_restore_that_makes_no_sense_is_refused_and_leaves_everything() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("raw"), vec![1; 2 << 20]).unwrap();
    fs::hard_link(at("raw"), at("link")).unwrap();
    let mut bzip2 = b"BZh91AY&SY".to_vec();
    bzip2.resize(4096, 7);
    fs::write(at("image.bz2"), bzip2).unwrap();
    nix::unistd::mkfifo(
        folder.path().join("pipe").as_path(),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let before = everything_in(folder.path());
    for (image, disk, why) in [
        (at("raw"), at("raw"), "is the image itself"),
        (at("raw"), at("link"), "is the image itself"),
        (
            at("image.bz2"),
            at("new"),
            "is a bzip2 file, which Pitstop does not read",
        ),
        (at("pipe"), at("new"), "is a pipe"),
        (
            at("raw"),
            at("pipe"),
            "neither a block device nor a plain file",
        ),
    ] {
        let told = error(&run(&["restore", &image, &disk]));
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(everything_in(folder.path()), before);
    let seen = run(&["verify", &at("raw")]);
    assert_eq!(seen.status.code(), Some(0));
    let told = String::from_utf8_lossy(&seen.stderr).into_owned();
    assert!(told.contains("it has no checksums"), "{told}");
}

#[test]
fn a_job_is_set_listed_and_cleared() {
    let root = tempfile::tempdir().unwrap();
    let at = |arguments: &[&str]| {
        let root = root.path().to_str().unwrap();
        run(&[&["host"], arguments, &["--root", root]].concat())
    };
    let no_server = error(&at(&["set", "10.0.2.15", "backup"]));
    assert!(no_server.contains("--url or --share"), "{no_server}");
    drop(Server::start_in(
        root.path(),
        &["--url", "http://10.0.2.2:8080"],
    ));

    let set = at(&["set", "10.0.2.15", "backup", "--failure-delay", "30s"]);
    assert!(set.status.success(), "{set:?}");
    let said = String::from_utf8_lossy(&set.stdout);
    assert!(
        said.contains("At its next network boot 10.0.2.15 does: backup"),
        "{said}"
    );
    assert!(
        said.contains("http://10.0.2.2:8080/share/10.0.2.15"),
        "{said}"
    );
    assert!(said.contains("reboots after 30s"), "{said}");
    let file = root.path().join("hosts/0A00020F.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (asked, added) = text.split_once("check-in = ").unwrap();
    assert_eq!(
        asked,
        "# Written by pitstop host set, for 10.0.2.15.\n\
         version = 1\naction = \"backup\"\nshare = \"http://10.0.2.2:8080/share\"\n\
         delete = [\"http://10.0.2.2:8080/hosts/0A00020F.toml\"]\nfailure-delay = \"30s\"\n"
    );
    for part in [
        "\"http://10.0.2.2:8080/check-in/",
        "report = ",
        "report-token = ",
    ] {
        assert!(added.contains(part), "{part}: {added}");
    }
    let again = at(&["set", "10.0.2.15", "refresh-info"]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        said.contains("replaces    the job it had: backup"),
        "{said}"
    );

    let list = at(&["list", "--json"]);
    let jobs: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(jobs[0]["machine"], "10.0.2.15");
    assert_eq!(jobs[0]["action"], "refresh-info");

    assert!(at(&["clear", "10.0.2.15"]).status.success());
    let none = error(&at(&["clear", "10.0.2.15"]));
    assert!(none.contains("10.0.2.15 has no job"), "{none}");
    assert_eq!(everything_in(&root.path().join("hosts")), [""; 0]);
    let list = String::from_utf8(at(&["list"]).stdout).unwrap();
    assert!(list.starts_with("No machine has a job"), "{list}");
}

#[test]
fn addresses_with_commas_between_need_no_fleet_file() {
    let server = Server::start();
    let root = server.path("");
    let root = ["--root", root.to_str().unwrap()];
    let set = |who: &str| run(&[&["host", "set", who, "rescue"][..], &root].concat());
    let both = set("10.0.0.1, 52:54:00:12:34:56,10.0.0.1");
    assert!(both.status.success(), "{both:?}");
    for file in ["0A000001.toml", "01-52-54-00-12-34-56.toml"] {
        assert!(server.path("hosts").join(file).exists(), "{file}");
    }
    let wrong = set("10.0.0.1,nosuch");
    assert!(
        error(&wrong).contains("\"nosuch\" is neither"),
        "{}",
        error(&wrong)
    );
}

#[test]
fn a_root_without_a_share_has_rescues_and_says_what_else_needs() {
    let root = tempfile::tempdir().unwrap();
    drop(Server::start_in(
        root.path(),
        &["--url", "http://10.0.2.2:8080"],
    ));
    fs::remove_dir_all(root.path().join("share")).unwrap();
    let set = |action: &str| {
        let root = root.path().to_str().unwrap();
        run(&["host", "set", "10.0.2.15", action, "--root", root])
    };
    for action in ["restore", "backup"] {
        let told = error(&set(action));
        assert!(told.contains("share, where images are"), "{told}");
    }
    let done = set("rescue");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_job_that_will_fail_is_refused() {
    let server = Server::start();
    let root = server.path("");
    let set = |arguments: &[&str]| {
        let root = root.to_str().unwrap();
        run(&[&["host", "set", "10.0.2.15"], arguments, &["--root", root]].concat())
    };
    let none = error(&set(&["restore"]));
    assert!(none.contains("there is no image of any disk"), "{none}");
    assert!(none.contains("--force"), "{none}");
    server.put("/share/10.0.2.15/sda.raw.gz", b"x");
    assert!(set(&["restore"]).status.success());
    let exists = error(&set(&["backup"]));
    assert!(
        exists.contains("sda.raw.gz") && exists.contains("backup-again"),
        "{exists}"
    );
    assert!(set(&["backup", "--disk", "sdb"]).status.success());
    assert!(set(&["backup-again"]).status.success());
    assert!(set(&["backup", "--force"]).status.success());
    for (arguments, why) in [
        (["--attempts", "0"], "it must be 1 or more"),
        (["--failure-delay", "soon"], "is not a duration"),
        (["--disk", "sreial=1"], "did you mean \"serial\"?"),
    ] {
        let wrong = set(&[&["backup-again"], &arguments[..]].concat());
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}: {wrong:?}");
        let text = String::from_utf8_lossy(&wrong.stderr);
        assert!(text.contains(why), "{arguments:?}: {text}");
    }
    for (arguments, why) in [
        (["--image", "../x"], "must not contain . or .."),
        (["--share", "ftp://x/y"], "key \"share\""),
    ] {
        let wrong = error(&set(&[&["backup-again"], &arguments[..]].concat()));
        assert!(wrong.contains(why), "{arguments:?}: {wrong}");
    }
    assert_eq!(everything_in(&server.path("hosts")), ["0A00020F.toml"]);
    let nowhere = error(&run(&["host", "list", "--root", "/nowhere"]));
    assert!(nowhere.contains("opening /nowhere"), "{nowhere}");
}

#[test]
fn a_root_has_one_server() {
    let server = Server::start();
    let (root, before) = (
        server.path(""),
        fs::read(server.path("server.toml")).unwrap(),
    );
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--tftp",
        "off",
        "--root",
    ];
    let second = run(&[&serve[..], &[root.to_str().unwrap()]].concat());
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("waiting for it to end"), "{said}");
    assert!(
        said.contains("pitstop: error: another pitstop serve has"),
        "{said}"
    );
    // Machines go on to the first.
    assert_eq!(fs::read(server.path("server.toml")).unwrap(), before);
}

#[test]
fn a_server_that_cannot_listen_says_so() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let serve = |arguments: &[&str]| run(&[&["serve", "--root", root], arguments].concat());
    let http = error(&serve(&["--listen", &server.http.to_string()]));
    assert!(
        http.contains(&format!("listening on {} for HTTP", server.http)),
        "{http}"
    );
    let taken = server.tftp.to_string();
    let tftp = error(&serve(&["--listen", "127.0.0.1:0", "--tftp", &taken]));
    assert!(
        tftp.contains(&format!("listening on {taken} for TFTP")),
        "{tftp}"
    );
    let boot = error(&serve(&["--listen", "127.0.0.1:0", "--boot", "/nowhere"]));
    assert!(boot.contains("looking for the folder /nowhere"), "{boot}");
}
