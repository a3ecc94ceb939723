//! Who may ask what: the layers around the routes for people. Routes for machines have none of them.
//!
//! Until there is a user, the server's own machine is let in without a log-in, and nobody else. From then on everybody shows a
//! session or a token, there too.

mod audit;
mod csrf;
mod lasting;
mod origin;

pub use audit::{Noted, note};
pub use csrf::{field, is_form, read_form};

use crate::connections::Peer;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pitstop_people::{COOKIE, Role, Why, bearer, cookie};
use std::net::IpAddr;
use std::sync::Arc;

/// Where somebody logs in.
pub const LOG_IN: &str = "/login";

/// Goes with every answer to a person that does not say otherwise: what one may see is not kept for the next one at the same
/// browser, and no other site shows it in a frame of its own, where somebody would press a button without knowing.
pub const FOR_PEOPLE: [(HeaderName, &str); 5] = [
    // Nothing comes from elsewhere, and nothing inline is run.
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
];

/// Who asks: an extractor for handlers behind one of the layers.
#[derive(Debug, Clone)]
pub struct Who(pub pitstop_people::Who);

impl std::ops::Deref for Who {
    type Target = pitstop_people::Who;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().cloned().ok_or_else(unguarded)
    }
}

/// A route that asks who it is has no layer that finds out: nobody gets in.
pub fn unguarded() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server does not know who asks here",
    )
}

/// For all who may look.
pub fn viewers(router: Router<Arc<Sites>>) -> Router<Arc<Sites>> {
    guarded(router, Role::Viewer)
}

/// For those who set jobs.
pub fn operators(router: Router<Arc<Sites>>) -> Router<Arc<Sites>> {
    guarded(router, Role::Operator)
}

/// For those who manage users, keys and the server.
pub fn admins(router: Router<Arc<Sites>>) -> Router<Arc<Sites>> {
    guarded(router, Role::Admin)
}

/// The layers above find the site by this one, which is around all routes.
pub fn site(sites: &Arc<Sites>) -> Extension<Arc<Sites>> {
    Extension(Arc::clone(sites))
}

fn guarded(router: Router<Arc<Sites>>, least: Role) -> Router<Arc<Sites>> {
    router.layer(from_fn(move |request: Request, next: Next| {
        check(least, request, next)
    }))
}

/// Lets in who may, and answers everybody else.
pub async fn check(least: Role, request: Request, next: Next) -> Response {
    let Some(asked) = Asked::of(&request) else {
        return unguarded().into_response();
    };
    let act = audit::Act::of(&asked);
    let (who, request) = match allow(least, &asked, request).await {
        Ok((who, request)) => (who, request),
        Err(No { who, response }) => {
            act.refused(who).await;
            return response;
        }
    };
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Who(who.clone()));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    for (name, value) in FOR_PEOPLE {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    act.answered(who, &response).await;
    lasting::while_allowed(response, asked, least)
}

