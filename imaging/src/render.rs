//! How events look to people: on a screen, down a serial line, in a terminal.

use crate::event::{Act, BadSectors, Event, Level, Progress, Reporter, Stage, Subject};
use crate::units;
use std::borrow::Cow;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Folds what may have several lines into one, so that a result stays one line on a console.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line of its own every 10 s or every 10 %: for serial consoles, logs and pipes.
    Lines,
    /// One line, drawn again and again, at most this many columns wide: for screens.
    Redrawn { columns: usize },
}

const LINE_EVERY: Duration = Duration::from_secs(10);
const LINE_EVERY_PERCENT: u8 = 10;
const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// Turns events into the bytes of one output. Holds what that output has shown last.
#[derive(Debug)]
pub struct Renderer {
    style: Style,
    prefix: &'static str,
    least: Level,
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    act: Act,
    subject: Subject,
    percent: Option<u8>,
    at: Instant,
    finished: bool,
}

impl Renderer {
    /// `prefix` begins each line (`pitstop: `); messages below `least` are not shown.
    pub fn new(style: Style, prefix: &'static str, least: Level) -> Self {
        Self {
            style,
            prefix,
            least,
            shown: None,
        }
    }

    /// What to write now, line ends included; `None` when the event is not due on this output.
    pub fn render(&mut self, event: &Event) -> Option<String> {
        self.render_at(event, Instant::now())
    }

    /// The same at another moment: of a run that is over.
    pub fn render_at(&mut self, event: &Event, now: Instant) -> Option<String> {
        if let Event::Progress(progress) = event {
            return self.progress(progress, now);
        }
        let (level, text) = sentence(event)?;
        (level >= self.least).then(|| self.message(level, &text))
    }

    fn message(&mut self, level: Level, text: &str) -> String {
        // An unfinished progress line gives way; the next progress draws it anew below.
        let clear = match self.style {
            Style::Redrawn { .. } if self.drawing() => "\r\x1b[K",
            _ => "",
        };
        let drawing = self.drawing();
        if let (true, Some(shown)) = (drawing, &mut self.shown) {
            shown.percent = None;
        }
        let word = match level {
            Level::Info => String::new(),
            other => format!("{}: ", other.word()),
        };
        let lines: Vec<String> = text
            .lines()
            .map(|line| format!("{}{word}{line}\n", self.prefix))
            .collect();
        format!("{clear}{}", lines.concat())
    }

    fn drawing(&self) -> bool {
        matches!(self.style, Style::Redrawn { .. })
            && self.shown.as_ref().is_some_and(|shown| !shown.finished)
    }

    fn progress(&mut self, progress: &Progress, now: Instant) -> Option<String> {
        let percent = progress.percent();
        let finished = progress.total == Some(progress.done);
        let due = match self
            .shown
            .as_ref()
            .filter(|shown| shown.act == progress.act && shown.subject == progress.subject)
        {
            None => true,
            Some(shown) if shown.finished => false,
            Some(_) if finished => true,
            Some(shown) => self.due(shown, percent, now),
        };
        if !due {
            return None;
        }
        self.shown = Some(Shown {
            act: progress.act,
            subject: progress.subject.clone(),
            percent,
            at: now,
            finished,
        });
        let line = format!("{}{}", self.prefix, describe(progress));
        Some(match self.style {
            Style::Lines => format!("{line}\n"),
            Style::Redrawn { columns } => {
                let cut: String = line.chars().take(columns.saturating_sub(1)).collect();
                let end = if finished { "\n" } else { "" };
                format!("\r{cut}\x1b[K{end}")
            }
        })
    }

    fn due(&self, shown: &Shown, percent: Option<u8>, now: Instant) -> bool {
        let since = now.saturating_duration_since(shown.at);
        match self.style {
            Style::Redrawn { .. } => since >= REDRAW_EVERY,
            Style::Lines => {
                let tens = |percent: Option<u8>| percent.map(|p| p / LINE_EVERY_PERCENT);
                // Fast transfers pass several tens within a second; those need no line each.
                since >= LINE_EVERY
                    || (tens(percent) > tens(shown.percent) && since >= Duration::from_secs(1))
            }
        }
    }
}

