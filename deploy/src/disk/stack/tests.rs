use super::*;
use crate::passphrase::Passphrase;
use crate::test_tree::Told;
use pitstop_imaging::disk::LoopDevice;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const LAYOUT: &str = r#"
version = 1
table = "gpt"
[[partition]]
type = "bios-boot"
size = "1MiB"
[[partition]]
type = "raid"
size = "200MiB"
[[partition]]
type = "raid"
size = "fill"
[[raid]]
name = "boot"
on = 2
filesystem = "ext4"
mount = "/boot"
[[raid]]
name = "system"
on = 3
[[lvm]]
group = "vg-0"
on = ["system"]
volumes = [
  { name = "root", size = "fill", filesystem = "ext4", mount = "/" },
  { name = "swap", size = "100MiB", filesystem = "swap" },
]
"#;

fn stack() -> (Layout, Stack) {
    let layout = Layout::parse(LAYOUT).unwrap();
    let placed = layout.place(1000 << 20, 512).unwrap();
    let sizes = sizes(&layout, &[&placed, &placed]).unwrap();
    let stack = Stack::of(&layout, &sizes).unwrap();
    (layout, stack)
}

#[test]
fn each_tool_is_told_its_own_devices_and_no_others() {
    let (_, stack) = stack();
    let parts = ["/dev/sda2", "/dev/sdb2"].map(PathBuf::from);
    let array = &stack.arrays[0];
    let made = commands::create(array, Path::new("/dev/md127"), &parts);
    let uuid = format!("--uuid={}", array.uuid);
    assert_eq!(array.uuid.len(), 35);
    assert_eq!(made.program, "mdadm");
    assert_eq!(
        made.arguments,
        [
            "--create",
            "/dev/md127",
            "--config=none",
            "--run",
            "--level=1",
            "--raid-devices=2",
            "--metadata=1.2",
            "--data-offset=1M",
            "--bitmap=internal",
            "--name=boot",
            "--homehost=any",
            &uuid,
            "/dev/sda2",
            "/dev/sdb2",
        ]
    );
    let devices = [PathBuf::from("/dev/md126")];
    let group = &stack.groups[0];
    let volumes = group.volumes.iter();
    let mut made = vec![
        commands::physical(&devices),
        commands::group(group, &devices),
    ];
    made.extend(volumes.map(|volume| commands::volume(group, volume, &devices)));
    let told: Vec<String> = made
        .iter()
        .map(|command| {
            let [name, option, configuration, rest @ ..] = &command.arguments[..] else {
                panic!("{command:?}");
            };
            assert_eq!((command.program, option.as_str()), ("lvm", "--config"));
            for key in ["filter", "global_filter"] {
                let only = format!(" {key}=[\"a|^/dev/md126$|\",\"r|.*|\"]");
                assert!(configuration.contains(&only), "{configuration}");
            }
            for setting in ["system_id_source=\"none\"", "use_lvmlockd=0", "backup=0"] {
                assert!(configuration.contains(setting), "{configuration}");
            }
            format!("{name} {}", rest.join(" "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "pvcreate --yes --force --force --dataalignment 1m /dev/md126",
            "vgcreate --yes --physicalextentsize 4m vg-0 /dev/md126",
            "lvcreate --yes --zero n --wipesignatures n --name root --extents 173 vg-0",
            "lvcreate --yes --zero n --wipesignatures n --name swap --extents 25 vg-0",
        ]
    );
    let let_go = commands::deactivate("vg-0", &devices);
    assert_eq!(let_go.arguments[3..], ["--activate", "n", "vg-0"]);
    assert_eq!(
        commands::stop(Path::new("/dev/md127")).arguments,
        ["--stop", "/dev/md127"]
    );
}

#[test]
fn names_are_those_that_the_new_system_has() {
    let (layout, stack) = stack();
    let slots = layout.slots();
    assert_eq!(stack.arrays[1].slot, 4);
    assert_eq!(stack.groups[0].volumes[1].slot, 6);
    assert!(names(slots[0].0).is_empty());
    assert_eq!(names(slots[3].0), ["/dev/md/boot"]);
    assert_eq!(
        names(slots[5].0),
        ["/dev/mapper/vg--0-root", "/dev/vg-0/root"]
    );
    assert_eq!(grub_modules(slots[3].0), ["mdraid1x"]);
    assert_eq!(grub_modules(slots[5].0), ["lvm", "mdraid1x"]);
    assert!(grub_modules(slots[1].0).is_empty());
}

#[test]
fn an_array_gets_a_number_that_is_free() {
    let taken = ["md127", "md126"];
    let found = commands::free_array(&|name| taken.iter().any(|other| name == *other));
    assert_eq!(found, Some(PathBuf::from("/dev/md125")));
    assert_eq!(commands::free_array(&|_| true), None);
}

#[test]
fn modules_are_found_in_the_kernels_lists() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        "kernel/drivers/md/dm-mod.ko.xz: kernel/x.ko\nkernel/drivers/md/raid10.ko:\n",
    )
    .unwrap();
    let list = file.path().to_owned();
    assert!(is_listed(&list, "dm_mod") && is_listed(&list, "raid10"));
    assert!(!is_listed(&list, "raid1") && !is_listed(&list, "x"));
    assert!(!is_listed(Path::new("/nowhere"), "x"));
}

