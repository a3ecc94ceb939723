//! What an NVMe drive can erase by itself, and the commands for it. Numbers are those of the NVM Express Base
//! Specification 2.0: figures 138 (admin opcodes), 275 (Identify Controller), 5.14 (Format), 5.24 (Sanitize).

use crate::passthrough::{NvmeCommand, nvme_admin, nvme_namespace};
use anyhow::{Context, bail};
use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

const GET_LOG_PAGE: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const FORMAT_NVM: u8 = 0x80;
const SANITIZE: u8 = 0x84;

const PAGE: usize = 4096;
/// A drive of many terabytes that overwrites itself takes hours.
const FORMAT_TIMEOUT: Duration = Duration::from_secs(12 * 3600);
const SANITIZE_LOOK: Duration = Duration::from_millis(500);

/// How a drive will erase itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// Format NVM with secure erase setting 1, which keeps the sector format.
    Format,
    /// Sanitize with this action.
    Sanitize { action: u8 },
}

impl Erase {
    /// For people and records.
    pub fn name(self) -> &'static str {
        match self {
            Erase::Format => "NVMe Format with user data erase",
            Erase::Sanitize { action: 2 } => "NVMe Sanitize, block erase",
            Erase::Sanitize { action: 3 } => "NVMe Sanitize, overwrite",
            Erase::Sanitize { .. } => "NVMe Sanitize, crypto erase",
        }
    }
}

/// A drive's admin queue.
pub trait Admin {
    fn namespace(&self) -> io::Result<u32>;
    fn send(&self, command: NvmeCommand, data: &mut [u8]) -> io::Result<()>;
}

impl Admin for File {
    fn namespace(&self) -> io::Result<u32> {
        nvme_namespace(self)
    }

    fn send(&self, command: NvmeCommand, data: &mut [u8]) -> io::Result<()> {
        nvme_admin(self, command, data)
    }
}

/// Asks what the drive can do. Nothing is changed.
///
/// # Errors
/// When it can neither format nor sanitize, or only together with namespaces that nobody asked to erase.
pub fn find(drive: &dyn Admin) -> anyhow::Result<Erase> {
    let controller = identify(drive, 1, 0).context("asking the NVMe controller what it can do")?;
    let others = identify(drive, 2, 0)
        .context("asking for the drive's namespaces")?
        .as_chunks::<4>()
        .0
        .iter()
        .filter(|number| **number != [0; 4])
        .count()
        .saturating_sub(1);
    let formats = word(&controller[..], 256) & 0b10 != 0;
    // FNA bit 1: a secure erase erases every namespace.
    let formats_all = controller[524] & 0b10 != 0;
    let sanitizes = [(1, 2), (2, 3), (0, 4)]
        .into_iter()
        .find(|(bit, _)| controller[328] >> bit & 1 == 1);
    if formats && !(formats_all && others > 0) {
        return Ok(Erase::Format);
    }
    match sanitizes {
        Some((_, action)) if others == 0 => Ok(Erase::Sanitize { action }),
        None if !formats => bail!("the drive can neither format itself nor sanitize"),
        _ => bail!(
            "the drive can only erase all of its namespaces together, and it has {others} besides this one"
        ),
    }
}

/// Has the drive erase itself, and waits until it says that it has. Returns what it says.
///
/// # Errors
/// When a command fails, or the drive says afterwards that it did not do it.
pub fn erase(drive: &dyn Admin, erase: Erase) -> anyhow::Result<String> {
    match erase {
        Erase::Format => format(drive),
        Erase::Sanitize { action } => sanitize(drive, action),
    }
}

fn format(drive: &dyn Admin) -> anyhow::Result<String> {
    let namespace = drive.namespace().context("asking which namespace it is")?;
    let before = identify(drive, 0, namespace).context("asking for the sector format")?;
    let (flbas, protection) = (u32::from(before[26]), u32::from(before[29]));
    // The format in use, its metadata and protection settings, and SES 1: user data erase.
    let cdw10 = (flbas & 0xf)
        | (flbas >> 4 & 1) << 4
        | (protection & 0b111) << 5
        | (protection >> 3 & 1) << 8
        | 1 << 9
        | (flbas >> 5 & 0b11) << 12;
    let command = NvmeCommand {
        opcode: FORMAT_NVM,
        namespace,
        cdw10,
        timeout_ms: u32::try_from(FORMAT_TIMEOUT.as_millis())?,
        ..NvmeCommand::default()
    };
    drive
        .send(command, &mut [])
        .context("formatting with secure erase")?;
    let after = identify(drive, 0, namespace).context("asking for the sector format")?;
    if after[26] != before[26] {
        bail!("the drive came back with another sector format than it had");
    }
    // FPI: bit 7 that it is kept, the rest is the percentage that remains.
    if after[32] & 0x80 != 0 && after[32] & 0x7f != 0 {
        bail!(
            "the drive says that {} % remain to be formatted",
            after[32] & 0x7f
        );
    }
    Ok("Format NVM completed with status 0".into())
}

