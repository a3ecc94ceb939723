//! Jobs on a machine that does signed ones alone: what is believed of what.
//!
//! The file is read once, its signature is checked on those bytes, and the job is made of the same bytes. What nobody has
//! signed (the command line, what lies beside) can say where the file is, and nothing about what is done.

use super::{Found, LIMIT};
use pitstop_imaging::event::Reporter;
use pitstop_protocol::job::beside::{SIGNATURE, UNSIGNED, Unsigned, beside};
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::job::{CommandLine, JobKeys};
use pitstop_protocol::redacted;
use pitstop_transport::fetch::{self, FetchError, HttpClient};
use std::thread;
use std::time::Duration;

/// No signature is larger: it is four lines.
const SIGNATURE_LIMIT: usize = 4096;

/// A server that puts a new file and its signature in the place of old ones takes less.
const REPLACING: Duration = Duration::from_millis(500);

/// Whoever gives the command line must not choose the work by it.
///
/// # Errors
/// Names what is too much.
pub(super) fn check_line(line: &CommandLine) -> Result<(), String> {
    let given = [
        ("pitstop.action", line.action.is_some()),
        ("pitstop.share", line.share.is_some()),
        ("pitstop.delete", !line.delete.is_empty()),
    ];
    let given: Vec<&str> = given
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    Err(format!(
        "kernel command line: {} is not taken: this initramfs does signed jobs alone, and what is done is said in the \
         signed host file; pitstop.host=URL says where that is",
        given.join(", ")
    ))
}

/// Whether one of `keys` has signed the file. Where it or its signature was just being replaced, the new ones count.
///
/// # Errors
/// Why it is not to be believed; the file comes back with it.
pub(super) fn prove(
    found: Found,
    keys: &JobKeys,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Found, Box<(Found, String)>> {
    let signature = match signature_of(&found, http, reporter) {
        Ok(signature) => signature,
        Err(why) => return Err(Box::new((found, why))),
    };
    let bad = match keys.verify(&found.bytes, &signature) {
        Ok(comment) => {
            reporter.info(format!("the host file is signed: {comment}"));
            return Ok(found);
        }
        Err(bad) => format!("host file {}: {bad}", redacted(&found.url)),
    };
    thread::sleep(REPLACING);
    let again = fetch::file(&found.url, LIMIT, http, reporter);
    let again = again.ok().zip(signature_of(&found, http, reporter).ok());
    let Some((bytes, signature)) = again else {
        return Err(Box::new((found, bad)));
    };
    match keys.verify(&bytes, &signature) {
        Ok(comment) => {
            reporter.warn(format!(
                "{} was replaced while it was read: the new one counts",
                redacted(&found.url)
            ));
            reporter.info(format!("the host file is signed: {comment}"));
            Ok(Found { bytes, ..found })
        }
        Err(_) => Err(Box::new((found, bad))),
    }
}

fn signature_of(
    found: &Found,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Vec<u8>, String> {
    let url = beside(&found.url, SIGNATURE);
    fetch::file(&url, SIGNATURE_LIMIT, http, reporter).map_err(|error| match error {
        FetchError::NotFound => format!(
            "host file {}: it is not signed: there is no {}, and this initramfs does signed jobs alone",
            redacted(&found.url),
            redacted(&url)
        ),
        FetchError::Failed(why) => format!("reading the signature of the host file: {why}"),
    })
}

/// Adds what the server says beside the file. It changes nothing about the work, so that nothing about it is an error.
pub(super) fn add_unsigned(
    file: &mut HostFile,
    found: &Found,
    http: &HttpClient,
    reporter: &dyn Reporter,
) {
    let url = beside(&found.url, UNSIGNED);
    let read = match fetch::file(&url, LIMIT, http, reporter) {
        Ok(bytes) => Unsigned::parse(&bytes),
        Err(FetchError::NotFound) => return,
        Err(FetchError::Failed(why)) => Err(why),
    };
    match read {
        Ok(unsigned) => unsigned.add_to(file),
        Err(why) => reporter.warn(format!("{} is passed over: {why}", redacted(&url))),
    }
}
