//! The machines of one chain, who hangs on whom, and indices over both: no question here costs a look at all machines. What
//! hangs on a machine that moves is looked at, and nothing else.

mod member;

pub use member::{Id, Member, Network, Parent, Rank};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Index;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Members {
    all: BTreeMap<Id, Member>,
    next: u64,
    names: HashMap<String, Id>,
    addresses: HashMap<SocketAddr, Id>,
    hosts: HashMap<IpAddr, usize>,
    seen: BTreeSet<(Duration, Id)>,
    /// Those that the server sends to, and those of them that have not all.
    served: BTreeSet<Id>,
    heads: BTreeSet<Id>,
    /// Where a chain of the proper ends, and one of the slow.
    ends: BTreeSet<Id>,
    slow_ends: BTreeSet<Id>,
    /// In each network, the proper on whom no other one of that network hangs.
    borders: HashMap<Network, BTreeSet<Id>>,
    slow: usize,
}

impl Index<Id> for Members {
    type Output = Member;

    /// Ids come from here and are not kept beyond a word of a machine; those of others are asked for by [`Members::get`].
    fn index(&self, id: Id) -> &Member {
        &self.all[&id]
    }
}

impl Members {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that held others up.
    pub fn slow(&self) -> usize {
        self.slow
    }

    pub fn named(&self, name: &str) -> Option<Id> {
        self.names.get(name).copied()
    }

    pub fn at(&self, address: SocketAddr) -> Option<Id> {
        self.addresses.get(&address).copied()
    }

    pub fn from(&self, host: IpAddr) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    pub fn get(&self, id: Id) -> Option<&Member> {
        self.all.get(&id)
    }

