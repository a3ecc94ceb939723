//! `/journal`: what the server did lately, and what is wrong with the files that it reads.

use crate::machines::fleet_wrong;
use maud::{Markup, html};
use pitstop_api::Wrong;

/// What there is to tell.
#[derive(Debug, Clone, Default)]
pub struct Lately<'a> {
    pub wrong: Option<&'a Wrong>,
    /// Host files, each with what is wrong with it.
    pub files: Vec<(String, String)>,
    /// The journal's last lines, the oldest first.
    pub lines: Vec<String>,
}

/// The content of the page.
pub fn content(lately: &Lately<'_>) -> Markup {
    html! {
        div class="head" {
            h1 { "Journal" }
            p class="sub" { "What the server did lately, the newest first" }
            span class="push" { a href="/share/" { "The share" } " · " a href="/hosts/" { "Host files" } }
        }
        @if let Some(wrong) = lately.wrong { (fleet_wrong(wrong)) }
        @if !lately.files.is_empty() {
            section class="panel" aria-labelledby="files" {
                h2 id="files" { "Host files that no machine takes as they are" }
                div class="in" {
                    dl class="facts" {
                        @for (file, wrong) in &lately.files { dt { (file) } dd { (wrong) } }
                    }
                }
            }
        }
        section class="panel" aria-labelledby="log-title" {
            h2 id="log-title" { "Lately" }
            pre class="log tall" tabindex="0" role="region" aria-label="Lines of the journal" {
                @for line in lately.lines.iter().rev() { (line) "\n" }
            }
        }
    }
}
