//! The pages for people, as HTML: values of the API in, markup out. No files, no clocks, no network.
//!
//! Every text goes through `maud`, which escapes it: names come from machines, and a machine may be anybody's.

pub mod acts;
pub mod assets;
pub mod browse;
mod disk;
pub mod fleet;
mod icon;
pub mod images;
pub mod inventory;
pub mod journal;
mod layout;
pub mod login;
pub mod machine;
pub mod machines;
pub mod people;
pub mod plain;
pub mod queue;
pub mod runs;
mod words;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use layout::{Frame, Note, Stream, Tab, Topic, Viewer, page};
pub use words::machine_path;
