use super::*;
use crate::facts;
use pitstop_imaging::event::Event;
use pitstop_imaging::render::sentence;
use proptest::prelude::*;
use proptest::string::string_regex;

const DOCS: &str = include_str!("../../../docs/api.md");

fn record(what: What) -> Record {
    Record {
        run: "20261128-213000-a1b2c3".parse().unwrap(),
        seq: 7,
        time: "2026-11-28T21:30:04.250Z".parse().unwrap(),
        about: About {
            step: 1,
            disk: "sda".into(),
            label: "QEMU HARDDISK QM00001".into(),
        },
        what,
    }
}

#[test]
fn a_line_is_as_the_docs_have_it() {
    let moved = Moved {
        act: Act::Backup,
        done: 1 << 30,
        total: Some(4 << 30),
        transferred: 123_456_789,
        elapsed_ms: 3250,
    };
    let line = record(What::Progress(moved)).line().unwrap();
    assert!(DOCS.lines().any(|shown| shown == line), "{line}");
}

#[test]
fn every_line_of_the_docs_is_known_but_the_one_that_shows_what_is_not() {
    let shown: Vec<&str> = DOCS
        .lines()
        .filter(|line| line.starts_with("{\"v\":") && !line.ends_with("…}"))
        .collect();
    let mut unknown = 0;
    for line in &shown {
        match parse(line).unwrap() {
            Line::Known(record) => assert_eq!(record.line().unwrap(), **line),
            Line::Unknown { .. } => unknown += 1,
        }
    }
    assert_eq!((shown.len() - unknown, unknown), (11, 1));
}

#[test]
fn what_comes_later_is_kept_and_shown_as_it_is() {
    let known = record(What::Dropped { lines: 3 }).line().unwrap();
    for later in [
        known.replace("\"v\":1", "\"v\":2"),
        known.replace("dropped", "teleported"),
        known.replace("\"lines\":3", "\"lines\":[1,2]"),
        known.replace("2026-11-28T", "soon"),
    ] {
        let line = parse(&later).unwrap();
        let Line::Unknown { ref raw, .. } = line else {
            panic!("{later} is known");
        };
        assert_eq!(*raw, later);
        assert_eq!(line.seq(), 7);
        let event = line.event();
        assert_eq!(sentence(&event).unwrap().1, later);
    }
    // A field more is no reason not to understand the rest.
    let more = known.replace("\"lines\"", "\"colour\":\"red\",\"lines\"");
    assert!(matches!(parse(&more), Ok(Line::Known(_))), "{more}");
}

#[test]
fn what_is_no_event_is_refused() {
    for line in [
        "",
        "hello",
        "[]",
        "{}",
        "{\"v\":1,\"run\":\"../../etc\",\"seq\":1}",
        "{\"v\":1,\"run\":\"20261128-213000-a1b2c3\"}",
        "{\"v\":1,\"run\":\"20261128-213000-a1b2c3\",\"seq\":-1}",
    ] {
        assert!(matches!(parse(line), Err(BadLine::NotAnEvent(_))), "{line}");
    }
    let long = format!("{{\"v\":1,\"x\":\"{}\"}}", "x".repeat(LONGEST_LINE));
    assert_eq!(parse(&long), Err(BadLine::TooLong(long.len())));
}

#[test]
fn the_longest_text_fits_into_a_line_however_it_is_escaped() {
    let text = "\u{1}".repeat(3 * LONGEST_TEXT);
    let event = Event::Message {
        level: Level::Error,
        text,
    };
    let (about, what) = of(&event).unwrap();
    let record = Record {
        about,
        ..record(what)
    };
    assert!(record.line().unwrap().len() <= LONGEST_LINE);
    assert_eq!(shortened("aäb", 4), "aäb");
    assert_eq!(shortened("aääb", 5), "a…");
}

fn text() -> impl Strategy<Value = String> {
    string_regex("[\\PC\n\t\u{1}\"\\\\]{0,40}").unwrap()
}

