//! `/api/v1/users`, `/tokens` and `/audit`: admins manage who may do what.

use crate::api::json;
use crate::http::access::{self, Noted};
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use anyhow::Error;
use axum::Router;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get};
use jiff::{SignedDuration, Timestamp};
use pitstop_api::{self as api, TokenOrder, UserChange, UserOrder};
use pitstop_imaging::units;
use pitstop_people::{Book, Entry, Gate, NewToken, Refused, Role, Wanted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use url::form_urlencoded;

/// Lines of the audit log where nobody says how many.
const LAST: usize = 100;

pub fn routes() -> Router<Arc<Sites>> {
    access::admins(
        Router::new()
            .route(
                "/api/v1/users",
                get(users)
                    .post(add)
                    .fallback(|| async { Refusal::method("GET, HEAD, POST") }),
            )
            .route(
                "/api/v1/users/{name}",
                get(user)
                    .patch(change)
                    .delete(remove)
                    .fallback(|| async { Refusal::method("GET, HEAD, PATCH, DELETE") }),
            )
            .route(
                "/api/v1/tokens",
                get(tokens)
                    .post(issue)
                    .fallback(|| async { Refusal::method("GET, HEAD, POST") }),
            )
            .route(
                "/api/v1/tokens/{id}",
                delete(revoke).fallback(|| async { Refusal::method("DELETE") }),
            )
            .route(
                "/api/v1/audit",
                get(audit).fallback(|| async { Refusal::method("GET, HEAD") }),
            ),
    )
}

/// A body of JSON; what is wrong with it is told as other refusals are.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        json(&parts.headers, body).await.map(Self)
    }
}

fn role(role: api::Role) -> Role {
    match role {
        api::Role::Viewer => Role::Viewer,
        api::Role::Operator => Role::Operator,
        api::Role::Admin => Role::Admin,
    }
}

/// As the API says it.
pub fn told_role(role: Role) -> api::Role {
    match role {
        Role::Viewer => api::Role::Viewer,
        Role::Operator => api::Role::Operator,
        Role::Admin => api::Role::Admin,
    }
}

/// The status that fits why something about people is not done.
fn refusal(act: &str, error: &Error) -> Refusal {
    let status = match error.downcast_ref::<Refused>() {
        Some(Refused::NoUser(_) | Refused::NoToken(_)) => StatusCode::NOT_FOUND,
        Some(Refused::Exists(_) | Refused::LastAdmin(_)) => StatusCode::CONFLICT,
        Some(Refused::Name(_) | Refused::Beyond { .. } | Refused::Note | Refused::Expired) => {
            StatusCode::BAD_REQUEST
        }
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, format!("{act}: {error:#}"))
}

/// Does file work about people.
async fn with_people<T: Send + 'static>(
    sites: Arc<Sites>,
    act: String,
    work: impl FnOnce(&Gate) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    blocking(move || work(&sites.people).map_err(|error| refusal(&act, &error))).await
}

/// An answer to a change, and what the audit log says of it.
fn done(act: &str, object: String, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Noted {
        act: act.to_owned(),
        object,
    });
    response
}

fn told_user(book: &Book, name: &str) -> Option<api::User> {
    let user = book.users.get(name)?;
    Some(api::User {
        name: name.to_owned(),
        role: told_role(user.role),
        created: Some(user.made),
    })
}

fn told_token(id: &str, token: &pitstop_people::Token) -> api::Token {
    api::Token {
        id: id.to_owned(),
        user: token.user.clone(),
        note: token.note.clone(),
        role: told_role(token.role),
        created: Some(token.made),
        expires: token.expires,
    }
}

/// By name.
pub fn all_users(people: &Gate) -> anyhow::Result<Vec<api::User>> {
    let book = people.store.book()?;
    let users = book.users.keys().filter_map(|name| told_user(&book, name));
    Ok(users.collect())
}

