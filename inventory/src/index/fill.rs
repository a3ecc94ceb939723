//! Machines into the index: those that told what they are, those of the fleet file, and those of which runs are known.

use super::{Index, IndexError};
use crate::diff::disk_line;
use crate::identity::macs;
use crate::store::{Known, shown};
use jiff::Timestamp;
use pitstop_api::inventory::{Disk, Facts, Health};
use rusqlite::{Transaction, params};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A machine of the fleet file, and what tells it from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Named {
    pub name: String,
    pub groups: Vec<String>,
    pub macs: Vec<String>,
    pub address: String,
    pub uuid: String,
    pub serial: String,
}

/// A row of `machine` as it is to be.
struct Wanted<'a> {
    key: String,
    stamp: String,
    folder: &'a str,
    facts: &'a Facts,
    named: Option<&'a Named>,
    name: String,
}

/// Whom a run says that it is of.
struct Owner {
    id: i64,
    mac: String,
    address: String,
    name: String,
}

impl Index {
    /// Brings the machines to what is known now: of those that did not change nothing is written.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn sync_machines(&self, known: &[Known], fleet: &[Named]) -> Result<(), IndexError> {
        self.with(|connection| {
            let change = connection.transaction()?;
            let owners = owners(&change)?;
            let machines = rows(known, fleet);
            let (links, lonely) = linked(&machines, &owners);
            let strangers: Vec<Facts> = lonely.iter().map(|owner| told_by_runs(owner)).collect();
            let mut wanted = machines;
            wanted.extend(strangers.iter().map(of_runs));
            write(&change, &wanted)?;
            link(&change, &links)?;
            set_last(&change)?;
            change.commit()
        })
    }
}

/// Machines with facts, then those of the fleet file that have none.
fn rows<'a>(known: &'a [Known], fleet: &'a [Named]) -> Vec<Wanted<'a>> {
    static NOTHING: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);
    let names = Names::new(fleet);
    let mut used = vec![false; fleet.len()];
    let mut wanted: Vec<Wanted> = Vec::new();
    for machine in known {
        let at = names.find(&machine.facts);
        if let Some(at) = at {
            used[at] = true;
        }
        let in_fleet = at.map(|at| &fleet[at]);
        let name = in_fleet.map_or_else(
            || shown(&machine.facts, &machine.folder),
            |named| named.name.clone(),
        );
        wanted.push(Wanted {
            key: format!("facts:{}", machine.folder),
            stamp: format!(
                "{}-{}-{:x}",
                machine.stamp,
                machine.facts.taken,
                hash(&in_fleet)
            ),
            folder: &machine.folder,
            facts: &machine.facts,
            named: in_fleet,
            name,
        });
    }
    let rest = fleet.iter().zip(used).filter(|(_, used)| !used);
    wanted.extend(rest.map(|(named, _)| Wanted {
        key: format!("fleet:{}", named.name),
        stamp: format!("{:x}", hash(&named)),
        folder: "",
        facts: &NOTHING,
        named: Some(named),
        name: named.name.clone(),
    }));
    wanted
}

/// A machine of which nothing but runs is known.
fn told_by_runs(owner: &Owner) -> Facts {
    Facts {
        name: owner.name.clone(),
        address: owner.address.clone(),
        mac: owner.mac.clone(),
        ..Facts::default()
    }
}

fn of_runs(facts: &Facts) -> Wanted<'_> {
    let told = [&facts.mac, &facts.address, &facts.name];
    let key = told.into_iter().find(|text| !text.is_empty());
    let key = key.map_or("", |text| text.as_str());
    Wanted {
        key: format!("run:{key}"),
        stamp: format!("{}-{}", facts.name, facts.address),
        folder: "",
        facts,
        named: None,
        name: shown(facts, key),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The fleet file by what tells machines from each other, the surest first.
struct Names<'a> {
    by: [HashMap<&'a str, usize>; 4],
}

impl<'a> Names<'a> {
    fn new(fleet: &'a [Named]) -> Self {
        let mut by: [HashMap<&str, usize>; 4] = Default::default();
        for (at, named) in fleet.iter().enumerate() {
            by[0].insert(&named.uuid, at);
            by[1].extend(named.macs.iter().map(|mac| (mac.as_str(), at)));
            by[2].insert(&named.serial, at);
            by[3].insert(&named.address, at);
        }
        for map in &mut by {
            map.remove("");
        }
        Self { by }
    }

    fn find(&self, facts: &Facts) -> Option<usize> {
        let [uuids, cards, serials, addresses] = &self.by;
        uuids
            .get(facts.uuid.as_str())
            .or_else(|| macs(facts).into_iter().find_map(|mac| cards.get(mac)))
            .or_else(|| serials.get(facts.system.serial.as_str()))
            .or_else(|| addresses.get(facts.address.as_str()))
            .copied()
    }
}

fn owners(change: &Transaction<'_>) -> rusqlite::Result<Vec<Owner>> {
    let mut select = change.prepare("SELECT id, mac, address, name FROM owner")?;
    let owners = select.query_map([], |row| {
        Ok(Owner {
            id: row.get(0)?,
            mac: row.get(1)?,
            address: row.get(2)?,
            name: row.get(3)?,
        })
    })?;
    owners.collect()
}

/// Which machine each owner of runs is, by key; and one owner of each machine of which nothing else is known.
fn linked<'a>(wanted: &[Wanted], owners: &'a [Owner]) -> (Vec<(i64, String)>, Vec<&'a Owner>) {
    let mut by_mac: HashMap<&str, &str> = HashMap::new();
    let mut by_address: HashMap<&str, &str> = HashMap::new();
    for row in wanted {
        for mac in macs(row.facts) {
            by_mac.insert(mac, &row.key);
        }
        if let Some(named) = row.named {
            by_mac.extend(
                named
                    .macs
                    .iter()
                    .map(|mac| (mac.as_str(), row.key.as_str())),
            );
            by_address.insert(&named.address, &row.key);
        }
    }
    for row in wanted {
        by_address.entry(&row.facts.address).or_insert(&row.key);
    }
    by_address.remove("");
    let mut links = Vec::new();
    let mut lonely: HashMap<String, &Owner> = HashMap::new();
    for owner in owners {
        // An address alone is of whoever has it now: a card says more.
        let known = match owner.mac.as_str() {
            "" => by_address.get(owner.address.as_str()),
            mac => by_mac.get(mac),
        };
        let key = if let Some(key) = known {
            (*key).to_owned()
        } else {
            let key = of_runs(&told_by_runs(owner)).key;
            lonely.insert(key.clone(), owner);
            key
        };
        links.push((owner.id, key));
    }
    (links, lonely.into_values().collect())
}

