//! Who may delete which host file. Needs root: the machines are addresses in a network namespace.

mod common;

use common::{Server, run};
use std::fs;
use std::process::Command;

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("this test needs ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {} (this test needs root)",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Machines with two addresses on a wire of their own to the server.
struct Wire {
    namespace: String,
    mac: String,
}

impl Wire {
    const SERVER: &str = "198.18.77.1";
    const FIRST: &str = "198.18.77.2";
    const SECOND: &str = "198.18.77.3";

    fn new() -> Self {
        let name = format!("pshosts{}", std::process::id() % 10_000);
        let wire = Self {
            namespace: name.clone(),
            mac: "52:54:00:77:00:02".into(),
        };
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 address {} netns {name}",
            wire.mac
        ));
        ip(&format!("addr add {}/24 dev {name}", Self::SERVER));
        ip(&format!("link set {name} up"));
        for address in [Self::FIRST, Self::SECOND] {
            ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        }
        ip(&format!("-n {name} link set eth0 up"));
        wire
    }

    /// The status of a request that comes from `address`.
    fn request(&self, address: &str, method: &str, url: &str) -> String {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                "curl",
                "-sS",
                "-o",
                "/dev/null",
            ])
            .args([
                "-w",
                "%{http_code}",
                "--max-time",
                "20",
                "--interface",
                address,
            ])
            .args(["-X", method, url])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The veth goes with it.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}

#[test]
fn a_machine_deletes_its_own_configuration_only() {
    let wire = Wire::new();
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_at(root.path(), Wire::SERVER, &[]);
    let host = |name: &str| format!("http://{}/hosts/{name}", server.http);
    let mac = format!("01-{}.toml", wire.mac.replace(':', "-"));
    let uuid = "4c4c4544-0038-4a10-804e-b7c04f503132.toml";
    for name in [
        "C6124D02.toml",
        "C6124D03.toml",
        "C6124D.toml",
        "default.toml",
        &mac,
        uuid,
        "01-52-54-00-77-00-99.toml",
    ] {
        fs::write(server.path("hosts").join(name), "version = 1\n").unwrap();
    }
    let delete = |from: &str, name: &str| wire.request(from, "DELETE", &host(name));
    let (first, second) = (Wire::FIRST, Wire::SECOND);
    for (from, name, status) in [
        // The probe first, as the payload does it.
        (first, "C6124D02.toml.pitstop-probe", "404"),
        (second, "C6124D02.toml.pitstop-probe", "403"),
        (second, "C6124D02.toml", "403"),
        (first, "C6124D02.toml", "204"),
        (first, "C6124D02.toml", "404"),
        (first, "C6124D03.toml", "403"),
        (first, "C6124D.toml", "403"),
        (first, "default.toml", "403"),
        (first, "default.toml.pitstop-probe", "403"),
        (first, "01-52-54-00-77-00-99.toml", "403"),
        (first, &mac, "204"),
        (first, uuid, "403"),
    ] {
        assert_eq!(delete(from, name), status, "{from} {name}");
    }
    assert_eq!(wire.request(first, "GET", &host(uuid)), "200");
    assert_eq!(delete(second, uuid), "403");
    assert_eq!(delete(first, uuid), "204");
    for method in ["PUT", "MOVE", "POST", "MKCOL"] {
        assert_eq!(
            wire.request(first, method, &host("C6124D02.toml")),
            "405",
            "{method}"
        );
    }
    assert_eq!(wire.request(first, "GET", &host(".hidden.toml")), "404");

    // What pitstop host set wrote for a machine, that machine can delete.
    let root = root.path().to_str().unwrap();
    let set = run(&["host", "set", first, "backup", "--root", root]);
    assert!(set.status.success(), "{set:?}");
    let file = fs::read_to_string(server.path("hosts/C6124D02.toml")).unwrap();
    let url = format!("http://{}/hosts/C6124D02.toml", server.http);
    assert!(file.contains(&format!("delete = [\"{url}\"]")), "{file}");
    assert_eq!(wire.request(second, "DELETE", &url), "403");
    assert_eq!(wire.request(first, "DELETE", &url), "204");
}

#[test]
fn behind_the_loopback_a_vm_deletes_what_it_was_given() {
    let server = Server::start();
    fs::write(server.path("hosts/0A00020F.toml"), "x").unwrap();
    fs::write(server.path("hosts/default.toml"), "x").unwrap();
    let delete = |name: &str| {
        server
            .request("DELETE", &format!("/hosts/{name}"), "", b"")
            .status
    };
    assert_eq!(delete("0A00020F.toml.pitstop-probe"), 404);
    assert_eq!(delete("0A00020F.toml"), 204);
    assert_eq!(delete("0A00020F.toml"), 404);
    assert_eq!(delete("default.toml"), 403);
    let page = server.get("/").text();
    assert!(page.contains("/hosts/default.toml"), "{page}");
    assert!(page.contains("DELETE /hosts/0A00020F.toml 204"), "{page}");
}
