//! `pitstop user`: who may log in.

use super::{audit, noted, password, people};
use crate::host::{Root, say};
use clap::Subcommand;
use pitstop_people::{Gate, Refused, Role, valid_name};
use pitstop_server::set::columns;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  pitstop user add ann --role admin
  pitstop user add kim --role operator --password-stdin < password.txt
  pitstop user list
  pitstop user role kim viewer
  pitstop user audit --since 7d

Viewers look, operators set jobs as well, admins manage users, keys and the server. From the first user on everybody logs in, on
the server's own machine, too.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a user; the password is asked for twice
    #[command(
        after_help = "Examples:\n  pitstop user add ann --role admin\n  echo s3cr3t-pass | pitstop user add kim --role viewer --password-stdin"
    )]
    Add {
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// What they may do
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Role,
        /// Read the password from the standard input: a line
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        root: Root,
    },
    /// List the users
    #[command(after_help = "Example:\n  pitstop user list --json")]
    List {
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a user: their sessions and tokens end at once
    #[command(after_help = "Example:\n  pitstop user remove kim")]
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
        /// Remove the last admin, too
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        root: Root,
    },
    /// Give a user another password: their sessions end, their tokens stay
    #[command(after_help = "Example:\n  pitstop user password kim")]
    Password {
        #[arg(value_name = "NAME")]
        name: String,
        /// Read the password from the standard input: a line
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        root: Root,
    },
    /// Give a user another role, at once
    #[command(after_help = "Example:\n  pitstop user role kim operator")]
    Role {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "viewer|operator|admin")]
        role: Role,
        /// Change the last admin, too
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        root: Root,
    },
    /// Print who did what, the oldest first
    #[command(
        after_help = "Examples:\n  pitstop user audit kim\n  pitstop user audit --since 7d --json"
    )]
    Audit(audit::Args),
}

fn name(text: &str) -> Result<String, String> {
    valid_name(text).map(|()| text.to_owned())
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Add {
            name,
            role,
            password_stdin,
            root,
        } => add(&people(root)?, name, *role, *password_stdin),
        Command::List { root, json } => list(&people(root)?, *json),
        Command::Remove { name, force, root } => {
            let people = people(root)?;
            noted(&people, "remove user", name, || {
                people.store.change(|book| book.remove(name, *force))
            })?;
            say(&format!(
                "{name} cannot log in any more{}\n",
                left(&people)?
            ))
        }
        Command::Password {
            name,
            password_stdin,
            root,
        } => {
            let people = people(root)?;
            if !people.store.book()?.users.contains_key(name) {
                return Err(Refused::NoUser(name.clone()).into());
            }
            let password = password::read(name, *password_stdin)?;
            noted(&people, "change user", &format!("{name}: password"), || {
                people.store.set_password(name, &password)
            })?;
            say(&format!(
                "{name} has a new password: who was logged in as {name} is not any more\n"
            ))
        }
        Command::Role {
            name,
            role,
            force,
            root,
        } => {
            let people = people(root)?;
            noted(&people, "change user", &format!("{name}: {role}"), || {
                people
                    .store
                    .change(|book| book.set_role(name, *role, *force))
            })?;
            say(&format!("{name} is {role}{}\n", left(&people)?))
        }
        Command::Audit(args) => audit::show(args),
    }
}

fn add(people: &Gate, name: &str, role: Role, from_stdin: bool) -> anyhow::Result<()> {
    let book = people.store.book()?;
    if book.users.contains_key(name) {
        // Before anybody types a password.
        return Err(Refused::Exists(name.into()).into());
    }
    let first = book.is_empty();
    let password = password::read(name, from_stdin)?;
    noted(people, "add user", &format!("{name} as {role}"), || {
        people.store.add(name, role, &password)
    })?;
    let first = if first {
        "; from now on the page and the API ask for a log-in, on this machine too"
    } else {
        ""
    };
    say(&format!(
        "{name} can log in as {role}{first}{}\n",
        left(people)?
    ))
}

/// What is odd about the users that there are now.
fn left(people: &Gate) -> anyhow::Result<&'static str> {
    let book = people.store.book()?;
    Ok(if book.is_empty() {
        "; there is no user left: the page and the API answer this machine alone, without a log-in"
    } else if book.lacks_admin() {
        "; there is no admin: users are managed here, by command, until one is made with --role admin"
    } else {
        ""
    })
}

fn list(people: &Gate, as_json: bool) -> anyhow::Result<()> {
    let book = people.store.book()?;
    if as_json {
        let users = book.users.iter().map(|(name, user)| {
            json!({
                "name": name,
                "role": user.role,
                "made": user.made,
                "password-set": user.password_set,
            })
        });
        let users: Vec<_> = users.collect();
        return say(&format!("{:#}\n", serde_json::Value::from(users)));
    }
    if book.is_empty() {
        return say("There is no user: the page and the API answer this machine alone\n");
    }
    let rows: Vec<[String; 4]> = book
        .users
        .iter()
        .map(|(name, user)| {
            let tokens = book.tokens.values().filter(|token| token.user == *name);
            [
                name.clone(),
                user.role.to_string(),
                tokens.count().to_string(),
                format!("{:.0}", user.made),
            ]
        })
        .collect();
    say(&columns(&["USER", "ROLE", "TOKENS", "SINCE"], &rows))
}
