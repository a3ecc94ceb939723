//! A plan for people, and for programs.

use super::plan::{Line, UpdatePlan};
use super::table::{Act, Why};
use pitstop_imaging::units;
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Serialize)]
struct JsonLine<'a> {
    path: String,
    act: Act,
    why: Why,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    what: &'a [pitstop_trees::Aspect],
}

/// A plan as a program reads it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Json<'a> {
    /// The version that the last deploy or update put there; none where there is no record.
    from: Option<String>,
    to: String,
    /// Bytes of the image that are read beside its index.
    bytes: u64,
    paths: Vec<JsonLine<'a>>,
}

impl UpdatePlan<'_> {
    /// Every path at which something is done or kept, and why, a line each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&for_people(line));
        }
        text
    }

    /// How much of everything, in a line.
    pub fn summary(&self) -> String {
        let count = |act| self.lines.iter().filter(|line| line.act == act).count();
        let mut text = format!(
            "{} to write, {} to change in place, {} to delete, {} kept; {} of the image travel",
            count(Act::Place),
            count(Act::Set),
            count(Act::Delete),
            count(Act::Keep),
            units::bytes(self.to_travel)
        );
        let refused = count(Act::Refuse);
        if refused > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {refused} are in the way of the update");
        }
        if self.previous.is_none() {
            text.push_str("; there is no record of a last deploy or update");
        }
        text
    }

    /// What stays although the tree has it otherwise: what an admin wants to know of.
    pub fn conflicts(&self) -> impl Iterator<Item = String> {
        let matters = |line: &&Line| {
            line.act == Act::Keep && !matches!(line.why, Why::Stranger | Why::MachinesOwn)
        };
        let lines = self.lines.iter().filter(matters);
        lines.map(|line| format!("kept: {} ({})", line.path, line.why.text()))
    }

    pub fn json(&self) -> Json<'_> {
        let version = |meta: &pitstop_trees::Meta| match meta.name.as_str() {
            "" => meta.index.clone(),
            name => format!("{name}@{}", meta.version),
        };
        let paths = self.lines.iter().map(|line| JsonLine {
            path: line.path.to_string(),
            act: line.act,
            why: line.why,
            what: &line.what,
        });
        Json {
            from: self.previous.as_ref().map(version),
            to: version(&self.image.meta_beside()),
            bytes: self.to_travel,
            paths: paths.collect(),
        }
    }
}

fn for_people(line: &Line) -> String {
    let sign = match (line.act, line.there) {
        (Act::Nothing, _) => ' ',
        (Act::Place, false) => '+',
        (Act::Place | Act::Set, _) => 'M',
        (Act::Delete, _) => '-',
        (Act::Keep, _) => '=',
        (Act::Refuse, _) => '!',
    };
    let words: Vec<&str> = line.what.iter().map(|aspect| aspect.word()).collect();
    let what = if words.is_empty() {
        String::new()
    } else {
        format!("{}: ", words.join(", "))
    };
    format!("{sign} {} ({what}{})\n", line.path, line.why.text())
}
