use super::*;
use proptest::prelude::*;

/// Central Europe, by its rule: clocks go on at 2:00 on the last Sunday in March, and back at 3:00 on the last in October.
fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now(text: &str) -> Zoned {
    time(text).to_zoned(zone())
}

fn cron(text: &str) -> Cron {
    Cron::parse(text, &zone()).unwrap()
}

#[test]
fn a_time_is_said_in_each_way() {
    let now = now("2026-11-28T20:30:00Z");
    for (text, means) in [
        ("22:00", "2026-11-28T21:00:00Z"),
        ("21:00", "2026-11-29T20:00:00Z"),
        ("21:30", "2026-11-29T20:30:00Z"),
        ("2026-12-01 22:00", "2026-12-01T21:00:00Z"),
        ("2026-12-01T22:00:30", "2026-12-01T21:00:30Z"),
        ("2026-12-01T22:00:00Z", "2026-12-01T22:00:00Z"),
        ("2026-12-01T22:00:00+05:00", "2026-12-01T17:00:00Z"),
        ("+2h", "2026-11-28T22:30:00Z"),
        ("+30s", "2026-11-28T20:30:30Z"),
        // These clocks never show 2:30, and show it twice.
        ("2027-03-28 02:30", "2027-03-28T01:30:00Z"),
        ("2027-10-31 02:30", "2027-10-31T00:30:00Z"),
    ] {
        assert_eq!(at(text, &now), Ok(time(means)), "{text}");
    }
    for (text, why) in [
        ("2026-11-28 21:29", "is past"),
        ("2025-01-01T00:00:00Z", "is past"),
        ("+0s", "is past"),
        ("25:00", "is not a time"),
        ("22", "is not a time"),
        ("2026-12-01", "is not a time"),
        ("tomorrow", "is not a time"),
        ("", "is not a time"),
        ("9500-01-01 00:00", "too far away"),
        ("+soon", "not a duration"),
    ] {
        let error = at(text, &now).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_schedule_is_five_fields() {
    let after = time("2026-11-28T20:30:00Z");
    assert_eq!(
        cron("0 22 * * *").next(after),
        Some(time("2026-11-28T21:00:00Z"))
    );
    assert_eq!(
        cron("30 6 * * mon-fri").next(after),
        Some(time("2026-11-30T05:30:00Z"))
    );
    for (text, why) in [
        ("0 22 * *", "is not five fields"),
        ("0 22 * * * * *", "is not five fields"),
        ("0 22 * * * Middle/Earth", "no time zone"),
        ("61 22 * * *", ""),
        ("0 0 30 2 *", "never comes"),
    ] {
        let error = Cron::parse(text, &zone()).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn where_clocks_change_a_daily_job_comes_once_and_an_hourly_one_each_hour() {
    let half_past_two = cron("30 2 * * *");
    let mut times = vec![time("2027-03-26T12:00:00Z")];
    for _ in 0..3 {
        times.push(half_past_two.next(*times.last().unwrap()).unwrap());
    }
    assert_eq!(
        times[1..],
        [
            time("2027-03-27T01:30:00Z"),
            time("2027-03-28T01:30:00Z"),
            time("2027-03-29T00:30:00Z")
        ]
    );
    let first = half_past_two.next(time("2027-10-30T12:00:00Z")).unwrap();
    assert_eq!(first, time("2027-10-31T00:30:00Z"));
    assert_eq!(
        half_past_two.next(first),
        Some(time("2027-11-01T01:30:00Z"))
    );
    let hourly = cron("0 * * * *");
    for begin in ["2027-03-27T20:00:00Z", "2027-10-30T20:00:00Z"] {
        let mut last = time(begin);
        for _ in 0..12 {
            let next = hourly.next(last).unwrap();
            assert_eq!(next.duration_since(last), SignedDuration::from_hours(1));
            last = next;
        }
    }
}

#[test]
fn a_time_that_passed_counts_for_a_day() {
    let at = time("2026-11-28T22:00:00Z");
    assert_eq!(due(at, time("2026-11-28T21:59:59Z")), Due::At(Some(at)));
    assert_eq!(due(at, at), Due::Now(at));
    assert_eq!(due(at, time("2026-11-29T22:00:00Z")), Due::Now(at));
    assert_eq!(due(at, time("2026-11-29T22:00:01Z")), Due::Missed(at));
    // A month without a server: the last of the nights begins now, those before do not.
    let nightly = cron("0 22 * * *");
    assert_eq!(
        nightly.due(time("2026-10-29T12:00:00Z"), time("2026-11-28T12:00:00Z")),
        Due::Now(time("2026-11-27T21:00:00Z"))
    );
    let monthly = cron("0 22 1 * *");
    assert_eq!(
        monthly.due(time("2026-10-29T12:00:00Z"), time("2026-11-28T12:00:00Z")),
        Due::Missed(time("2026-11-01T21:00:00Z"))
    );
}

#[test]
fn a_clock_that_jumps_neither_repeats_nor_loses_a_night() {
    let nightly = cron("0 22 * * *");
    let tonight = time("2026-11-28T21:00:00Z");
    assert_eq!(
        nightly.due(time("2026-11-28T12:00:00Z"), tonight),
        Due::Now(tonight)
    );
    // An hour back: it was done.
    let tomorrow = time("2026-11-29T21:00:00Z");
    assert_eq!(
        nightly.due(tonight, time("2026-11-28T20:30:00Z")),
        Due::At(Some(tomorrow))
    );
    // To 2099 and back: tonight comes all the same.
    let far = time("2099-06-01T12:00:00Z");
    let Due::Now(then) = nightly.due(time("2026-11-28T12:00:00Z"), far) else {
        panic!("not due in 2099");
    };
    assert_eq!(
        nightly.due(then, time("2026-11-28T12:00:05Z")),
        Due::At(Some(tonight))
    );
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = at(&text, &now("2026-11-28T20:30:00Z"));
        let _ = Cron::parse(&text, &zone());
    }

    #[test]
    fn texts_that_look_like_schedules_are_read_without_a_panic(text in "[-0-9*/,A-Z#LW]{1,5}( [-0-9*/,A-Z#LW]{1,5}){4}") {
        let _ = Cron::parse(&text, &zone());
    }

    /// Whatever the clock does within a day, no time is acted on twice; and what lies ahead comes.
    #[test]
    fn no_time_comes_twice(jumps in prop::collection::vec(-80_000i64..100_000, 1..40)) {
        let cron = cron("*/30 */3 * * *");
        let mut now = time("2027-03-20T12:00:00Z");
        let mut last = now;
        let mut done = Vec::new();
        for jump in jumps {
            now = now.checked_add(SignedDuration::from_secs(jump)).unwrap();
            if now.duration_since(last) < -LATEST {
                break;
            }
            if let Due::Now(time) = cron.due(last, now) {
                prop_assert!(time <= now && now.duration_since(time) <= LATEST);
                prop_assert!(!done.contains(&time));
                done.push(time);
                last = time;
            }
        }
    }
}
