//! The card to use: that of `BOOTIF` or `ip=`, else the first with a carrier that gets an answer. Cards and
//! carriers appear late, so the search waits for them.

use super::bond::Bonding;
use super::dhcp::{self, Backoff, Granted, NoAddress};
use super::dhcp6::{self, Identity, Told};
use super::netlink::{LinkWatch, Netlink};
use super::nics::{self, Nic, Wanted, mac_text};
use super::slaac::{self, Announced, Routers};
use super::vlan;
use anyhow::{anyhow, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{Lacking, Machine, Undriven, lacking, undriven};
use pitstop_imaging::units;
use pitstop_protocol::boot_parameters::{BootParameters, IpSetting, Vlan};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
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

/// A card's first turn: IPv6 routers, if there are any, have been heard by its end.
const FIRST_TURN: Duration = Duration::from_secs(4);

/// How long DHCP is waited for once an IPv6 router was heard: the machine's IPv4 address is the one by which people
/// know it. A port that sleeps lets neither through, so this begins when it wakes up.
const PATIENCE_BESIDE_IPV6: Duration = Duration::from_secs(10);

/// The same where IPv4 is what is meant: PXELINUX, which speaks nothing else, tells the card by `BOOTIF`; or routers
/// give addresses that are no longer given to any network (RFC 3879), as emulators do. A server may restart meanwhile.
const PATIENCE_FOR_IPV4: Duration = Duration::from_secs(60);

/// How long DHCPv6 servers are waited for that are to tell of other things than the address.
const PATIENCE_FOR_MORE: Duration = Duration::from_secs(5);

/// A card with an address.
pub struct Found {
    pub nic: Nic,
    pub source: Source,
    /// What DHCPv6 servers know the card by.
    pub identity: Identity,
}

/// Where an address is from.
pub enum Source {
    Leased(Box<Granted>),
    /// By DHCPv6.
    Leased6(dhcp6::Granted),
    /// The kernel has it already.
    Announced(Announced, Told),
}

/// A search that has begun.
pub struct Search {
    machine: Machine,
    /// `ip=auto6`: DHCP is not asked.
    ipv6_alone: bool,
    booted_by_ipv4: bool,
    wanted: Wanted,
    bond: Option<Bonding>,
    vlan: Option<Vlan>,
    began: Instant,
    watch: LinkWatch,
    /// Cards that were switched on, by index.
    on: HashSet<u32>,
    /// When routers were first heard on a card, by index.
    heard: HashMap<u32, Instant>,
    identity: Option<u128>,
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
            machine: machine.clone(),
            ipv6_alone: matches!(boot.ip, IpSetting::Auto6 { .. }),
            booted_by_ipv4: boot.boot_mac.is_some(),
            wanted: wanted(boot),
            bond: bond.map(|bond| Bonding::new(bond, boot.boot_mac)),
            vlan: boot.vlan.clone().transpose().map_err(|why| anyhow!(why))?,
            began: Instant::now(),
            watch: LinkWatch::open()?,
            on: HashSet::new(),
            heard: HashMap::new(),
            identity: uuid(&machine.sysfs),
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
            let first = *turns == 1;
            let heard = self.heard_routers(&nic)?;
            if let Some((routers, news)) = heard {
                if news {
                    *backoff = Backoff::default();
                }
                if let Some(source) = self.ipv6(&nic, routers, reporter)? {
                    return Ok(self.found(nic, source));
                }
            }
            if self.ipv6_alone {
                self.give_up_announcements(&nic)?;
                self.watch.wait(LOOK_EVERY)?;
                continue;
            }
            let turn = match heard {
                Some(_) => PATIENCE_BESIDE_IPV6,
                None if first => FIRST_TURN,
                None => TURN,
            };
            let until = (Instant::now() + turn).min(self.began + PATIENCE);
            match dhcp::acquire(&nic, self.began, until, backoff, reporter) {
                Ok(Ok(granted)) => {
                    let source = Source::Leased(Box::new(granted));
                    return Ok(self.found(nic, source));
                }
                Ok(Err(why)) if self.began.elapsed() >= PATIENCE => {
                    return Err(no_address(&nic, &why));
                }
                Ok(Err(NoAddress::Silence)) => {
                    reporter.info(format!("no DHCP answer on {} so far", nic.name));
                }
                Ok(Err(NoAddress::Unusable(why))) => {
                    reporter.warn(format!("DHCP on {}: {why}", nic.name));
                }
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
            reporter.warn(format!(
                "{} is not there: using any other card",
                self.wanted
            ));
            self.wanted = Wanted::Any;
        }
        nics.retain(|nic| self.wanted.matches(nic));
        for nic in &nics {
            if self.on.insert(nic.index) {
                reporter.debug(format!("switching {} ({}) on", nic.name, mac_text(nic.mac)));
                if let Err(error) = netlink.up(nic.index) {
                    let why = self.lacking(nic).map(|it| format!("; {it}"));
                    let why = why.unwrap_or_default();
                    reporter.warn(format!("switching {} on: {error:#}{why}", nic.name));
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
                let interface = bond.interface(&self.machine.sysfs, netlink, reporter)?;
                Ok(interface.into_iter().collect())
            }
            None => Ok(nics::read(&self.machine.sysfs)),
        }
    }

    /// The interface of `vlan=` on a card; without it, the card.
    fn tagged(&self, netlink: &mut Netlink, card: Nic) -> anyhow::Result<Nic> {
        match &self.vlan {
            Some(vlan) => vlan::on(netlink, &card, vlan),
            None => Ok(card),
        }
    }

    /// What routers said on a card, if anything, and whether that is news.
    fn heard_routers(&mut self, nic: &Nic) -> anyhow::Result<Option<(Routers, bool)>> {
        let routers = slaac::routers(nic.index)?;
        Ok(routers.map(|routers| {
            let news = !self.heard.contains_key(&nic.index);
            self.heard.entry(nic.index).or_insert_with(Instant::now);
            (routers, news)
        }))
    }

    /// An IPv6 address as routers say, where no other is wanted or has come in time.
    fn ipv6(
        &self,
        nic: &Nic,
        routers: Routers,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Option<Source>> {
        let announced = slaac::address(&self.machine.procfs, nic.index);
        if announced.is_none() && !routers.managed {
            return Ok(None);
        }
        let patience = match announced {
            Some(announced) if announced.is_site_local() => PATIENCE_FOR_IPV4,
            _ if self.booted_by_ipv4 => PATIENCE_FOR_IPV4,
            _ => PATIENCE_BESIDE_IPV6,
        };
        let waited = self.heard.get(&nic.index).map(Instant::elapsed);
        if !self.ipv6_alone {
            if waited.is_none_or(|waited| waited < patience) {
                return Ok(None);
            }
            let waited = units::duration(self.began.elapsed());
            reporter.warn(format!(
                "no DHCP answer on {} after {waited}: using IPv6",
                nic.name
            ));
        }
        let identity = self.identity(nic);
        let client = dhcp6::Client::open(nic, &identity)?;
        if routers.managed {
            if let Some(granted) = client.acquire(Instant::now() + TURN, reporter)? {
                return Ok(Some(Source::Leased6(granted)));
            }
            reporter.warn(format!("no DHCPv6 answer on {} so far", nic.name));
        }
        let Some(announced) = announced else {
            return Ok(None);
        };
        let told = if routers.other && !routers.managed {
            client.inform(Instant::now() + PATIENCE_FOR_MORE)?
        } else {
            None
        };
        Ok(Some(Source::Announced(announced, told.unwrap_or_default())))
    }

    fn found(&self, nic: Nic, source: Source) -> Found {
        let identity = self.identity(&nic);
        Found {
            nic,
            source,
            identity,
        }
    }

    /// What DHCPv6 servers know a card by.
    fn identity(&self, nic: &Nic) -> Identity {
        Identity::new(nic.mac, self.identity)
    }

    fn give_up_announcements(&self, nic: &Nic) -> anyhow::Result<()> {
        if self.began.elapsed() < PATIENCE {
            return Ok(());
        }
        bail!(
            "no IPv6 router gave {nic} an address in {}: is there one on this network, and does it announce a prefix or name a DHCPv6 server?",
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
            let why = self.idle();
            let why = why.unwrap_or_else(|| "its driver may be missing from the initramfs".into());
            bail!("no network card appeared within {time}: {why}");
        }
        let more = self
            .idle()
            .map(|why| format!("; {why}"))
            .unwrap_or_default();
        bail!(
            "no link on {} after {time}: is the cable plugged in at both ends?{more}",
            known.join(", ")
        );
    }

    /// Why network cards do not work, where that is known.
    fn idle(&self) -> Option<String> {
        let mut undriven = undriven::read(&self.machine.sysfs);
        undriven.retain(Undriven::is_network);
        let mut lacking = lacking::read(&self.machine);
        lacking.retain(Lacking::is_network);
        lacking::idle(&undriven, &lacking)
    }

    /// What a card that cannot be switched on lacks.
    fn lacking(&self, nic: &Nic) -> Option<Lacking> {
        let mut all = lacking::read(&self.machine).into_iter();
        all.find(|it| it.cards.contains(&nic.name))
    }
}

/// The machine's UUID, where the firmware gives a true one.
fn uuid(sysfs: &Path) -> Option<u128> {
    let text = fs::read_to_string(sysfs.join("class/dmi/id/product_uuid")).ok()?;
    let digits = text.trim().replace('-', "");
    let uuid = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32 && uuid != 0 && uuid != u128::MAX).then_some(uuid)
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

fn no_address(nic: &Nic, why: &NoAddress) -> anyhow::Error {
    let (name, mac) = (&nic.name, mac_text(nic.mac));
    let waited = units::duration(PATIENCE);
    match why {
        NoAddress::Silence => anyhow!(
            "no DHCP answer on {name} ({mac}) after {waited}: is a DHCP server on this network, and has it a free \
             address for this machine?"
        ),
        NoAddress::Unusable(why) => {
            anyhow!("no usable DHCP answer on {name} ({mac}) after {waited}: {why}")
        }
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
