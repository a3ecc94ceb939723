//! `/api/v1/images`

use super::query::{Query, page};
use crate::http::Here;
use crate::http::access::Who;
use crate::image_files;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use crate::view;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pitstop_api::{ErrorBody, Image, ImageDetail, Images};
use std::sync::Arc;

/// Images that are told where nobody says how many.
const MOST: usize = 5000;

const VERIFY: &str = "/verify";

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/images", get(list))
        .route("/api/v1/images/{*path}", get(one))
}

pub fn changed() -> Router<Arc<Sites>> {
    Router::new().route("/api/v1/images/{*path}", post(verify))
}

/// Images on the share, by path.
#[utoipa::path(get, path = "/api/v1/images", tag = "images",
    params(
        ("folder" = Option<String>, Query, description = "Only those in this folder"),
        ("last" = Option<usize>, Query, description = "At most so many"),
        ("after" = Option<String>, Query, description = "Those behind this one: `next` of the answer before"),
    ),
    responses((status = 200, body = Images), (status = "4XX", body = ErrorBody)))]
pub async fn list(Here(site): Here, uri: Uri) -> Result<Json<Images>, Refusal> {
    let query = Query::of(&uri, &["folder", "last", "after"])?;
    blocking(move || {
        let mut images = view::images(&site)?;
        if let Some(folder) = query.text("folder") {
            images.retain(|image| image.folder == folder);
        }
        let (images, next) = page(images, &query, MOST, |one: &Image| one.path.clone())?;
        Ok(Json(Images { images, next }))
    })
    .await
}

/// One image, with the disk that it is of.
#[utoipa::path(get, path = "/api/v1/images/{path}", tag = "images",
    params(("path" = String, Path, description = "Below the share: `192.168.1.50/sda.raw.gz`")),
    responses((status = 200, body = ImageDetail), (status = "4XX", body = ErrorBody)))]
pub async fn one(
    Here(site): Here,
    who: Who,
    Path(path): Path<String>,
) -> Result<Response, Refusal> {
    if let Some((image, asked)) = image_files::split(&path) {
        return image_files::answer(site, &who, image, asked).await;
    }
    let path = RelPath::from_text(&path)?;
    blocking(move || Ok(Json(view::image(&site, &path)?).into_response())).await
}

/// Begins to check every chunk of an image. `verified` of the image says how far it is, and what came of it.
#[utoipa::path(post, path = "/api/v1/images/{path}/verify", tag = "images",
    params(("path" = String, Path, description = "Below the share: `192.168.1.50/sda.raw.gz`")),
    responses((status = 202, body = ImageDetail), (status = "4XX", body = ErrorBody)))]
pub async fn verify(
    Here(site): Here,
    Path(path): Path<String>,
) -> Result<(StatusCode, Json<ImageDetail>), Refusal> {
    let Some(path) = path.strip_suffix(VERIFY) else {
        return Err(Refusal::method("GET, HEAD"));
    };
    let path = RelPath::from_text(path)?;
    blocking(move || {
        view::image(&site, &path)?;
        site.verifier.begin(&site, &path)?;
        Ok((StatusCode::ACCEPTED, Json(view::image(&site, &path)?)))
    })
    .await
}
