//! Requests to the kernel's routing socket (rtnetlink): links, addresses, routes.

use anyhow::{Context, bail};
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// rtnetlink(7): tells of links that appear, go, change their carrier.
const GROUP_LINK: u32 = 1;

/// A destination, the bits of its network part, and the router, if it is not on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
}

/// The requests that are made here. The crate's own enum of all that there are would put the code for every
/// kind of message, queueing disciplines and all, into the initramfs.
enum Request {
    Link(Link),
    NewLink(Link),
    Address(AddressMessage),
    Route(RouteMessage),
}

/// What is asked of a link (`struct ifinfomsg`, rtnetlink(7)). The crate's own message has every attribute of every
/// kind of link.
#[derive(Default)]
struct Link {
    /// 0 for one that is to be made.
    index: u32,
    /// Switched on; `false` leaves it as it is.
    up: bool,
    attributes: Vec<DefaultNla>,
}

impl Link {
    /// Where attributes begin.
    const HEADER: usize = 16;
}

impl Emitable for Link {
    fn buffer_len(&self) -> usize {
        Self::HEADER + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        /// `IFF_UP`
        const UP: [u8; 4] = 1u32.to_ne_bytes();
        let (header, attributes) = buffer.split_at_mut(Self::HEADER);
        header.fill(0);
        header[4..8].copy_from_slice(&self.index.to_ne_bytes());
        if self.up {
            header[8..12].copy_from_slice(&UP);
            // Of all flags this one is to be changed.
            header[12..].copy_from_slice(&UP);
        }
        self.attributes.as_slice().emit(attributes);
    }
}

/// An attribute that consists of others.
fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind, value)
}

impl Request {
    fn body(&self) -> &dyn Emitable {
        match self {
            Request::Link(message) | Request::NewLink(message) => message,
            Request::Address(message) => message,
            Request::Route(message) => message,
        }
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Request::Link(_) => libc::RTM_SETLINK,
            Request::NewLink(_) => libc::RTM_NEWLINK,
            Request::Address(_) => libc::RTM_NEWADDR,
            Request::Route(_) => libc::RTM_NEWROUTE,
        }
    }

    fn buffer_len(&self) -> usize {
        self.body().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.body().emit(buffer);
    }
}

/// What is in a message that is no acknowledgement: it is not looked at.
struct Reply;

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_header: &NetlinkHeader, _payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Reply)
    }
}

/// A socket for requests.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("opening the routing socket")?;
        socket.bind_auto().context("binding the routing socket")?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .context("connecting the routing socket to the kernel")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Switches a link on.
    pub fn up(&mut self, index: u32) -> anyhow::Result<()> {
        let link = Link {
            index,
            up: true,
            ..Link::default()
        };
        self.request(Request::Link(link), 0)
    }

    /// Sets the largest packet of a link, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u16) -> anyhow::Result<()> {
        let mtu = u32::from(mtu).to_ne_bytes().to_vec();
        let link = Link {
            index,
            attributes: vec![DefaultNla::new(libc::IFLA_MTU, mtu)],
            ..Link::default()
        };
        self.request(Request::Link(link), 0)
    }

    /// Makes an interface for a tagged network on a card. The kernel loads its driver.
    pub fn add_vlan(&mut self, name: &str, card: u32, id: u16) -> anyhow::Result<()> {
        /// `IFLA_VLAN_ID` of `linux/if_link.h`
        const VLAN_ID: u16 = 1;
        let id = DefaultNla::new(VLAN_ID, id.to_ne_bytes().to_vec());
        let card = DefaultNla::new(libc::IFLA_LINK, card.to_ne_bytes().to_vec());
        self.add_link(name, "vlan", vec![card], &[id])
    }

    /// Makes an interface of cards that act as one, without any card yet. The kernel loads its driver.
    pub fn add_bond(&mut self, name: &str) -> anyhow::Result<()> {
        self.add_link(name, "bond", Vec::new(), &[])
    }

    fn add_link(
        &mut self,
        name: &str,
        kind: &str,
        mut attributes: Vec<DefaultNla>,
        data: &[DefaultNla],
    ) -> anyhow::Result<()> {
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        attributes.push(DefaultNla::new(libc::IFLA_IFNAME, text(name)));
        attributes.push(nested(
            libc::IFLA_LINKINFO,
            &[
                DefaultNla::new(libc::IFLA_INFO_KIND, text(kind)),
                nested(libc::IFLA_INFO_DATA, data),
            ],
        ));
        let link = Link {
            attributes,
            ..Link::default()
        };
        self.request(Request::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Gives a link an address, with the broadcast address of its network. An IPv6 address is usable at once:
    /// whether somebody else has it is not asked (RFC 4862 5.4), as with IPv4.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> anyhow::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        match address {
            IpAddr::V4(address) if prefix < 31 => {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let broadcast = Ipv4Addr::from(u32::from(address) | host);
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(broadcast));
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
        }
        self.request(Request::Address(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route over a link, or replaces the one to the same destination.
    pub fn add_route(&mut self, index: u32, route: &Route) -> anyhow::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination);
        message.header.destination_prefix_length = route.prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Dhcp;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match route.gateway {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        message.attributes.push(RouteAttribute::Oif(index));
        if route.prefix > 0 {
            let destination = route_address(route.destination);
            message
                .attributes
                .push(RouteAttribute::Destination(destination));
        }
        if let Some(gateway) = route.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(route_address(gateway)));
        }
        self.request(Request::Route(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sends one request and waits for the kernel's yes or no.
    fn request(&mut self, message: Request, flags: u16) -> anyhow::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        );
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket
            .send(&bytes, 0)
            .context("asking the kernel over the routing socket")?;
        loop {
            let (bytes, _) = self
                .socket
                .recv_from_full()
                .context("reading the routing socket")?;
            let answer = NetlinkMessage::<Reply>::deserialize(&bytes)
                .context("understanding the routing socket")?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                _ => bail!("the routing socket answers neither yes nor no"),
            }
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// Wakes up when any link changes.
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    pub fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("opening the routing socket")?;
        socket
            .bind(&SocketAddr::new(0, GROUP_LINK))
            .context("listening for links")?;
        socket
            .set_non_blocking(true)
            .context("listening for links")?;
        Ok(Self { socket })
    }

    /// Returns when a link has changed since the last call, or when `patience` is over.
    pub fn wait(&self, patience: Duration) -> anyhow::Result<()> {
        readable(&self.socket, patience).context("waiting for links")?;
        // What changed is read from sysfs: here it only has to be taken off the queue. ENOBUFS, when
        // there was too much of it, is news as well.
        let mut buffer = Vec::with_capacity(8192);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("listening for links"),
            }
        }
    }
}

/// Whether there is something to read before `patience` is over.
fn readable(socket: &Socket, patience: Duration) -> io::Result<bool> {
    // SAFETY: the descriptor belongs to `socket`, which outlives this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    wait_readable(fd, patience)
}

/// Whether `fd` has something to read, or has ended, before `patience` is over.
pub fn wait_readable(fd: impl AsFd, patience: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    // Rounded up: a wait of part of a millisecond must not become a busy loop.
    let millis = patience
        .saturating_add(Duration::from_micros(999))
        .as_millis();
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
