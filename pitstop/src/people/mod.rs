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