/// Those that have not expired.
pub fn all_tokens(people: &Gate) -> anyhow::Result<Vec<api::Token>> {
    let (book, now) = (people.store.book()?, Timestamp::now());
    let good = book.tokens.iter().filter(|(_, it)| !it.is_expired(now));
    Ok(good.map(|(id, token)| told_token(id, token)).collect())
}

/// Users, by name.
#[utoipa::path(get, path = "/api/v1/users", tag = "people",
    responses((status = 200, body = api::Users), (status = "4XX", body = api::ErrorBody)))]
pub async fn users(State(sites): State<Arc<Sites>>) -> Result<Json<api::Users>, Refusal> {
    let listed = with_people(sites, "listing the users".into(), |people| {
        Ok(api::Users {
            users: all_users(people)?,
        })
    });
    listed.await.map(Json)
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "The user")),
    responses((status = 200, body = api::User), (status = "4XX", body = api::ErrorBody)))]
pub async fn user(
    State(sites): State<Arc<Sites>>,
    Path(name): Path<String>,
) -> Result<Json<api::User>, Refusal> {
    let act = format!("looking for {name}");
    let found = with_people(sites, act, move |people| {
        let told = told_user(&*people.store.book()?, &name);
        Ok(told.ok_or(Refused::NoUser(name))?)
    });
    found.await.map(Json)
}

/// Makes a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = UserOrder,
    responses((status = 201, body = api::User), (status = "4XX", body = api::ErrorBody)))]
pub async fn add(
    State(sites): State<Arc<Sites>>,
    Body(order): Body<UserOrder>,
) -> Result<Response, Refusal> {
    check_password(&order.password)?;
    let object = format!("{} as {}", order.name, role(order.role));
    let act = format!("making the user {}", order.name);
    let made = with_people(sites, act, move |people| {
        let store = &people.store;
        store.add(&order.name, role(order.role), &order.password)?;
        let told = told_user(&*store.book()?, &order.name);
        Ok(told.ok_or(Refused::NoUser(order.name))?)
    });
    let made = (StatusCode::CREATED, Json(made.await?));
    Ok(done("add user", object, made))
}

/// Before work that takes long; the store says the same.
fn check_password(password: &str) -> Result<(), Refusal> {
    if password.is_empty() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the password is empty",
        ));
    }
    Ok(())
}

/// Gives a user another role or password.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "people", request_body = UserChange,
    params(("name" = String, Path, description = "The user")),
    responses((status = 200, body = api::User), (status = "4XX", body = api::ErrorBody)))]
pub async fn change(
    State(sites): State<Arc<Sites>>,
    Path(name): Path<String>,
    Body(change): Body<UserChange>,
) -> Result<Response, Refusal> {
    if let Some(password) = &change.password {
        check_password(password)?;
    }
    let what = match (change.role, &change.password) {
        (Some(to), Some(_)) => format!("{name}: {}, password", role(to)),
        (Some(to), None) => format!("{name}: {}", role(to)),
        (None, Some(_)) => format!("{name}: password"),
        (None, None) => name.clone(),
    };
    let act = format!("changing the user {name}");
    let changed = with_people(sites, act, move |people| {
        let store = &people.store;
        if let Some(to) = change.role {
            store.change(|book| book.set_role(&name, role(to), false))?;
        }
        if let Some(password) = &change.password {
            store.set_password(&name, password)?;
        }
        let told = told_user(&*store.book()?, &name);
        Ok(told.ok_or(Refused::NoUser(name))?)
    });
    Ok(done("change user", what, Json(changed.await?)))
}

/// Removes a user, and its tokens.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "people",
    params(("name" = String, Path, description = "The user")),
    responses((status = 204), (status = "4XX", body = api::ErrorBody)))]
pub async fn remove(
    State(sites): State<Arc<Sites>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let (act, object) = (format!("removing the user {name}"), name.clone());
    let removed = with_people(sites, act, move |people| {
        people.store.change(|book| book.remove(&name, false))
    });
    removed.await?;
    Ok(done("remove user", object, StatusCode::NO_CONTENT))
}

