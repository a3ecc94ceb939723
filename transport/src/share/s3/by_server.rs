//! Requests that a server signs: this machine has no keys, and shows the server whose job it does.

use super::sign::{Ask, Place, Signed};
use crate::fetch::http::Response;
use crate::fetch::{HttpClient, HttpError, HttpFailure, Settings};
use crate::share::http::send;
use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use pitstop_protocol::credentials::Access;
use pitstop_protocol::redacted;
use pitstop_protocol::share_url::S3Url;
use pitstop_protocol::store::{Granted, MOST_BYTES, SignAt, VERSION, Wanted};
use reqwest::{Method, StatusCode};
use std::borrow::Cow;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;
use url::Url;

/// What a person does who reads that nobody signs.
pub(in crate::share) const WHAT_TO_DO: &str = "a machine has no keys for a store, and is to have none: have its job from a \
     pitstop serve that has them (--store-keys FILE), or give it an http(s) share, as pitstop serve --share s3://… has it";

/// A server that has the keys.
#[derive(Debug)]
pub struct ByServer {
    http: HttpClient,
    place: Url,
    at: SignAt,
    share: S3Url,
    /// This machine's.
    address: IpAddr,
    /// Seconds that the server's clock is before this machine's.
    ahead: AtomicI64,
}

impl ByServer {
    /// For the store at `share` and the machine with this address; talks to the server as `settings` say.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        share: &S3Url,
        at: &SignAt,
        address: IpAddr,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let place = at.url().context("the place where requests are signed")?;
        let access = at
            .credentials
            .as_ref()
            .map(|credentials| Access::new(credentials.clone(), [&place]));
        Ok(Self {
            http: HttpClient::new(Settings {
                access,
                ..settings.clone()
            })?,
            place,
            at: at.clone(),
            share: share.clone(),
            address,
            ahead: AtomicI64::new(0),
        })
    }

    /// Has `ask` of the object `key` signed.
    ///
    /// # Errors
    /// The server is away, does not sign, or signs something else.
    pub fn sign(&self, ask: &Ask<'_>, key: &str) -> Result<Signed, HttpError> {
        let wanted = Wanted {
            version: VERSION,
            job: self.at.job.clone(),
            host_file: self.at.host_file.as_deref().map(Into::into),
            address: self.address,
            share: self.share.to_string().into(),
            path: self.below(key).into(),
            ask: ask.with_source(|from| self.below(from).to_owned()),
        };
        let body = wanted
            .to_bytes()
            .map_err(|error| self.failed(error.to_string()))?;
        let asked = Instant::now();
        let response = send(|| {
            self.http
                .request(Method::POST, &self.place)
                .header("content-type", "application/json")
                .body(body.clone())
        })?;
        let granted = self.answer(response)?;
        let now = Timestamp::now().as_second();
        self.ahead
            .store(granted.clock.saturating_sub(now), Ordering::Relaxed);
        self.checked(&granted, ask, key, asked)
            .map_err(|why| self.failed(format!("{why}: this is not how a store is asked")))
    }

    /// Below the share, as the server names it.
    fn below<'a>(&self, key: &'a str) -> &'a str {
        let below = key.strip_prefix(self.share.prefix.as_str());
        below.map_or(key, |below| below.trim_start_matches('/'))
    }

    fn answer(&self, mut response: Response) -> Result<Granted, HttpError> {
        let status = response.status();
        if !status.is_success() {
            let words = response.words();
            let nobody = matches!(
                status,
                StatusCode::NOT_FOUND
                    | StatusCode::GONE
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            );
            let words = words.unwrap_or_else(|| "it does not say why".into());
            return Err(self.failed(if nobody {
                format!(
                    "this server signs nothing (HTTP {}: {words}); {WHAT_TO_DO}",
                    status.as_u16()
                )
            } else {
                format!(
                    "the server does not sign this: {words} (HTTP {})",
                    status.as_u16()
                )
            }));
        }
        let mut bytes = Vec::new();
        let limit = MOST_BYTES as u64 + 1;
        if response
            .by_ref()
            .take(limit)
            .read_to_end(&mut bytes)
            .is_err()
        {
            return Err(response.broken());
        }
        Granted::parse(&bytes).map_err(|error| self.failed(format!("{error}; {WHAT_TO_DO}")))
    }

    fn failed(&self, what: String) -> HttpError {
        HttpError {
            method: Method::POST,
            url: redacted(&self.place),
            failure: HttpFailure::Refused,
            what,
        }
    }

    /// The request that was granted, if it goes to this store and asks for what was wanted: whoever is in between could have
    /// images sent anywhere.
    fn checked(
        &self,
        granted: &Granted,
        ask: &Ask<'_>,
        key: &str,
        asked: Instant,
    ) -> Result<Signed, String> {
        let url = Url::parse(&granted.url).map_err(|error| error.to_string())?;
        let region = self.region(&url);
        let place = Place::of(&self.share, region).map_err(|error| format!("{error:#}"))?;
        let question = place.question(ask, key);
        let mut bare = url.clone();
        bare.set_query(None);
        bare.set_fragment(None);
        if !is_same(&bare, &question.object) {
            return Err(format!("{} is not {key} in {}", redacted(&url), self.share));
        }
        let asks = |(name, value): &(&str, String)| {
            let mut pairs = url.query_pairs();
            pairs.any(|pair| pair == (Cow::Borrowed(*name), Cow::Borrowed(value.as_str())))
        };
        let granted_headers = granted
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value));
        let wanted_headers = question.headers.iter().map(|(name, value)| (*name, value));
        if granted.method != question.method.as_str()
            || !question.query.iter().all(asks)
            || !granted_headers.eq(wanted_headers)
        {
            return Err(format!(
                "{} {} with {} headers is another request than the one that was wanted",
                granted.method,
                redacted(&url),
                granted.headers.len()
            ));
        }
        Ok(Signed {
            method: question.method,
            headers: question.headers,
            url,
            until: asked + granted.valid(),
        })
    }

    /// The region of the store; where the share does not tell it, the server does, by the address of Amazon's that it names.
    fn region<'a>(&'a self, url: &'a Url) -> &'a str {
        let label = || {
            let host = url.host_str()?.strip_suffix(".amazonaws.com")?;
            let region = host.rsplit('.').next()?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            (!region.is_empty() && region.chars().all(plain)).then_some(region)
        };
        match &self.share.region {
            Some(region) => region,
            None => label().unwrap_or_default(),
        }
    }

    /// Whose clock is in the signatures, and what it says.
    pub fn clock(&self) -> (String, Timestamp) {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed));
        let now = Timestamp::now();
        let theirs = now.checked_add(ahead).unwrap_or(now);
        let server = self.place.host_str().unwrap_or_default();
        (format!("the clock of {server}, which signs,"), theirs)
    }
}

