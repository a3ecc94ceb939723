//! A machine that uses no network: what it is called by.

use super::nics::{self, Nic};
use anyhow::bail;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{Machine, firmware};
use pitstop_protocol::host_name::{Mac, Uuid};
use pitstop_protocol::machine::Lease;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A card's driver is there by then.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// An address that somebody chose, of one card (IEEE 802, the bits of the first byte).
const LOCAL: u8 = 0x02;

/// Calls the machine by its card, as it will the next time; without one by its UUID.
pub(super) fn lease(
    machine: &Machine,
    boot_mac: Option<[u8; 6]>,
    reporter: &dyn Reporter,
) -> anyhow::Result<Lease> {
    let deadline = Instant::now() + PATIENCE;
    let mut cards = nics::read(&machine.sysfs);
    while cards.is_empty() && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
        cards = nics::read(&machine.sysfs);
    }
    let mac = match boot_mac.or_else(|| own(&machine.sysfs, &cards)) {
        Some(mac) => mac,
        None => by_uuid(machine)?,
    };
    reporter.info(format!(
        "no network is used (ip=off); this machine is {}",
        Mac(mac)
    ));
    Ok(Lease::offline(mac))
}

/// The lowest address: the order in which cards are found changes. One on USB may be another machine's tomorrow.
fn own(sysfs: &Path, cards: &[Nic]) -> Option<[u8; 6]> {
    let is_on_usb = |card: &&Nic| {
        let device = sysfs.join("class/net").join(&card.name).join("device");
        let real = fs::canonicalize(device).unwrap_or_default();
        real.components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("usb"))
    };
    let (plugged, built_in): (Vec<&Nic>, Vec<&Nic>) = cards.iter().partition(is_on_usb);
    let lowest = |cards: Vec<&Nic>| cards.into_iter().map(|card| card.mac).min();
    lowest(built_in).or_else(|| lowest(plugged))
}

fn by_uuid(machine: &Machine) -> anyhow::Result<[u8; 6]> {
    let firmware = firmware::read(&machine.sysfs);
    let Some(Uuid(bytes)) = Uuid::parse(&firmware.uuid) else {
        bail!(
            "nothing tells this machine from others: no network card was found (is its driver in the initramfs?), and its \
             firmware tells no UUID"
        );
    };
    let mut mac = [LOCAL; 6];
    for (byte, of_uuid) in mac.iter_mut().skip(1).rev().zip(bytes.iter().rev()) {
        *byte = *of_uuid;
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::inventory::fake::FakeMachine;

    fn card(fake: &FakeMachine, name: &str, index: u32, mac: &str) {
        for (fact, value) in [
            ("type", "1"),
            ("ifindex", &index.to_string()),
            ("address", mac),
        ] {
            fake.write_sys(&format!("class/net/{name}/{fact}"), value);
        }
        fake.write_sys(&format!("class/net/{name}/device/vendor"), "0x1af4\n");
    }

    #[test]
    fn a_machine_is_called_the_same_whichever_card_is_found_first() {
        let fake = FakeMachine::new();
        card(&fake, "eth0", 3, "52:54:00:00:00:09");
        card(&fake, "eth1", 2, "52:54:00:00:00:02");
        let called = |mac| lease(&fake.machine(), mac, &Silent).unwrap().mac[5];
        assert_eq!(called(None), 2);
        assert_eq!(called(Some([0x52, 0x54, 0, 0, 0, 9])), 9);
    }

    #[test]
    fn a_machine_whose_card_has_no_driver_is_called_by_its_uuid() {
        let fake = FakeMachine::new();
        assert!(
            by_uuid(&fake.machine())
                .unwrap_err()
                .to_string()
                .contains("no UUID")
        );
        fake.write_sys(
            "class/dmi/id/product_uuid",
            "33221100-5544-7766-8899-AABBCCDDEEFF\n",
        );
        assert_eq!(
            by_uuid(&fake.machine()).unwrap(),
            [2, 0xbb, 0xcc, 0xdd, 0xee, 0xff]
        );
    }
}
