//! What the forms of pages do: the same as the API, by the same handlers. A form that worked leads back to its page; one that
//! did not shows the page with the reason on top.

use super::frame::{Done, show_refused};
use super::show;
use crate::api::handlers;
use crate::http::Here;
use crate::http::access::{Noted, Who, see};
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use crate::view;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use pitstop_api::{Disk, Machine, MachineDetail, Moved, Order, PowerAct, PowerAsk};
use pitstop_page::{acts as buttons, machine_path};
use pitstop_protocol::job::ActionName;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use url::form_urlencoded;

/// The fields of a form as browsers send it.
pub struct Form(HashMap<String, String>);

impl Form {
    pub fn of(body: &str) -> Self {
        let fields = form_urlencoded::parse(body.as_bytes());
        Self(fields.into_owned().collect())
    }

    /// Empty where the form has none.
    pub fn text(&self, name: &str) -> &str {
        self.whole(name).trim()
    }

    /// As it was typed: spaces may be a part of a password.
    pub fn whole(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }
}

pub fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what)
}

/// A value as the handlers of the API read it.
fn body(value: &impl Serialize) -> Result<Body, Refusal> {
    let json = serde_json::to_vec(value).map_err(|error| bad(error.to_string()))?;
    Ok(Body::from(json))
}

/// What was done, as the audit log has it.
pub struct Did {
    done: Done,
    noted: Noted,
}

impl Did {
    pub fn new(done: Done, act: impl Into<String>, object: impl Into<String>) -> Self {
        let noted = Noted {
            act: act.into(),
            object: object.into(),
        };
        Self { done, noted }
    }
}

pub fn back(place: &str, did: Did) -> Response {
    let mut response = see(&format!("{place}?done={}", did.done.word()));
    response.extensions_mut().insert(did.noted);
    response
}

async fn detail(site: &Arc<Site>, id: &str) -> Result<MachineDetail, Refusal> {
    let (site, id) = (Arc::clone(site), id.to_owned());
    blocking(move || view::machine(&site, &id)).await
}

/// What breaks something asks for the machine's name.
fn must_be_named(form: &Form, machine: &Machine, what: &str) -> Result<(), Refusal> {
    let name = buttons::must_type(machine);
    if form.text("confirm") == name {
        return Ok(());
    }
    Err(bad(format!(
        "Nothing was done. To {what}, type the machine's name: {name}"
    )))
}

/// Leads back to the machine's page, or shows it with the reason.
async fn to_machine(site: Arc<Site>, who: Who, id: String, did: Result<Did, Refusal>) -> Response {
    match did {
        Ok(did) => back(&machine_path(&id), did),
        Err(refusal) => {
            show_refused(site, who, refusal, move |site, viewer| {
                show::one_machine(site, &id, viewer)
            })
            .await
        }
    }
}

/// Sets a job for a machine.
pub async fn job(Here(site): Here, who: Who, Path(id): Path<String>, text: String) -> Response {
    let form = Form::of(&text);
    let did = set(&site, &who, &id, &form).await;
    to_machine(site, who, id, did).await
}

async fn set(site: &Arc<Site>, who: &Who, id: &str, form: &Form) -> Result<Did, Refusal> {
    let action: ActionName = form
        .text("action")
        .parse()
        .map_err(|why| bad(format!("{why}")))?;
    if !buttons::offers(action) {
        return Err(bad(format!(
            "{action} needs more than a page asks for: use pitstop host set"
        )));
    }
    let detail = detail(site, id).await?;
    if action.loses_data() {
        must_be_named(form, &detail.machine, action.as_str())?;
    }
    if action == ActionName::Wipe {
        must_be_seen(form, &detail)?;
    }
    let order = order(action, &detail, form);
    handlers::set_jobs(
        Here(Arc::clone(site)),
        who.clone(),
        HeaderMap::new(),
        body(&order)?,
    )
    .await?;
    Ok(Did::new(
        Done::Set,
        format!("set {action}"),
        detail.machine.id,
    ))
}

/// A wipe takes the disks that the page named. Others may have become known since.
fn must_be_seen(form: &Form, detail: &MachineDetail) -> Result<(), Refusal> {
    let why = if detail.disks.is_empty() {
        buttons::NO_DISK
    } else if form.text("disks") != buttons::disks(detail).trim() {
        "Nothing was done: the machine's disks are not those that the page named. Look at them again"
    } else {
        return Ok(());
    };
    Err(Refusal::new(StatusCode::CONFLICT, why))
}

