//! Tells a server what happens, while it happens. Events go into a [queue](queue) of fixed size; a thread of its own sends
//! them. The work never waits for either.

mod post;
mod queue;

pub use post::{Crashed, after_crash};

use jiff::Timestamp;
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::render::one_line;
use pitstop_protocol::event::{self, About, LONGEST_NAME, Outcome, Verdict, What, shortened};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ReportTo;
use pitstop_protocol::machine::Lease;
use post::Sender;
use queue::Queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Passes events on to the consoles, and reports them where the job says so.
pub struct Reports {
    console: Arc<dyn Reporter>,
    run: Id,
    began: Instant,
    queue: Arc<Queue>,
    sender: Mutex<Option<Sender>>,
}

impl Reports {
    /// Of a run that begins now. What is told before it is known where to goes there later.
    pub fn begin(console: Arc<dyn Reporter>, lease: &Lease, host_key: &str) -> Self {
        let run = Id::new(Timestamp::now(), fastrand::u32(..));
        let queue = Arc::new(Queue::new(run.clone()));
        queue.push(About::default(), beginning(lease, host_key));
        Self {
            console,
            run,
            began: Instant::now(),
            queue,
            sender: Mutex::default(),
        }
    }

    pub fn run(&self) -> &Id {
        &self.run
    }

    /// It is known now where to, or that nobody wants to hear of it.
    pub fn send_to(&self, to: Option<&ReportTo>, retry_for: Duration) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match to {
            None => self.queue.turn_off(),
            Some(_) if sender.is_some() => {}
            Some(to) => {
                *sender = Sender::start(to, retry_for, &self.queue, &self.console);
            }
        }
    }

    pub fn tell(&self, what: What) {
        self.queue.push(About::default(), what);
    }

    /// The run is over. Waits a moment for the result to arrive: how long is said in docs/host-file.md.
    pub fn end(&self, verdict: Verdict, action: &str, reason: &str) {
        let sums = self.queue.sums();
        self.tell(What::Result(Outcome {
            bytes: sums.bytes,
            elapsed_ms: event::millis(self.began.elapsed()),
            read_errors: sums.read_errors,
            ..Outcome::new(verdict, action, &one_line(reason))
        }));
        self.queue.close();
        let sender = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sender) = sender {
            sender.wait();
        }
    }
}

impl Reporter for Reports {
    fn event(&self, event: &Event) {
        if let Some((about, what)) = event::of(event) {
            self.queue.push(about, what);
        }
        self.console.event(event);
    }
}

fn beginning(lease: &Lease, host_key: &str) -> What {
    let mac: Vec<String> = lease.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    What::Begin {
        machine: shortened(lease.hostname.as_deref().unwrap_or_default(), LONGEST_NAME),
        address: lease.address.to_string(),
        mac: mac.join(":"),
        pitstop: env!("CARGO_PKG_VERSION").into(),
        host_key: host_key.to_owned(),
    }
}
