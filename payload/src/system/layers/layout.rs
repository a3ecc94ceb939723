//! The layout that makes the disk anew that a system with layers is on.

use super::plan::{Base, Mirror};
use super::{Layers, Luks, is_holder};
use crate::system::volumes::Volume;
use anyhow::{Context, bail, ensure};
use pitstop_imaging::layout::stack::{Group, Logical, On, Raid, is_filesystem};
use pitstop_imaging::layout::{Entry, Layout, capture, stack};
use pitstop_imaging::used::LogicalVolume;
use std::path::Path;

impl Layers {
    /// The layout of the disk that `root` is on, with all that stands on its partitions; `None` where no layer is on it.
    ///
    /// # Errors
    /// When the disk cannot be read, or has what no layout says: with the reason.
    pub fn layout(&self, root: &Volume, disk: &Path) -> anyhow::Result<Option<Layout>> {
        let mut closed = self.closed.iter();
        if let Some(closed) = closed.find(|it| it.on.iter().any(|on| is_part_of(on, &root.disk))) {
            bail!(
                "{} is {}, which is not opened here: {}",
                closed.on.join(", "),
                closed.kind,
                closed.why
            );
        }
        if !self.volumes.iter().any(|volume| volume.is_on(&root.disk)) {
            return Ok(None);
        }
        let mut layout = capture(disk, true)?;
        self.add_to(&mut layout, &root.disk)?;
        // As whoever deploys it reads it, who refuses what cannot be made.
        Layout::parse(&layout.to_toml()?).map(Some)
    }

    fn add_to(&self, layout: &mut Layout, disk: &str) -> anyhow::Result<()> {
        for mirror in &self.mirrors {
            if let Some(number) = number_on(mirror, disk)? {
                layout.raid.push(Raid {
                    name: mirror.name.clone(),
                    on: number,
                    entry: entry(&mirror.ground.volume)?,
                });
            }
        }
        for luks in self.luks.iter().filter(|luks| luks.inside.is_on(disk)) {
            ensure!(
                !luks.name.is_empty(),
                "/etc/crypttab does not name {}",
                luks.inside.name
            );
            layout.luks.push(stack::Luks {
                name: luks.name.clone(),
                on: self.on(&luks.on)?,
                entry: entry(&luks.inside)?,
            });
        }
        for group in &self.groups {
            let parts = || group.parts.iter().map(|(_, ground)| ground);
            if !parts().any(|ground| ground.volume.is_on(disk)) {
                continue;
            }
            if let Some(other) = parts().find(|ground| !ground.volume.is_on(disk)) {
                bail!(
                    "the group {} is on {} of another disk too",
                    group.name,
                    other.volume.name
                );
            }
            if let Some((volume, kind)) = unplain(&group.volumes) {
                bail!(
                    "the volume {}/{volume} is of the kind {kind}, which no layout makes",
                    group.name
                );
            }
            let on: anyhow::Result<Vec<On>> = parts().map(|ground| self.on(&ground.base)).collect();
            let volumes = group.volumes.iter().map(|volume| {
                let name = format!("{}/{}", group.name, volume.name);
                let found = self.volumes.iter().find(|it| it.name == name);
                let found = found.with_context(|| format!("{name} is not open"))?;
                Ok(Logical {
                    name: volume.name.clone(),
                    entry: Entry {
                        size: volume.size.to_string(),
                        ..entry(found)?
                    },
                })
            });
            layout.lvm.push(Group {
                name: group.name.clone(),
                on: on?,
                volumes: volumes.collect::<anyhow::Result<_>>()?,
            });
        }
        Ok(())
    }

    fn on(&self, base: &Base) -> anyhow::Result<On> {
        Ok(match base {
            Base::Partition(0) => bail!("it is on a disk without partitions"),
            Base::Partition(number) => On::Partition(*number),
            Base::Array(name) => On::Name(name.clone()),
            Base::Luks(uuid) => {
                let mut all = self.luks.iter();
                let found: Option<&Luks> = all.find(|luks| luks.uuid == *uuid);
                On::Name(found.context("LUKS that is not open")?.name.clone())
            }
        })
    }
}

