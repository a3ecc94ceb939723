//! Users and their tokens: the list, and its forms, which do what the API does.

use super::acts::{Did, Form, back, bad};
use super::frame::{Done, Shown, show, show_refused};
use crate::http::Here;
use crate::http::access::{Noted, Who};
use crate::people::{self, Body};
use crate::refusal::Refusal;
use crate::site::{Site, Sites};
use crate::view;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use pitstop_api::{NewToken, Role, TokenOrder, UserOrder};
use pitstop_page::{Tab, Viewer, people as people_page};
use std::sync::Arc;

const PLACE: &str = "/people";

pub async fn list(Here(site): Here, who: Who, uri: Uri) -> Response {
    show(site, who, uri, |site, viewer| all(site, viewer, None)).await
}

fn all(site: &Site, viewer: &Viewer, made: Option<&NewToken>) -> Result<Shown, Refusal> {
    let failed = |error: anyhow::Error| view::failed(&error);
    let users = people::all_users(&site.people).map_err(failed)?;
    let tokens = people::all_tokens(&site.people).map_err(failed)?;
    Ok(Shown {
        title: "People".into(),
        tab: Tab::People,
        topic: None,
        content: people_page::content(&users, &tokens, made, viewer),
    })
}

fn role(text: &str) -> Result<Role, Refusal> {
    match text {
        "viewer" => Ok(Role::Viewer),
        "operator" => Ok(Role::Operator),
        "admin" => Ok(Role::Admin),
        other => Err(bad(format!(
            "a role is viewer, operator or admin, and not {other:?}"
        ))),
    }
}

/// Leads back to the list, or shows it with the reason.
async fn to_list(site: Arc<Site>, who: Who, did: Result<Did, Refusal>) -> Response {
    match did {
        Ok(did) => back(PLACE, did),
        Err(refusal) => {
            show_refused(site, who, refusal, |site, viewer| all(site, viewer, None)).await
        }
    }
}

pub async fn add(
    Here(site): Here,
    State(sites): State<Arc<Sites>>,
    who: Who,
    text: String,
) -> Response {
    let form = Form::of(&text);
    let did = add_user(sites, &form).await;
    to_list(site, who, did).await
}

async fn add_user(sites: Arc<Sites>, form: &Form) -> Result<Did, Refusal> {
    let order = UserOrder {
        name: form.text("name").to_owned(),
        role: role(form.text("role"))?,
        password: form.whole("password").to_owned(),
    };
    let object = format!("{} as {}", order.name, form.text("role"));
    people::add(State(sites), Body(order)).await?;
    Ok(Did::new(Done::Added, "add user", object))
}

pub async fn remove(
    Here(site): Here,
    State(sites): State<Arc<Sites>>,
    who: Who,
    Path(name): Path<String>,
) -> Response {
    let removed = people::remove(State(sites), Path(name.clone())).await;
    let did = removed.map(|_| Did::new(Done::Removed, "remove user", name));
    to_list(site, who, did).await
}

/// The secret is on the page that answers, and nowhere else.
pub async fn make_token(
    Here(site): Here,
    State(sites): State<Arc<Sites>>,
    who: Who,
    uri: Uri,
    text: String,
) -> Response {
    let form = Form::of(&text);
    match make(sites, &form).await {
        Ok((made, noted)) => {
            let page = show(site, who, uri, move |site, viewer| {
                all(site, viewer, Some(&made))
            });
            let mut response = page.await;
            response.extensions_mut().insert(noted);
            response
        }
        Err(refusal) => to_list(site, who, Err(refusal)).await,
    }
}

async fn make(sites: Arc<Sites>, form: &Form) -> Result<(NewToken, Noted), Refusal> {
    let given = |name| Some(form.text(name)).filter(|text| !text.is_empty());
    let order = TokenOrder {
        user: form.text("user").to_owned(),
        role: given("role").map(role).transpose()?,
        expires: given("expires").map(str::to_owned),
        note: form.text("note").to_owned(),
    };
    people::new_token(sites, order).await
}

pub async fn revoke(
    Here(site): Here,
    State(sites): State<Arc<Sites>>,
    who: Who,
    Path(id): Path<String>,
) -> Response {
    let revoked = people::revoke(State(sites), Path(id.clone())).await;
    let did = revoked.map(|_| Did::new(Done::Revoked, "revoke token", id));
    to_list(site, who, did).await
}
