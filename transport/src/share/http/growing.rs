//! A file that another machine is still sending: what of it is there, in rounds.

use super::{HttpImage, send};
use crate::fetch::HttpClient;
use anyhow::{Context as _, bail};
use pitstop_imaging::image::{ImageSource, ROUND_MOST, Round};
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::io::Read as _;
use url::Url;

/// In a GET of such a file: which round is wanted, its number from 0 or [`LAST_ROUND`]. In the answer: its number.
pub const ROUND: &str = "pitstop-round";
pub const LAST_ROUND: &str = "last";

/// A round, and where its members are to be had.
pub struct Grown {
    pub number: u64,
    pub round: Round,
    pub image: Box<dyn ImageSource>,
}

/// Asks for the round `number`, or the last there is; `None` where it is not there yet, or nothing tells.
pub(super) fn round(
    http: &HttpClient,
    part: &Url,
    number: Option<u64>,
) -> anyhow::Result<Option<Grown>> {
    let wanted = number.map_or_else(|| LAST_ROUND.into(), |number| number.to_string());
    let response = send(|| http.request(Method::GET, part).header(ROUND, &wanted))?;
    let shown = redacted(part);
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        _ => bail!(response.refusal()),
    }
    // A server that knows no rounds sends the file.
    let told = response.header(ROUND).and_then(|told| told.parse().ok());
    let Some(told) = told.filter(|told| number.is_none_or(|number| number == *told)) else {
        return Ok(None);
    };
    let mut text = Vec::new();
    response
        .take(ROUND_MOST)
        .read_to_end(&mut text)
        .with_context(|| format!("reading what there is of {shown}"))?;
    let round = Round::parse(&text).with_context(|| shown.clone())?;
    let image = HttpImage::growing(http, part, round.end());
    Ok(Some(Grown {
        number: told,
        image: Box::new(image),
        round,
    }))
}
