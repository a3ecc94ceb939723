//! Other ways to a job, an address and a shell than DHCP, HTTP and the console.

use anyhow::{Context, Result, ensure};
use qemu_tests::compare;
use qemu_tests::media::build_for_cloud;
use qemu_tests::paths;
use qemu_tests::scene::{IMAGE, Scene, expect_success, payload};
use qemu_tests::servers::free_port;
use qemu_tests::tools;
use qemu_tests::vm::{
    ADDRESS, Boot, End, HEX_ADDRESS, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// QEMU's own network with more options, on a virtio card.
fn wired(spec: Spec, options: &str) -> Spec {
    spec.network(Network::None).extra(&[
        "-netdev",
        &format!("user,id=wire,{options}"),
        "-device",
        "virtio-net-pci,netdev=wire,romfile=",
    ])
}

/// The scene's machine, which looks for its host file over TFTP, where `more` is added to it.
fn job_over_tftp(scene: &Scene, tftp: &Path, name: &str, more: &str) -> Result<Vm> {
    let hosts = tftp.join("hosts");
    fs::create_dir_all(&hosts)?;
    scene.job("backup", more)?;
    let text = fs::read(scene.configuration())?;
    fs::write(hosts.join(format!("{HEX_ADDRESS}.toml")), text)?;
    let mut spec = scene.spec(name)?;
    spec.boot = payload("pitstop.host=tftp://10.0.2.2/hosts/")?;
    Vm::start(wired(spec, &format!("tftp={}", tftp.display())))
}

#[test]
fn a_host_file_over_tftp_is_deleted_under_its_http_name() -> Result<()> {
    let scene = Scene::new()?;
    let tftp = tempfile::tempdir()?;
    let name = scene.url(&format!("/hosts/{HEX_ADDRESS}.toml"));
    let more = format!("delete = [\"{name}\"]");
    let mut vm = job_over_tftp(&scene, tftp.path(), "tftp-job", &more)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(
        !scene.configuration().exists(),
        "the configuration is still there under its HTTP name"
    );
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn a_static_address_and_a_job_on_the_command_line_need_neither_dhcp_nor_a_host_file() -> Result<()>
{
    let scene = Scene::new()?;
    let mut spec = scene.spec("static")?;
    // As PXELINUX's IPAPPEND writes it: client, boot server, router, netmask.
    let parameters = format!(
        "ip=10.0.2.77:10.0.2.2:10.0.2.2:255.255.255.0 testbox-action-backup pitstop.share={}",
        scene.url("/share")
    );
    spec.boot = payload(&parameters)?;
    let mut vm = Vm::start(spec)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let folder = scene.server.share().join("10.0.2.77");
    ensure!(folder.join("0A00024D").exists(), "its hex IP names no file");
    compare::zcat_equals(&folder.join(IMAGE), scene.disk.path())
}

/// An initramfs for the cloud kernel with dropbear and one key.
fn with_ssh(key: &Path, image: &Path) -> Result<()> {
    let mut mkimage = build_for_cloud("virtio,nic")?;
    mkimage.arg("--busybox").arg(tools::find("busybox")?);
    mkimage.arg("--dropbear").arg(tools::find("dropbear")?);
    mkimage.arg("--authorized-keys").arg(key);
    tools::output(mkimage.arg("-o").arg(image))?;
    Ok(())
}

/// An SSH key, and an initramfs that it may log in to.
fn key_and_image(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let key = folder.join("key");
    let mut keygen = tools::command("ssh-keygen")?;
    tools::output(
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key),
    )?;
    let image = folder.join("initramfs.img");
    with_ssh(&folder.join("key.pub"), &image)?;
    Ok((key, image))
}

#[test]
fn a_command_runs_in_rescue_on_the_machine_that_the_server_knows_and_no_password_opens_it()
-> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let (key, image) = key_and_image(folder.path())?;
    let report = scene.url("/report/20261128-212955-0f3a");
    scene.job("rescue", &format!("report = \"{report}\""))?;
    let port = free_port()?;
    let boot = Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd: image,
        command_line: format!("{KERNEL_PARAMETERS} pitstop.host={}", scene.url("/hosts/")),
    };
    let forward = format!("hostfwd=tcp:127.0.0.1:{port}-:22");
    let mut vm = Vm::start(wired(Spec::new("node", boot), &forward))?;
    expect_success(&mut vm, "rescue")?;
    vm.sees("rescue: ssh root@")?;
    let (key, port) = (key.to_string_lossy(), port.to_string());
    let way = ["--address", "127.0.0.1", "-p", &port, "-i", &key];
    let root = scene.server.root().display().to_string();
    let mut run = Command::new(paths::built("pitstop")?);
    run.args(["host", "run", ADDRESS, "--root", &root])
        .args(way);
    run.args(["--", "cat", "/proc/1/comm"]);
    // An emulated machine takes a while until its SSH server answers.
    let begun = Instant::now();
    let said = loop {
        let said = tools::output(&mut run);
        if said.is_ok() || begun.elapsed() > PATIENCE {
            break said?;
        }
        thread::sleep(Duration::from_secs(2));
    };
    ensure!(said == "init\n", "{said}");
    let mut log = Command::new(paths::built("pitstop")?);
    let log = tools::output(log.args(["host", "log", ADDRESS, "--root", &root]))?;
    ensure!(log.contains("rescue"), "{log}");
    let mut ssh = tools::command("ssh")?;
    ssh.args(["-p", &port, "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-o", "ConnectTimeout=120"]);
    ssh.args(["-o", "PubkeyAuthentication=no"]);
    ssh.args(["-o", "NumberOfPasswordPrompts=0"]);
    let output = ssh.args(["root@127.0.0.1", "true"]).output();
    let said = output.context("starting ssh")?.stderr;
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.contains("Permission denied (publickey)"),
        "without a key: {said}"
    );
    Ok(())
}