fn sanitize(drive: &dyn Admin, action: u8) -> anyhow::Result<String> {
    let overwrite_once = if action == 3 { 1 << 4 } else { 0 };
    let command = NvmeCommand {
        opcode: SANITIZE,
        cdw10: u32::from(action) | overwrite_once,
        ..NvmeCommand::default()
    };
    drive
        .send(command, &mut [])
        .context("starting to sanitize")?;
    loop {
        let mut log = [0; 512];
        // The sanitize status log, 128 double words of it, of the whole subsystem.
        let command = NvmeCommand {
            opcode: GET_LOG_PAGE,
            namespace: u32::MAX,
            cdw10: 0x81 | 127 << 16,
            ..NvmeCommand::default()
        };
        drive
            .send(command, &mut log)
            .context("asking how far it has sanitized")?;
        match word(&log, 2) & 0b111 {
            1 | 4 => return Ok("the sanitize log says: completed".into()),
            2 => thread::sleep(SANITIZE_LOOK),
            3 => bail!("the sanitize log says: failed"),
            other => bail!("the sanitize log says nothing of it (status {other})"),
        }
    }
}

fn identify(drive: &dyn Admin, what: u32, namespace: u32) -> io::Result<Box<[u8; PAGE]>> {
    let mut page = Box::new([0; PAGE]);
    let command = NvmeCommand {
        opcode: IDENTIFY,
        namespace,
        cdw10: what,
        ..NvmeCommand::default()
    };
    drive.send(command, &mut page[..])?;
    Ok(page)
}

fn word(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A drive that answers as it is told and notes what it was sent.
    #[derive(Default)]
    struct Fake {
        oacs: u16,
        fna: u8,
        sanicap: u8,
        namespaces: u8,
        progress: u8,
        /// What the sanitize log says, one look after the other.
        log: RefCell<Vec<u8>>,
        sent: RefCell<Vec<(u8, u32)>>,
        formatted: Cell<bool>,
    }

    impl Admin for Fake {
        fn namespace(&self) -> io::Result<u32> {
            Ok(1)
        }

        fn send(&self, command: NvmeCommand, data: &mut [u8]) -> io::Result<()> {
            match (command.opcode, command.cdw10) {
                (IDENTIFY, 1) => {
                    data[256..258].copy_from_slice(&self.oacs.to_le_bytes());
                    data[524] = self.fna;
                    data[328] = self.sanicap;
                }
                (IDENTIFY, 2) => {
                    for number in 0..self.namespaces {
                        data[usize::from(number) * 4] = number + 1;
                    }
                }
                (IDENTIFY, _) => {
                    data[26] = 0x12;
                    data[29] = 0b1001;
                    data[32] = if self.formatted.get() {
                        self.progress
                    } else {
                        0
                    };
                }
                (GET_LOG_PAGE, _) => data[2] = self.log.borrow_mut().remove(0),
                (opcode, cdw10) => {
                    self.formatted.set(opcode == FORMAT_NVM);
                    self.sent.borrow_mut().push((opcode, cdw10));
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_format_keeps_the_sector_format_and_asks_for_erasure() {
        let drive = Fake {
            oacs: 0b10,
            namespaces: 2,
            ..Fake::default()
        };
        let way = find(&drive).unwrap();
        assert_eq!(way, Erase::Format);
        erase(&drive, way).unwrap();
        // LBA format 2, metadata at the end, protection type 1 in the first bytes, SES 1.
        assert_eq!(
            *drive.sent.borrow(),
            [(FORMAT_NVM, 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9)]
        );
        let unfinished = Fake {
            oacs: 0b10,
            namespaces: 1,
            progress: 0x80 + 40,
            ..Fake::default()
        };
        let error = erase(&unfinished, Erase::Format).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the drive says that 40 % remain to be formatted"
        );
    }

    #[test]
    fn a_sanitize_is_waited_for_and_its_failure_told() {
        let drive = Fake {
            sanicap: 0b110,
            namespaces: 1,
            log: vec![2, 1].into(),
            ..Fake::default()
        };
        let way = find(&drive).unwrap();
        assert_eq!(way, Erase::Sanitize { action: 2 });
        assert_eq!(
            erase(&drive, way).unwrap(),
            "the sanitize log says: completed"
        );
        drive.log.borrow_mut().push(3);
        let error = erase(&drive, Erase::Sanitize { action: 3 }).unwrap_err();
        assert_eq!(error.to_string(), "the sanitize log says: failed");
        assert_eq!(drive.sent.borrow()[1], (SANITIZE, 3 | 1 << 4));
    }

    #[test]
    fn a_drive_that_cannot_is_an_error_and_so_are_namespaces_of_others() {
        let error = find(&Fake::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the drive can neither format itself nor sanitize"
        );
        for (oacs, fna, sanicap) in [(0b10, 0b10, 0), (0, 0, 0b1), (0b10, 0b10, 0b10)] {
            let drive = Fake {
                oacs,
                fna,
                sanicap,
                namespaces: 3,
                ..Fake::default()
            };
            let error = find(&drive).unwrap_err().to_string();
            assert!(error.contains("has 2 besides this one"), "{error}");
        }
    }
}
