//! `host set --sign`: a job with all its terms, and its signature. What is not said is taken from what the share knows of the
//! machine: its disks, its images.

mod known;

use super::{Args, Prepared, folder_known};
use crate::host::many::at;
use crate::host::say;
use crate::host::target::Target;
use crate::key::{Password, Secret};
use anyhow::{Context, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use known::Known;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::{Job, check, is_secret};
use pitstop_server::list;
use std::fmt::Write as _;
use std::path::PathBuf;
use toml::{Table, Value};

/// How long after it is due a job may be done, if nothing else is said.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The keys that are written here, whatever was said of them before.
const WRITTEN: [&str; 5] = ["disks", "for", "digests", "not-after", "id"];

#[derive(clap::Args)]
pub struct Sign {
    /// Sign the job, for machines that do signed jobs alone (mkimage --job-key): the secret key of pitstop key or minisign
    #[arg(long, value_name = "KEY.sec")]
    pub sign: Option<PathBuf>,
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

/// Who signs, and until when.
pub struct Signing {
    key: Secret,
    not_after: Timestamp,
}

impl Sign {
    /// Opens the key, if there is one.
    ///
    /// # Errors
    /// It cannot be opened; a job that comes again and again would be signed.
    pub fn open(
        &self,
        every: Option<&str>,
        due: Option<Timestamp>,
    ) -> anyhow::Result<Option<Signing>> {
        let Some(path) = &self.sign else {
            return Ok(None);
        };
        if every.is_some() {
            bail!(
                "--sign with --every: a signed job is done once, and --every sets it again and again; sign each one when \
                 it is wanted, with --at"
            );
        }
        let due = due.unwrap_or_else(Timestamp::now);
        let not_after = match self.not_after {
            Some(time) if time <= due => {
                bail!(
                    "--not-after {time:.0}: the job would have expired before it is due, at {due:.0}"
                )
            }
            Some(time) => time,
            None => due
                .checked_add(LASTS)
                .context("adding 7 days to when the job is due")?,
        };
        Ok(Some(Signing {
            key: Secret::open(path, &self.password)?,
            not_after,
        }))
    }

    /// Gives the host file `text` all the terms of a signed job, and checks that it is one. `job` is what it says so far.
    pub(super) fn complete(
        &self,
        args: &Args,
        signing: &Signing,
        target: &Target,
        text: &str,
        job: &Job,
    ) -> anyhow::Result<String> {
        let folder = folder_known(args, target, job);
        let known = Known::find(&args.root, target, folder.as_deref())?;
        let mut terms: Vec<(&str, Value)> = Vec::new();
        if let Some(disks) = known.disks(job)? {
            terms.push(("disks", disks));
        }
        terms.push(("for", self.whom(target, &known)?));
        if let Some(digests) = known.digests(job)? {
            terms.push(("digests", digests));
        }
        // Whole seconds are enough.
        let until = signing.not_after.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        terms.push(("not-after", until.into()));
        let id = Id::new(Timestamp::now(), fastrand::u32(..));
        terms.push(("id", id.to_string().into()));
        let is_written = |line: &&str| {
            let key = line.split_once(" = ").map(|(key, _)| key);
            !key.is_some_and(|key| WRITTEN.contains(&key))
        };
        let mut whole: String = text
            .lines()
            .filter(is_written)
            .flat_map(|line| [line, "\n"])
            .collect();
        for (key, value) in terms {
            // Writing to a String cannot fail.
            let _ = writeln!(whole, "{key} = {value}");
        }
        Ok(whole)
    }

    fn whom(&self, target: &Target, known: &Known) -> anyhow::Result<Value> {
        let given: Table = self
            .meant_for
            .iter()
            .map(|(what, value)| (what.clone(), value.clone().into()))
            .collect();
        if !given.is_empty() {
            return Ok(given.into());
        }
        let found = known.identity();
        if found.is_empty() {
            bail!(
                "nothing tells which machine {target} is: say --for mac=… (or uuid=…, serial=…), give it a mac or a uuid in \
                 fleet.toml, or boot it once with refresh-info"
            );
        }
        Ok(found.into())
    }
}

/// Whether a machine that does signed jobs alone would take it.
pub(super) fn check(file: &str, text: &str, target: &Target) -> anyhow::Result<Job> {
    let refused = |why: String| anyhow!("the machine would refuse this job: {why}");
    let job = list::preview(text.as_bytes(), file, target.machine.address()).map_err(refused)?;
    check::signable(&job).map_err(|wrong| {
        let key = wrong.key.map(|key| format!("{key}: ")).unwrap_or_default();
        refused(format!("{key}{}", wrong.what))
    })?;
    Ok(job)
}

/// Shows what is signed.
pub(super) fn show(prepared: &[Prepared]) -> anyhow::Result<()> {
    let mut shown = String::new();
    for one in prepared {
        // Writing to a String cannot fail.
        let _ = writeln!(shown, "This is signed for {}:", one.target);
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

impl Signing {
    pub(super) fn sign(&self, one: &Prepared) -> anyhow::Result<String> {
        let id = one.job.terms.id.as_deref().unwrap_or_default();
        // What `minisign -V` shows, and the machine's console: one line.
        let comment = format!(
            "file:{}\t{} of {}, job {id}, until {:.0}",
            one.file,
            one.job.action,
            printable(&one.target.to_string()),
            self.not_after
        );
        let signature = self.key.sign(one.text.as_bytes(), &comment);
        signature.with_context(|| format!("signing the job of {}", one.target))
    }
}
