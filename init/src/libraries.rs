//! What the libraries log, shown with `pitstop.log=debug`: a warning of the TLS library may be more than its error says.

use log::{LevelFilter, Log, Metadata, Record};
use pitstop_imaging::event::Reporter;
use std::sync::Arc;

/// Where they say more they write whole URLs, which may have credentials in them.
const MOST: LevelFilter = LevelFilter::Warn;

/// Has `reporter` get it from now on, as debug messages.
pub fn listen(reporter: Arc<dyn Reporter>) {
    // A second logger is what could be refused, and there is none.
    if log::set_boxed_logger(Box::new(Libraries { reporter })).is_ok() {
        log::set_max_level(MOST);
    }
}

struct Libraries {
    reporter: Arc<dyn Reporter>,
}

impl Log for Libraries {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= MOST
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.reporter
                .debug(format!("{}: {}", record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use pitstop_imaging::event::{self, Event};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn event(&self, event: &Event) {
            if let Event::Message { level, text } = event {
                assert_eq!(*level, event::Level::Debug);
                self.0.lock().unwrap().push(text.clone());
            }
        }
    }

    #[test]
    fn libraries_tell_what_is_wrong_and_no_more() {
        let heard = Arc::new(Heard::default());
        let libraries = Libraries {
            reporter: heard.clone(),
        };
        let say = |target, level, text| {
            let arguments = format_args!("{text}");
            let record = Record::builder()
                .target(target)
                .level(level)
                .args(arguments)
                .build();
            libraries.log(&record);
        };
        say(
            "reqwest::connect",
            Level::Debug,
            "http://user:secret@server/",
        );
        say("rustls::conn", Level::Warn, "sending a fatal alert");
        assert_eq!(
            *heard.0.lock().unwrap(),
            ["rustls::conn: sending a fatal alert"]
        );
    }
}
