//! Servers that machines meet: Pitstop's own, nginx, dnsmasq's DHCP, NFS; and networks of their own to meet in.

use crate::paths::{self, Payload};
use crate::tools;
use crate::vm::{HOST, KERNEL_PARAMETERS};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_PATIENCE: Duration = Duration::from_secs(300);

/// A program that runs until dropped.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a command; what it says goes to a file named after it.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Service> {
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Service { child, log })
    }

    /// Waits until `ready` says so; an error has what the program said.
    pub(crate) fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{what} did not start ({ended:?}):\n{said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts what machines boot into the root of a server, unless something is there already. Without a word from the test
/// that is the small payload, because emulated firmware loads the one that is delivered for many seconds.
pub fn put_payload(payload: Payload, root: &Path) -> Result<()> {
    let boot = root.join("boot");
    fs::create_dir_all(&boot).with_context(|| format!("making {}", boot.display()))?;
    for name in ["vmlinuz", "initramfs.img"] {
        let file = boot.join(name);
        if !file.exists() {
            fs::copy(payload.file(name)?, &file)
                .with_context(|| format!("making {}", file.display()))?;
        }
    }
    Ok(())
}

/// A port of the loopback that nothing listens on, and that no other test gets.
pub fn free_port() -> Result<u16> {
    Ok(pitstop_testing::ports::free_port())
}

pub(crate) fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A network of its own, with a bridge at [`Namespace::ADDRESS`]. It ends with the value, or with the test that
/// made it, however that ends.
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// The address of the side that servers are on.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The same where there is IPv6, after [`Namespace::add_ipv6`].
    pub const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

    /// The address of [`Namespace::beside`].
    pub const BESIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    pub fn new() -> Result<Namespace> {
        Namespace::at(Self::ADDRESS)
    }

    /// Another computer on the same wire, its bridge at [`Namespace::BESIDE`]: for a second server of the same kind.
    pub fn beside(&self) -> Result<Namespace> {
        let other = Namespace::at(Self::BESIDE)?;
        let far = other.holder.id();
        self.ip(&format!(
            "link add wire type veth peer name wire netns {far}"
        ))?;
        for side in [self, &other] {
            side.ip("link set wire master br0 up")?;
        }
        Ok(other)
    }

    fn at(address: Ipv4Addr) -> Result<Namespace> {
        let mut command = tools::command("unshare")?;
        command
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null());
        let holder = command.spawn().context("starting unshare")?;
        let namespace = Namespace { holder };
        let ours = fs::read_link("/proc/self/ns/net")?;
        let deadline = Instant::now() + START_PATIENCE;
        while fs::read_link(namespace.path()).map_or(true, |theirs| theirs == ours) {
            ensure!(
                Instant::now() < deadline,
                "unshare made no network namespace: it needs root"
            );
            thread::sleep(Duration::from_millis(10));
        }
        namespace.ip("link set lo up")?;
        namespace.ip("link add br0 type bridge")?;
        namespace.ip(&format!("addr add {address}/24 dev br0"))?;
        namespace.ip("link set br0 up")?;
        Ok(namespace)
    }

    /// What `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// A command that will run in the namespace at `path`.
    pub fn command_in(path: &Path, program: &str) -> Result<Command> {
        Namespace::wrapped_in(path, &tools::find(program)?)
    }

    fn wrapped_in(path: &Path, program: &Path) -> Result<Command> {
        let mut command = tools::command("nsenter")?;
        command
            .arg(format!("--net={}", path.display()))
            .arg("--")
            .arg(program);
        Ok(command)
    }

    /// A tap device on the bridge, for one machine.
    pub fn tap(&self, interface: &str) -> Result<()> {
        self.ip(&format!("tuntap add {interface} mode tap"))?;
        self.ip(&format!("link set {interface} master br0 up"))
    }

    /// The same behind a line of so many Mbit/s in each direction.
    pub fn slow_tap(&self, interface: &str, rate: u32) -> Result<()> {
        let (bridge, near, far) = (
            format!("b-{interface}"),
            format!("n-{interface}"),
            format!("f-{interface}"),
        );
        self.ip(&format!("link add {bridge} up type bridge"))?;
        self.ip(&format!("tuntap add {interface} mode tap"))?;
        self.ip(&format!("link set {interface} master {bridge} up"))?;
        self.ip(&format!("link add {near} type veth peer name {far}"))?;
        for (end, switch) in [(&near, bridge.as_str()), (&far, "br0")] {
            self.ip(&format!("link set {end} master {switch} up"))?;
            let shape =
                format!("qdisc add dev {end} root tbf rate {rate}mbit burst 64kb latency 20ms");
            let mut command = Namespace::command_in(&self.path(), "tc")?;
            tools::output(command.args(shape.split(' ')))?;
        }
        Ok(())
    }

    /// Gives the servers' side an IPv6 address too.
    pub fn add_ipv6(&self) -> Result<()> {
        self.ip(&format!("addr add {}/64 dev br0 nodad", Self::ADDRESS6))
    }

    /// Lets frames of so many bytes through, and through this tap device.
    pub fn set_mtu(&self, interface: &str, bytes: u16) -> Result<()> {
        self.ip(&format!("link set {interface} mtu {bytes}"))?;
        self.ip(&format!("link set br0 mtu {bytes}"))
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let mut command = Namespace::command_in(&self.path(), "ip")?;
        tools::output(command.args(arguments.split(' ')))?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both fail only when the holder has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// DHCP as a site's own server gives it: one address, one boot file.
pub struct Dnsmasq {
    _service: Service,
    folder: tempfile::TempDir,
}

impl Dnsmasq {
    /// Gives `address` to the machine with this MAC, with a host name when there is one, and names a boot file, or
    /// the URL of one for iPXE and for firmware that boots over HTTP by itself.
    pub fn start(
        network: &Namespace,
        mac: &str,
        address: &str,
        hostname: Option<&str>,
        bootfile: &str,
    ) -> Result<Dnsmasq> {
        let host = hostname.map(|name| format!(",{name}")).unwrap_or_default();
        let range = format!("--dhcp-range={address},{address},1h");
        let host = format!("--dhcp-host={mac},{address}{host}");
        if bootfile.starts_with("http://") {
            // UEFI 2.10, 24.7.3.1: the firmware takes offers of this vendor class alone.
            let options = [
                &range,
                &host,
                "--dhcp-vendorclass=set:http,HTTPClient",
                "--dhcp-option-force=tag:http,60,HTTPClient",
                &format!("--dhcp-boot=tag:http,{bootfile}"),
                &format!("--dhcp-boot=tag:!http,{bootfile}"),
            ];
            return Dnsmasq::run(network, &options);
        }
        let boot = format!("--dhcp-boot={bootfile},,{}", Namespace::ADDRESS);
        Dnsmasq::run(network, &[&range, &host, &boot])
    }

    /// Gives what these options say.
    pub fn run(network: &Namespace, options: &[&str]) -> Result<Dnsmasq> {
        let folder = tempfile::tempdir()?;
        let mut command = Namespace::command_in(&network.path(), "dnsmasq")?;
        command.args([
            "--keep-in-foreground",
            "--log-facility=-",
            "--log-dhcp",
            "--conf-file=/dev/null",
            "--port=0",
        ]);
        command.args([
            "--user=root",
            "--interface=br0",
            "--bind-interfaces",
            "--no-ping",
        ]);
        command.arg(format!(
            "--dhcp-leasefile={}",
            folder.path().join("leases").display()
        ));
        // In its usual place, two that start at a time fight over it.
        command.arg(format!(
            "--pid-file={}",
            folder.path().join("pid").display()
        ));
        command.args(options);
        let log = folder.path().join("log");
        let mut service = Service::start(command, log.clone())?;
        service.wait_until("dnsmasq", || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("started"))
        })?;
        Ok(Dnsmasq {
            _service: service,
            folder,
        })
    }

    /// What it has said so far, each message and its options.
    pub fn log(&self) -> Result<String> {
        let log = self.folder.path().join("log");
        fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))
    }
}

