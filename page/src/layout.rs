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

/// What a page wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// All machines, whose rows come by themselves.
    Machines,
    /// One machine, by its id.
    Machine(String),
    Queue,
    Images,
    Runs,
    /// One run, by its id.
    Run(String),
    Fleet,
}

impl Topic {
    /// What it is called in a query, and of whom it is.
    pub fn query(&self) -> (&'static str, &str) {
        match self {
            Self::Machines => ("machines", ""),
            Self::Machine(id) => ("machine", id),
            Self::Queue => ("queue", ""),
            Self::Images => ("images", ""),
            Self::Runs => ("runs", ""),
            Self::Run(id) => ("run", id),
            Self::Fleet => ("fleet", ""),
        }
    }

    /// The topic of a query.
    pub fn of_query(page: &str, of: &str) -> Option<Self> {
        Some(match page {
            "machines" => Self::Machines,
            "machine" => Self::Machine(of.to_owned()),
            "queue" => Self::Queue,
            "images" => Self::Images,
            "runs" => Self::Runs,
            "run" => Self::Run(of.to_owned()),
            "fleet" => Self::Fleet,
            _ => return None,
        })
    }
}

/// How a page hears of changes: of what, and since which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub topic: Topic,
    /// The last change that the page knows.
    pub last: String,
}

/// A page around its content.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    pub title: &'a str,
    pub tab: Tab,
    pub viewer: &'a Viewer,
    pub note: Option<&'a Note>,
    /// `None` of a page that stays as it is.
    pub stream: Option<Stream>,
}

/// The whole document.
pub fn page(frame: &Frame<'_>, content: &Markup) -> Markup {
    let stream = frame.stream.as_ref();
    let topic = stream.map(|stream| stream.topic.query());
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
                main id="main" tabindex="-1" data-page=[topic.map(|(page, _)| page)] data-of=[topic.map(|(_, of)| of)]
                    data-last=[stream.map(|stream| &stream.last)] {
                    @if let Some(note) = frame.note { (told(note)) }
                    (content)
                }
                p id="said" class="unseen" role="status" {}
                footer class="foot" {
                    "Pitstop " (env!("CARGO_PKG_VERSION")) " · " a href="/journal" { "Journal" }
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
                @if frame.stream.is_some() { span id="live" class="live" { } }
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
