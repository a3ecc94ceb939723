//! `pitstop inspect IMAGE`: what is in it, with a picture of the disk.

use super::place::encrypted::ReadWith;
use super::place::{columns, source};
use anyhow::Context;
use pitstop_imaging::image::{Cell, ImageMeta, Indexed, Inspection, Kind, inspect};
use pitstop_imaging::units;
use pitstop_imaging::used::claims::Contested;
use pitstop_protocol::digest::Digest;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pitstop inspect sda.raw.gz --json")]
pub struct Args {
    /// A path or an `http(s)://` URL; only its beginning and its index are read
    image: String,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    read: ReadWith,
}

/// The most cells a picture has, and what frames them.
const CELLS: usize = 100;
const FRAME: usize = 4;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let image = args.read.open(source(&args.image)?)?;
    let cells = columns().saturating_sub(FRAME).clamp(10, CELLS);
    let found = inspect(&*image, cells)?;
    let text = if args.json {
        json(&found)?
    } else {
        describe(image.name(), &found)
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}

fn json(found: &Inspection) -> anyhow::Result<String> {
    let meta = found.indexed.as_ref().map(|indexed| &indexed.meta);
    let value = json!({
        "kind": found.kind,
        "image-size": found.image_size,
        "raw-size": found.raw_size,
        "zeros": found.indexed.as_ref().map(|indexed| indexed.zeros),
        "digest": found.indexed.as_ref().map(|indexed| Digest::from(indexed.digest).to_string()),
        "meta": meta,
    });
    let text = serde_json::to_string_pretty(&value).context("writing JSON")?;
    Ok(text + "\n")
}

fn describe(name: &str, found: &Inspection) -> String {
    let kind = match found.kind {
        Kind::Pitstop => "gzip with an index",
        Kind::Gzip => "gzip without an index",
        Kind::Xz => "xz",
        Kind::Zstd => "zstd",
        Kind::Raw => "raw",
    };
    let mut text = format!("{name}: {kind}, {}\n", units::bytes(found.image_size));
    match (&found.indexed, found.raw_size) {
        (Some(indexed), _) => describe_indexed(&mut text, found, indexed),
        (None, Some(size)) => line(&mut text, "disk", &units::bytes(size)),
        (None, None) => line(&mut text, "disk", "of unknown size: only verify can tell"),
    }
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:<10}{value}");
    }
}

fn describe_indexed(text: &mut String, found: &Inspection, indexed: &Indexed) {
    let meta = &indexed.meta;
    let disk = &meta.disk;
    let data = disk.size.saturating_sub(indexed.zeros);
    line(
        text,
        "disk",
        &pitstop_imaging::inventory::disks::describe(disk),
    );
    line(
        text,
        "sectors",
        &format!(
            "{} logical, {} physical",
            disk.logical_sector_size, disk.physical_sector_size
        ),
    );
    line(
        text,
        "created",
        &format!("{} by pitstop {}", meta.created, meta.pitstop),
    );
    line(
        text,
        "kept",
        &format!(
            "{}{}, {} in chunks with data",
            units::bytes(meta.kept),
            if meta.exact { " (every block)" } else { "" },
            units::bytes(data)
        ),
    );
    line(
        text,
        "ratio",
        &format!(
            "{} of the disk, {} of its data",
            percent(found.image_size, disk.size),
            percent(found.image_size, data)
        ),
    );
    line(text, "blake3", &meta.blake3);
    line(text, "digest", &Digest::from(indexed.digest).to_string());
    for bad in &meta.read_errors {
        line(
            text,
            "unread",
            &format!("{} bytes at {}", bad.length, bad.offset),
        );
    }
    partitions(text, meta);
    picture(text, &indexed.cells);
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn partitions(text: &mut String, meta: &ImageMeta) {
    let table = [&meta.table.kind, &meta.table.id, &meta.table.note];
    let told: Vec<_> = table.into_iter().filter(|fact| !fact.is_empty()).collect();
    let told: Vec<&str> = told.iter().map(|fact| fact.as_str()).collect();
    line(text, "table", &told.join(", "));
    claims(text, &meta.table.claims);
    for part in &meta.partitions {
        let filesystem = match part.filesystem.as_str() {
            "" => "unknown",
            known => known,
        };
        let facts = [&part.label, &part.name, &part.kind, &part.reason];
        let facts: Vec<&str> = facts
            .into_iter()
            .map(String::as_str)
            .filter(|fact| !fact.is_empty())
            .collect();
        let _ = writeln!(
            text,
            "  {:>3}  {:>10} at {:>10}  {filesystem:<8} {:>10} kept ({})  {}",
            part.number,
            units::bytes(part.size),
            units::bytes(part.start),
            units::bytes(part.used),
            part.kept,
            facts.join(", ")
        );
        claims(text, &part.claims);
    }
}

/// Who else may own it, and what clears a signature that is only a leftover.
fn claims(text: &mut String, claims: &[Contested]) {
    for claim in claims {
        line(text, "", &format!("claimed by {claim}"));
    }
}

/// A row of cells, fuller where more of the disk has data.
fn picture(text: &mut String, cells: &[Cell]) {
    const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
    let row: String = cells
        .iter()
        .map(|cell| {
            let fifths = u128::from(cell.data) * 4 / u128::from(cell.size.max(1));
            let some = usize::from(cell.data > 0);
            let shade = usize::try_from(fifths).unwrap_or(4).clamp(some, 4);
            SHADES[shade]
        })
        .collect();
    let _ = writeln!(text, "\n  [{row}]");
    let _ = writeln!(
        text,
        "   · zeros   ░▒▓█ a quarter, half, three quarters, all data"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_a_little_data_and_no_more_than_all() {
        let cell = |data| Cell {
            data,
            compressed: 0,
            size: 100,
        };
        let mut text = String::new();
        picture(
            &mut text,
            &[cell(0), cell(1), cell(50), cell(100), cell(150)],
        );
        assert!(text.starts_with("\n  [·░▒██]\n"), "{text}");
    }

    #[test]
    fn ratios_have_a_decimal() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 0), "100.0 %");
    }
}
