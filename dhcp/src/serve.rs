//! The sockets, and what comes in by them.

mod keeper;
mod noise;
mod worker;

use crate::interfaces::{self, Interface};
use crate::leases::Leases;
use crate::lend::Lender;
use crate::proxy::Port;
use crate::rivals;
use crate::socket::{NoSocket, Socket};
use anyhow::{Context, bail};
use dhcproto::v4::SERVER_PORT;
use keeper::Keeper;
use pitstop_fleet::Fleet;
use pitstop_fleet::boot::Chain;
use pitstop_protocol::host_name::{Mac, Uuid};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;
use worker::Worker;

/// Where boot ROMs ask that have an address (PXE 2.1, 2.2.3).
const PXE_PORT: u16 = 4011;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside a server that gives addresses.
    Proxy,
    /// The only one.
    Server,
}

/// What the server around it says.
#[derive(Debug, Clone)]
pub struct Settings {
    pub mode: Mode,
    /// Where HTTP listens.
    pub listen: IpAddr,
    pub port: u16,
    /// The server's URL, if the admin gave one.
    pub url: Option<String>,
    /// Interfaces to answer on; none: those that `listen` stands for.
    pub interfaces: Vec<String>,
    /// Leases are kept below it.
    pub root: PathBuf,
    /// What UEFI machines begin with.
    pub chain: Chain,
}

/// The fleet file as it is now; `None` without one.
pub type FleetNow = Arc<dyn Fn() -> Option<Arc<Fleet>> + Send + Sync>;
/// Takes a line for each question that is answered.
pub type Journal = Arc<dyn Fn(&str) + Send + Sync>;
/// Takes who boots from an address: over TFTP a machine says no more of itself than that.
pub type Heard = Arc<dyn Fn(Ipv4Addr, Mac, Option<Uuid>) + Send + Sync>;

/// Ready to answer.
pub struct Dhcp {
    workers: Vec<Worker>,
    keeper: Option<Keeper>,
    lines: Vec<String>,
}

impl Dhcp {
    /// Opens the ports. As a server it first looks for another one, which takes about four seconds.
    ///
    /// # Errors
    /// Ports that cannot be had; as a server: another one that answers, no network in the fleet file that this computer
    /// is in, a file of leases that cannot be read.
    pub async fn start(
        settings: Settings,
        fleet: FleetNow,
        journal: Journal,
        heard: Heard,
    ) -> anyhow::Result<Self> {
        let all = interfaces::all()?;
        let mut chosen = interfaces::chosen(all, &settings.interfaces, settings.listen)?;
        let mut keeper = None;
        let mut lending = None;
        if settings.mode == Mode::Server {
            chosen = in_fleet(chosen, fleet().as_deref(), &settings)?;
            let leases = Leases::read(&settings.root)?;
            let (new, store) = Keeper::new(settings.root.clone(), Arc::clone(&journal));
            keeper = Some(new);
            lending = Some((Arc::new(std::sync::Mutex::new(Lender::new(leases))), store));
        }
        let mut lines = Vec::new();
        let sockets = open(&chosen, &settings, &mut lines)?;
        if settings.mode == Mode::Server {
            refuse_beside_others(&sockets).await?;
        }
        let shared = Arc::new(worker::Shared {
            settings,
            fleet,
            journal,
            heard,
            lending,
        });
        let workers = sockets
            .into_iter()
            .map(|(interface, socket, port)| Worker::new(interface.name, socket, port, &shared));
        Ok(Self {
            workers: workers.collect(),
            keeper,
            lines,
        })
    }

    /// What to say at the start.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// Something that should never end has ended.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        if let Some(keeper) = self.keeper {
            tasks.spawn(keeper.run());
        }
        for worker in self.workers {
            tasks.spawn(worker.run());
        }
        first_end(tasks).await
    }
}

