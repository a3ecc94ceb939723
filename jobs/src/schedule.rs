//! When a job is due: `--at`, `--every`, and a clock that may be wrong.
//!
//! A time that passed while nobody looked counts for a day: the job begins as soon as the server looks again. Of several
//! such times of one `--every` only the last counts. What is later is missed, and told. A clock that goes back by less
//! than a day repeats nothing; one that goes back farther was wrong before, and the schedule begins anew from now.

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::civil::{DateTime, Time};
use jiff::tz::{Disambiguation, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use pitstop_imaging::units;

/// How late a job may begin.
pub const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// Longer than any schedule that is meant: arithmetic beyond could fail.
const MOST_YEAR: i16 = 9000;

/// Times looked at to find the last one of a day: one a minute.
const MOST_TIMES: usize = 1500;

/// A time or a schedule that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTime(String);

fn bad(what: impl Into<String>) -> BadTime {
    BadTime(what.into())
}

/// The time that `--at` means: `22:00`, `2026-12-01 22:00` (both local), RFC 3339, or `+2h`. An hour that a change of
/// clocks leaves out is the one after it; of one that comes twice it is the first.
///
/// # Errors
/// What is no time, or is past.
pub fn at(text: &str, now: &Zoned) -> Result<Timestamp, BadTime> {
    let text = text.trim();
    let time = if let Some(wait) = text.strip_prefix('+') {
        let wait = units::parse_duration(wait).map_err(bad)?;
        now.timestamp().checked_add(wait).ok()
    } else if let Ok(time) = text.parse::<Timestamp>() {
        Some(time)
    } else if let Ok(local) = text.parse::<DateTime>()
        && text.contains(':')
    {
        local_time(local, now.time_zone())
    } else if let Ok(time) = text.parse::<Time>()
        && text.contains(':')
    {
        let today = now.date().to_datetime(time);
        let tomorrow = now.date().tomorrow().ok().map(|day| day.to_datetime(time));
        local_time(today, now.time_zone())
            .filter(|time| *time > now.timestamp())
            .or_else(|| local_time(tomorrow?, now.time_zone()))
    } else {
        return Err(bad(format!(
            "{text:?} is not a time: write 22:00, \"2026-12-01 22:00\", 2026-12-01T22:00:00Z or +2h"
        )));
    };
    let within = |time: &Timestamp| time.to_zoned(TimeZone::UTC).year() < MOST_YEAR;
    let time = time
        .filter(within)
        .ok_or_else(|| bad(format!("{text:?} is too far away")))?;
    if time <= now.timestamp() {
        return Err(bad(format!("{text:?} is past")));
    }
    Ok(time)
}

fn local_time(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let zoned = zone.to_ambiguous_zoned(local);
    zoned.compatible().ok().map(|zoned| zoned.timestamp())
}

/// `--every`: five fields as crontab(5) has them, and, if need be, a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    /// In local time, as if no clock ever changed.
    table: Crontab,
    zone: TimeZone,
    /// It is about every hour, also those that come twice.
    hourly: bool,
}

impl Cron {
    /// # Errors
    /// What is wrong with it; or that such a time never comes.
    pub fn parse(text: &str, local: &TimeZone) -> Result<Self, BadTime> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (fields, zone) = match &fields[..] {
            [fields @ .., name] if fields.len() == 5 => {
                let zone = TimeZone::get(name);
                let none = |_| bad(format!("there is no time zone {name:?} on this computer"));
                (fields, zone.map_err(none)?)
            }
            fields if fields.len() == 5 => (fields, local.clone()),
            _ => {
                return Err(bad(format!(
                    "{text:?} is not five fields: minute, hour, day of month, month, day of week, as in \"0 22 * * 1-5\""
                )));
            }
        };
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let table = cronexpr::parse_crontab_with(&fields.join(" "), options)
            .map_err(|error| bad(error.to_string()))?;
        let cron = Self {
            table,
            zone,
            hourly: fields.get(1).is_some_and(|hour| hour.starts_with('*')),
        };
        let some_day = Timestamp::UNIX_EPOCH;
        match cron.next(some_day) {
            Some(_) => Ok(cron),
            None => Err(bad(format!("{text:?} never comes"))),
        }
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = after.to_zoned(self.zone.clone()).datetime();
        if local.year() >= MOST_YEAR {
            return None;
        }
        let once = self.next_as(local, after, Disambiguation::Compatible);
        if !self.hourly {
            return once;
        }
        let before = local.checked_sub(2.hours()).ok()?;
        let again = self.next_as(before, after, Disambiguation::Later);
        [once, again].into_iter().flatten().min()
    }

    /// The first local time after `local` that is after `after`, read in one way where clocks change.
    fn next_as(&self, local: DateTime, after: Timestamp, way: Disambiguation) -> Option<Timestamp> {
        let mut local = local;
        for _ in 0..MOST_TIMES {
            // The table knows no zones: local time in the dress of UTC.
            let dressed = local.to_zoned(TimeZone::UTC).ok()?.timestamp();
            local = self.table.find_next(dressed).ok()?.datetime();
            let zoned = self.zone.to_ambiguous_zoned(local).disambiguate(way).ok()?;
            if zoned.timestamp() > after {
                return Some(zoned.timestamp());
            }
        }
        None
    }

    /// The last time up to `now`, of those after `after`.
    fn last(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let times = std::iter::successors(self.next(after), |time| self.next(*time));
        times
            .take(MOST_TIMES)
            .take_while(|time| *time <= now)
            .last()
    }
}

/// What is to be done about a job's time now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// `None` of a schedule that has come to its end.
    At(Option<Timestamp>),
    /// It was to begin then, and is to begin now.
    Now(Timestamp),
    /// It was to begin then: too long ago.
    Missed(Timestamp),
}

/// Of a job that is set once.
pub fn due(at: Timestamp, now: Timestamp) -> Due {
    if at > now {
        Due::At(Some(at))
    } else if now.duration_since(at) <= LATEST {
        Due::Now(at)
    } else {
        Due::Missed(at)
    }
}

impl Cron {
    /// Of a job that is set again and again, and was looked after up to `last`. Whoever acts on [`Due::Now`] and
    /// [`Due::Missed`] notes the time up to which that is, so that nothing comes twice.
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Due {
        let was_wrong = last.duration_since(now) > LATEST;
        let since = if was_wrong { now } else { last };
        let Some(next) = self.next(since) else {
            return Due::At(None);
        };
        if next > now {
            return Due::At(Some(next));
        }
        let oldest = now.checked_sub(LATEST).unwrap_or(now).max(since);
        match self.last(oldest, now) {
            Some(time) => Due::Now(time),
            None => Due::Missed(next),
        }
    }
}

#[cfg(test)]
mod tests;
