//! `/login` and `/logout`: sessions of browsers begin and end. They work without JavaScript.

mod form;

use super::access::{self, Asked, FOR_PEOPLE, Noted};
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use pitstop_people::{COOKIE, Denied, LoggedIn, Outcome};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Passwords that are looked at at once: each takes a core and 20 MB.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// Where somebody goes who asked for nothing else.
const HOME: &str = "/";
/// What a field with the user's name may be called: forms that people write have all of them.
const NAMES: [&str; 3] = ["user", "username", "name"];

pub fn routes() -> Router<Arc<Sites>> {
    let out = access::viewers(Router::new().route(
        "/logout",
        post(log_out).fallback(|| async { Refusal::method("POST") }),
    ));
    Router::new()
        .route(
            access::LOG_IN,
            get(ask)
                .post(log_in)
                .fallback(|| async { Refusal::method("GET, HEAD, POST") }),
        )
        .merge(out)
}

fn asked(request: &Request) -> Result<Asked, Refusal> {
    Asked::of(request).ok_or_else(access::unguarded)
}

/// The form; who is logged in goes on at once.
async fn ask(request: Request) -> Result<Response, Refusal> {
    let asked = asked(&request)?;
    let query = asked.uri.query().unwrap_or_default();
    let next = place(access::field(query.as_bytes(), "next"));
    let who = blocking(move || access::identify(&asked)).await?;
    if who.is_some() {
        return Ok(access::see(&next));
    }
    Ok(form(StatusCode::OK, "", &next, ""))
}

fn form(status: StatusCode, user: &str, next: &str, problem: &str) -> Response {
    let mut response = (status, Html(form::html(user, next, problem))).into_response();
    for (name, value) in FOR_PEOPLE {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Where to go afterwards: a path of this server, whatever the link said that brought somebody here.
fn place(next: Option<String>) -> String {
    let local = |next: &String| {
        next.starts_with('/')
            && !next.starts_with("//")
            && !next.chars().any(|c| c.is_control() || c == '\\')
    };
    next.filter(local).unwrap_or_else(|| HOME.into())
}

/// The fields of the form that are looked at.
struct Fields {
    user: String,
    password: String,
    next: String,
}

impl Fields {
    fn read(form: &Bytes) -> Self {
        let name = NAMES.iter().find_map(|name| access::field(form, name));
        Self {
            user: name.unwrap_or_default(),
            password: access::field(form, "password").unwrap_or_default(),
            next: place(access::field(form, "next")),
        }
    }
}

async fn log_in(request: Request) -> Result<Response, Refusal> {
    let asked = asked(&request)?;
    // Else a page elsewhere could log somebody in as another user, who would then see what they did.
    if access::is_cross_site(&asked) {
        let why = "a page of another site may not log anybody in";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    if !access::is_form(request.headers()) {
        let why = "logging in takes a form: user, password, next";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let fields = Fields::read(&access::read_form(request.into_body()).await?);
    let (known, inside) = enter(&asked, &fields).await?;
    let (outcome, response) = match inside {
        Ok(inside) => (Outcome::Done, entered(&asked, &fields, inside)),
        Err(denied) => (Outcome::Refused, refused(&fields, &denied)?),
    };
    let said = Noted {
        act: "log in".into(),
        object: String::new(),
    };
    let how = "password".to_owned();
    // A name that is nobody's may be a password that was typed into the wrong field.
    let who = if known { fields.user } else { String::new() };
    access::note(&asked, who, how, said, outcome).await;
    Ok(response)
}

/// Tries to log in. Tells as well whether there is such a user.
async fn enter(
    asked: &Asked,
    fields: &Fields,
) -> Result<(bool, Result<LoggedIn, Denied>), Refusal> {
    let turn = AT_ONCE.acquire().await;
    let (sites, from) = (Arc::clone(&asked.sites), asked.peer);
    let (user, password) = (fields.user.clone(), fields.password.clone());
    let inside = blocking(move || {
        let _turn = turn;
        let gate = &sites.people;
        let known = gate.store.book();
        let known = known.is_ok_and(|book| book.users.contains_key(&user));
        Ok((known, gate.log_in(&user, &password, from, Timestamp::now())))
    });
    inside.await
}

fn entered(asked: &Asked, fields: &Fields, inside: LoggedIn) -> Response {
    if let Some(error) = inside.forgotten {
        let line = format!(
            "{} has to log in again when the server restarts: {error}",
            fields.user
        );
        asked.sites.journal.note(&line);
    }
    with_cookie(asked, access::see(&fields.next), inside.secret.as_str(), "")
}

fn refused(fields: &Fields, denied: &Denied) -> Result<Response, Refusal> {
    let status = match denied {
        Denied::Wrong => StatusCode::UNAUTHORIZED,
        Denied::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        Denied::Trouble(why) => {
            let why = format!("nobody can log in: {why}");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
    };
    let mut response = form(status, &fields.user, &fields.next, &denied.to_string());
    if let Denied::Wait(wait) = denied {
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    Ok(response)
}

async fn log_out(request: Request) -> Result<Response, Refusal> {
    let asked = asked(&request)?;
    if let Some(secret) = asked.session() {
        let sites = Arc::clone(&asked.sites);
        let written = blocking(move || {
            if let Err(error) = sites.people.log_out(&secret) {
                let line =
                    format!("a session that was ended may come back with a restart: {error}");
                sites.journal.note(&line);
            }
            Ok(())
        });
        written.await?;
    }
    let mut response = with_cookie(&asked, access::see(access::LOG_IN), "", "; Max-Age=0");
    response.extensions_mut().insert(Noted {
        act: "log out".into(),
        object: String::new(),
    });
    Ok(response)
}

/// With the session's cookie: no script reads it, no other site's form sends it, and over https it comes back by https alone.
fn with_cookie(asked: &Asked, mut response: Response, value: &str, more: &str) -> Response {
    let secure = if asked.secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}");
    // Hexadecimal digits and constants: it is always a value.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_paths_of_this_server_are_gone_to() {
        for (next, to) in [
            ("/machines?last=1#x", "/machines?last=1#x"),
            ("/", "/"),
            ("//evil", "/"),
            ("/\\evil", "/"),
            ("/\t/evil", "/"),
            ("https://evil/", "/"),
            ("evil", "/"),
            ("javascript:alert(1)", "/"),
            ("", "/"),
        ] {
            assert_eq!(place(Some(next.into())), to, "{next:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_stays_here(next in "[/\\\\:.a-z@\\t ?#]{0,20}|\\PC{0,20}") {
            let base: url::Url = "http://here:8080/login".parse().unwrap();
            let place = place(Some(next));
            if let Ok(there) = base.join(&place) {
                prop_assert_eq!(there.origin(), base.origin(), "{}", place);
            }
        }

        #[test]
        fn any_form_is_read_without_a_panic(form: Vec<u8>) {
            let fields = Fields::read(&Bytes::from(form));
            prop_assert!(fields.next.starts_with('/'));
        }
    }
}
