//! `docs/hardware-matrix.md`: what came out, and what there is to know about it.

use super::{Firmware, Loader, ROWS, Row};
use crate::paths::Payload;
use std::collections::BTreeMap;

/// What became of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seconds: u64,
    /// The reason when it failed.
    pub failure: Option<String>,
    /// When it ended, in UTC.
    pub when: String,
}

/// What the document says beside the table.
pub struct Facts {
    /// QEMU's own words about its version.
    pub qemu: String,
    /// Of each payload that was booted a sentence about its sizes.
    pub payloads: Vec<(Payload, String)>,
}

const REMARKS: &str = "\
OVMF of Debian drives virtio's card by itself and no other. On those, the iPXE of their ROM loads `syslinux.efi`; it loads the
UKI as well, but then the machine resets as the kernel starts (seen with vmxnet3 and e1000, and Debian 12's iPXE of 2019).
No firmware here boots from a network card on USB: those machines boot from the medium and work over the card. Under Secure
Boot the medium and the UKI are signed with the test key of Debian's `ovmf` package; unsigned loaders are not started there.
The machines with AAVMF are arm64: QEMU's board `virt` with a Cortex-A72.
";

/// The whole text. Machines that did not run this time, by their number from 1, keep the line of the `old` one.
pub fn document(old: &str, outcomes: &BTreeMap<usize, Outcome>, facts: &Facts) -> String {
    let lines: Vec<String> = (1..)
        .zip(ROWS)
        .map(|(number, row)| line(number, *row, outcomes.get(&number), old))
        .collect();
    format!(
        "# Hardware matrix\n\n\
         Written by `make test-matrix`: {}, emulated (TCG), two machines at a time.\n\
         Not every combination, but each firmware, loader, network card and disk with several others, and each at least once\n\
         with the [custom kernel](kernel.md). Each machine boots from the network or the medium, backs its disk up, and the\n\
         image must be the disk, byte for byte. The seconds are of a busy computer: no benchmark. `make test-matrix ROWS='4 7'`\n\
         runs these alone and leaves the other lines as they were: each says when it came about, in UTC.\n\n\
         {}\n\n\
         | | kernel | firmware | boots by | network card | disk | result | seconds | when |\n\
         |---|---|---|---|---|---|---|---|---|\n\
         {}\n\n{REMARKS}",
        facts.qemu,
        payloads(facts, old).join("\n"),
        lines.join("\n"),
    )
}

/// Those that were not booted this time keep their line, too.
fn payloads(facts: &Facts, old: &str) -> Vec<String> {
    let all = [Payload::Debian, Payload::Custom, Payload::Arm64].into_iter();
    all.filter_map(|payload| {
        let now = facts.payloads.iter().find(|(one, _)| *one == payload);
        let name = format!("`{}`: ", payload.make_options());
        let before = || old.lines().find(|line| line.starts_with(&name));
        match now {
            Some((_, sizes)) => Some(format!("{name}{sizes}")),
            None => before().map(ToOwned::to_owned),
        }
    })
    .collect()
}

fn line(number: usize, row: Row, outcome: Option<&Outcome>, old: &str) -> String {
    let machine = machine(number, row);
    let Some(outcome) = outcome else {
        let before = old.lines().find(|line| line.starts_with(&machine));
        return before.map_or_else(|| format!("{machine} not run | | |"), ToOwned::to_owned);
    };
    let result = match &outcome.failure {
        None => "pass".to_owned(),
        // A bar would end the cell.
        Some(reason) => format!("**fail**: {}", reason.replace('|', "/")),
    };
    format!(
        "{machine} {result} | {} | {} |",
        outcome.seconds, outcome.when
    )
}

/// The cells that tell the machine.
fn machine(number: usize, row: Row) -> String {
    let firmware = match row.firmware {
        Firmware::SeaBios => "SeaBIOS",
        Firmware::Ovmf => "OVMF",
        Firmware::OvmfSecureBoot => "OVMF, Secure Boot",
        Firmware::Aavmf => "AAVMF",
    };
    let loader = match row.loader {
        Loader::Pxelinux => "pxelinux",
        Loader::IpxeTftp => "iPXE, TFTP",
        Loader::IpxeHttp => "iPXE, HTTP",
        Loader::SyslinuxEfi => "syslinux.efi",
        Loader::UefiPxe => "UEFI PXE, UKI",
        Loader::UefiHttp => "UEFI HTTP, UKI",
        Loader::Iso => "ISO",
    };
    let (kernel, nic, bus) = (row.payload.kernel(), row.nic.model(), row.bus.title());
    format!("| {number} | {kernel} | {firmware} | {loader} | {nic} | {bus} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failure: Option<&str>) -> Outcome {
        Outcome {
            seconds: 42,
            failure: failure.map(ToOwned::to_owned),
            when: "2026-11-21 12:00".into(),
        }
    }

    #[test]
    fn what_ran_is_told_and_the_rest_is_kept() {
        let facts = Facts {
            qemu: "QEMU 7".into(),
            payloads: vec![(Payload::Debian, "small.".into())],
        };
        let first = BTreeMap::from([(1, outcome(None)), (2, outcome(Some("a|b")))]);
        let text = document("", &first, &facts);
        assert!(
            text.contains(
                "| 1 | amd64 | SeaBIOS | pxelinux | virtio-net-pci | virtio-blk | pass | 42 | 2026-11-21 12:00 |\n"
            ),
            "{text}"
        );
        assert!(text.contains("| AHCI | **fail**: a/b | 42 |"), "{text}");
        assert!(text.contains("| IDE | not run | | |\n"), "{text}");
        let facts = Facts {
            payloads: vec![(Payload::Arm64, "large.".into())],
            ..facts
        };
        let text = document(&text, &BTreeMap::from([(2, outcome(None))]), &facts);
        assert!(
            text.contains("\n`KERNEL=amd64`: small.\n`ARCH=arm64`: large.\n"),
            "{text}"
        );
        assert_eq!(text.matches(" pass | 42 |").count(), 2, "{text}");
        assert!(!text.contains("**fail**"), "{text}");
    }
}
