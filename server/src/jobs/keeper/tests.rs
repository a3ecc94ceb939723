use super::*;
use crate::jobs::fake::Root;

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
            reason: "cancelled by root".into()
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
