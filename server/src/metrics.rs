//! `GET /metrics`: what goes on, in numbers, for Prometheus (the text of `OpenMetrics` 1.0). Counters begin with the server;
//! gauges are taken when they are asked for. docs/monitoring.md has all of them.

use crate::http::{Here, access, only_read};
use crate::refusal::{Refusal, blocking};
use crate::runs::Summary;
use crate::site::{Site, Sites};
use crate::view;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pitstop_api::MachineState;
use pitstop_jobs::State;
use pitstop_protocol::digest::BY_DIGEST;
use pitstop_protocol::event::Verdict;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// RFC 9110 8.3, as `OpenMetrics` 1.0 has it.
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// What has been counted since the server began.
#[derive(Debug)]
pub struct Metrics {
    began: Instant,
    requests: Counters,
    bytes: Counters,
    runs: Counters,
    run_bytes: Counters,
    images: Use,
}

/// Who reads and writes images.
#[derive(Debug)]
struct Use {
    now: AtomicUsize,
    /// Milliseconds after the server began.
    last: AtomicU64,
}

/// A request for the share, or for an image by what is in it, that is under way.
#[derive(Debug)]
pub struct Using(Arc<Metrics>);

impl Drop for Using {
    fn drop(&mut self) {
        self.0.images.last.store(self.0.age(), Ordering::Relaxed);
        self.0.images.now.fetch_sub(1, Ordering::Release);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            requests: Family::default(),
            bytes: Family::default(),
            runs: Family::default(),
            run_bytes: Family::default(),
            images: Use {
                now: AtomicUsize::default(),
                last: AtomicU64::default(),
            },
        }
    }
}

/// Who a request is of, by its path: few, whatever strangers ask for.
fn class(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        "share" => "share",
        "hosts" => "hosts",
        "report" => "report",
        "check-in" => "check-in",
        "boot" | "ipxe" | "boot.ipxe" | "autoexec.ipxe" | "pxelinux.cfg" => "boot",
        "api" | "events" => "api",
        "metrics" | "healthz" => "monitoring",
        _ => "pages",
    }
}

impl Metrics {
    /// Milliseconds since the server began.
    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A request has come. What is returned is kept until it is answered.
    pub fn begin(self: &Arc<Self>, path: &str) -> Option<Using> {
        let is_image = path.split('/').skip(1).take(2).eq(BY_DIGEST.split('/'));
        (class(path) == "share" || is_image).then(|| {
            self.images.now.fetch_add(1, Ordering::Relaxed);
            Using(Arc::clone(self))
        })
    }

    /// How long nobody has read or written an image; since the server began, where nobody has yet.
    pub fn share_unused_for(&self) -> Duration {
        if self.images.now.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let last = self.images.last.load(Ordering::Relaxed);
        Duration::from_millis(self.age().saturating_sub(last))
    }

