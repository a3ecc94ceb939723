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

/// Machines with two addresses of each kind on a wire of their own to the server.
struct Wire {
    namespace: String,
    mac: String,
    /// `198.18.77.`, `fd00:77::`: with 1, 2 and 3 behind it the server and two machines.
    v4: String,
    v6: String,
}

impl Wire {
    /// Each test has a number of its own.
    fn new(number: u8) -> Self {
        let name = format!("pshosts{}{number}", std::process::id() % 10_000);
        let wire = Self {
            namespace: name.clone(),
            mac: format!("52:54:00:{number}:00:02"),
            v4: format!("198.18.{number}."),
            v6: format!("fd00:{number}::"),
        };
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 address {} netns {name}",
            wire.mac
        ));
        ip(&format!("addr add {}1/24 dev {name}", wire.v4));
        ip(&format!("addr add {}1/64 dev {name} nodad", wire.v6));
        ip(&format!("link set {name} up"));
        for machine in [2, 3] {
            ip(&format!(
                "-n {name} addr add {}{machine}/24 dev eth0",
                wire.v4
            ));
            ip(&format!(
                "-n {name} addr add {}{machine}/64 dev eth0 nodad",
                wire.v6
            ));
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
    let wire = Wire::new(77);
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_at(root.path(), &format!("{}1", wire.v4), &[]);
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
    let (first, second) = (&*format!("{}2", wire.v4), &*format!("{}3", wire.v4));
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
fn who_read_a_configuration_may_delete_it_after_a_restart_of_the_server() {
    let wire = Wire::new(78);
    let root = tempfile::tempdir().unwrap();
    let uuid = "4c4c4544-0038-4a10-804e-b7c04f503132.toml";
    let start = |ip: &str| Server::start_at(root.path(), ip, &[]);
    let v4 = format!("{}1", wire.v4);
    let (first, second) = (&*format!("{}2", wire.v4), &*format!("{}3", wire.v4));
    let server = start(&v4);
    let url = |server: &Server, name: &str| format!("http://{}/hosts/{name}", server.http);
    for name in [uuid, "gone.toml"] {
        fs::write(server.path("hosts").join(name), "version = 1\n").unwrap();
        assert_eq!(wire.request(first, "GET", &url(&server, name)), "200");
    }
    fs::remove_file(server.path("hosts/gone.toml")).unwrap();
    drop(server);
    // A power cut in the middle of writing.
    let notes = fs::OpenOptions::new()
        .append(true)
        .open(root.path().join("readers").join(uuid));
    std::io::Write::write_all(&mut notes.unwrap(), b"\xff198.18").unwrap();
    let server = start(&v4);
    assert_eq!(wire.request(second, "DELETE", &url(&server, uuid)), "403");
    assert_eq!(
        wire.request(first, "DELETE", &url(&server, &format!("{uuid}.probe"))),
        "404"
    );
    assert_eq!(wire.request(first, "DELETE", &url(&server, uuid)), "204");
    assert_eq!(common::everything_in(&root.path().join("readers")), [""; 0]);

    drop(server);
    // Of IPv6 the name tells the address, and a shortened one is everybody's.
    let server = start(&format!("[{}1]", wire.v6));
    let (first, second) = (&*format!("{}2", wire.v6), &*format!("{}3", wire.v6));
    let own = "FD000078000000000000000000000002.toml";
    let shared = [
        "FD0000780000.toml",
        "FD000078.toml",
        "FD.toml",
        "default.toml",
    ];
    for name in shared.into_iter().chain([own]) {
        fs::write(server.path("hosts").join(name), "version = 1\n").unwrap();
        for from in [first, second] {
            assert_eq!(wire.request(from, "GET", &url(&server, name)), "200");
        }
    }
    for name in shared {
        for from in [first, second] {
            assert_eq!(
                wire.request(from, "DELETE", &url(&server, name)),
                "403",
                "{name}"
            );
        }
    }
    drop(server);
    let server = start(&format!("[{}1]", wire.v6));
    assert_eq!(wire.request(second, "DELETE", &url(&server, own)), "403");
    assert_eq!(wire.request(first, "DELETE", &url(&server, own)), "204");
}

#[test]
fn a_job_by_uuid_is_found_in_either_byte_order() {
    let server = Server::start();
    let (uuid, turned) = (
        "4c4c4544-0038-4a10-804e-b7c04f503132",
        "44454c4c-3800-104a-804e-b7c04f503132",
    );
    let root = server.path("");
    let root = root.to_str().unwrap();
    let host = |command: &[&str]| {
        let done = run(&[&["host"], command, &["--root", root]].concat());
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    // Set one way, then the other: the machine has one job.
    host(&["set", &uuid.to_uppercase(), "refresh-info"]);
    let replaced = host(&["set", turned, "rescue"]);
    assert!(
        replaced.contains("the job it had: refresh-info"),
        "{replaced}"
    );
    assert_eq!(
        common::everything_in(&server.path("hosts")),
        [format!("{turned}.toml")]
    );
    for asked in [uuid, turned] {
        let script = server.get(&format!("/ipxe?uuid={asked}")).text();
        assert!(
            script.contains(&format!("/hosts/{turned}.toml ")),
            "{script}"
        );
        let config = server.get(&format!("/pxelinux.cfg/{asked}")).text();
        assert!(
            config.contains(&format!("/hosts/{turned}.toml ")),
            "{config}"
        );
    }
    assert!(host(&["list"]).contains(turned));
    host(&["clear", uuid]);
    assert_eq!(common::everything_in(&server.path("hosts")), [""; 0]);
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
    let page = server.get("/journal").text();
    assert!(page.contains("/hosts/default.toml"), "{page}");
    assert!(page.contains("DELETE /hosts/0A00020F.toml 204"), "{page}");
}
