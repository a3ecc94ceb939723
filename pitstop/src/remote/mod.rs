//! `pitstop --server URL`: the same commands, done by a server elsewhere.

mod client;
mod fleet;
mod host;
mod images;
mod job;
mod log;
mod power;

pub use client::{Client, part};

use crate::Command;
use anyhow::bail;
use std::path::PathBuf;
use url::Url;

/// Which server does what is asked for.
#[derive(clap::Args)]
#[command(next_help_heading = "A server elsewhere")]
pub struct Server {
    /// The server that does it: host, job, power, image list, inventory, fleet list and fleet show work so [default: the files of --root]
    #[arg(long = "server", id = "server", global = true, env = "PITSTOP_SERVER", value_name = "URL", value_parser = server_url)]
    url: Option<Url>,
    /// A file with the token to show to --server [default: `PITSTOP_TOKEN`]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file with the certificate authority of --server [default: those that this computer trusts]
    #[arg(long, global = true, env = "PITSTOP_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Other users of a computer see its command lines: the token has no option of its own.
const TOKEN: &str = "PITSTOP_TOKEN";

fn server_url(text: &str) -> Result<Url, String> {
    let plain = pitstop_server::valid_url(text)?;
    plain.parse().map_err(|error| format!("{error}"))
}

impl Server {
    fn client(&self, url: &Url) -> anyhow::Result<Client> {
        let token = match &self.token_file {
            Some(file) => Some(client::read_token(file)?),
            None => std::env::var(TOKEN).ok().filter(|token| !token.is_empty()),
        };
        Client::new(url.clone(), token, self.ca.clone())
    }

    /// Does `command` by the server. `false` where no server is named, and the files here are meant.
    pub fn run(&self, command: &Command) -> anyhow::Result<bool> {
        let Some(url) = &self.url else {
            return Ok(false);
        };
        let client = || self.client(url);
        let cannot = |what: &str| -> anyhow::Result<bool> {
            bail!(
                "{what} works on the files of a server: run it there, without --server (PITSTOP_SERVER is {url})"
            )
        };
        match command {
            Command::Host(args) => host::run(&client()?, args)?,
            Command::Job(args) => job::run(&client()?, args)?,
            Command::Power(args) => power::run(&client()?, args)?,
            Command::Fleet(args) => {
                if !fleet::run(client, args)? {
                    return cannot("this command of pitstop fleet");
                }
            }
            Command::Image(args) => images::run(&client()?, args)?,
            Command::Serve(_) => return cannot("pitstop serve"),
            Command::Inventory(args) => crate::inventory::run_by(&client()?, args)?,
            Command::User(_) => return cannot("pitstop user"),
            Command::Token(_) => return cannot("pitstop token"),
            Command::Tls(_) => return cannot("pitstop tls"),
            Command::Notify(_) => return cannot("pitstop notify"),
            // These are about files and disks of this computer, whichever server there is.
            Command::Backup(_)
            | Command::Restore(_)
            | Command::Verify(_)
            | Command::Inspect(_)
            | Command::Torrent(_)
            | Command::Layout(_)
            | Command::Plan(_)
            | Command::Convert(_)
            | Command::Shrink(_)
            | Command::Mount(_)
            | Command::Tree(_)
            | Command::Key(_)
            | Command::Completions { .. }
            | Command::Man { .. } => return Ok(false),
        }
        Ok(true)
    }
}