/// `pitstop serve`, with a root folder of its own.
pub struct Server {
    _service: Service,
    root: PathBuf,
    port: u16,
    url: String,
    /// Holds the root, where it is not to be kept.
    folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Serves a new root on the loopback, where QEMU's user network reaches it; no TFTP.
    pub fn start() -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let mut server = Server::start_in(&folder.path().join("root"), None)?;
        server.folder = Some(folder);
        Ok(server)
    }

    /// Serves this root on the loopback, or in a network namespace on the usual ports, TFTP included.
    pub fn start_in(root: &Path, network: Option<&Namespace>) -> Result<Server> {
        if network.is_none() {
            return Server::start_on_loopback(root, &[]);
        }
        Server::start_with(root, network, &[])
    }

    /// Serves this root on the loopback, with more options.
    pub fn start_on_loopback(root: &Path, more: &[&str]) -> Result<Server> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let url = format!("http://{HOST}:{}", address.port());
        Server::listening(root, None, address, &url, more)
    }

    /// Serves this root on the loopback, by https but for boot loaders. Its own certificate authority may be there already.
    pub fn start_with_tls(root: &Path) -> Result<Server> {
        Server::start_with_keys(root, &[])
    }

    /// The same with more options.
    pub fn start_with_keys(root: &Path, more: &[&str]) -> Result<Server> {
        let http = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let https = free_port()?;
        let url = format!("https://{HOST}:{https}");
        let listen = format!("127.0.0.1:{https}");
        let tls = ["--tls", "--tls-listen", &listen];
        Server::listening(root, None, http, &url, &[&tls, more].concat())
    }

    /// Serves this root in a network namespace, with DHCP: `proxy` or `server`.
    pub fn start_with_dhcp(root: &Path, network: &Namespace, mode: &str) -> Result<Server> {
        Server::start_with(root, Some(network), &["--dhcp", mode])
    }

    /// Serves this root in a network namespace, to machines that show the token of their run.
    pub fn start_strict(root: &Path, network: &Namespace) -> Result<Server> {
        Server::start_with(root, Some(network), &["--machine-access", "token"])
    }

    fn start_with(root: &Path, network: Option<&Namespace>, more: &[&str]) -> Result<Server> {
        let address = (Namespace::ADDRESS, 8080).into();
        let url = format!("http://{}:8080", Namespace::ADDRESS);
        Server::listening(root, network, address, &url, more)
    }

    /// Serves this root in a network namespace over IPv6, on the usual ports.
    pub fn start_on_ipv6(root: &Path, network: &Namespace) -> Result<Server> {
        let address = (Namespace::ADDRESS6, 8080).into();
        let url = format!("http://[{}]:8080", Namespace::ADDRESS6);
        Server::listening(root, Some(network), address, &url, &[])
    }

    fn listening(
        root: &Path,
        network: Option<&Namespace>,
        address: SocketAddr,
        url: &str,
        more: &[&str],
    ) -> Result<Server> {
        let port = address.port();
        let program = paths::built("pitstop")?;
        for folder in ["hosts", "share", "boot"] {
            fs::create_dir_all(root.join(folder))?;
        }
        put_payload(Payload::Cloud, root)?;
        let marker = root.join("share/pitstop-share");
        fs::write(&marker, "").with_context(|| format!("making {}", marker.display()))?;
        let mut command = match network {
            Some(network) => Namespace::wrapped_in(&network.path(), &program)?,
            None => tools::wrapped(&program)?,
        };
        command.arg("serve").arg("--root").arg(root);
        command.args(["--listen", &address.to_string()]);
        command.args(["--url", url]);
        command.args(["--append", KERNEL_PARAMETERS]).args(more);
        if network.is_none() {
            command.args(["--tftp", "off"]);
        }
        let log = root.join("serve.log");
        let mut service = Service::start(command, log.clone())?;
        // Its port takes connections before it has written down what commands on its root look for.
        service.wait_until("pitstop serve", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("machines reach it as"))
        })?;
        Ok(Server {
            _service: service,
            root: root.to_path_buf(),
            port,
            url: url.to_owned(),
            folder: None,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As machines reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder that is served as `/share/`.
    pub fn share(&self) -> PathBuf {
        self.root.join("share")
    }

    /// The folder that is served as `/hosts/`.
    pub fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `pitstop host ARGUMENTS` on this root and returns what it said.
    pub fn host(&self, arguments: &[&str]) -> Result<String> {
        self.pitstop("host", arguments)
    }

    /// Runs `pitstop COMMAND ARGUMENTS` on this root and returns what it said.
    pub fn pitstop(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(paths::built("pitstop")?);
        command
            .arg(name)
            .args(arguments)
            .arg("--root")
            .arg(&self.root);
        tools::output(&mut command)
    }
}
