//! Erases a whole disk, and proves it as far as can be: by what the device says, and by samples read afterwards.

mod ata;
mod nvme;
mod samples;

use anyhow::{Context, bail};
use nix::errno::Errno;
use pitstop_imaging::disk::{Output, Target};
use pitstop_imaging::event::{Act, Progress, Reporter, Subject};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::units;
use pitstop_protocol::job::Method;
use samples::{Findings, Samples};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Between two lines of progress; devices take larger requests apart anyway.
const STEP: u64 = 64 << 20;

/// How often people are told that a drive is still at it.
const TELL_EVERY: Duration = Duration::from_secs(20);

/// What will erase a disk, found before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Discard,
    Zero,
    Nvme(nvme::Erase),
    Ata(ata::Erase),
    /// Discard with erasure, of eMMC and of virtual disks.
    SecureDiscard,
}

impl Means {
    /// For people and records.
    pub fn name(&self) -> &'static str {
        match self {
            Means::Discard => "discard",
            Means::Zero => "zeros written",
            Means::Nvme(erase) => erase.name(),
            Means::Ata(erase) if erase.enhanced => "ATA security erase, enhanced",
            Means::Ata(_) => "ATA security erase",
            Means::SecureDiscard => "secure discard",
        }
    }
}

/// A wipe that was done and proven.
#[derive(Debug, Clone)]
pub struct Wiped {
    /// What the device says it did.
    pub device_says: String,
    /// What samples of it show.
    pub samples: String,
}

/// A disk that is open for nobody else, and what will erase it.
pub struct Ready {
    target: Target,
    size: u64,
    means: Means,
}

impl Ready {
    pub fn means(&self) -> &Means {
        &self.means
    }
}

/// Opens the disk at `node` and finds out whether it can be wiped by `method`. Writes nothing.
///
/// # Errors
/// When it is in use, or cannot do what `method` asks.
pub fn prepare(node: &Path, identity: &DiskIdentity, method: Method) -> anyhow::Result<Ready> {
    let target = Target::open(node)?;
    let size = target
        .limit()
        .with_context(|| format!("{} has no size", target.name()))?;
    let means = match method {
        Method::Zero => Means::Zero,
        Method::Discard => discard_means(&target)?,
        Method::Secure => secure_means(&target, identity)
            .with_context(|| format!("{} cannot be erased securely", target.name()))?,
    };
    Ok(Ready {
        target,
        size,
        means,
    })
}

/// Asks in vain on purpose: a range that is no whole sector is refused as such only by a device that could.
fn discard_means(target: &Target) -> anyhow::Result<Means> {
    match target.discard(&(1..2)) {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
            bail!("{} cannot discard: use zero", target.name())
        }
        _ => Ok(Means::Discard),
    }
}

fn secure_means(target: &Target, identity: &DiskIdentity) -> anyhow::Result<Means> {
    match identity.transport.as_str() {
        "nvme" => nvme::find(target.file()).map(Means::Nvme),
        "ata" | "scsi" | "sas" | "usb" | "virtio-scsi" => ata::find(target.file()).map(Means::Ata),
        _ => match target.discard_securely(&(1..2)) {
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                Ok(Means::SecureDiscard)
            }
            _ => bail!("it has no command for it"),
        },
    }
}

/// Erases all of the disk.
///
/// # Errors
/// When the device fails, says that it did not do it, or still answers what it held before. The disk is in
/// no known state then.
pub fn wipe(
    ready: &Ready,
    identity: &DiskIdentity,
    reporter: &dyn Reporter,
) -> anyhow::Result<Wiped> {
    let Ready {
        target,
        size,
        means,
    } = ready;
    let name = target.name();
    let samples = Samples::take(target, *size);
    let in_steps = |act: &dyn Fn(std::ops::Range<u64>) -> std::io::Result<()>| {
        steps(*size, &identity.device, reporter, act).with_context(|| format!("wiping {name}"))
    };
    let device_says = match means {
        Means::Discard => {
            in_steps(&|range| target.discard(&range))?;
            "every discard succeeded".to_owned()
        }
        Means::SecureDiscard => {
            in_steps(&|range| target.discard_securely(&range))?;
            "every secure discard succeeded".to_owned()
        }
        Means::Zero => {
            in_steps(&|range| target.write_zeros(range))?;
            "every write succeeded".to_owned()
        }
        Means::Nvme(erase) => {
            while_telling(reporter, identity, || nvme::erase(target.file(), *erase))
                .with_context(|| format!("wiping {name}"))?
        }
        Means::Ata(erase) => {
            while_telling(reporter, identity, || ata::erase(target.file(), *erase))
                .with_context(|| format!("wiping {name}"))?
        }
    };
    target.flush().with_context(|| format!("flushing {name}"))?;
    let findings = samples.compare(target, *size)?;
    judge(means, &findings, name)?;
    if let Err(error) = target.reread_table() {
        reporter.warn(format!(
            "{name} is wiped, but the kernel keeps its old partition table: {error}"
        ));
    }
    Ok(Wiped {
        device_says,
        samples: findings.to_string(),
    })
}

