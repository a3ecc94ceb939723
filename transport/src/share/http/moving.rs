//! MOVE (RFC 4918 9.9), through whatever is in between.
//!
//! A proxy that ends TLS hands the request on over http, and the server behind it takes a `Destination` with https for
//! another server's. RFC 4918 10.3 allows the path alone, which most servers take as their own. Apache behind TLS takes
//! neither: there the admin has to help, and is told how.

use super::{Facts, facts};
use crate::fetch::http::{Backoff, Response, is_away};
use crate::fetch::{HttpClient, HttpError};
use crate::share::{TakenOver, taken};
use anyhow::{Context as _, bail};
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use url::Url;

/// On which terms a file is moved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    /// The server moves no other file than the one that has this tag.
    pub tag: Option<&'a str>,
    /// What is under the new name stays: then this is an error.
    pub is_new: bool,
}

/// Moves a file, replacing what is there, and tells what is there then. When the answer is lost, the files tell whether it
/// was done.
pub(super) fn move_file(
    http: &HttpClient,
    from: &Url,
    to: &Url,
    terms: Terms<'_>,
) -> anyhow::Result<Facts> {
    let (ours, old) = (facts(http, from)?, facts(http, to)?);
    // Nothing was moved there. A tag that is that of ours as well tells nothing.
    let is_old = |there: &Facts| {
        there.etag.is_some() && old.as_ref() == Some(there) && ours.as_ref() != Some(there)
    };
    let mut backoff = Backoff::new(http);
    let mut was_lost = false;
    loop {
        let lost = match move_once(http, from, to, terms, was_lost) {
            Err(error) if error.downcast_ref::<HttpError>().is_some() => error,
            outcome => return outcome,
        };
        if !backoff.again(&lost) {
            return Err(lost);
        }
        if facts(http, from)?.is_none() {
            return match facts(http, to)? {
                Some(there) if is_old(&there) => bail!(TakenOver::new(format!(
                    "{} is gone, and {} is what it was: somebody else writes there too",
                    redacted(from),
                    redacted(to)
                ))),
                there => there.ok_or(lost),
            };
        }
        was_lost = true;
    }
}

/// `may_be_done`: of an earlier request no answer came, and the server may be at it still.
fn move_once(
    http: &HttpClient,
    from: &Url,
    to: &Url,
    terms: Terms<'_>,
    mut may_be_done: bool,
) -> anyhow::Result<Facts> {
    let mut destination = to.clone();
    // A Destination with credentials is another server's to some, and ends up in logs.
    let _ = destination.set_password(None);
    let _ = destination.set_username("");
    let mut response = ask(http, from, destination.as_str(), terms)?;
    if let Some(moved) = unmet(http, from, to, terms, may_be_done, &response)? {
        return Ok(moved);
    }
    if may_mean_the_destination(response.status()) {
        // A proxy says the same where the server moved it and the answer was lost.
        may_be_done |= response.status().is_server_error();
        let first = told(&mut response);
        drop(response);
        response = ask(http, from, to.path(), terms)?;
        if let Some(moved) = unmet(http, from, to, terms, may_be_done, &response)? {
            return Ok(moved);
        }
        if may_mean_the_destination(response.status()) {
            if is_away(response.status()) {
                return Err(response.broken().into());
            }
            let second = told(&mut response);
            bail!(
                "{}; for the Destination {destination} it says {first}, for {} alone {second}. Where a proxy is in \
                 between, it has to pass the header Host on, and a Destination that the server knows for its own: see \
                 docs/share.md",
                response.refusal(),
                to.path()
            );
        }
    }
    if may_be_done && response.status() == StatusCode::NOT_FOUND {
        return Err(response.broken().into());
    }
    if !response.status().is_success() {
        bail!("{}: it says {}", response.refusal(), told(&mut response));
    }
    drop(response);
    // Something between here and the server may answer what it does not know with a friendly page.
    let moved = match facts(http, from)? {
        Some(_) => None,
        None => facts(http, to)?,
    };
    moved.with_context(|| {
        format!(
            "the server says that it moved {} to {}, but it did not: does it know MOVE?",
            redacted(from),
            redacted(to)
        )
    })
}

fn ask(
    http: &HttpClient,
    from: &Url,
    destination: &str,
    Terms { tag, is_new }: Terms<'_>,
) -> anyhow::Result<Response> {
    let request = http
        .request(Method::from_bytes(b"MOVE").context("MOVE")?, from)
        .header("destination", destination)
        .header("overwrite", if is_new { "F" } else { "T" });
    let request = match tag {
        Some(tag) => request.header("if-match", tag),
        None => request,
    };
    let response = request.patient().send()?;
    Ok(response)
}

/// A condition does not hold: the files tell which. Where an earlier request may have been done, what is under the new name may be the
/// very file that was to be moved there: then this is what is there.
fn unmet(
    http: &HttpClient,
    from: &Url,
    to: &Url,
    terms: Terms<'_>,
    may_be_done: bool,
    response: &Response,
) -> anyhow::Result<Option<Facts>> {
    if response.status() != StatusCode::PRECONDITION_FAILED {
        return Ok(None);
    }
    if terms.is_new
        && let Some(there) = facts(http, to)?
    {
        return match facts(http, from)? {
            None if may_be_done => Ok(Some(there)),
            // To another disk the server copies it, and removes the one under the old name last.
            Some(left) if may_be_done && left.size == there.size => Err(response.broken().into()),
            _ => bail!(taken(redacted(to))),
        };
    }
    if terms.tag.is_some() {
        bail!(TakenOver::new(format!(
            "{} is not as this upload left it: somebody else wrote to it",
            redacted(from)
        )));
    }
    Ok(None)
}

/// What servers answer to a Destination that they take for another server's: 502 by RFC 4918 9.9.4, 400 of nginx and
/// Apache, the others of smaller ones.
fn may_mean_the_destination(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::CONFLICT
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
    )
}

/// A refusal in the server's own words.
fn told(response: &mut Response) -> String {
    let status = response.status().as_u16();
    match response.words() {
        Some(words) => format!("{status}: {words:?}"),
        None => format!("{status} and nothing else"),
    }
}
