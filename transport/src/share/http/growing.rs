//! A file that another machine is still sending: what of it is there, in rounds.

use super::{HttpImage, send};
use crate::fetch::HttpClient;
use crate::fetch::http::Response;
use anyhow::{Context as _, bail};
use pitstop_imaging::image::{ImageSource, ROUND_MOST, Round};
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::io::Read as _;
use url::Url;

/// In a GET of such a file: which round is wanted, its number from 0 or [`LAST_ROUND`]. In the answer: its number; where it is
/// not there yet, how many there are.
pub const ROUND: &str = "pitstop-round";
pub const LAST_ROUND: &str = "last";

/// What is told of such a file.
pub enum Growth {
    Round(Grown),
    /// The round is not there yet.
    Awaited {
        /// How many there are, where that is told. Of a file that begins anew there are fewer than before.
        there: Option<u64>,
    },
}

/// A round, and where its members are to be had.
pub struct Grown {
    pub number: u64,
    pub round: Round,
    pub image: Box<dyn ImageSource>,
}

/// Asks for the round `number`, or the last there is.
pub(super) fn round(http: &HttpClient, part: &Url, number: Option<u64>) -> anyhow::Result<Growth> {
    let wanted = number.map_or_else(|| LAST_ROUND.into(), |number| number.to_string());
    let response = send(|| http.request(Method::GET, part).header(ROUND, &wanted))?;
    let shown = redacted(part);
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => {
            return Ok(Growth::Awaited {
                there: told(&response),
            });
        }
        // It ended, or begins anew.
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Growth::Awaited { there: Some(0) }),
        _ => bail!(response.refusal()),
    }
    // A server that knows no rounds sends the file.
    let told = told(&response).filter(|told| number.is_none_or(|number| number == *told));
    let Some(told) = told else {
        return Ok(Growth::Awaited { there: None });
    };
    let mut text = Vec::new();
    response
        .take(ROUND_MOST)
        .read_to_end(&mut text)
        .with_context(|| format!("reading what there is of {shown}"))?;
    let round = Round::parse(&text).with_context(|| shown.clone())?;
    let image = HttpImage::growing(http, part, round.end());
    Ok(Growth::Round(Grown {
        number: told,
        image: Box::new(image),
        round,
    }))
}

/// The number that an answer tells.
fn told(response: &Response) -> Option<u64> {
    response.header(ROUND)?.parse().ok()
}
