//! Pages that say one thing: that something is not there, or was not done.

use maud::{Markup, html};

/// What went wrong, and where to go on.
pub fn refused(title: &str, why: &str) -> Markup {
    html! {
        div class="head" { h1 { (title) } }
        div class="note bad" { (why) }
        p { a href="/" { "All machines" } }
    }
}
