//! A Debian on mirrored disks: deployed by a machine, started with the second of them alone, and captured.

use anyhow::{Context, Result, ensure};
use qemu_tests::debian::{self, ROOT_UUID, Shell, TREE};
use qemu_tests::disks::Disk;
use qemu_tests::media::build_for_cloud;
use qemu_tests::scene::Scene;
use qemu_tests::servers::Server;
use qemu_tests::vm::{ADDRESS, Boot, Bus, End, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm};
use qemu_tests::{paths, tools};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Of each disk: the system takes half of it.
const SIZE: u64 = 1 << 30;

/// Enough for programs of a Debian that make its initramfs on an emulated processor, and for its start.
const LONG: Duration = Duration::from_secs(1800);

const PASSPHRASE: &str = "correct horse 7";

/// `/boot` on an array, and the root encrypted on another one, for a BIOS.
const ENCRYPTED: &str = r#"version = 1
table = "gpt"
[[partition]]
type = "bios-boot"
size = "1MiB"
[[partition]]
type = "raid"
size = "128MiB"
[[partition]]
type = "raid"
size = "fill"
[[raid]]
name = "start"
on = 2
filesystem = "ext4"
mount = "/boot"
[[raid]]
name = "mirror"
on = 3
[[luks]]
name = "system"
on = "mirror"
filesystem = "ext4"
mount = "/"
"#;

/// The root on a volume of an array, for UEFI; the group has room left.
const VOLUMES: &str = r#"version = 1
table = "gpt"
[[partition]]
type = "efi"
size = "40MiB"
filesystem = "vfat"
mount = "/boot/efi"
[[partition]]
type = "raid"
size = "fill"
[[raid]]
name = "mirror"
on = 2
[[lvm]]
group = "vg0"
on = ["mirror"]
volumes = [
  { name = "root", size = "800MiB", filesystem = "ext4", mount = "/", uuid = "ROOT" },
  { name = "swap", size = "32MiB", filesystem = "swap" },
]
"#;

/// Pitstop's initramfs with these programs for the deploy.
fn initramfs(path: &Path, programs: &[&str], more: &[&Path]) -> Result<()> {
    let mut mkimage = build_for_cloud("virtio,filesystems")?;
    for program in programs {
        mkimage.arg("--program").arg(tools::find(program)?);
    }
    tools::output(mkimage.args(more).arg("-o").arg(path))?;
    Ok(())
}

/// A server that has the key of the passphrase and a job for the machine, and an initramfs that trusts it.
fn serve_encrypted(root: &Path, initrd: &Path) -> Result<Server> {
    fs::create_dir_all(root)?;
    let identity = root.join("lab.txt");
    tools::output(tools::command("age-keygen")?.arg("-o").arg(&identity))?;
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600))?;
    let public = tools::output(tools::command("age-keygen")?.arg("-y").arg(&identity))?;
    let folder = root.join("share").join(ADDRESS);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("layout.toml"), ENCRYPTED)?;
    let plain = root.join("luks.key");
    fs::write(&plain, format!("{PASSPHRASE}\n"))?;
    let mut age = tools::command("age")?;
    age.args(["-r", public.trim(), "-o"]);
    tools::output(age.arg(folder.join("luks.key.age")).arg(&plain))?;
    debian::put_tree(&root.join("share"))?;

    let mut ca = Command::new(paths::built("pitstop")?);
    let pem = tools::output(ca.args(["tls", "ca", "--root"]).arg(root))?;
    let ca = root.join("ca.pem");
    fs::write(&ca, pem)?;
    let programs = ["mkfs.ext4", "mdadm", "cryptsetup"];
    initramfs(initrd, &programs, &[Path::new("--ca"), &ca])?;
    let identity = identity.to_str().context("a path that is no text")?;
    let keys = ["--machine-access", "token", "--identities", identity];
    let server = Server::start_with_keys(root, &keys)?;
    let job = "--tree TREE --layout layout.toml --luks-key luks.key.age --disk serial=STACK0 --disk serial=STACK1";
    let job = job.replace("TREE", TREE);
    let job = ["set", ADDRESS, "deploy"].into_iter().chain(job.split(' '));
    server.host(&job.collect::<Vec<&str>>())?;
    Ok(server)
}

fn with(disks: &[Disk], spec: Spec) -> Spec {
    let serials = ["STACK0", "STACK1"].into_iter();
    disks
        .iter()
        .zip(serials)
        .fold(spec, |spec, (disk, serial)| {
            spec.disk(disk, Bus::Virtio, serial)
        })
}

