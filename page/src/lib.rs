//! The page for people, as HTML.
