//! `pitstop image list` by a server.

use super::Client;
use crate::host::say;
use crate::images::{Args, Command, text};
use anyhow::{Context, bail};
use pitstop_api::Images;

pub fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let Command::List { at, json } = &args.command else {
        bail!("pitstop image prune works on the files of a server: run it there, without --server");
    };
    if at.names_a_store() {
        bail!(
            "--share and --store-keys are for who is at a server's root: with --server the server has its own share, and the keys"
        );
    }
    let found: Images = client.get("/images")?;
    say(&if *json {
        serde_json::to_string_pretty(&found.images).context("writing JSON")? + "\n"
    } else {
        text(&found.images)
    })
}
