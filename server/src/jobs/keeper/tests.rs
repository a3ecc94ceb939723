use super::*;
use crate::jobs::fake::Root;
use pitstop_protocol::job::ActionName;

fn keeper(root: &Root) -> Keeper {
    let journal = Arc::new(Journal::new(true));
    Keeper::new(root.folder.path(), Duration::from_secs(45), journal)
}

fn run(number: u32) -> Id {
    Id::new(Timestamp::UNIX_EPOCH, number)
}

fn one() -> Limits {
    Limits {
        server: Some(1),
        ..Limits::default()
    }
}

fn says(keeper: &Keeper, job: &Job, number: u32, says: Says) -> Answer {
    let message = CheckIn::new(run(number), says);
    keeper
        .check_in(&job.id, message, &one(), |_| Ok(()))
        .unwrap()
}

fn goes(answer: &Answer) -> bool {
    matches!(answer, Answer::Go { .. })
}

#[test]
fn a_server_that_restarts_forgets_no_slot_and_gives_none_twice() {
    let root = Root::new();
    let first = root.set(15, Timestamp::UNIX_EPOCH);
    let second = root.set(16, Timestamp::UNIX_EPOCH);
    let before = keeper(&root);
    assert!(goes(&says(&before, &first, 1, Says::Ready)));
    assert!(!goes(&says(&before, &second, 2, Says::Ready)));
    assert_eq!(root.now(&second).state, State::Queued);
    drop(before);
    let after = keeper(&root);
    assert!(!goes(&says(&after, &second, 2, Says::Ready)));
    assert_eq!(says(&after, &first, 1, Says::Working), Answer::Noted);
    assert_eq!(says(&after, &first, 1, Says::Done), Answer::Noted);
    assert!(goes(&says(&after, &second, 2, Says::Ready)));
    let states = [&first, &second].map(|job| root.now(job).state);
    assert_eq!(states, [State::Done, State::Running]);
}

