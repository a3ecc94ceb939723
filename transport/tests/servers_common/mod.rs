//! Real servers on loopback, each with a folder of its own, ended when dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Server {
    child: Child,
    folder: TempDir,
    base: String,
}

impl Server {
    /// What is served: `share` (DAV), `plain` (read only), `small` (DAV, at most 1 MiB).
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["share", "plain", "small", "temp"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("share/pitstop-share"), "").unwrap();
    folder
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(program: &str, arguments: &[&str], folder: TempDir, base: String) -> Server {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    Server {
        child,
        folder,
        base,
    }
}

/// Waits until somebody listens, or the server has ended.
fn wait_for(server: &mut Server, port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = server.child.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended: {ended:?}");
        assert!(Instant::now() < deadline, "the server does not listen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// As docs/share.md tells people to set it up.
pub fn nginx() -> Server {
    let folder = folder();
    let port = free_port();
    let root = folder.path().display().to_string();
    let configuration = format!(
        "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
         events {{ }}
         http {{
           access_log off;
           client_body_temp_path {root}/temp; proxy_temp_path {root}/temp; fastcgi_temp_path {root}/temp;
           uwsgi_temp_path {root}/temp; scgi_temp_path {root}/temp;
           server {{
             listen 127.0.0.1:{port}; root {root}; client_max_body_size 0;
             location /share/ {{ dav_methods PUT DELETE MOVE MKCOL; create_full_put_path on; }}
             location /small/ {{ dav_methods PUT DELETE MOVE MKCOL; client_max_body_size 1m; }}
           }}
         }}"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let file = file.display().to_string();
    let base = format!("http://127.0.0.1:{port}");
    let mut server = start("nginx", &["-p", &root, "-c", &file], folder, base);
    wait_for(&mut server, port);
    server
}

/// As docs/share.md tells people to set it up.
pub fn apache() -> Server {
    let folder = folder();
    let port = free_port();
    let root = folder.path().display().to_string();
    let modules = "/usr/lib/apache2/modules";
    let configuration = format!(
        "ServerRoot {root}
         ServerName localhost
         PidFile {root}/apache.pid
         ErrorLog {root}/error.log
         Listen 127.0.0.1:{port}
         LoadModule mpm_event_module {modules}/mod_mpm_event.so
         LoadModule authz_core_module {modules}/mod_authz_core.so
         LoadModule dav_module {modules}/mod_dav.so
         LoadModule dav_fs_module {modules}/mod_dav_fs.so
         User www-data
         Group www-data
         DocumentRoot {root}
         DavLockDB {root}/temp/DavLock
         <Directory {root}/share>
           Dav On
         </Directory>"
    );
    let file = folder.path().join("apache.conf");
    fs::write(&file, configuration).unwrap();
    // Apache gives up root by itself, and then needs its own folders.
    let owned = Command::new("chown")
        .args(["-R", "www-data:www-data", &root])
        .status();
    assert!(owned.unwrap().success());
    let file = file.display().to_string();
    let base = format!("http://127.0.0.1:{port}");
    let mut server = start("apache2", &["-X", "-f", &file], folder, base);
    wait_for(&mut server, port);
    server
}

/// A TFTP server of the root.
pub fn dnsmasq() -> Server {
    let folder = folder();
    // dnsmasq serves TFTP on port 69 only: an address of its own keeps it out of others' way.
    let port = free_port();
    let address = format!("127.69.{}.{}", port / 256, port % 256);
    let root = folder.path().display().to_string();
    let arguments = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--bind-interfaces",
        &format!("--listen-address={address}"),
        "--user=root",
        "--enable-tftp",
        "--tftp-no-fail",
        &format!("--tftp-root={root}"),
        &format!("--pid-file={root}/dnsmasq.pid"),
    ];
    let base = format!("tftp://{address}");
    start("dnsmasq", &arguments, folder, base)
}