/// A volume that does not lie plainly on its disks, and what LVM calls that.
fn unplain(volumes: &[LogicalVolume]) -> Option<(&str, &str)> {
    let mut kinds = volumes.iter().filter_map(|volume| {
        let kind = volume.pieces.as_ref().err()?;
        Some((volume.name.as_str(), kind.as_str()))
    });
    kinds.next()
}

/// The partition of `disk` that is a member of an array.
fn number_on(mirror: &Mirror, disk: &str) -> anyhow::Result<Option<u32>> {
    let mut members = mirror.members.iter();
    let Some((_, number)) = members.find(|(other, _)| other == disk) else {
        return Ok(None);
    };
    if let Some((other, at)) = mirror.members.iter().find(|(_, at)| at != number) {
        bail!(
            "the array {} is on partition {number} of {disk} and on partition {at} of {other}",
            mirror.name
        );
    }
    ensure!(
        *number > 0,
        "the array {} is on disks without partitions",
        mirror.name
    );
    Ok(Some(*number))
}

/// Whether the kernel's name `on`, at the end of what people are told, is that of a partition of `disk`.
fn is_part_of(on: &str, disk: &str) -> bool {
    let last = on.rsplit(' ').next().and_then(|it| it.strip_prefix(disk));
    let number = last.map(|it| it.strip_prefix('p').unwrap_or(it));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is on a layer, as its tool makes it again; nothing where another layer is.
fn entry(volume: &Volume) -> anyhow::Result<Entry> {
    if volume.filesystem.is_empty() || is_holder(volume) {
        return Ok(Entry::default());
    }
    ensure!(
        is_filesystem(&volume.filesystem),
        "{} has {}, which no layout makes there",
        volume.name,
        volume.filesystem
    );
    Ok(Entry {
        filesystem: Some(volume.filesystem.clone()),
        label: volume.label.clone(),
        uuid: volume.uuid.clone(),
        ..Entry::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::layers::plan::{Ground, Group as Found};

    fn ground(disk: &str, number: u32) -> Ground {
        Ground {
            base: Base::Partition(number),
            volume: Volume {
                name: format!("{disk}{number}"),
                disk: disk.into(),
                ..Volume::default()
            },
            start: 0,
        }
    }

    fn refused(layers: &Layers) -> String {
        let text = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"lvm\"\nsize = \"fill\"\n";
        let mut layout = Layout::parse(text).unwrap();
        layers.add_to(&mut layout, "sda").unwrap_err().to_string()
    }

    #[test]
    fn what_no_layout_says_is_told() {
        let group = |parts: &[Ground], pieces: Result<Vec<_>, String>| Layers {
            groups: vec![Found {
                name: "vg0".into(),
                parts: parts.iter().map(|it| (String::new(), it.clone())).collect(),
                volumes: vec![LogicalVolume {
                    name: "home".into(),
                    size: 1 << 30,
                    pieces,
                }],
            }],
            ..Layers::default()
        };
        let (here, other) = (ground("sda", 1), ground("sdb", 1));
        assert_eq!(
            refused(&group(&[here.clone(), other], Ok(Vec::new()))),
            "the group vg0 is on sdb1 of another disk too"
        );
        assert_eq!(
            refused(&group(&[here], Err("thin".into()))),
            "the volume vg0/home is of the kind thin, which no layout makes"
        );
        let mut array = Layers::default();
        let members = [("sda", 2), ("sdb", 3)].map(|(disk, at)| (disk.to_owned(), at));
        array.mirrors.push(Mirror {
            name: "root".into(),
            members: members.into(),
            lacks: None,
            ground: ground("sda", 2),
        });
        assert_eq!(
            refused(&array),
            "the array root is on partition 2 of sda and on partition 3 of sdb"
        );
    }
}
