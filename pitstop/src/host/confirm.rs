//! What is about to happen, shown before it does; and the question.

use super::Root;
use super::many::Many;
use super::target::Target;
use crate::ask::agrees;
use anyhow::{Context, bail};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::units;
use pitstop_payload::execute::record;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::job::{ActionName, DiskSelector};
use pitstop_server::jobs::Store;
use pitstop_transport::share::DirectoryShare;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// One machine, and what its job is about.
pub struct Row<'a> {
    pub target: &'a Target,
    pub disks: &'a [DiskSelector],
    pub image: String,
}

/// Shows what will happen to several machines, or to the disks of one, and asks whoever sits at a terminal. A script has
/// nobody to ask, and goes on.
pub fn ask(root: &Root, many: &Many, action: ActionName, rows: &[Row]) -> anyhow::Result<()> {
    let ruins = matches!(
        action,
        ActionName::Restore | ActionName::Wipe | ActionName::Partition
    );
    let asks = (ruins || rows.len() > 1) && !many.yes && std::io::stdin().is_terminal();
    if rows.len() == 1 && !asks {
        return Ok(());
    }
    let mut output = std::io::stdout().lock();
    output
        .write_all(table(root, action, rows)?.as_bytes())
        .and_then(|()| output.flush())
        .context("writing to standard output")?;
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

fn table(root: &Root, action: ActionName, rows: &[Row]) -> anyhow::Result<String> {
    let share = DirectoryShare::open(&root.path.join("share")).ok();
    let open = Store::at(&root.path).all()?.jobs;
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let known = share.as_ref().zip(row.target.folder());
            let known = known.and_then(|(share, folder)| record::read(share, &folder).ok());
            let files = row.target.files();
            let had = open
                .iter()
                .rev()
                .find(|job| job.state.is_set() && files.contains(&job.host_file));
            [
                row.target.to_string(),
                action.to_string(),
                disks(
                    row.disks,
                    &known.map(|record| record.disks).unwrap_or_default(),
                ),
                printable(&row.image),
                had.map(|job| format!("{} ({})", job.action, job.state))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["MACHINE", "ACTION", "DISKS", "IMAGE", "REPLACES"];
    Ok(columns(&head, &cells))
}

/// A table of texts, each column as wide as it must be; the last one as it is.
pub fn columns<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = head.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The disks that a job is about, as the machine's last run knew them.
fn disks(wanted: &[DiskSelector], known: &[DiskIdentity]) -> String {
    let shown = |disk: &DiskIdentity| {
        let size = units::bytes(disk.size);
        printable(&format!(
            "{} {} {size} serial {}",
            disk.device, disk.model, disk.serial
        ))
    };
    let is = |wanted: &DiskSelector, disk: &DiskIdentity| match wanted {
        DiskSelector::Name(name) => disk.device == *name,
        DiskSelector::Serial(serial) => disk.serial == *serial,
        DiskSelector::Wwn(wwn) => disk.wwn.ends_with(wwn.trim_start_matches("0x")),
    };
    let of = |wanted: &DiskSelector| match known.iter().find(|disk| is(wanted, disk)) {
        Some(disk) => shown(disk),
        None => wanted.to_string(),
    };
    let all: Vec<String> = match (wanted, known) {
        ([], []) => vec!["every fixed disk".into()],
        ([], known) => known.iter().map(shown).collect(),
        (wanted, _) => wanted.iter().map(of).collect(),
    };
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_by_what_the_machine_last_said_of_them() {
        let known = DiskIdentity {
            device: "sda".into(),
            model: "EVO".into(),
            serial: "S1".into(),
            size: 1 << 30,
            ..DiskIdentity::default()
        };
        assert_eq!(disks(&[], &[]), "every fixed disk");
        let told = "sda EVO 1.0 GiB serial S1";
        let known = [known];
        assert_eq!(disks(&[], &known), told);
        assert_eq!(disks(&[DiskSelector::Serial("S1".into())], &known), told);
        assert_eq!(disks(&[DiskSelector::Name("sdb".into())], &known), "sdb");
    }
}
