//! The log of all machines, where machines show tokens: none reads it, each adds lines of its own, and the server does that.
//!
//! To a machine the log looks as if it were not there, so that what it puts there is what is to be added: machines that know
//! nothing of this do the same at a new share.

use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use crate::upload::Received;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cap_std::fs::OpenOptions;
use jiff::Timestamp;
use pitstop_protocol::host_name::printable;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

pub const NAME: &str = "maintenance.log";
/// Bytes that a machine adds at once: its announcements of one run.
const MOST: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Adds the body of a PUT to the log, as lines of the machine whose folder is `own`.
pub async fn add(site: &Arc<Site>, own: String, request: Request) -> Result<Response, Refusal> {
    let body = tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), MOST)).await;
    let body = body.map_err(|_elapsed| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the lines did not come to their end",
        )
    })?;
    let body = body.map_err(|error| {
        let why = format!("at most {MOST} bytes are added to {NAME} at once: {error}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    })?;
    let site = Arc::clone(site);
    let received = body.len() as u64;
    blocking(move || append(&site, &lines(&own, &String::from_utf8_lossy(&body)))).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(Received(received));
    Ok(response)
}

fn append(site: &Site, lines: &str) -> Result<(), Refusal> {
    let failed = |error| Refusal::io(&format!("adding to {NAME}"), &error);
    let path = crate::path::RelPath::from_text(NAME)?;
    if let Some(store) = &site.store {
        return store.append(&path, lines);
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let file = {
        // Whoever writes the log anew, as an admin may, does not lose these.
        let _one_at_a_time = site.locks.one(&path);
        let mut file = site.share.open_with(NAME, &options).map_err(failed)?;
        file.write_all(lines.as_bytes()).map_err(failed)?;
        file
    };
    file.sync_all().map_err(failed)
}

/// The lines, each as the machine's: what says to be another's is told as what it is.
fn lines(own: &str, text: &str) -> String {
    let address = own.replace('-', ":");
    let mine = |line: &str| {
        let (_, rest) = line.split_once(": ")?;
        let (who, _) = rest.split_once(": ")?;
        (who == own || who == address).then_some(())
    };
    let mut added = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line = printable(line);
        if mine(&line).is_some() {
            added.push_str(&line);
        } else {
            let now = Timestamp::now();
            // Writing to a String cannot fail.
            let _ = write!(added, "{now:.0}: {own}: warning: it sent the line: {line}");
        }
        added.push('\n');
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_another_machine_is_told_as_what_it_is() {
        let own = "2026-11-29T12:00:00+00:00: 10.0.2.15: info: hi\n";
        assert_eq!(lines("10.0.2.15", own), own);
        let other = lines("10.0.2.16", own);
        assert!(
            other.contains(": 10.0.2.16: warning: it sent the line: 2026-11-29T12:00:00+00:00: 10.0.2.15: info: hi\n"),
            "{other}"
        );
        let v6 = "2026-11-29T12:00:00+00:00: 2001:db8::7: info: hi\n";
        assert_eq!(lines("2001-db8--7", v6), v6);
        assert_eq!(lines("10.0.2.15", "\n \n"), "");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_every_line_is_the_machines(text in "[a-z0-9:. \\n\\r\\t-]{0,120}|\\PC{0,80}") {
            for line in lines("10.0.2.15", &text).lines() {
                prop_assert!(line.contains(": 10.0.2.15: "), "{line:?}");
            }
        }
    }
}