    /// What no index depends on may be changed by this.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Member> {
        self.all.get_mut(&id)
    }

    pub fn served(&self) -> impl Iterator<Item = Id> {
        self.served.iter().copied()
    }

    /// Machines that the server sends to, the first that came first.
    pub fn heads(&self) -> impl Iterator<Item = Id> {
        self.heads.iter().copied()
    }

    /// Where one of `rank` could hang.
    pub fn ends(&self, rank: Rank) -> impl Iterator<Item = Id> {
        let ends = match rank {
            Rank::Slow => &self.slow_ends,
            // A leaf wants to be behind nobody who is slow.
            Rank::Proper | Rank::Leaf => &self.ends,
        };
        ends.iter().copied()
    }

    /// The proper of a network, behind whom its part of a chain ends.
    pub fn borders(&self, network: Network) -> impl Iterator<Item = Id> {
        self.borders.get(&network).into_iter().flatten().copied()
    }

    pub fn add(&mut self, name: &str, address: SocketAddr, now: Duration, partial: bool) -> Id {
        let id = Id(self.next);
        self.next += 1;
        let member = Member::new(name, address, now, partial);
        self.all.insert(id, member);
        self.names.insert(name.to_owned(), id);
        self.addresses.insert(address, id);
        *self.hosts.entry(address.ip()).or_default() += 1;
        self.seen.insert((now, id));
        id
    }

    /// Takes a machine out; its children go to its parent.
    pub fn remove(&mut self, id: Id, now: Duration) {
        if !self.all.contains_key(&id) {
            return;
        }
        self.pass_on_children(id, now);
        self.hang(id, None, now);
        let Some(member) = self.all.remove(&id) else {
            return;
        };
        self.slow -= usize::from(member.rank == Rank::Slow);
        self.names.remove(&member.name);
        if self.at(member.address) == Some(id) {
            self.addresses.remove(&member.address);
        }
        let host = member.address.ip();
        let others = self.from(host).saturating_sub(1);
        if others == 0 {
            self.hosts.remove(&host);
        } else {
            self.hosts.insert(host, others);
        }
        self.seen.remove(&(member.seen, id));
        for index in [
            &mut self.served,
            &mut self.heads,
            &mut self.ends,
            &mut self.slow_ends,
        ] {
            index.remove(&id);
        }
    }

    pub fn saw(&mut self, id: Id, now: Duration) {
        if let Some(member) = self.all.get_mut(&id) {
            self.seen.remove(&(member.seen, id));
            member.seen = now;
            self.seen.insert((now, id));
        }
    }

    /// One that has said nothing since before `then`.
    pub fn silent_since(&self, then: Duration) -> Option<Id> {
        let (seen, id) = self.seen.first()?;
        (*seen < then).then_some(*id)
    }

    /// It has all: it is a source now, and who was its parent may become its child.
    pub fn finish(&mut self, id: Id, now: Duration) {
        let Some(member) = self.all.get_mut(&id) else {
            return;
        };
        member.done = Some(now);
        match member.parent {
            Some(Parent::Server) => self.file(id),
            _ => self.hang(id, None, now),
        }
    }

    pub fn set_rank(&mut self, id: Id, rank: Rank) {
        let Some(member) = self.all.get_mut(&id) else {
            return;
        };
        let (old, parent) = (member.rank, member.parent);
        member.rank = rank;
        member.strikes.0 = 0;
        self.slow += usize::from(rank == Rank::Slow);
        self.slow -= usize::from(old == Rank::Slow);
        if let Some(Parent::Peer(above)) = parent {
            if let Some(above) = self.all.get_mut(&above) {
                above.children.remove(&(old, id));
                above.children.insert((rank, id));
            }
            self.file(above);
        }
        self.file(id);
    }

    /// It does not have all and never will.
    pub fn set_partial(&mut self, id: Id) {
        if let Some(member) = self.all.get_mut(&id) {
            member.partial = true;
        }
        self.file(id);
    }

    /// Hangs a machine on a parent, or on nobody. Who has all gets nothing from anybody.
    pub fn hang(&mut self, id: Id, parent: Option<Parent>, now: Duration) {
        let Some(member) = self.all.get(&id) else {
            return;
        };
        let (rank, old, is_done) = (member.rank, member.parent, member.is_done());
        let parent = parent.filter(|parent| match parent {
            _ if is_done => false,
            Parent::Server => true,
            Parent::Peer(above) => self.all.contains_key(above) && !self.is_below(*above, id),
        });
        if let Some(Parent::Peer(above)) = old {
            if let Some(above) = self.all.get_mut(&above) {
                above.children.remove(&(rank, id));
            }
            self.file(above);
        }
        if let Some(member) = self.all.get_mut(&id) {
            member.placed |= parent.is_some();
            member.parent = parent;
            member.since = now;
            member.strikes.0 = 0;
        }
        if let Some(Parent::Peer(above)) = parent {
            if let Some(above) = self.all.get_mut(&above) {
                above.children.insert((rank, id));
            }
            self.file(above);
        }
        self.file(id);
        self.sink(id);
    }

    /// All children of a machine go to its parent.
    pub fn pass_on_children(&mut self, id: Id, now: Duration) {
        let Some(member) = self.all.get(&id) else {
            return;
        };
        let above = member.parent;
        let children: Vec<Id> = member.children(Rank::Leaf).collect();
        for child in children {
            self.hang(child, above, now);
        }
    }

    /// Whether `id` is `above` or hangs on it, through others too.
    pub fn is_below(&self, id: Id, above: Id) -> bool {
        let mut at = id;
        loop {
            if at == above {
                return true;
            }
            // Who has no children has nobody below.
            if self.all.get(&above).is_none_or(|it| it.children.is_empty()) {
                return false;
            }
            match self.all.get(&at).and_then(|it| it.parent) {
                Some(Parent::Peer(next)) => at = next,
                _ => return false,
            }
        }
    }

    /// Counts anew how far it is from the server, and all that hang on it.
    fn sink(&mut self, id: Id) {
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            let Some(member) = self.all.get(&id) else {
                continue;
            };
            let depth = match member.parent {
                Some(Parent::Server) => Some(0),
                Some(Parent::Peer(above)) => {
                    let above = self.all.get(&above).and_then(|it| it.depth);
                    above.map(|depth| depth.saturating_add(1))
                }
                // Who has all needs nobody; its children stay as deep as they are.
                None if member.is_done() => member.depth.or(Some(0)),
                None => None,
            };
            if depth == member.depth {
                continue;
            }
            left.extend(member.children(Rank::Leaf));
            if let Some(member) = self.all.get_mut(&id) {
                member.depth = depth;
            }
            self.file(id);
        }
    }

    /// Puts a machine into the indices where it belongs.
    fn file(&mut self, id: Id) {
        let Some(member) = self.all.get(&id) else {
            return;
        };
        let is_served = member.parent() == Some(Parent::Server);
        for (index, belongs) in [
            (&mut self.served, is_served),
            (&mut self.heads, is_served && !member.is_done()),
            (&mut self.ends, member.is_end_for(Rank::Proper)),
            (&mut self.slow_ends, member.is_end_for(Rank::Slow)),
        ] {
            if belongs {
                index.insert(id);
            } else {
                index.remove(&id);
            }
        }
        let network = member.network();
        let is_near = |child: Id| self.all.get(&child).map(Member::network) == Some(network);
        if member.may_be_last_of_its_network() && !member.children(Rank::Proper).any(is_near) {
            self.borders.entry(network).or_default().insert(id);
        } else {
            self.no_border(network, id);
        }
    }

    fn no_border(&mut self, network: Network, id: Id) {
        if let Some(borders) = self.borders.get_mut(&network) {
            borders.remove(&id);
            if borders.is_empty() {
                self.borders.remove(&network);
            }
        }
    }
}