fn order(action: ActionName, detail: &MachineDetail, form: &Form) -> Order {
    let mut job = BTreeMap::new();
    let image = form.text("image");
    if action == ActionName::Restore && !image.is_empty() {
        job.insert("image".to_owned(), json!(image));
    }
    let method = form.text("method");
    if action == ActionName::Wipe && !method.is_empty() {
        job.insert("method".to_owned(), json!(method));
    }
    if action == ActionName::Wipe {
        job.insert(
            "disks".to_owned(),
            detail.disks.iter().map(selector).collect(),
        );
    }
    Order {
        machines: vec![detail.machine.id.clone()],
        action: action.as_str().to_owned(),
        job,
        ..Order::default()
    }
}

/// By what no other disk has, where it has such a thing.
fn selector(disk: &Disk) -> Value {
    if !disk.serial.is_empty() {
        json!({"serial": disk.serial})
    } else if !disk.wwn.is_empty() {
        json!({"wwn": disk.wwn})
    } else {
        json!(disk.device)
    }
}

/// Switches a machine.
pub async fn power(Here(site): Here, who: Who, Path(id): Path<String>, text: String) -> Response {
    let form = Form::of(&text);
    let did = switch(&site, &id, &form).await;
    to_machine(site, who, id, did).await
}

async fn switch(site: &Arc<Site>, id: &str, form: &Form) -> Result<Did, Refusal> {
    let act = match form.text("act") {
        "on" => PowerAct::On,
        "off" => PowerAct::Off,
        "cycle" => PowerAct::Cycle,
        "pxe" => PowerAct::Pxe,
        other => {
            return Err(bad(format!(
                "a machine is switched on, off, cycle or pxe, and not {other:?}"
            )));
        }
    };
    let machine = detail(site, id).await?.machine;
    let breaks = matches!(act, PowerAct::Off | PowerAct::Cycle);
    if breaks && buttons::is_at_work(&machine) {
        must_be_named(form, &machine, "switch it while it is at work")?;
    }
    let ask = PowerAsk {
        machines: vec![machine.id.clone()],
        act,
        // Who types the name knows that it is at work.
        force: breaks && form.text("confirm") == buttons::must_type(&machine),
    };
    let told = handlers::switch(Arc::clone(site), &ask).await?;
    match told.results.into_iter().find_map(|one| one.error) {
        Some(why) => Err(Refusal::new(StatusCode::BAD_GATEWAY, why)),
        None => Ok(Did::new(
            Done::Switched,
            format!("power {}", form.text("act")),
            machine.id,
        )),
    }
}

/// Takes a job back.
pub async fn cancel(Here(site): Here, who: Who, text: String) -> Response {
    let form = Form::of(&text);
    let job = form.text("job").to_owned();
    let done = handlers::cancel_one(Here(Arc::clone(&site)), who.clone(), Path(job.clone())).await;
    let did = done.map(|_| Did::new(Done::Cancelled, "cancel job", job));
    let machine = form.text("back").to_owned();
    if !machine.is_empty() {
        return to_machine(site, who, machine, did).await;
    }
    to_queue(site, who, did).await
}

/// Moves a job in the queue.
pub async fn reorder(Here(site): Here, who: Who, text: String) -> Response {
    let form = Form::of(&text);
    let id = |name: &str| form.text(name).parse().ok();
    let moved = Moved {
        before: id("before"),
        after: id("after"),
    };
    let job = form.text("job").to_owned();
    let done = match body(&moved) {
        Ok(body) => {
            handlers::reorder(
                Here(Arc::clone(&site)),
                Path(job.clone()),
                HeaderMap::new(),
                body,
            )
            .await
        }
        Err(refusal) => Err(refusal),
    };
    to_queue(
        site,
        who,
        done.map(|_| Did::new(Done::Moved, "move job", job)),
    )
    .await
}

async fn to_queue(site: Arc<Site>, who: Who, did: Result<Did, Refusal>) -> Response {
    match did {
        Ok(did) => back("/queue", did),
        Err(refusal) => show_refused(site, who, refusal, show::the_queue).await,
    }
}

/// Begins to check an image.
pub async fn verify(Here(site): Here, who: Who, Path(path): Path<String>) -> Response {
    // The path of the API's route ends so.
    match handlers::verify(Here(Arc::clone(&site)), Path(format!("{path}/verify"))).await {
        Ok(_) => back("/images", Did::new(Done::Verifying, "verify image", path)),
        Err(refusal) => show_refused(site, who, refusal, show::all_images).await,
    }
}
