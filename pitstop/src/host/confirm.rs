//! What is about to happen, shown before it does; and the question.

use super::many::Many;
use super::say;
use crate::ask::agrees;
use anyhow::bail;
use pitstop_api::Planned;
use pitstop_protocol::job::ActionName;
use pitstop_server::set::{loses_data, table};
use std::io::IsTerminal;

/// Shows what will happen to several machines, or to the disks of one, and asks whoever sits at a terminal. A script has
/// nobody to ask, and goes on.
pub fn ask(many: &Many, action: ActionName, rows: &[Planned]) -> anyhow::Result<()> {
    let ruins = loses_data(action);
    let asks = (ruins || rows.len() > 1) && !many.yes && std::io::stdin().is_terminal();
    if rows.len() == 1 && !asks {
        return Ok(());
    }
    say(&table(rows))?;
    if !asks {
        return Ok(());
    }
    let what = match rows.len() {
        1 => "this job".to_owned(),
        many => format!("these {many} jobs"),
    };
    let lost = if ruins {
        ", whose disks lose what is on them"
    } else {
        ""
    };
    if !agrees(&format!("Set {what}{lost}?"))? {
        bail!("nothing was set");
    }
    Ok(())
}
