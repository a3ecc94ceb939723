//! Real servers on loopback, each with a folder of its own, ended when dropped.

use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub struct Server {
    _daemon: Daemon,
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

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["share", "plain", "small", "temp"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("share/pitstop-share"), "").unwrap();
    folder
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
    let mut command = Command::new("nginx");
    command.args(["-p", &root, "-c"]).arg(file);
    Server {
        _daemon: Daemon::listening(&mut command, port),
        folder,
        base: format!("http://127.0.0.1:{port}"),
    }
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
    let mut command = Command::new("apache2");
    command.args(["-X", "-f"]).arg(file);
    Server {
        _daemon: Daemon::listening(&mut command, port),
        folder,
        base: format!("http://127.0.0.1:{port}"),
    }
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
    let mut daemon = Daemon::start(Command::new("dnsmasq").args(arguments));
    // As the kernel's list of sockets has it: the last byte first, and port 69 in hexadecimal.
    let listens = format!("{:02X}{:02X}457F:0045", port % 256, port / 256);
    daemon.wait_until("dnsmasq", || {
        let sockets = fs::read_to_string("/proc/net/udp").unwrap();
        sockets.contains(&listens)
    });
    Server {
        _daemon: daemon,
        folder,
        base: format!("tftp://{address}"),
    }
}