    /// A request has ended. `status` is `None` where the client went away before there was one.
    pub fn request(&self, path: &str, status: Option<u16>, received: u64, sent: u64) {
        let class = class(path).to_owned();
        let status = match status {
            Some(status) => format!("{}xx", status / 100),
            None => "none".into(),
        };
        let labels = vec![("class", class.clone()), ("status", status)];
        self.requests.get_or_create(&labels).inc();
        for (direction, count) in [("received", received), ("sent", sent)] {
            if count > 0 {
                let labels = vec![("class", class.clone()), ("direction", direction.into())];
                self.bytes.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// A run has ended, as its machine reported.
    pub fn run(&self, summary: &Summary) {
        let action = vec![("action", summary.action.clone())];
        let verdict = match summary.verdict {
            Some(Verdict::Ok) => "ok",
            Some(Verdict::Cancelled) => "cancelled",
            Some(Verdict::Failed) | None => "failed",
        };
        let mut labels = action.clone();
        labels.push(("result", verdict.into()));
        self.runs.get_or_create(&labels).inc();
        let bytes = self.run_bytes.get_or_create(&action);
        bytes.inc_by(summary.bytes);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "HTTP requests by what they were for and how they were answered",
            self.requests.clone(),
        );
        registry.register_with_unit("http", "Bytes of bodies", Unit::Bytes, self.bytes.clone());
        registry.register(
            "runs",
            "Runs that ended, as machines reported them",
            self.runs.clone(),
        );
        registry.register_with_unit(
            "runs_moved",
            "Bytes of disks that runs moved",
            Unit::Bytes,
            self.run_bytes.clone(),
        );
    }
}

pub fn routes() -> Router<Arc<Sites>> {
    access::viewers(Router::new().route("/metrics", get(metrics).fallback(only_read)))
}

async fn metrics(Here(site): Here) -> Result<Response, Refusal> {
    blocking(move || {
        let mut registry = Registry::with_prefix("pitstop");
        site.metrics.register(&mut registry);
        server(&site, &mut registry);
        lab(&site, &mut registry)?;
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| {
            let why = format!("writing the metrics: {error}");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
        Ok(([(header::CONTENT_TYPE, KIND)], text).into_response())
    })
    .await
}

fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge: Gauge = Gauge::default();
    gauge.set(number(value));
    registry.register(name, help, gauge);
}

fn family(
    registry: &mut Registry,
    (name, help): (&str, &str),
    label: &'static str,
    values: impl IntoIterator<Item = (String, usize)>,
) {
    let family = Family::<Labels, Gauge>::default();
    for (value, count) in values {
        let labels = vec![(label, value)];
        family.get_or_create(&labels).set(number(count));
    }
    registry.register(name, help, family);
}

/// Of the process itself.
fn server(site: &Site, registry: &mut Registry) {
    let build = Family::<Labels, Gauge>::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    build.get_or_create(&version).set(1);
    registry.register("build_info", "The version that runs; always 1", build);
    let uptime: Gauge = Gauge::default();
    uptime.set(number(site.metrics.began.elapsed().as_secs()));
    registry.register_with_unit("uptime", "Since the server began", Unit::Seconds, uptime);
    let counts = site.connections.counts();
    let by_state = [
        ("working", counts.at_work),
        ("idle", counts.open - counts.at_work),
    ];
    family(
        registry,
        (
            "connections",
            "Connections that are open, by whether a request is under way",
        ),
        "state",
        by_state.map(|(state, count)| (state.to_owned(), count)),
    );
    gauge(
        registry,
        "connections_limit",
        "Connections that there may be",
        counts.most,
    );
    gauge(
        registry,
        "fleet_wrong",
        "1 while fleet.toml is wrong, and the server goes on with the last good one",
        i64::from(site.fleet.wrong().is_some()),
    );
    if let Some(tls) = &site.tls {
        let until: Gauge = Gauge::default();
        until.set(tls.keeper.facts().until.as_second());
        registry.register_with_unit(
            "certificate_end_timestamp",
            "When the certificate of https ends, since 1970",
            Unit::Seconds,
            until,
        );
    }
}

/// Of machines and jobs.
fn lab(site: &Site, registry: &mut Registry) -> Result<(), Refusal> {
    let machines = view::machines(site)?;
    let mut states: HashMap<&str, usize> = STATES.iter().map(|(_, name)| (*name, 0)).collect();
    let mut rate = 0_u64;
    for machine in &machines {
        *states.entry(state(machine.state)).or_default() += 1;
        let running = machine.progress.as_ref();
        let running = running.filter(|_| machine.state == MachineState::Running);
        rate = rate.saturating_add(running.map_or(0, |progress| progress.rate));
    }
    family(
        registry,
        ("machines", "Machines by how they stand"),
        "state",
        states
            .into_iter()
            .map(|(state, count)| (state.to_owned(), count)),
    );
    gauge(
        registry,
        "work_bytes_per_second",
        "What machines at work move of their disks, together",
        rate,
    );
    let found = site.jobs.found().map_err(|error| view::failed(&error))?;
    let mut jobs: HashMap<State, usize> = State::ALL.into_iter().map(|it| (it, 0)).collect();
    for job in &found.jobs {
        *jobs.entry(job.state).or_default() += 1;
    }
    family(
        registry,
        (
            "jobs",
            "Jobs by how they stand; those that are over are kept for 30 days",
        ),
        "state",
        jobs.into_iter()
            .map(|(state, count)| (state.name().to_owned(), count)),
    );
    let queue = view::queue(site)?;
    gauge(
        registry,
        "slots_used",
        "Machines at work with a slot",
        queue.used,
    );
    if let Some(slots) = queue.slots {
        gauge(
            registry,
            "slots",
            "Machines that may be at work at once",
            slots,
        );
    }
    Ok(())
}

const STATES: [(MachineState, &str); 9] = [
    (MachineState::Failed, "failed"),
    (MachineState::Silent, "silent"),
    (MachineState::Running, "running"),
    (MachineState::Queued, "queued"),
    (MachineState::Waiting, "waiting"),
    (MachineState::Scheduled, "scheduled"),
    (MachineState::New, "new"),
    (MachineState::Done, "done"),
    (MachineState::Idle, "idle"),
];

fn state(state: MachineState) -> &'static str {
    let mut all = STATES.iter();
    all.find(|(one, _)| *one == state)
        .map_or("idle", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_strangers_ask_for_makes_few_series() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            metrics.request(&format!("/x{number}/y"), Some(404), 0, 9);
            metrics.request(&format!("/share/x{number}"), Some(200), 5, 0);
        }
        metrics.request("/", None, 0, 0);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(
            (series("requests_total{"), series("http_bytes_total{")),
            (3, 2)
        );
    }

    #[test]
    fn images_are_in_use_while_a_request_is_under_way() {
        let metrics = Arc::new(Metrics::default());
        let never = metrics.share_unused_for();
        let (first, second) = (
            metrics.begin("/share/a/sda.raw.gz"),
            metrics.begin("/images/blake3/0a/sda"),
        );
        assert!(
            first.is_some() && metrics.begin("/images/a").is_none() && metrics.begin("/").is_none()
        );
        drop(first);
        assert_eq!(metrics.share_unused_for(), Duration::ZERO);
        drop(second);
        assert!(metrics.share_unused_for() <= never + metrics.began.elapsed());
        assert_eq!(metrics.images.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_state_of_a_machine_has_a_name_of_its_own() {
        for (one, name) in STATES {
            assert_eq!(serde_json::to_value(one).unwrap(), name);
        }
    }
}
