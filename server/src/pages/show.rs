//! What each page shows: asked of `view`, laid out by `page`.

use super::frame::{Shown, query, show};
use crate::http::Here;
use crate::http::access::Who;
use crate::inventory::Sources;
use crate::list;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::runs::Filter;
use crate::site::Site;
use crate::view;
use axum::extract::Path;
use axum::http::Uri;
use axum::response::Response;
use pitstop_api::{Id, MachineDetail, Run, RunState};
use pitstop_inventory::Query;
use pitstop_page::machine::Log;
use pitstop_page::{
    Tab, Topic, Viewer, fleet as fleet_page, images as images_page, machine as machine_page,
};
use pitstop_page::{inventory as inventory_page, journal as journal_page};
use pitstop_page::{machines as machines_page, queue as queue_page, runs as runs_page};
use pitstop_protocol::host_name::printable;
use std::collections::HashMap;

/// The newest runs that are listed.
const RUNS: usize = 200;

pub async fn machines(Here(site): Here, who: Who, uri: Uri) -> Response {
    let words = query(&uri, "q").unwrap_or_default();
    show(site, who, uri, move |site, _| all_machines(site, &words)).await
}

fn all_machines(site: &Site, words: &str) -> Result<Shown, Refusal> {
    let machines = view::machines(site)?;
    let wrong = view::wrong(site);
    let asked = machines_page::Asked {
        words,
        wrong: wrong.as_ref(),
    };
    Ok(Shown {
        title: "Machines".into(),
        tab: Tab::Machines,
        topic: Some(Topic::Machines),
        content: machines_page::content(&machines, &asked),
    })
}

pub async fn machine(Here(site): Here, who: Who, uri: Uri, Path(id): Path<String>) -> Response {
    show(site, who, uri, move |site, viewer| {
        one_machine(site, &id, viewer)
    })
    .await
}

pub fn one_machine(site: &Site, id: &str, viewer: &Viewer) -> Result<Shown, Refusal> {
    let detail = view::machine(site, id)?;
    let log = log_of(site, &detail)?;
    Ok(Shown {
        title: detail.machine.shown().to_owned(),
        tab: Tab::Machines,
        topic: Some(Topic::Machine(detail.machine.id.clone())),
        content: machine_page::content(&detail, log.as_ref(), viewer),
    })
}

/// The log of its newest run.
fn log_of(site: &Site, detail: &MachineDetail) -> Result<Option<Log>, Refusal> {
    let Some(run) = detail.runs.first() else {
        return Ok(None);
    };
    let text = view::run(site, &run.run)?.log;
    Ok(Some(log(run, text)))
}

fn log(run: &Run, text: String) -> Log {
    Log {
        run: run.run.to_string(),
        text,
        grows: matches!(run.state, RunState::Running | RunState::Silent),
    }
}

pub async fn queue(Here(site): Here, who: Who, uri: Uri) -> Response {
    show(site, who, uri, the_queue).await
}

pub fn the_queue(site: &Site, viewer: &Viewer) -> Result<Shown, Refusal> {
    let (queue, schedule) = (view::queue(site)?, view::schedule(site)?);
    Ok(Shown {
        title: "Queue".into(),
        tab: Tab::Queue,
        topic: Some(Topic::Queue),
        content: queue_page::content(&queue, &schedule, viewer),
    })
}

pub async fn images(Here(site): Here, who: Who, uri: Uri) -> Response {
    show(site, who, uri, all_images).await
}

pub fn all_images(site: &Site, viewer: &Viewer) -> Result<Shown, Refusal> {
    let images = view::images(site)?;
    Ok(Shown {
        title: "Images".into(),
        tab: Tab::Images,
        topic: Some(Topic::Images),
        content: images_page::list(&images, viewer),
    })
}

pub async fn image(Here(site): Here, who: Who, uri: Uri, Path(path): Path<String>) -> Response {
    show(site, who, uri, move |site, viewer| {
        let path = RelPath::from_text(&path)?;
        let detail = view::image(site, &path)?;
        Ok(Shown {
            title: detail.image.path.clone(),
            tab: Tab::Images,
            topic: Some(Topic::Images),
            content: images_page::one(&detail, viewer),
        })
    })
    .await
}