#[test]
fn a_job_that_was_withdrawn_is_not_begun_and_takes_no_slot() {
    let root = Root::new();
    let first = root.set(15, Timestamp::UNIX_EPOCH);
    let second = root.set(16, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    let by = Happened::Cancelled { by: "root".into() };
    keeper.change(&first.id, &by).unwrap();
    let answer = says(&keeper, &first, 1, Says::Ready);
    assert_eq!(
        answer,
        Answer::Cancelled {
            reason: "cancelled by root".into(),
            written: false,
        }
    );
    assert!(goes(&says(&keeper, &second, 2, Says::Ready)));
    keeper.change(&second.id, &by).unwrap();
    let told = says(&keeper, &second, 2, Says::Working);
    assert!(matches!(told, Answer::Cancelled { .. }), "{told:?}");
    // A word of a run that is over takes no slot back.
    assert_eq!(locked(&keeper.board).at_work(), 1);
    says(&keeper, &second, 2, Says::Done);
    says(&keeper, &second, 2, Says::Working);
    assert_eq!(locked(&keeper.board).at_work(), 0);
}

#[test]
fn a_machine_that_boots_anew_is_not_at_work_for_the_job_that_was_replaced() {
    let root = Root::new();
    let first = root.set(15, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    assert!(goes(&says(&keeper, &first, 1, Says::Ready)));
    root.set(15, Timestamp::from_second(1).unwrap());
    assert_eq!(says(&keeper, &first, 1, Says::Working), Answer::Noted);
    assert_eq!(root.now(&first).state, State::Running);
    let told = says(&keeper, &first, 2, Says::Ready);
    assert!(matches!(told, Answer::Cancelled { .. }), "{told:?}");
    assert_eq!(root.now(&first).state, State::Superseded);
    assert_eq!(locked(&keeper.board).at_work(), 0);
}

#[test]
fn a_machine_that_falls_silent_in_a_job_that_was_replaced_is_told_of() {
    let root = Root::new();
    let first = root.set(15, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    assert!(goes(&says(&keeper, &first, 1, Says::Ready)));
    root.set(15, Timestamp::from_second(1).unwrap());
    let gone = Gone {
        job: first.id.clone(),
        run: Some(run(1)),
    };
    keeper.note_gone(&gone).unwrap();
    assert_eq!(root.now(&first).state, State::Superseded);
    let told = keeper.journal.last().join("\n");
    assert!(
        told.contains("10.0.2.15 has left its place: no word"),
        "{told}"
    );
}

#[test]
fn a_stranger_and_a_job_that_is_not_there_are_refused() {
    let root = Root::new();
    let job = root.set(15, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    let ask = |id: &Id, may: Result<(), String>| {
        let message = CheckIn::new(run(1), Says::Ready);
        let answer = keeper.check_in(id, message, &one(), |_| may);
        answer.unwrap_err().status
    };
    assert_eq!(ask(&job.id, Err("not yours".into())), StatusCode::FORBIDDEN);
    assert_eq!(ask(&run(9), Ok(())), StatusCode::NOT_FOUND);
    assert_eq!(root.now(&job).state, State::Waiting);
}

#[test]
fn a_word_of_a_run_that_is_over_begins_the_job_no_second_time() {
    let root = Root::new();
    let job = root.set(15, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    assert!(goes(&says(&keeper, &job, 1, Says::Ready)));
    says(&keeper, &job, 1, Says::Done);
    let message = CheckIn::new(run(1), Says::Ready);
    let again = keeper.check_in(&job.id, message, &one(), |_| Ok(()));
    assert_eq!(again.unwrap_err().status, StatusCode::CONFLICT);
    assert_eq!(root.now(&job).state, State::Done);
    assert_eq!(locked(&keeper.board).at_work(), 0);
    // The last word came between the look at the job and the slot.
    let turn = locked(&keeper.board).ask(job.claim(), run(1), &one(), keeper.now());
    assert_eq!(turn, Turn::Go);
    assert_eq!(
        keeper.go(&job, &run(1)).unwrap_err().status,
        StatusCode::CONFLICT
    );
    assert_eq!(locked(&keeper.board).at_work(), 0);
    // Whoever starts the machine again while its host file is there has another run.
    assert!(goes(&says(&keeper, &job, 2, Says::Ready)));
}

#[test]
fn who_is_to_be_backed_up_into_a_folder_that_another_one_writes_waits_and_is_told_why() {
    let root = Root::new();
    let [first, second] = [15, 16].map(|number| {
        let mut job = crate::jobs::fake::job(number, Timestamp::UNIX_EPOCH);
        job.text = "version = 1\nimage = \"golden\"\n".into();
        root.store.lock().unwrap().set(&root.hosts, &job).unwrap();
        job
    });
    let keeper = keeper(&root);
    let ready = |job: &Job, number| {
        let message = CheckIn::new(run(number), Says::Ready);
        let any = Limits::default();
        keeper.check_in(&job.id, message, &any, |_| Ok(())).unwrap()
    };
    assert!(goes(&ready(&first, 1)));
    let Answer::Wait { why: Some(why), .. } = ready(&second, 2) else {
        panic!("it was to wait");
    };
    assert!(
        why.contains("10.0.2.15 is being backed up into golden"),
        "{why}"
    );
    assert_eq!(root.now(&second).state, State::Queued);
    says(&keeper, &first, 1, Says::Done);
    assert!(goes(&ready(&second, 2)));
}

#[test]
fn one_that_waited_when_the_server_ended_has_to_ask_again() {
    let root = Root::new();
    let [first, second] = [15, 16].map(|number| root.set(number, Timestamp::UNIX_EPOCH));
    let before = keeper(&root);
    says(&before, &first, 1, Says::Ready);
    says(&before, &second, 2, Says::Ready);
    assert_eq!(root.now(&second).state, State::Queued);
    let after = keeper(&root);
    assert_eq!(root.now(&second).state, State::Waiting);
    assert!(!goes(&says(&after, &second, 2, Says::Ready)));
    assert_eq!(root.now(&second).state, State::Queued);
}

#[test]
fn a_machine_whose_job_was_withdrawn_has_its_slot_after_a_restart_too() {
    let root = Root::new();
    let [first, second] = [15, 16].map(|number| root.set(number, Timestamp::UNIX_EPOCH));
    let before = keeper(&root);
    says(&before, &first, 1, Says::Ready);
    let by = Happened::Cancelled { by: "root".into() };
    before.change(&first.id, &by).unwrap();
    let after = keeper(&root);
    assert!(!goes(&says(&after, &second, 2, Says::Ready)));
    // Its lease ended, and it works on.
    locked(&after.board).leave(&first.id);
    says(&after, &first, 1, Says::Working);
    assert!(!goes(&says(&after, &second, 2, Says::Ready)));
    says(&after, &first, 1, Says::Done);
    assert_eq!(locked(&keeper(&root).board).at_work(), 0);
    assert!(goes(&says(&after, &second, 2, Says::Ready)));
    assert_eq!(root.now(&first).state, State::Cancelled);
}

#[test]
fn a_word_that_comes_behind_the_last_takes_no_slot_back() {
    let root = Root::new();
    let job = root.set(15, Timestamp::UNIX_EPOCH);
    let keeper = keeper(&root);
    says(&keeper, &job, 1, Says::Ready);
    let read_before = root.now(&job);
    says(&keeper, &job, 1, Says::Done);
    let answer = keeper.working(&read_before, run(1)).unwrap();
    assert_eq!(answer, Answer::Noted);
    assert_eq!(locked(&keeper.board).at_work(), 0);
}

#[test]
fn a_file_that_cannot_be_changed_holds_up_no_other_and_is_changed_later() {
    let root = Root::new();
    let jobs = [15, 16].map(|number| root.set(number, Timestamp::UNIX_EPOCH));
    let journal = Arc::new(Journal::new(true));
    let keeper = Keeper::new(root.folder.path(), Duration::from_millis(1), journal);
    for (number, job) in (1..).zip(&jobs) {
        let ready = CheckIn::new(run(number), Says::Ready);
        let answer = keeper.check_in(&job.id, ready, &Limits::default(), |_| Ok(()));
        assert!(goes(&answer.unwrap()));
    }
    let file = root.folder.path().join("jobs").join(jobs[0].file());
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, "x").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    keeper.note_silence().unwrap_err();
    assert_eq!(root.now(&jobs[1]).state, State::Waiting);
    std::fs::write(&file, text).unwrap();
    keeper.note_silence().unwrap();
    assert_eq!(root.now(&jobs[0]).state, State::Waiting);
}

/// The machine 15 is backed up, and 16 follows it.
fn led(root: &Root) -> (Job, Job) {
    let golden = root.set(15, Timestamp::UNIX_EPOCH);
    let mut second = crate::jobs::fake::job(16, Timestamp::UNIX_EPOCH);
    second.action = ActionName::Restore;
    second.follows = Some(golden.id.clone());
    root.store
        .lock()
        .unwrap()
        .set(&root.hosts, &second)
        .unwrap();
    (golden, second)
}

fn why(answer: &Answer) -> &str {
    match answer {
        Answer::Wait { why: Some(why), .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_follows_a_backup_begins_when_its_image_is_whole_and_takes_no_slot_before() {
    let root = Root::new();
    let (golden, second) = led(&root);
    let keeper = keeper(&root);
    let early = says(&keeper, &second, 2, Says::Ready);
    assert_eq!(why(&early), "10.0.2.15 is to be backed up first");
    assert!(goes(&says(&keeper, &golden, 1, Says::Ready)));
    let early = says(&keeper, &second, 2, Says::Ready);
    assert_eq!(why(&early), "10.0.2.15 is being backed up");
    let waits = root.now(&second);
    assert_eq!(waits.state, State::Queued);
    assert_eq!(waits.reason.as_deref(), Some(why(&early)));
    assert!(keeper.standing().waiting.is_empty());
    // A try that fails and is followed by another one is no end.
    let broke = Says::Failed {
        reason: "no disk".into(),
        again: true,
    };
    says(&keeper, &golden, 1, broke);
    let early = says(&keeper, &second, 2, Says::Ready);
    assert_eq!(why(&early), "10.0.2.15 is to be backed up first");
    says(&keeper, &golden, 3, Says::Ready);
    says(&keeper, &golden, 3, Says::Done);
    assert!(goes(&says(&keeper, &second, 2, Says::Ready)));
    let begun = root.now(&second);
    assert_eq!((begun.state, begun.reason), (State::Running, None));
}

#[test]
fn who_follows_a_backup_that_fails_is_given_up_untouched_and_begins_after_another_one() {
    let root = Root::new();
    let (golden, second) = led(&root);
    let keeper = keeper(&root);
    says(&keeper, &second, 2, Says::Ready);
    says(&keeper, &golden, 1, Says::Ready);
    let broke = Says::Failed {
        reason: "no disk".into(),
        again: false,
    };
    says(&keeper, &golden, 1, broke);
    let reason = "the backup of 10.0.2.15 is failed: no disk";
    // Also where its machine has not come.
    keeper
        .give_up_unfed(&root.store.all().unwrap().jobs)
        .unwrap();
    let given_up = root.now(&second);
    assert_eq!(given_up.state, State::Failed);
    assert_eq!(given_up.reason.as_deref(), Some(reason));
    assert_eq!(given_up.attempts, 0);
    let answer = says(&keeper, &second, 2, Says::Ready);
    let told = Answer::Cancelled {
        reason: reason.into(),
        written: false,
    };
    assert_eq!(answer, told);
    assert_eq!(root.now(&second).state, State::Failed);

    let mut again = crate::jobs::fake::job(15, Timestamp::from_second(60).unwrap());
    again.action = ActionName::BackupAgain;
    root.store.lock().unwrap().set(&root.hosts, &again).unwrap();
    says(&keeper, &second, 4, Says::Ready);
    assert_eq!(root.now(&second).state, State::Queued);
    says(&keeper, &again, 5, Says::Ready);
    says(&keeper, &again, 5, Says::Done);
    assert!(goes(&says(&keeper, &second, 4, Says::Ready)));
}

#[test]
fn a_backup_whose_job_cannot_be_read_for_a_moment_has_not_failed() {
    let root = Root::new();
    let (golden, second) = led(&root);
    let keeper = keeper(&root);
    let file = root.folder.path().join("jobs").join(golden.file());
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, "x").unwrap();
    let jobs = root.store.all().unwrap().jobs;
    keeper.give_up_unfed(&jobs).unwrap_err();
    let ready = CheckIn::new(run(2), Says::Ready);
    let refused = keeper.check_in(&second.id, ready, &one(), |_| Ok(()));
    assert_eq!(
        refused.unwrap_err().status,
        StatusCode::SERVICE_UNAVAILABLE,
        "the machine asks again"
    );
    assert_eq!(root.now(&second).state, State::Waiting);
    std::fs::write(&file, text).unwrap();
    keeper.give_up_unfed(&jobs).unwrap();
    let early = says(&keeper, &second, 2, Says::Ready);
    assert_eq!(why(&early), "10.0.2.15 is to be backed up first");
}

#[test]
fn of_a_machine_that_had_begun_to_write_it_is_said_that_its_disk_does_not_boot() {
    let root = Root::new();
    let (golden, second) = led(&root);
    let keeper = keeper(&root);
    says(&keeper, &golden, 1, Says::Ready);
    let found = keeper.waits_for(&second.id).unwrap();
    assert_eq!(found.map(|job| job.id), Some(golden.id.clone()));
    let ready = CheckIn {
        written: true,
        ..CheckIn::new(run(2), Says::Ready)
    };
    let answer = keeper.check_in(&second.id, ready, &Limits::default(), |_| Ok(()));
    let partly = "; its disk has a part of the image and does not boot";
    let told = format!("10.0.2.15 is being backed up{partly}");
    assert_eq!(why(&answer.unwrap()), told);
    // Started again, it has written nothing since.
    let again = says(&keeper, &second, 3, Says::Ready);
    assert_eq!(why(&again), told);
    let broke = Says::Failed {
        reason: "no disk".into(),
        again: false,
    };
    says(&keeper, &golden, 1, broke);
    assert!(keeper.waits_for(&second.id).unwrap().is_none());
    let jobs = root.store.all().unwrap().jobs;
    keeper.give_up_unfed(&jobs).unwrap();
    let told = format!("the backup of 10.0.2.15 is failed: no disk{partly}");
    assert_eq!(root.now(&second).reason.as_deref(), Some(told.as_str()));
    let told = Answer::Cancelled {
        reason: "the backup of 10.0.2.15 is failed: no disk".into(),
        written: true,
    };
    assert_eq!(says(&keeper, &second, 4, Says::Ready), told);
}
