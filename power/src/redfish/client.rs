//! HTTP as Redfish services speak it: bounded in time and bytes, and never to another server than the one that is named.

use super::tls::{self, Seen};
use crate::act::Limits;
use crate::credentials::{Auth, Login, Secret};
use crate::error::{PowerError, one_line};
use reqwest::StatusCode;
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{ETAG, HeaderMap, IF_MATCH, LOCATION};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use url::Url;

/// Bytes of an answer: systems say a few thousand of themselves.
const LARGEST: u64 = 1 << 20;
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const TOKEN: &str = "X-Auth-Token";
/// How often one question is sent on: iLOs send on what lacks the slash at its end.
const REDIRECTS: usize = 3;

/// What a service answered.
pub struct Answer {
    /// Who answered: the one that was asked, or where that sent us.
    pub url: Url,
    pub json: Value,
    pub etag: Option<String>,
    headers: HeaderMap,
}

/// The same before it is read.
struct Raw {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

/// A session, to be closed: services have few.
struct Session {
    token: String,
    place: Option<Url>,
}

pub struct Client {
    http: reqwest::blocking::Client,
    /// Of the service that is named; a password is for nobody else.
    base: Url,
    login: Login,
    file: PathBuf,
    limit: Duration,
    seen: Seen,
    session: Option<Session>,
}

impl Client {
    pub fn open(
        base: &Url,
        login: Login,
        file: PathBuf,
        limits: &Limits,
    ) -> Result<Self, PowerError> {
        let name = base.host_str().unwrap_or_default();
        let reach = |why: String| PowerError::Reach {
            bmc: name.to_owned(),
            why,
        };
        let (tls, seen) =
            tls::config(&login).map_err(|error| reach(format!("setting up TLS: {error}")))?;
        let http = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(limits.call)
            .connect_timeout(limits.call)
            .user_agent(concat!("pitstop/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| reach(format!("setting up HTTP: {error}")))?;
        let mut client = Self {
            http,
            base: base.clone(),
            login,
            file,
            limit: limits.call,
            seen,
            session: None,
        };
        if client.login.auth == Some(Auth::Session) {
            client.session = Some(client.log_in()?);
        }
        Ok(client)
    }

    /// The BMC, as errors call it.
    pub fn name(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    pub fn nonsense(&self, why: &str) -> PowerError {
        PowerError::Nonsense {
            bmc: self.name().to_owned(),
            why: one_line(&self.login.redact(why)),
        }
    }

    /// The URL of a path that the service names: on itself.
    pub fn join(&self, from: &Url, path: &str) -> Result<Url, PowerError> {
        let url = from.join(path).ok();
        url.filter(|url| url.origin() == self.base.origin())
            .ok_or_else(|| self.nonsense(&format!("it names a place that is not its own: {path}")))
    }

    /// Reads a resource, also where the service sends on to another place of its own.
    pub fn get(&self, url: &Url) -> Result<Answer, PowerError> {
        let mut url = url.clone();
        let mut left = REDIRECTS;
        loop {
            let raw = self.ask(self.signed(self.http.get(url.clone())), None)?;
            match self.sent_on(&url, &raw) {
                Some(place) if left > 0 => url = place,
                _ => return self.answer(url, raw),
            }
            left -= 1;
        }
    }

    /// Where an answer sends on to.
    fn sent_on(&self, from: &Url, raw: &Raw) -> Option<Url> {
        // RFC 9110 15.4: the other numbers do not mean the same resource elsewhere.
        let moved = matches!(raw.status.as_u16(), 301 | 302 | 307 | 308);
        let place = raw.headers.get(LOCATION).filter(|_| moved)?;
        self.join(from, place.to_str().ok()?).ok()
    }

    pub fn post(&self, url: &Url, body: &Value) -> Result<(), PowerError> {
        let request = self.signed(self.http.post(url.clone()));
        self.send(url, request, body).map(|_| ())
    }

    /// Changes a resource, if it is still the one that was read: many services take no change without that.
    pub fn change(&self, url: &Url, etag: Option<&str>, body: &Value) -> Result<(), PowerError> {
        let mut request = self.signed(self.http.patch(url.clone()));
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, etag);
        }
        self.send(url, request, body).map(|_| ())
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let password = self.login.password.as_ref().map(Secret::tell);
        match (&self.session, &self.login.user) {
            (Some(session), _) => request.header(TOKEN, &session.token),
            (None, Some(user)) => request.basic_auth(user, password),
            (None, None) => request,
        }
    }

    fn log_in(&self) -> Result<Session, PowerError> {
        let (Some(user), Some(password)) = (&self.login.user, &self.login.password) else {
            return Err(PowerError::NoLogin {
                bmc: self.name().to_owned(),
                file: self.file.clone(),
            });
        };
        let url = self.join(&self.base, SESSIONS)?;
        let body = json!({ "UserName": user, "Password": password.tell() });
        let answer = self.send(&url, self.http.post(url.clone()), &body)?;
        let header = |name: &str| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
        let token =
            header(TOKEN).ok_or_else(|| self.nonsense("it opened a session and gave no token"))?;
        let place = header(LOCATION.as_str()).and_then(|place| self.join(&url, &place).ok());
        Ok(Session { token, place })
    }

    fn send(&self, url: &Url, request: RequestBuilder, body: &Value) -> Result<Answer, PowerError> {
        let raw = self.ask(request, Some(body))?;
        self.answer(url.clone(), raw)
    }

    fn ask(&self, mut request: RequestBuilder, body: Option<&Value>) -> Result<Raw, PowerError> {
        let began = Instant::now();
        if let Some(body) = body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        request = request.header(reqwest::header::ACCEPT, "application/json");
        let response = request.send().map_err(|error| self.failed(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let bytes = self.body(response, began)?;
        Ok(Raw {
            status,
            headers,
            bytes,
        })
    }

    fn answer(&self, url: Url, raw: Raw) -> Result<Answer, PowerError> {
        let Raw {
            status,
            headers,
            bytes,
        } = raw;
        if status == 401 || status == 403 {
            return Err(if self.login.user.is_none() {
                PowerError::NoLogin {
                    bmc: self.name().to_owned(),
                    file: self.file.clone(),
                }
            } else {
                PowerError::Login {
                    bmc: self.name().to_owned(),
                    file: self.file.clone(),
                }
            });
        }
        let json = serde_json::from_slice::<Value>(&bytes);
        if !status.is_success() {
            let said = json.ok().and_then(|json| reason(&json));
            let said = said.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
            return Err(PowerError::Refused {
                bmc: self.name().to_owned(),
                said: format!("{status}: {}", one_line(&self.login.redact(&said))),
            });
        }
        let json = match (json, bytes.is_empty()) {
            (Ok(json), _) => json,
            (Err(_), true) => Value::Null,
            (Err(_), false) => return Err(self.nonsense("its answer is not JSON")),
        };
        let etag = headers
            .get(ETAG)
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        Ok(Answer {
            url,
            json,
            etag,
            headers,
        })
    }

    /// Reads an answer to its end. One that trickles is given up as one that does not come.
    fn body(&self, mut response: Response, began: Instant) -> Result<Vec<u8>, PowerError> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let read = response
                .read(&mut buffer)
                .map_err(|error| match error.kind() {
                    std::io::ErrorKind::TimedOut => self.slow(),
                    _ => PowerError::Reach {
                        bmc: self.name().to_owned(),
                        why: format!("its answer broke off: {error}"),
                    },
                })?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() as u64 > LARGEST {
                return Err(self.nonsense("its answer has no end"));
            }
            if began.elapsed() > self.limit {
                return Err(self.slow());
            }
        }
    }

    fn slow(&self) -> PowerError {
        PowerError::Slow {
            bmc: self.name().to_owned(),
            limit: self.limit,
        }
    }

    /// Why there is no answer. A certificate that was refused is told with its fingerprint.
    fn failed(&self, error: &reqwest::Error) -> PowerError {
        let (bmc, file) = (self.name().to_owned(), self.file.clone());
        if let Some(fingerprint) = self.seen.refused() {
            let fingerprint = fingerprint.to_string();
            return match self.login.fingerprint {
                Some(_) => PowerError::OtherCertificate {
                    bmc,
                    fingerprint,
                    file,
                },
                None => PowerError::Certificate {
                    bmc,
                    fingerprint,
                    file,
                },
            };
        }
        if error.is_timeout() {
            return self.slow();
        }
        // The innermost cause says it shortest, and has no URL in it.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        PowerError::Reach {
            bmc,
            why: one_line(&self.login.redact(&cause.to_string())),
        }
    }
}

impl Drop for Client {
    /// A session that cannot be closed ends by itself.
    fn drop(&mut self) {
        if let Some(Session {
            token,
            place: Some(place),
        }) = self.session.take()
        {
            let _ = self.http.delete(place).header(TOKEN, token).send();
        }
    }
}

/// What an error of Redfish says (DSP0266 8.6).
fn reason(json: &Value) -> Option<String> {
    let error = json.get("error")?;
    let extended = error.get("@Message.ExtendedInfo").and_then(|list| {
        let messages = list.as_array()?.iter();
        let messages: Vec<&str> = messages
            .filter_map(|one| one.get("Message")?.as_str())
            .collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    });
    extended.or_else(|| error.get("message")?.as_str().map(str::to_owned))
}
