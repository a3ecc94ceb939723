//! `pitstop image`: the images on the share.

mod prune;

use crate::host::{Root, say};
use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pitstop_api::Image;
use pitstop_imaging::units;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_server::ShareStore;
use pitstop_server::set::columns;
use pitstop_server::view::images_below;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  pitstop image list
  pitstop image prune --keep-last 3 --keep-monthly 6 --dry-run
  pitstop image list --share 's3://lab/room?endpoint=https://store.lab.example:9000'
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
        at: At,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Remove earlier images that nobody wants to keep
    Prune(prune::Args),
}

/// Where the images are.
#[derive(clap::Args)]
pub struct At {
    #[command(flatten)]
    root: Root,
    /// A share that is a store, `s3://BUCKET/PREFIX` [default: that of the root]
    #[arg(long, value_name = "URL")]
    share: Option<ShareUrl>,
    /// The keys of a share that is a store, as pitstop serve has them [default: those of the environment, else
    /// ~/.aws/credentials]
    #[arg(long, value_name = "FILE")]
    store_keys: Option<PathBuf>,
}

impl At {
    /// The store that they are in; `None` of a folder.
    fn store(&self) -> anyhow::Result<Option<ShareStore>> {
        let (root, keys) = (&self.root.path, self.store_keys.as_deref());
        ShareStore::at_hand(root, self.share.as_ref(), keys)
    }

    /// Whether it says what only somebody at the root or at the store can be asked.
    pub fn names_a_store(&self) -> bool {
        self.share.is_some() || self.store_keys.is_some()
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let (at, json) = match &args.command {
        Command::List { at, json } => (at, json),
        Command::Prune(args) => return prune::run(args),
    };
    let images = images_below(&at.root.path, at.store()?.as_ref())?;
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
    let disk = format!("{} {}", image.model, image.serial);
    let disk = match (disk.trim(), &image.wrong) {
        (_, Some(wrong)) => wrong.clone(),
        ("", None) => image.device.clone(),
        (disk, None) => disk.to_owned(),
    };
    let checked = image.verified.as_ref().map(|verified| {
        let state = serde_json::to_value(verified.state).unwrap_or_default();
        let state = state.as_str().unwrap_or_default().to_owned();
        format!("{state} {}", when(Some(verified.at)))
    });
    [
        printable(&image.path),
        printable(&disk),
        units::bytes(image.file_size),
        when(made(image)),
        checked.unwrap_or_default(),
    ]
}

/// When it was made, as far as anything tells.
fn made(image: &Image) -> Option<Timestamp> {
    image.created.or(image.modified)
}

fn when(time: Option<Timestamp>) -> String {
    time.map(|time| {
        let time = time.to_zoned(TimeZone::system());
        time.strftime("%Y-%m-%d %H:%M").to_string()
    })
    .unwrap_or_default()
}