pub async fn runs(Here(site): Here, who: Who, uri: Uri) -> Response {
    show(site, who, uri, |site, _| {
        let newest = Filter {
            last: Some(RUNS),
            ..Filter::default()
        };
        let runs = view::runs(site, &newest).map_err(|e| Refusal::io("listing the runs", &e))?;
        let runs: Vec<Run> = runs.iter().map(Run::from).collect();
        Ok(Shown {
            title: "Runs".into(),
            tab: Tab::Runs,
            topic: Some(Topic::Runs),
            content: runs_page::list(&runs),
        })
    })
    .await
}

pub async fn run(Here(site): Here, who: Who, uri: Uri, Path(run): Path<String>) -> Response {
    show(site, who, uri, move |site, _| {
        let id: Id = run
            .parse()
            .map_err(|_| Refusal::not_found(format!("the run {run}")))?;
        let detail = view::run(site, &id)?;
        let log = log(&detail.run, detail.log);
        Ok(Shown {
            title: format!("Run {id}"),
            tab: Tab::Runs,
            topic: Some(Topic::Run(id.to_string())),
            content: runs_page::one(&detail.run, &log),
        })
    })
    .await
}

pub async fn fleet(Here(site): Here, who: Who, uri: Uri) -> Response {
    let machine = query(&uri, "machine");
    show(site, who, uri, move |site, _| {
        let one = match &machine {
            Some(name) => view::fleet_machine(site, name)?.into_iter().next(),
            None => None,
        };
        Ok(Shown {
            title: "Fleet".into(),
            tab: Tab::Fleet,
            topic: Some(Topic::Fleet),
            content: fleet_page::content(&view::fleet(site, &[])?, one.as_ref()),
        })
    })
    .await
}

/// What machines are, and a search over it.
pub async fn inventory(Here(site): Here, who: Who, uri: Uri) -> Response {
    let words = query(&uri, "q").unwrap_or_default();
    show(site, who, uri, move |site, _| found(site, &words)).await
}

fn found(site: &Site, words: &str) -> Result<Shown, Refusal> {
    let shown = |content| Shown {
        title: "Inventory".into(),
        tab: Tab::Inventory,
        topic: None,
        content,
    };
    let query = match Query::parse(words) {
        Ok(query) => query,
        Err(error) => {
            let wrong = error.pointed(words);
            let asked = inventory_page::Asked {
                words,
                wrong: Some(&wrong),
            };
            return Ok(shown(inventory_page::content(None, asked)));
        }
    };
    let list = site
        .inventory
        .search(&Sources::of(site), words, &query)
        .map_err(|error| view::failed(&error))?;
    // Not every machine that was once seen has a page: by its card, its name, its address.
    let machines = view::machines(site)?;
    let mut ids: HashMap<String, &str> = HashMap::new();
    for machine in &machines {
        let addresses = machine.addresses.iter().map(ToString::to_string);
        let names = [Some(&machine.id), machine.name.as_ref()];
        let names = names.into_iter().flatten().chain(&machine.mac).cloned();
        for name in names.chain(addresses) {
            ids.entry(name.to_ascii_lowercase()).or_insert(&machine.id);
        }
    }
    let rows: Vec<inventory_page::Row> = list
        .machines
        .iter()
        .map(|row| inventory_page::Row {
            row,
            page: [&row.mac, &row.name, &row.address]
                .into_iter()
                .find_map(|name| ids.get(&name.to_ascii_lowercase()).copied()),
        })
        .collect();
    let asked = inventory_page::Asked { words, wrong: None };
    Ok(shown(inventory_page::content(Some((&list, &rows)), asked)))
}

/// What the server did lately, and what is wrong with files that it reads.
pub async fn journal(Here(site): Here, who: Who, uri: Uri) -> Response {
    show(site, who, uri, |site, _| {
        let files = list::jobs(&site.hosts).map_err(|e| view::failed(&e))?;
        let files = files.into_iter().filter_map(|file| {
            let wrong = file.error.or(file.note)?;
            Some((file.file, printable(&wrong)))
        });
        let wrong = view::wrong(site);
        let lately = journal_page::Lately {
            wrong: wrong.as_ref(),
            files: files.collect(),
            lines: site.journal.last(),
        };
        Ok(Shown {
            title: "Journal".into(),
            tab: Tab::Other,
            topic: None,
            content: journal_page::content(&lately),
        })
    })
    .await
}
