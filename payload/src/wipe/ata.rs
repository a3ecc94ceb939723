//! ATA security erase (ACS-3 7.42 to 7.47): the drive overwrites itself, what it remapped included.

use crate::passthrough::{AtaData, ata};
use anyhow::{Context, bail};
use std::fs::File;
use std::io;
use std::time::Duration;

const IDENTIFY_DEVICE: u8 = 0xec;
const SET_PASSWORD: u8 = 0xf1;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;

/// Set for the time of the erasure, which removes it. A drive that loses power meanwhile asks for it.
const PASSWORD: &[u8; 7] = b"pitstop";
/// For drives that say nothing, or that they take longer than they can say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const SHORT_MS: u32 = 15_000;

/// How a drive will erase itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erase {
    /// Also what the drive took out of use.
    pub enhanced: bool,
    /// Longer than the drive says that it takes.
    pub patience: Duration,
}

/// A drive that takes ATA commands.
pub trait Drive {
    fn send(&self, command: u8, data: AtaData<'_>, timeout_ms: u32) -> io::Result<()>;
}

impl Drive for File {
    fn send(&self, command: u8, data: AtaData<'_>, timeout_ms: u32) -> io::Result<()> {
        ata(self, command, data, timeout_ms)
    }
}

/// The security words of IDENTIFY DEVICE (ACS-3 7.12.7).
struct Security {
    supported: bool,
    /// Word 128.
    status: u16,
    times: [u16; 2],
}

impl Security {
    fn ask(drive: &dyn Drive) -> anyhow::Result<Self> {
        let mut page = [0; 512];
        drive
            .send(IDENTIFY_DEVICE, AtaData::In(&mut page), SHORT_MS)
            .context("asking the drive what it can do")?;
        let word = |at: usize| u16::from_le_bytes([page[at * 2], page[at * 2 + 1]]);
        let status = word(128);
        Ok(Self {
            supported: word(82) & 0b10 != 0 && status & 1 != 0,
            status,
            times: [word(89), word(90)],
        })
    }

    fn enabled(&self) -> bool {
        self.status & 1 << 1 != 0
    }

    fn locked(&self) -> bool {
        self.status & 1 << 2 != 0
    }

    fn frozen(&self) -> bool {
        self.status & 1 << 3 != 0
    }

    /// Takes also what the drive took out of use.
    fn enhanced(&self) -> bool {
        self.status & 1 << 5 != 0
    }

