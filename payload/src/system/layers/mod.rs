//! Arrays, LUKS and volumes under a system that is read, opened so that nobody can write to its disks, and let go at the end.
//!
//! **No array is started.** The kernel's md writes to the bitmap of an array that is started to be read as well. Each member of a mirror
//! has all of it: a loop device shows that, which cannot be written, nor can the partition through it. A volume of LVM that lies in
//! one piece is shown by such a device too. What needs more (a volume in pieces, LUKS) is put together by its own tool, on such devices.

mod layout;
mod plan;

use super::fstab::encrypted as named_in;
use super::volumes::{HOLDERS, Volume};
use anyhow::{Context, bail, ensure};
use pitstop_deploy::disk::Reading;
use pitstop_deploy::passphrase::Passphrase;
use pitstop_imaging::disk::LoopDevice;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::layout::stack::mapped;
use pitstop_imaging::used::{LogicalVolume, Piece};
use plan::{Base, Closed, Ground, Group, Mirror};
use std::path::PathBuf;

/// Mappings of this process, until the names are known that their system has for them.
const MAPPING: &str = "pitstop-read";

/// What of a machine's layers is open.
#[derive(Debug, Default)]
pub struct Layers {
    /// What is on them.
    pub volumes: Vec<Volume>,
    pub closed: Vec<Closed>,
    mirrors: Vec<Mirror>,
    luks: Vec<Luks>,
    groups: Vec<Group>,
    held: Held,
}

/// What is encrypted, and open.
#[derive(Debug, Clone)]
struct Luks {
    /// Of its header.
    uuid: String,
    /// The system's own name of it, when that is known.
    name: String,
    on: Base,
    /// What is in it.
    inside: Volume,
}

/// What is open, in the order in which it was made: one stands on those before it.
#[derive(Debug, Default)]
struct Held(Vec<Open>);

/// Kept for its end: then it is let go.
#[derive(Debug)]
enum Open {
    Device { _device: LoopDevice },
    Tool { _reading: Reading },
}

