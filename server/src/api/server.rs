//! `/api/v1/server`

use super::wish;
use crate::http::Here;
use crate::http::access::Who;
use crate::people::told_role;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use crate::view;
use axum::routing::get;
use axum::{Json, Router};
use pitstop_api::Server;
use pitstop_people::Why;
use pitstop_protocol::job::ActionName;
use std::sync::Arc;

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new().route("/api/v1/server", get(server))
}

/// What this server is, what it takes, and who you are to it.
#[utoipa::path(get, path = "/api/v1/server", tag = "server", responses((status = 200, body = Server)))]
pub async fn server(Here(site): Here, who: Who) -> Result<Json<Server>, Refusal> {
    blocking(move || {
        let role = told_role(who.role);
        let has_users = who.why != Why::Loopback;
        Ok(Json(Server {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: site.url.clone(),
            tls: site.url.starts_with("https:"),
            users: has_users,
            you: pitstop_api::Who {
                user: has_users.then(|| who.name.clone()),
                role,
            },
            job_keys: wish::keys().map(|option| option.key.to_owned()).collect(),
            actions: ActionName::ALL
                .map(|action| action.as_str().to_owned())
                .to_vec(),
            fleet_wrong: view::wrong(&site),
        }))
    })
    .await
}