/// What `cryptsetup` says with the passphrase `words`, in less memory than a small machine has.
fn cryptsetup(arguments: &[&str], device: &Path, words: &str) -> (bool, String) {
    let line = "ulimit -v 262144; exec cryptsetup --disable-locks \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", line, "sh"])
        .args(arguments)
        .arg(device)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let fed = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut { fed }, words.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said)
}

#[test]
fn what_is_encrypted_is_as_a_small_machine_can_open_it() {
    const SIZE: u64 = 32 << 20;
    let words = "correct horse battery";
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(key.path(), Permissions::from_mode(0o600)).unwrap();
    fs::write(key.path(), format!("{words}\n")).unwrap();
    let passphrase = Passphrase::open(key.path()).unwrap();
    let luks = Encrypted {
        name: "system".into(),
        uuid: "0d9f5f0a-6a0c-4c1a-9a77-1f6d6f2a5e11".into(),
        on: On::Partition(3),
        slot: 3,
    };
    for sector in [512, 4096] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        let bytes = u32::try_from(sector).unwrap();
        let device = LoopDevice::new(file.path(), &(0..SIZE), bytes).unwrap();
        let command = commands::format(&luks, device.path(), sector);
        let shown = format!("{command:?} {:?}", commands::open(&luks, device.path()));
        let told = Told::default();
        running::feed(&command, &passphrase, &told).unwrap();
        let (_, dump) = cryptsetup(&["luksDump"], device.path(), "");
        let dump: String = dump.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in [
            "Version: 2",
            "UUID: 0d9f5f0a-6a0c-4c1a-9a77-1f6d6f2a5e11",
            "offset: 16777216 [bytes]",
            "length: (whole device)",
            "cipher: aes-xts-plain64",
            &format!("sector: {sector} [bytes]"),
            "PBKDF: argon2id",
            "Time cost: 4",
            "Memory: 65536",
            "Threads: 1",
        ] {
            assert!(dump.contains(wanted), "{wanted}: {dump}");
        }
        // Typed, it ends with its line; the file's is no part of it.
        let tried = |words: &str| {
            let arguments = ["open", "--test-passphrase", "--key-file", "-"];
            cryptsetup(&arguments, device.path(), words).0
        };
        assert!(tried(words));
        assert!(!tried(&format!("{words}\n")) && !tried("another"));
        let logged = told.lines().join("\n");
        assert!(
            !shown.contains("horse") && !logged.contains("horse"),
            "{shown} {logged}"
        );
        device.finish().unwrap();
    }
    assert_eq!(commands::close(&luks.name).arguments, ["close", "system"]);
    let opened = commands::opened("system");
    assert_eq!(opened, Path::new("/dev/mapper/system"));
}

#[test]
fn what_is_only_read_is_opened_so_that_nobody_can_write() {
    let devices = [PathBuf::from("/dev/loop3")];
    let shown = commands::show("vg0", "root", &devices);
    let configuration = &shown.arguments[2];
    for setting in [
        "filter=[\"a|^/dev/loop3$|\",\"r|.*|\"]",
        "read_only_volume_list=[\"vg0/root\"]",
    ] {
        assert!(configuration.contains(setting), "{configuration}");
    }
    assert_eq!(shown.arguments[3..], ["--activate", "y", "vg0/root"]);
    let opened = commands::open_reading("system", Path::new("/dev/loop3"));
    assert!(opened.arguments.contains(&"--readonly".to_owned()));
}
