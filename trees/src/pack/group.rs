//! Whole entries in one member, or more where they turn out larger than was thought.

use super::{Data, Found, GROUP, Made, MemberMaker, Source};
use crate::entry::Kind;
use crate::header;
use crate::index::{MEMBER_MOST, Placed};
use anyhow::{Context, bail};
use pitstop_imaging::image::members::Doing;
use std::ops::Range;

/// Reads and packs the entries of `range`.
pub fn make(
    source: &dyn Source,
    range: Range<usize>,
    maker: &mut MemberMaker,
) -> anyhow::Result<Made> {
    let mut made = Made::default();
    let mut raw = std::mem::take(&mut maker.raw);
    raw.clear();
    for number in range {
        let before = raw.len();
        let placed = {
            let _reading = maker.effort.doing(Doing::Reading);
            let Some(found) = source.read(number)? else {
                continue;
            };
            append(found, &mut raw, &mut made.data)?
        };
        if raw.len() > GROUP && before > 0 {
            made.members.push(maker.member(&raw[..before]));
            raw.drain(..before);
        }
        made.placed.push(placed);
    }
    if !raw.is_empty() {
        made.members.push(maker.member(&raw));
    }
    maker.raw = raw;
    Ok(made)
}

/// Adds an entry's header, data and filling to the tar.
fn append(mut found: Found, raw: &mut Vec<u8>, data: &mut u64) -> anyhow::Result<Placed> {
    let bytes = match std::mem::replace(&mut found.data, Data::None) {
        Data::None => Vec::new(),
        Data::Bytes(bytes) => bytes,
        Data::Stream(contents) => {
            let stored = found.entry.kind.stored();
            if stored > u64::from(MEMBER_MOST / 2) {
                bail!(
                    "{} became much larger while the tree was read: capture it again",
                    found.entry.path
                );
            }
            let mut bytes = vec![0; usize::try_from(stored)?];
            contents
                .read(&mut bytes, 0)
                .with_context(|| format!("reading {}", found.entry.path))?;
            contents.done()?;
            bytes
        }
    };
    if let Kind::File { hash, .. } = &mut found.entry.kind {
        *hash = *blake3::hash(&bytes).as_bytes();
    }
    let start = raw.len();
    header::encode(&found.entry, raw);
    let header = u32::try_from(raw.len() - start)?;
    raw.extend_from_slice(&bytes);
    raw.resize(raw.len().next_multiple_of(512), 0);
    *data += bytes.len() as u64;
    Ok(Placed {
        entry: found.entry,
        header,
    })
}
