use super::*;
use crate::test_tree::{Told, put, script, text, tree, with_shell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const NEW: IdentityWish = IdentityWish {
    identity: Identity::New,
    hostname: Some("web1"),
};

/// A golden machine: with a shell in it, and an `ssh-keygen` that makes random files.
fn golden() -> (tempfile::TempDir, Root) {
    let (folder, root) = tree(&[
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        (
            "var/lib/dbus/machine-id",
            "0123456789abcdef0123456789abcdef\n",
        ),
        ("etc/hostname", "golden\n"),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n127.0.1.1 golden.lab golden\n",
        ),
        ("etc/mailname", "golden.lab\n"),
        ("etc/ssh/ssh_host_rsa_key", "old"),
        ("etc/ssh/ssh_host_rsa_key.pub", "old"),
        ("etc/ssh/sshd_config", "Port 22\n"),
        ("etc/udev/rules.d/70-persistent-net.rules", "old"),
        ("etc/lvm/devices/system.devices", "old"),
        ("var/lib/dhcp/dhclient.eth0.leases", "default-duid \"old\";"),
        ("var/lib/dhcpcd/duid", "old"),
        ("var/lib/NetworkManager/secret_key", "old"),
        ("var/lib/NetworkManager/internal-1-eth0.lease", "old"),
        ("var/lib/systemd/random-seed", "old"),
        ("var/lib/cloud/instances/i-1/boot-finished", "old"),
        (
            "etc/iscsi/initiatorname.iscsi",
            "InitiatorName=iqn.2001-01.org.example:golden\n",
        ),
        ("etc/nvme/hostnqn", "old"),
        ("etc/nvme/hostid", "old"),
        ("usr/sbin/nvme", ""),
        ("usr/sbin/sshd", ""),
        ("usr/lib/systemd/systemd", ""),
        (
            "boot/loader/entries/0123456789abcdef0123456789abcdef-6.1.conf",
            "title x\n",
        ),
        ("usr/bin/kernel-install", ""),
    ]);
    symlink("i-1", root.path().join("var/lib/cloud/instance")).unwrap();
    with_shell(&root);
    script(
        &root,
        "usr/bin/ssh-keygen",
        "[ \"$1\" = -A ] || exit 9\nread id </proc/sys/kernel/random/uuid\necho $id >/etc/ssh/ssh_host_ed25519_key\necho $id >/etc/ssh/ssh_host_ed25519_key.pub\nhostname",
    );
    (folder, root)
}

#[test]
fn a_clone_shares_nothing_with_its_golden_machine() {
    let (_folder, root) = golden();
    let told = Told::default();
    renew(&root, &NEW, &told).unwrap();
    assert_eq!(text(&root, "etc/machine-id"), "");
    assert_eq!(
        fs::read_link(root.path().join("var/lib/dbus/machine-id")).unwrap(),
        PathBuf::from("/etc/machine-id")
    );
    assert_eq!(text(&root, "etc/hostname"), "web1\n");
    assert_eq!(
        text(&root, "etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1 web1.lab web1\n"
    );
    assert_eq!(text(&root, "etc/mailname"), "web1.lab\n");
    for gone in [
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/lvm/devices/system.devices",
        "var/lib/dhcp/dhclient.eth0.leases",
        "var/lib/dhcpcd/duid",
        "var/lib/NetworkManager/secret_key",
        "var/lib/NetworkManager/internal-1-eth0.lease",
        "var/lib/systemd/random-seed",
        "var/lib/cloud/instances",
        ".autorelabel",
    ] {
        assert!(!root.path().join(gone).exists(), "{gone}");
    }
    assert!(fs::symlink_metadata(root.path().join("var/lib/cloud/instance")).is_err());
    assert_eq!(text(&root, "etc/ssh/sshd_config"), "Port 22\n");
    assert_eq!(
        text(&root, "etc/kernel/entry-token"),
        "0123456789abcdef0123456789abcdef\n"
    );
    assert!(told.has("1 SSH host keys are made"), "{:#?}", told.lines());
    assert!(told.has("ssh-keygen: web1"));
}

#[test]
fn two_clones_differ() {
    let own = [
        "etc/ssh/ssh_host_ed25519_key",
        "etc/iscsi/initiatorname.iscsi",
        "etc/nvme/hostnqn",
        "etc/nvme/hostid",
    ];
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (_folder, root) = golden();
        renew(&root, &NEW, &Told::default()).unwrap();
        for path in own {
            assert!(seen.insert(text(&root, path)), "{path}");
        }
        let name = text(&root, "etc/iscsi/initiatorname.iscsi");
        assert!(
            name.starts_with("InitiatorName=iqn.2001-01.org.example:"),
            "{name}"
        );
        let id = text(&root, "etc/nvme/hostid");
        assert_eq!(
            text(&root, "etc/nvme/hostnqn"),
            format!("nqn.2014-08.org.nvmexpress:uuid:{id}")
        );
    }
}

#[test]
fn keep_changes_nothing_but_the_name() {
    let (_folder, root) = golden();
    let wish = IdentityWish {
        identity: Identity::Keep,
        hostname: Some("web2"),
    };
    renew(&root, &wish, &Told::default()).unwrap();
    assert_eq!(text(&root, "etc/hostname"), "web2\n");
    assert_eq!(text(&root, "etc/ssh/ssh_host_rsa_key"), "old");
    assert_eq!(text(&root, "var/lib/dhcpcd/duid"), "old");
    assert_eq!(
        text(&root, "etc/machine-id"),
        "0123456789abcdef0123456789abcdef\n"
    );
}

