//! Networks of their own: a bridge with `pitstop serve` on it, and others that are plugged into it. Needs root, `ip`, and
//! the servers and clients that tests name; fails without them.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use dhcproto::v4::{
    DhcpOption, DhcpOptions, Flags, Message, MessageType, OptionCode, UnknownOption,
};
use dhcproto::{Decodable, Decoder, Encodable};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use pitstop_testing::running::Running;
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// `pitstop serve`.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Whoever else gives addresses.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// How long what takes no time may take on a busy computer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait for an answer that should not come.
pub const SILENCE: Duration = Duration::from_millis(2500);

/// What `pitstop serve` says when it serves.
const READY: &str = "machines reach it as";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs `ip`, which must do as it is told.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("`ip` is needed for this test: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments} (root?): {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace; it goes with the value.
pub struct Place {
    pub name: String,
}

impl Place {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pitdhcp-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self { name }
    }

    /// `ip` in it.
    pub fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` in it.
    pub fn at<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            working
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A network with a bridge at [`SERVER`], and a folder.
pub struct Lab {
    pub bridge: Place,
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let bridge = Place::new();
        bridge.ip("link add br0 type bridge");
        bridge.ip(&format!("addr add {SERVER}/24 dev br0"));
        bridge.ip("link set br0 up");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { bridge, folder }
    }

    /// Somebody on a cable to the bridge, by a card `e0`.
    pub fn join(&self, address: Option<Ipv4Addr>) -> Place {
        let place = Place::new();
        let port = format!("p{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.bridge.ip(&format!(
            "link add {port} type veth peer name e0 netns {}",
            place.name
        ));
        self.bridge.ip(&format!("link set {port} master br0 up"));
        place.ip("link set e0 up");
        if let Some(address) = address {
            place.ip(&format!("addr add {address}/24 dev e0"));
        }
        place
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Writes the fleet file: this network, and what the test adds.
    pub fn fleet(&self, more: &str) {
        let text = format!(
            "version = 1\n{more}\n[network.\"10.77.0.0/24\"]\nrouter = \"{SERVER}\"\ndns = [\"10.77.0.53\"]\n\
             domain = \"lab.example\"\nrange = \"10.77.0.100-10.77.0.103\"\nlease-time = \"1h\"\n"
        );
        fs::write(self.root().join("fleet.toml"), text).unwrap();
    }

    /// `pitstop serve` at the bridge, ready.
    pub fn serve(&self, arguments: &[&str]) -> Daemon {
        self.serve_in(&self.bridge, "root", arguments)
    }

    pub fn serve_in(&self, place: &Place, root: &str, arguments: &[&str]) -> Daemon {
        let root = self.folder.path().join(root);
        fs::create_dir_all(&root).unwrap();
        let daemon = Self::start(place, &root, arguments);
        daemon.says(READY);
        daemon
    }

    fn start(place: &Place, root: &Path, arguments: &[&str]) -> Daemon {
        let mut command = place.command(env!("CARGO_BIN_EXE_pitstop"));
        command.arg("serve").arg("--root").arg(root).args(arguments);
        command.env_remove("PITSTOP_ROOT");
        Daemon::start(command, &root.with_extension("log"))
    }

    /// `pitstop serve` that has to refuse: what it says. What others say in time is a reason to, and on a busy computer they
    /// may be late: where it starts, it is started once more.
    pub fn refuses(&self, arguments: &[&str]) -> String {
        for _ in 0..5 {
            let mut daemon = Self::start(&self.bridge, &self.root(), arguments);
            if let Some(status) = daemon.ends_or_says(READY) {
                assert_eq!(status.code(), Some(1), "{}", daemon.said());
                return daemon.said();
            }
        }
        panic!("it did not refuse")
    }

    /// dnsmasq, ready, on the card of `place`.
    pub fn dnsmasq(&self, place: &Place, options: &[&str]) -> Daemon {
        let mut command = place.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--port=0",
        ]);
        command.args(["--bind-interfaces", "--user=root", "--pid-file="]);
        let leases = self.folder.path().join(format!("{}.leases", place.name));
        command
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .args(options);
        let daemon = Daemon::start(command, &self.folder.path().join("dnsmasq.log"));
        daemon.says("started");
        daemon
    }

    /// ISC's server, ready, on the card of `place`.
    pub fn dhcpd(&self, place: &Place) -> Daemon {
        let path = |name: &str| self.folder.path().join(name);
        let config = "authoritative;\nsubnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.50 10.77.0.60; }\n";
        fs::write(path("dhcpd.conf"), config).unwrap();
        fs::write(path("dhcpd.leases"), "").unwrap();
        let mut command = place.command("dhcpd");
        command.args(["-4", "-d", "-cf"]).arg(path("dhcpd.conf"));
        command
            .arg("-lf")
            .arg(path("dhcpd.leases"))
            .arg("-pf")
            .arg(path("dhcpd.pid"))
            .arg("e0");
        let daemon = Daemon::start(command, &path("dhcpd.log"));
        daemon.says("Server starting service");
        daemon
    }

    /// Kea, ready, on the card of `place`.
    pub fn kea(&self, place: &Place) -> Daemon {
        let path = |name: &str| self.folder.path().join(name);
        let config = r#"{ "Dhcp4": {
            "interfaces-config": { "interfaces": ["e0"] },
            "lease-database": { "type": "memfile", "persist": false },
            "subnet4": [{ "id": 1, "subnet": "10.77.0.0/24", "pools": [{ "pool": "10.77.0.50 - 10.77.0.60" }] }]
        } }"#;
        fs::write(path("kea.conf"), config).unwrap();
        let mut command = place.command("kea-dhcp4");
        command.arg("-c").arg(path("kea.conf"));
        command
            .env("KEA_PIDFILE_DIR", self.folder.path())
            .env("KEA_LOCKFILE_DIR", self.folder.path());
        let daemon = Daemon::start(command, &path("kea.log"));
        daemon.says("DHCP4_STARTED");
        daemon
    }
}

/// A program that runs until dropped; its words are in a file.
pub struct Daemon {
    child: Running,
    log: PathBuf,
}

impl Daemon {
    fn start(mut command: Command, log: &Path) -> Self {
        let output = File::create(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} is needed for this test: {error}"));
        Self {
            child: Running::new(child),
            log: log.to_path_buf(),
        }
    }

    /// Waits until it ends, and returns how, or has said this.
    fn ends_or_says(&mut self, wanted: &str) -> Option<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || self.said().contains(wanted) {
                return ended;
            }
            assert!(Instant::now() < end, "it hangs:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said this.
    pub fn says(&self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said().contains(wanted) {
            assert!(
                Instant::now() < end,
                "nobody said {wanted:?}:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A machine's card, with its socket on the port of DHCP clients.
pub struct Card {
    pub socket: UdpSocket,
    pub mac: [u8; 6],
}

/// What a card's boot ROM says of itself.
#[derive(Clone, Copy)]
pub struct Rom {
    pub class: &'static str,
    pub architecture: u8,
    pub user_class: &'static str,
}

pub const BIOS: Rom = Rom {
    class: "PXEClient:Arch:00000:UNDI:002001",
    architecture: 0,
    user_class: "",
};

pub const UEFI: Rom = Rom {
    class: "PXEClient:Arch:00007:UNDI:003001",
    architecture: 7,
    user_class: "",
};

/// The machine's UUID, as option 97 has it.
pub const MACHINE: [u8; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

impl Card {
    /// The card `e0` of a place, with this last number of its address.
    pub fn of(place: &Place, number: u8) -> Self {
        let socket = place.at(|| socket(68));
        Self {
            socket,
            mac: [0x52, 0x54, 0, 0x77, 0, number],
        }
    }

    /// A question with these options.
    pub fn question(&self, kind: MessageType, options: &[(u8, &[u8])]) -> Message {
        let mut message = Message::default();
        message.set_chaddr(&self.mac);
        // It does not hear what goes to an address that it does not have yet.
        message.set_flags(Flags::default().set_broadcast());
        let mut all = DhcpOptions::from_iter([DhcpOption::MessageType(kind)]);
        for (code, data) in options {
            let option = UnknownOption::new(OptionCode::from(*code), data.to_vec());
            all.insert(DhcpOption::Unknown(option));
        }
        message.set_opts(all);
        message
    }

    /// What a boot ROM asks first.
    pub fn discover(&self, rom: Rom) -> Message {
        let architecture = [0, rom.architecture];
        let mut options = vec![
            (60, rom.class.as_bytes()),
            (93, &architecture[..]),
            (97, &MACHINE[..]),
            (55, &[1, 3, 43, 60, 66, 67][..]),
        ];
        if !rom.user_class.is_empty() {
            options.push((77, rom.user_class.as_bytes()));
        }
        self.question(MessageType::Discover, &options)
    }

    /// Asks everybody. All answers to it until there are `count`, or nothing more comes.
    pub fn ask(&self, question: &Message, count: usize) -> Vec<Message> {
        self.ask_at(question, (Ipv4Addr::BROADCAST, 67), count)
    }

    /// Asks again as clients do: answers may get lost, and servers may take their time.
    pub fn ask_at(&self, question: &Message, to: (Ipv4Addr, u16), count: usize) -> Vec<Message> {
        let mut answers: Vec<Message> = Vec::new();
        let patience = if count == 0 { SILENCE } else { PATIENCE };
        let end = Instant::now() + patience;
        let mut again = Instant::now();
        while answers.len() < count.max(1) && Instant::now() < end {
            if Instant::now() >= again {
                self.socket
                    .send_to(&question.to_vec().unwrap(), to)
                    .unwrap();
                again = Instant::now() + Duration::from_secs(4);
            }
            let Some(answer) = self.hear() else { continue };
            let from = server(&answer);
            let ours = answer.xid() == question.xid();
            if ours && answers.iter().all(|other| server(other) != from) {
                answers.push(answer);
            }
        }
        answers.sort_by_key(server);
        answers
    }

    pub fn send(&self, bytes: &[u8]) {
        self.socket
            .send_to(bytes, (Ipv4Addr::BROADCAST, 67))
            .unwrap();
    }

    fn hear(&self) -> Option<Message> {
        let mut buffer = [0; 2000];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        Message::decode(&mut Decoder::new(&buffer[..length])).ok()
    }
}

/// On the card, for broadcasts before it has an address.
pub fn socket(port: u16) -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&socket, sockopt::Broadcast, &true).unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &"e0".into()).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)).unwrap();
    let socket = UdpSocket::from(socket);
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    socket
}

pub fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap()
}

/// Option 54.
pub fn server(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

/// The boot file in its field.
pub fn file(message: &Message) -> String {
    let field = message.fname().unwrap_or_default();
    let text = String::from_utf8(field.to_vec()).unwrap();
    text.trim_end_matches('\0').to_owned()
}

/// Any option, as bytes.
pub fn raw(message: &Message, code: u8) -> Option<Vec<u8>> {
    let bytes = message.to_vec().unwrap();
    let read = dhcproto::v4::borrowed::Message::new(&bytes).unwrap();
    let mut options = read.opts();
    let found = options.find(|option| u8::from(option.code()) == code);
    found.map(|option| option.data().to_vec())
}

/// The address that busybox's client gets; what it said where it gets none.
pub fn udhcpc(place: &Place) -> Result<Ipv4Addr, String> {
    udhcpc_tries(place, 60)
}

/// The same, where it asks so often and no more.
pub fn udhcpc_tries(place: &Place, tries: u32) -> Result<Ipv4Addr, String> {
    let mut command = place.command("busybox");
    command.args(["udhcpc", "-i", "e0", "-f", "-n", "-q", "-T", "2"]);
    command.args(["-t", &tries.to_string(), "-s", "/bin/true"]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout);
    let after = said
        .split_once("lease of ")
        .map(|(_, after)| after.to_owned());
    let address = after.and_then(|after| after.split([' ', ',']).next()?.parse().ok());
    match address {
        Some(address) if output.status.success() => Ok(address),
        _ => Err(said),
    }
}
