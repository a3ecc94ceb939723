//! What LVM says of its volumes, and how large a snapshot of one is. Pure.

use anyhow::{Context, ensure};
use pitstop_imaging::units;

/// How our snapshots are called, and what they are tagged with: one that has both is ours.
const PREFIX: &str = "pitstop-capture-";
pub const TAG: &str = "pitstop.capture";

/// What is asked of each volume (lvs(8)), in this order. None of it has the separator in it.
pub const FIELDS: &str =
    "vg_uuid,lv_uuid,vg_name,lv_name,lv_size,vg_free,vg_extent_size,lv_attr,lv_tags,origin";
pub const SEPARATOR: char = '|';

/// Kinds of volumes that such snapshots are made of, by the first letter of their attributes (lvs(8)): plain ones, with snapshots or
/// without, mirrors, RAID, cached ones. Thin ones share a pool, which a snapshot could fill under the system.
const PLAIN: &str = "-omMrRC";
/// What becomes of one that is full, by the fifth letter.
const FULL: &str = "IS";
const ACTIVE: u8 = b'a';

const MIB: u64 = 1 << 20;
/// A snapshot takes what is written to the volume while it is read: a quarter of it, and not less than this, is more than a system
/// writes by itself in that time.
const PART: u64 = 4;
const ENOUGH: u64 = 256 * MIB;
/// With less, a hundredth of the volume, it would hardly live to the end.
const LEAST_PART: u64 = 100;
const LEAST: u64 = 32 * MIB;

/// A snapshot that is not known to hold all that it has to, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotWhole(pub String);

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// As device-mapper has it, behind `LVM-`.
    pub id: String,
    pub group: String,
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Of its group, bytes.
    pub free: u64,
    pub extent: u64,
    attributes: String,
    tags: Vec<String>,
    origin: String,
}

/// Reads a list of volumes.
///
/// # Errors
/// When a line is none of [`FIELDS`].
pub fn parse(said: &str) -> anyhow::Result<Vec<Volume>> {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| line_of(line).with_context(|| format!("lvm said {line:?} of a volume")))
        .collect()
}

fn line_of(line: &str) -> Option<Volume> {
    let fields: Vec<&str> = line.split(SEPARATOR).collect();
    let [
        group_id,
        id,
        group,
        name,
        size,
        free,
        extent,
        attributes,
        tags,
        origin,
    ] = fields[..]
    else {
        return None;
    };
    let tags = tags.split(',').filter(|tag| !tag.is_empty());
    Some(Volume {
        id: [group_id, id].concat().replace('-', ""),
        group: group.into(),
        name: name.into(),
        size: size.parse().ok()?,
        free: free.parse().ok()?,
        extent: extent.parse().ok().filter(|extent| *extent > 0)?,
        attributes: attributes.into(),
        tags: tags.map(str::to_owned).collect(),
        // Hidden ones are in brackets.
        origin: origin.trim_matches(['[', ']']).into(),
    })
}

impl Volume {
    /// For messages and for lvm: `vg0/root`.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Whether an earlier capture has made it: a snapshot, by its name and its tag.
    pub fn is_ours(&self) -> bool {
        let number = self.name.strip_prefix(PREFIX);
        let is_number = number.is_some_and(|it| it.parse::<u32>().is_ok());
        is_number && !self.origin.is_empty() && self.tags.iter().any(|tag| tag == TAG)
    }

    /// Whether it is a snapshot of that volume.
    pub fn is_of(&self, volume: &Self) -> bool {
        self.group == volume.group && self.origin == volume.name
    }

    /// Whether a snapshot holds all that it has to.
    ///
    /// # Errors
    /// When it does not, with the reason.
    pub fn check_whole(&self) -> anyhow::Result<()> {
        let state = self.attributes.as_bytes().get(4).copied().unwrap_or(b'?');
        let full = FULL.as_bytes().contains(&state);
        ensure!(
            !full,
            "more was written to {}/{} while it was read than its snapshot of {} takes: nothing that was read of it counts. Try again when \
             less is written there, or with more room in the group {}",
            self.group,
            self.origin,
            units::bytes(self.size),
            self.group
        );
        ensure!(
            state == ACTIVE,
            "the snapshot {} is no longer active (lvs shows {:?}): nothing that was read of it counts",
            self.shown(),
            self.attributes
        );
        Ok(())
    }

