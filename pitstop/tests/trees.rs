//! `pitstop tree` from end to end: names on the share, versions, ssh, HTTP, tars and OCI layouts of other tools. As root.

mod common;

use common::{Server, fails, pitstop, run, text};
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn tool(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A server's root with its share, and a small system.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("root/share")).unwrap();
        fs::create_dir_all(at("system/etc")).unwrap();
        fs::create_dir_all(at("system/usr/bin")).unwrap();
        fs::write(at("system/etc/hostname"), "golden\n").unwrap();
        fs::write(
            at("system/etc/os-release"),
            "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n",
        )
        .unwrap();
        fs::write(at("system/usr/bin/large"), vec![3; 3 << 20]).unwrap();
        symlink("usr/bin", at("system/bin")).unwrap();
        Self { folder }
    }

    fn at(&self, path: &str) -> String {
        self.folder.path().join(path).to_str().unwrap().to_owned()
    }

    fn tree(&self, arguments: &[&str]) -> Output {
        let root = self.at("root");
        // What follows a -- is another program's.
        let own = arguments.iter().position(|it| *it == "--");
        let (own, others) = arguments.split_at(own.unwrap_or(arguments.len()));
        run(&[&["tree"], own, &["--root", &root], others].concat())
    }

    fn versions(&self, name: &str) -> Vec<String> {
        let listed = text(&self.tree(&["list", "--json"]));
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let mut trees = listed.as_array().unwrap().iter();
        let tree = trees.find(|tree| tree["name"] == name).unwrap();
        let versions = tree["versions"].as_array().unwrap().iter();
        versions.map(|it| it.as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn versions_follow_each_other_and_none_is_overwritten() {
    let lab = Lab::new();
    let system = lab.at("system");
    text(&lab.tree(&["capture", &system, "web@1"]));
    fs::write(lab.at("system/etc/hostname"), "newer\n").unwrap();
    fs::remove_file(lab.at("system/bin")).unwrap();
    fs::write(lab.at("system/etc/new"), "x").unwrap();
    text(&lab.tree(&["capture", &system, "web@2"]));
    let error = fails(&lab.tree(&["capture", &system, "web@2"]));
    assert!(error.contains("versions are never replaced"), "{error}");
    assert_eq!(lab.versions("web"), ["1", "2"]);
    assert_eq!(text(&lab.tree(&["cat", "web", "/etc/hostname"])), "newer\n");
    assert_eq!(
        text(&lab.tree(&["cat", "web@1", "etc/hostname"])),
        "golden\n"
    );
    let diff = text(&lab.tree(&["diff", "web@1", "web@2"]));
    for line in [
        "- /bin\n",
        "+ /etc/new\n",
        "M /etc/hostname (content, time)\n",
    ] {
        assert!(diff.contains(line), "{diff}");
    }
    text(&lab.tree(&["verify", "web@1"]));
    let inspected: serde_json::Value =
        serde_json::from_str(&text(&lab.tree(&["inspect", "web", "--json"]))).unwrap();
    assert_eq!(inspected["meta"]["os"]["id"], "debian");
    assert_eq!(inspected["meta"]["version"], "2");
    // The metadata beside it names the same index.
    let beside = fs::read_to_string(lab.at("root/share/trees/web/2.toml")).unwrap();
    let beside: toml::Table = toml::from_str(&beside).unwrap();
    assert_eq!(
        inspected["meta"]["index"].as_str(),
        beside["index"].as_str()
    );
    assert_eq!(
        fs::read_to_string(lab.at("root/share/trees/web/current")).unwrap(),
        "2\n"
    );

    text(&lab.tree(&["prune", "web", "--keep", "1", "--dry-run"]));
    assert_eq!(lab.versions("web").len(), 2);
    // What was killed has left one, and somebody writes another.
    let part = |name: &str| format!("{}/{name}.tar.gz.part", lab.at("root/share/trees/web"));
    for name in ["left", "busy"] {
        fs::write(part(name), "half").unwrap();
    }
    tool(Command::new("touch").args(["-d", "2 days ago", &part("left")]));
    text(&lab.tree(&["prune", "web", "--keep", "1"]));
    assert_eq!(lab.versions("web"), ["2"]);
    assert!(!Path::new(&part("left")).exists() && Path::new(&part("busy")).exists());
    assert!(!Path::new(&lab.at("root/share/trees/web/1.toml")).exists());
    let error = fails(&lab.tree(&["cat", "nothing", "x"]));
    assert!(error.contains("there is no tree nothing"), "{error}");
}

#[test]
fn a_version_does_not_hold_itself_not_even_the_first() {
    let lab = Lab::new();
    let all = lab.at("");
    for version in ["web@1", "web@2"] {
        text(&lab.tree(&["capture", &all, version]));
        let listed = text(&lab.tree(&["list", version]));
        assert!(listed.contains("/system/etc/hostname"), "{listed}");
        assert!(!listed.contains(".part"), "{listed}");
    }
    assert!(text(&lab.tree(&["list", "web@2"])).contains("/root/share/trees/web/1.tar.gz\n"));
}

#[test]
fn versions_leave_by_their_age_and_not_by_their_names() {
    let lab = Lab::new();
    let system = lab.at("system");
    let about = |version: u32| lab.at(&format!("root/share/trees/web/{version}.toml"));
    for version in 1..=11 {
        text(&lab.tree(&["capture", &system, &format!("web@{version}")]));
        // As if each was made a day after the one before.
        let text = fs::read_to_string(about(version)).unwrap();
        let mut meta: toml::Table = toml::from_str(&text).unwrap();
        let created = format!("2026-11-{version:02}T08:00:00Z");
        meta.insert("created".into(), created.into());
        fs::write(about(version), toml::to_string(&meta).unwrap()).unwrap();
    }
    // Of these two nobody knows how old they are.
    fs::remove_file(about(2)).unwrap();
    fs::write(about(3), "format = 1\ncreated = \"long ago\"\n").unwrap();
    let names = ["2", "3", "1", "4", "5", "6", "7", "8", "9", "10", "11"];
    assert_eq!(lab.versions("web"), names);
    let output = lab.tree(&["prune", "web", "--keep", "3"]);
    text(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    for kept in ["web@2 is kept", "web@3 is kept"] {
        assert!(told.contains(kept), "{told}");
    }
    assert_eq!(lab.versions("web"), ["2", "3", "9", "10", "11"]);
}

#[test]
fn a_file_is_unpacked_listed_and_refused_where_it_must_be() {
    let lab = Lab::new();
    let (system, image, back) = (lab.at("system"), lab.at("x.tar.gz"), lab.at("back"));
    text(&lab.tree(&["capture", &system, &image]));
    assert!(Path::new(&lab.at("x.tar.gz.toml")).exists());
    let error = fails(&lab.tree(&["capture", &system, &image]));
    assert!(error.contains("--force"), "{error}");
    text(&lab.tree(&["extract", &image, &back]));
    tool(Command::new("diff").arg("-r").arg(&system).arg(&back));
    let error = fails(&lab.tree(&["extract", &image, &back]));
    assert!(error.contains("is not empty"), "{error}");
    let listed = text(&lab.tree(&["list", &image, "--long"]));
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("lrwxrwxrwx") && line.ends_with("/bin -> usr/bin")),
        "{listed}"
    );
    // Commands for disks say what it is, and the other way round.
    let error = fails(&run(&["inspect", &image]));
    assert!(error.contains("pitstop tree"), "{error}");
    // What somebody without root cannot do is told before it is begun.
    fs::set_permissions(lab.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("setpriv");
    let output = command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(pitstop().get_program())
        .args(["tree", "extract", &image, &lab.at("mine")])
        .output()
        .unwrap();
    assert!(fails(&output).contains("needs root"));
    assert!(!Path::new(&lab.at("mine")).exists());
}

#[test]
fn an_image_is_read_and_written_over_http() {
    let lab = Lab::new();
    let server = Server::start_in(Path::new(&lab.at("root")), &[]);
    let share = format!("http://{}/share", server.http);
    let url = format!("{share}/x.tar.gz");
    text(&run(&["tree", "capture", &lab.at("system"), &url]));
    text(&run(&["tree", "verify", &url]));
    assert_eq!(
        text(&run(&["tree", "cat", &url, "/etc/hostname"])),
        "golden\n"
    );
    text(&run(&[
        "tree",
        "capture",
        &lab.at("system"),
        "web@1",
        "--share",
        &share,
    ]));
    assert_eq!(
        text(&run(&[
            "tree",
            "cat",
            "web",
            "/etc/hostname",
            "--share",
            &share
        ])),
        "golden\n"
    );
    text(&run(&[
        "tree",
        "extract",
        "web",
        &lab.at("back"),
        "--share",
        &share,
    ]));
    tool(Command::new("diff").args(["-r", &lab.at("system"), &lab.at("back")]));
}

#[test]
fn a_rootfs_of_mmdebstrap_is_imported_and_worked_in() {
    let lab = Lab::new();
    let tar = lab.at("rootfs.tar");
    tool(Command::new("mmdebstrap").args(["--quiet", "--variant=essential", "bookworm", &tar]));
    text(&lab.tree(&["import", &tar, "debian@1"]));
    text(&lab.tree(&["verify", "debian"]));
    let inspected = text(&lab.tree(&["inspect", "debian"]));
    assert!(
        inspected.contains("Debian GNU/Linux 12 (bookworm)"),
        "{inspected}"
    );
    text(&lab.tree(&[
        "shell",
        "debian",
        "--work",
        &lab.at(""),
        "--",
        "sh",
        "-c",
        "echo made > /etc/made; rm /etc/issue; ls /proc/self; /usr/sbin/policy-rc.d; test $? = 101",
    ]));
    let versions = lab.versions("debian");
    assert_eq!(versions.len(), 2, "{versions:?}");
    let diff = text(&lab.tree(&["diff", "debian@1", "debian"]));
    let lines: Vec<&str> = diff
        .lines()
        .filter(|line| !line.starts_with("M /etc (time)"))
        .collect();
    assert_eq!(lines, ["- /etc/issue", "+ /etc/made"], "{diff}");
    let error = fails(&lab.tree(&["shell", "debian", "--work", &lab.at(""), "--", "false"]));
    assert!(error.contains("no version is made"), "{error}");
    assert_eq!(lab.versions("debian").len(), 2);
    // Nothing of it is left where it was unpacked.
    let left = fs::read_dir(lab.at("")).unwrap().filter_map(Result::ok);
    let left: Vec<_> = left
        .filter(|it| {
            it.file_name()
                .to_string_lossy()
                .starts_with("pitstop-shell-")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A layout of two layers: the second one takes `gone` away, and what was in `opaque` before.
fn oci_layout(folder: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let blob = |bytes: &[u8]| -> String {
        let file = blobs.join("new");
        fs::write(&file, bytes).unwrap();
        let sum = Command::new("sha256sum")
            .arg(&file)
            .output()
            .unwrap()
            .stdout;
        let sum = String::from_utf8(sum[..64].to_vec()).unwrap();
        fs::rename(file, blobs.join(&sum)).unwrap();
        format!(r#""digest":"sha256:{sum}","size":{}"#, bytes.len())
    };
    let layer = |files: &[(&str, &str)]| -> Vec<u8> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tar = Command::new("tar")
            .arg("-czC")
            .arg(root.path())
            .arg(".")
            .output()
            .unwrap();
        tar.stdout
    };
    let lower = blob(&layer(&[
        ("kept", "1"),
        ("gone/file", "1"),
        ("opaque/old", "1"),
        ("changed", "old"),
    ]));
    let upper = blob(&layer(&[
        (".wh.gone", ""),
        ("opaque/.wh..wh..opq", ""),
        ("opaque/new", "2"),
        ("changed", "new"),
    ]));
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{{{lower}}},{{{upper}}}]}}"#);
    let manifest = blob(manifest.as_bytes());
    // Two tags of one image.
    fs::write(
        folder.join("index.json"),
        format!(r#"{{"manifests":[{{{manifest}}},{{{manifest}}}]}}"#),
    )
    .unwrap();
}

#[test]
fn layers_of_an_oci_layout_are_laid_over_each_other_and_each_is_proven() {
    let lab = Lab::new();
    let layout = lab.folder.path().join("layout");
    oci_layout(&layout);
    text(&lab.tree(&["import", layout.to_str().unwrap(), "app"]));
    let listed = text(&lab.tree(&["list", "app"]));
    assert_eq!(listed, "/\n/changed\n/kept\n/opaque\n/opaque/new\n");
    assert_eq!(text(&lab.tree(&["cat", "app", "changed"])), "new");
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap().path();
        let whole = fs::read(&blob).unwrap();
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&blob, bytes).unwrap();
        let error = fails(&lab.tree(&["import", layout.to_str().unwrap(), "app"]));
        assert!(error.contains("is damaged"), "{error}");
        fs::write(&blob, whole).unwrap();
    }
    assert_eq!(lab.versions("app").len(), 1);
}

#[test]
fn a_tar_comes_through_a_pipe_as_well() {
    let lab = Lab::new();
    let mut tar = Command::new("tar")
        .args(["-cC", &lab.at("system"), "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = tar.stdout.take().unwrap();
    let root = lab.at("root");
    let made = pitstop()
        .args(["tree", "import", "-", "web", "--root", &root])
        .stdin(pipe)
        .output()
        .unwrap();
    text(&made);
    assert!(tar.wait().unwrap().success());
    assert_eq!(text(&lab.tree(&["cat", "web", "etc/hostname"])), "golden\n");
}

/// In a mount namespace of its own, to `sh`: what other tests have mounted is theirs alone.
const LEAVE_OTHERS: &str = r#"awk '$2 ~ "^/tmp/" { print $2 }' /proc/self/mounts | while read -r point; do umount -l "$point" || true; done"#;

/// An ssh server on the loopback, in a namespace where /root has nothing but its key.
struct Sshd {
    _daemon: Daemon,
    port: u16,
}

impl Sshd {
    fn start(folder: &Path) -> Self {
        let port = free_port();
        tool(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join("key")),
        );
        tool(
            Command::new("dropbearkey")
                .args(["-t", "ed25519", "-f"])
                .arg(folder.join("host")),
        );
        let script = format!(
            "{LEAVE_OTHERS}\nmount -t tmpfs -o mode=700 none /root && mkdir -m 700 /root/.ssh && cp '{0}/key.pub' /root/.ssh/authorized_keys && \
             exec dropbear -F -E -s -p 127.0.0.1:{port} -r '{0}/host' -P '{0}/pid'",
            folder.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        Self {
            _daemon: Daemon::listening(&mut command, port),
            port,
        }
    }
}

#[test]
fn a_machine_is_captured_over_ssh_and_nothing_stays_there() {
    let lab = Lab::new();
    let sshd = Sshd::start(lab.folder.path());
    let options = [
        format!("Port={}", sshd.port),
        format!("IdentityFile={}", lab.at("key")),
        "StrictHostKeyChecking=no".into(),
        "UserKnownHostsFile=/dev/null".into(),
        "BatchMode=yes".into(),
        "LogLevel=ERROR".into(),
    ];
    let mut arguments = vec!["get".to_owned(), "root@127.0.0.1".into(), "web@1".into()];
    for option in options {
        arguments.extend(["--ssh-option".into(), option]);
    }
    arguments.extend([
        "--from".into(),
        lab.at("system"),
        "--exclude".into(),
        "/usr/bin/*".into(),
    ]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    text(&lab.tree(&arguments));
    assert_eq!(
        text(&lab.tree(&["cat", "web", "/etc/hostname"])),
        "golden\n"
    );
    assert!(!text(&lab.tree(&["list", "web"])).contains("large"));
    let beside = fs::read_to_string(lab.at("root/share/trees/web/1.toml")).unwrap();
    assert!(beside.contains("index = \"blake3:"), "{beside}");
    for folder in ["/run", "/dev/shm", "/var/tmp", "/tmp"] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with("pitstop."), "{folder}/{name}");
        }
    }
    let missing = lab.at("nothing");
    let mut arguments = arguments.clone();
    let from = arguments.iter().position(|it| *it == "--from").unwrap() + 1;
    arguments[from] = &missing;
    arguments[2] = "web@2";
    let error = fails(&lab.tree(&arguments));
    assert!(
        error.contains("nothing") && error.contains("over ssh"),
        "{error}"
    );
    assert_eq!(lab.versions("web"), ["1"]);
}
