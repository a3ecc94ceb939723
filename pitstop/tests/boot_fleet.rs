//! What boot loaders get that depends on the fleet file.

mod common;

use common::Server;
use std::fs;

#[test]
fn a_machine_of_the_fleet_boots_with_its_own_kernel_parameters() {
    let root = tempfile::tempdir().unwrap();
    let fleet = root.path().join("fleet.toml");
    let lab = "version = 1\n[network.\"10.0.2.0/24\"]\n[group.front]\nmatch = \"desk*\"\n\
               kernel-args = \"console=ttyS1,115200 nomodeset\"\n[host.desk7]\nmac = \"52:54:00:12:34:56\"\n\
               ip = \"10.0.2.15\"\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\"\n";
    fs::write(&fleet, lab).unwrap();
    let server = Server::start_in(root.path(), &["--append", "quiet"]);
    let job = "hosts/default.toml";
    fs::write(server.path(job), "").unwrap();
    let own = "default.toml quiet console=ttyS1,115200 nomodeset";
    for query in [
        "mac=52%3A54%3A00%3A12%3A34%3A56",
        "ip=10.0.2.15",
        "uuid=44454c4c-3800-104a-804e-b7c04f503132",
    ] {
        let script = server.get(&format!("/ipxe?{query}")).text();
        assert!(script.contains(&format!("{own} BOOTIF")), "{script}");
    }
    let other = server.get("/ipxe?ip=10.0.2.16").text();
    assert!(other.contains("default.toml quiet BOOTIF"), "{other}");
    // PXELINUX's name for the machine tells who asks; of `default` the address does.
    fs::write(server.path("hosts/0A00020F.toml"), "").unwrap();
    let config = server.get("/pxelinux.cfg/0A00020F").text();
    let own = "0A00020F.toml quiet console=ttyS1,115200 nomodeset\n";
    assert!(config.contains(own), "{config}");
    let config = server.get("/pxelinux.cfg/default").text();
    assert!(config.contains("default.toml quiet\n"), "{config}");

    // It is read anew when it changes, and the last good one kept while it is wrong.
    fs::write(&fleet, lab.replace(" nomodeset", "")).unwrap();
    let script = server.get("/ipxe?ip=10.0.2.15").text();
    assert!(script.contains("ttyS1,115200 BOOTIF"), "{script}");
    fs::write(&fleet, lab.replace("match", "mtach")).unwrap();
    let told = "fleet.toml, line 4: unknown key &quot;mtach&quot;: did you mean &quot;match&quot;?";
    common::wait_until("the page to say what is wrong", || {
        server.get("/").text().matches(told).count() == 2
    });
    let script = server.get("/ipxe?ip=10.0.2.15").text();
    assert!(script.contains("ttyS1,115200 BOOTIF"), "{script}");
    fs::write(
        &fleet,
        lab.replace("10.0.2.", "127.0.0.").replace(".15", ".1"),
    )
    .unwrap();
    let config = server.get("/pxelinux.cfg/default").text();
    assert!(
        config.contains("default.toml quiet console=ttyS1,115200 nomodeset\n"),
        "{config}"
    );
    assert!(!server.get("/").text().contains("fleet.toml is wrong"));
}
