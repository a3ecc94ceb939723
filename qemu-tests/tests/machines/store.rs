//! A share in a store that only the server has keys for.

use anyhow::{Result, ensure};
use pitstop_testing::moto::Moto;
use qemu_tests::disks::Disk;
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::servers::Server;
use qemu_tests::vm::{ADDRESS, Bus, End, HOST, PATIENCE, Spec, Vm};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_machine_backs_up_and_restores_at_a_store_without_a_key() -> Result<()> {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let folder = tempfile::tempdir()?;
    let keys = folder.path().join("store.keys");
    let text = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cretkey\n";
    fs::write(&keys, text)?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let more = ["--store-keys", &keys.to_string_lossy()];
    let server = Server::start_on_loopback(&folder.path().join("root"), &more)?;
    let port = moto.port;
    let share = format!("s3://lab/room?endpoint=http://{HOST}:{port}&region=us-east-1");
    let disk = Disk::noise(16 << 20, 11)?;
    let before = disk.digest()?;
    for action in ["backup", "restore"] {
        server.host(&["set", ADDRESS, action, "--share", &share])?;
        let boot = payload(&format!(
            "pitstop.host=http://{HOST}:{}/hosts/",
            server.port()
        ))?;
        let spec = Spec::new(&format!("store-{action}"), boot).disk(&disk, Bus::Virtio, "STORE1");
        let mut vm = Vm::start(spec)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        ensure!(
            fs::read_dir(server.hosts())?.next().is_none(),
            "the {action} is done, and its host file is still there"
        );
        if action == "backup" {
            disk.wreck()?;
        }
    }
    ensure!(
        disk.digest()? == before,
        "the restored disk is not what it was"
    );
    Ok(())
}
