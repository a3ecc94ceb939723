//! Jobs that cannot be: what the machine says, and that it touches nothing.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden::noise;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{Scene, expect_failure};
use qemu_tests::servers::Namespace;
use qemu_tests::vm::{Bus, HEX_ADDRESS, Network, PATIENCE, Spec, Vm};
use std::fs;

/// A run that fails before it knows how long to wait: the configuration and the disk stay as they are.
fn refused(scene: &Scene, spec: Spec, action: &str, reason: &[&str]) -> Result<()> {
    let configuration = fs::read(scene.configuration()).ok();
    let mut vm = Vm::start(spec)?;
    expect_failure(&mut vm, action, reason)?;
    vm.console.wait_for("ebooting in", PATIENCE)?;
    drop(vm);
    ensure!(
        fs::read(scene.configuration()).ok() == configuration,
        "the configuration changed"
    );
    scene.disk_untouched()
}

#[test]
fn without_a_nic_the_machine_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let spec = scene.spec("no-nic")?.network(Network::None);
    refused(&scene, spec, "unknown", &["network"])
}

/// A switch port may need a minute, so this takes more than one.
#[test]
fn without_a_dhcp_answer_the_machine_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let network = Network::Tap {
        namespace: namespace.path(),
        interface: "tap0".into(),
        mac: "52:54:00:77:00:52".into(),
    };
    let spec = scene.spec("no-dhcp")?.network(network);
    refused(&scene, spec, "unknown", &["DHCP"])
}

#[test]
fn without_a_host_file_the_machine_names_where_it_looked() -> Result<()> {
    let scene = Scene::new()?;
    let spec = scene.spec("no-host-file")?;
    refused(&scene, spec, "unknown", &["/hosts/"])?;
    let asked = scene.proxy.requests().join("\n");
    for name in [
        format!("/hosts/{HEX_ADDRESS}.toml"),
        "/hosts/0.toml".into(),
        "/hosts/default.toml".into(),
    ] {
        ensure!(asked.contains(&name), "{name} was not looked for:\n{asked}");
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "speed = 9")?;
    let mut vm = scene.boot("unknown-key")?;
    scene.fails(
        &mut vm,
        "backup",
        &[&format!("{HEX_ADDRESS}.toml"), "speed", "line 5"],
    )
}

#[test]
fn an_unknown_action_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("defragment", "")?;
    let mut vm = scene.boot("unknown-action")?;
    scene.fails(
        &mut vm,
        "unknown",
        &[&format!("{HEX_ADDRESS}.toml"), "defragment", "line 2"],
    )
}

#[test]
fn bad_toml_is_named_with_file_and_line() -> Result<()> {
    let scene = Scene::new()?;
    scene.configure("version = 1\naction = \"backup\nshare = 5\n")?;
    let spec = scene.spec("bad-toml")?;
    refused(
        &scene,
        spec,
        "backup",
        &[&format!("{HEX_ADDRESS}.toml"), "line 2"],
    )
}

#[test]
fn ten_megabytes_of_noise_are_refused() -> Result<()> {
    let scene = Scene::new()?;
    fs::write(scene.configuration(), noise(10 << 20, 4))?;
    let spec = scene.spec("noise")?.memory(256);
    refused(&scene, spec, "unknown", &[&format!("{HEX_ADDRESS}.toml")])
}

#[test]
fn an_unknown_parameter_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let share = scene.url("/share");
    let parameters = format!("pitstop.share={share} pitstop.hurry=yes");
    let spec = scene.spec_with("unknown-parameter", &parameters)?;
    refused(&scene, spec, "backup", &["pitstop.hurry"])?;
    scene.logged(&["pitstop.hurry"])
}

#[test]
fn a_share_without_marker_is_not_the_share() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    fs::remove_file(scene.server.share().join("pitstop-share"))?;
    let mut vm = scene.boot("no-marker")?;
    expect_failure(&mut vm, "backup", &["pitstop-share"])?;
    vm.wait_for_end(PATIENCE)?;
    ensure!(
        fs::read_dir(scene.server.share())?.next().is_none(),
        "something was written to what is not the share"
    );
    scene.disk_untouched()
}

#[test]
fn a_configuration_that_cannot_be_deleted_stops_the_job() -> Result<()> {
    for status in [405, 403] {
        let scene = Scene::new()?;
        scene.job("backup", "")?;
        scene
            .proxy
            .break_requests("DELETE", "/hosts/", Fault::Answer(status));
        let mut vm = scene.boot(&format!("undeletable-{status}"))?;
        scene.fails(
            &mut vm,
            "backup",
            &[&format!("{HEX_ADDRESS}.toml"), &status.to_string()],
        )?;
        ensure!(!scene.image().exists(), "a backup was made all the same");
    }
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_stops_the_job() -> Result<()> {
    let scene = Scene::new()?;
    let gone = scene.url("/hosts/gone.toml");
    scene.job("backup", &format!("delete = [\"{gone}\"]"))?;
    let mut vm = scene.boot("nothing-to-delete")?;
    scene.fails(&mut vm, "backup", &["gone.toml"])
}

#[test]
fn no_disk_is_an_error() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let mut spec = scene.spec("no-disk")?;
    spec.disks.clear();
    let mut vm = Vm::start(spec)?;
    scene.fails(&mut vm, "backup", &["no fixed disk"])
}

#[test]
fn a_selector_must_match_one_disk() -> Result<()> {
    let other = Disk::noise(8 << 20, 8)?;
    let before = other.digest()?;
    for (name, selector) in [
        ("none", "{ serial = \"NOT-THERE\" }"),
        ("both", "{ serial = \"SCENE0\" }"),
    ] {
        let scene = Scene::new()?;
        scene.job("backup", &format!("disks = [{selector}]"))?;
        let spec = scene
            .spec(&format!("selector-{name}"))?
            .disk(&other, Bus::Virtio, "SCENE0");
        let mut vm = Vm::start(spec)?;
        // Whoever has to correct the job needs to see what there is.
        scene.fails(&mut vm, "backup", &["vda", "vdb"])?;
        ensure!(!scene.image().exists(), "a backup was made all the same");
        ensure!(other.digest()? == before, "the second disk was written to");
    }
    Ok(())
}
