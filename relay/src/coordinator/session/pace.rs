//! Who is slow.

use super::{MUCH, NOTHING, Name, Parent, SOMEWHAT, Session, TELLING, TOO_OFTEN};
use crate::coordinator::Happened;
use std::time::Duration;

impl Session {
    /// Finds out whether `me` is too slow for where it stands, or gets nothing.
    pub(super) fn judge(&mut self, me: &Name, now: Duration) {
        let mine = &self.members[me];
        let Some(Parent::Peer(above)) = mine.parent.clone() else {
            return;
        };
        let Some(parent) = self.members.get(&above) else {
            return;
        };
        if mine.is_done() || mine.leaf {
            return;
        }
        let since = now.saturating_sub(mine.since);
        let nothing = since >= NOTHING
            && mine.came_in(NOTHING, now) == Some(0)
            && (parent.is_done() || parent.came_in(NOTHING, now) >= Some(TELLING));
        if nothing {
            let (told_by, ip) = (mine.address, parent.address.ip());
            self.notices.push((ip, Happened::Silent { told_by }));
            self.avoid(me, &above);
            self.blame(me, &above, now);
            return;
        }
        let is_slow = |(time, percent): (Duration, u64)| {
            let (Some(mine), Some(parents)) = (mine.came_in(time, now), parent.came_in(time, now))
            else {
                return false;
            };
            since >= time && parents >= TELLING && mine * 100 < parents * percent
        };
        let holds_up = !parent.is_done() && self.has_proper_child(me, me);
        if holds_up && (is_slow(MUCH) || is_slow(SOMEWHAT)) {
            self.slow(me, &above, now);
        }
    }

    /// `me` goes to the end. A parent whose every child is slow is slow itself.
    pub(super) fn slow(&mut self, me: &Name, above: &Name, now: Duration) {
        let mut about = me.clone();
        if let Some(parent) = self.members.get_mut(above) {
            parent.slow_children += 1;
            if parent.slow_children >= TOO_OFTEN {
                about.clone_from(above);
            }
        }
        let ip = self.members[&about].address.ip();
        self.notices.push((ip, Happened::Slow));
        self.retire(&about, now);
    }
}
