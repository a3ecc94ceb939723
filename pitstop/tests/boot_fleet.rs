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
    // PXELINUX's name for the machine tells who asks; of `default` the address does, and what it asked for before.
    let config = server.get("/pxelinux.cfg/default").text();
    assert!(config.contains("default.toml quiet\n"), "{config}");
    fs::write(server.path("hosts/0A00020F.toml"), "").unwrap();
    let config = server.get("/pxelinux.cfg/0A00020F").text();
    let own = "0A00020F.toml quiet console=ttyS1,115200 nomodeset\n";
    assert!(config.contains(own), "{config}");

    // It is read anew when it changes, and the last good one kept while it is wrong.
    fs::write(&fleet, lab.replace(" nomodeset", "")).unwrap();
    let script = server.get("/ipxe?ip=10.0.2.15").text();
    assert!(script.contains("ttyS1,115200 BOOTIF"), "{script}");
    fs::write(&fleet, lab.replace("match", "mtach")).unwrap();
    let told = "fleet.toml, line 4: unknown key &quot;mtach&quot;: did you mean &quot;match&quot;?";
    common::wait_until("the page to say what is wrong", || {
        server.get("/journal").text().matches(told).count() == 2
    });
    let script = server.get("/ipxe?ip=10.0.2.15").text();
    assert!(script.contains("ttyS1,115200 BOOTIF"), "{script}");
    fs::write(
        &fleet,
        lab.replace("10.0.2.", "127.0.0.").replace(".15", ".1"),
    )
    .unwrap();
    assert_eq!(server.get("/pxelinux.cfg/7F000001").status, 404);
    let config = server.get("/pxelinux.cfg/default").text();
    assert!(
        config.contains("default.toml quiet console=ttyS1,115200 nomodeset\n"),
        "{config}"
    );
    assert!(
        !server
            .get("/journal")
            .text()
            .contains("fleet.toml is wrong")
    );
}

const LAB: &str = "version = 1\n[server]\nunknown = \"UNKNOWN\"\n[network.\"10.0.2.0/24\"]\nrange = \"10.0.2.100-10.0.2.199\"\n\
                   [group.front]\n# By the window\n[host.desk7]\nmac = \"52:54:00:00:00:07\"\nip = \"10.0.2.7\"\n";

fn lab(unknown: &str) -> (tempfile::TempDir, Server) {
    let root = tempfile::tempdir().unwrap();
    fs::write(
        root.path().join("fleet.toml"),
        LAB.replace("UNKNOWN", unknown),
    )
    .unwrap();
    let server = Server::start_in(root.path(), &["--url", "http://10.0.2.2:8080"]);
    (root, server)
}

fn fleet(root: &tempfile::TempDir, words: &[&str]) -> std::process::Output {
    let mut command = common::pitstop();
    command
        .arg("fleet")
        .args(words)
        .arg("--root")
        .arg(root.path());
    command.output().unwrap()
}