#[test]
fn what_an_admin_laid_over_the_tree_is_this_machines() {
    let (_folder, root) = golden();
    let connection = "etc/NetworkManager/system-connections/lan.nmconnection";
    put(
        root.path(),
        connection,
        "[ethernet]\nmac-address=52:54:00:12:34:56\n",
    );
    let given = [
        "etc/ssh/ssh_host_rsa_key",
        "etc/machine-id",
        "etc/iscsi/initiatorname.iscsi",
        connection,
    ];
    let paths = given.map(|path| TreePath::parse(path.as_bytes()).unwrap());
    let before = given.map(|path| text(&root, path));
    renew_around(&root, &NEW, &paths.into(), &Told::default()).unwrap();
    assert_eq!(given.map(|path| text(&root, path)), before);
    // Others are made beside it.
    assert!(root.path().join("etc/ssh/ssh_host_ed25519_key").exists());
    assert!(!root.path().join("etc/ssh/ssh_host_rsa_key.pub").exists());
}

#[test]
fn a_tree_whose_programs_cannot_run_here_makes_its_keys_at_its_first_boot() {
    let (_folder, root) = golden();
    // No program of this processor.
    put(root.path(), "usr/bin/ssh-keygen", "\x7fELF");
    let told = Told::default();
    renew(&root, &NEW, &told).unwrap();
    assert!(told.has("the first boot makes them"), "{:#?}", told.lines());
    let unit = "etc/systemd/system/pitstop-ssh-host-keys.service";
    assert!(text(&root, unit).contains("ExecStart=/usr/bin/ssh-keygen -A"));
    let wanted = "etc/systemd/system/multi-user.target.wants/pitstop-ssh-host-keys.service";
    assert_eq!(
        fs::read_link(root.path().join(wanted)).unwrap(),
        PathBuf::from(format!("/{unit}"))
    );

    let (_folder, root) = golden();
    fs::remove_file(root.path().join("usr/bin/ssh-keygen")).unwrap();
    let error = format!("{:#}", renew(&root, &NEW, &told).unwrap_err());
    assert!(
        error.starts_with("SSH host keys cannot be made: starting ssh-keygen"),
        "{error}"
    );
    assert!(error.ends_with("identity = \"keep\""), "{error}");
}

#[test]
fn a_tree_with_nothing_of_it_gets_nothing() {
    let (_folder, root) = tree(&[("etc/passwd", "root:x:0:0::/:/bin/sh\n")]);
    let wish = IdentityWish {
        hostname: None,
        ..NEW
    };
    renew(&root, &wish, &Told::default()).unwrap();
    let names: Vec<_> = fs::read_dir(root.path().join("etc")).unwrap().collect();
    assert_eq!(names.len(), 1);
    let error = renew(
        &root,
        &IdentityWish {
            hostname: Some("a b"),
            ..NEW
        },
        &Told::default(),
    );
    assert!(error.unwrap_err().to_string().contains("no host name"));
}

#[test]
fn labels_of_selinux_stay_and_what_has_none_is_told() {
    let (_folder, root) = golden();
    put(root.path(), "etc/selinux/config", "SELINUX=enforcing\n");
    let label = |path: &str, label: &[u8]| {
        let path = root.path().join(path);
        rustix::fs::setxattr(
            path,
            "security.selinux",
            label,
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    };
    label("etc/hostname", b"system_u:object_r:hostname_etc_t:s0\0");
    label(
        "etc/ssh/ssh_host_rsa_key",
        b"system_u:object_r:sshd_key_t:s0\0",
    );
    let told = Told::default();
    renew(&root, &NEW, &told).unwrap();
    let files = Files::of(&root).unwrap();
    assert_eq!(
        files.label("etc/hostname").unwrap(),
        b"system_u:object_r:hostname_etc_t:s0\0"
    );
    assert_eq!(
        files.label("etc/ssh/ssh_host_ed25519_key").unwrap(),
        b"system_u:object_r:sshd_key_t:s0\0"
    );
    // The others of this tree had none.
    assert!(root.path().join(".autorelabel").exists());
    assert!(told.has("labels all files anew"), "{:#?}", told.lines());
}

#[test]
fn an_immutable_file_is_replaced_and_stays_immutable() {
    // tmpfs has no such flags on older kernels.
    let folder =
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../target").unwrap();
    let root = Root::new(folder.path().to_owned());
    put(root.path(), "etc/hostname", "golden\n");
    let file = fs::File::open(root.path().join("etc/hostname")).unwrap();
    let has = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, has | rustix::fs::IFlags::IMMUTABLE).unwrap();
    renew(&root, &NEW, &Told::default()).unwrap();
    let file = fs::File::open(root.path().join("etc/hostname")).unwrap();
    let has = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, has - rustix::fs::IFlags::IMMUTABLE).unwrap();
    assert!(has.contains(rustix::fs::IFlags::IMMUTABLE));
    assert_eq!(text(&root, "etc/hostname"), "web1\n");
}
