//! `/people`: users and their tokens, for admins.

use crate::layout::Viewer;
use crate::words::{component, maybe_time};
use maud::{Markup, html};
use pitstop_api::{NewToken, Role, Token, User};

/// The least first: what a form takes where nobody chooses.
const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// The content of the page; `made` is a token whose secret is told this once.
pub fn content(
    users: &[User],
    tokens: &[Token],
    made: Option<&NewToken>,
    viewer: &Viewer,
) -> Markup {
    html! {
        div class="head" { h1 { "People" } }
        @if let Some(made) = made {
            p id="secret" class="note good" role="status" {
                "The token of " (made.token.user) ", told this once: " code { (made.secret) }
            }
        }
        section class="panel" aria-labelledby="users-title" {
            h2 id="users-title" { "Users" }
            div id="users" {
                @if users.is_empty() {
                    p class="empty" { "None yet: this server answers its own machine alone. Make an admin first." }
                } @else { div class="scroll" tabindex="0" { (user_table(users, viewer)) } }
            }
        }
        (add_user(viewer))
        section class="panel" aria-labelledby="tokens-title" {
            h2 id="tokens-title" { "Tokens" }
            div id="tokens" {
                @if tokens.is_empty() { p class="empty" { "None. Programs show a token where people log in." } }
                @else { div class="scroll" tabindex="0" { (token_table(tokens, viewer)) } }
            }
        }
        @if !users.is_empty() { (add_token(users, viewer)) }
    }
}

fn user_table(users: &[User], viewer: &Viewer) -> Markup {
    html! {
        table class="cards" {
            caption class="unseen" { "Users, by name" }
            thead {
                tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Made" } th scope="col" { "Do" } }
            }
            tbody {
                @for user in users {
                    tr {
                        th scope="row" { (user.name) }
                        td data-label="role" { (word(user.role)) }
                        td data-label="made" { (maybe_time(user.created)) }
                        td {
                            form method="post" action={ "/people/users/" (component(&user.name)) "/remove" } {
                                (viewer.token())
                                button class="small danger" aria-label={ "Remove the user " (user.name) } { "Remove" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn roles() -> Markup {
    html! { @for role in ROLES { option { (word(role)) } } }
}

fn add_user(viewer: &Viewer) -> Markup {
    html! {
        section class="panel" aria-labelledby="add-user" {
            h2 id="add-user" { "Add a user" }
            form class="in" method="post" action="/people/users" {
                (viewer.token())
                div class="field" {
                    label for="name" { "Name" }
                    input id="name" name="name" required autocomplete="off" autocapitalize="none" spellcheck="false";
                }
                div class="field" { label for="role" { "Role" } select id="role" name="role" { (roles()) } }
                div class="field" {
                    label for="password" { "Password" }
                    input id="password" name="password" type="password" required autocomplete="new-password";
                }
                button { "Add the user" }
            }
        }
    }
}

fn token_table(tokens: &[Token], viewer: &Viewer) -> Markup {
    html! {
        table class="cards" {
            caption class="unseen" { "Tokens that have not expired" }
            thead {
                tr {
                    th scope="col" { "Token" }
                    th scope="col" { "Of" }
                    th scope="col" { "Role" }
                    th scope="col" { "For" }
                    th scope="col" { "Expires" }
                    th scope="col" { "Do" }
                }
            }
            tbody {
                @for token in tokens {
                    tr {
                        th scope="row" class="mono" { (token.id) }
                        td data-label="of" { (token.user) }
                        td data-label="role" { (word(token.role)) }
                        td data-label="for" { (token.note) }
                        td data-label="expires" { @if token.expires.is_some() { (maybe_time(token.expires)) } @else { "never" } }
                        td {
                            form method="post" action={ "/people/tokens/" (component(&token.id)) "/revoke" } {
                                (viewer.token())
                                button class="small danger" aria-label={ "Revoke the token " (token.id) } { "Revoke" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn add_token(users: &[User], viewer: &Viewer) -> Markup {
    html! {
        section class="panel" aria-labelledby="add-token" {
            h2 id="add-token" { "Make a token" }
            form class="in" method="post" action="/people/tokens" {
                (viewer.token())
                div class="field" {
                    label for="token-user" { "Of" }
                    select id="token-user" name="user" { @for user in users { option { (user.name) } } }
                }
                div class="field" {
                    label for="token-role" { "Role" }
                    select id="token-role" name="role" { option value="" { "the user's own" } (roles()) }
                }
                div class="field" {
                    label for="expires" { "Expires after, as in 90d; empty: never" }
                    input id="expires" name="expires" autocomplete="off" spellcheck="false";
                }
                div class="field" { label for="note" { "What it is for" } input id="note" name="note" autocomplete="off"; }
                button { "Make the token" }
            }
        }
    }
}
