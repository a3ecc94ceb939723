//! `host set --sign`: what is signed is shown, and signed here: the server that is asked needs no key.

use super::many::at;
use super::say;
use crate::key::{Password, Secret};
use anyhow::Context;
use jiff::Timestamp;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::job::is_secret;
use pitstop_server::set::{Prepared, Terms, ToSign};
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Sign {
    /// Sign the job, for machines that do signed jobs alone (mkimage --job-key): the secret key of pitstop key or minisign
    #[arg(id = "sign", long = "sign", value_name = "KEY.sec")]
    key: Option<PathBuf>,
    /// Until when a signed job may be done, as in --at [default: 7 days after it is due]
    #[arg(long, value_name = "TIME", requires = "sign", value_parser = at)]
    not_after: Option<Timestamp>,
    /// Which machine a signed job is for: mac=…, uuid=… or serial=…; may be repeated [default: what is known of it]
    #[arg(long = "for", value_name = "WHAT=VALUE", requires = "sign", value_parser = fact)]
    meant_for: Vec<(String, String)>,
    #[command(flatten)]
    password: Password,
}

fn fact(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((what @ ("mac" | "uuid" | "serial"), value)) => {
            Ok((what.to_owned(), value.to_owned()))
        }
        _ => Err("write mac=…, uuid=… or serial=…".into()),
    }
}

impl Sign {
    /// `None` for a job that nobody signs.
    pub fn wished(&self) -> Option<Terms> {
        let facts = self.meant_for.iter();
        self.key.as_ref().map(|_| Terms {
            not_after: self.not_after,
            meant_for: facts
                .map(|(what, value)| (what.clone(), value.clone().into()))
                .collect(),
        })
    }

    /// Shows what is to be signed, before anybody is asked for anything.
    pub fn show(&self, prepared: &Prepared) -> anyhow::Result<()> {
        if self.key.is_none() {
            return Ok(());
        }
        let mut shown = String::new();
        for one in prepared.to_sign() {
            // Writing to a String cannot fail.
            let _ = writeln!(shown, "This is signed for {}:", printable(&one.machine));
            let lines = one.text.lines().filter(|line| !line.starts_with('#'));
            for line in lines {
                let key = line.split_once(" = ").map_or(line, |(key, _)| key);
                let line = if is_secret(key) {
                    format!("{key} = (secret)")
                } else {
                    printable(line)
                };
                let _ = writeln!(shown, "  {line}");
            }
        }
        say(&shown)
    }

    /// Signs every job.
    ///
    /// # Errors
    /// The key cannot be opened.
    pub fn sign(&self, prepared: &mut Prepared) -> anyhow::Result<()> {
        let Some(path) = &self.key else {
            return Ok(());
        };
        let key = Secret::open(path, &self.password)?;
        prepared.sign(|one| {
            key.sign(one.text.as_bytes(), &comment(one))
                .with_context(|| format!("signing the job of {}", one.machine))
        })
    }
}

/// What `minisign -V` shows, and the machine's console: one line.
fn comment(one: &ToSign) -> String {
    let terms = &one.job.terms;
    let id = terms.id.as_deref().unwrap_or_default();
    let until = terms.not_after.map(|time| time.to_string());
    format!(
        "file:{}\t{} of {}, job {id}, until {}",
        one.file,
        one.job.action,
        printable(&one.machine),
        until.unwrap_or_default()
    )
}
