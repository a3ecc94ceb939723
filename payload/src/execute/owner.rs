//! Whose an image is. A machine that got another one's address finds that one's images in its folder, and must neither
//! restore them nor put its own in their place.
//!
//! An image that tells its machine counts first, then what the folder tells. A disk that was exchanged is no reason: then
//! the machine is the same. A job that names the folder (`image`) means what is in it, whosesoever it is; one that has
//! it made of the address (`lab3/{ip}`) does not.

use super::noticing::Noticing;
use super::record::{self, same_machine};
use super::{Work, images};
use crate::plan::matching::{How, Match, same_disk};
use anyhow::{Context, bail};
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{ImageMeta, MachineIdentity, OpenedImage};
use pitstop_imaging::inventory::{Disk, DiskIdentity, Inventory, disks::describe};

/// What is known of the folder and of this machine.
pub(super) struct Owners {
    this: MachineIdentity,
    /// Those that had the address, as the machine's own folder tells.
    machines: Vec<MachineIdentity>,
}

#[derive(Debug, PartialEq, Eq)]
enum Owner {
    This,
    Other(String),
    Unknown,
}

impl Owners {
    /// # Errors
    /// When the share cannot be read.
    pub(super) fn read(work: &Work<'_>, inventory: &Inventory) -> anyhow::Result<Self> {
        Ok(Self {
            this: record::identity(work.lease, inventory),
            machines: record::read(work.share, &work.lease.folder())?.machines,
        })
    }

    fn of(&self, meta: Option<&ImageMeta>) -> Owner {
        let origin = meta.and_then(|meta| meta.origin.as_ref());
        let told =
            origin.map(|origin| (&origin.machine, same_machine(&origin.machine, &self.this)));
        match told {
            Some((_, Some(true))) => return Owner::This,
            Some((other, Some(false))) => return Owner::Other(other.to_string()),
            Some((_, None)) | None => {}
        }
        let folder = self
            .machines
            .iter()
            .map(|known| (known, same_machine(known, &self.this)));
        let mut owner = Owner::Unknown;
        for (known, is_this) in folder {
            match is_this {
                // It had the address once: the image may be of that time.
                Some(false) => return Owner::Other(known.to_string()),
                Some(true) => owner = Owner::This,
                None => {}
            }
        }
        owner
    }
}

/// Stops a restore of what is another machine's.
///
/// # Errors
/// Names the image, whose it is, and the way on.
pub(super) fn check_restores(
    work: &Work<'_>,
    inventory: &Inventory,
    matches: &[Match],
    images: &[images::Found],
) -> anyhow::Result<()> {
    if work.job.image_named {
        return Ok(());
    }
    let owners = Owners::read(work, inventory)?;
    // A partition table is copied with the disk, and a name is nobody's.
    let told = |found: &Match| {
        matches!(found.how, How::Serial | How::Wwn) && !is_numbered(&found.disk.identity)
    };
    for found in matches.iter().filter(|found| !told(found)) {
        let Some(image) = images.get(found.image) else {
            continue;
        };
        let (meta, file) = (image.meta.as_ref(), &image.stored.file);
        check(work, &owners, meta, file, Some(&found.disk))?;
    }
    Ok(())
}

/// Stops a backup that would put the image of `disk` in the place of another machine's.
///
/// # Errors
/// As [`check_restores`].
pub(super) fn check_replaced(
    work: &Work<'_>,
    owners: &Owners,
    inventory: &Inventory,
    file: &str,
    meta: Option<&ImageMeta>,
) -> anyhow::Result<()> {
    if work.job.image_named {
        return Ok(());
    }
    let here = |of: &DiskIdentity| {
        let mut disks = inventory.disks.iter();
        disks.any(|disk| same_disk(of, &disk.identity).is_some())
    };
    if let Some(of) = meta.map(|meta| &meta.disk).filter(|of| here(of))
        && (!is_numbered(of) || !matches!(owners.of(meta), Owner::Other(_)))
    {
        return Ok(());
    }
    check(work, owners, meta, file, None)
}

