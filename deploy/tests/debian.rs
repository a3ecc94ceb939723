//! A real Debian becomes a machine of its own, with its own programs.

mod common;

use common::debian::{golden, run};
use pitstop_deploy::chroot::Chroot;
use pitstop_deploy::hooks::{self, Hook, HookEnvironment, Stage};
use pitstop_deploy::identity::{self, IdentityWish};
use pitstop_deploy::initramfs::{self, Need};
use pitstop_deploy::new_ids::{self, Changed};
use pitstop_deploy::root::Root;
use pitstop_deploy::wishes::{Identity, Initrd};
use pitstop_imaging::event::{Event, Reporter};
use pitstop_testing::mounts::unmount;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

const OLD: &str = "6a7b8c9d-0000-4111-8222-333344445555";
const NEW: &str = "0f0f0f0f-1111-4222-8333-abcdefabcdef";
const LIMIT: Duration = Duration::from_secs(900);

/// Keeps what it is told, and shows it where a test fails.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            println!("{text}");
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

impl Told {
    fn has(&self, words: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(words))
    }
}

/// A machine whose files are those of the golden one until they are changed.
struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn of(golden: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // In memory: what changes is little, and not every filesystem can be written over another.
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(folder.path()));
        for name in ["root", "upper", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            golden.display(),
            at("upper"),
            at("work")
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(at("root")));
        Self { folder }
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path().join("root"))
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join("root").join(path)).unwrap()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        for path in [self.folder.path().join("root"), self.folder.path().into()] {
            let _ = unmount(&path);
        }
    }
}

#[test]
fn clones_of_a_debian_are_machines_of_their_own() {
    let golden = golden();
    let mut keys = Vec::new();
    for name in ["web1", "web2"] {
        let machine = Clone::of(golden);
        machine.put("etc/hostname", "golden\n");
        machine.put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 golden\n");
        let wish = IdentityWish {
            identity: Identity::New,
            hostname: Some(name),
        };
        let told = Told::default();
        identity::renew(&machine.root(), &wish, &told).unwrap();
        assert!(told.has("3 SSH host keys are made"));
        assert_eq!(machine.text("etc/machine-id"), "");
        assert_eq!(
            machine.text("etc/hosts"),
            format!("127.0.0.1 localhost\n127.0.1.1 {name}\n")
        );
        let key = machine.text("etc/ssh/ssh_host_ed25519_key.pub");
        assert!(
            key.starts_with("ssh-ed25519 ") && key.trim().ends_with(&format!("root@{name}")),
            "{key}"
        );
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_debians_initramfs_is_looked_into_and_made_anew_with_new_identifiers() {
    let machine = Clone::of(golden());
    let root = machine.root();
    let told = Told::default();
    let virtio = Need::Device {
        modalias: "virtio:d00000002v00001AF4".into(),
        driver: Some("virtio_blk".into()),
    };
    let device = |modalias: &str, driver: &str| Need::Device {
        modalias: modalias.into(),
        driver: Some(driver.into()),
    };
    let there = [
        virtio.clone(),
        device(
            "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00",
            "virtio_pci",
        ),
        device(
            "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02",
            "nvme",
        ),
        device("scsi:t-0x00", "sd"),
        Need::Module("ext4".into()),
    ];
    let looked = initramfs::look(&root, &there).unwrap().unwrap();
    assert_eq!(looked.unknown, None);
    assert!(looked.missing.is_empty(), "{looked:?}");
    // The cloud kernel has no such driver.
    let raid = Need::Device {
        modalias: "pci:v00001000d0000005Dsv00001000sd00009361bc01sc04i00".into(),
        driver: Some("megaraid_sas".into()),
    };
    let looked = initramfs::look(&root, std::slice::from_ref(&raid))
        .unwrap()
        .unwrap();
    assert_eq!(looked.missing, ["megaraid_sas"]);

    machine.put("etc/fstab", &format!("UUID={OLD} / ext4 defaults 0 1\n"));
    machine.put(
        "etc/initramfs-tools/conf.d/resume",
        &format!("RESUME=UUID={OLD}\n"),
    );
    let changed = [Changed {
        from: OLD.into(),
        to: NEW.into(),
    }];
    let written = new_ids::rewrite(&root, &changed, &told).unwrap();
    assert_eq!(written, ["etc/fstab", "etc/initramfs-tools/conf.d/resume"]);
    let chroot = Chroot::enter(&root, Some("web1")).unwrap();
    initramfs::ensure(&chroot, Initrd::Auto, &[virtio], true, &told).unwrap();
    let kernel = &looked.kernel;
    assert!(told.has(&format!(
        "update-initramfs: Generating /boot/initrd.img-{kernel}"
    )));
    // It was made with the new identifier in it.
    let image = root.path().join(format!("boot/initrd.img-{kernel}"));
    let unpacked = Command::new("sh")
        .args(["-c", "zstdcat \"$1\" | cpio -i --quiet --to-stdout conf/conf.d/zz-resume-auto conf/conf.d/resume", "sh"])
        .arg(&image)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(
        text.contains(NEW),
        "{text} {}",
        String::from_utf8_lossy(&unpacked.stderr)
    );
    let error = initramfs::ensure(&chroot, Initrd::Keep, &[raid], false, &told).unwrap_err();
    assert!(
        error.to_string().contains("has not megaraid_sas"),
        "{error}"
    );
}

#[test]
fn a_hook_works_with_a_debians_own_tools() {
    let machine = Clone::of(golden());
    let root = machine.root();
    let chroot = Chroot::enter(&root, Some("web1")).unwrap();
    let environment = HookEnvironment {
        stage: Stage::Deploy,
        disk: "/dev/sda".into(),
        hostname: "web1".into(),
        tree: "web".into(),
        version: "1".into(),
        secrets: None,
    };
    let script = "#!/bin/bash
set -e
ischroot && echo in a chroot
dpkg-query -W -f '${Status}\\n' openssh-server
systemctl enable ssh
invoke-rc.d ssh start || echo status $?
useradd --create-home admin
! pgrep -x sshd
";
    let hook = Hook {
        name: "10-admin".into(),
        script: script.into(),
    };
    let told = Told::default();
    hooks::run(&chroot, &[hook], &environment, LIMIT, &told).unwrap();
    assert!(told.has("10-admin: in a chroot"));
    assert!(told.has("10-admin: install ok installed"));
    assert!(told.has("policy-rc.d denied execution of start"));
    assert!(machine.text("etc/passwd").contains("admin:x:"));
    assert!(!root.path().join("usr/sbin/policy-rc.d").exists());
}
