//! Attributes of a tar's entry, and what of them only the raw records have.

use crate::acl;
use crate::entry::{Attributes, Time, Xattrs};
use crate::flags::Flags;
use crate::path::shown;
use crate::pax::unescaped;
use anyhow::{Context, anyhow, bail};
use std::sync::Arc;
use tar_core::PaxExtensions;
use tar_core::parse::ParsedEntry;

/// bsdtar's own form of extended attributes. It writes the other one, too, unless it is told not to.
const ENCODED: &[u8] = b"LIBARCHIVE.xattr.";
/// ACLs of `NFSv4`.
const UNREAD: &[u8] = b"SCHILY.acl.ace";
/// Where a file has data, as Solaris' tar has it: what is stored without that is not the file.
const HOLES: &[u8] = b"SUN.holesdata";

/// All that an entry has, its records among them.
///
/// # Errors
/// When something is damaged, or Linux has no number for it.
pub fn of(entry: &ParsedEntry, global: &[u8]) -> anyhow::Result<Attributes> {
    // GNU tar and bsdtar have times before 1970 as negative numbers.
    let seconds = entry.mtime.cast_signed();
    let mut found = Attributes {
        mode: entry.mode & 0o7777,
        uid: owner(entry.uid)?,
        gid: owner(entry.gid)?,
        mtime: Time { seconds, nanos: 0 },
        ..Attributes::default()
    };
    let mut xattrs = Vec::new();
    for records in [Some(global), entry.pax].into_iter().flatten() {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|error| anyhow!("its pax records: {error}"))?;
            take(
                record.key_bytes(),
                record.value_bytes(),
                &mut found,
                &mut xattrs,
            )?;
        }
    }
    // The last one of a name counts.
    xattrs.reverse();
    xattrs.sort_by(|a: &(Vec<u8>, Vec<u8>), b| a.0.cmp(&b.0));
    xattrs.dedup_by(|later, first| later.0 == first.0);
    found.xattrs = Arc::new(Xattrs::new(xattrs));
    Ok(found)
}

/// What an entry has besides, and the tree has not: a word for each.
pub fn unread(entry: &ParsedEntry, global: &[u8], found: &Attributes) -> Vec<String> {
    let records = [Some(global), entry.pax].into_iter().flatten();
    let keys = records.flat_map(PaxExtensions::new).flatten();
    let is_unread = |key: &[u8]| match key.strip_prefix(ENCODED) {
        Some(name) => {
            let name = unescaped(name);
            !found.xattrs.pairs().iter().any(|(it, _)| *it == name)
        }
        None => key == UNREAD,
    };
    let mut unread: Vec<String> = keys
        .filter(|record| is_unread(record.key_bytes()))
        .map(|record| shown(record.key_bytes()))
        .collect();
    unread.sort();
    unread.dedup();
    unread
}

/// The largest number means "nobody is set" to the kernel (chown(2)).
fn owner(id: u64) -> anyhow::Result<u32> {
    let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    id.context("an owner that Linux has no number for")
}

fn take(
    key: &[u8],
    value: &[u8],
    found: &mut Attributes,
    xattrs: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> anyhow::Result<()> {
    if key == HOLES {
        bail!(
            "it has holes as Solaris' tar writes them, which are not read: unpack it, and import the folder"
        );
    }
    let text = || shown(value);
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        let name = unescaped(name);
        if name.is_empty() || name.contains(&0) {
            bail!("an extended attribute without a name");
        }
        xattrs.push((name, value.to_vec()));
        return Ok(());
    }
    if let Some((name, key)) = acl::NAMES.iter().find(|(_, tar)| tar.as_bytes() == key) {
        // Names of users have numbers only when the whole tree is there: `Builder::finish`.
        let acl = acl::from_text(value, |_, _| None);
        xattrs.push(match acl {
            Some(acl) => (name.to_vec(), acl),
            None => (key.as_bytes().to_vec(), value.to_vec()),
        });
        return Ok(());
    }
    match key {
        b"mtime" => {
            found.mtime = Time::parse(value).with_context(|| format!("the time {}", text()))?;
        }
        // The parser passes over numbers that are none.
        b"size" | b"uid" | b"gid" => {
            let number = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok());
            let number = number.with_context(|| format!("the number {}", text()))?;
            match key {
                b"uid" => found.uid = owner(number)?,
                b"gid" => found.gid = owner(number)?,
                _ => {}
            }
        }
        b"SCHILY.fflags" => found.flags = Flags::parse(value),
        b"RHT.security.selinux" => {
            // GNU tar writes it without the zero byte that the kernel has.
            let mut label = value.to_vec();
            if label.last() != Some(&0) {
                label.push(0);
            }
            xattrs.push((b"security.selinux".to_vec(), label));
        }
        _ => {}
    }
    Ok(())
}
