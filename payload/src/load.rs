//! From the command line and the host file to a job.

mod signed;

use crate::execute::record;
use jiff::Timestamp;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{self, Machine};
use pitstop_protocol::job::check::Wrong;
use pitstop_protocol::job::cmdline::CommandLine;
use pitstop_protocol::job::host_file_search::Placeholders;
use pitstop_protocol::job::hostfile::{HostFile, value_error};
use pitstop_protocol::job::{
    Action, Clock, Job, JobKeys, Policy, Salvaged, Transfer, check, default_host_urls,
    host_file_needed,
};
use pitstop_protocol::machine::{BootSource, Lease};
use pitstop_protocol::redacted;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_protocol::stick::{self, Whose};
use pitstop_transport::fetch::{self, FetchError, HttpClient, Settings};
use std::fmt;
use url::Url;

/// No host file is larger: something else is at that URL.
const LIMIT: usize = 1 << 20;

/// What this machine believes.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whose jobs it does; `None` for everybody's.
    pub keys: Option<JobKeys>,
    /// Whose images it writes; `None` where the job says whether they have to be signed.
    pub image_keys: Option<JobKeys>,
    pub clock: Clock,
}

/// Why there is no job, and what can be done about it all the same.
#[derive(Debug)]
pub struct JobError {
    /// One sentence for result line and logs.
    pub reason: String,
    pub salvaged: Salvaged,
    /// Whether it is a failed try of a job. A job that nobody signed is none: it must not bring a machine to hold.
    pub counts: bool,
}

impl std::error::Error for JobError {}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A host file as it was found.
struct Found {
    url: Url,
    bytes: Vec<u8>,
}

/// Reads the command line, finds and reads the host file, checks both.
///
/// # Errors
/// Whatever is wrong with either, as a sentence that names file, line and key; and that the file
/// cannot be had, with every name that was tried.
pub fn load(
    machine: &Machine,
    lease: &Lease,
    rules: &Rules,
    reporter: &dyn Reporter,
) -> Result<Job, Box<JobError>> {
    match HttpClient::new(Settings::default()) {
        Ok(http) => load_with(machine, lease, rules, &http, reporter),
        Err(error) => Err(Box::new(JobError {
            reason: format!("{error:#}"),
            salvaged: Salvaged {
                image: lease.folder(),
                ..Salvaged::default()
            },
            counts: true,
        })),
    }
}

