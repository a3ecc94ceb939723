//! What stands on disks beside filesystems, told by what is written there. Pure: nothing is opened.

use crate::system::volumes::{Holds, LUKS, MEMBER, MIRROR, PHYSICAL, Volume};
use pitstop_imaging::used::md::Member;
use pitstop_imaging::used::{LogicalVolume, VolumeGroup};

/// What cannot be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// `LVM`, `RAID`, `LUKS`.
    pub kind: &'static str,
    /// The kernel's names of what it is on.
    pub on: Vec<String>,
    /// How its system names what is on it: `/dev/md/boot`, or the beginning of that, `/dev/mapper/vg0-`.
    pub names: Vec<String>,
    pub why: String,
}

/// What something stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Partition(u32),
    /// An array, by its name.
    Array(String),
    /// What is encrypted, by the UUID of its header.
    Luks(String),
}

/// What a filesystem, a group or LUKS is on.
#[derive(Debug, Clone)]
pub struct Ground {
    pub base: Base,
    /// What is there. It is within its node, from byte `start` on.
    pub volume: Volume,
    pub start: u64,
}

/// An array that can be read from one of its members.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub name: String,
    /// The disk and the number of the partition of each member.
    pub members: Vec<(String, u32)>,
    /// Those that are not here, or are old.
    pub lacks: Option<String>,
    pub ground: Ground,
}

/// A group, all of whose parts are here.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    /// With the UUID that each has in the group.
    pub parts: Vec<(String, Ground)>,
    pub volumes: Vec<LogicalVolume>,
}

/// The names below `/dev` of an array.
pub fn array_names(name: &str) -> Vec<String> {
    let mut names = vec![format!("/dev/md/{name}")];
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        names.push(format!("/dev/md{name}"));
    }
    names
}

/// The arrays on `here`, and those that cannot be read.
pub fn mirrors(here: &[Volume]) -> (Vec<Mirror>, Vec<Closed>) {
    let mut arrays: Vec<Vec<One<'_>>> = Vec::new();
    let mut closed = Vec::new();
    for volume in here.iter().filter(|volume| volume.is_of(MEMBER)) {
        match &volume.holds {
            Some(Holds::Member(member, inside)) => {
                let one = One {
                    volume,
                    member,
                    inside,
                };
                add(&mut arrays, one, |other| other.member.uuid == member.uuid);
            }
            _ => closed.push(Closed {
                kind: "RAID",
                on: vec![volume.name.clone()],
                names: Vec::new(),
                why: "it is of a format before 1.0, which is not read".into(),
            }),
        }
    }
    let mut mirrors = Vec::new();
    for all in &arrays {
        match mirror(all) {
            Ok(mirror) => mirrors.push(mirror),
            Err(why) => closed.push(Closed {
                kind: "RAID",
                on: all.iter().map(|one| one.volume.name.clone()).collect(),
                names: all
                    .first()
                    .map(|one| array_names(&one.member.name))
                    .unwrap_or_default(),
                why,
            }),
        }
    }
    (mirrors, closed)
}

/// Adds one to those that it belongs to; there are few of them.
fn add<T>(all: &mut Vec<Vec<T>>, one: T, belongs: impl Fn(&T) -> bool) {
    let mut lists = all.iter_mut();
    match lists.find(|list| list.first().is_some_and(&belongs)) {
        Some(list) => list.push(one),
        None => all.push(vec![one]),
    }
}

/// A member of an array.
struct One<'a> {
    volume: &'a Volume,
    member: &'a Member,
    /// What is in the array, as this member has it.
    inside: &'a Volume,
}

