//! A virtual cable for tests, each end in a network namespace of its own, with dnsmasq at one of them. Needs root,
//! `ip` and `dnsmasq`; fails without them.

use super::nics::Nic;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use pitstop_imaging::event::{Event, Reporter};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// The server's end.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x77, 0x88, 0x99];

/// Two namespaces and the cable between them; both go with it.
pub struct Cable {
    server: String,
    client: String,
    dnsmasq: Option<Child>,
    folder: tempfile::TempDir,
}

fn ip(args: &str) -> String {
    let output = Command::new("ip")
        .args(args.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("`ip` is needed for this test: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args} (root?): {errors}");
    String::from_utf8(output.stdout).unwrap()
}

impl Cable {
    pub fn lay(name: &str) -> Self {
        let name = format!("pitstop-{name}-{}", std::process::id());
        let cable = Self {
            server: format!("{name}-s"),
            client: format!("{name}-c"),
            dnsmasq: None,
            folder: tempfile::tempdir().unwrap(),
        };
        let (server, client) = (&cable.server, &cable.client);
        ip(&format!("netns add {server}"));
        ip(&format!("netns add {client}"));
        ip(&format!(
            "link add c0 netns {client} address {} type veth peer name s0 netns {server}",
            crate::net::nics::mac_text(MAC)
        ));
        ip(&format!("-n {server} link set s0 up"));
        ip(&format!("-n {server} addr add {SERVER}/24 dev s0"));
        ip(&format!("-n {client} link set c0 up"));
        cable
    }

    pub fn serve(&mut self, options: &[&str]) {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server, "dnsmasq"])
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"])
            .args(["--interface=s0", "--bind-interfaces", "--user=root"])
            .arg(format!(
                "--dhcp-leasefile={}",
                self.folder.path().join("leases").display()
            ))
            .arg("--pid-file=")
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.dnsmasq = Some(child);
    }

    pub fn stop_serving(&mut self) {
        if let Some(mut dnsmasq) = self.dnsmasq.take() {
            let _ = dnsmasq.kill();
            let _ = dnsmasq.wait();
        }
    }

    /// Runs `work` at the server's end, beside dnsmasq if there is one, with a socket on the server's port.
    pub fn at_server<T: Send + 'static>(
        &self,
        work: impl FnOnce(UdpSocket) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let (bound, ready) = channel();
        let working = at(&self.server, move || {
            let socket = shared_port();
            bound.send(()).unwrap();
            work(socket)
        });
        ready.recv().unwrap();
        working
    }

    /// What `ip` says at the client's end.
    pub fn ip_at_client(&self, args: &str) -> String {
        ip(&format!("-n {} {args}", self.client))
    }

    /// The same at the server's.
    pub fn ip_at_server(&self, args: &str) -> String {
        ip(&format!("-n {} {args}", self.server))
    }

    /// Runs `work` at the client's end.
    pub fn at_client<T: Send + 'static>(&self, work: impl FnOnce(Nic) -> T + Send + 'static) -> T {
        at(&self.client, move || {
            work(Nic {
                name: "c0".into(),
                index: nix::net::if_::if_nametoindex("c0").unwrap(),
                mac: MAC,
                carrier: true,
                below: None,
            })
        })
        .join()
        .unwrap()
    }
}

/// Every broadcast comes to each of those who share the port.
fn shared_port() -> UdpSocket {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
    setsockopt(&socket, sockopt::Broadcast, &true).unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &"s0".into()).unwrap();
    let all = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67));
    bind(socket.as_raw_fd(), &all).unwrap();
    UdpSocket::from(socket)
}

/// A thread in a namespace.
fn at<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop_serving();
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

/// Passes on what is said.
pub struct Heard(Sender<String>);

impl Heard {
    pub fn new() -> (Heard, Receiver<String>) {
        let (sender, said) = channel();
        (Heard(sender), said)
    }
}

impl Reporter for Heard {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            // A test that has ended listens no more.
            let _ = self.0.send(text.clone());
        }
    }
}

/// Waits until something is said that has this in it.
pub fn wait_for(said: &Receiver<String>, wanted: &str) {
    loop {
        let text = said
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|_| panic!("nobody said {wanted:?}"));
        if text.contains(wanted) {
            return;
        }
    }
}
