//! The names in a folder: every record of its index, one after the other. No number of a cluster is followed, because
//! what it counts depends on the size of clusters: an index record that is smaller than a cluster is numbered in 512
//! bytes, and the `ntfs` crate multiplies by the cluster.

use super::super::bytes::Fields;
use super::Untrusted;
use super::record::{NUMBER, put_back};
use crate::source::Stream;
use ntfs::{NtfsAttributeItem, NtfsAttributeType, NtfsFile, NtfsReadSeek};

/// The index of names.
const NAMES: &str = "$I30";
/// Bytes of an index that are read: a root folder of half a million names.
const INDEX_MOST: u64 = 64 << 20;
/// Where the header of entries is: behind the root's own fields, and in an index record.
const ROOT_HEADER: usize = 16;
const RECORD_HEADER: usize = 24;
const LAST_ENTRY: u16 = 2;
/// The name within a key, which is a `$FILE_NAME`.
const NAME_LENGTH: usize = 64;
const NAME: usize = 66;

/// A name, and the number of the file's record.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) file: u64,
}

/// What the index of `folder` has. A name in both spellings, DOS's and the long one, is there twice.
pub(crate) fn entries(
    folder: &NtfsFile<'_>,
    stream: &mut Stream<'_>,
) -> Result<Vec<Entry>, Untrusted> {
    let mut entries = Vec::new();
    let root = find(folder, stream, NtfsAttributeType::IndexRoot)?
        .ok_or_else(|| Untrusted::new("its root folder has no index"))?;
    let root = read(&root, stream)?;
    let size = usize::try_from(Fields(&root).u32(8)?).map_err(|_| broken())?;
    node(Fields(&root), ROOT_HEADER, &mut entries)?;
    let Some(records) = find(folder, stream, NtfsAttributeType::IndexAllocation)? else {
        return Ok(entries);
    };
    let in_use = find(folder, stream, NtfsAttributeType::Bitmap)?.ok_or_else(broken)?;
    let in_use = read(&in_use, stream)?;
    let mut records = read(&records, stream)?;
    if size < 512 || !size.is_power_of_two() {
        return Err(broken());
    }
    for (number, record) in records.chunks_exact_mut(size).enumerate() {
        let byte = in_use.get(number / 8).copied().unwrap_or(0);
        if byte >> (number % 8) & 1 == 0 {
            continue;
        }
        if !record.starts_with(b"INDX") {
            return Err(broken());
        }
        put_back(record)?;
        node(Fields(record), RECORD_HEADER, &mut entries)?;
    }
    Ok(entries)
}

fn broken() -> Untrusted {
    Untrusted::new("the index of its root folder contradicts itself")
}

/// The attribute of the index of names that has this type, wherever the attribute list puts it.
fn find<'n, 'f>(
    folder: &'f NtfsFile<'n>,
    stream: &mut Stream<'_>,
    kind: NtfsAttributeType,
) -> Result<Option<NtfsAttributeItem<'n, 'f>>, Untrusted> {
    let mut attributes = folder.attributes();
    while let Some(item) = attributes.next(stream) {
        let item = item?;
        let attribute = item.to_attribute()?;
        if attribute.ty().is_ok_and(|ty| ty == kind) && attribute.name()? == NAMES {
            return Ok(Some(item));
        }
    }
    Ok(None)
}

fn read(item: &NtfsAttributeItem<'_, '_>, stream: &mut Stream<'_>) -> Result<Vec<u8>, Untrusted> {
    let attribute = item.to_attribute()?;
    let mut value = attribute.value(stream)?;
    if value.len() > INDEX_MOST {
        return Err(Untrusted::new("its root folder is too large"));
    }
    let mut bytes = vec![0; usize::try_from(value.len()).map_err(|_| broken())?];
    value.read_exact(stream, &mut bytes)?;
    Ok(bytes)
}

/// Adds the entries of one node, whose header is at `header`.
fn node(node: Fields<'_>, header: usize, entries: &mut Vec<Entry>) -> Result<(), Untrusted> {
    let word = |at: usize| -> Result<usize, Untrusted> {
        usize::try_from(node.u32(header + at)?).map_err(|_| broken())
    };
    let (first, used) = (word(0)?, word(4)?);
    let all = Fields(node.slice(header, used)?);
    let mut at = first;
    loop {
        let length = usize::from(all.u16(at + 8)?);
        let entry = Fields(all.slice(at, length)?);
        if length < 16 {
            return Err(broken());
        }
        if entry.u16(12)? & LAST_ENTRY != 0 {
            return Ok(());
        }
        let key = Fields(entry.slice(16, usize::from(entry.u16(10)?))?);
        let name = key.slice(NAME, 2 * usize::from(key.u8(NAME_LENGTH)?))?;
        let units = name.chunks_exact(2).map(|unit| match unit {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        });
        entries.push(Entry {
            name: char::decode_utf16(units)
                .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            file: entry.u64(0)? & NUMBER,
        });
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(file: u64, name: &str, flags: u16) -> Vec<u8> {
        let mut key = vec![0; NAME];
        let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        key[NAME_LENGTH] = u8::try_from(units.len() / 2).unwrap();
        key.extend(units);
        if flags & LAST_ENTRY != 0 {
            key.clear();
        }
        let length = (16 + key.len()).next_multiple_of(8);
        let mut bytes = file.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
        bytes.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        bytes.extend(u32::from(flags).to_le_bytes());
        bytes.extend(key);
        bytes.resize(length, 0);
        bytes
    }

    fn root(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let used = u32::try_from(16 + body.len()).unwrap();
        let mut bytes = vec![0; ROOT_HEADER];
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(used.to_le_bytes());
        bytes.extend(used.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    fn names(bytes: &[u8]) -> Result<Vec<(String, u64)>, String> {
        let mut entries = Vec::new();
        node(Fields(bytes), ROOT_HEADER, &mut entries).map_err(|doubt| doubt.to_string())?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.name, entry.file))
            .collect())
    }

    #[test]
    fn names_are_read_with_their_files() {
        let sequence = 3 << 48;
        let bytes = root(&[
            entry(40 + sequence, "pagefile.sys", 0),
            entry(41 + sequence, "Übung", 1),
            entry(0, "", LAST_ENTRY),
        ]);
        let expected = [("pagefile.sys".to_owned(), 40), ("Übung".to_owned(), 41)];
        assert_eq!(names(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_node_without_an_end_is_a_doubt() {
        let open = root(&[entry(40, "a", 0)]);
        assert_eq!(names(&open).unwrap_err(), "a structure is cut short");
        let mut endless = root(&[entry(40, "a", 0), entry(0, "", LAST_ENTRY)]);
        endless[ROOT_HEADER + 16 + 8] = 0;
        assert_eq!(
            names(&endless).unwrap_err(),
            "the index of its root folder contradicts itself"
        );
    }

    proptest! {
        #[test]
        fn no_damage_panics(changes in prop::collection::vec((0..150usize, any::<u8>()), 0..8)) {
            let mut bytes = root(&[
                entry(40, "pagefile.sys", 0),
                entry(41, "swapfile.sys", 0),
                entry(0, "", LAST_ENTRY),
            ]);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = names(&bytes);
        }
    }
}