/// Sees a machine do its job to the end.
fn done(spec: Spec, disks: &[Disk], action: &str) -> Result<Vm> {
    let mut vm = Vm::start(with(disks, spec.memory(1024)))?;
    let line = vm.console.wait_for("pitstop: result ", LONG)?;
    ensure!(line.contains(&format!("result ok {action}")), "{line}");
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    Ok(vm)
}

/// Starts the system that is on these disks. Debian waits for an array's other disk, and gives up some seconds later.
fn start(name: &str, firmware: Boot, disks: &[Disk]) -> Result<Vm> {
    let spec = Spec::new(name, firmware).network(Network::None);
    Vm::start(with(disks, spec.memory(256).own_time()))
}

/// Types the passphrase, which the system asks for when it is started.
fn unlocked(mut vm: Vm) -> Result<Vm> {
    vm.console.wait_for_question("unlock disk system", LONG)?;
    vm.console.type_line(PASSPHRASE)?;
    Ok(vm)
}

/// Root's shell, when all of the system is up and nothing of it failed.
fn shell(vm: Vm) -> Result<Shell> {
    let mut shell = Shell::of(vm, LONG)?;
    shell.run(
        "systemctl is-system-running --wait || systemctl --failed; ! systemctl --failed --no-legend | grep .",
    )?;
    Ok(shell)
}

/// Has a machine with the second disk alone capture what is on it: all of the system, and nothing of the disk changes.
fn captures_from_the_second_alone(scene: &Scene, boot: Boot, disks: &[Disk]) -> Result<()> {
    let second = &disks[1..];
    let before = second[0].digest()?;
    scene.job("capture", &format!("tree = \"{TREE}\"\nlevel = \"fast\""))?;
    let trees = scene.server.share().join("trees").join(TREE);
    let current = || fs::read_to_string(trees.join("current"));
    let deployed = current()?;
    done(Spec::new("stack-captured", boot), second, "capture")?;
    ensure!(second[0].digest()? == before, "the disk has changed");
    let log = fs::read_to_string(scene.folder().join("maintenance.log"))?;
    for told in [
        "the array mirror has 1 of its 2 disks here",
        "/ is vg0/root (ext4)",
    ] {
        ensure!(log.contains(told), "{told:?} is not in {log}");
    }
    ensure!(!log.contains("was not unmounted"), "{log}");

    let captured = current()?;
    let about = fs::read_to_string(trees.join(format!("{}.toml", captured.trim())))?;
    for told in ["[[layout.raid]]", "[[layout.lvm]]", "name = \"swap\""] {
        ensure!(about.contains(told), "{told} is not in {about}");
    }
    let names = [deployed, captured].map(|version| format!("{TREE}@{}", version.trim()));
    let mut pitstop = Command::new(paths::built_for_cloud("pitstop")?);
    pitstop.args(["tree", "diff"]).args(&names).arg("--share");
    let differences = tools::output(pitstop.arg(scene.server.share()))?;
    ensure!(
        differences.contains("/etc/mdadm/mdadm.conf"),
        "{differences}"
    );
    // What a system that was started changes is elsewhere; a folder has another time where a file was for a moment.
    let programs = differences.lines().filter(|line| line.contains(" /usr"));
    let programs = programs.filter(|line| !line.ends_with(" (time)"));
    let programs: Vec<&str> = programs.collect();
    ensure!(programs.is_empty(), "{programs:#?}");
    Ok(())
}