fn check(
    work: &Work<'_>,
    owners: &Owners,
    meta: Option<&ImageMeta>,
    file: &str,
    disk: Option<&Disk>,
) -> anyhow::Result<()> {
    let folder = &work.job.image;
    let path = work.image_path(file);
    match owners.of(meta) {
        Owner::This => Ok(()),
        Owner::Other(who) => bail!(
            "{path} belongs to another machine ({who}), which had this address before; nothing of it is restored or \
             replaced: if it is meant all the same, set image = {folder:?} in the host file, else move the folder away"
        ),
        Owner::Unknown => {
            // An image that tells no disk, or a disk that tells nothing of itself: the name is all there is.
            let Some(of) = meta.map(|meta| &meta.disk).filter(|of| !of.is_nameless()) else {
                return Ok(());
            };
            let than = match disk {
                Some(disk)
                    if disk.identity.is_nameless() || same_disk(of, &disk.identity).is_some() =>
                {
                    return Ok(());
                }
                Some(disk) => format!("not of {disk}"),
                None => "which is no disk of this machine".into(),
            };
            bail!(
                "{path} is of {}, {than}, and nothing in the folder tells that it is this machine's: if it is \
                 meant all the same, set image = {folder:?} in the host file",
                describe(of)
            )
        }
    }
}

/// Whether the serial is QEMU's own, `QM00001` for the first disk of every virtual machine: it tells no machine.
fn is_numbered(disk: &DiskIdentity) -> bool {
    let number = disk.serial.strip_prefix("QM");
    disk.wwn.is_empty()
        && number.is_some_and(|it| it.len() == 5 && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What an image says of itself, else what lies beside it says; nothing where neither can be made out. Of an encrypted one what
/// lies beside it.
///
/// # Errors
/// When the share does not give what it has: an image that was not seen must not pass for one that tells nothing.
pub(super) fn told_by(work: &Work<'_>, file: &str) -> anyhow::Result<Option<ImageMeta>> {
    let path = work.image_path(file);
    // A backup asks for nobody's key.
    if !is_named_encrypted(file)
        && let Some(embedded) = embedded(work, &path)?
    {
        return Ok(Some(embedded));
    }
    let beside = images::beside(work, &path)?;
    let text = beside.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| ImageMeta::from_toml(&text).ok()))
}

fn embedded(work: &Work<'_>, path: &str) -> anyhow::Result<Option<ImageMeta>> {
    let doing = || format!("looking at {path} on {}", work.share.name());
    let whole = work.share.image(path).with_context(doing)?;
    let source = Noticing::new(&*whole);
    match OpenedImage::open(Box::new(&source)) {
        Ok(image) => Ok(image.meta().cloned()),
        Err(error) if source.has_failed() => Err(anyhow::Error::new(error).context(doing())),
        // Cut off, damaged, or no image at all: that is what `backup-again` replaces.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::image::Origin;

    fn machine(mac: &str) -> MachineIdentity {
        MachineIdentity {
            macs: vec![mac.into()],
            ..MachineIdentity::default()
        }
    }

    fn meta(machine: MachineIdentity) -> ImageMeta {
        let text = "format = 1\npitstop = '1'\ncreated = ''\ndevice = 'sda'\nmodel = ''\nserial = 'A'\nwwn = ''\n\
                    size = 1\nlogical-sector-size = 512\nphysical-sector-size = 512\nchunk-size = 1\nexact = true\n\
                    kept = 1\nblake3 = ''\n";
        let mut meta = ImageMeta::from_toml(text).unwrap();
        meta.origin = Some(Origin {
            machine,
            ..Origin::default()
        });
        meta
    }

    #[test]
    fn a_serial_of_qemus_own_is_told_by_its_form() {
        let numbered = |serial: &str, wwn: &str| {
            let mut disk = meta(machine("a")).disk;
            (disk.serial, disk.wwn) = (serial.into(), wwn.into());
            is_numbered(&disk)
        };
        assert!(numbered("QM00001", ""));
        for (serial, wwn) in [("QM00001", "naa.5000"), ("QM0001A", ""), ("QM123456", "")] {
            assert!(!numbered(serial, wwn), "{serial} {wwn}");
        }
        assert!(!numbered("", "") && !numbered("WD-1", ""));
    }

    #[test]
    fn an_image_counts_before_the_folder_and_doubt_is_for_the_other() {
        let owners = |known: &[&str]| Owners {
            this: machine("b"),
            machines: known.iter().map(|mac| machine(mac)).collect(),
        };
        let other = || Owner::Other("MAC a".into());
        assert_eq!(owners(&[]).of(None), Owner::Unknown);
        assert_eq!(owners(&["b"]).of(None), Owner::This);
        assert_eq!(owners(&["a"]).of(None), other());
        // The address went on: an image that does not tell may be of either.
        assert_eq!(owners(&["a", "b"]).of(None), other());
        assert_eq!(
            owners(&["a", "b"]).of(Some(&meta(machine("b")))),
            Owner::This
        );
        assert_eq!(owners(&["b"]).of(Some(&meta(machine("a")))), other());
        let silent = meta(MachineIdentity::default());
        assert_eq!(owners(&["b"]).of(Some(&silent)), Owner::This);
    }
}