fn said(output: std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_unknown_machine_says_once_what_it_is_and_gets_a_name() {
    let (root, server) = lab("enroll");
    let asks =
        "/ipxe?mac=52:54:00:12:34:56&ip=10.0.2.150&uuid=4c4c4544-0038-4a10-804e-b7c04f503132";
    let host = server.path("hosts/01-52-54-00-12-34-56.toml");
    let script = server.get(asks).text();
    assert!(
        script.contains("/hosts/01-52-54-00-12-34-56.toml "),
        "{script}"
    );
    let job = fs::read_to_string(&host).unwrap();
    assert!(
        job.ends_with(
            "version = 1\naction = \"refresh-info\"\nshare = \"http://10.0.2.2:8080/share\"\n"
        ),
        "{job}"
    );
    // It did, and its job is gone: from then on it boots its disk. One that is known never was asked.
    fs::remove_file(&host).unwrap();
    for asks in [asks, "/ipxe?mac=52:54:00:00:00:07", "/ipxe?ip=10.0.2.151"] {
        let script = server.get(asks).text();
        assert!(
            script.contains("sanboot") && !script.contains("vmlinuz"),
            "{script}"
        );
    }
    // PXELINUX tells its card, and asks for `default` at last.
    assert_eq!(server.get("/pxelinux.cfg/01-52-54-00-12-34-57").status, 404);
    let config = server.get("/pxelinux.cfg/default").text();
    assert!(
        config.contains("/hosts/01-52-54-00-12-34-57.toml"),
        "{config}"
    );

    let own = server.path("share/10.0.2.150");
    fs::create_dir(&own).unwrap();
    fs::write(
        own.join("machine.toml"),
        "version = 1\n[[machine]]\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\"\nserial = \"CZC7\"\n\
         macs = [\"52:54:00:12:34:56\"]\n[[disk]]\ndevice = \"sda\"\nmodel = \"EVO\"\nserial = \"S1\"\nwwn = \"\"\n\
         size = 1000\nlogical-sector-size = 512\nphysical-sector-size = 512\n",
    )
    .unwrap();
    fs::write(
        own.join("testbox-info.txt"),
        "System (type 1, handle 0x1)\n    Manufacturer: Dell\n    Product: OptiPlex 7010\n",
    )
    .unwrap();
    let list = said(fleet(&root, &["list", "--unknown"]));
    assert!(
        list.contains("52:54:00:12:34:56") && list.contains("10.0.2.150") && list.contains("CZC7"),
        "{list}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&said(fleet(&root, &["list", "--unknown", "--json"]))).unwrap();
    assert_eq!(json[0]["model"], "Dell OptiPlex 7010");
    assert_eq!(
        (&json[0]["disks"][0]["model"], &json[1]["mac"]),
        (&"EVO".into(), &"52:54:00:12:34:57".into())
    );

    said(fleet(
        &root,
        &["adopt", "52-54-00-12-34-56", "desk8", "@front"],
    ));
    let text = fs::read_to_string(root.path().join("fleet.toml")).unwrap();
    // Its address is of the range for those without a name: it does not keep it.
    let expected = LAB.replace("UNKNOWN", "enroll")
        + "\n[host.desk8]\nmac = [\"52:54:00:12:34:56\"]\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\"\n\
           serial = \"CZC7\"\ngroups = [\"front\"]\n";
    assert_eq!(text, expected);
    let list = said(fleet(&root, &["list", "--unknown"]));
    assert!(!list.contains("52:54:00:12:34:56"), "{list}");
    for (words, why) in [
        (["adopt", "52:54:00:12:34:57", "desk7"], "desk7 is in "),
        (
            ["adopt", "52:54:00:99:99:99", "desk9"],
            "did not say what it is: see",
        ),
        (["adopt", "52:54:00:12:34:57", "a b"], "is no name"),
    ] {
        let output = fleet(&root, &words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && errors.contains(why),
            "{words:?}: {errors}"
        );
    }
    assert_eq!(
        fs::read_to_string(root.path().join("fleet.toml")).unwrap(),
        expected
    );
}

#[test]
fn unknown_machines_are_ignored_and_known_ones_boot_by_any_of_their_names() {
    let (root, server) = lab("ignore");
    fs::write(server.path("hosts/default.toml"), "").unwrap();
    let stranger = server
        .get("/ipxe?mac=52:54:00:12:34:56&ip=10.0.2.150")
        .text();
    assert!(!stranger.contains("vmlinuz"), "{stranger}");
    let known = server
        .get("/ipxe?mac=52:54:00:00:00:07&ip=10.0.2.150")
        .text();
    assert!(known.contains("/hosts/default.toml"), "{known}");
    // A job by its address, which another DHCP server did not give it.
    fs::write(server.path("hosts/0A000207.toml"), "").unwrap();
    let known = server
        .get("/ipxe?mac=52:54:00:00:00:07&ip=10.0.2.150")
        .text();
    assert!(known.contains("/hosts/0A000207.toml"), "{known}");
    // Who has a host file of its own was meant.
    fs::write(server.path("hosts/01-52-54-00-12-34-56.toml"), "").unwrap();
    let stranger = server
        .get("/ipxe?mac=52:54:00:12:34:56&ip=10.0.2.150")
        .text();
    assert!(
        stranger.contains("/hosts/01-52-54-00-12-34-56.toml"),
        "{stranger}"
    );
    assert!(!root.path().join("enroll").exists());
}

#[test]
fn who_makes_addresses_up_fills_no_disk() {
    let (root, server) = lab("enroll");
    for number in 0..1100 {
        let mac = format!("52:54:00:77:{:02x}:{:02x}", number / 256, number % 256);
        server.get(&format!("/ipxe?mac={mac}"));
    }
    assert_eq!(
        fs::read_dir(root.path().join("enroll")).unwrap().count(),
        1000
    );
    assert_eq!(fs::read_dir(server.path("hosts")).unwrap().count(), 1000);
    let page = server.get("/journal").text();
    assert!(
        page.contains("1000 machines wait for a name already"),
        "{page}"
    );
}
