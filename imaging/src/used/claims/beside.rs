//! Claims on a whole disk beside its partition table: one of the two may be a leftover, and nobody can tell which.
//!
//! Two of them live together on purpose. ISO 9660 leaves room for a table, and knows where it ends. A mirror whose
//! metadata is at the disk's end begins with its data, so that the table in it is its own.

use super::{Claim, Claims, Level, Owner, with_article};
use crate::extents::Extents;
use crate::source::{ReadAt, Window};
use crate::table::{Partition, Table, TableKind};
use crate::used::bytes::Fields;
use std::io;

/// What claims a disk that has a partition table.
#[derive(Debug, Default)]
pub struct Beside {
    /// Whoever does, but for those whose claims are a partition's own.
    pub claims: Vec<Claim>,
    /// What is theirs alone where they live with the table. `None`: the table's partitions cannot be believed.
    pub theirs: Option<Extents>,
    /// Why the places of signatures could not all be read.
    pub unread: Option<io::Error>,
}

impl Beside {
    /// Why the maps of partitions are not believed: `there are both a GPT and a whole-disk md member`.
    pub fn doubt(&self, kind: TableKind) -> Option<String> {
        if let Some(error) = &self.unread {
            return Some(format!("who else may own the disk cannot be told: {error}"));
        }
        if self.theirs.is_some() {
            return None;
        }
        Some(format!(
            "there are both {} and a whole-disk {}",
            with_article(kind),
            self.names()
        ))
    }

    /// What is told of claims that live with the table.
    pub fn note(&self) -> Option<String> {
        let lives = self.theirs.is_some() && !self.claims.is_empty();
        lives.then(|| {
            format!(
                "the disk is a whole-disk {} too: what is that one's alone is kept",
                self.names()
            )
        })
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.claims.iter().map(|claim| claim.name).collect();
        names.dedup();
        names.join(" and ")
    }
}

/// Looks for whoever claims `disk` beside its `table`.
pub fn beside(disk: &dyn ReadAt, table: &Table) -> Beside {
    let found = Claims::of(disk, Level::Disk);
    let mut claims = Vec::new();
    let mut theirs = Some(Extents::new());
    for claim in found.list {
        let within = table
            .partitions
            .iter()
            .find(|partition| partition.range().contains(&claim.at));
        if let Some(partition) = within
            && is_partitions(disk, &claim, partition)
        {
            continue;
        }
        let its = peaceful(disk, &claim, table);
        theirs = match (theirs, its) {
            (Some(mut theirs), Some(its)) => {
                theirs.union(&its);
                Some(theirs)
            }
            _ => None,
        };
        claims.push(claim);
    }
    Beside {
        claims,
        theirs,
        unread: found.unread,
    }
}

/// Who owns the whole of `disk` beside its `table`, so that nobody else moves, mends or clears anything on it.
///
/// # Errors
/// When the places of signatures cannot be read.
pub fn owner_of_disk(disk: &dyn ReadAt, table: &Table) -> io::Result<Option<String>> {
    if table.kind == TableKind::None {
        return Ok(None);
    }
    let beside = beside(disk, table);
    if let Some(error) = beside.unread {
        return Err(error);
    }
    // A disc says nothing of what lies behind it.
    let lives = beside.theirs.is_some();
    let owner = beside
        .claims
        .iter()
        .find(|claim| !lives || claim.owner != Owner::Disc);
    Ok(owner.map(|owner| {
        format!(
            "there are both {} and a whole-disk {owner}",
            with_article(table.kind)
        )
    }))
}

/// Whether a claim that was found on the disk, with its signature in `partition`, is that partition's: they are looked
/// for at the same places where both end together.
fn is_partitions(disk: &dyn ReadAt, claim: &Claim, partition: &Partition) -> bool {
    let window = Window::new(disk, partition.start, partition.size);
    let own = Claims::of(&window, Level::Within);
    let same = |own: &Claim| {
        own.owner == claim.owner && own.name == claim.name && partition.start + own.at == claim.at
    };
    if claim.owner == Owner::Firmware || !own.list.iter().any(same) {
        return false;
    }
    match Array::read(disk, claim) {
        // An array of partitions is of no more than they have.
        Some(array) if array.size > partition.size => false,
        Some(array) => partition.kind.is_raid() || array.mirror,
        None => true,
    }
}

/// What of the disk is the claim's alone; `None` where it does not live with the table.
fn peaceful(disk: &dyn ReadAt, claim: &Claim, table: &Table) -> Option<Extents> {
    match claim.owner {
        Owner::Disc => disc(disk),
        Owner::Md if Array::read(disk, claim)?.mirror => {
            let mut partitions = Extents::new();
            for partition in &table.partitions {
                partitions.insert(partition.range());
            }
            let mut theirs = partitions.gaps(0..disk.size());
            theirs.insert(claim.at..claim.at.saturating_add(4096).min(disk.size()));
            Some(theirs)
        }
        _ => None,
    }
}

/// The bytes of an ISO 9660 (ECMA-119 8.4): its primary descriptor tells how many blocks there are.
fn disc(disk: &dyn ReadAt) -> Option<Extents> {
    const DESCRIPTOR: u64 = 32 << 10;
    let raw = disk.bytes_at(DESCRIPTOR, 2048).ok()?;
    let descriptor = Fields(&raw);
    if !raw.starts_with(b"\x01CD001") {
        return None;
    }
    let blocks = u64::from(descriptor.u32(80).ok()?);
    let end = blocks.checked_mul(descriptor.u16(128).ok()?.into())?;
    (end > DESCRIPTOR && end <= disk.size()).then(|| Extents::single(0..end))
}

/// What a superblock of md tells (Linux `md_p.h`).
struct Array {
    /// Bytes of a member, 0 where the level has none.
    size: u64,
    /// Whether every member has the array's data from its own first byte on.
    mirror: bool,
}

impl Array {
    /// `None` where `claim` is none of a Linux RAID.
    fn read(disk: &dyn ReadAt, claim: &Claim) -> Option<Self> {
        if claim.owner != Owner::Md {
            return None;
        }
        let at_end = claim.at > disk.size() / 2;
        let raw = disk.bytes_at(claim.at, 256).ok()?;
        let fields = Fields(&raw);
        let little = raw.starts_with(b"\xfc\x4e\x2b\xa9");
        let word = |at| {
            if little {
                fields.u32(at)
            } else {
                fields.u32_be(at)
            }
        };
        if word(4).ok()? == 1 {
            // Nothing but a bitmap, no array that changes its shape or is being rebuilt.
            let plain = word(8).ok()? & !1 == 0;
            let mirror = word(72).ok()? == 1 && fields.u64(128).ok()? == 0;
            return Some(Self {
                size: fields.u64(80).ok()?.saturating_mul(512),
                mirror: at_end && plain && mirror,
            });
        }
        Some(Self {
            size: u64::from(word(32).ok()?) << 10,
            mirror: at_end && word(4).ok()? == 0 && word(8).ok()? == 90 && word(28).ok()? == 1,
        })
    }
}
