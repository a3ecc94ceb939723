//! What drives say of themselves: ATA's SMART RETURN STATUS (ACS-3 7.48) and NVMe's health log (NVM Express 2.0 5.16.1.3). Both only
//! ask: nothing is changed. Of the rest it is unknown.

use crate::passthrough::{
    AtaCommand, AtaData, AtaRegisters, NvmeCommand, ata, ata_with, nvme_admin,
};
use pitstop_protocol::facts::Health;
use std::fs::File;
use std::io;
use std::path::Path;

const IDENTIFY_DEVICE: u8 = 0xec;
const SMART: AtaCommand = AtaCommand {
    command: 0xb0,
    // RETURN STATUS, with the signature that every SMART command has.
    features: 0xda,
    lba_mid: 0x4f,
    lba_high: 0xc2,
};
const GET_LOG_PAGE: u8 = 0x02;
/// A drive that does not answer in time is one that does not tell.
const TIMEOUT_MS: u32 = 5_000;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub state: Health,
    /// Why it fails, or why that is not known.
    pub note: String,
    pub wear: Option<u8>,
}

impl Told {
    fn unknown(note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            ..Self::default()
        }
    }
}

/// Asks the drive behind `node`, where its bus is one that carries the question.
pub fn of(bus: &str, node: &Path) -> Told {
    let told = match bus {
        "ata" => File::open(node).and_then(|drive| of_ata(&drive)),
        "nvme" => File::open(node).and_then(|drive| of_nvme(&drive)),
        "" => return Told::unknown("a disk of this kind tells no health"),
        bus => return Told::unknown(format!("{bus} disks are not asked")),
    };
    told.unwrap_or_else(|error| Told::unknown(format!("it does not tell: {error}")))
}

fn of_ata(drive: &File) -> io::Result<Told> {
    let mut page = [0; 512];
    ata(drive, IDENTIFY_DEVICE, AtaData::In(&mut page), TIMEOUT_MS)?;
    if let Some(without) = without_smart(&page) {
        return Ok(Told::unknown(without));
    }
    Ok(judged(ata_with(drive, SMART, AtaData::None, TIMEOUT_MS)?))
}

/// IDENTIFY DEVICE (ACS-3 7.12): words 82 and 85 say in their bit 0 that SMART is there, and that it is on.
fn without_smart(page: &[u8; 512]) -> Option<&'static str> {
    let has = |word: usize| page[word * 2] & 1 != 0;
    match (has(82), has(85)) {
        (false, _) => Some("the drive has no SMART"),
        (true, false) => Some("SMART is turned off in the drive"),
        (true, true) => None,
    }
}

fn judged(registers: Option<AtaRegisters>) -> Told {
    match registers.map(|it| (it.lba_mid, it.lba_high)) {
        Some((0x4f, 0xc2)) => Told {
            state: Health::Ok,
            ..Told::default()
        },
        Some((0xf4, 0x2c)) => Told {
            state: Health::Failing,
            note: "SMART: a threshold is exceeded".into(),
            wear: None,
        },
        Some(_) => Told::unknown("the drive's answer to SMART RETURN STATUS means nothing"),
        None => Told::unknown("the controller does not pass on what the drive answers"),
    }
}

fn of_nvme(drive: &File) -> io::Result<Told> {
    let mut log = [0; 512];
    // 128 double words of log 2, of the whole drive.
    let command = NvmeCommand {
        opcode: GET_LOG_PAGE,
        namespace: u32::MAX,
        cdw10: 0x02 | 127 << 16,
        timeout_ms: TIMEOUT_MS,
        ..NvmeCommand::default()
    };
    nvme_admin(drive, command, &mut log)?;
    Ok(of_log(&log))
}

fn of_log(log: &[u8; 512]) -> Told {
    const WARNINGS: [(u8, &str); 4] = [
        (1 << 0, "little spare space is left"),
        (1 << 2, "it is not reliable any more"),
        (1 << 3, "it can only be read"),
        (1 << 4, "what saves its memory when power fails is broken"),
    ];
    const TEMPERATURE: u8 = 1 << 1;
    let warning = log[0];
    let set = WARNINGS.iter().filter(|(bit, _)| warning & bit != 0);
    let mut notes: Vec<&str> = set.map(|(_, text)| *text).collect();
    let state = if notes.is_empty() {
        Health::Ok
    } else {
        Health::Failing
    };
    // Heat alone is the case's fault.
    if warning & TEMPERATURE != 0 {
        notes.push("it is too hot or too cold");
    }
    Told {
        state,
        note: notes.join("; "),
        wear: Some(log[5]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_nvme_is_judged() {
        let mut log = [0; 512];
        log[5] = 3;
        let well = of_log(&log);
        assert_eq!(
            (well.state, well.note.as_str(), well.wear),
            (Health::Ok, "", Some(3))
        );
        log[0] = 0b10;
        assert_eq!(of_log(&log).state, Health::Ok);
        log[0] = 0b1001;
        let ill = of_log(&log);
        assert_eq!(ill.state, Health::Failing);
        assert_eq!(ill.note, "little spare space is left; it can only be read");
    }

    #[test]
    fn smart_that_is_missing_or_off_is_said_to_be() {
        let mut page = [0; 512];
        assert_eq!(without_smart(&page), Some("the drive has no SMART"));
        page[164] = 1;
        assert_eq!(
            without_smart(&page),
            Some("SMART is turned off in the drive")
        );
        page[170] = 1;
        assert_eq!(without_smart(&page), None);
        assert_eq!(judged(None).state, Health::Unknown);
    }

    #[test]
    fn what_is_no_drive_is_unknown_and_says_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bus in ["ata", "nvme"] {
            let told = of(bus, file.path());
            assert_eq!(told.state, Health::Unknown);
            assert!(told.note.starts_with("it does not tell: "), "{}", told.note);
        }
        assert_eq!(of("usb", file.path()).note, "usb disks are not asked");
    }
}
