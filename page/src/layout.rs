//! What all pages have: the bar at the top, the way to the content, what was just said.

use crate::{assets, icon};
use maud::{DOCTYPE, Markup, html};

/// The pages of the bar at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Machines,
    Queue,
    Images,
    Runs,
    Fleet,
    Inventory,
    People,
    /// None of them.
    Other,
}

const TABS: [(Tab, &str, &str); 6] = [
    (Tab::Machines, "/", "Machines"),
    (Tab::Queue, "/queue", "Queue"),
    (Tab::Images, "/images", "Images"),
    (Tab::Runs, "/runs", "Runs"),
    (Tab::Fleet, "/fleet", "Fleet"),
    (Tab::Inventory, "/inventory", "Inventory"),
];

/// Who looks, and what they may do.
#[derive(Debug, Clone, Default)]
pub struct Viewer {
    /// `None` on a server that has no users.
    pub name: Option<String>,
    /// May set jobs and switch machines.
    pub operates: bool,
    /// May manage people.
    pub administers: bool,
    /// What forms carry so that nobody else's page can send them; empty where there is no session.
    pub csrf: String,
}

impl Viewer {
    /// The hidden field of every form that changes something.
    pub fn token(&self) -> Markup {
        html! {
            @if !self.csrf.is_empty() { input type="hidden" name="csrf" value=(self.csrf); }
        }
    }
}

/// How an act went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Done(String),
    Failed(String),
}

/// How a page hears of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// It stays as it is.
    None,
    /// It is asked for anew when something has changed.
    Changes,
    /// Its rows come by themselves: those that changed since this version of this start of the server.
    Rows { boot: String, version: u64 },
}

/// A page around its content.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    pub title: &'a str,
    pub tab: Tab,
    pub viewer: &'a Viewer,
    pub note: Option<&'a Note>,
    pub stream: Stream,
}

/// The whole document.
pub fn page(frame: &Frame<'_>, content: &Markup) -> Markup {
    let kind = match frame.stream {
        Stream::None => None,
        Stream::Changes => Some("changes"),
        Stream::Rows { .. } => Some("machines"),
    };
    let rows = match &frame.stream {
        Stream::Rows { boot, version } => Some((boot, version)),
        _ => None,
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Pitstop" }
                link rel="stylesheet" href=(assets::STYLE.path());
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
                script src=(assets::SCRIPT.path()) defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                (top(frame))
                main id="main" tabindex="-1" data-page=[kind] data-boot=[rows.map(|(boot, _)| boot)]
                    data-version=[rows.map(|(_, version)| version)] {
                    @if let Some(note) = frame.note { (told(note)) }
                    (content)
                }
                p id="said" class="unseen" role="status" {}
                footer class="foot" {
                    "Pitstop " (env!("CARGO_PKG_VERSION"))
                    noscript { " · Without JavaScript a page shows how things were when it was asked for." }
                }
            }
        }
    }
}

fn top(frame: &Frame<'_>) -> Markup {
    let people = (Tab::People, "/people", "People");
    let shown = TABS
        .into_iter()
        .chain(frame.viewer.administers.then_some(people));
    html! {
        header class="top" {
            a class="brand" href="/" { (icon::flag()) "Pitstop" }
            nav aria-label="Pages" {
                ul {
                    @for (tab, path, name) in shown {
                        li { a href=(path) aria-current=[(tab == frame.tab).then_some("page")] { (name) } }
                    }
                }
            }
            div class="who" {
                @if frame.stream != Stream::None { span id="live" class="live" { } }
                @if let Some(name) = &frame.viewer.name {
                    span class="name" { (name) }
                    form method="post" action="/logout" {
                        (frame.viewer.token())
                        button class="small" { "Log out" }
                    }
                }
            }
        }
    }
}

fn told(note: &Note) -> Markup {
    match note {
        Note::Done(text) => html! { p class="note good" role="status" { (text) } },
        Note::Failed(text) => html! { p class="note bad" role="alert" { (text) } },
    }
}
