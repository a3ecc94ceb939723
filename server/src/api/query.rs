//! Queries of URLs, and bodies: what is not known is refused by name.

use crate::refusal::Refusal;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use url::form_urlencoded;

/// A body is a wish of a person or a small program.
const MOST_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

pub fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what)
}

/// The query of a URL: each key may stand more than once.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query, whose keys are among `known`.
    pub fn of(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        let query = uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            return Err(bad(match known {
                [] => format!("there is no {key} here"),
                known => format!("there is no {key}: there are {}", known.join(", ")),
            }));
        }
        Ok(Self(pairs))
    }

    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = key.to_owned();
        let pairs = self.0.iter().filter(move |(name, _)| *name == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// The last value of `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.all(key).last()
    }

    pub fn read<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, Refusal> {
        let read = |text: &str| {
            text.parse()
                .map_err(|error| bad(format!("{key}={text}: {error}")))
        };
        self.text(key).map(read).transpose()
    }

    /// Every value of `key`.
    pub fn read_all<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Vec<T>, Refusal> {
        let read = |text: &str| {
            text.parse()
                .map_err(|error| bad(format!("{key}={text}: {error}")))
        };
        self.all(key).map(read).collect()
    }

    /// A key that is there, `true` or empty, is yes.
    pub fn is(&self, key: &str) -> Result<bool, Refusal> {
        match self.text(key) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(bad(format!("{key}={other}: write true or false"))),
        }
    }
}

/// A part of `all`, which are in some order: those behind the one that `after` names, `last` of them at most. And the name
/// of the last one, where there are more.
pub fn page<T>(
    mut all: Vec<T>,
    query: &Query,
    most: usize,
    name: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    let last = query.read::<usize>("last")?.unwrap_or(most);
    if let Some(after) = query.text("after") {
        let at = all.iter().position(|one| name(one) == after);
        let at =
            at.ok_or_else(|| bad(format!("after={after}: it is not in this list any more")))?;
        all.drain(..=at);
    }
    let more = all.len() > last;
    all.truncate(last);
    let next = all.last().filter(|_| more).map(name);
    Ok((all, next))
}

/// Reads a body as JSON.
pub async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let plain = kind.split(';').next().unwrap_or_default().trim();
    // What an HTML form can send from a page elsewhere is no JSON. curl -d says that it is such a form.
    let is_json = plain.is_empty() || plain == "application/json" || plain.ends_with("+json");
    if !is_json {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is to be JSON: send Content-Type: application/json",
        ));
    }
    let body = tokio::time::timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await;
    let late = |_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come to its end",
        )
    };
    let large = |_| {
        let what = format!("the body is to have at most {MOST_BYTES} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    };
    let body = body.map_err(late)?.map_err(large)?;
    // serde_json names line and column.
    serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(text: &str) -> Query {
        let uri: Uri = format!("/x?{text}").parse().unwrap();
        Query::of(&uri, &["last", "after", "all"])
            .map_err(|e| e.reason)
            .unwrap()
    }

    #[test]
    fn lists_come_in_parts() {
        let part = |text: &str| {
            page(vec![1, 2, 3, 4], &query(text), 3, ToString::to_string).map_err(|e| e.reason)
        };
        let next = |text: &str| Some(text.to_owned());
        assert_eq!(part(""), Ok((vec![1, 2, 3], next("3"))));
        assert_eq!(part("after=3"), Ok((vec![4], None)));
        assert_eq!(part("last=1&after=1"), Ok((vec![2], next("2"))));
        assert_eq!(part("last=0"), Ok((vec![], None)));
        assert!(part("after=9").unwrap_err().contains("not in this list"));
        assert!(part("last=x").unwrap_err().starts_with("last=x: "));
    }

    #[test]
    fn keys_that_are_not_known_are_named() {
        let uri: Uri = "/x?lats=1".parse().unwrap();
        let error = Query::of(&uri, &["last", "after"]).err().unwrap();
        assert_eq!(error.reason, "there is no lats: there are last, after");
        assert_eq!(query("all").is("all").map_err(|e| e.reason), Ok(true));
        assert!(query("all=maybe").is("all").is_err());
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(text in "[a-z0-9=&%+.;-]{0,40}") {
            let Ok(uri) = format!("/x?{text}").parse::<Uri>() else { return Ok(()) };
            if let Ok(query) = Query::of(&uri, &["last", "after", "all"]) {
                let _ = page(vec![1, 2], &query, 9, ToString::to_string);
                let _ = query.is("all");
            }
        }
    }
}
