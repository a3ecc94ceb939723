//! Who is to blame for what did not come, and what follows.

use super::{Name, Parent, Session, TOO_OFTEN};
use crate::coordinator::Happened;
use crate::message::{Complaint, Fault};
use std::time::Duration;

impl Session {
    pub(super) fn complaint(&mut self, me: &Name, complaint: Complaint, now: Duration) {
        let Some(about) = self.at(complaint.about).filter(|about| about != me) else {
            return;
        };
        let told_by = self.members[me].address;
        let ip = complaint.about.ip();
        // Of others it can know nothing; and who found fault with too many is believed no more.
        let is_parent = self.members[me].parent == Some(Parent::Peer(about.clone()));
        self.avoid(me, &about);
        if !is_parent || self.members[me].accuses.len() >= TOO_OFTEN {
            self.set_parent(me, None, now);
            return;
        }
        match complaint.fault {
            Fault::Wrong => {
                self.notices.push((ip, Happened::Lied { told_by }));
                self.accuse(me, &about);
                self.retire(&about, now);
            }
            Fault::Silent | Fault::Unreachable => {
                self.notices.push((ip, Happened::Silent { told_by }));
                self.blame(me, &about, now);
            }
            // It has what it wanted for itself alone.
            Fault::Lacks => {
                if let Some(about) = self.members.get_mut(&about) {
                    about.partial = true;
                }
                self.retire(&about, now);
            }
        }
    }

    pub(super) fn avoid(&mut self, me: &Name, about: &Name) {
        if let Some(member) = self.members.get_mut(me) {
            member.avoids.insert(about.clone());
        }
    }

    /// Who says of two others that they lie has the fault itself, most likely.
    pub(super) fn accuse(&mut self, me: &Name, about: &Name) {
        let Some(member) = self.members.get_mut(me) else {
            return;
        };
        member.accuses.insert(about.clone());
        if member.accuses.len() >= TOO_OFTEN && !member.leaf {
            member.leaf = true;
            self.notices.push((member.address.ip(), Happened::Blames));
        }
    }

    /// `about` gives `me` nothing: `me` takes its place, and it goes to the end.
    pub(super) fn blame(&mut self, me: &Name, about: &Name, now: Duration) {
        let was_mine = self.members[me].parent == Some(Parent::Peer(about.clone()));
        let Some(blamed) = self.members.get_mut(about) else {
            return;
        };
        blamed.blamed_by.insert(me.clone());
        let too_often = blamed.blamed_by.len() >= TOO_OFTEN;
        let above = blamed.parent.clone();
        if too_often {
            self.retire(about, now);
        } else if was_mine {
            self.set_parent(me, above, now);
            if !self.members[about].is_done() {
                self.set_parent(about, None, now);
            }
        }
    }
}
