//! Looks at what is on a volume, and reads its map where there is one owner alone. Two signatures at once mean that one
//! is a leftover, and nobody can tell which: such a volume is kept whole.

use super::claims::{self, Claim, Claims, Contested, Filesystem, Level, Owner, Says};
use super::lvm::GroupState;
use super::{Label, Untrusted, btrfs, exfat, ext, f2fs, fat, lvm, ntfs, swap, xfs};
use crate::extents::Extents;
use crate::source::ReadAt;
use crate::table::PartitionKind;

/// What is on a volume.
pub(super) struct Found {
    /// Empty when nothing was recognised, or too much.
    pub(super) name: String,
    pub(super) label: Label,
    pub(super) map: Result<Extents, Untrusted>,
    /// What of it is kept whole although there is a map.
    pub(super) remark: String,
    /// Who else may own it.
    pub(super) contested: Vec<Contested>,
    pub(super) claims: Vec<Claim>,
    /// The furthest that any filesystem on it says it goes, in bytes.
    pub(super) end: u64,
    /// Of a physical volume of LVM.
    pub(super) group: Option<GroupState>,
}

impl Found {
    pub(super) fn whole(name: &str, doubt: Untrusted, claims: Vec<Claim>) -> Self {
        Self {
            name: name.into(),
            label: Label::default(),
            map: Err(doubt),
            remark: String::new(),
            contested: Vec::new(),
            claims,
            end: 0,
            group: None,
        }
    }

    /// Gives the map up: somebody else may own the blocks.
    pub(super) fn dispute(&mut self, why: String, by: Contested) {
        if self.contested.is_empty() {
            self.contested = self.claims.iter().map(Contested::from).collect();
        }
        self.contested.push(by);
        self.give_up(why);
    }

    /// Keeps every block of it.
    pub(super) fn give_up(&mut self, why: String) {
        if self.map.is_ok() {
            self.map = Err(Untrusted::new(why));
            self.remark = String::new();
        }
    }

    /// Whether there are hashes of dm-verity on it.
    pub(super) fn is_verity(&self) -> bool {
        self.claims.iter().any(|claim| claim.owner == Owner::Verity)
    }
}

/// How a filesystem is read.
struct Reader {
    label: fn(&dyn ReadAt) -> Result<Label, Untrusted>,
    map: fn(&dyn ReadAt) -> Result<Extents, Untrusted>,
}

fn reader(filesystem: Filesystem) -> Reader {
    macro_rules! of {
        ($module:ident) => {
            Reader {
                label: $module::label,
                map: $module::map,
            }
        };
    }
    match filesystem {
        Filesystem::Ext => of!(ext),
        Filesystem::Fat => of!(fat),
        Filesystem::Swap => of!(swap),
        Filesystem::Xfs => of!(xfs),
        Filesystem::Btrfs => of!(btrfs),
        Filesystem::Ntfs => of!(ntfs),
        Filesystem::Exfat => of!(exfat),
        Filesystem::F2fs => of!(f2fs),
    }
}

/// Recognises what is on `volume`, a partition of the type `kind` or a disk without a table, and reads its map, through
/// logical volumes if there are any.
pub(super) fn look(volume: &dyn ReadAt, kind: Option<&PartitionKind>) -> Found {
    let claims = Claims::of(volume, Level::Within);
    let says = kind.map_or(Says::Anything, Says::from);
    let mut found = match claims.only() {
        Some(claim) if claim.owner == Owner::Lvm2 => look_into_lvm(volume, claim.clone()),
        _ => look_plain(volume, claims),
    };
    if let (Some(kind), [claim]) = (kind, found.claims.as_slice())
        && claim.is_readable()
        && !says.allows(claim)
    {
        let why = says.why(kind, claim);
        found.dispute(why, Contested::by(format!("the type {kind}")));
    }
    found
}

fn look_into_lvm(volume: &dyn ReadAt, claim: Claim) -> Found {
    let (map, remark, group) = match lvm::map(volume) {
        Ok(mapped) => {
            let remark = mapped.remarks.join("; ");
            (Ok(mapped.kept), remark, Some(mapped.state))
        }
        Err(doubt) => (Err(doubt), String::new(), lvm::state_of(volume)),
    };
    Found {
        label: lvm::label(volume).unwrap_or_default(),
        map,
        remark,
        group,
        ..Found::whole(claim.name, Untrusted::new(""), vec![claim])
    }
}