#[test]
fn an_encrypted_debian_on_arrays_is_captured_and_started_by_a_bios_with_its_second_disk_alone()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let initrd = folder.path().join("initramfs.img");
    let server = serve_encrypted(&folder.path().join("root"), &initrd)?;
    let disks = [Disk::blank(SIZE)?, Disk::blank(SIZE)?];
    let boot = Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd,
        command_line: format!("{KERNEL_PARAMETERS} pitstop.host={}/hosts/", server.url()),
    };
    done(Spec::new("stack-encrypted", boot.clone()), &disks, "deploy")?;
    // It is captured from there, too, without most of it, which would tell nothing more.
    let digests = || disks.iter().map(Disk::digest).collect::<Result<Vec<_>>>();
    let before = digests()?;
    let job = "--tree copy@1 --luks-key luks.key.age --exclude /usr/** --level fast".split(' ');
    let job = ["set", ADDRESS, "capture"].into_iter().chain(job);
    server.host(&job.collect::<Vec<&str>>())?;
    let vm = done(
        Spec::new("stack-encrypted-captured", boot),
        &disks,
        "capture",
    )?;
    ensure!(digests()? == before, "a disk has changed");
    let about = fs::read_to_string(server.share().join("trees/copy/1.toml"))?;
    for told in ["[[layout.raid]]", "[[layout.luks]]", "name = \"system\""] {
        ensure!(about.contains(told), "{told} is not in {about}");
    }
    let said = vm.console.text();
    ensure!(!said.contains(PASSPHRASE), "the console has the passphrase");
    let log = fs::read_to_string(server.share().join(ADDRESS).join("maintenance.log"))?;
    ensure!(!log.contains(PASSPHRASE), "the log has the passphrase");
    // What is not on all of an array's disks is told.
    ensure!(!log.contains("disks here"), "an array is not whole:\n{log}");
    drop(vm);

    let places = "findmnt -no SOURCE / | grep -x /dev/mapper/system && cryptsetup status system | grep LUKS2 && \
                  findmnt -no SOURCE /boot | grep '^/dev/md' && readlink -e /dev/md/start /dev/md/mirror";
    // The first disk dies.
    let vm = start("stack-encrypted-second", Boot::SeaBios, &disks[1..])?;
    let mut second = shell(unlocked(vm)?)?;
    second.run(places)?;
    second.run("test $(grep -cF '[_U]' /proc/mdstat) = 2")?;
    let line = "system UUID=$(blkid -o value -s UUID /dev/md/mirror) none luks";
    second.run(&format!("grep -x \"{line}\" /etc/crypttab"))
}

#[test]
fn a_debian_on_volumes_of_an_array_is_started_by_uefi_and_captured_from_its_second_disk_alone()
-> Result<()> {
    let scene = Scene::new()?;
    debian::put_tree(&scene.server.share())?;
    let initrd = tempfile::NamedTempFile::new()?;
    let programs = ["mkfs.ext4", "mkfs.vfat", "mkswap", "mdadm", "lvm"];
    initramfs(initrd.path(), &programs, &[])?;
    fs::create_dir_all(scene.folder())?;
    let layout = VOLUMES.replace("ROOT", ROOT_UUID);
    fs::write(scene.folder().join("layout.toml"), layout)?;
    let more = format!("tree = \"{TREE}\"\nlayout = \"layout.toml\"\nhostname = \"stack\"");
    scene.job("deploy", &more)?;
    // OVMF starts the kernel that QEMU gives it before anything else.
    let kernel = paths::built_for_cloud("vmlinuz")?;
    let [kernel, initrd] = [&kernel, initrd.path()].map(|path| path.display().to_string());
    let command_line = format!("{KERNEL_PARAMETERS} pitstop.host={}", scene.url("/hosts/"));
    let given = [
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-append",
        &command_line,
    ];
    let disks = [Disk::blank(SIZE)?, Disk::blank(SIZE)?];
    let spec = Spec::new("stack-volumes", Boot::Ovmf).extra(&given);
    let vm = done(spec, &disks, "deploy")?;
    ensure!(vm.firmware_knows("debian")?, "the firmware got no entry");
    drop(vm);

    let places = "findmnt -no SOURCE / | grep -x /dev/mapper/vg0-root && readlink -e /dev/md/mirror && \
                  swapon --show --noheadings | grep . && findmnt -no SOURCE /boot/efi | grep '^/dev/vd[ab]1$' && \
                  ls /boot/efi/EFI/debian/grubx64.efi";
    let mut second = shell(start("stack-volumes-second", Boot::Ovmf, &disks[1..])?)?;
    second.run(places)?;
    second.run("grep -F '[_U]' /proc/mdstat")?;
    // It has two pieces then, with the swap between them.
    second.run("lvextend -l +100%FREE vg0/root && resize2fs /dev/vg0/root && sync")?;
    // What is in the journal goes to its place. The kernel says that it is read-only before it has written that down.
    second.run(
        "sync && echo u >/proc/sysrq-trigger && until grep -q 'vg0-root / ext4 ro' /proc/mounts; do sleep 1; done && \
         while dumpe2fs -h /dev/vg0/root 2>&1 | grep needs_recovery; do sleep 1; done && sync",
    )?;
    second.cut_power()?;
    let direct = Boot::Direct {
        kernel: kernel.into(),
        initrd: initrd.into(),
        command_line,
    };
    captures_from_the_second_alone(&scene, direct, &disks)
}
