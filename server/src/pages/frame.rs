//! What is around each page: who looks, what was just done, and what is said where it cannot be shown.

use crate::http::access::Who;
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use pitstop_page::{Frame, Note, Stream, Tab, Topic, Viewer, page, plain};
use pitstop_people::{Role, Why};
use std::sync::Arc;
use url::form_urlencoded;

/// A page without its frame.
pub struct Shown {
    pub title: String,
    pub tab: Tab,
    pub topic: Option<Topic>,
    pub content: maud::Markup,
}

/// What a form did, as the page behind it is told: by a word, so that a link from elsewhere cannot put a sentence there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Set,
    Cancelled,
    Moved,
    Switched,
    Verifying,
    Added,
    Removed,
    Revoked,
}

impl Done {
    const ALL: [Self; 8] = [
        Self::Set,
        Self::Cancelled,
        Self::Moved,
        Self::Switched,
        Self::Verifying,
        Self::Added,
        Self::Removed,
        Self::Revoked,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Cancelled => "cancelled",
            Self::Moved => "moved",
            Self::Switched => "switched",
            Self::Verifying => "verifying",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Revoked => "revoked",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Set => "The job is set. The machine takes it when it boots from the network.",
            Self::Cancelled => "The job is cancelled.",
            Self::Moved => "The queue has a new order.",
            Self::Switched => "The machine was told so.",
            Self::Verifying => "Every chunk of the image is being checked.",
            Self::Added => "The user is added.",
            Self::Removed => "The user is removed, and its tokens.",
            Self::Revoked => "The token is revoked.",
        }
    }

    /// What the query of a page says was done.
    fn of(uri: &Uri) -> Option<Self> {
        let word = query(uri, "done")?;
        Self::ALL.into_iter().find(|done| done.word() == word)
    }
}

/// One value of a URL's query.
pub fn query(uri: &Uri, key: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.into_owned())
}

/// Who looks, as pages have it.
pub fn viewer(who: &Who) -> Viewer {
    Viewer {
        name: (who.why != Why::Loopback).then(|| who.name.clone()),
        operates: who.role >= Role::Operator,
        administers: who.role >= Role::Admin,
        csrf: who
            .csrf
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

/// The page that `make` makes, or why there is none.
pub async fn show(
    site: Arc<Site>,
    who: Who,
    uri: Uri,
    make: impl FnOnce(&Site, &Viewer) -> Result<Shown, Refusal> + Send + 'static,
) -> Response {
    let note = Done::of(&uri).map(|done| Note::Done(done.sentence().to_owned()));
    render(site, who, StatusCode::OK, note, make).await
}

/// The page that `make` makes, with why something was not done on top of it.
pub async fn show_refused(
    site: Arc<Site>,
    who: Who,
    refusal: Refusal,
    make: impl FnOnce(&Site, &Viewer) -> Result<Shown, Refusal> + Send + 'static,
) -> Response {
    let note = Some(Note::Failed(refusal.reason));
    render(site, who, refusal.status, note, make).await
}

async fn render(
    site: Arc<Site>,
    who: Who,
    status: StatusCode,
    note: Option<Note>,
    make: impl FnOnce(&Site, &Viewer) -> Result<Shown, Refusal> + Send + 'static,
) -> Response {
    let viewer = viewer(&who);
    let again = viewer.clone();
    let written = blocking(move || {
        // Before anything is read: what changes meanwhile is told once more, and not lost.
        let last = site.events.last();
        let shown = make(&site, &viewer)?;
        let stream = shown.topic.map(|topic| Stream { topic, last });
        let frame = Frame {
            title: &shown.title,
            tab: shown.tab,
            viewer: &viewer,
            note: note.as_ref(),
            stream,
        };
        Ok(page(&frame, &shown.content).into_string())
    });
    match written.await {
        Ok(text) => (status, Html(text)).into_response(),
        Err(refusal) => (refusal.status, Html(refused(&refusal, &again))).into_response(),
    }
}

fn refused(refusal: &Refusal, viewer: &Viewer) -> String {
    let title = match refusal.status {
        StatusCode::NOT_FOUND => "It is not here",
        StatusCode::FORBIDDEN => "It is not allowed",
        _ => "It cannot be shown",
    };
    let frame = Frame {
        title,
        tab: Tab::Other,
        viewer,
        note: None,
        stream: None,
    };
    page(&frame, &plain::refused(title, &refusal.reason)).into_string()
}
