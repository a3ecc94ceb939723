//! What a machine at the door and its server say to each other about a job: `POST /check-in/JOB`, JSON both ways.
//!
//! A machine says that it is ready, and is told to go, to wait or that the job was cancelled. While it works it says so
//! again and again; at the end it says how it went. Silence frees its slot.

use crate::event::Planned;
use crate::id::Id;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The only version there is.
pub const VERSION: u32 = 1;

/// No message either way is longer, in bytes.
pub const MOST_BYTES: usize = 16 << 10;

/// How much of a reason is kept, in bytes.
const MOST_REASON: usize = 2000;

/// How long a machine at work may be silent before its slot goes to another.
pub const LEASE: Duration = Duration::from_secs(45);

/// However the server counts, no machine asks more often, or waits longer between two words.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(60);

/// What a machine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIn {
    pub version: u32,
    /// This try of the machine.
    pub run: Id,
    /// While it waits, a part of what it waits for is on its disk already, which does not boot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub written: bool,
    #[serde(flatten)]
    pub says: Says,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Says {
    /// It has read its job, touched nothing, and wants to begin.
    Ready,
    /// It is at work.
    Working,
    Done,
    Failed {
        #[serde(default)]
        reason: String,
        /// The machine tries again by itself.
        #[serde(default)]
        again: bool,
    },
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Begin, and say so at least every so many milliseconds.
    #[serde(rename_all = "kebab-case")]
    Go {
        beat_ms: u64,
        /// The machine has said in this job, before it was started again perhaps, that a part of the image is on its disk.
        #[serde(default, skip_serializing_if = "is_false")]
        written: bool,
    },
    /// No slot is free: this is your place in the queue, from 1; ask again. Or what you need is not there yet, for which
    /// there is no queue.
    #[serde(rename_all = "kebab-case")]
    Wait {
        place: u32,
        of: u32,
        ask_ms: u64,
        /// What is waited for, where it is no slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// The disk that is being backed up meanwhile: what is there of its image can be had already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grows: Option<Box<Planned>>,
    },
    /// The job is not wanted any more.
    Cancelled {
        #[serde(default)]
        reason: String,
        /// As in `Go`.
        #[serde(default, skip_serializing_if = "is_false")]
        written: bool,
    },
    /// Heard.
    Noted,
}

/// A message that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("it has more than {MOST_BYTES} bytes")]
    Long,
    #[error("it is not what is said at a check-in: {0}")]
    Wrong(String),
    #[error("version {0}: this Pitstop reads version {VERSION}")]
    Version(u32),
}

impl CheckIn {
    pub fn new(run: Id, says: Says) -> Self {
        Self {
            version: VERSION,
            run,
            written: false,
            says,
        }
    }

    /// Reads what a machine, or somebody who pretends to be one, has sent. A reason comes out as one line, cut to length.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        let mut read: Self = read(bytes)?;
        if read.version != VERSION {
            return Err(BadMessage::Version(read.version));
        }
        if let Says::Failed { reason, .. } = &mut read.says {
            *reason = one_line(reason);
        }
        Ok(read)
    }
}

impl Answer {
    /// Reads what a server, or something in between, has answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        let mut read: Self = read(bytes)?;
        if let Self::Cancelled { reason, .. }
        | Self::Wait {
            why: Some(reason), ..
        } = &mut read
        {
            *reason = one_line(reason);
        }
        Ok(read)
    }
}

/// A time that the other side gave, within reason.
pub fn period(millis: u64) -> Duration {
    Duration::from_millis(millis).clamp(SHORTEST, LONGEST)
}

/// In milliseconds, as messages have it.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, BadMessage> {
    if bytes.len() > MOST_BYTES {
        return Err(BadMessage::Long);
    }
    serde_json::from_slice(bytes).map_err(|error| BadMessage::Wrong(error.to_string()))
}

