//! Small pictures beside words. They say nothing that the words do not: readers are not told of them.

use maud::{Markup, html};

/// The mark of the product, a flag.
pub fn flag() -> Markup {
    html! {
        svg viewBox="0 0 16 16" aria-hidden="true" {
            path class="dark" d="M2 1h2v14H2zM4 2h3v3H4zm6 0h4v3h-4zM7 5h3v3H7zM4 8h3v3H4zm6 0h4v3h-4z" {}
            path fill="#2f7fd6" d="M7 2h3v3H7zM4 5h3v3H4zm6 0h4v3h-4zM7 8h3v3H7z" {}
        }
    }
}

/// A shape for each kind of state, so that they differ without colours, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Cross,
    Tick,
    Turning,
    Clock,
    Dash,
}

pub fn shape(shape: Shape) -> Markup {
    let path = match shape {
        Shape::Cross => "M3 2 8 7l5-5 1 1-5 5 5 5-1 1-5-5-5 5-1-1 5-5-5-5z",
        Shape::Tick => "M6.2 13 1.5 8.300l1.400-1.400 3.300 3.300 7-7L14.600 4.600z",
        Shape::Turning => "M4 2l10 6-10 6z",
        Shape::Clock => {
            "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.600a5.400 5.400 0 1 1 0 10.800A5.400 5.400 0 0 1 8 2.600zM7.200 4v4.600l3.400 2 .8-1.300-2.600-1.500V4z"
        }
        Shape::Dash => "M2 7h12v2H2z",
    };
    html! { svg class="icon" viewBox="0 0 16 16" aria-hidden="true" { path d=(path) {} } }
}
