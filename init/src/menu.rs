//! The menu of a stick, on every console: what this machine would do by itself, and what a person can choose. A machine that
//! the stick does not know does nothing until somebody chooses.

mod keys;

use crate::console::Consoles;
use crate::rescue::terminals;
use keys::Keys;
use pitstop_imaging::event::Reporter;
use pitstop_payload::stick::{Entry, Offer, Through, What};
use pitstop_protocol::boot_parameters::Menu;
use std::time::{Duration, Instant};

/// How long a wait for a key is at most, so that PID 1 hears that all is well.
const BEAT: Duration = Duration::from_secs(1);

/// How often the countdown is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(5);

/// What jobs to choose from are chosen by; `n`, `o` and `y` mean something else.
const KEYS: &str = "123456789abcdefghijklmpqrstuvwxz";
const OWN: char = 'o';
const NOTHING: char = 'n';
const YES: char = 'y';

/// What the machine is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Job {
        entry: Entry,
        /// The machine has done it before.
        again: bool,
    },
    /// Nothing, and why.
    Nothing(String),
}

/// Shows what there is and waits for a key, or for the end of the countdown. `alive` is called all along.
pub fn choose(offer: &Offer, menu: Menu, consoles: &Consoles, alive: &dyn Fn()) -> Choice {
    let mut asking = Asking::new(offer);
    let default = asking.default();
    if let (Some(choice), Menu::Never) = (&default, menu) {
        return choice.clone();
    }
    if asking.has_nothing() {
        return Choice::Nothing(unknown(offer));
    }
    for line in asking.lines() {
        consoles.info(line);
    }
    let mut keys = Keys::open(&terminals(consoles.names()));
    let mut countdown = if let (Some(_), Menu::For(wait)) = (&default, menu) {
        Some(Countdown::new(wait))
    } else {
        consoles.info("menu: nothing is done until a key is pressed".into());
        None
    };
    loop {
        alive();
        if let Some(countdown) = &mut countdown
            && let Some(left) = countdown.due()
        {
            if left.is_zero() {
                break;
            }
            let seconds = left.as_secs_f64().round();
            consoles.info(format!(
                "menu: {OWN} starts by itself in {seconds} s; any key stops that"
            ));
        }
        let Some(key) = keys.next(BEAT) else {
            continue;
        };
        if countdown.take().is_some() {
            consoles.info("menu: stopped; nothing is done until a key is pressed".into());
        }
        match asking.press(key) {
            Answer::Start(choice) => return choice,
            Answer::Say(text) => consoles.info(format!("menu: {text}")),
        }
    }
    default.unwrap_or_else(|| Choice::Nothing(unknown(offer)))
}

fn unknown(offer: &Offer) -> String {
    format!(
        "the stick has no job for this machine, and nothing was touched: its hosts folder has none of {}, and its jobs \
         folder none to choose",
        offer.names.join(", ")
    )
}

/// When the job starts by itself.
struct Countdown {
    end: Instant,
    shown: Option<Instant>,
}

impl Countdown {
    fn new(wait: Duration) -> Self {
        Self {
            end: Instant::now() + wait,
            shown: None,
        }
    }

    /// What is left, when it is time to say so, or nothing is left.
    fn due(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let left = self.end.saturating_duration_since(now);
        let is_time = self.shown.is_none_or(|shown| now - shown >= SHOWN_EVERY);
        if left.is_zero() || is_time {
            self.shown = Some(now);
            return Some(left);
        }
        None
    }
}

/// What keys mean now.
struct Asking<'a> {
    offer: &'a Offer,
    /// What starts when somebody says yes.
    waiting: Option<Choice>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Start(Choice),
    Say(String),
}

impl<'a> Asking<'a> {
    fn new(offer: &'a Offer) -> Self {
        Self {
            offer,
            waiting: None,
        }
    }

    fn has_nothing(&self) -> bool {
        self.offer.own.is_none() && self.offer.jobs.is_empty()
    }

    /// What happens when nobody presses a key, if anything: the machine's own job, unless it has done it.
    fn default(&self) -> Option<Choice> {
        let own = self.offer.own.as_ref()?;
        self.offer.through.is_none().then(|| Choice::Job {
            entry: own.clone(),
            again: false,
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec!["menu of the stick: press a key".to_owned()];
        match (&self.offer.own, &self.offer.through) {
            (Some(own), None) => lines.push(format!("  {OWN}  this machine's job: {}", shown(own))),
            (Some(own), Some(Through { at, is_sure })) => {
                lines.push(if *is_sure {
                    format!(
                        "  this machine has done its job, at {at}: take the stick out and restart it"
                    )
                } else {
                    format!(
                        "  this machine, or another one with its UUID, has done this job, at {at}"
                    )
                });
                lines.push(format!("  {OWN}  the same again: {}", shown(own)));
            }
            (None, _) => lines.push(format!(
                "  the stick does not know this machine ({})",
                self.offer.names.join(", ")
            )),
        }
        for (key, job) in KEYS.chars().zip(&self.offer.jobs) {
            lines.push(format!("  {key}  {}", shown(job)));
        }
        let beyond = self.offer.jobs.len().saturating_sub(KEYS.len());
        if beyond > 0 {
            lines.push(format!("  and {beyond} more that no key is left for"));
        }
        lines.push(format!(
            "  {NOTHING}  nothing: a shell, if this image has one"
        ));
        lines
    }

    fn press(&mut self, key: char) -> Answer {
        if let Some(choice) = self.waiting.take()
            && key == YES
        {
            return Answer::Start(choice);
        }
        if key == NOTHING {
            let why = "nothing was chosen from the menu of the stick";
            return Answer::Start(Choice::Nothing(why.into()));
        }
        let (entry, again) = if key == OWN {
            (self.offer.own.as_ref(), self.offer.through.is_some())
        } else {
            let at = KEYS.chars().position(|known| known == key);
            (at.and_then(|at| self.offer.jobs.get(at)), false)
        };
        let Some(entry) = entry else {
            return Answer::Say("that key means nothing here".into());
        };
        let choice = Choice::Job {
            entry: entry.clone(),
            again,
        };
        // The host file for this very machine says what is to be lost; a key that was hit by accident does not.
        if entry.writes_disks() && (key != OWN || again) {
            self.waiting = Some(choice);
            return Answer::Say(format!(
                "{}: this writes to the disks of this machine; press {YES} to start, any other key to think again",
                shown(entry)
            ));
        }
        Answer::Start(choice)
    }
}

fn shown(entry: &Entry) -> String {
    match &entry.what {
        What::Job {
            action,
            image: Some(image),
        } => format!("{} ({action}, {image})", entry.title),
        What::Job {
            action,
            image: None,
        } => format!("{} ({action})", entry.title),
        What::Wrong(why) => format!("{}: {why}", entry.title),
    }
}

#[cfg(test)]
mod tests;
