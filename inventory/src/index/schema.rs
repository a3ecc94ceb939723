//! The tables.

use rusqlite::{Connection, TransactionBehavior};

/// Goes up with every change of the tables, or of what is put into them.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE machine (
    id INTEGER PRIMARY KEY,
    -- What it is made of, and what that was like.
    key TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL,
    folder TEXT NOT NULL, name TEXT NOT NULL, groups TEXT NOT NULL,
    address TEXT NOT NULL, mac TEXT NOT NULL, uuid TEXT NOT NULL, serial TEXT NOT NULL,
    vendor TEXT NOT NULL, model TEXT NOT NULL,
    board_vendor TEXT NOT NULL, board_model TEXT NOT NULL, board_serial TEXT NOT NULL,
    chassis_serial TEXT NOT NULL,
    cpu TEXT NOT NULL, sockets INTEGER, cores INTEGER, threads INTEGER, ram INTEGER,
    disks INTEGER, disk_bytes INTEGER NOT NULL, disks_text TEXT NOT NULL, health TEXT NOT NULL,
    firmware TEXT NOT NULL, firmware_vendor TEXT NOT NULL, firmware_version TEXT NOT NULL,
    secure_boot TEXT NOT NULL, seen INTEGER,
    -- All of it in small letters, for words that are looked for anywhere.
    words TEXT NOT NULL,
    last_run TEXT NOT NULL DEFAULT '', last_action TEXT NOT NULL DEFAULT '',
    last_result TEXT NOT NULL DEFAULT '', last_reason TEXT NOT NULL DEFAULT '', last_when INTEGER
);
CREATE TABLE disk (
    machine INTEGER NOT NULL, model TEXT NOT NULL, serial TEXT NOT NULL, wwn TEXT NOT NULL,
    bus TEXT NOT NULL, size INTEGER, health TEXT NOT NULL, wear INTEGER
);
CREATE INDEX disk_machine ON disk (machine);
CREATE TABLE nic (
    machine INTEGER NOT NULL, mac TEXT NOT NULL, driver TEXT NOT NULL, speed INTEGER, pci TEXT NOT NULL
);
CREATE INDEX nic_machine ON nic (machine);
CREATE TABLE grp (machine INTEGER NOT NULL, name TEXT NOT NULL);
CREATE INDEX grp_machine ON grp (machine);
-- Whom a run says that it is of, and which machine that is.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY, mac TEXT NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL,
    machine INTEGER, UNIQUE (mac, address, name)
);
CREATE INDEX owner_machine ON owner (machine);
CREATE TABLE run (
    id TEXT PRIMARY KEY, owner INTEGER NOT NULL, at INTEGER NOT NULL, action TEXT NOT NULL,
    result TEXT NOT NULL, reason TEXT NOT NULL, is_open INTEGER NOT NULL, from_log INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX run_owner ON run (owner, at);
CREATE INDEX run_open ON run (id) WHERE is_open;
CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Makes the tables where they are not this version's.
pub fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    // Two processes that find it missing make it once.
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let tables: Vec<String> = change
        .prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        change.execute_batch(&format!("DROP TABLE \"{quoted}\""))?;
    }
    change.execute_batch(TABLES)?;
    change.pragma_update(None, "user_version", VERSION)?;
    change.commit()
}
