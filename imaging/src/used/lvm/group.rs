//! A whole group, as its metadata on one physical volume tells it: what it is made of, and where its volumes lie.

use super::text::{Section, Value};
use super::{bytes_of, group_in, text_of};
use crate::source::ReadAt;
use crate::used::Untrusted;
use std::collections::BTreeMap;

const VISIBLE: &str = "VISIBLE";
/// Of a physical volume that was not there when the metadata was written.
const MISSING: &str = "MISSING";
/// What LVM calls volumes that lie as they are, or in stripes.
const STRIPED: &str = "striped";

/// A group of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    pub name: String,
    pub id: String,
    /// Grows with each change: of several physical volumes the one with most tells how it is.
    pub sequence: u64,
    /// The UUID of the physical volume that told this.
    pub own: String,
    /// The UUIDs of all its physical volumes.
    pub parts: Vec<String>,
    /// Those that people see.
    pub volumes: Vec<LogicalVolume>,
}

/// A volume of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Where it lies, from its beginning to its end; of one that does not lie plainly, what LVM calls its kind: `thin`, `cache`.
    pub pieces: Result<Vec<Piece>, String>,
}

/// A piece of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The UUID of the physical volume that it is on.
    pub part: String,
    /// The byte there at which it begins.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// The group that the physical volume `volume` is part of.
///
/// # Errors
/// Why its metadata cannot be believed.
pub fn volume_group(volume: &dyn ReadAt) -> Result<VolumeGroup, String> {
    let (text, own) = text_of(volume).map_err(|doubt| doubt.to_string())?;
    group(&text, own).map_err(|doubt| doubt.to_string())
}

/// What it is called in the metadata, its UUID, and where its extents begin.
type Parts<'a> = BTreeMap<&'a str, (String, u64)>;

fn group(text: &Section, own: String) -> Result<VolumeGroup, Untrusted> {
    let (name, group) = group_in(text)?;
    let extent = bytes_of(group.number("extent_size")?)?;
    let mut parts = Parts::new();
    for (name, part) in group.sections_in("physical_volumes") {
        let start = bytes_of(part.number("pe_start")?)?;
        let id = part.text("id")?.replace('-', "");
        if has(part, "flags", MISSING) {
            return Err(Untrusted::new(
                "one of its disks was missing when it was last changed",
            ));
        }
        parts.insert(name, (id, start));
    }
    let mut volumes = Vec::new();
    for (name, volume) in group.sections_in("logical_volumes") {
        if has(volume, "status", VISIBLE) {
            volumes.push(logical(name, volume, &parts, extent)?);
        }
    }
    for (_, hidden) in group.sections_in("logical_volumes") {
        note_snapshots(hidden, &mut volumes);
    }
    Ok(VolumeGroup {
        name: name.to_owned(),
        id: group.text("id")?.to_owned(),
        sequence: group.number("seqno")?,
        own,
        parts: parts.into_values().map(|(id, _)| id).collect(),
        volumes,
    })
}

/// What a snapshot has of its origin's blocks is no volume by itself; and what is to be merged back into its origin has to be read with it.
fn note_snapshots(volume: &Section, volumes: &mut [LogicalVolume]) {
    for (_, segment) in volume.sections() {
        if !matches!(segment.text("type"), Ok("snapshot")) {
            continue;
        }
        for (key, named) in [("cow_store", "cow_store"), ("merging_store", "origin")] {
            if let (Ok(_), Ok(name)) = (segment.text(key), segment.text(named))
                && let Some(found) = volumes.iter_mut().find(|it| it.name == name)
            {
                found.pieces = Err("snapshot".into());
            }
        }
    }
}

fn has(section: &Section, list: &str, word: &str) -> bool {
    let words = section.list(list).unwrap_or_default();
    words.contains(&Value::Text(word.into()))
}

