//! `capture`: the machine's system becomes a version of a tree on the share. Its disks are not written.

use super::{Ready as AnyReady, Work, parts};
use crate::execute::Prepared;
use crate::plan::OfTree;
use crate::system::{self, System};
use anyhow::Context;
use pitstop_age::encrypting;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::layout::Layout;
use pitstop_imaging::wishes::Identity;
use pitstop_protocol::job::CaptureOptions as Options;
use pitstop_protocol::tree;
use pitstop_transport::share::trees::{self, Form};
use pitstop_trees::{CaptureOptions, Excludes, Meta, Packing};
use std::io::Write;

/// A system that is to be captured, mounted read-only.
pub(in crate::execute) struct Ready {
    system: System,
    version: String,
}

pub(super) fn plan(work: &mut Work<'_>, options: &Options) -> anyhow::Result<Prepared> {
    // What is wrong with a pattern is told before a disk is looked at.
    Excludes::new(&options.exclude)?;
    let version = match &options.version {
        Some(version) => version.clone(),
        None => trees::free_version(work.share, &options.name)?,
    };
    trees::check_free(work.share, &options.name, &version)?;
    let passphrase = match &options.luks_key {
        Some(file) => Some(parts::passphrase(work, file)?),
        None => None,
    };
    let (inventory, selection) = work.select(false)?;
    let system = system::mount_to_read(
        work.machine,
        &selection.disks,
        &inventory.disks,
        passphrase.as_ref(),
        work.log,
    )?;
    let mut lines = vec![format!("read {}; the disks are not written", system.name)];
    lines.extend(system.places.clone());
    let step = OfTree {
        tree: format!("{}@{version}", options.name),
        disks: system.disks.clone(),
        bytes: 0,
        lines,
    };
    let ready = AnyReady::Capture(Box::new(Ready { system, version }));
    Ok(super::prepared(work, step, selection.left_alone, ready))
}

pub(super) fn run(work: &Work<'_>, options: &Options, ready: &Ready) -> anyhow::Result<()> {
    let Ready { system, version } = ready;
    let layout = match system.layout(work.machine) {
        Ok(layout) => layout.map(|layout| table(&layout)).transpose()?,
        Err(error) => {
            let told = format!("the layout of its disks is not recorded: {error:#}");
            work.log.warn(told);
            None
        }
    };
    let capture = CaptureOptions {
        packing: Packing {
            level: options.level,
            threads: 0,
        },
        excludes: Excludes::new(&options.exclude)?,
        keep_identity: options.identity == Identity::Keep,
        // Nothing runs from these disks.
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta {
            name: options.name.clone(),
            version: version.clone(),
            layout,
            ..Meta::default()
        },
    };
    let name = &options.name;
    let form = match options.recipients {
        Some(_) => Form::Encrypted,
        None => Form::Plain,
    };
    trees::add(work.share, name, version, form, |out| {
        let fill = |out: &mut (dyn Write + Send)| {
            pitstop_trees::capture(system.root(), &capture, out, work.log)
        };
        let meta = match &options.recipients {
            Some(recipients) => encrypting(out, recipients, fill),
            None => fill(out),
        }?;
        work.log.info(format!(
            "{} entries, {} of files, BLAKE3 of the index {}",
            meta.entries,
            pitstop_imaging::units::bytes(meta.bytes),
            meta.index
        ));
        meta.to_toml()
    })
    .with_context(|| format!("capturing {} into {name}@{version}", system.name))?;
    work.log
        .info(format!("{name}@{version} is the current version"));
    work.log.info(format!(
        "to sign it, on the share: minisign -S -s KEY.sec -m {}",
        tree::about(name, version)
    ));
    Ok(())
}

/// As an image has it.
fn table(layout: &Layout) -> anyhow::Result<toml::Table> {
    let text = layout.to_toml()?;
    text.parse().context("reading the layout again")
}