fn one_line(text: &str) -> String {
    let mut line = text.replace(char::is_control, " ");
    let mut end = line.len().min(MOST_REASON);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

/// `1st`, `2nd`, `3rd`, `11th`.
pub fn ordinal(number: u32) -> String {
    let end = match (number % 10, number % 100) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Act;
    use proptest::prelude::*;

    fn id() -> Id {
        "20261128-213000-ab1234".parse().unwrap()
    }

    #[test]
    fn messages_read_back() {
        for says in [
            Says::Ready,
            Says::Working,
            Says::Done,
            Says::Failed {
                reason: "no disk".into(),
                again: true,
            },
        ] {
            let message = CheckIn::new(id(), says);
            let text = serde_json::to_vec(&message).unwrap();
            assert_eq!(CheckIn::parse(&text), Ok(message));
        }
        for answer in [
            Answer::Go {
                beat_ms: 10_000,
                written: true,
            },
            Answer::Wait {
                place: 3,
                of: 12,
                ask_ms: 5000,
                why: Some("golden is being backed up".into()),
                grows: Some(Box::new(Planned {
                    disk: "sda".into(),
                    model: String::new(),
                    serial: "QM00001".into(),
                    size: 1 << 30,
                    sector: 512,
                    will: Act::Backup,
                    image: "golden/sda.raw.gz".into(),
                })),
            },
            Answer::Cancelled {
                reason: "x".into(),
                written: true,
            },
            Answer::Noted,
        ] {
            let text = serde_json::to_vec(&answer).unwrap();
            assert_eq!(Answer::parse(&text), Ok(answer));
        }
    }

    #[test]
    fn messages_look_as_the_documentation_has_them() {
        let text = |message: &CheckIn| serde_json::to_string(message).unwrap();
        assert_eq!(
            text(&CheckIn::new(id(), Says::Ready)),
            r#"{"version":1,"run":"20261128-213000-ab1234","state":"ready"}"#
        );
        let wait = Answer::Wait {
            place: 3,
            of: 12,
            ask_ms: 5000,
            why: None,
            grows: None,
        };
        assert_eq!(
            serde_json::to_string(&wait).unwrap(),
            r#"{"answer":"wait","place":3,"of":12,"ask-ms":5000}"#
        );
        let go = Answer::Go {
            beat_ms: 11_250,
            written: false,
        };
        assert_eq!(
            serde_json::to_string(&go).unwrap(),
            r#"{"answer":"go","beat-ms":11250}"#
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_long_is_cut() {
        let version = br#"{"version":2,"run":"20261128-213000-ab1234","state":"ready"}"#;
        assert_eq!(CheckIn::parse(version), Err(BadMessage::Version(2)));
        assert_eq!(
            CheckIn::parse(&vec![b' '; MOST_BYTES + 1]),
            Err(BadMessage::Long)
        );
        for wrong in [
            &br#"{"version":1,"run":"../../etc","state":"ready"}"#[..],
            br#"{"version":1,"run":"20261128-213000-ab1234","state":"owner"}"#,
            br#"{"version":1,"run":"20261128-213000-ab1234"}"#,
            b"[]",
            b"\xff",
        ] {
            assert!(matches!(CheckIn::parse(wrong), Err(BadMessage::Wrong(_))));
        }
        let long = CheckIn::new(
            id(),
            Says::Failed {
                reason: format!("a\n\u{1b}[2J{}", "ü".repeat(3000)),
                again: false,
            },
        );
        let read = CheckIn::parse(&serde_json::to_vec(&long).unwrap()).unwrap();
        let Says::Failed { reason, .. } = read.says else {
            panic!("{read:?}");
        };
        assert!(reason.len() <= MOST_REASON && reason.starts_with("a  [2Jü"));
    }

    #[test]
    fn places_are_told_as_people_say_them() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal).into();
        assert_eq!(
            said.join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = CheckIn::parse(&bytes);
            let _ = Answer::parse(&bytes);
        }

        #[test]
        fn any_times_come_out_within_reason(time: u64) {
            prop_assert!((SHORTEST..=LONGEST).contains(&period(time)));
        }
    }
}