fn logical(
    name: &str,
    volume: &Section,
    parts: &Parts<'_>,
    extent: u64,
) -> Result<LogicalVolume, Untrusted> {
    let bytes = |extents: u64| {
        extents
            .checked_mul(extent)
            .ok_or_else(|| Untrusted::new(format!("{name} has an impossible size")))
    };
    // By where in the volume they are.
    let mut pieces = BTreeMap::new();
    let mut size = 0_u64;
    let mut other = None;
    for (_, segment) in volume.sections() {
        let length = bytes(segment.number("extent_count")?)?;
        size = size.saturating_add(length);
        let kind = segment.text("type")?;
        if kind != STRIPED {
            other = Some(kind.to_owned());
            continue;
        }
        let [Value::Text(part), Value::Number(first)] = segment.list("stripes")? else {
            other = Some(STRIPED.to_owned());
            continue;
        };
        // It is being moved, from one to the other.
        let Some((id, start)) = parts.get(part.as_str()) else {
            other = Some("pvmove".to_owned());
            continue;
        };
        let start = bytes(*first)?.checked_add(*start);
        let piece = Piece {
            part: id.clone(),
            start: start.ok_or_else(|| Untrusted::new(format!("{name} has impossible places")))?,
            length,
        };
        pieces.insert(segment.number("start_extent")?, piece);
    }
    Ok(LogicalVolume {
        name: name.to_owned(),
        size,
        pieces: other.map_or_else(|| Ok(joined(pieces.into_values())), Err),
    })
}

/// Pieces that follow one on the other are one.
fn joined(pieces: impl Iterator<Item = Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match all.last_mut() {
            Some(last)
                if last.part == piece.part
                    && last.start.checked_add(last.length) == Some(piece.start) =>
            {
                last.length = last.length.saturating_add(piece.length);
            }
            _ => all.push(piece),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::used::lvm::text;

    const TEXT: &str = r#"vg0 {
id = "g-1"
seqno = 7
extent_size = 8192
physical_volumes {
pv0 {
id = "aa-bb"
pe_start = 2048
}
pv1 {
id = "cc-dd"
pe_start = 4096
flags = []
}
}
logical_volumes {
root {
id = "1"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 3
segment1 {
start_extent = 0
extent_count = 2
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}
segment2 {
start_extent = 2
extent_count = 3
type = "striped"
stripe_count = 1
stripes = ["pv0", 2]
}
segment3 {
start_extent = 5
extent_count = 1
type = "striped"
stripe_count = 1
stripes = ["pv1", 4]
}
}
home {
id = "2"
status = ["READ", "WRITE", "VISIBLE"]
segment1 {
start_extent = 0
extent_count = 4
type = "thin"
thin_pool = "pool"
}
}
pool_tmeta {
id = "3"
status = ["READ", "WRITE"]
segment1 {
start_extent = 0
extent_count = 1
type = "striped"
stripe_count = 1
stripes = ["pv1", 0]
}
}
}
}
"#;

    const MIB: u64 = 1 << 20;

    #[test]
    fn volumes_are_told_with_the_places_where_they_lie_or_with_their_kind() {
        let found = group(&text::parse(TEXT).unwrap(), "aabb".into()).unwrap();
        assert_eq!((found.name.as_str(), found.sequence), ("vg0", 7));
        assert_eq!(found.parts, ["aabb", "ccdd"]);
        let [root, home] = &found.volumes[..] else {
            panic!("{found:?}");
        };
        assert_eq!((root.name.as_str(), root.size), ("root", 24 * MIB));
        let piece = |part: &str, start: u64, length: u64| Piece {
            part: part.into(),
            start,
            length,
        };
        // The first two segments lie side by side.
        let pieces = vec![
            piece("aabb", MIB, 20 * MIB),
            piece("ccdd", 18 * MIB, 4 * MIB),
        ];
        assert_eq!(root.pieces, Ok(pieces));
        assert_eq!(home.pieces, Err("thin".into()));
    }

    #[test]
    fn snapshots_and_what_is_merged_back_do_not_lie_plainly() {
        let hidden = |more: &str| {
            let own = "type = \"snapshot\"\norigin = \"root\"\n";
            let snapshot = format!("snapshot0 {{\nsegment1 {{\n{own}{more}\n}}\n}}\npool_tmeta {{");
            TEXT.replace("pool_tmeta {", &snapshot)
        };
        let pieces = |text: &str| {
            let found = group(&text::parse(text).unwrap(), "aabb".into()).unwrap();
            found.volumes[0].pieces.clone()
        };
        assert!(pieces(&hidden("cow_store = \"other\"")).is_ok());
        assert_eq!(
            pieces(&hidden("cow_store = \"root\"")),
            Err("snapshot".into())
        );
        assert_eq!(
            pieces(&hidden("merging_store = \"other\"")),
            Err("snapshot".into())
        );
    }

    #[test]
    fn a_group_that_was_changed_without_one_of_its_disks_is_not_believed() {
        let told = TEXT.replace("flags = []", "flags = [\"MISSING\"]");
        let doubt = group(&text::parse(&told).unwrap(), "aabb".into()).unwrap_err();
        assert!(doubt.to_string().contains("missing"), "{doubt}");
    }
}
