//! The client against a real server: dnsmasq behind a virtual cable, each end in a network namespace of its
//! own. Needs root, `ip` and `dnsmasq`; fails without them.

use super::renew;
use super::*;
use dhcproto::v4::{DhcpOptions, Message, Opcode};
use dhcproto::{Decodable, Decoder, Encodable};
use nix::sys::socket::{setsockopt, sockopt};
use pitstop_payload::event::Silent;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x77, 0x88, 0x99];

/// Two namespaces and the cable between them; both go with it.
struct Cable {
    server: String,
    client: String,
    dnsmasq: Option<Child>,
    folder: tempfile::TempDir,
}

fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("`ip` is needed for this test: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args} (root?): {errors}");
}

impl Cable {
    fn lay(name: &str) -> Self {
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
        ip(&format!("-n {server} addr add 10.77.0.1/24 dev s0"));
        ip(&format!("-n {client} link set c0 up"));
        cable
    }

    fn serve(&mut self, options: &[&str]) {
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

    fn stop_serving(&mut self) {
        if let Some(mut dnsmasq) = self.dnsmasq.take() {
            let _ = dnsmasq.kill();
            let _ = dnsmasq.wait();
        }
    }

    /// Answers the next question with a no, to all, as RFC 2131 4.3.2 wants it.
    fn refuse_next(&self) -> thread::JoinHandle<()> {
        let (bound, ready) = channel();
        let refusing = at(&self.server, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
            setsockopt(&socket, sockopt::Broadcast, &true).unwrap();
            setsockopt(&socket, sockopt::BindToDevice, &"s0".into()).unwrap();
            bound.send(()).unwrap();
            let mut buffer = [0; 1500];
            let (length, _) = socket.recv_from(&mut buffer).unwrap();
            let mut message = Message::decode(&mut Decoder::new(&buffer[..length])).unwrap();
            message.set_opcode(Opcode::BootReply);
            message.set_opts(DhcpOptions::from_iter([
                DhcpOption::MessageType(MessageType::Nak),
                DhcpOption::Message("moved".into()),
            ]));
            let all = (Ipv4Addr::BROADCAST, CLIENT_PORT);
            socket.send_to(&message.to_vec().unwrap(), all).unwrap();
        });
        ready.recv().unwrap();
        refusing
    }

    /// Runs `work` at the client's end.
    fn at_client<T: Send + 'static>(&self, work: impl FnOnce(Nic) -> T + Send + 'static) -> T {
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

fn ask(nic: &Nic, patience: Duration) -> Option<Granted> {
    let began = Instant::now();
    let mut backoff = Backoff::default();
    acquire(nic, began, began + patience, &mut backoff, &Silent).unwrap()
}

#[test]
fn dnsmasq_grants_what_it_was_told_and_renews_it() {
    let mut cable = Cable::lay("grant");
    cable.serve(&[
        "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2h",
        "--dhcp-host=52:54:00:77:88:99,10.77.0.55,box7",
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.1,10.77.0.2",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=121,192.0.2.0/24,10.77.0.9",
        "--dhcp-boot=pxelinux.0,,10.77.0.1",
    ]);
    let (settings, renewed) = cable.at_client(|nic| {
        let granted = ask(&nic, Duration::from_secs(60)).expect("an address");
        let mut netlink = crate::net::netlink::Netlink::open().unwrap();
        let settings = granted.settings;
        netlink
            .add_address(nic.index, settings.address.into(), settings.prefix)
            .unwrap();
        for route in &settings.routes {
            netlink.add_route(nic.index, route).unwrap();
        }
        netlink.set_mtu(nic.index, 1400).unwrap();
        let renewed = renew::ask(&nic, settings.address, settings.server).unwrap();
        (settings, renewed)
    });
    assert_eq!(settings.address, Ipv4Addr::new(10, 77, 0, 55));
    assert_eq!((settings.prefix, settings.mtu), (24, Some(1400)));
    assert_eq!(settings.hostname.as_deref(), Some("box7"));
    assert_eq!(settings.dns.len(), 2);
    assert_eq!(settings.routes.len(), 1, "option 121 replaces option 3");
    assert_eq!(
        settings.routes[0].gateway,
        Some(Ipv4Addr::new(10, 77, 0, 9).into())
    );
    assert_eq!(settings.boot.file.as_deref(), Some("pxelinux.0"));
    assert_eq!(settings.times.lease, Duration::from_secs(7200));
    let renew::Reply::Granted(renewed) = renewed else {
        panic!("not renewed");
    };
    assert_eq!(renewed.settings.address, settings.address);
    let links = Command::new("ip")
        .args(["-n", &cable.client, "link", "show", "c0"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&links.stdout).contains("mtu 1400"));
}

#[test]
fn a_server_that_appears_late_is_found_and_a_refused_renewal_is_told() {
    let mut cable = Cable::lay("late");
    cable.at_client(|nic| {
        let nobody = ask(&nic, Duration::from_secs(2));
        assert!(nobody.is_none(), "{nobody:?}");
    });
    cable.serve(&["--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2h"]);
    let granted = cable.at_client(|nic| ask(&nic, Duration::from_secs(60)).expect("an address"));
    cable.stop_serving();
    let refusal = cable.refuse_next();
    let refused = cable.at_client(move |nic| {
        let mut netlink = crate::net::netlink::Netlink::open().unwrap();
        let address = granted.settings.address;
        netlink.add_address(nic.index, address.into(), 24).unwrap();
        renew::ask(&nic, address, granted.settings.server).unwrap()
    });
    refusal.join().unwrap();
    assert!(
        matches!(&refused, renew::Reply::No(why) if why == "moved"),
        "{refused:?}"
    );
}
