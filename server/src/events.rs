//! What changes, for whoever looks: `/events` (server-sent events). Each change has a number. The last ones are kept, so that
//! a page that lost its connection hears what it missed, or that it has to ask for everything anew.

use pitstop_api::{Event, EventKind};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Changes that are kept, and that a reader may lag behind.
const KEPT: usize = 1024;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// `a1b2c3-17`: which start of the server, and which change since.
    pub id: String,
    pub kind: EventKind,
    /// One line.
    pub data: Arc<str>,
}

/// All changes since the server's start.
pub struct Events {
    /// Tells this start of the server from others.
    start: String,
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Arc<News>>,
}

#[derive(Default)]
struct Kept {
    /// The number of the last one; from 1.
    last: u64,
    news: VecDeque<Arc<News>>,
}

/// What a reader begins with.
pub struct Begin {
    /// What it missed.
    pub missed: Vec<Arc<News>>,
    pub news: broadcast::Receiver<Arc<News>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            start: format!("{:08x}", fastrand::u32(..)),
            kept: Mutex::default(),
            sender: broadcast::channel(KEPT).0,
        }
    }
}

impl Events {
    /// A line of a report.
    pub fn run(&self, line: &str) {
        self.send(EventKind::Run, Arc::from(line));
    }

    pub fn tell(&self, event: &Event) {
        self.send(event.kind(), event.data().into());
    }

    /// The id of the last change.
    pub fn last(&self) -> String {
        format!("{}-{}", self.start, self.lock().last)
    }

    /// Whether anybody listens now.
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    fn send(&self, kind: EventKind, data: Arc<str>) {
        let mut kept = self.lock();
        kept.last += 1;
        let news = Arc::new(News {
            id: format!("{}-{}", self.start, kept.last),
            kind,
            data,
        });
        if kept.news.len() == KEPT {
            kept.news.pop_front();
        }
        kept.news.push_back(Arc::clone(&news));
        // Under the lock, so that they come in the order of their numbers. Nobody may be looking.
        let _ = self.sender.send(news);
    }

    /// Begins to listen. `last` is the id of the change that the reader heard last.
    pub fn listen(&self, last: Option<&str>) -> Begin {
        let kept = self.lock();
        let news = self.sender.subscribe();
        let Some(last) = last else {
            return Begin {
                missed: Vec::new(),
                news,
            };
        };
        let heard = last
            .strip_prefix(&self.start)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|number| number.parse::<u64>().ok());
        let missed = heard.and_then(|heard| {
            let missed = usize::try_from(kept.last.checked_sub(heard)?).ok()?;
            let from = kept.news.len().checked_sub(missed)?;
            Some(kept.news.iter().skip(from).cloned().collect())
        });
        // Of another start, or too long ago.
        let missed = missed.unwrap_or_else(|| {
            vec![Arc::new(News {
                id: format!("{}-{}", self.start, kept.last),
                kind: EventKind::Resync,
                data: Event::Resync.data().into(),
            })]
        });
        Begin { missed, news }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked while it held this left whole values.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(events: &Events, last: Option<&str>) -> Vec<(EventKind, String)> {
        let begin = events.listen(last);
        let told = |news: &Arc<News>| (news.kind, news.data.to_string());
        begin.missed.iter().map(told).collect()
    }

    #[test]
    fn who_comes_back_hears_what_was_missed_or_asks_anew() {
        let events = Events::default();
        assert_eq!(missed(&events, None), []);
        events.run("a");
        let first = events.lock().news[0].id.clone();
        events.run("b");
        events.tell(&Event::Fleet);
        let run = |line: &str| (EventKind::Run, line.to_owned());
        let fleet = (EventKind::Fleet, "{}".to_owned());
        assert_eq!(missed(&events, Some(&first)), [run("b"), fleet]);
        let resync = [(EventKind::Resync, "{}".to_owned())];
        for strange in [
            "",
            "x",
            "00000000-1",
            "-1",
            &format!("{first}9"),
            &format!("{first}x"),
        ] {
            assert_eq!(missed(&events, Some(strange)), resync, "{strange}");
        }
        for _ in 0..KEPT {
            events.run("c");
        }
        assert_eq!(missed(&events, Some(&first)), resync);
        let last = events.lock().news.back().unwrap().id.clone();
        assert_eq!(missed(&events, Some(&last)), []);
    }
}
