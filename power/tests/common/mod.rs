//! BMCs for the tests: real ones in software.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use pitstop_power::{Credentials, Limits, Power, Target};
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub use pitstop_power::fake::PASSWORD;
/// How long a BMC may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A root with a credentials file of its own.
pub fn credentials(root: &Path, text: &str) -> Credentials {
    let path = root.join("credentials.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Credentials::read(root).unwrap()
}

pub fn login() -> String {
    format!("[default]\nuser = \"admin\"\npassword = \"{PASSWORD}\"\n")
}

pub fn power(text: &str) -> Power {
    Power::parse(&text.into()).unwrap()
}

pub fn target() -> Target {
    Target {
        name: "lab3-01".into(),
        ..Target::default()
    }
}

pub fn limits(call: u64, settle: u64) -> Limits {
    Limits {
        call: Duration::from_secs(call),
        settle: Duration::from_secs(settle),
        pause: Duration::from_millis(200),
    }
}

/// `OpenStack`'s Redfish emulator, with the driver whose machines take their time.
pub struct Sushy {
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub tls: bool,
    _daemon: Daemon,
}

/// The only machine of the emulator.
pub const SYSTEM: &str = "/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef094";

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/sushy/bin")
}

impl Sushy {
    /// `tls`: with a certificate that nobody signed.
    pub fn start(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| folder.path().join(name);
        let hashed = Command::new(tools().join("python"))
            .args(["-c", "import bcrypt,sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())", PASSWORD])
            .output()
            .expect("this test needs sushy-tools: .ci/setup test installs it");
        assert!(hashed.status.success(), "{hashed:?}");
        let hashed = String::from_utf8(hashed.stdout).unwrap();
        fs::write(path("users"), format!("admin:{hashed}")).unwrap();
        let config = format!(
            "SUSHY_EMULATOR_AUTH_FILE = '{}'\nSUSHY_EMULATOR_STATE_DIR = '{}'\n",
            path("users").display(),
            folder.path().display()
        );
        fs::write(path("config"), config).unwrap();
        let mut command = Command::new(tools().join("sushy-emulator"));
        command
            .args([
                "--fake",
                "-i",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "--config",
            ])
            .arg(path("config"));
        if tls {
            let signed = rcgen::generate_simple_self_signed(["bmc.example".to_owned()]).unwrap();
            fs::write(path("cert.pem"), signed.cert.pem()).unwrap();
            fs::write(path("key.pem"), signed.signing_key.serialize_pem()).unwrap();
            command.arg("--ssl-certificate").arg(path("cert.pem"));
            command.arg("--ssl-key").arg(path("key.pem"));
        }
        Self {
            folder,
            port,
            tls,
            _daemon: Daemon::listening(&mut command, port),
        }
    }

    pub fn power(&self) -> Power {
        let scheme = if self.tls { "redfish" } else { "redfish+http" };
        power(&format!("{scheme}://127.0.0.1:{}{SYSTEM}", self.port))
    }
}