fn write(change: &Transaction<'_>, wanted: &[Wanted]) -> rusqlite::Result<()> {
    let mut there: HashMap<String, (i64, String)> = change
        .prepare("SELECT key, id, stamp FROM machine")?
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect::<rusqlite::Result<_>>()?;
    for row in wanted {
        match there.remove(&row.key) {
            Some((_, stamp)) if stamp == row.stamp => {}
            Some((id, _)) => {
                remove(change, id)?;
                insert(change, Some(id), row)?;
            }
            None => insert(change, None, row)?,
        }
    }
    for (id, _) in there.into_values() {
        remove(change, id)?;
    }
    Ok(())
}

fn remove(change: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    change
        .prepare_cached("DELETE FROM machine WHERE id = ?")?
        .execute([id])?;
    change
        .prepare_cached("DELETE FROM disk WHERE machine = ?")?
        .execute([id])?;
    change
        .prepare_cached("DELETE FROM nic WHERE machine = ?")?
        .execute([id])?;
    change
        .prepare_cached("DELETE FROM grp WHERE machine = ?")?
        .execute([id])?;
    Ok(())
}

/// Nothing, where a number says that nothing is known.
fn known(number: u64) -> Option<i64> {
    (number != 0).then(|| i64::try_from(number).unwrap_or(i64::MAX))
}

