//! Makes an image of a disk, checks it, and writes it to another disk. Plain files do as well as devices:
//!
//! ```sh
//! cargo run -p pitstop-imaging --example capture_and_restore -- disk.raw disk.raw.gz copy.raw
//! ```

use pitstop_imaging::disk::{DiskInput, Input};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{
    CaptureOptions, FileSource, ImageError, RestoreOptions, capture, restore, verify,
};
use pitstop_imaging::inventory::DiskIdentity;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [disk, image, target] = &paths[..] else {
        return Err("usage: capture_and_restore DISK IMAGE TARGET".into());
    };

    let mut out = File::create(image)?;
    let options = CaptureOptions::default();
    let meta = capture(disk, &identity(disk)?, &options, &mut out, &Silent)?;
    println!("{} bytes in use are in {}", meta.kept, image.display());

    let source = FileSource::open(image)?;
    let verified = verify(&source, 0, &Silent)?;
    println!("{} bytes are as they were", verified.bytes());

    match restore(&source, target, &RestoreOptions::default(), &Silent) {
        Ok(done) => println!(
            "{} bytes were written, {} zeroed",
            done.written, done.zeroed
        ),
        // The target is as it was.
        Err(ImageError::Refused(why)) => return Err(format!("refused: {why:#}").into()),
        Err(error) => return Err(format!("{} is not whole: {error:#}", target.display()).into()),
    }
    Ok(())
}

/// What the image is to say of its disk. On a machine, `inventory::read` finds model and serial, too.
fn identity(path: &Path) -> Result<DiskIdentity, Box<dyn Error>> {
    let disk = DiskInput::open(path)?;
    let (logical, physical) = disk.sector_sizes();
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(DiskIdentity {
        device: name.to_string_lossy().into_owned(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: disk.size(),
        logical_sector_size: logical,
        physical_sector_size: physical,
    })
}
