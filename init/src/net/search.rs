//! The card to use: that of `BOOTIF` or `ip=`, else the first with a carrier that gets an answer. Cards and
//! carriers appear late, so the search waits for them.

use super::bond::Bonding;
use super::dhcp::{self, Backoff, Granted};
use super::netlink::{LinkWatch, Netlink};
use super::nics::{self, Nic, Wanted, mac_text};
use super::slaac::{self, Announced};
use super::vlan;
use anyhow::{anyhow, bail};
use pitstop_payload::event::Reporter;
use pitstop_payload::job::{BootParameters, IpSetting, Vlan};
use pitstop_payload::machine::Machine;
use pitstop_payload::units;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After which the network is given up: a switch port may take 60 s, a server restarts in less.
const PATIENCE: Duration = Duration::from_secs(180);

/// A machine whose network drivers are all missing is told sooner.
const PATIENCE_WITHOUT_CARDS: Duration = Duration::from_secs(60);

/// How long the card of `BOOTIF` is waited for before any other will do.
const PATIENCE_FOR_WANTED: Duration = Duration::from_secs(30);

/// One card's turn where several have a carrier.
const TURN: Duration = Duration::from_secs(15);

/// Some drivers tell nobody when their carrier comes: they are looked at now and then.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long DHCP is waited for where IPv6 routers have given an address already: the machine's IPv4 address is the
/// one by which people know it, and a DHCP server that restarts needs a while.
const PATIENCE_BESIDE_IPV6: Duration = Duration::from_secs(60);

/// A card with an address.
pub struct Found {
    pub nic: Nic,
    pub source: Source,
}

/// Where an address is from.
pub enum Source {
    Leased(Box<Granted>),
    /// The kernel has it already.
    Announced(Announced),
}

/// A search that has begun.
pub struct Search {
    sysfs: PathBuf,
    procfs: PathBuf,
    /// `ip=auto6`: DHCP is not asked.
    ipv6_alone: bool,
    wanted: Wanted,
    bond: Option<Bonding>,
    vlan: Option<Vlan>,
    began: Instant,
    watch: LinkWatch,
    /// Cards that were switched on, by index.
    on: HashSet<u32>,
}

impl Search {
    pub fn new(machine: &Machine, boot: &BootParameters) -> anyhow::Result<Self> {
        let bond = boot.bond.clone().transpose().map_err(|why| anyhow!(why))?;
        if let (Some(bond), Some(card)) = (&bond, card(boot))
            && bond.name != card
        {
            bail!(
                "bond={}: the network is on that, but ip= or vlan= names {card}",
                bond.name
            );
        }
        Ok(Self {
            sysfs: machine.sysfs.clone(),
            procfs: machine.procfs.clone(),
            ipv6_alone: matches!(boot.ip, IpSetting::Auto6 { .. }),
            wanted: wanted(boot),
            bond: bond.map(|bond| Bonding::new(bond, boot.boot_mac)),
            vlan: boot.vlan.clone().transpose().map_err(|why| anyhow!(why))?,
            began: Instant::now(),
            watch: LinkWatch::open()?,
            on: HashSet::new(),
        })
    }

    /// The first card with a carrier.
    pub fn card(mut self, netlink: &mut Netlink, reporter: &dyn Reporter) -> anyhow::Result<Nic> {
        loop {
            if let Some(card) = self.ready(netlink, reporter)?.into_iter().next() {
                return self.tagged(netlink, card);
            }
        }
    }