impl Drop for Held {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

impl Layers {
    /// None of what is on `here`, and that it would be for a system that runs.
    pub fn closed(here: &[Volume]) -> Self {
        let of = |(kind, what): (&str, &'static str)| {
            let on = here.iter().filter(|volume| volume.is_of(kind));
            Closed {
                kind: what,
                on: on.map(|volume| volume.name.clone()).collect(),
                names: Vec::new(),
                why: "run `pitstop tree update --live` on the running system".into(),
            }
        };
        let closed = HOLDERS.into_iter().map(of);
        Self {
            closed: closed.filter(|closed| !closed.on.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// All that can be opened of what is on `here`. What cannot is none of many systems' business, and is told to who looks for it.
    pub fn open(here: &[Volume], passphrase: Option<&Passphrase>, reporter: &dyn Reporter) -> Self {
        let (mirrors, closed) = plan::mirrors(here);
        let mut layers = Self {
            closed,
            ..Self::default()
        };
        let mut grounds = plan::grounds(here, &mirrors);
        for mirror in &mirrors {
            if let Some(lacks) = &mirror.lacks {
                reporter.warn(lacks.clone());
            }
            layers.array(mirror);
        }
        layers.mirrors = mirrors;
        for ground in plan::encrypted(&grounds) {
            let opened = match passphrase {
                Some(passphrase) => layers.luks(ground, passphrase, reporter),
                None => Err(anyhow::anyhow!(
                    "name the file with its passphrase, luks-key, in the job"
                )),
            };
            if let Err(error) = opened {
                layers.close("LUKS", ground, Vec::new(), &error);
            }
        }
        grounds.extend(layers.luks.iter().map(Luks::ground));
        let (groups, closed) = plan::groups(&grounds);
        layers.closed.extend(closed);
        for group in &groups {
            for volume in &group.volumes {
                let names = volume_names(group, volume);
                if let Err(error) = layers.volume(group, volume, names.clone(), reporter)
                    && let Some((_, ground)) = group.parts.first()
                {
                    layers.close("LVM", ground, names, &error);
                }
            }
        }
        layers.groups = groups;
        layers
    }

    fn close(
        &mut self,
        kind: &'static str,
        ground: &Ground,
        names: Vec<String>,
        error: &anyhow::Error,
    ) {
        self.closed.push(Closed {
            kind,
            on: vec![ground.volume.name.clone()],
            names,
            why: format!("{error:#}"),
        });
    }

    /// A device that shows bytes of a ground from `start` on, and takes none.
    fn show(&mut self, ground: &Ground, start: u64, length: u64) -> anyhow::Result<PathBuf> {
        let Ground { volume, .. } = ground;
        let end = start.checked_add(length).filter(|end| *end <= volume.size);
        ensure!(
            end.is_some(),
            "{} ends before what is to be on it",
            volume.name
        );
        let start = ground.start.saturating_add(start);
        let range = start..start.saturating_add(length);
        Reading::check_devices()?;
        let device = LoopDevice::reading(&volume.node, &range, volume.sector)?;
        let node = device.path().to_owned();
        self.held.0.push(Open::Device { _device: device });
        Ok(node)
    }

    fn array(&mut self, mirror: &Mirror) {
        let ground = &mirror.ground;
        // A group and LUKS are shown by themselves.
        if ground.volume.filesystem.is_empty() || is_holder(&ground.volume) {
            return;
        }
        match self.show(ground, 0, ground.volume.size) {
            Ok(node) => self.volumes.push(Volume {
                node,
                ..ground.volume.clone()
            }),
            Err(error) => self.close("RAID", ground, ground.volume.names.clone(), &error),
        }
    }

    fn luks(
        &mut self,
        ground: &Ground,
        passphrase: &Passphrase,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        Reading::check_luks()?;
        let node = self.show(ground, 0, ground.volume.size)?;
        let name = format!("{MAPPING}-{}-{}", std::process::id(), self.luks.len());
        let reading = Reading::luks(&name, &node, passphrase, reporter)?;
        let node = reading.node().to_owned();
        self.held.0.push(Open::Tool { _reading: reading });
        let uuid = ground.volume.uuid.clone();
        let inside = Volume {
            name: format!("LUKS on {}", ground.volume.name),
            disk: ground.volume.disk.clone(),
            also_on: ground.volume.also_on.clone(),
            sector: ground.volume.sector,
            ..Volume::at(&node)?
        };
        if !is_holder(&inside) {
            self.volumes.push(inside.clone());
        }
        self.luks.push(Luks {
            uuid,
            name: String::new(),
            on: ground.base.clone(),
            inside,
        });
        Ok(())
    }

    fn volume(
        &mut self,
        group: &Group,
        volume: &LogicalVolume,
        names: Vec<String>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let name = format!("{}/{}", group.name, volume.name);
        let pieces = match &volume.pieces {
            Ok(pieces) => pieces,
            Err(kind) => bail!(
                "{name} is of the kind {kind}, and volumes that lie plainly on their disks are opened; run `pitstop tree capture` on \
                 the running system"
            ),
        };
        let on = |piece: &Piece| {
            let mut parts = group.parts.iter();
            let found = parts.find(|(id, _)| *id == piece.part);
            found.map(|(_, ground)| ground)
        };
        let grounds: Option<Vec<&Ground>> = pieces.iter().map(on).collect();
        let grounds = grounds.with_context(|| format!("{name} is on a disk that is not here"))?;
        let [first, ..] = &grounds[..] else {
            bail!("{name} has no extents");
        };
        let node = if let [piece] = &pieces[..] {
            self.show(first, piece.start, piece.length)?
        } else {
            Reading::check_volumes().with_context(|| format!("{name} is in pieces"))?;
            let devices: anyhow::Result<Vec<PathBuf>> = group
                .parts
                .iter()
                .map(|(_, ground)| self.show(ground, 0, ground.volume.size))
                .collect();
            let reading = Reading::volume(&group.name, &volume.name, &devices?, reporter)?;
            let node = reading.node().to_owned();
            self.held.0.push(Open::Tool { _reading: reading });
            node
        };
        let is_other = |disk: &&String| **disk != first.volume.disk;
        let all = grounds.iter().flat_map(|ground| {
            let Volume { disk, also_on, .. } = &ground.volume;
            also_on.iter().chain([disk])
        });
        let also_on = all.filter(is_other).cloned().collect();
        let found = Volume {
            name,
            names,
            disk: first.volume.disk.clone(),
            also_on,
            sector: first.volume.sector,
            ..Volume::at(&node)?
        };
        match HOLDERS.iter().find(|(kind, _)| found.is_of(kind)) {
            Some((_, kind)) => self.closed.push(Closed {
                kind,
                on: vec![found.name],
                names: found.names,
                why: "it is on a volume: run `pitstop tree capture` on the running system".into(),
            }),
            None => self.volumes.push(found),
        }
        Ok(())
    }

    /// Takes the names that the system has for what is encrypted, from its crypttab(5).
    pub fn name_encrypted(&mut self, crypttab: &str) {
        let named = named_in(crypttab);
        for luks in &mut self.luks {
            let mut all = named.iter();
            let Some((name, _)) = all.find(|(_, uuid)| luks.uuid.eq_ignore_ascii_case(uuid)) else {
                continue;
            };
            luks.name.clone_from(name);
            let here = self.volumes.iter_mut();
            for volume in here.filter(|volume| volume.node == luks.inside.node) {
                volume.names = vec![format!("/dev/mapper/{name}")];
            }
        }
    }

    /// The same in a list that has them too.
    pub fn rename(&self, all: &mut [Volume]) {
        for own in &self.volumes {
            for volume in all.iter_mut().filter(|volume| volume.node == own.node) {
                volume.names.clone_from(&own.names);
            }
        }
    }

    /// Why what a system calls `name` is not open, where that is known.
    pub fn why_closed(&self, name: &str) -> Option<&str> {
        let is_it = |closed: &&Closed| {
            let mut names = closed.names.iter();
            names.any(|own| name == own || own.ends_with(['-', '/']) && name.starts_with(own))
        };
        self.closed
            .iter()
            .find(is_it)
            .map(|closed| closed.why.as_str())
    }
}

impl Luks {
    /// What a group can be on.
    fn ground(&self) -> Ground {
        Ground {
            base: Base::Luks(self.uuid.clone()),
            volume: self.inside.clone(),
            start: 0,
        }
    }
}

fn is_holder(volume: &Volume) -> bool {
    HOLDERS.iter().any(|(kind, _)| volume.is_of(kind))
}

fn volume_names(group: &Group, volume: &LogicalVolume) -> Vec<String> {
    let short = format!("/dev/{}/{}", group.name, volume.name);
    vec![mapped(&group.name, &volume.name), short]
}

#[cfg(test)]
mod tests;
