//! `pitstop image`: the images on the share.

use crate::host::{Root, say};
use anyhow::Context;
use clap::Subcommand;
use jiff::tz::TimeZone;
use pitstop_api::Image;
use pitstop_imaging::units;
use pitstop_protocol::host_name::printable;
use pitstop_server::set::columns;
use pitstop_server::view::images_below;

const EXAMPLES: &str = "\
Examples:
  pitstop image list
  pitstop --server https://lab.example:8080 --token-file ~/.pitstop-token image list --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the images on the share: of which disk, how large, when made, whether checked
    #[command(after_help = "Example:\n  pitstop image list --json")]
    List {
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Command::List { root, json } = &args.command;
    let images = images_below(&root.path)?;
    say(&if *json {
        serde_json::to_string_pretty(&images).context("writing JSON")? + "\n"
    } else {
        text(&images)
    })
}

/// A line an image.
pub fn text(images: &[Image]) -> String {
    if images.is_empty() {
        return "There is no image on the share\n".into();
    }
    let rows: Vec<[String; 5]> = images.iter().map(row).collect();
    columns(&["IMAGE", "DISK", "SIZE", "MADE", "CHECKED"], &rows)
}

fn row(image: &Image) -> [String; 5] {
    let when = |time: jiff::Timestamp| {
        let time = time.to_zoned(TimeZone::system());
        time.strftime("%Y-%m-%d %H:%M").to_string()
    };
    let disk = format!("{} {}", image.model, image.serial);
    let disk = match (disk.trim(), &image.wrong) {
        (_, Some(wrong)) => wrong.clone(),
        ("", None) => image.device.clone(),
        (disk, None) => disk.to_owned(),
    };
    let checked = image.verified.as_ref().map(|verified| {
        let state = serde_json::to_value(verified.state).unwrap_or_default();
        let state = state.as_str().unwrap_or_default().to_owned();
        format!("{state} {}", when(verified.at))
    });
    [
        printable(&image.path),
        printable(&disk),
        units::bytes(image.file_size),
        image
            .created
            .or(image.modified)
            .map(when)
            .unwrap_or_default(),
        checked.unwrap_or_default(),
    ]
}
