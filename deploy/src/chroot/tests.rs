use super::lent::POLICY;
use super::*;
use crate::test_tree::{Told, put, script, text, tree, with_shell};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SOON: Duration = Duration::from_secs(180);

fn shell(lines: &str) -> Call {
    Call {
        label: "test".into(),
        ..Call::new("/bin/sh", &["-c", lines], SOON)
    }
}

fn mounts_below(path: &Path) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.matches(path.to_str().unwrap()).count()
}

#[test]
fn a_program_finds_a_system_around_it_and_nothing_of_ours() {
    let (folder, root) = tree(&[("etc/resolv.conf", "of the tree\n"), ("usr/bin/dpkg", "")]);
    with_shell(&root);
    put(root.path(), "usr/bin/os-prober", "x");
    fs::set_permissions(
        root.path().join("usr/bin/os-prober"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let chroot = Chroot::enter(&root, Some("web1")).unwrap();
    let mut call = shell(
        "echo host $(hostname) pid $(cat /proc/self/stat | grep -c .) home $HOME cwd $PWD lang $LANG
         test -c /dev/null && test -d /sys/class && test -d /proc/1 && echo mounted
         test \"$(stat -L -c %d:%i /proc/1/root/)\" = \"$(stat -c %d:%i /)\" && echo pid 1 is in the tree
         test -x /usr/bin/os-prober || echo no os-prober
         test -d /dev/disk && echo links
         /usr/sbin/policy-rc.d; echo policy $?
         cat /run/pitstop/note; stat -c %a /run/pitstop/note
         echo given $GIVEN pitstop ${CARGO:-none}
         grep -c ' / ' /proc/self/mountinfo >/dev/null && echo root is a mount
         ls /
         touch /run/x /tmp/y /left",
    );
    call.files.push(Given {
        name: "note".into(),
        mode: 0o600,
        bytes: b"a note\n".to_vec(),
    });
    call.environment.push(("GIVEN".into(), "this".into()));
    let told = Told::default();
    chroot.run(&call, &told).unwrap();
    for line in [
        "test: host web1 pid 1 home /root cwd / lang C.UTF-8",
        "test: mounted",
        "test: no os-prober",
        "test: links",
        "test: policy 101",
        "test: a note",
        "test: 600",
        "test: given this pitstop none",
        "test: root is a mount",
    ] {
        assert!(told.has(line), "{line}: {:#?}", told.lines());
    }
    assert!(!told.has("pid 1 is in the tree"), "{:#?}", told.lines());
    // What it wrote to the tree stays, what was around it is gone.
    assert!(root.path().join("left").exists());
    for gone in [
        "run/x",
        "run/pitstop",
        "tmp/y",
        "usr/sbin/policy-rc.d",
        "dev/disk",
    ] {
        assert!(!root.path().join(gone).exists(), "{gone}");
    }
    assert_eq!(mounts_below(folder.path()), 0);
    assert_eq!(text(&root, "etc/resolv.conf"), "of the tree\n");
}

#[test]
fn programs_of_the_system_that_runs_find_it_as_it_is() {
    let root = Root::new("/".into());
    let chroot = Chroot::enter(&root, None).unwrap();
    let mut call =
        shell("cat /run/pitstop/note; pwd; test -e /proc/self/exe && cat /proc/self/mountinfo");
    call.files.push(Given {
        name: "note".into(),
        mode: 0o600,
        bytes: b"a note\n".to_vec(),
    });
    let told = Told::default();
    chroot.run(&call, &told).unwrap();
    for line in ["test: a note", "test: /", " /run/pitstop rw"] {
        assert!(told.has(line), "{line}: {:#?}", told.lines());
    }
    assert!(!Path::new("/run/pitstop/note").exists());
    assert_eq!(mounts_below(Path::new("/run/pitstop")), 0);
}

#[test]
fn a_status_and_a_program_that_is_missing_are_told() {
    let (_folder, root) = tree(&[]);
    with_shell(&root);
    let chroot = Chroot::enter(&root, None).unwrap();
    let fails = |call: &Call| format!("{:#}", chroot.run(call, &Told::default()).unwrap_err());
    assert_eq!(fails(&shell("exit 3")), "test ended with status 3");
    assert_eq!(fails(&shell("kill -9 $$")), "test was ended by signal 9");
    let error = fails(&Call::new("/sbin/nothing", &[], SOON));
    assert_eq!(
        error,
        "starting nothing: running /sbin/nothing: No such file or directory (os error 2)"
    );
    assert!(chroot.has("/bin/sh") && !chroot.has("/sbin/nothing"));
}

#[test]
fn what_runs_too_long_is_ended_with_all_that_it_started() {
    let (folder, root) = tree(&[]);
    with_shell(&root);
    let chroot = Chroot::enter(&root, None).unwrap();
    let mut call = shell(
        "setsid sh -c 'while true; do echo x >>/beat; sleep 0.05; done' & \
         while ! test -s /beat; do sleep 0.05; done; echo begun; sleep 1000",
    );
    // On a busy computer it may take longer than that until it begins.
    let begins = [700, 10_000, 100_000].into_iter().any(|limit| {
        call.limit = Duration::from_millis(limit);
        let told = Told::default();
        let error = chroot.run(&call, &told).unwrap_err().to_string();
        assert!(error.starts_with("test did not end within "), "{error}");
        told.has("test: begun")
    });
    assert!(begins);
    let beats = text(&root, "beat").len();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(text(&root, "beat").len(), beats, "it still runs");
    assert_eq!(mounts_below(folder.path()), 0);
}

#[test]
fn a_daemon_does_not_outlive_its_program_and_one_without_output_is_waited_for() {
    let (_folder, root) = tree(&[]);
    with_shell(&root);
    let chroot = Chroot::enter(&root, None).unwrap();
    let daemon = "setsid sh -c 'while true; do echo x >>/beat; sleep 0.05; done' >/dev/null 2>&1 & \
                  while ! test -s /beat; do sleep 0.05; done";
    chroot.run(&shell(daemon), &Told::default()).unwrap();
    let beats = text(&root, "beat").len();
    assert!(beats > 0);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(text(&root, "beat").len(), beats, "it still runs");
    let quiet = shell("exec >/dev/null 2>&1; sleep 0.3; touch /done; exit 4");
    let error = chroot.run(&quiet, &Told::default()).unwrap_err();
    assert_eq!(error.to_string(), "test ended with status 4");
    assert!(root.path().join("done").exists());
}

/// Where the process below, which is this test again, finds its tree.
const OTHER: &str = "PITSTOP_TEST_ROOT";

/// Runs a program of the tree for ever.
fn forever(root: PathBuf) {
    let root = Root::new(root);
    let chroot = Chroot::enter(&root, None).unwrap();
    let beats = "while true; do echo x >>/beat; sleep 0.05; done";
    chroot.run(&shell(beats), &Told::default()).unwrap();
}

#[test]
fn nothing_is_left_when_this_process_is_killed() {
    if let Some(root) = std::env::var_os(OTHER) {
        return forever(root.into());
    }
    let (folder, root) = tree(&[("usr/bin/dpkg", "")]);
    with_shell(&root);
    let own = "chroot::tests::nothing_is_left_when_this_process_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own])
        .env(OTHER, root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let beat = root.path().join("beat");
    let began = Instant::now();
    while !beat.exists() {
        assert!(began.elapsed() < SOON, "it does not begin");
        thread::sleep(LOOK);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // It ends a moment later.
    let beats = || text(&root, "beat").len();
    let is_over = || {
        let before = beats();
        thread::sleep(Duration::from_millis(300));
        beats() == before && mounts_below(folder.path()) == 0
    };
    while !is_over() {
        assert!(began.elapsed() < SOON * 2, "it still runs");
    }
    // An empty file that is no program may be left; the next run takes it away.
    chroot_true(&root);
    assert!(!root.path().join(POLICY).exists());
}

fn chroot_true(root: &Root) {
    let chroot = Chroot::enter(root, None).unwrap();
    chroot
        .run(&Call::new("/bin/true", &[], SOON), &Told::default())
        .unwrap();
}

#[test]
fn a_policy_of_the_trees_own_comes_back_and_a_tree_whose_dev_is_a_link_is_refused() {
    let (_folder, root) = tree(&[("usr/bin/dpkg", "")]);
    with_shell(&root);
    script(&root, POLICY, "exit 7");
    let chroot = Chroot::enter(&root, None).unwrap();
    let told = Told::default();
    chroot
        .run(&shell("/usr/sbin/policy-rc.d; echo policy $?"), &told)
        .unwrap();
    assert!(told.has("policy 101"));
    assert_eq!(text(&root, POLICY), "#!/bin/sh\nexit 7\n");

    let (_folder, root) = tree(&[]);
    with_shell(&root);
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
    };
    link("var/tmp", "tmp");
    chroot_true(&root);
    std::fs::remove_dir(root.path().join("dev")).unwrap();
    link("/dev", "dev");
    let chroot = Chroot::enter(&root, None).unwrap();
    let error = chroot.run(&shell("true"), &Told::default()).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.ends_with("dev is a symlink: nothing of this tree can be run"),
        "{error}"
    );
}