/// Which member the array is read from: the first of those that are up to date, as the kernel would.
fn mirror(all: &[One<'_>]) -> Result<Mirror, String> {
    if let Some(other) = all.iter().find(|one| one.member.level != MIRROR) {
        return Err(match other.member.level {
            0.. => format!(
                "it is of level {}, and arrays of level 1 are read",
                other.member.level
            ),
            _ => "its disks are joined to one, and arrays of level 1 are read".into(),
        });
    }
    if all.iter().any(|one| one.member.is_reshaping) {
        return Err("it was changing its form: start its system, and let it end that".into());
    }
    // One that is still copied to tells how new the array is, too.
    let sound = || all.iter().filter(|one| one.member.is_sound);
    let newest = sound().map(|one| one.member.events).max();
    let current: Vec<&One<'_>> = sound()
        .filter(|one| one.member.place.is_some() && Some(one.member.events) == newest)
        .collect();
    let first = current
        .iter()
        .min_by_key(|one| (one.member.has_bad_blocks, one.member.place));
    let first = first.ok_or("none of its disks here has all of it")?;
    if first.member.has_bad_blocks {
        return Err("each of its disks here has blocks that could not be written: run `pitstop tree capture` on the running system".into());
    }
    let name = first.member.name.clone();
    let at_its_place = |one: &&&One<'_>| one.member.place == first.member.place;
    if current.iter().filter(at_its_place).count() > 1 {
        return Err(format!(
            "a part of the array {name} is here twice: take the copy away"
        ));
    }
    let others = current.iter().map(|one| &one.volume.disk);
    let ground = Ground {
        base: Base::Array(name.clone()),
        volume: Volume {
            name: format!("array {name}"),
            node: first.volume.node.clone(),
            disk: first.volume.disk.clone(),
            also_on: others
                .filter(|disk| **disk != first.volume.disk)
                .cloned()
                .collect(),
            sector: first.volume.sector,
            names: array_names(&name),
            ..first.inside.clone()
        },
        start: first.member.data.start,
    };
    let old: Vec<&str> = all
        .iter()
        .filter(|one| !current.iter().any(|other| std::ptr::eq(*other, *one)))
        .map(|one| one.volume.name.as_str())
        .collect();
    Ok(Mirror {
        lacks: lacks(first, current.len(), &old),
        members: current
            .iter()
            .map(|one| (one.volume.disk.clone(), one.volume.number))
            .collect(),
        name,
        ground,
    })
}

/// What people are told of an array that is not whole.
fn lacks(first: &One<'_>, here: usize, old: &[&str]) -> Option<String> {
    let Member { name, disks, .. } = first.member;
    if here as u64 >= u64::from(*disks) {
        return None;
    }
    let old = match old {
        [] => String::new(),
        old => format!(", and {} is old or not whole", old.join(", ")),
    };
    Some(format!(
        "the array {name} has {here} of its {disks} disks here{old}: it is read from {}",
        first.volume.name
    ))
}

/// What groups and LUKS can be on: the partitions themselves, and arrays.
pub fn grounds(here: &[Volume], mirrors: &[Mirror]) -> Vec<Ground> {
    let plain = here.iter().filter(|volume| !volume.is_of(MEMBER));
    let plain = plain.map(|volume| Ground {
        base: Base::Partition(volume.number),
        volume: volume.clone(),
        start: 0,
    });
    let arrays = mirrors.iter().map(|mirror| mirror.ground.clone());
    plain.chain(arrays).collect()
}

/// What is encrypted.
pub fn encrypted(grounds: &[Ground]) -> Vec<&Ground> {
    let is_it = |ground: &&Ground| ground.volume.filesystem == LUKS;
    grounds.iter().filter(is_it).collect()
}

/// The groups on `grounds`, and those that cannot be read.
pub fn groups(grounds: &[Ground]) -> (Vec<Group>, Vec<Closed>) {
    let mut all: Vec<Vec<(&VolumeGroup, &Ground)>> = Vec::new();
    let mut closed = Vec::new();
    for ground in grounds {
        match &ground.volume.holds {
            Some(Holds::Group(Ok(group))) => {
                add(&mut all, (group, ground), |(other, _)| other.id == group.id);
            }
            Some(Holds::Group(Err(why))) if ground.volume.filesystem == PHYSICAL => {
                closed.push(Closed {
                    kind: "LVM",
                    on: vec![ground.volume.name.clone()],
                    names: Vec::new(),
                    why: why.clone(),
                });
            }
            _ => {}
        }
    }
    let names: Vec<&str> = all
        .iter()
        .filter_map(|parts| parts.first().map(|(group, _)| group.name.as_str()))
        .collect();
    let mut groups = Vec::new();
    for parts in &all {
        match group(parts, &names) {
            Ok(group) => groups.push(group),
            Err(why) => closed.push(Closed {
                kind: "LVM",
                on: parts
                    .iter()
                    .map(|(_, ground)| ground.volume.name.clone())
                    .collect(),
                names: parts
                    .first()
                    .map(|(group, _)| group_names(&group.name))
                    .unwrap_or_default(),
                why,
            }),
        }
    }
    (groups, closed)
}

/// How the names of the volumes of a group begin.
pub fn group_names(group: &str) -> Vec<String> {
    let mapped = pitstop_imaging::layout::stack::mapped(group, "");
    vec![mapped, format!("/dev/{group}/")]
}

fn group(parts: &[(&VolumeGroup, &Ground)], names: &[&str]) -> Result<Group, String> {
    let newest = parts
        .iter()
        .map(|(group, _)| group)
        .max_by_key(|group| group.sequence);
    let Some(newest) = newest else {
        return Err("it has no disks".into());
    };
    let name = &newest.name;
    if names.iter().filter(|other| *other == name).count() > 1 {
        return Err(format!(
            "two groups have the name {name}: take the disks of one of them away"
        ));
    }
    let of = |id: &str| {
        let mut found = parts.iter().filter(|(group, _)| group.own == id);
        let one = found.next().map(|(_, ground)| (*ground).clone());
        (one, found.next().is_some())
    };
    let mut own = Vec::new();
    for id in &newest.parts {
        match of(id) {
            (Some(_), true) => {
                return Err(format!(
                    "a part of the group {name} is here twice: take the copy away"
                ));
            }
            (Some(ground), false) => own.push((id.clone(), ground)),
            (None, _) => {}
        }
    }
    if own.len() < newest.parts.len() {
        return Err(format!(
            "{} of the {} parts of the group {name} are here",
            own.len(),
            newest.parts.len()
        ));
    }
    Ok(Group {
        name: name.clone(),
        parts: own,
        volumes: newest.volumes.clone(),
    })
}

#[cfg(test)]
mod tests;
