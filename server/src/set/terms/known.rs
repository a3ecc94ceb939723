//! What the share knows of a machine: what it is, its disks, its images.

use crate::set::image::Images;
use crate::set::plan;
use crate::set::target::Target;
use crate::set::tree;
use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{MachineIdentity, OpenedImage};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_protocol::digest::Digest;
use pitstop_protocol::host_name::{Mac, Uuid};
use pitstop_protocol::job::{Action, ActionName, DiskSelector, Job};
use pitstop_protocol::machine_record::Record;
use pitstop_transport::share::{DirectoryShare, Share};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

pub(super) struct Known {
    path: PathBuf,
    /// `None` where the server has no folder of its own.
    share: Option<DirectoryShare>,
    record: Record,
    /// Of the fleet file and the command line.
    named: MachineIdentity,
    /// The images' folder, where it can be known before the machine has an address.
    folder: Option<String>,
}

impl Known {
    pub(super) fn find(root: &Path, target: &Target, folder: Option<&str>) -> Self {
        let path = root.join("share");
        let known = plan::share(root).zip(target.folder());
        Self {
            share: DirectoryShare::open(&path).ok(),
            path,
            record: known
                .map(|(share, home)| plan::record(&share, &home))
                .unwrap_or_default(),
            named: target.identity(),
            folder: folder.map(str::to_owned),
        }
    }

    /// What tells the machine from others: what an admin has said of it counts before what it said itself, since addresses go
    /// from machine to machine.
    pub(super) fn identity(&self) -> Table {
        let last = self.record.machines.last();
        let own = Some(&self.named).filter(|named| **named != MachineIdentity::default());
        let Some(machine) = own.or(last) else {
            return Table::new();
        };
        let mut facts = Table::new();
        if let Some(uuid) = Uuid::parse(&machine.uuid) {
            facts.insert("uuid".into(), uuid.to_string().into());
        }
        // Of several cards any: a machine that has lost one is still the same by its UUID.
        let mac = machine.macs.iter().find_map(|mac| mac.parse::<Mac>().ok());
        if let Some(mac) = mac.filter(|_| facts.is_empty()) {
            facts.insert("mac".into(), mac.to_string().into());
        }
        if facts.is_empty() && !machine.serial.is_empty() {
            facts.insert("serial".into(), machine.serial.clone().into());
        }
        facts
    }

    /// The disks of the job, each by what it says of itself; `None` for a job without disks.
    pub(super) fn disks(&self, job: &Job) -> anyhow::Result<Option<Value>> {
        if matches!(
            job.action.name(),
            ActionName::Rescue | ActionName::RefreshInfo | ActionName::Capture | ActionName::Run
        ) {
            return Ok(None);
        }
        let how = "name them with --disk serial=… or --disk wwn=…, or boot the machine once with refresh-info";
        let mut found = Vec::new();
        if job.disks.is_empty() {
            if self.record.disks.is_empty() {
                bail!(
                    "a signed job names its disks, and nothing is known of this machine's: {how}"
                );
            }
            for disk in &self.record.disks {
                found.push(self.selector(disk)?);
            }
        }
        for disk in &job.disks {
            found.push(match disk {
                DiskSelector::Serial(serial) => by("serial", serial),
                DiskSelector::Wwn(wwn) => by("wwn", wwn),
                DiskSelector::Name(name) => {
                    let known = self.record.disks.iter().find(|disk| disk.device == *name);
                    let known = known
                        .with_context(|| format!("which disk {name} is, nothing tells: {how}"))?;
                    self.selector(known)?
                }
            });
        }
        Ok(Some(found.into()))
    }

    fn selector(&self, disk: &DiskIdentity) -> anyhow::Result<Value> {
        let all = &self.record.disks;
        let alone = |of: fn(&DiskIdentity) -> &str| {
            let own = of(disk);
            !own.is_empty() && all.iter().filter(|other| of(other) == own).count() == 1
        };
        if alone(|disk| &disk.serial) {
            Ok(by("serial", &disk.serial))
        } else if alone(|disk| &disk.wwn) {
            Ok(by("wwn", &disk.wwn))
        } else {
            bail!(
                "{} has neither a serial nor a WWN of its own, by which a signed job could name it",
                disk.device
            )
        }
    }

