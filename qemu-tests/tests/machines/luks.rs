//! A Debian on LUKS: deployed by a machine that has the passphrase from its server, and started by who types it.

use anyhow::{Context, Result, ensure};
use qemu_tests::debian::{self, Shell, TREE};
use qemu_tests::disks::Disk;
use qemu_tests::media::build_for_cloud;
use qemu_tests::scene::expect_success;
use qemu_tests::servers::Server;
use qemu_tests::vm::{
    ADDRESS, Boot, Bus, End, HOST, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm,
};
use qemu_tests::{paths, tools};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The system takes half of it.
const SIZE: u64 = 1200 << 20;
const PASSPHRASE: &str = "correct horse 7";
/// Enough for an emulated GRUB, kernel and initramfs.
const START: Duration = Duration::from_secs(600);

/// The root and swap on volumes that are encrypted.
const LAYOUT: &str = r#"version = 1
table = "gpt"
[[partition]]
type = "bios-boot"
size = "1MiB"
[[partition]]
type = "linux"
size = "160MiB"
filesystem = "ext4"
mount = "/boot"
[[partition]]
type = "luks"
size = "fill"
[[luks]]
name = "system"
on = 3
[[lvm]]
group = "vg0"
on = ["system"]
volumes = [
  { name = "root", size = "fill", filesystem = "ext4", mount = "/" },
  { name = "swap", size = "32MiB", filesystem = "swap" },
]
"#;

/// A server that has the key of the machine's passphrase, and an initramfs that trusts it.
fn serve(root: &Path, initrd: &Path) -> Result<Server> {
    fs::create_dir_all(root)?;
    let identity = root.join("lab.txt");
    tools::output(tools::command("age-keygen")?.arg("-o").arg(&identity))?;
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600))?;
    let public = tools::output(tools::command("age-keygen")?.arg("-y").arg(&identity))?;
    let folder = root.join("share").join(ADDRESS);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("layout.toml"), LAYOUT)?;
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
    let mut mkimage = build_for_cloud("virtio,filesystems")?;
    mkimage.arg("--ca").arg(&ca);
    for program in ["mkfs.ext4", "mkswap", "lvm", "cryptsetup"] {
        mkimage.arg("--program").arg(tools::find(program)?);
    }
    tools::output(mkimage.arg("-o").arg(initrd))?;
    let identity = identity.to_str().context("a path that is no text")?;
    let keys = ["--machine-access", "token", "--identities", identity];
    Server::start_with_keys(root, &keys)
}

#[test]
fn a_debian_on_luks_is_deployed_and_a_small_machine_opens_it_by_what_is_typed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let initrd = folder.path().join("initramfs.img");
    let server = serve(&folder.path().join("root"), &initrd)?;
    let disk = Disk::blank(SIZE)?;
    let deploy = [
        "set",
        ADDRESS,
        "deploy",
        "--tree",
        TREE,
        "--layout",
        "layout.toml",
    ];
    server.host(&[&deploy[..], &["--luks-key", "luks.key.age"]].concat())?;
    let boot = Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd,
        command_line: format!(
            "{KERNEL_PARAMETERS} pitstop.host=http://{HOST}:{}/hosts/",
            server.port()
        ),
    };
    let spec = Spec::new("luks-deploy", boot).memory(1024);
    let mut vm = Vm::start(spec.disk(&disk, Bus::Virtio, "LUKS0"))?;
    expect_success(&mut vm, "deploy")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let said = vm.console.text();
    ensure!(!said.contains(PASSPHRASE), "the console has the passphrase");
    drop(vm);
    let log = fs::read_to_string(server.share().join(ADDRESS).join("maintenance.log"))?;
    ensure!(!log.contains(PASSPHRASE), "the log has the passphrase");

    let spec = Spec::new("luks-start", Boot::SeaBios)
        .memory(256)
        .network(Network::None);
    let mut vm = Vm::start(spec.disk(&disk, Bus::Virtio, "LUKS0"))?;
    vm.console.wait_for("unlock disk system", START)?;
    vm.console.type_line(PASSPHRASE)?;
    let mut shell = Shell::of(vm)?;
    shell.run("findmnt -no SOURCE / | grep -x /dev/mapper/vg0-root")?;
    shell.run("findmnt -no SOURCE /boot | grep -x /dev/vda2")?;
    shell.run("cryptsetup status system | grep LUKS2 && swapon --show --noheadings | grep .")?;
    shell.run(
        "grep -x \"system UUID=$(blkid -o value -s UUID /dev/vda3) none luks\" /etc/crypttab",
    )?;
    shell.run("! systemctl --failed --no-legend | grep .")
}