fn insert(change: &Transaction<'_>, id: Option<i64>, row: &Wanted) -> rusqlite::Result<()> {
    let facts = row.facts;
    let groups = row
        .named
        .map(|named| named.groups.clone())
        .unwrap_or_default();
    let address = row
        .named
        .map(|named| named.address.as_str())
        .unwrap_or_default();
    let address = if facts.address.is_empty() {
        address
    } else {
        &facts.address
    };
    let sizes = facts.disks.iter().map(|disk| disk.size);
    let bytes = sizes.fold(0_u64, u64::saturating_add);
    // Of a machine that never told, not even that is known.
    let disks = (facts.version != 0).then_some(facts.disks.len());
    let seen: Option<Timestamp> = facts.taken.parse().ok();
    let all_macs = cards(row);
    let mac = if facts.mac.is_empty() {
        all_macs.first().map_or("", |mac| mac.as_str())
    } else {
        &facts.mac
    };
    change
        .prepare_cached(
            "INSERT INTO machine (id, key, stamp, folder, name, groups, address, mac, uuid, serial, vendor, model, \
             board_vendor, board_model, board_serial, chassis_serial, cpu, sockets, cores, threads, ram, disks, \
             disk_bytes, disks_text, health, firmware, firmware_vendor, firmware_version, secure_boot, seen, words) \
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )?
        .execute(params![
            id,
            row.key,
            row.stamp,
            row.folder,
            row.name,
            groups.join(" "),
            address,
            mac,
            or_named(&facts.uuid, row.named.map(|named| &named.uuid)),
            or_named(&facts.system.serial, row.named.map(|named| &named.serial)),
            facts.system.vendor,
            facts.system.product,
            facts.board.vendor,
            facts.board.product,
            facts.board.serial,
            facts.chassis.serial,
            facts.cpu.model,
            known(facts.cpu.sockets.into()),
            known(facts.cpu.cores.into()),
            known(facts.cpu.threads.into()),
            known(facts.ram.installed),
            disks.and_then(|count| i64::try_from(count).ok()),
            i64::try_from(bytes).unwrap_or(i64::MAX),
            disks_text(&facts.disks),
            worst(&facts.disks).as_str(),
            facts.firmware.kind.as_str(),
            facts.firmware.vendor,
            facts.firmware.version,
            facts.firmware.secure_boot.as_str(),
            seen.map(Timestamp::as_second),
            words(row, &groups, address, &all_macs),
        ])?;
    parts(
        change,
        change.last_insert_rowid(),
        facts,
        &groups,
        &all_macs,
    )
}

fn or_named<'a>(told: &'a str, named: Option<&'a String>) -> &'a str {
    match named {
        Some(named) if told.is_empty() => named,
        _ => told,
    }
}

/// Also those that only the fleet file knows.
fn cards(row: &Wanted) -> Vec<String> {
    let named = row
        .named
        .map(|named| named.macs.as_slice())
        .unwrap_or_default();
    let mut all: Vec<String> = macs(row.facts).into_iter().map(str::to_owned).collect();
    all.extend_from_slice(named);
    let mut seen = Vec::new();
    all.retain(|mac| {
        let is_new = !seen.contains(mac);
        seen.push(mac.clone());
        is_new
    });
    all
}

fn parts(
    change: &Transaction<'_>,
    id: i64,
    facts: &Facts,
    groups: &[String],
    macs: &[String],
) -> rusqlite::Result<()> {
    let mut insert = change.prepare_cached("INSERT INTO disk VALUES (?,?,?,?,?,?,?,?)")?;
    for disk in &facts.disks {
        insert.execute(params![
            id,
            disk.model,
            disk.serial,
            disk.wwn,
            disk.bus,
            known(disk.size),
            disk.health.as_str(),
            disk.wear
        ])?;
    }
    let mut insert = change.prepare_cached("INSERT INTO nic VALUES (?,?,?,?,?)")?;
    for nic in &facts.nics {
        insert.execute(params![id, nic.mac, nic.driver, nic.speed, nic.pci])?;
    }
    let told = |mac: &String| facts.nics.iter().any(|nic| nic.mac == *mac);
    for mac in macs.iter().filter(|mac| !told(mac)) {
        insert.execute(params![id, mac, "", None::<u32>, ""])?;
    }
    let mut insert = change.prepare_cached("INSERT INTO grp VALUES (?,?)")?;
    for group in groups {
        insert.execute(params![id, group])?;
    }
    Ok(())
}

fn disks_text(disks: &[Disk]) -> String {
    let lines = disks.iter().map(|disk| match disk.health {
        Health::Unknown => disk_line(disk),
        health => format!("{}: {}", disk_line(disk), health.as_str()),
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// Unknown is worse than right, unless nothing is known of any.
fn worst(disks: &[Disk]) -> Health {
    let own = disks.iter().filter(|disk| !disk.removable);
    own.map(|disk| disk.health).max().unwrap_or_default()
}

fn words(row: &Wanted, groups: &[String], address: &str, macs: &[String]) -> String {
    let facts = row.facts;
    let mut words = vec![
        row.name.as_str(),
        &facts.name,
        address,
        &facts.uuid,
        &facts.system.vendor,
        &facts.system.product,
        &facts.system.serial,
        &facts.board.vendor,
        &facts.board.product,
        &facts.board.serial,
        &facts.chassis.serial,
        &facts.cpu.model,
        &facts.firmware.version,
    ];
    for disk in &facts.disks {
        words.extend([disk.model.as_str(), &disk.serial, &disk.wwn]);
    }
    words.extend(facts.nics.iter().map(|nic| nic.driver.as_str()));
    words.extend(groups.iter().map(String::as_str));
    words.extend(macs.iter().map(String::as_str));
    words.join("\n").to_ascii_lowercase()
}

fn link(change: &Transaction<'_>, links: &[(i64, String)]) -> rusqlite::Result<()> {
    let mut set = change.prepare_cached(
        "UPDATE owner SET machine = (SELECT id FROM machine WHERE key = ?2) \
         WHERE id = ?1 AND machine IS NOT (SELECT id FROM machine WHERE key = ?2)",
    )?;
    for (owner, key) in links {
        set.execute(params![owner, key])?;
    }
    Ok(())
}

/// The last run of each machine into its row.
fn set_last(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute(
        "WITH newest AS ( \
           SELECT o.machine AS machine, r.id, r.at, r.action, r.result, r.reason, \
             row_number() OVER (PARTITION BY o.machine ORDER BY r.at DESC, r.id DESC) AS place \
           FROM owner o JOIN run r ON r.id = \
             (SELECT id FROM run WHERE owner = o.id ORDER BY at DESC, id DESC LIMIT 1) \
           WHERE o.machine IS NOT NULL) \
         UPDATE machine SET last_run = n.id, last_action = n.action, last_result = n.result, \
           last_reason = n.reason, last_when = n.at \
         FROM newest n WHERE n.machine = machine.id AND n.place = 1 \
           AND (machine.last_run IS NOT n.id OR machine.last_result IS NOT n.result OR machine.last_when IS NOT n.at \
             OR machine.last_action IS NOT n.action OR machine.last_reason IS NOT n.reason)",
        [],
    )?;
    Ok(())
}
