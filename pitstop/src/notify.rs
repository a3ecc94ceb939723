//! `pitstop notify`: whether those who are told of failures can be told.

use crate::host::Root;
use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Timestamp;
use pitstop_notify::{Config, FILE, Notice};
use pitstop_protocol::id::Id;
use pitstop_server::read_server_file;
use std::fmt::Write as _;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  pitstop notify check
  pitstop notify test
  pitstop notify test --to admins";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with notify.toml, and who is told what
    #[command(after_help = "Example:\n  pitstop notify check --root /srv/pitstop")]
    Check {
        #[command(flatten)]
        root: Root,
    },
    /// Tell each receiver that this is a test, and say how it went
    #[command(after_help = "Example:\n  pitstop notify test --to admins")]
    Test {
        #[command(flatten)]
        root: Root,
        /// This receiver alone
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Check { root } => say(&checked(root)?),
        Command::Test { root, to } => test(root, to.as_deref()),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}

fn read(root: &Root) -> anyhow::Result<Config> {
    let config = Config::read(&root.path)?;
    if config.receivers.is_empty() {
        bail!(
            "{} names nobody who is to be told: docs/monitoring.md has examples",
            root.path.join(FILE).display()
        );
    }
    Ok(config)
}

fn checked(root: &Root) -> anyhow::Result<String> {
    let mut text = String::new();
    for receiver in read(root)?.receivers {
        let on: Vec<String> = receiver.on.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}", receiver.name, on.join(", "));
    }
    Ok(text)
}

fn test(root: &Root, to: Option<&str>) -> anyhow::Result<()> {
    let mut receivers = read(root)?.receivers;
    receivers.retain(|receiver| to.is_none_or(|to| to == receiver.name));
    if let Some(to) = to.filter(|_| receivers.is_empty()) {
        bail!("{FILE} has no receiver with the name {to:?}");
    }
    let server = read_server_file(&root.path)?.map(|served| served.url);
    let mut wrong = 0;
    for (number, receiver) in (0..).zip(&receivers) {
        let id = Id::new(Timestamp::now(), number);
        let notice = Notice::test(id, server.clone().unwrap_or_default());
        match receiver.deliver(&notice) {
            Ok(()) => say(&format!("{}: told\n", receiver.name))?,
            Err(why) => {
                wrong += 1;
                say(&format!("{}: {why}\n", receiver.name))?;
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} receivers were not told", receivers.len());
    }
    Ok(())
}
