//! `pitstop serve --tls` as machines, boot loaders and strangers see it.

mod common;

use common::{PATIENCE, Server, run, wait_until};
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::tftp::{self, Patience};
use pitstop_transport::fetch::{HttpClient, Roots, Settings};
use pitstop_transport::share::{HttpShare, Share};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The root of a server, and a machine's folder of authorities with the server's in it.
struct Scene {
    root: tempfile::TempDir,
    trusted: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            root: tempfile::tempdir().unwrap(),
            trusted: tempfile::tempdir().unwrap(),
        };
        // As the admin does it for `mkimage --ca`, before any server has run.
        let printed = run(&["tls", "ca", "--root", scene.root.path().to_str().unwrap()]);
        assert!(printed.status.success(), "{printed:?}");
        fs::write(scene.trusted.path().join("lab.pem"), printed.stdout).unwrap();
        scene
    }

    fn serve(&self) -> (Server, SocketAddr) {
        let server = Server::start_in(self.root.path(), &["--tls", "--tls-listen", "127.0.0.1:0"]);
        let https = server.https.unwrap();
        (server, https)
    }

    /// As the payload has it.
    fn share(&self, https: SocketAddr) -> HttpShare {
        share(self.trusted.path(), https)
    }
}

fn share(trusted: &Path, https: SocketAddr) -> HttpShare {
    let client = HttpClient::new(Settings {
        first_wait: Duration::from_millis(5),
        roots: Roots::Folder(trusted.to_owned()),
        ..Settings::default()
    });
    let Ok(ShareUrl::Http(url)) = format!("https://{https}/share").parse() else {
        panic!("it is no HTTP share")
    };
    HttpShare::new(&url, &client.unwrap())
}

#[test]
fn machines_work_over_https() {
    let scene = Scene::new();
    let (_server, https) = scene.serve();
    let share = scene.share(https);
    assert!(share.stat("pitstop-share").unwrap().is_some());
    let image = vec![7; 3 << 20];
    let mut pending = share.create("10.0.2.15/sda.raw.gz").unwrap();
    pending.write_all(&image).unwrap();
    pending.finish().unwrap();
    let mut read = Vec::new();
    let mut file = share.open("10.0.2.15/sda.raw.gz").unwrap();
    file.read_to_end(&mut read).unwrap();
    assert!(read == image);
    share.rename("10.0.2.15/sda.raw.gz", "10.0.2.15/x").unwrap();
    share
        .append("10.0.2.15/maintenance.log", "a line\n")
        .unwrap();
    assert!(share.stat("10.0.2.15/sda.raw.gz").unwrap().is_none());
}

#[test]
fn another_authority_is_refused_by_machines() {
    let scene = Scene::new();
    let (_server, https) = scene.serve();
    let stranger = Scene::new();
    let error = share(stranger.trusted.path(), https);
    let error = format!("{:#}", error.stat("pitstop-share").unwrap_err());
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
}

#[test]
fn http_serves_boot_loaders_alone_and_never_sends_them_elsewhere() {
    let scene = Scene::new();
    let (server, https) = scene.serve();
    fs::write(server.path("hosts/0A00020F.toml"), "secret").unwrap();
    fs::write(server.path("boot/vmlinuz"), "kernel").unwrap();
    fs::create_dir_all(server.path("share/pxelinux.cfg")).unwrap();
    fs::write(server.path("share/pxelinux.cfg/secret"), "secret").unwrap();
    assert_eq!(server.get("/boot/vmlinuz").text(), "kernel");
    let script = server.get("/ipxe?ip=10.0.2.15").text();
    let http = server.http;
    for wanted in [
        format!("kernel http://{http}/boot/vmlinuz "),
        format!("pitstop.host=https://{https}/hosts/0A00020F.toml "),
    ] {
        assert!(script.contains(&wanted), "{script}");
    }
    let entry = server.get("/boot.ipxe").text();
    assert!(
        entry.contains(&format!("chain http://{http}/ipxe?")),
        "{entry}"
    );
    let config = server.get("/pxelinux.cfg/0A00020F").text();
    assert!(
        config.contains(&format!("pitstop.host=https://{https}/hosts/")),
        "{config}"
    );
    for path in [
        "/",
        "/hosts/0A00020F.toml",
        "/share/pitstop-share",
        "/api/v1/runs",
        "/metrics",
        "/events",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = server.request(method, path, "", b"");
            let told = format!("http serves boot loaders alone here: ask https://{https}{path}");
            assert_eq!(answer.status, 403, "{method} {path}");
            assert!(answer.text().contains(&told), "{method}: {answer:?}");
            assert_eq!(answer.header("location"), None);
        }
    }
    for path in [
        "/share/pxelinux.cfg/secret",
        "/share/boot.ipxe",
        "//share/pxelinux.cfg/..%2fsecret",
    ] {
        let answer = server.get(path);
        assert!(!answer.text().contains("secret\n"), "{path}: {answer:?}");
        assert!(answer.text() != "secret", "{path}: {answer:?}");
    }
    assert!(server.path("hosts/0A00020F.toml").exists());
    // TFTP is as open as http.
    let tftp = |name: &str| {
        let url = format!("tftp://{}/{name}", server.tftp).parse().unwrap();
        tftp::get(&url, 1 << 20, &Patience::default()).map_err(|error| error.to_string())
    };
    assert_eq!(tftp("vmlinuz").unwrap(), b"kernel");
    let refused = tftp("hosts/0A00020F.toml").unwrap_err();
    assert!(refused.contains("https://"), "{refused}");
}

