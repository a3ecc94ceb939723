//! Lists the partitions of a disk, of a file that holds one, or of an image, with what is on each and how much of it
//! is used.
//!
//! ```sh
//! cargo run -p pitstop-imaging --example list_partitions -- disk.raw
//! cargo run -p pitstop-imaging --example list_partitions -- sda.raw.gz
//! ```

use pitstop_imaging::disk::{DiskInput, Input};
use pitstop_imaging::image::{FileSource, Kind, OpenedImage};
use pitstop_imaging::units;
use pitstop_imaging::used::{PartitionSummary, TableSummary, survey};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: list_partitions FILE")?;
    let path = Path::new(&path);
    // A disk is a raw image, too: that of one whose blocks are all kept.
    let image = OpenedImage::open(Box::new(FileSource::open(path)?))?;
    match image.meta() {
        Some(meta) => show(&meta.table, &meta.partitions),
        None if image.kind() == Kind::Raw => {
            let disk = DiskInput::open(path)?;
            let (sector, _) = disk.sector_sizes();
            let found = survey(&mut disk.file(), disk.size(), sector)?;
            show(&found.table, &found.partitions);
        }
        None => return Err("an image without an index does not say what is in it".into()),
    }
    Ok(())
}

fn show(table: &TableSummary, partitions: &[PartitionSummary]) {
    println!("table {} {}", table.kind, table.note);
    for partition in partitions {
        println!(
            "{:>3}  {:>10} from byte {}  {}  {} used",
            partition.number,
            units::bytes(partition.size),
            partition.start,
            partition.filesystem,
            units::bytes(partition.used),
        );
    }
}