/// Whether two addresses lead to the same object, however their characters are escaped.
fn is_same(one: &Url, other: &Url) -> bool {
    let path = |url: &Url| {
        let parts = url.path().split('/');
        let parts = parts.map(|part| percent_decode_str(part).collect::<Vec<u8>>());
        parts.collect::<Vec<_>>()
    };
    one.scheme() == other.scheme()
        && one.username().is_empty()
        && one.password().is_none()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
        && path(one) == path(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fake::patient;

    fn granted(url: &str) -> Granted {
        Granted {
            method: "GET".into(),
            url: url.into(),
            headers: Vec::new(),
            seconds: 60,
            clock: 0,
        }
    }

    #[test]
    fn nothing_is_sent_elsewhere_whatever_the_server_grants() {
        let at = SignAt::of_job(None, Some(&"http://s/hosts/x.toml".parse().unwrap())).unwrap();
        let by = |share: &str| {
            let share = S3Url::from_url(&share.parse().unwrap()).unwrap();
            let address = IpAddr::from([10, 0, 2, 15]);
            ByServer::new(&share, &at, address, patient().settings()).unwrap()
        };
        let own = by("s3://lab/room?endpoint=http://store:9000");
        let amazon = by("s3://lab/room");
        let check = |by: &ByServer, url: &str| {
            by.checked(&granted(url), &Ask::Get, "room/a b", Instant::now())
                .map(|signed| signed.url.to_string())
        };
        for good in [
            "http://store:9000/lab/room/a%20b?X",
            "http://store:9000/lab/room/%61%20b?X",
        ] {
            assert_eq!(check(&own, good).as_deref(), Ok(good));
        }
        let good = "https://lab.s3.eu-1.amazonaws.com/room/a%20b?X";
        assert_eq!(check(&amazon, good).as_deref(), Ok(good));
        for (by, bad) in [
            (&own, "http://evil:9000/lab/room/a%20b"),
            (&own, "http://lab.store:9000/room/a%20b"),
            (&own, "http://store:9000/other/room/a%20b"),
            (&own, "http://store:9000/lab/x/room/a%20b"),
            (&own, "http://store:9000/lab%2froom/x/../a%20b"),
            (&amazon, "https://evil.s3.eu-1.amazonaws.com/room/a%20b"),
            (&amazon, "https://s3.eu-1.amazonaws.com/evil/room/a%20b"),
            (&amazon, "https://lab.s3.evil.x.amazonaws.com/room/a%20b"),
            (
                &amazon,
                "https://x.execute-api.eu-1.amazonaws.com/room/a%20b",
            ),
            (&own, "https://store:9000/lab/room/a%20b"),
            (&own, "http://store:9001/lab/room/a%20b"),
            (&own, "http://store:9000/lab/room/other"),
            (&amazon, "https://amazonaws.com.evil/room/a%20b"),
            (&amazon, "http://lab.s3.amazonaws.com/room/a%20b"),
        ] {
            check(by, bad).expect_err(bad);
        }
    }

    #[test]
    fn nothing_else_is_done_than_what_was_wanted() {
        let at = SignAt::of_job(None, Some(&"http://s/hosts/x.toml".parse().unwrap())).unwrap();
        let share = "s3://lab/room?endpoint=http://store:9000".parse().unwrap();
        let share = S3Url::from_url(&share).unwrap();
        let address = IpAddr::from([10, 0, 2, 15]);
        let by = ByServer::new(&share, &at, address, patient().settings()).unwrap();
        let part = Ask::Part {
            upload: "u+1".into(),
            number: 3,
        };
        let copy = Ask::Copy {
            from: "room/c".into(),
            tag: None,
        };
        let right = "http://store:9000/lab/room/a?partNumber=3&uploadId=u%2B1&X-Amz-Expires=60";
        let header = |value: &str| vec![("x-amz-copy-source".to_owned(), value.to_owned())];
        let plain = "http://store:9000/lab/room/a";
        for (ask, method, url, headers, good) in [
            (&part, "PUT", right, vec![], true),
            (&part, "DELETE", right, vec![], false),
            (&part, "PUT", plain, vec![], false),
            (&part, "PUT", right, header("/lab/room/c"), false),
            (&copy, "PUT", plain, header("/lab/room/c"), true),
            (&copy, "PUT", plain, header("/lab/other"), false),
            (&copy, "PUT", plain, vec![], false),
        ] {
            let granted = Granted {
                method: method.into(),
                headers,
                ..granted(url)
            };
            let checked = by.checked(&granted, ask, "room/a", Instant::now());
            assert_eq!(checked.is_ok(), good, "{granted:?}");
        }
    }
}
