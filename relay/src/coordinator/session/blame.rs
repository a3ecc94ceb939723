//! Who is to blame for what did not come, and what follows.

use super::{Id, Parent, Rank, Session, TOO_OFTEN};
use crate::coordinator::Happened;
use crate::message::{Complaint, Fault};
use std::time::Duration;

impl Session {
    pub(super) fn complaint(&mut self, me: Id, complaint: Complaint, now: Duration) {
        let found = self.members.at(complaint.about);
        let Some(about) = found.filter(|about| *about != me) else {
            return;
        };
        let mine = &self.members[me];
        let told_by = mine.address;
        let ip = complaint.about.ip();
        // Of others it can know nothing; and who found fault with too many is believed no more.
        let is_parent = mine.parent() == Some(Parent::Peer(about));
        let is_believed = is_parent && mine.accuses.len() < TOO_OFTEN;
        self.avoid(me, about);
        if !is_believed {
            self.members.hang(me, None, now);
            return;
        }
        match complaint.fault {
            Fault::Wrong => {
                self.notices.push((ip, Happened::Lied { told_by }));
                self.accuse(me, about);
                self.retire(about, Rank::Leaf, now);
            }
            Fault::Silent | Fault::Unreachable => {
                self.notices.push((ip, Happened::Silent { told_by }));
                self.blame(me, about, now);
            }
            // It has what it wanted for itself alone.
            Fault::Lacks => {
                self.members.set_partial(about);
                self.retire(about, Rank::Leaf, now);
            }
        }
    }

    pub(super) fn avoid(&mut self, me: Id, about: Id) {
        if let Some(member) = self.members.get_mut(me) {
            member.avoids.insert(about);
        }
    }

    /// Who says of two others that they lie has the fault itself, most likely.
    fn accuse(&mut self, me: Id, about: Id) {
        let Some(member) = self.members.get_mut(me) else {
            return;
        };
        member.accuses.insert(about);
        if member.accuses.len() >= TOO_OFTEN && member.rank() != Rank::Leaf {
            let ip = member.address.ip();
            self.members.set_rank(me, Rank::Leaf);
            self.notices.push((ip, Happened::Blames));
        }
    }

    /// `about` gives `me` nothing: `me` takes its place, and it goes to the end.
    pub(super) fn blame(&mut self, me: Id, about: Id, now: Duration) {
        let was_mine = self.members[me].parent() == Some(Parent::Peer(about));
        let Some(blamed) = self.members.get_mut(about) else {
            return;
        };
        blamed.blamed_by.insert(me);
        let too_often = blamed.blamed_by.len() >= TOO_OFTEN;
        let (above, is_done) = (blamed.parent(), blamed.is_done());
        if too_often {
            self.retire(about, Rank::Leaf, now);
        } else if was_mine {
            self.members.hang(me, above, now);
            if !is_done {
                self.members.hang(about, None, now);
            }
        }
    }
}
