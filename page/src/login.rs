//! `/login`: a form that works without JavaScript, and tells nothing to whoever is not logged in.

use crate::{assets, icon};
use maud::{DOCTYPE, Markup, html};

/// The whole document. `problem` is why the last try failed, or empty.
pub fn document(path: &str, user: &str, next: &str, problem: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Log in · Pitstop" }
                link rel="stylesheet" href=(assets::STYLE.path());
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
            }
            body {
                main class="login" {
                    h1 class="brand" { (icon::flag()) "Pitstop" }
                    @if !problem.is_empty() { p class="note bad" role="alert" { (problem) } }
                    form class="panel" method="post" action=(path) {
                        div class="in" {
                            div class="field" {
                                label for="user" { "User" }
                                input id="user" name="user" value=(user) autocomplete="username" autocapitalize="none"
                                    spellcheck="false" required autofocus[user.is_empty()];
                            }
                            div class="field" {
                                label for="password" { "Password" }
                                input id="password" name="password" type="password" autocomplete="current-password" required
                                    autofocus[!user.is_empty()];
                            }
                            input type="hidden" name="next" value=(next);
                            button class="main" { "Log in" }
                        }
                    }
                }
            }
        }
    }
}
