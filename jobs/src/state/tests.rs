use super::*;
use crate::job::sample;
use proptest::prelude::*;

fn run(number: u8) -> Id {
    Id::new(Timestamp::UNIX_EPOCH, number.into())
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn after(what: &[Happened]) -> Job {
    let mut job = sample();
    for happened in what {
        job.apply(happened, now());
    }
    job
}

fn granted(number: u8) -> Happened {
    Happened::Granted { run: run(number) }
}

fn failed(number: u8, again: bool) -> Happened {
    Happened::Failed {
        run: run(number),
        reason: "no disk".into(),
        again,
    }
}

#[test]
fn a_job_goes_from_set_to_done() {
    let mut job = sample();
    assert_eq!(job.state, State::Waiting);
    assert_eq!(job.apply(&Happened::Came, now()), Effect::Changed);
    assert_eq!(job.state, State::Queued);
    assert_eq!(job.apply(&granted(1), now()), Effect::Changed);
    assert_eq!(job.apply(&granted(1), now()), Effect::None, "said twice");
    assert_eq!((job.state, job.attempts), (State::Running, 1));
    let done = Happened::Done { run: run(1) };
    assert_eq!(job.apply(&done, now()), Effect::Ended);
    assert_eq!(job.apply(&done, now()), Effect::None, "said twice");
    assert_eq!((job.state, job.verdict), (State::Done, Some(Verdict::Ok)));
}

#[test]
fn a_failed_try_waits_for_the_next_and_the_last_one_ends_the_job() {
    let job = after(&[granted(1), failed(1, true)]);
    assert_eq!((job.state, job.ended), (State::Waiting, None));
    assert_eq!(job.reason.as_deref(), Some("no disk"));
    let job = after(&[granted(1), failed(1, true), granted(2), failed(2, false)]);
    assert_eq!((job.state, job.attempts), (State::Failed, 2));
    // Somebody switched it on again: the host file is still there.
    let job = after(&[granted(1), failed(1, false), granted(2)]);
    assert_eq!((job.state, job.ended), (State::Running, None));
}

#[test]
fn a_run_that_is_over_begins_nothing_again() {
    for end in [
        Happened::Done { run: run(1) },
        failed(1, true),
        failed(1, false),
    ] {
        let mut job = after(&[granted(1), end]);
        let before = (job.state, job.verdict);
        assert_eq!(job.apply(&granted(1), now()), Effect::None);
        assert_eq!((job.state, job.verdict), before);
        assert_eq!(job.apply(&granted(2), now()), Effect::Changed);
        assert_eq!(job.apply(&granted(1), now()), Effect::None);
        assert_eq!(job.runs, [run(1), run(2)]);
    }
    // Its answer may have been lost, or its words for a while.
    let silent = Happened::Silent { run: Some(run(1)) };
    let back = after(&[granted(1), silent, granted(1)]);
    assert_eq!((back.state, back.attempts), (State::Running, 1));
}

#[test]
fn a_silent_machine_is_waited_for_and_taken_back_when_it_speaks() {
    let silent = Happened::Silent { run: Some(run(1)) };
    let job = after(&[granted(1), silent.clone()]);
    assert_eq!(
        (job.state, job.verdict),
        (State::Waiting, Some(Verdict::Lost))
    );
    let back = after(&[granted(1), silent.clone(), Happened::Beat { run: run(1) }]);
    assert_eq!(back.state, State::Running);
    let done = after(&[granted(1), silent.clone(), Happened::Done { run: run(1) }]);
    assert_eq!(done.state, State::Done);
    // An older try of the same machine has nothing to say.
    let late = after(&[
        granted(1),
        granted(2),
        silent,
        Happened::Beat { run: run(1) },
    ]);
    assert_eq!((late.state, late.runs.len()), (State::Running, 2));
    let stale = after(&[granted(1), granted(2), failed(1, false)]);
    assert_eq!(stale.state, State::Running);
}

#[test]
fn a_withdrawn_job_is_not_begun_and_stays_withdrawn() {
    let by = || Happened::Cancelled { by: "root".into() };
    for first in [by(), Happened::Superseded { by: run(9) }] {
        let job = after(&[first, granted(1), Happened::Came]);
        assert!(job.state.is_withdrawn());
        assert!(job.runs.is_empty());
    }
    let job = after(&[granted(1), by(), Happened::Done { run: run(1) }]);
    assert!(job.state.is_withdrawn());
    let done = after(&[granted(1), Happened::Done { run: run(1) }, by()]);
    assert_eq!(done.state, State::Done, "what is over is not cancelled");
}

#[test]
fn a_job_at_work_tells_its_own_end_though_another_took_its_place() {
    let next = || Happened::Superseded { by: run(9) };
    let mut job = after(&[granted(1)]);
    assert_eq!(job.apply(&next(), now()), Effect::Changed);
    assert_eq!(
        (job.state, job.superseded_by.clone()),
        (State::Running, Some(run(9)))
    );
    // Its host file is the other job's, and tells nothing of it.
    let gone = crate::evidence::Evidence::default();
    assert_eq!(job.seen(&gone), None);
    let done = Happened::Done { run: run(1) };
    assert_eq!(job.apply(&done, now()), Effect::Ended);
    assert_eq!((job.state, job.verdict), (State::Done, Some(Verdict::Ok)));
    let given_up = after(&[granted(1), next(), failed(1, false)]);
    assert_eq!(given_up.state, State::Failed);
    // It would be done again, and has no host file for that.
    let silent = Happened::Silent { run: Some(run(1)) };
    for last in [failed(1, true), silent, Happened::Came] {
        let mut job = after(&[granted(1), next()]);
        assert_eq!(job.apply(&last, now()), Effect::Ended, "{last:?}");
        assert_eq!(job.state, State::Superseded);
        assert!(!job.may_be_at_work());
    }
}

#[test]
fn a_machine_that_comes_to_the_door_again_is_not_at_work() {
    let cancel = Happened::Cancelled { by: "root".into() };
    let job = after(&[granted(1), Happened::Came, cancel]);
    assert!(!job.may_be_at_work());
}

#[test]
fn of_a_withdrawn_job_it_is_known_whether_the_machine_is_still_at_work() {
    let cancel = Happened::Cancelled { by: "root".into() };
    let mut job = after(&[granted(1), failed(1, true), granted(2), cancel]);
    assert!(job.is_at_work(&run(2)) && !job.is_at_work(&run(1)));
    let silent = Happened::Silent { run: Some(run(2)) };
    assert_eq!(job.apply(&silent, now()), Effect::Changed);
    assert!(job.is_at_work(&run(2)), "it may only be cut off");
    let done = Happened::Done { run: run(2) };
    assert_eq!(job.apply(&done, now()), Effect::Changed);
    assert_eq!(job.apply(&done, now()), Effect::None);
    assert_eq!(
        (job.state, job.verdict),
        (State::Cancelled, Some(Verdict::Ok))
    );
    assert!(!job.is_at_work(&run(2)));
}

#[test]
fn a_word_of_a_try_that_has_failed_begins_nothing() {
    let beat = Happened::Beat { run: run(1) };
    let job = after(&[granted(1), failed(1, true), beat]);
    assert_eq!(job.state, State::Waiting);
}

#[test]
fn what_a_machine_has_written_is_known_until_its_job_is_done() {
    let why = || String::from("golden is being backed up");
    let early = |written| Happened::CameEarly {
        why: why(),
        written,
    };
    let unfed = |written| Happened::Unfed {
        why: "no disk".into(),
        written,
    };
    let after = |what: &[Happened]| {
        let mut job = sample();
        job.follows = Some(run(9));
        let effects: Vec<Effect> = what.iter().map(|what| job.apply(what, now())).collect();
        (job, effects)
    };
    let partly = "its disk has a part of the image and does not boot";
    let reason = |what: &[Happened]| after(what).0.reason.unwrap_or_default();
    assert_eq!(reason(&[early(false)]), why());
    // It is started again, and has written nothing since.
    let started_again = [early(true), early(false)];
    assert_eq!(reason(&started_again), format!("{}; {partly}", why()));
    let silent = Happened::Silent { run: None };
    assert_eq!(reason(&[early(true), silent.clone()]), partly);
    let unfed_later = [early(true), silent, unfed(false)];
    assert_eq!(reason(&unfed_later), format!("no disk; {partly}"));

    // It says so when its job has come to its end already, which does not end once more.
    let (job, effects) = after(&[early(false), unfed(false), unfed(true), unfed(true)]);
    let (changed, ended) = (Effect::Changed, Effect::Ended);
    assert_eq!(effects, [changed, ended, changed, Effect::None]);
    assert_eq!(job.reason.as_deref(), Some(&*format!("no disk; {partly}")));
    let retried = job.again(run(8), run(8), "root", now());
    assert!(retried.written && !retried.state.is_over());

    let (job, _) = after(&[early(true), granted(1), failed(1, true)]);
    assert!(job.written);
    let done = Happened::Done { run: run(1) };
    assert!(!after(&[early(true), granted(1), done]).0.written);
}

#[test]
fn a_scheduled_job_begins_when_it_is_due_only() {
    let mut job = sample();
    job.state = State::Scheduled;
    assert_eq!(job.apply(&granted(1), now()), Effect::None);
    assert_eq!(job.apply(&Happened::SeenDone, now()), Effect::None);
    assert_eq!(job.apply(&Happened::Due, now()), Effect::Changed);
    assert_eq!(job.state, State::Waiting);
}

fn happened() -> impl Strategy<Value = Happened> {
    let number = 0u8..4;
    prop_oneof![
        Just(Happened::Due),
        Just(Happened::Came),
        number.clone().prop_map(granted),
        number.clone().prop_map(|n| Happened::Beat { run: run(n) }),
        number.clone().prop_map(|n| Happened::Done { run: run(n) }),
        (number.clone(), any::<bool>()).prop_map(|(n, again)| failed(n, again)),
        prop::option::of(number).prop_map(|n| Happened::Silent { run: n.map(run) }),
        Just(Happened::SeenDone),
        Just(Happened::SeenRunning),
        Just(Happened::SeenRemoved),
        any::<bool>().prop_map(|again| Happened::SeenFailed {
            reason: "x".into(),
            again
        }),
        Just(Happened::Missed {
            reason: "late".into()
        }),
        Just(Happened::Cancelled { by: "root".into() }),
        Just(Happened::Superseded { by: run(9) }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_job_stays_true_to_itself(all in prop::collection::vec(happened(), 0..40)) {
        let mut job = sample();
        let mut withdrawn = None;
        for what in &all {
            let before = job.clone();
            let effect = job.apply(what, now());
            prop_assert_eq!(job.state.is_over(), job.ended.is_some());
            prop_assert_eq!(effect == Effect::None, before == job);
            let is_told = before.state != job.state || before.reason != job.reason;
            prop_assert_eq!(effect == Effect::Ended, is_told && job.state.is_over());
            // Nobody works for a job that was withdrawn, and its end is not told as another.
            if let Some(state) = withdrawn {
                prop_assert_eq!(job.state, state);
            }
            if job.state.is_withdrawn() {
                withdrawn = Some(job.state);
            }
            prop_assert!(job.runs.len() <= MOST_RUNS);
            let text = job.to_toml();
            prop_assert_eq!(Job::parse(&text, "x.toml"), Ok(job.clone()));
        }
    }
}