#[test]
fn jobs_that_are_set_name_the_https_share() {
    let scene = Scene::new();
    let (server, https) = scene.serve();
    let root = scene.root.path().to_str().unwrap();
    let set = run(&["host", "set", "192.0.2.5", "backup", "--root", root]);
    assert!(set.status.success(), "{set:?}");
    let file = fs::read_to_string(server.path("hosts/C0000205.toml")).unwrap();
    let port = https.port();
    // Machines reach a server on the loopback as a guest of QEMU does.
    assert!(
        file.contains(&format!("https://10.0.2.2:{port}/share")),
        "{file}"
    );
    let told = fs::read_to_string(server.path("server.toml")).unwrap();
    let boot = format!("boot-url = \"http://10.0.2.2:{}\"", server.http.port());
    assert!(told.contains(&boot), "{told}");
}

/// Whether a handshake with the server succeeds for who asks for `name`.
fn greets(scene: &Scene, https: SocketAddr, name: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(scene.trusted.path().join("lab.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(https).map_err(|error| error.to_string())?;
    // Less than three hundred others would take, one after the other.
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while client.is_handshaking() {
        client
            .complete_io(&mut stream)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn a_new_name_is_in_the_certificate_without_a_restart() {
    let scene = Scene::new();
    let (server, https) = scene.serve();
    for name in ["localhost", "127.0.0.1", "10.0.2.2"] {
        greets(&scene, https, name).unwrap();
    }
    let error = greets(&scene, https, "192.0.2.7").unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    let fleet = "version = 1\n[server]\naddress = \"192.0.2.7\"\n";
    fs::write(server.path("fleet.toml"), fleet).unwrap();
    wait_until("a certificate with the new address", || {
        greets(&scene, https, "192.0.2.7").is_ok()
    });
    greets(&scene, https, "localhost").unwrap();
    let root = scene.root.path().to_str().unwrap();
    let shown = run(&["tls", "show", "--root", root]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("192.0.2.7") && shown.contains("SHA-256"),
        "{shown}"
    );
    // A server that is started anew has the same authority: machines need no new initramfs.
    drop(server);
    let (_server, https) = scene.serve();
    greets(&scene, https, "192.0.2.7").unwrap();
}

#[test]
fn who_speaks_http_to_the_https_port_is_told_what_to_do() {
    let scene = Scene::new();
    let (_server, https) = scene.serve();
    let mut stream = TcpStream::connect(https).unwrap();
    stream.write_all(b"GET /share/ HTTP/1.1\r\n").unwrap();
    stream.write_all(b"host: x\r\n\r\n").unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{told}");
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{told}"
    );
    assert!(body.contains("write https://"), "{told}");
    greets(&scene, https, "localhost").unwrap();
}

#[test]
fn clients_that_are_slow_at_the_handshake_keep_nobody_waiting() {
    let scene = Scene::new();
    let (_server, https) = scene.serve();
    let silent: Vec<TcpStream> = (0..300)
        .map(|at| {
            let mut stream = TcpStream::connect(https).unwrap();
            // Half of them begin: the head of a record, and no more.
            if at % 2 == 0 {
                stream.write_all(&[0x16, 3, 1, 0x2]).unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        greets(&scene, https, "localhost").unwrap();
    }
    drop(silent);
}

#[test]
fn what_does_not_go_together_is_told_at_the_start() {
    let scene = Scene::new();
    let root = scene.root.path().to_str().unwrap();
    let serve = |more: &[&str]| {
        run(&[&["serve", "--root", root, "--listen", "127.0.0.1:0"], more].concat())
    };
    for (more, status, why) in [
        (&["--tls-listen", "127.0.0.1:0"][..], 2, "--tls"),
        (&["--tls-cert", "x"], 2, "--tls-key"),
        (&["--tls", "--url", "http://srv"], 1, "https://"),
        (
            &[
                "--tls-cert",
                "/none",
                "--tls-key",
                "/none",
                "--tls-listen",
                "127.0.0.1:0",
            ],
            1,
            "/none",
        ),
    ] {
        let output = serve(more);
        assert_eq!(output.status.code(), Some(status), "{more:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(why), "{more:?}: {told}");
    }
}