/// What an event says as a sentence, and how much that matters. `None` for progress, which is a line that is drawn again
/// and again.
pub fn sentence(event: &Event) -> Option<(Level, Cow<'_, str>)> {
    match event {
        Event::Message { level, text } => Some((*level, Cow::Borrowed(text))),
        Event::Progress(_) => None,
        // The progress lines say it on a console; this is for whoever asks for more.
        Event::Step {
            act,
            subject,
            stage,
        } => Some((Level::Debug, Cow::Owned(step(*act, subject, *stage)))),
        Event::BadSectors(bad) if bad.zeroed => {
            let text = format!("{}; they are zeros in the image", places(bad));
            Some((Level::Warning, Cow::Owned(text)))
        }
        // The error that ends the work says it aloud.
        Event::BadSectors(bad) => Some((Level::Debug, Cow::Owned(places(bad)))),
    }
}

fn step(act: Act, subject: &Subject, stage: Stage) -> String {
    match stage {
        Stage::Begun => format!("{} {subject} begins", doing(act)),
        Stage::Done {
            bytes,
            transferred,
            took,
        } => format!(
            "{} {subject} is done: {} in {}, {} moved",
            doing(act),
            units::bytes(bytes),
            units::duration(took),
            units::bytes(transferred)
        ),
    }
}

/// `sda cannot be read in 2 places: 4096 bytes at 8192, 4096 bytes at 65536`
pub fn places(bad: &BadSectors) -> String {
    let mut shown: Vec<String> = bad
        .first
        .iter()
        .map(|(offset, length)| format!("{length} bytes at {offset}"))
        .collect();
    let more = bad.places.saturating_sub(bad.first.len() as u64);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    format!(
        "{} cannot be read in {} places: {}",
        bad.subject.name,
        bad.places,
        shown.join(", ")
    )
}

/// An act as it goes on.
pub fn doing(act: Act) -> &'static str {
    match act {
        Act::Backup => "backing up",
        Act::Restore => "restoring",
        Act::Verify => "verifying",
        Act::Convert => "converting",
        Act::Wipe => "wiping",
        Act::Partition => "partitioning",
        Act::Capture => "capturing",
        Act::Extract => "unpacking",
    }
}

/// `backing up sda 42 %, 1.7 GiB of 4.0 GiB, 310 MB/s, 7s left`
pub fn describe(progress: &Progress) -> String {
    let amount = match (progress.percent(), progress.total) {
        (Some(percent), Some(total)) => format!(
            "{percent} %, {} of {}",
            units::bytes(progress.done),
            units::bytes(total)
        ),
        _ => units::bytes(progress.done),
    };
    let time = if progress.total == Some(progress.done) {
        format!(", took {}", units::duration(progress.elapsed))
    } else if let Some(left) = progress.left() {
        format!(", {} left", units::duration(left))
    } else {
        String::new()
    };
    let rate = rate(progress.rate());
    format!(
        "{} {} {amount}, {rate}{time}",
        doing(progress.act),
        progress.subject
    )
}

/// `310 MB/s`, in millions of bytes as disks and networks are sold; a decimal below ten.
pub fn rate(bytes_per_second: u64) -> String {
    if bytes_per_second < 10_000_000 {
        let tenths = bytes_per_second / 100_000;
        return format!("{}.{} MB/s", tenths / 10, tenths % 10);
    }
    format!("{} MB/s", bytes_per_second / 1_000_000)
}

/// A reporter that renders to one output, such as standard error.
#[derive(Debug)]
pub struct Output<W> {
    inner: Mutex<(W, Renderer)>,
}

impl<W: Write + Send> Output<W> {
    pub fn new(writer: W, renderer: Renderer) -> Self {
        Self {
            inner: Mutex::new((writer, renderer)),
        }
    }
}