fn act() -> impl Strategy<Value = Act> {
    prop::sample::select(vec![
        Act::Backup,
        Act::Restore,
        Act::Verify,
        Act::Convert,
        Act::Wipe,
        Act::Partition,
    ])
}

fn what() -> impl Strategy<Value = What> {
    let planned =
        (text(), text(), any::<u64>(), act()).prop_map(|(disk, model, size, will)| Planned {
            disk,
            serial: model.clone(),
            model,
            size,
            sector: 0,
            will,
            image: String::new(),
        });
    let verdict = prop::sample::select(vec![Verdict::Ok, Verdict::Failed, Verdict::Cancelled]);
    prop_oneof![
        (text(), text(), text()).prop_map(|(machine, address, mac)| What::Begin {
            machine,
            address,
            host_key: mac.clone(),
            mac,
            pitstop: "1".into()
        }),
        text().prop_map(|action| What::Job { action }),
        (text(), prop::collection::vec(planned, 0..3))
            .prop_map(|(action, disks)| What::Plan { action, disks }),
        act().prop_map(|act| What::Step {
            act,
            state: State::Begun
        }),
        (act(), any::<(u64, u64, u64)>()).prop_map(|(act, (bytes, transferred, elapsed_ms))| {
            let state = State::Done {
                bytes,
                transferred,
                elapsed_ms,
            };
            What::Step { act, state }
        }),
        (act(), any::<(u64, Option<u64>, u64, u64)>()).prop_map(
            |(act, (done, total, transferred, elapsed_ms))| What::Progress(Moved {
                act,
                done,
                total,
                transferred,
                elapsed_ms
            })
        ),
        any::<(u64, u64, Vec<(u64, u64)>, bool)>().prop_map(|(places, bytes, first, zeroed)| {
            What::ReadErrors {
                places,
                bytes,
                first,
                zeroed,
            }
        }),
        text().prop_map(|text| What::Log {
            level: Level::Warning,
            text
        }),
        any::<u64>().prop_map(|lines| What::Dropped { lines }),
        (text(), any::<u64>()).prop_map(|(name, installed)| {
            let mut facts = Facts {
                version: facts::VERSION,
                name,
                ..Facts::default()
            };
            facts.ram.installed = installed;
            What::Inventory {
                facts: Box::new(facts),
            }
        }),
        (verdict, text(), text(), any::<(u64, u64, u64)>()).prop_map(
            |(verdict, action, reason, (bytes, elapsed_ms, read_errors))| What::Result(Outcome {
                verdict,
                action,
                reason,
                bytes,
                elapsed_ms,
                read_errors
            })
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        what in what(), seq: u64, step: u32, disk in text(), millis in 0i64..253_402_300_799_000
    ) {
        let record = Record {
            run: Id::new(Timestamp::UNIX_EPOCH, step),
            seq,
            time: Timestamp::from_millisecond(millis).unwrap(),
            about: About { step, label: disk.clone(), disk },
            what,
        };
        let line = record.line().unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(parse(&line), Ok(Line::Known(record)));
    }

    #[test]
    fn any_text_is_read_without_a_panic(noise in "\\PC{0,200}", what in what(), at: prop::sample::Index, byte in 0u8..128) {
        let _ = parse(&noise);
        let mut line = record(what).line().unwrap().into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        if let Ok(line) = String::from_utf8(line)
            && let Ok(line) = parse(&line)
        {
            let _ = sentence(&line.event());
        }
    }

    #[test]
    fn what_is_reported_is_shown_as_the_console_showed_it(text in "\\PC{1,80}", bytes: u64) {
        let subject = pitstop_imaging::event::Subject { name: "sda".into(), label: "M".into(), step: 2 };
        let bad = pitstop_imaging::event::BadSectors {
            subject, first: vec![(4096, 512)], places: 9, bytes, zeroed: true,
        };
        for event in [
            Event::Message { level: Level::Warning, text },
            Event::BadSectors(bad),
        ] {
            let (about, what) = of(&event).unwrap();
            let line = Record { about, ..record(what) }.line().unwrap();
            prop_assert_eq!(parse(&line).unwrap().event(), event);
        }
    }
}
