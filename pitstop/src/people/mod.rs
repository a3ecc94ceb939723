//! `pitstop user` and `pitstop token`: who may do what on the page and by the API. They work on the files under the root, with
//! or without a server, which rereads them.

mod audit;
mod password;
pub mod token;
pub mod user;

use crate::host::Root;
use anyhow::bail;
use audit::noted;
use pitstop_people::Gate;

/// Everything about the people of a root. The root must be there: one that is not is a mistyped name.
fn people(root: &Root) -> anyhow::Result<Gate> {
    if !root.path.is_dir() {
        bail!(
            "{} is no folder: is it what pitstop serve serves? (--root, PITSTOP_ROOT)",
            root.path.display()
        );
    }
    Ok(Gate::at(&root.path))
}

/// Columns as wide as what is in them, below their headings.
fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        line.trim_end().to_owned() + "\n"
    };
    let head = line(headings);
    let rows = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(head).chain(rows).collect()
}
