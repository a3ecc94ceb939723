//! `pitstop token`: how programs log in.

use super::{noted, people};
use crate::host::{Root, say};
use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;
use pitstop_imaging::units;
use pitstop_people::{Gate, NewToken, Role, Wanted};
use pitstop_protocol::host_name::printable;
use pitstop_server::set::columns;
use serde_json::json;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  pitstop token new --user ann
  pitstop token new --user ann --role viewer --expires 90d --note \"the monitoring\"
  pitstop token list
  pitstop token revoke 1f0a9c3e

A program shows its token in a header: Authorization: Bearer TOKEN";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token and print it, once
    #[command(
        after_help = "Examples:\n  pitstop token new --user ann\n  pitstop token new --user ann --role viewer --expires 90d"
    )]
    New {
        /// Whose token it is: it ends with the user
        #[arg(long, value_name = "NAME")]
        user: String,
        /// What it may do: at most what its user may [default: the user's role]
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Option<Role>,
        /// When it ends: 12h, 90d [default: never]
        #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
        expires: Option<Duration>,
        /// What it is for
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        note: String,
        #[command(flatten)]
        root: Root,
    },
    /// List the tokens: nothing shows the secrets again
    #[command(after_help = "Example:\n  pitstop token list --json")]
    List {
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// End a token at once
    #[command(after_help = "Example:\n  pitstop token revoke 1f0a9c3e")]
    Revoke {
        /// Its name, as `token list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        root: Root,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::New {
            user,
            role,
            expires,
            note,
            root,
        } => {
            let now = Timestamp::now();
            let wanted = Wanted {
                user: user.clone(),
                role: *role,
                expires: expires
                    .map(|after| now.checked_add(after))
                    .transpose()
                    .context("--expires: so far ahead there is no time")?,
                note: note.clone(),
            };
            new(&people(root)?, &wanted, now)
        }
        Command::List { root, json } => list(&people(root)?, *json),
        Command::Revoke { id, root } => {
            let people = people(root)?;
            let token = noted(&people, "revoke token", id, || {
                people.store.change(|book| book.revoke(id))
            })?;
            say(&format!(
                "the token {id} of {} is of no use any more\n",
                token.user
            ))
        }
    }
}

fn new(people: &Gate, wanted: &Wanted, now: Timestamp) -> anyhow::Result<()> {
    let token = NewToken::new()?;
    let object = format!("{} of {}", token.name, wanted.user);
    noted(people, "make token", &object, || {
        people
            .store
            .change(|book| book.add_token(&token, wanted, now))
    })?;
    // Alone on its line, and nothing else there: `TOKEN=$(pitstop token new …)`.
    say(&format!("{}\n", token.text()))
}

fn list(people: &Gate, as_json: bool) -> anyhow::Result<()> {
    let (book, now) = (people.store.book()?, Timestamp::now());
    let tokens: Vec<_> = book.tokens.iter().collect();
    if as_json {
        let tokens = tokens.iter().map(|(id, token)| {
            json!({
                "id": id,
                "user": token.user,
                "role": token.role,
                "made": token.made,
                "expires": token.expires,
                "note": token.note,
            })
        });
        let tokens: Vec<_> = tokens.collect();
        return say(&format!("{:#}\n", serde_json::Value::from(tokens)));
    }
    let rows: Vec<[String; 6]> = tokens
        .iter()
        .map(|(id, token)| {
            let expires = match token.expires {
                Some(end) if end <= now => "expired".to_owned(),
                Some(end) => format!("{end:.0}"),
                None => "never".to_owned(),
            };
            [
                (*id).clone(),
                token.user.clone(),
                token.role.to_string(),
                format!("{:.0}", token.made),
                expires,
                printable(&token.note),
            ]
        })
        .collect();
    say(&columns(
        &["ID", "USER", "ROLE", "MADE", "EXPIRES", "NOTE"],
        &rows,
    ))
}
