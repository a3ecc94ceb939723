//! What one partition claims of another: a filesystem that goes on behind its partition, hashes of blocks elsewhere, and
//! what owns a part of the disk beside the table.

use super::claims::{Beside, Contested, Filesystem, Owner, Says, hashes_of_others};
use super::probe::Found;
use crate::extents::Extents;
use crate::table::Table;
use std::ops::Range;

/// A filesystem that goes on behind its partition.
struct Overlong {
    number: u32,
    beyond: Range<u64>,
}

/// The claims that partitions make on each other.
pub(super) struct Neighbours<'a> {
    table: &'a Table,
    overlong: Vec<Overlong>,
    /// The number of a partition with hashes of others.
    verity: Option<u32>,
    /// What of the disk is claimed from another partition.
    pub(super) claimed: Extents,
    /// Partitions whose volume group is newer or older on another one.
    of_two_ages: Vec<u32>,
}

impl<'a> Neighbours<'a> {
    /// `found` is what is on the partitions of `table`, in its order.
    pub(super) fn of(table: &'a Table, found: &[Found]) -> Self {
        let mut overlong = Vec::new();
        let mut claimed = Extents::new();
        let mut verity = None;
        for (partition, found) in table.partitions.iter().zip(found) {
            // Nobody clears these two, and none has a filesystem: what begins there is older than the table.
            let is_reserve =
                partition.kind.is_fixed() && Says::from(&partition.kind) == Says::Other;
            if found.end > partition.size && !is_reserve {
                let end = partition.start.saturating_add(found.end);
                let beyond = partition.range().end..end;
                claimed.insert(beyond.clone());
                overlong.push(Overlong {
                    number: partition.number,
                    beyond,
                });
            }
            if found.is_verity() || hashes_of_others(&partition.kind) {
                verity = Some(partition.number);
            }
        }
        let groups = || {
            let all = table.partitions.iter().zip(found);
            all.filter_map(|(partition, found)| Some((partition.number, found.group.as_ref()?)))
        };
        let of_two_ages = groups()
            .filter(|(_, group)| groups().any(|(_, other)| group.differs_in_age(other)))
            .map(|(number, _)| number)
            .collect();
        Self {
            table,
            overlong,
            verity,
            claimed,
            of_two_ages,
        }
    }

    /// Gives up the map of every partition that another one, or what is beside the table, has a claim on.
    pub(super) fn settle(&mut self, beside: &Beside, found: &mut [Found]) {
        for (partition, found) in self.table.partitions.iter().zip(found) {
            let range = partition.range();
            for other in &self.overlong {
                if other.number != partition.number && meet(&other.beyond, &range) {
                    let who = format!("the filesystem of partition {}", other.number);
                    found.dispute(
                        format!("{who} says that it goes on into it"),
                        Contested::by(who),
                    );
                }
            }
            if let Some(number) = self.verity
                && number != partition.number
                && is_hashed(found)
            {
                found.dispute(
                    format!("the hashes of dm-verity in partition {number} may be of all its blocks, free ones too"),
                    Contested::by(format!("dm-verity in partition {number}")),
                );
            }
            if self.of_two_ages.contains(&partition.number) {
                found.give_up(
                    "the metadata of its volume group is older or newer on another partition"
                        .into(),
                );
            }
            let discs = beside
                .claims
                .iter()
                .filter(|claim| claim.owner == Owner::Disc);
            for disc in discs {
                let theirs = beside.theirs.as_ref();
                if theirs.is_some_and(|theirs| theirs.touches(range.clone())) {
                    found.dispute(
                        format!("the whole-disk {} has it within", disc.name),
                        Contested::from(disc),
                    );
                }
            }
        }
    }
}

/// Nobody hashes what changes while a system runs from it: swap, and what firmware writes to.
pub(super) fn is_hashed(found: &Found) -> bool {
    let changes = |owner| matches!(owner, Owner::Filesystem(Filesystem::Swap | Filesystem::Fat));
    !found.claims.iter().all(|claim| changes(claim.owner))
}

fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