    /// Of each file that the job could write to a disk; `None` for a job that writes none.
    pub(super) fn digests(&self, job: &Job) -> anyhow::Result<Option<Value>> {
        match &job.action {
            Action::Restore(_) => self.images().map(Some),
            Action::Partition { layout } => self.beside(layout).map(Some),
            Action::Deploy(_) | Action::Update(_) | Action::Run(_) => {
                self.tree(&job.action).map(Some)
            }
            Action::Capture(_)
            | Action::Backup(_)
            | Action::BackupAgain(_)
            | Action::Wipe { .. }
            | Action::RefreshInfo
            | Action::Rescue => Ok(None),
        }
    }

    fn own_share(&self) -> anyhow::Result<&DirectoryShare> {
        let share = self.share.as_ref();
        share.with_context(|| {
            format!(
                "{} is not there: digests are read from the server's own share; of another one write the host file by hand, \
                 and sign it with minisign -S",
                self.path.display()
            )
        })
    }

    fn place(&self) -> anyhow::Result<(&DirectoryShare, &str)> {
        let share = self.own_share()?;
        let folder = self.folder.as_deref().context(
            "which folder's files are to be signed cannot be known before the machine has an address: name it by its \
             address, or give --image",
        )?;
        Ok((share, folder))
    }

    fn images(&self) -> anyhow::Result<Value> {
        let (share, folder) = self.place()?;
        let doing = || format!("looking for images in {}/{folder}", self.path.display());
        let names = Dir::open_ambient_dir(&self.path, ambient_authority())
            .and_then(|share| Images::find(&share, folder))
            .with_context(doing)?
            .names;
        let (locked, names): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| is_named_encrypted(name));
        let mut digests = Table::new();
        for name in names {
            let path = format!("{folder}/{name}");
            let source = share.image(&path).with_context(doing)?;
            let image = OpenedImage::open(source).with_context(|| format!("reading {path}"))?;
            if let Some(digest) = image.digest() {
                digests.insert(name, Digest::from(digest).to_string().into());
            }
        }
        if digests.is_empty()
            && let Some(name) = locked.first()
        {
            bail!(
                "{}/{folder}/{name} is encrypted, and its digest cannot be read here: pitstop inspect --json --identity FILE \
                 shows it to who has the key; write the host file by hand, and sign it with minisign -S",
                self.path.display()
            );
        }
        if digests.is_empty() {
            bail!(
                "{}/{folder} has no image with an index, whose digest could be signed: pitstop convert makes one of any \
                 other",
                self.path.display()
            );
        }
        Ok(digests.into())
    }

    /// Of the tree, and of all that is laid over it or run in it.
    fn tree(&self, action: &Action) -> anyhow::Result<Value> {
        let share = self.own_share()?;
        let Some(parts) = action.tree_parts() else {
            bail!("{action} takes no tree: a fault in Pitstop itself");
        };
        let mut digests = Table::new();
        for file in parts.layout.into_iter().chain(parts.luks_key) {
            if let Value::Table(table) = self.beside(file)? {
                digests.extend(table);
            }
        }
        digests.insert(
            parts.tree.in_digests(),
            tree::digest(share, parts.tree)?.into(),
        );
        if let Some(folder) = parts.overrides.first() {
            bail!(
                "{folder} is a folder, which no digest tells the content of: a signed job cannot take overrides; put them \
                 into a version of the tree (pitstop tree shell)"
            );
        }
        let files = parts.hooks.iter().map(String::as_str).chain(parts.secrets);
        for file in files {
            let path = self.path.join(file);
            let bytes =
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            digests.insert(file.to_owned(), Digest::of(&bytes).to_string().into());
        }
        Ok(digests.into())
    }

    /// Of a file in the image folder, as it lies there.
    fn beside(&self, file: &str) -> anyhow::Result<Value> {
        let (_, folder) = self.place()?;
        let path = self.path.join(folder).join(file);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let digest = Digest::of(&bytes).to_string();
        Ok(Value::Table(
            [(file.to_owned(), digest.into())].into_iter().collect(),
        ))
    }
}

fn by(what: &str, value: &str) -> Value {
    Value::Table([(what.to_owned(), value.into())].into_iter().collect())
}