/// Whether the samples bear the device out.
fn judge(means: &Means, findings: &Findings, name: &str) -> anyhow::Result<()> {
    if *means == Means::Zero && (findings.ones, findings.changed, findings.same) != (0, 0, 0) {
        bail!("{name} does not read as zeros after zeros were written: {findings}");
    }
    if findings.same > 0 {
        bail!(
            "{name} still answers what it held before the {}: {findings}; use zero or secure",
            means.name()
        );
    }
    Ok(())
}

/// A drive that erases itself says nothing for hours: somebody must, or it would be taken for a hung one.
fn while_telling<T>(
    reporter: &dyn Reporter,
    identity: &DiskIdentity,
    work: impl FnOnce() -> T,
) -> T {
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let began = Instant::now();
            while waiting.recv_timeout(TELL_EVERY) == Err(RecvTimeoutError::Timeout) {
                reporter.info(format!(
                    "{}: the drive has been erasing itself for {}",
                    identity.device,
                    units::duration(began.elapsed())
                ));
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn steps(
    size: u64,
    device: &str,
    reporter: &dyn Reporter,
    act: &dyn Fn(std::ops::Range<u64>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let began = Instant::now();
    let mut at = 0;
    while at < size {
        let end = size.min(at + STEP);
        act(at..end)?;
        at = end;
        reporter.progress(Progress {
            act: Act::Wipe,
            subject: Subject::named(device),
            done: at,
            total: Some(size),
            transferred: at,
            elapsed: began.elapsed(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::disk;
    use pitstop_imaging::event::Silent;
    use std::fs;

    fn noise(path: &Path) {
        let mut content = vec![0; 4 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        fs::write(path, content).unwrap();
    }

    #[test]
    fn zeros_and_discards_are_done_and_proven() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let identity = disk("sda", "A", 4 << 20).identity;
        for method in [Method::Zero, Method::Discard] {
            noise(&path);
            let ready = prepare(&path, &identity, method).unwrap();
            let wiped = wipe(&ready, &identity, &Silent).unwrap();
            assert!(wiped.samples.contains("samples of 64 KiB"), "{wiped:?}");
            assert!(!wiped.samples.contains("as before"), "{wiped:?}");
            assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn secure_is_never_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        noise(&path);
        let before = fs::read(&path).unwrap();
        for transport in ["ata", "nvme", "virtio", ""] {
            let mut identity = disk("sda", "A", 4 << 20).identity;
            identity.transport = transport.into();
            let Err(error) = prepare(&path, &identity, Method::Secure) else {
                panic!("a plain file has no secure erase ({transport})");
            };
            let error = format!("{error:#}");
            assert!(error.contains("cannot be erased securely"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_the_samples_show_beats_what_the_device_says() {
        let same = Findings {
            zero: 255,
            same: 1,
            ..Findings::default()
        };
        let error = judge(&Means::Discard, &same, "/dev/sda").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/dev/sda still answers what it held before the discard: 256 samples of 64 KiB: 255 zero, \
             1 as before; use zero or secure"
        );
        let ones = Findings {
            ones: 2,
            ..Findings::default()
        };
        assert!(judge(&Means::Discard, &ones, "d").is_ok());
        let error = judge(&Means::Zero, &ones, "d").unwrap_err().to_string();
        assert!(error.contains("does not read as zeros"), "{error}");
    }
}