/// What is looked at of a request.
#[derive(Clone)]
pub struct Asked {
    pub sites: Arc<Sites>,
    pub peer: IpAddr,
    /// It came over https.
    pub secure: bool,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn of(request: &Request) -> Option<Self> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<Peer>>()?;
        Some(Self {
            sites: Arc::clone(request.extensions().get::<Arc<Sites>>()?),
            peer: peer.address.to_canonical(),
            secure: peer.secure,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    /// Whether it changes nothing (RFC 9110 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Programs get a status and a sentence, people the page where they log in.
    fn is_of_page(&self) -> bool {
        let path = self.uri.path();
        let of_programs = ["/api/", "/events", "/metrics"];
        if of_programs.iter().any(|begin| path.starts_with(begin)) {
            return false;
        }
        let kinds = self.header(header::ACCEPT).unwrap_or("*/*");
        // Of a file programs say that any kind will do; of a page people's programs may say so.
        let files = ["/share", "/hosts"];
        let of_files = files.iter().any(|begin| path.starts_with(begin));
        kinds.contains("text/html") || self.is_safe() && !of_files && kinds.contains("*/*")
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The token that is shown.
    pub fn bearer(&self) -> Option<&str> {
        bearer(self.header(header::AUTHORIZATION)?)
    }

    /// The session's secret, of whichever `Cookie` line it is in.
    pub fn session(&self) -> Option<String> {
        let lines = self.headers.get_all(header::COOKIE).iter();
        let mut lines = lines.filter_map(|line| line.to_str().ok());
        lines.find_map(|line| cookie(line, COOKIE).map(str::to_owned))
    }

    /// Comes from the server's own machine, and from nobody behind it.
    pub fn is_of_own_machine(&self) -> bool {
        let passed_on = ["x-forwarded-for", "x-real-ip", "forwarded", "via"];
        self.peer.is_loopback()
            && !passed_on
                .iter()
                .any(|name| self.headers.contains_key(*name))
    }
}

/// A request that is not let in.
struct No {
    /// Who it was, where that is known.
    who: Option<pitstop_people::Who>,
    response: Response,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self {
            who: None,
            response: refusal.into_response(),
        }
    }
}

/// Whether a page of another site has a browser send this, as far as that can be told.
pub fn is_cross_site(asked: &Asked) -> bool {
    origin::check(asked, false).is_err()
}

fn forbidden(why: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, why)
}

async fn allow(
    least: Role,
    asked: &Asked,
    request: Request,
) -> Result<(pitstop_people::Who, Request), No> {
    let who = {
        let asked = asked.clone();
        blocking(move || identify(&asked)).await?
    };
    let Some(who) = who else {
        return Err(No {
            who: None,
            response: to_log_in(asked),
        });
    };
    let no = |who: pitstop_people::Who, refusal: Refusal| No {
        who: Some(who),
        response: refusal.into_response(),
    };
    // A page elsewhere that a browser shows can neither act nor listen here. A token is in no browser.
    if !matches!(who.why, Why::Token(_))
        && let Err(why) = origin::check(asked, who.why == Why::Loopback)
    {
        return Err(no(who, forbidden(why)));
    }
    if who.role < least {
        let why = format!(
            "{} is {}: this is for {}",
            who.name,
            a(who.role),
            match least {
                Role::Viewer => "all users",
                Role::Operator => "operators and admins",
                Role::Admin => "admins",
            }
        );
        return Err(no(who, forbidden(why)));
    }
    match &who.csrf {
        Some(token) if !asked.is_safe() => match csrf::check(token, request).await {
            Ok(request) => Ok((who, request)),
            Err(refusal) => Err(no(who, refusal)),
        },
        _ => Ok((who, request)),
    }
}

fn a(role: Role) -> &'static str {
    match role {
        Role::Viewer => "a viewer",
        Role::Operator => "an operator",
        Role::Admin => "an admin",
    }
}

/// Who asks; `None` who has to log in first.
pub fn identify(asked: &Asked) -> Result<Option<pitstop_people::Who>, Refusal> {
    let gate = &asked.sites.people;
    let shut = |error: pitstop_people::Trouble| {
        let why = format!("nobody can log in: {error}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    if !gate.has_users().map_err(shut)? {
        if asked.is_of_own_machine() {
            return Ok(Some(pitstop_people::Who {
                name: "local".into(),
                role: Role::Admin,
                why: Why::Loopback,
                csrf: None,
            }));
        }
        return Err(forbidden(
            "until there is a user this answers the server's own machine alone, by 127.0.0.1 or localhost where it listens there: \
             make a user on that machine, pitstop user add NAME --role admin",
        ));
    }
    let now = Timestamp::now();
    // Who shows a token means it: a session beside it is not asked.
    match (asked.bearer(), asked.session()) {
        (Some(token), _) => gate.by_token(token, now).map_err(shut),
        (None, Some(session)) => gate.by_session(&session, now).map_err(shut),
        (None, None) => Ok(None),
    }
}

fn to_log_in(asked: &Asked) -> Response {
    if asked.is_of_page() {
        if !asked.is_safe() {
            return see(LOG_IN);
        }
        let wanted = asked.uri.path_and_query().map_or("/", |it| it.as_str());
        let wanted = utf8_percent_encode(wanted, NON_ALPHANUMERIC);
        let place = format!("{LOG_IN}?next={wanted}");
        return see(&place);
    }
    let why = if asked.bearer().is_some() {
        "this is no token, or it has expired or was revoked"
    } else {
        "log in first: show a token (Authorization: Bearer) or the cookie of a session"
    };
    Refusal::unauthorized(why).into_response()
}

/// 303 (RFC 9110 15.4.4): go there with GET.
pub fn see(place: &str) -> Response {
    match HeaderValue::try_from(place) {
        Ok(place) => (
            StatusCode::SEE_OTHER,
            [
                (header::LOCATION, place),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
        )
            .into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