/// Waits for the first of `tasks` to end, which none of them should.
async fn first_end(mut tasks: JoinSet<()>) -> anyhow::Result<()> {
    match tasks.join_next().await {
        Some(end) => end.context("a part of it has ended"),
        None => Ok(()),
    }
}

/// Those interfaces whose network the fleet file has.
fn in_fleet(
    chosen: Vec<Interface>,
    fleet: Option<&Fleet>,
    settings: &Settings,
) -> anyhow::Result<Vec<Interface>> {
    let Some(fleet) = fleet else {
        bail!(
            "--dhcp server gives addresses as {} says, and there is none: write one (docs/fleet.md), or start with \
             --dhcp proxy",
            settings.root.join("fleet.toml").display()
        );
    };
    let has = |interface: &Interface| {
        let mut addresses = interface.addresses.iter();
        addresses.any(|net| fleet.network_of(net.addr().into()).is_some())
    };
    let names: Vec<String> = chosen.iter().map(describe).collect();
    let found: Vec<Interface> = chosen.into_iter().filter(has).collect();
    if found.is_empty() {
        bail!(
            "{} has no network of this computer, which is on {}: write [network.\"192.168.1.0/24\"], with its own address, \
             into it",
            fleet.file,
            names.join(", ")
        );
    }
    Ok(found)
}

fn describe(interface: &Interface) -> String {
    format!("{} ({})", interface.name, interface.address())
}

type Open = (Interface, Socket, Port);

/// Opens the ports on each interface. One of several may be another server's: libvirt has one on each of its bridges.
fn open(
    chosen: &[Interface],
    settings: &Settings,
    lines: &mut Vec<String>,
) -> anyhow::Result<Vec<Open>> {
    let mut sockets: Vec<Open> = Vec::new();
    let mut taken = None;
    for interface in chosen {
        match both(interface, settings.mode) {
            Ok(open) => {
                let what = match settings.mode {
                    Mode::Proxy => "DHCP proxy",
                    Mode::Server => "DHCP server",
                };
                lines.push(format!("{what} on {}", describe(interface)));
                sockets.extend(open);
            }
            Err(error @ NoSocket::Taken { .. }) if settings.interfaces.is_empty() => {
                lines.push(format!("no DHCP on {}: {error}", describe(interface)));
                taken = taken.or(Some(error));
            }
            Err(error) => return Err(error).context("DHCP"),
        }
    }
    match taken {
        Some(error) if sockets.is_empty() => Err(error).context("DHCP"),
        _ => Ok(sockets),
    }
}

fn both(interface: &Interface, mode: Mode) -> Result<Vec<Open>, NoSocket> {
    let mut ports = vec![(SERVER_PORT, Port::Dhcp)];
    if mode == Mode::Proxy {
        ports.push((PXE_PORT, Port::Pxe));
    }
    let open = |(number, port)| {
        Ok((
            interface.clone(),
            Socket::bind(&interface.name, number)?,
            port,
        ))
    };
    ports.into_iter().map(open).collect()
}

/// Two servers give one address to two machines.
async fn refuse_beside_others(sockets: &[Open]) -> anyhow::Result<()> {
    let mut asking = JoinSet::new();
    for (interface, ..) in sockets {
        let (name, own) = (interface.name.clone(), interface.address());
        asking.spawn(async move { rivals::find(&name, own).await.map(|found| (name, found)) });
    }
    while let Some(answer) = asking.join_next().await {
        let (name, found) = answer.context("looking for other DHCP servers")??;
        if let Some(server) = found {
            bail!(
                "another DHCP server, {server}, answers on {name}, and two would give one address to two machines: switch \
                 that one off, or start with --dhcp proxy, which needs it"
            );
        }
    }
    for (_, socket, _) in sockets {
        // Our own questions came in, too.
        socket.drain();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_is_not_missed_silently() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("broken") });
        let end = first_end(tasks).await;
        assert!(format!("{:#}", end.unwrap_err()).contains("panicked"));
    }
}
