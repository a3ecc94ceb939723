//! `bond=`: several cards act as one (Documentation/networking/bonding.rst).

use super::netlink::Netlink;
use super::nics::{self, Nic};
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::event::Reporter;
use pitstop_protocol::boot_parameters::{Bond, BondCard};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a card that `bond=` names is waited for before the others do without it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every card is there when none has come for so long.
const SETTLED: Duration = Duration::from_secs(2);

/// A bond that is made once its cards are there.
pub struct Bonding {
    bond: Bond,
    /// The card that booted: the bond takes its address, by which the network knows the machine.
    boot_mac: Option<[u8; 6]>,
    made: bool,
    began: Instant,
    /// How many cards there were, and since when.
    cards: (usize, Instant),
}

impl Bonding {
    pub fn new(bond: Bond, boot_mac: Option<[u8; 6]>) -> Self {
        let now = Instant::now();
        Self {
            bond,
            boot_mac,
            made: false,
            began: now,
            cards: (0, now),
        }
    }

    /// The bond, once there is one.
    pub fn interface(
        &mut self,
        sysfs: &Path,
        netlink: &mut Netlink,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Option<Nic>> {
        if !self.made {
            let cards = self.chosen(nics::read(sysfs));
            if cards.len() != self.cards.0 {
                self.cards = (cards.len(), Instant::now());
            }
            if !self.complete(cards.len()) {
                return Ok(None);
            }
            self.make(sysfs, &cards, netlink, reporter)
                .with_context(|| format!("bond={}", self.bond.name))?;
            self.made = true;
        }
        Ok(nics::named(sysfs, &self.bond.name))
    }

    /// The beginning of a sentence about cards that are not there.
    pub fn missing(&self) -> String {
        let Bond { name, cards, .. } = &self.bond;
        let cards: Vec<String> = cards.iter().map(title).collect();
        match cards.as_slice() {
            [] => format!("bond={name}: no network card"),
            cards => format!("bond={name}: none of the cards {}", cards.join(", ")),
        }
    }

    /// Those that are to be in the bond, the one that booted first.
    fn chosen(&self, mut nics: Vec<Nic>) -> Vec<Nic> {
        let cards = &self.bond.cards;
        let place = |nic: &Nic| cards.iter().position(|card| is(card, nic));
        nics.retain(|nic| cards.is_empty() || place(nic).is_some());
        nics.sort_by_key(|nic| (Some(nic.mac) != self.boot_mac, place(nic)));
        nics
    }

    fn complete(&self, found: usize) -> bool {
        if self.bond.cards.is_empty() {
            found > 0 && self.cards.1.elapsed() >= SETTLED
        } else {
            found >= self.bond.cards.len() || found > 0 && self.began.elapsed() >= PATIENCE
        }
    }

    fn make(
        &self,
        sysfs: &Path,
        cards: &[Nic],
        netlink: &mut Netlink,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let name = &self.bond.name;
        let folder = sysfs.join("class/net").join(name).join("bonding");
        // The driver makes a `bond0` of its own when it is loaded.
        let added = netlink.add_bond(name);
        if !folder.exists() {
            added.context("making it: is the module bonding in the initramfs?")?;
            bail!("making it: {} is not there", folder.display());
        }
        for (option, value) in &self.bond.options {
            set(&folder, option, value)?;
        }
        for card in cards {
            set(&folder, "slaves", &format!("+{}", card.name))
                .with_context(|| format!("adding {card}"))?;
        }
        for missing in &self.bond.cards {
            if !cards.iter().any(|card| is(missing, card)) {
                reporter.warn(format!(
                    "{name} goes without {}: that card is not there",
                    title(missing)
                ));
            }
        }
        let bond = nics::named(sysfs, name).ok_or_else(|| anyhow!("{name} vanished"))?;
        if let Some(mtu) = self.bond.mtu {
            netlink
                .set_mtu(bond.index, mtu)
                .with_context(|| format!("setting the MTU to {mtu}"))?;
        }
        netlink.up(bond.index).context("switching it on")?;
        let members: Vec<String> = cards.iter().map(Nic::to_string).collect();
        reporter.info(format!("{name} is {}", members.join(" and ")));
        Ok(())
    }
}

fn is(card: &BondCard, nic: &Nic) -> bool {
    match card {
        BondCard::Name(name) => nic.name == *name,
        BondCard::Mac(mac) => nic.mac == *mac,
    }
}

fn title(card: &BondCard) -> String {
    match card {
        BondCard::Name(name) => name.clone(),
        BondCard::Mac(mac) => nics::mac_text(*mac),
    }
}

/// Tells the driver by its files, which take the words of its documentation.
fn set(folder: &Path, option: &str, value: &str) -> anyhow::Result<()> {
    let file = folder.join(option);
    if !file.exists() {
        bail!("the driver has no option {option}");
    }
    fs::write(&file, value).with_context(|| format!("setting {option} to {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_protocol::boot_parameters::BootParameters;

    fn bonding(text: &str) -> Bonding {
        let boot = BootParameters::parse(text);
        Bonding::new(boot.bond.unwrap().unwrap(), boot.boot_mac)
    }

    fn nic(name: &str, last: u8) -> Nic {
        Nic {
            name: name.into(),
            index: u32::from(last),
            mac: [0x52, 0x54, 0, 0, 0, last],
            carrier: false,
            below: None,
        }
    }

    fn names(bonding: &Bonding) -> Vec<String> {
        let nics = vec![nic("eth0", 1), nic("eth1", 2), nic("eth2", 3)];
        let chosen = bonding.chosen(nics);
        chosen.into_iter().map(|nic| nic.name).collect()
    }

    #[test]
    fn cards_come_in_the_order_given_the_one_that_booted_first() {
        assert_eq!(names(&bonding("bond=bond0:eth2,eth0")), ["eth2", "eth0"]);
        let booted = "BOOTIF=01-52-54-00-00-00-02";
        let bond = bonding(&format!("{booted} bond=bond0:eth2,52-54-00-00-00-02"));
        assert_eq!(names(&bond), ["eth1", "eth2"]);
        let bond = bonding(&format!("{booted} bond=bond0:all"));
        assert_eq!(names(&bond), ["eth1", "eth0", "eth2"]);
    }

    #[test]
    fn named_cards_are_waited_for() {
        let mut bond = bonding("bond=bond0:eth0,eth1");
        assert!(bond.complete(2) && !bond.complete(1));
        bond.began = Instant::now().checked_sub(PATIENCE).unwrap();
        assert!(bond.complete(1) && !bond.complete(0));
        let mut all = bonding("bond=bond0");
        assert!(!all.complete(3), "another one may come");
        all.cards.1 = Instant::now().checked_sub(SETTLED).unwrap();
        assert!(all.complete(3) && !all.complete(0));
    }

    #[test]
    fn cards_that_are_not_there_are_named() {
        let bond = bonding("bond=bond0:eth7,52-54-00-00-00-01");
        let wanted = "bond=bond0: none of the cards eth7, 52:54:00:00:00:01";
        assert_eq!(bond.missing(), wanted);
        assert_eq!(bonding("bond").missing(), "bond=bond0: no network card");
    }

    #[test]
    fn an_option_that_the_driver_does_not_have_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("miimon"), "").unwrap();
        set(folder.path(), "miimon", "100").unwrap();
        let error = set(folder.path(), "mimon", "100").unwrap_err();
        assert_eq!(error.to_string(), "the driver has no option mimon");
    }
}
