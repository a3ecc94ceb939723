//! What is in an image: its partitions and their folders. A file is downloaded.

use super::frame::{Shown, show};
use crate::http::Here;
use crate::http::access::Who;
use crate::image_files::{self, InImage};
use axum::extract::Path;
use axum::http::Uri;
use axum::response::Response;
use pitstop_page::{Tab, browse};
use pitstop_people::Role;
use std::sync::Arc;

pub async fn image(Here(site): Here, who: Who, uri: Uri, Path(path): Path<String>) -> Response {
    let (image, asked) = image_files::split(&path).unwrap_or((&path, ""));
    let operates = who.role >= Role::Operator;
    let content = match image_files::look_into(Arc::clone(&site), &who, image, asked).await {
        Ok(InImage::File(response)) => return response,
        Ok(InImage::Volumes(volumes)) => Ok(browse::volumes(&volumes)),
        Ok(InImage::Folder(folder)) => Ok(browse::folder(&folder, operates)),
        Err(refusal) => Err(refusal),
    };
    show(site, who, uri, move |_, _| {
        Ok(Shown {
            title: path,
            tab: Tab::Images,
            topic: None,
            content: content?,
        })
    })
    .await
}