    /// The first card that gets an address. Those with a carrier take turns.
    pub fn address(
        mut self,
        netlink: &mut Netlink,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Found> {
        let mut asked: HashMap<u32, (u32, Backoff)> = HashMap::new();
        loop {
            let mut ready = self.ready(netlink, reporter)?;
            ready.sort_by_key(|nic| {
                (
                    asked.get(&nic.index).map_or(0, |(turns, _)| *turns),
                    nic.index,
                )
            });
            let Some(card) = ready.into_iter().next() else {
                continue;
            };
            let (turns, backoff) = asked.entry(card.index).or_default();
            let nic = self.tagged(netlink, card)?;
            if *turns == 0 {
                reporter.info(format!(
                    "asking for an address on {} ({})",
                    nic.name,
                    mac_text(nic.mac)
                ));
            }
            *turns += 1;
            if let Some(announced) = self.announced(&nic, reporter) {
                let source = Source::Announced(announced);
                return Ok(Found { nic, source });
            }
            if self.ipv6_alone {
                self.give_up_announcements(&nic)?;
                self.watch.wait(LOOK_EVERY)?;
                continue;
            }
            let until = (Instant::now() + TURN).min(self.began + PATIENCE);
            match dhcp::acquire(&nic, self.began, until, backoff, reporter) {
                Ok(Some(granted)) => {
                    let source = Source::Leased(Box::new(granted));
                    return Ok(Found { nic, source });
                }
                Ok(None) if self.began.elapsed() >= PATIENCE => bail!(
                    "no DHCP answer on {} ({}) after {}: is a DHCP server on this network, and has it \
                     a free address for this machine?",
                    nic.name,
                    mac_text(nic.mac),
                    units::duration(PATIENCE)
                ),
                Ok(None) => reporter.info(format!("no DHCP answer on {} so far", nic.name)),
                Err(error) => {
                    // The card went down or away; the next look tells.
                    reporter.warn(format!("{error:#}"));
                    self.watch.wait(LOOK_EVERY)?;
                }
            }
        }
    }

    /// The cards that may be used and have a carrier, as they are now or once something has changed.
    /// May be empty.
    fn ready(
        &mut self,
        netlink: &mut Netlink,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Vec<Nic>> {
        let mut nics = self.cards(netlink, reporter)?;
        if !nics.iter().any(|nic| self.wanted.matches(nic))
            && self.wanted != Wanted::Any
            && self.began.elapsed() >= PATIENCE_FOR_WANTED
        {
            reporter.warn(format!("{} is not there: any other will do", self.wanted));
            self.wanted = Wanted::Any;
        }
        nics.retain(|nic| self.wanted.matches(nic));
        for nic in &nics {
            if self.on.insert(nic.index) {
                reporter.debug(format!("switching {} ({}) on", nic.name, mac_text(nic.mac)));
                if let Err(error) = netlink.up(nic.index) {
                    reporter.warn(format!("switching {} on: {error:#}", nic.name));
                }
            }
        }
        let known: Vec<String> = nics.iter().map(Nic::to_string).collect();
        nics = self.cards(netlink, reporter)?;
        nics.retain(|nic| self.wanted.matches(nic) && nic.carrier && self.on.contains(&nic.index));
        if nics.is_empty() {
            self.give_up_in_time(&known)?;
            self.watch.wait(LOOK_EVERY)?;
        }
        Ok(nics)
    }

    /// The machine's cards; where they act as one, that one.
    fn cards(
        &mut self,
        netlink: &mut Netlink,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Vec<Nic>> {
        match &mut self.bond {
            Some(bond) => {
                let interface = bond.interface(&self.sysfs, netlink, reporter)?;
                Ok(interface.into_iter().collect())
            }
            None => Ok(nics::read(&self.sysfs)),
        }
    }

    /// The interface of `vlan=` on a card; without it, the card.
    fn tagged(&self, netlink: &mut Netlink, card: Nic) -> anyhow::Result<Nic> {
        match &self.vlan {
            Some(vlan) => vlan::on(netlink, &card, vlan),
            None => Ok(card),
        }
    }

    /// The address that IPv6 routers gave, where no other is wanted or has come in time.
    fn announced(&self, nic: &Nic, reporter: &dyn Reporter) -> Option<Announced> {
        let waited = self.began.elapsed();
        if !self.ipv6_alone && waited < PATIENCE_BESIDE_IPV6 {
            return None;
        }
        let announced = slaac::address(&self.procfs, nic.index)?;
        if !self.ipv6_alone {
            reporter.warn(format!(
                "no DHCP answer on {} after {}: IPv6 it is",
                nic.name,
                units::duration(waited)
            ));
        }
        Some(announced)
    }

    fn give_up_announcements(&self, nic: &Nic) -> anyhow::Result<()> {
        if self.began.elapsed() < PATIENCE {
            return Ok(());
        }
        bail!(
            "no IPv6 router gave {nic} an address in {}: is there one on this network, and does it announce a prefix?",
            units::duration(PATIENCE)
        )
    }

    fn give_up_in_time(&self, known: &[String]) -> anyhow::Result<()> {
        let patience = if known.is_empty() {
            PATIENCE_WITHOUT_CARDS
        } else {
            PATIENCE
        };
        if self.began.elapsed() < patience {
            return Ok(());
        }
        let time = units::duration(patience);
        if let (true, Some(bond)) = (known.is_empty(), &self.bond) {
            bail!("{} appeared within {time}", bond.missing());
        }
        if known.is_empty() {
            bail!(
                "no network card appeared within {time}: its driver may be missing from the initramfs"
            );
        }
        bail!(
            "no link on {} after {time}: is the cable plugged in at both ends?",
            known.join(", ")
        );
    }
}

/// The card that the command line names, below its VLAN.
fn card(boot: &BootParameters) -> Option<String> {
    match &boot.vlan {
        Some(Ok(vlan)) => vlan.card(boot.ip.interface()),
        _ => boot.ip.interface().map(str::to_owned),
    }
}

fn wanted(boot: &BootParameters) -> Wanted {
    match (card(boot), boot.boot_mac) {
        // A bond takes in whatever card booted.
        _ if boot.bond.is_some() => Wanted::Any,
        (Some(name), _) => Wanted::Name(name),
        (None, Some(mac)) => Wanted::Mac(mac),
        (None, None) => Wanted::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_names_the_card_before_bootif_does() {
        let wanted = |text| wanted(&BootParameters::parse(text));
        assert_eq!(wanted(""), Wanted::Any);
        assert_eq!(
            wanted("BOOTIF=01-52-54-00-00-00-01"),
            Wanted::Mac([0x52, 0x54, 0, 0, 0, 1])
        );
        assert_eq!(
            wanted("BOOTIF=01-52-54-00-00-00-01 ip=:::::eth1:dhcp"),
            Wanted::Name("eth1".into())
        );
        assert_eq!(
            wanted("ip=10.0.0.2:::24::vlan7:off vlan=vlan7:eth1"),
            Wanted::Name("eth1".into())
        );
        assert_eq!(
            wanted("BOOTIF=01-52-54-00-00-00-01 vlan=7"),
            Wanted::Mac([0x52, 0x54, 0, 0, 0, 1])
        );
        assert_eq!(
            wanted("ip=10.0.0.2:::24::eth0:off"),
            Wanted::Name("eth0".into())
        );
    }
}