/// Tokens that have not expired; not their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "people",
    responses((status = 200, body = api::Tokens), (status = "4XX", body = api::ErrorBody)))]
pub async fn tokens(State(sites): State<Arc<Sites>>) -> Result<Json<api::Tokens>, Refusal> {
    let listed = with_people(sites, "listing the tokens".into(), |people| {
        Ok(api::Tokens {
            tokens: all_tokens(people)?,
        })
    });
    listed.await.map(Json)
}

/// The time that is so much later than `now`; `text` as in `90d`.
///
/// # Errors
/// A sentence about what it should be.
pub fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let after = units::parse_duration(text)?;
    let after = SignedDuration::try_from(after).map_err(|error| error.to_string())?;
    now.checked_add(after)
        .map_err(|_| format!("{text} from now is no time"))
}

/// Makes a token. Its secret is told this once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "people", request_body = TokenOrder,
    responses((status = 201, body = api::NewToken), (status = "4XX", body = api::ErrorBody)))]
pub async fn issue(
    State(sites): State<Arc<Sites>>,
    Body(order): Body<TokenOrder>,
) -> Result<Response, Refusal> {
    let (made, noted) = new_token(sites, order).await?;
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.extensions_mut().insert(noted);
    Ok(response)
}

/// Makes a token; tells what the audit log says of it as well.
pub async fn new_token(
    sites: Arc<Sites>,
    order: TokenOrder,
) -> Result<(api::NewToken, Noted), Refusal> {
    let now = Timestamp::now();
    let expires = order.expires.as_deref().map(|text| expiry(text, now));
    let expires = expires
        .transpose()
        .map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, format!("expires: {why}")))?;
    let act = format!("making a token of {}", order.user);
    let wanted = Wanted {
        user: order.user,
        role: order.role.map(role),
        expires,
        note: order.note,
    };
    let made = with_people(sites, act, move |people| {
        let token = NewToken::new()?;
        let kept = people
            .store
            .change(|book| book.add_token(&token, &wanted, now))?;
        Ok(api::NewToken {
            token: told_token(&token.name, &kept),
            secret: token.text(),
        })
    });
    let made = made.await?;
    let noted = Noted {
        act: "make token".into(),
        object: format!("{} of {}", made.token.id, made.token.user),
    };
    Ok((made, noted))
}

/// Revokes a token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "people",
    params(("id" = String, Path, description = "The token")),
    responses((status = 204), (status = "4XX", body = api::ErrorBody)))]
pub async fn revoke(
    State(sites): State<Arc<Sites>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let (act, name) = (format!("revoking the token {id}"), id.clone());
    let revoked = with_people(sites, act, move |people| {
        people.store.change(|book| book.revoke(&name))
    });
    let object = format!("{id} of {}", revoked.await?.user);
    Ok(done("revoke token", object, StatusCode::NO_CONTENT))
}

#[derive(Serialize)]
pub struct Audited {
    audit: Vec<Entry>,
}

/// The last lines of the audit log, the newest last.
#[utoipa::path(get, path = "/api/v1/audit", tag = "people",
    params(("last" = Option<usize>, Query, description = "At most so many; 100 if you don't say")),
    responses((status = 200, description = "`audit`: a line an act, with time, who, how, from, act, object, outcome", body = Object), (status = "4XX", body = api::ErrorBody)))]
pub async fn audit(State(sites): State<Arc<Sites>>, uri: Uri) -> Result<Json<Audited>, Refusal> {
    let mut last = LAST;
    for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let bad = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
        match key.as_ref() {
            "last" => {
                last = value
                    .parse()
                    .map_err(|e| bad(format!("last={value}: {e}")))?;
            }
            _ => return Err(bad(format!("there is no {key}: there is last"))),
        }
    }
    let read = with_people(sites, "reading the audit log".into(), move |people| {
        let mut audit = people.audit.read()?;
        audit.drain(..audit.len().saturating_sub(last));
        Ok(Audited { audit })
    });
    read.await.map(Json)
}
