//! Searches.

use super::{Index, IndexError};
use crate::query::{Compiled, Parameter, Query};
use crate::store::rfc3339;
use jiff::Timestamp;
use pitstop_api::inventory::{FirmwareKind, Health, InventoryRow, LastRun, SecureBoot};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql, params_from_iter};

const COLUMNS: &str = "m.folder, m.name, m.groups, m.address, m.mac, m.uuid, m.serial, m.vendor, m.model, m.cpu, \
    m.cores, m.ram, m.firmware, m.secure_boot, m.disks, m.disk_bytes, m.disks_text, m.health, m.seen, m.last_run, \
    m.last_action, m.last_result, m.last_reason, m.last_when";

/// A machine, and its folder in the inventory; that is empty where it never told what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub folder: String,
    pub row: InventoryRow,
}

impl Index {
    /// The machines that `query` is about, by name. `now` is what times are counted from.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn search(&self, query: &Query, now: Timestamp) -> Result<Vec<InventoryRow>, IndexError> {
        let Compiled {
            condition,
            parameters,
        } = query.compile(now);
        let hits = self.select(&condition, &parameters)?;
        Ok(hits.into_iter().map(|hit| hit.row).collect())
    }

    /// The machines that have this name, address, MAC, UUID, serial number or folder: one, unless names are taken twice.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn named(&self, name: &str) -> Result<Vec<Hit>, IndexError> {
        let name = Parameter::Text(name.to_ascii_lowercase());
        let places = [
            "lower(m.name) = ?1",
            "m.address = ?1 OR m.uuid = ?1 OR lower(m.folder) = ?1 OR lower(m.serial) = ?1 \
             OR EXISTS (SELECT 1 FROM nic n WHERE n.machine = m.id AND n.mac = ?1)",
        ];
        for place in places {
            let hits = self.select(place, std::slice::from_ref(&name))?;
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        Ok(Vec::new())
    }

    /// Machines that are known.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn count(&self) -> Result<u64, IndexError> {
        self.with(|connection| {
            connection.query_row("SELECT count(*) FROM machine", [], |row| number(row, 0))
        })
    }

    fn select(&self, condition: &str, parameters: &[Parameter]) -> Result<Vec<Hit>, IndexError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM machine m WHERE {condition} ORDER BY m.name COLLATE NOCASE, m.key"
        );
        self.with(|connection| {
            let mut select = connection.prepare_cached(&sql)?;
            select
                .query_map(params_from_iter(parameters), hit)?
                .collect()
        })
    }
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Number(number) => ValueRef::Integer(*number),
        }))
    }
}

/// Zero where nothing is known.
fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: Option<i64> = row.get(at)?;
    Ok(number.and_then(|it| u64::try_from(it).ok()).unwrap_or(0))
}

fn small(row: &Row<'_>, at: usize) -> rusqlite::Result<u32> {
    number(row, at).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<String> {
    let second: Option<i64> = row.get(at)?;
    let time = second.and_then(|second| Timestamp::from_second(second).ok());
    Ok(time.map(rfc3339).unwrap_or_default())
}

fn hit(row: &Row<'_>) -> rusqlite::Result<Hit> {
    let firmware: String = row.get(12)?;
    let secure_boot: String = row.get(13)?;
    let health: String = row.get(17)?;
    let groups: String = row.get(2)?;
    let run: String = row.get(19)?;
    let last = LastRun {
        action: row.get(20)?,
        result: row.get(21)?,
        reason: row.get(22)?,
        when: time(row, 23)?,
        run,
    };
    Ok(Hit {
        folder: row.get(0)?,
        row: InventoryRow {
            name: row.get(1)?,
            groups: groups.split_whitespace().map(str::to_owned).collect(),
            address: row.get(3)?,
            mac: row.get(4)?,
            uuid: row.get(5)?,
            serial: row.get(6)?,
            vendor: row.get(7)?,
            model: row.get(8)?,
            cpu: row.get(9)?,
            cores: small(row, 10)?,
            ram: number(row, 11)?,
            firmware: one_of(
                &firmware,
                [FirmwareKind::Bios, FirmwareKind::Uefi],
                FirmwareKind::as_str,
            ),
            secure_boot: one_of(
                &secure_boot,
                [SecureBoot::On, SecureBoot::Off],
                SecureBoot::as_str,
            ),
            disks: small(row, 14)?,
            disk_bytes: number(row, 15)?,
            disks_text: row.get(16)?,
            health: one_of(&health, [Health::Ok, Health::Failing], Health::as_str),
            seen: time(row, 18)?,
            last: (!last.run.is_empty()).then_some(last),
        },
    })
}

/// The value of this name; the default one, which is unknown, for any other.
fn one_of<T: Copy + Default, const N: usize>(
    name: &str,
    all: [T; N],
    as_str: fn(T) -> &'static str,
) -> T {
    all.into_iter()
        .find(|one| as_str(*one) == name)
        .unwrap_or_default()
}
