//! The page at `/`: machines with jobs, and what went on lately.

use crate::list;
use crate::listing::{component, escape};
use crate::site::Site;
use pitstop_protocol::host_name::printable;
use std::fmt::Write;

pub fn page(site: &Site) -> String {
    let mut page = String::from(
        "<!DOCTYPE html><meta charset=utf-8><meta http-equiv=refresh content=10>\
         <title>Pitstop</title><h1>Pitstop</h1>\n\
         <p><a href=/share/>share</a> · <a href=/hosts/>host files</a>\n<h2>Machines with jobs</h2>\n",
    );
    // Writing to a String cannot fail.
    match list::jobs(&site.hosts) {
        Err(error) => {
            let _ = writeln!(page, "<p>{}", escape(&format!("{error:#}")));
        }
        Ok(jobs) if jobs.is_empty() => {
            page.push_str("<p>None: every machine boots from its disk.\n");
        }
        Ok(jobs) => {
            page.push_str("<table><tr><th>machine<th>action<th>image\n");
            for job in jobs {
                let shown = |text: Option<String>| escape(&printable(&text.unwrap_or_default()));
                let _ = write!(
                    page,
                    "<tr><td><a href=\"/hosts/{}\">{}</a><td>{}<td>{}",
                    component(&job.file),
                    escape(&job.machine),
                    job.action.as_deref().unwrap_or("wrong"),
                    shown(job.image.or(job.error)),
                );
                if let Some(note) = job.note {
                    let _ = write!(page, "<br>{}: {}", shown(Some(job.file)), escape(&note));
                }
                page.push('\n');
            }
            page.push_str("</table>\n");
        }
    }
    if let Some(wrong) = site.fleet.wrong() {
        let _ = write!(
            page,
            "<h2>fleet.toml is wrong</h2>\n<p>Meanwhile: {}.\n<pre>{}</pre>\n",
            wrong.meanwhile,
            escape(&printable_lines(&wrong.why))
        );
    }
    page.push_str("<h2>Lately</h2>\n<pre>");
    for line in site.journal.last().iter().rev() {
        let _ = writeln!(page, "{}", escape(line));
    }
    page.push_str("</pre>\n");
    page
}

/// Lines of which each may name what a stranger wrote into a file.
fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}