    /// Words 89 and 90 count two minutes each; with bit 15, of 15 bits instead of 8.
    fn patience(&self) -> Duration {
        let word = self.times[usize::from(self.enhanced())];
        let (count, most) = match word & 0x8000 {
            0 => (word & 0xff, 0xff),
            _ => (word & 0x7fff, 0x7fff),
        };
        if count == 0 || count == most {
            return LONGEST;
        }
        // Drives promise too much: half as long again, and ten minutes.
        Duration::from_secs(u64::from(count) * 180 + 600)
    }
}

/// Asks what the drive can do. Nothing is changed.
///
/// # Errors
/// When it has no security erase, or does not take it now.
pub fn find(drive: &dyn Drive) -> anyhow::Result<Erase> {
    let security = Security::ask(drive)?;
    if !security.supported {
        bail!("the drive has no security erase");
    }
    if security.locked() || security.enabled() {
        bail!("the drive has a password already: disable it first");
    }
    if security.frozen() {
        bail!(
            "the firmware has frozen the drive's security settings until its power is cut: plug it in again, \
             or put the machine to sleep and wake it, then try again"
        );
    }
    Ok(Erase {
        enhanced: security.enhanced(),
        patience: security.patience(),
    })
}

/// Has the drive erase itself. Returns what it says afterwards.
///
/// # Errors
/// When a command fails, or the drive still has the password that an erasure removes.
pub fn erase(drive: &dyn Drive, erase: Erase) -> anyhow::Result<String> {
    drive
        .send(SET_PASSWORD, AtaData::Out(&mut page(0)), SHORT_MS)
        .context("setting the password that an erasure needs")?;
    let erased = erase_unit(drive, erase);
    let after = Security::ask(drive);
    if let Err(error) = erased {
        let unlocked = drive.send(DISABLE_PASSWORD, AtaData::Out(&mut page(0)), SHORT_MS);
        return Err(match unlocked {
            Ok(()) => error,
            Err(second) => error.context(format!(
                "the password \"pitstop\" stays set in the drive ({second})"
            )),
        });
    }
    if after?.enabled() {
        bail!("the drive still has the password that its erasure would have removed");
    }
    Ok("SECURITY ERASE UNIT completed, security is disabled again".into())
}

fn erase_unit(drive: &dyn Drive, erase: Erase) -> anyhow::Result<()> {
    drive
        .send(ERASE_PREPARE, AtaData::None, SHORT_MS)
        .context("preparing the erasure")?;
    let control = if erase.enhanced { 0b10 } else { 0 };
    let timeout = u32::try_from(erase.patience.as_millis()).unwrap_or(u32::MAX);
    drive
        .send(ERASE_UNIT, AtaData::Out(&mut page(control)), timeout)
        .context("erasing")
}

/// The data of the password commands: a control word (bit 0 clear: the user password), then the password.
fn page(control: u8) -> [u8; 512] {
    let mut page = [0; 512];
    page[0] = control;
    page[2..2 + PASSWORD.len()].copy_from_slice(PASSWORD);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[derive(Default)]
    struct Fake {
        status: Cell<u16>,
        time: u16,
        fails_to_erase: bool,
        keeps_password: bool,
        sent: RefCell<Vec<(u8, u8)>>,
    }

    impl Drive for Fake {
        fn send(&self, command: u8, data: AtaData<'_>, _timeout_ms: u32) -> io::Result<()> {
            let control = match data {
                AtaData::In(page) => {
                    page[164] = 0b10;
                    page[180..182].copy_from_slice(&self.time.to_le_bytes());
                    page[256..258].copy_from_slice(&self.status.get().to_le_bytes());
                    return Ok(());
                }
                AtaData::Out(page) => {
                    assert_eq!(&page[2..9], PASSWORD);
                    page[0]
                }
                AtaData::None => 0,
            };
            self.sent.borrow_mut().push((command, control));
            match command {
                SET_PASSWORD => self.status.set(self.status.get() | 0b10),
                ERASE_UNIT if self.fails_to_erase => {
                    return Err(io::Error::other("status 0x51"));
                }
                ERASE_UNIT if self.keeps_password => {}
                ERASE_UNIT | DISABLE_PASSWORD => self.status.set(self.status.get() & !0b10),
                _ => {}
            }
            Ok(())
        }
    }

    #[test]
    fn an_enhanced_erasure_is_preferred_and_proven_by_the_password_that_went() {
        let drive = Fake {
            status: Cell::new(0b10_0001),
            time: 10,
            ..Fake::default()
        };
        let way = find(&drive).unwrap();
        assert!(way.enhanced);
        assert_eq!(way.patience, Duration::from_secs(10 * 180 + 600));
        erase(&drive, way).unwrap();
        assert_eq!(
            *drive.sent.borrow(),
            [(SET_PASSWORD, 0), (ERASE_PREPARE, 0), (ERASE_UNIT, 2)]
        );
        let liar = Fake {
            status: Cell::new(1),
            keeps_password: true,
            ..Fake::default()
        };
        let way = find(&liar).unwrap();
        assert_eq!(way.patience, LONGEST);
        let error = erase(&liar, way).unwrap_err().to_string();
        assert!(error.contains("still has the password"), "{error}");
    }

    #[test]
    fn a_failed_erasure_leaves_no_password() {
        let drive = Fake {
            status: Cell::new(1),
            fails_to_erase: true,
            ..Fake::default()
        };
        let way = find(&drive).unwrap();
        let error = format!("{:#}", erase(&drive, way).unwrap_err());
        assert_eq!(error, "erasing: status 0x51");
        assert_eq!(drive.status.get(), 1);
    }

    #[test]
    fn what_cannot_be_erased_says_why() {
        for (status, why) in [
            (0, "has no security erase"),
            (0b1001, "frozen"),
            (0b0011, "has a password already"),
        ] {
            let drive = Fake {
                status: Cell::new(status),
                ..Fake::default()
            };
            let error = find(&drive).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
