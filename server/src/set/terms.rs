//! The terms of a signed job. What is not said is taken from what the share knows of the machine: its disks, its images. Who
//! has the key signs elsewhere: no server needs it.

mod known;

use super::target::Target;
use super::{One, Prepared, Wish};
use crate::list;
use anyhow::{Context, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use known::Known;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::{Job, check};
use std::fmt::Write as _;
use std::path::Path;
use toml::{Table, Value};

/// How long after it is due a job may be done, if nothing else is said.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The keys that are written here, whatever was said of them before.
const WRITTEN: [&str; 5] = ["disks", "for", "digests", "not-after", "id"];

/// What is wished of the terms.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub not_after: Option<Timestamp>,
    /// `mac`, `uuid`, `serial`; empty: what is known of the machine.
    pub meant_for: Table,
}

/// A job to be signed.
pub struct ToSign<'a> {
    /// As people know the machine.
    pub machine: String,
    /// The host file's name, and what is signed of it.
    pub file: &'a str,
    pub text: &'a str,
    pub job: &'a Job,
}

impl One {
    pub(super) fn to_sign(&self) -> ToSign<'_> {
        ToSign {
            machine: self.target.to_string(),
            file: &self.file,
            text: &self.text,
            job: &self.job,
        }
    }
}

impl Prepared<'_> {
    /// The jobs as they are to be signed.
    pub fn to_sign(&self) -> Vec<ToSign<'_>> {
        self.jobs.iter().map(One::to_sign).collect()
    }

    /// Has each job signed.
    ///
    /// # Errors
    /// That of `sign`.
    pub fn sign(
        &mut self,
        sign: impl Fn(&ToSign<'_>) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        for one in &mut self.jobs {
            one.signature = Some(sign(&one.to_sign())?);
        }
        Ok(())
    }
}

impl Terms {
    /// Until when a job that is due at `due` may be done.
    ///
    /// # Errors
    /// A signed job comes again and again, or expires before it is due.
    fn not_after(&self, wish: &Wish) -> anyhow::Result<Timestamp> {
        if wish.many.every.is_some() {
            bail!(
                "--sign with --every: a signed job is done once, and --every sets it again and again; sign each one when \
                 it is wanted, with --at"
            );
        }
        let due = wish.many.at.unwrap_or_else(Timestamp::now);
        match self.not_after {
            Some(time) if time <= due => {
                bail!(
                    "--not-after {time:.0}: the job would have expired before it is due, at {due:.0}"
                )
            }
            Some(time) => Ok(time),
            None => due
                .checked_add(LASTS)
                .context("adding 7 days to when the job is due"),
        }
    }

    /// Gives the host file `text` all the terms of a signed job. `job` is what it says so far.
    pub(super) fn complete(
        &self,
        root: &Path,
        wish: &Wish,
        target: &Target,
        text: &str,
        job: &Job,
    ) -> anyhow::Result<String> {
        let not_after = self.not_after(wish)?;
        let folder = wish.folder_known(target, job);
        let known = Known::find(root, target, folder.as_deref());
        let mut terms: Vec<(&str, Value)> = Vec::new();
        if let Some(disks) = known.disks(job)? {
            terms.push(("disks", disks));
        }
        terms.push(("for", self.whom(target, &known)?));
        if let Some(digests) = known.digests(job)? {
            terms.push(("digests", digests));
        }
        // Whole seconds are enough.
        let until = not_after.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
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
        if !self.meant_for.is_empty() {
            return Ok(self.meant_for.clone().into());
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

/// What of a host file can be looked at before it has its terms. A tree that has to be signed wants the digests of its hooks and
/// its layout beside it, and these come with the terms.
pub(super) fn draft(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("signed = "));
    lines.flat_map(|line| [line, "\n"]).collect()
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
