//! From the command line and the host file to a job.

use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_protocol::job::cmdline::CommandLine;
use pitstop_protocol::job::host_file_search::Placeholders;
use pitstop_protocol::job::hostfile::{HostFile, value_error};
use pitstop_protocol::job::{Action, Job, Salvaged, check, default_host_urls, host_file_needed};
use pitstop_protocol::machine::{BootSource, Lease};
use pitstop_protocol::redacted;
use pitstop_transport::fetch::{self, FetchError, HttpClient, Settings};
use std::fmt;
use url::Url;

/// No host file is larger: something else is at that URL.
const LIMIT: usize = 1 << 20;

/// Why there is no job, and what can be done about it all the same.
#[derive(Debug)]
pub struct JobError {
    /// One sentence for result line and logs.
    pub reason: String,
    pub salvaged: Salvaged,
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
    reporter: &dyn Reporter,
) -> Result<Job, Box<JobError>> {
    match HttpClient::new(Settings::default()) {
        Ok(http) => load_with(machine, lease, &http, reporter),
        Err(error) => Err(Box::new(JobError {
            reason: format!("{error:#}"),
            salvaged: Salvaged {
                image: lease.folder(),
                ..Salvaged::default()
            },
        })),
    }
}

/// [`load`] with a client of one's own.
pub fn load_with(
    machine: &Machine,
    lease: &Lease,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Job, Box<JobError>> {
    let placeholders = Placeholders::new(machine, lease);
    let fail = |reason: String, line: &CommandLine, found: Option<&Found>| {
        Box::new(JobError {
            reason,
            salvaged: salvage(line, found, &placeholders),
        })
    };
    let line = match CommandLine::parse(&machine.command_line) {
        Ok(line) => line,
        Err(error) => {
            // Nothing is done by it, but it may tell where the logs are and how long to wait.
            let host = error.understood.host.as_deref();
            let found = host.and_then(|host| find(host, &placeholders, http, reporter).ok());
            return Err(fail(error.to_string(), &error.understood, found.as_ref()));
        }
    };
    let found = match &line.host {
        Some(host) => find(host, &placeholders, http, reporter).map(Some),
        None if host_file_needed(&line) => {
            find_by_default(&lease.boot, &placeholders, http, reporter)
        }
        None => Ok(None),
    }
    .map_err(|why| fail(why, &line, None))?;
    let file = match &found {
        None => HostFile::default(),
        Some(found) => HostFile::parse(&found.bytes, &redacted(&found.url))
            .map_err(|error| fail(error.to_string(), &line, Some(found)))?,
    };
    let from = found.as_ref().map(|found| &found.url);
    let job = check::job(&line, &file, from, &placeholders).map_err(|wrong| {
        let reason = match (&found, wrong.key) {
            (Some(found), Some(key)) => {
                value_error(&found.bytes, &redacted(&found.url), key, &wrong.what).to_string()
            }
            _ => wrong.what,
        };
        fail(reason, &line, found.as_ref())
    })?;
    if job.delete.is_empty() && job.action != Action::Rescue {
        reporter.warn(
            "no configuration is deleted when the job is done: the machine does it again at its next \
             network boot"
                .into(),
        );
    }
    Ok(job)
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