/// [`load`] with a client of one's own.
pub fn load_with(
    machine: &Machine,
    lease: &Lease,
    rules: &Rules,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Job, Box<JobError>> {
    let placeholders = Placeholders::new(machine, lease);
    let fail = |reason: String, line: &CommandLine, found: Option<&Found>| {
        Box::new(JobError {
            reason,
            salvaged: salvage(line, found, &placeholders),
            counts: true,
        })
    };
    let line = match CommandLine::parse(&machine.command_line) {
        Ok(line) => line,
        Err(error) => {
            // Nothing is done by it, but it may tell where the logs are and how long to wait.
            let host = error.understood.host.as_deref();
            let found = host.and_then(|host| find(host, &placeholders, http, reporter).ok());
            let (line, found) = match &rules.keys {
                None => (error.understood.clone(), found),
                // Of what is signed alone.
                Some(keys) => {
                    let proven = found.map(|found| signed::prove(found, keys, http, reporter));
                    (CommandLine::default(), proven.and_then(Result::ok))
                }
            };
            return Err(fail(error.to_string(), &line, found.as_ref()));
        }
    };
    if rules.keys.is_some() {
        signed::check_line(&line).map_err(|why| fail(why, &CommandLine::default(), None))?;
    }
    let found = match &line.host {
        Some(host) => find(host, &placeholders, http, reporter).map(Some),
        None if host_file_needed(&line) => {
            find_by_default(&lease.boot, &placeholders, http, reporter)
        }
        None => Ok(None),
    }
    .map_err(|why| fail(why, &line, None))?;
    let found = match (found, &rules.keys) {
        (Some(found), Some(keys)) => {
            let proven = signed::prove(found, keys, http, reporter);
            Some(proven.map_err(|unsigned| {
                let (found, why) = *unsigned;
                Box::new(unproven(&found, why, &placeholders))
            })?)
        }
        (found, _) => found,
    };
    let mut file = match &found {
        None => HostFile::default(),
        Some(found) => HostFile::parse(&found.bytes, &redacted(&found.url))
            .map_err(|error| fail(error.to_string(), &line, Some(found)))?,
    };
    if let Some(found) = &found
        && (rules.keys.is_some() || file.id.is_some())
    {
        signed::add_unsigned(&mut file, found, http, reporter);
    }
    let from = found.as_ref().map(|found| &found.url);
    let checked = check::job(&line, &file, from, &placeholders).and_then(|mut job| {
        check_terms(&job, machine, lease, rules)?;
        let asked = std::mem::take(&mut job.terms.images);
        let proof = asked.on_machine(rules.image_keys.as_ref(), rules.keys.as_ref());
        job.terms.images = proof.map_err(|why| Wrong {
            key: Some("signed"),
            what: why.to_string(),
        })?;
        check::vouched(&job)?;
        Ok(job)
    });
    let job = checked.map_err(|wrong| {
        let reason = match (&found, wrong.key) {
            (Some(found), Some(key)) => {
                value_error(&found.bytes, &redacted(&found.url), key, &wrong.what).to_string()
            }
            _ => wrong.what,
        };
        fail(reason, &line, found.as_ref())
    })?;
    let chosen = found.as_ref().and_then(|found| stick::whose(&found.url)) == Some(Whose::Chosen);
    let comes_again = job.terms.round.is_none() && !chosen;
    if job.delete.is_empty() && job.action != Action::Rescue && comes_again {
        reporter.warn(
            "no configuration is deleted when the job is done: the machine does it again at its next \
             network boot"
                .into(),
        );
    }
    Ok(job)
}

/// What holds beside the work: that the job could be a signed one where it has to be, that it is this machine's, and that
/// it has not expired.
fn check_terms(job: &Job, machine: &Machine, lease: &Lease, rules: &Rules) -> Result<(), Wrong> {
    let wrong = |key| {
        move |what| Wrong {
            key: Some(key),
            what,
        }
    };
    if rules.keys.is_some() {
        check::signable(job)?;
    }
    if let Some(whom) = &job.terms.meant_for {
        let inventory = inventory::read(machine).map_err(|error| Wrong {
            key: None,
            what: format!("whether the job is for this machine: {error:#}"),
        })?;
        let this = record::identity(lease, &inventory);
        whom.check(&this).map_err(wrong("for"))?;
    }
    let now = Timestamp::now();
    let in_time = job.terms.check_time(now, rules.clock);
    in_time.map_err(wrong("not-after"))
}

/// Of a file that nobody signed little is believed: the action, for the result line; a wait that is no longer than the usual
/// one; and where the refusal is logged, if that is on the server that sent the file, so that its admin hears of it.
fn unproven(found: &Found, reason: String, placeholders: &Placeholders) -> JobError {
    let told = salvage(&CommandLine::default(), Some(found), placeholders);
    let is_own = |share: &ShareUrl| match share {
        ShareUrl::Http(url) => url.host() == found.url.host(),
        ShareUrl::Nfs(_) | ShareUrl::S3(_) | ShareUrl::Directory(_) => false,
    };
    let usual = Policy::default();
    JobError {
        reason,
        salvaged: Salvaged {
            policy: Policy {
                failure_delay: told.policy.failure_delay.min(usual.failure_delay),
                ..usual
            },
            transfer: Transfer::default(),
            share: told.share.filter(is_own),
            image: told.image,
            action: told.action,
        },
        counts: false,
    }
}

/// Looks for the host file: the first of its names that exists.
fn find(
    host: &str,
    placeholders: &Placeholders,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Found, String> {
    let wrong = |what: String| format!("kernel command line: pitstop.host: {what}");
    let filled = placeholders.fill(host).map_err(wrong)?;
    let url = Url::parse(&filled).map_err(|error| {
        wrong(format!(
            "it is not a URL ({error}): write http://server/path"
        ))
    })?;
    let candidates = placeholders.candidates(&url);
    first_of(&candidates, http, reporter)?.ok_or_else(|| none_of(&candidates))
}

/// Looks beside what the machine booted from, where that is known.
fn find_by_default(
    boot: &BootSource,
    placeholders: &Placeholders,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Option<Found>, String> {
    let mut tried = Vec::new();
    for place in default_host_urls(boot, placeholders)? {
        reporter.info(format!(
            "no pitstop.host is given: the host file is looked for at {} ({})",
            redacted(&place.url),
            place.why
        ));
        let candidates = placeholders.candidates(&place.url);
        if let Some(found) = first_of(&candidates, http, reporter)? {
            return Ok(Some(found));
        }
        tried.extend(candidates);
    }
    if tried.is_empty() {
        return Ok(None);
    }
    Err(format!(
        "{}; put one there, or give pitstop.host=URL, or pitstop.action=NAME and pitstop.share=URL",
        none_of(&tried)
    ))
}

/// The first that exists.
fn first_of(
    candidates: &[Url],
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Option<Found>, String> {
    for url in candidates {
        match fetch::file(url, LIMIT, http, reporter) {
            Ok(bytes) => {
                reporter.info(format!("the host file is {}", redacted(url)));
                return Ok(Some(Found {
                    url: url.clone(),
                    bytes,
                }));
            }
            Err(FetchError::NotFound) => {
                reporter.debug(format!("there is no {}", redacted(url)));
            }
            Err(FetchError::Failed(why)) => return Err(format!("reading the host file: {why}")),
        }
    }
    Ok(None)
}

fn none_of(tried: &[Url]) -> String {
    let tried: Vec<String> = tried.iter().map(redacted).collect();
    format!(
        "there is no host file for this machine: tried {}",
        tried.join(", ")
    )
}

fn salvage(line: &CommandLine, found: Option<&Found>, placeholders: &Placeholders) -> Salvaged {
    let file = found.map_or_else(HostFile::default, |found| HostFile::salvage(&found.bytes));
    let from = found.map(|found| &found.url);
    check::salvage(line, &file, from, placeholders)
}

#[cfg(test)]
mod tests;
