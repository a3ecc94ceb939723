//! Moving a job in the queue. A job that was moved has a number; those with a lower one go first, those without one last. So
//! most moves change one file.

use super::{Locked, Store};
use crate::set::Conflict;
use pitstop_jobs::Job;
use pitstop_protocol::id::Id;

/// Between the numbers of neighbours, so that others fit in.
const GAP: i64 = 1 << 20;

/// Where a job is moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Before(Id),
    Behind(Id),
}

/// Moves the job `id`.
///
/// # Errors
/// [`Conflict`] where one of the two does not wait.
pub fn reorder(store: &Store, id: &Id, to: &To) -> anyhow::Result<()> {
    let locked = store.lock()?;
    let mut open: Vec<Job> = locked.all()?.jobs;
    open.retain(|job| job.state.is_set());
    open.sort_by_cached_key(|job| {
        let claim = job.claim();
        let (turn, batch, place, id) = claim.order();
        (turn, batch.clone(), place, id.clone())
    });
    let find = |open: &[Job], id: &Id| {
        let at = open.iter().position(|job| job.id == *id);
        at.ok_or_else(|| {
            Conflict(format!(
                "the job {id} does not wait: it is over, not due yet, or not here"
            ))
        })
    };
    let job = open.remove(find(&open, id)?);
    let at = match to {
        To::Before(other) => find(&open, other)?,
        To::Behind(other) => find(&open, other)? + 1,
    };
    for (job, turn) in turns(&open, job, at) {
        put(&locked, job, turn)?;
    }
    Ok(())
}

/// The jobs that get a number, so that `job` comes before `open[at]` and behind all before it.
fn turns(open: &[Job], job: Job, at: usize) -> Vec<(Job, i64)> {
    let (before, behind) = open.split_at(at);
    let next = behind.first().and_then(|job| job.turn);
    let last = before.last().map(|job| job.turn);
    let fits = match (last, next) {
        // At the head: before whoever has a number.
        (None, next) => next.unwrap_or(GAP).checked_sub(GAP),
        // Behind the last one with a number.
        (Some(Some(last)), None) => last.checked_add(GAP),
        (Some(Some(last)), Some(next)) => {
            let middle = i64::midpoint(last, next);
            (middle > last).then_some(middle)
        }
        // Those before it have none.
        (Some(None), _) => None,
    };
    if let Some(turn) = fits {
        return vec![(job, turn)];
    }
    // All that come before it get numbers, and those behind it that have one.
    let numbered = behind.iter().take_while(|job| job.turn.is_some());
    let all = before.iter().cloned().chain([job]).chain(numbered.cloned());
    let mut turn = 0;
    all.map(|job| {
        turn += GAP;
        (job, turn)
    })
    .collect()
}

fn put(locked: &Locked, job: Job, turn: i64) -> anyhow::Result<()> {
    if job.turn == Some(turn) {
        return Ok(());
    }
    locked.put(&Job {
        turn: Some(turn),
        ..job
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::Root;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn order(root: &Root) -> Vec<Id> {
        let mut jobs = root.store.all().unwrap().jobs;
        jobs.sort_by_cached_key(|job| {
            let claim = job.claim();
            let (turn, batch, place, id) = claim.order();
            (turn, batch.clone(), place, id.clone())
        });
        jobs.into_iter().map(|job| job.id).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_moves_lead_where_a_list_would(moves in prop::collection::vec((0usize..5, 0usize..5, any::<bool>()), 1..12)) {
            let root = Root::new();
            for number in 1..=5 {
                root.set(number, Timestamp::UNIX_EPOCH);
            }
            let mut list = order(&root);
            for (from, to, behind) in moves {
                if from == to {
                    continue;
                }
                let (id, other) = (list[from].clone(), list[to].clone());
                list.remove(from);
                let at = list.iter().position(|id| *id == other).unwrap() + usize::from(behind);
                list.insert(at, id.clone());
                let to = if behind { To::Behind(other) } else { To::Before(other) };
                reorder(&root.store, &id, &to).unwrap();
                prop_assert_eq!(order(&root), list.clone());
            }
        }
    }

    #[test]
    fn who_does_not_wait_is_not_moved() {
        let root = Root::new();
        let one = root.set(1, Timestamp::UNIX_EPOCH);
        let other = Id::new(Timestamp::UNIX_EPOCH, 99);
        let error = reorder(&root.store, &one.id, &To::Before(other)).unwrap_err();
        assert!(error.is::<Conflict>(), "{error}");
    }
}