/// What the signatures on `volume` say, without a look at its map.
pub(super) fn recognise(volume: &dyn ReadAt) -> (String, Label) {
    let claims = Claims::of(volume, Level::Within);
    let label = match claims.only().map(|claim| claim.owner) {
        Some(Owner::Filesystem(filesystem)) => (reader(filesystem).label)(volume),
        Some(Owner::Lvm2) => lvm::label(volume),
        _ => Ok(Label::default()),
    };
    (claims.names(), label.unwrap_or_default())
}

/// What is in a logical volume: a volume that has none within.
pub(super) fn look_within(volume: &dyn ReadAt) -> Found {
    let claims = Claims::of(volume, Level::Within);
    look_plain(volume, claims)
}

fn look_plain(volume: &dyn ReadAt, claims: Claims) -> Found {
    let end = furthest(volume, &claims.list);
    let mut found = if let Some(claim) = claims.only().cloned() {
        look_at(volume, claim)
    } else {
        unowned(claims)
    };
    found.end = end;
    found
}

/// What nobody is known to own, or more than one claims.
fn unowned(claims: Claims) -> Found {
    let contested = if claims.list.len() > 1 {
        claims.contested()
    } else {
        Vec::new()
    };
    let doubt = match (&claims.unread, claims.list.as_slice()) {
        (Some(error), _) => {
            Untrusted::new(format!("its signatures could not all be read: {error}"))
        }
        (None, []) => Untrusted::new("nothing was recognised here"),
        (None, _) => Untrusted::new(format!("it could be {}", claims.names())),
    };
    Found {
        contested,
        ..Found::whole("", doubt, claims.list)
    }
}

fn look_at(volume: &dyn ReadAt, claim: Claim) -> Found {
    let Owner::Filesystem(filesystem) = claim.owner else {
        let doubt = if claim.owner == Owner::Lvm2 {
            "LVM2 within LVM2 is kept as it is".into()
        } else {
            format!("{} is kept as it is", claim.name)
        };
        return Found::whole(claim.name, Untrusted::new(doubt), vec![claim]);
    };
    let Reader { label, map } = reader(filesystem);
    let mut found = Found {
        label: label(volume).unwrap_or_default(),
        map: map(volume),
        ..Found::whole(claim.name, Untrusted::new(""), vec![claim])
    };
    if has_hashes_behind(volume, filesystem) {
        let why = "dm-verity has hashes of all its blocks, free ones too, right behind it";
        found.dispute(why.into(), Contested::by("dm-verity"));
    }
    found
}

/// `veritysetup --hash-offset` takes any multiple of a sector behind the filesystem; people take the next round number.
const VERITY_ALIGNMENT: u64 = 512;
const VERITY_WITHIN: u64 = 64 << 20;

/// Whether hashes of dm-verity begin behind the filesystem, where it ends or not far from there.
fn has_hashes_behind(volume: &dyn ReadAt, filesystem: Filesystem) -> bool {
    const PIECE: u64 = 1 << 20;
    let Ok(end) = claims::end(filesystem, volume) else {
        return false;
    };
    let mut at = end - end % VERITY_ALIGNMENT;
    let last = volume.size().min(at.saturating_add(VERITY_WITHIN));
    while at < last {
        let length = PIECE.min(last - at);
        let piece = usize::try_from(length).map(|length| volume.bytes_at(at, length));
        // What cannot be read there may be hashes.
        let Ok(Ok(piece)) = piece else {
            return true;
        };
        if piece
            .chunks(512)
            .any(|sector| sector.starts_with(claims::VERITY))
        {
            return true;
        }
        at += length;
    }
    false
}

fn furthest(volume: &dyn ReadAt, list: &[Claim]) -> u64 {
    let ends = list.iter().filter_map(|claim| match claim.owner {
        Owner::Filesystem(filesystem) => claims::end(filesystem, volume).ok(),
        _ => None,
    });
    ends.max().unwrap_or(0)
}
