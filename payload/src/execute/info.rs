//! Writes `testbox-info.txt`, `testbox-info.zip` and `inventory.json` into the machine's folder.

use super::Work;
use super::attempts::put;
use super::record;
use crate::info;
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory;
use pitstop_protocol::facts::{self, Facts};

/// Collects and writes all files, and returns what the machine is. What a machine does not tell is a warning; what the share
/// does not take is an error.
pub fn write(work: &Work<'_>) -> anyhow::Result<Facts> {
    note_machine(work)?;
    write_text(work)?;
    let (zip, unread) = info::zip(&work.machine.sysfs)?;
    for problem in &unread {
        work.log.warn(format!("testbox-info: {problem}"));
    }
    let folder = work.lease.folder();
    put(work.share, &format!("{folder}/testbox-info.zip"), &zip)?;
    work.log
        .info("testbox-info.txt and testbox-info.zip are written".into());
    let inventory = inventory::read(work.machine)?;
    let facts = info::gather(work.machine, work.lease, &inventory);
    let text = facts.text().context("putting the inventory into JSON")?;
    put(
        work.share,
        &format!("{folder}/{}", facts::FILE),
        text.as_bytes(),
    )?;
    Ok(facts)
}

/// What the machine is and which disks it has. Before the text that tells of another machine is replaced: what an older
/// version has left is the only word of it.
pub(super) fn note_machine(work: &Work<'_>) -> anyhow::Result<()> {
    let inventory = inventory::read(work.machine)?;
    let this = record::identity(work.lease, &inventory);
    record::write(work.share, &work.lease.folder(), this, &inventory)
}

/// The text alone, of the machine as it is now.
pub fn write_text(work: &Work<'_>) -> anyhow::Result<()> {
    let inventory = inventory::read(work.machine)?;
    let text = info::text(work.machine, work.lease, &inventory);
    for problem in &text.problems {
        work.log.warn(format!("testbox-info: {problem}"));
    }
    let path = format!("{}/testbox-info.txt", work.lease.folder());
    put(work.share, &path, text.text.as_bytes())
}