impl<W: Write + Send> Reporter for Output<W> {
    fn event(&self, event: &Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, renderer) = &mut *inner;
        if let Some(text) = renderer.render(event) {
            // Nobody is left to tell when the place for telling is gone; the work goes on.
            let _ = writer
                .write_all(text.as_bytes())
                .and_then(|()| writer.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, total: Option<u64>) -> Event {
        Event::Progress(Progress {
            act: Act::Backup,
            subject: Subject::named("sda"),
            done,
            total,
            transferred: done / 2,
            elapsed: Duration::from_secs(2),
        })
    }

    fn message(level: Level, text: &str) -> Event {
        Event::Message {
            level,
            text: text.into(),
        }
    }

    #[test]
    fn a_line_tells_percent_rate_and_time_left() {
        let Event::Progress(progress) = at(620_000_000, Some(1_240_000_000)) else {
            panic!("progress");
        };
        assert_eq!(
            describe(&progress),
            "backing up sda 50 %, 591.2 MiB of 1.1 GiB, 310 MB/s, 2s left"
        );
        assert_eq!(rate(1_250_000), "1.2 MB/s");
    }

    #[test]
    fn bad_sectors_are_a_warning_where_the_work_goes_on_and_an_error_says_them_where_it_ends() {
        let mut bad = BadSectors {
            subject: Subject::named("/dev/sda"),
            first: vec![(8192, 4096)],
            places: 3,
            bytes: 12288,
            zeroed: true,
        };
        let said = |bad: &BadSectors| {
            let event = Event::BadSectors(bad.clone());
            sentence(&event).map(|(level, text)| (level, text.into_owned()))
        };
        let text = "/dev/sda cannot be read in 3 places: 4096 bytes at 8192, 2 more";
        let zeros = format!("{text}; they are zeros in the image");
        assert_eq!(said(&bad), Some((Level::Warning, zeros)));
        bad.zeroed = false;
        assert_eq!(said(&bad), Some((Level::Debug, text.into())));
    }

    #[test]
    fn a_step_is_told_to_whoever_asks_for_more() {
        let mut subject = Subject::named("sda");
        subject.label = "QEMU QM1".into();
        let took = Duration::from_secs(2);
        let done = Event::Step {
            act: Act::Wipe,
            subject,
            stage: Stage::Done {
                bytes: 1 << 30,
                transferred: 1 << 20,
                took,
            },
        };
        let mut all = Renderer::new(Style::Lines, "", Level::Debug);
        assert_eq!(
            all.render(&done).unwrap(),
            "debug: wiping sda (QEMU QM1) is done: 1.0 GiB in 2s, 1.0 MiB moved\n"
        );
        assert_eq!(
            Renderer::new(Style::Lines, "", Level::Info).render(&done),
            None
        );
    }

    #[test]
    fn a_serial_line_gets_a_line_per_ten_percent_or_ten_seconds() {
        let mut serial = Renderer::new(Style::Lines, "pitstop: ", Level::Info);
        let start = Instant::now();
        let mut lines = 0;
        // 1000 events in 100 s: ten seconds a line, and the last.
        for step in 0..=1000u64 {
            let now = start + Duration::from_millis(step * 100);
            lines += usize::from(serial.render_at(&at(step, Some(1000)), now).is_some());
        }
        assert_eq!(lines, 11);
        let mut fast = Renderer::new(Style::Lines, "pitstop: ", Level::Info);
        let lines = (0..=1000u64)
            .filter_map(|step| fast.render_at(&at(step, Some(1000)), start))
            .count();
        assert_eq!(lines, 2, "only the first and the last within one moment");
    }

    #[test]
    fn a_screen_line_is_redrawn_cut_to_width_and_ended_when_done() {
        let mut screen = Renderer::new(Style::Redrawn { columns: 20 }, "", Level::Info);
        let start = Instant::now();
        let first = screen.render_at(&at(1, Some(10)), start).unwrap();
        assert_eq!(first, "\rbacking up sda 10 %\x1b[K");
        assert_eq!(screen.render_at(&at(2, Some(10)), start), None);
        let said = screen
            .render_at(&message(Level::Warning, "slow"), start)
            .unwrap();
        assert_eq!(said, "\r\x1b[Kwarning: slow\n");
        let last = screen.render_at(&at(10, Some(10)), start).unwrap();
        assert!(last.ends_with("\x1b[K\n"), "{last:?}");
        assert_eq!(screen.render_at(&at(10, Some(10)), start), None);
    }

    #[test]
    fn each_line_of_a_message_gets_the_prefix_and_debug_only_on_request() {
        let mut quiet = Renderer::new(Style::Lines, "pitstop: ", Level::Info);
        assert_eq!(quiet.render(&message(Level::Debug, "x")), None);
        assert_eq!(
            quiet.render(&message(Level::Error, "one\ntwo")).unwrap(),
            "pitstop: error: one\npitstop: error: two\n"
        );
    }
}