    /// How many extents a snapshot gets, where volumes of so many bytes in all are to have one in its group, and an image of so many bytes
    /// at the most is written to this volume meanwhile.
    ///
    /// # Errors
    /// When there can be none, with the reason.
    pub fn snapshot(&self, together: u64, image: u64) -> anyhow::Result<u64> {
        let shown = self.shown();
        let kind = self.attributes.chars().next().unwrap_or('?');
        ensure!(
            PLAIN.contains(kind),
            "{shown} is a volume of which no such snapshots are made (lvs shows {:?})",
            self.attributes
        );
        let share = u128::from(self.free) * u128::from(self.size) / u128::from(together.max(1));
        let share = u64::try_from(share).unwrap_or(self.free);
        let wanted = (self.size / PART).max(ENOUGH).saturating_add(image);
        let least = (self.size / LEAST_PART).max(LEAST).saturating_add(image);
        let given = share.min(wanted.next_multiple_of(self.extent)) / self.extent;
        let why = if image > 0 {
            ", for the image is written to that volume, too: put it elsewhere"
        } else {
            ""
        };
        ensure!(
            given * self.extent >= least,
            "its group {} has {} free, and a snapshot of {shown} wants {} at least{why}",
            self.group,
            units::bytes(self.free),
            units::bytes(least)
        );
        Ok(given)
    }
}

/// A name that no volume of the group has.
pub fn free_name(all: &[Volume], group: &str) -> Option<String> {
    let mut names = (0..1000).map(|number| format!("{PREFIX}{number}"));
    names.find(|name| !all.iter().any(|it| it.group == group && it.name == *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As lvm 2.03 prints it.
    const SAID: &str = "  8bGxLv-A|ZwTQ30-B|vg0|root|838860800|171966464|4194304|owi-aos---|site=a,x|\n  \
        8bGxLv-A|qcRi1U-C|vg0|pitstop-capture-0|33554432|171966464|4194304|swi-I-s---|pitstop.capture|root\n  \
        8bGxLv-A|aaaaaa-D|vg0|pitstop-capture-1|33554432|171966464|4194304|-wi-a-----|pitstop.capture|\n  \
        8bGxLv-A|aaaaaa-E|vg0|pitstop-capture-mine|33554432|171966464|4194304|swi-a-s---|pitstop.capture|[root]\n";

    #[test]
    fn volumes_are_read_and_ours_are_known_by_name_tag_and_kind() {
        let all = parse(SAID).unwrap();
        assert_eq!(all[0].id, "8bGxLvAZwTQ30B");
        assert_eq!((all[0].size, all[0].free), (838_860_800, 171_966_464));
        let ours: Vec<bool> = all.iter().map(Volume::is_ours).collect();
        assert_eq!(ours, [false, true, false, false]);
        assert!(all[1].is_of(&all[0]) && !all[2].is_of(&all[0]));
        let full = all[1].check_whole().unwrap_err().to_string();
        assert!(full.contains("written to vg0/root while"), "{full}");
        all[3].check_whole().unwrap();
        assert_eq!(free_name(&all, "vg0").unwrap(), "pitstop-capture-2");
        assert_eq!(free_name(&all, "vg1").unwrap(), "pitstop-capture-0");
        assert!(parse("vg0|root").is_err());
    }

    #[test]
    fn a_snapshot_is_a_quarter_of_its_volume_or_what_there_is() {
        const GIB: u64 = 1 << 30;
        let volume = |size, free, attributes: &str| Volume {
            size,
            free,
            attributes: attributes.into(),
            ..parse(SAID).unwrap()[0].clone()
        };
        let extents = |size, free, together| {
            let made = volume(size, free, "-wi-ao----").snapshot(together, 0);
            made.map(|extents| extents * 4 * MIB / MIB)
        };
        assert_eq!(extents(40 * GIB, 100 * GIB, 40 * GIB).unwrap(), 10 << 10);
        assert_eq!(extents(400 * MIB, GIB, 400 * MIB).unwrap(), 256);
        // Others want a part of it.
        assert_eq!(extents(40 * GIB, 8 * GIB, 80 * GIB).unwrap(), 4 << 10);
        assert_eq!(extents(800 * MIB, 164 * MIB, 800 * MIB).unwrap(), 164);
        let error = extents(40 * GIB, 400 * MIB, 40 * GIB).unwrap_err();
        assert!(
            error.to_string().contains("wants 409.5 MiB at least"),
            "{error}"
        );
        assert!(extents(40 * GIB, 0, 40 * GIB).is_err());
        let image = |free| volume(40 * GIB, free, "-wi-ao----").snapshot(40 * GIB, 9 * GIB);
        assert_eq!(image(100 * GIB).unwrap() * 4, 19 << 10);
        let error = image(9 * GIB).unwrap_err().to_string();
        assert!(error.contains("put it elsewhere"), "{error}");
        let thin = volume(GIB, GIB, "Vwi-aotz--").snapshot(GIB, 0).unwrap_err();
        assert!(thin.to_string().contains("no such snapshots"), "{thin}");
    }
}
