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
