//! The database schema and the migrations from older versions. The tables are described in `docs/sqlite.md`.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use session_storage_engine::StoreId;

/// The application id of our databases, `SESS`.
pub(crate) const APPLICATION: i64 = 0x5345_5353;
/// The schema version that this code writes.
pub(crate) const VERSION: i64 = 2;

/// The tables of every version but `records`. Changing this text, even a comment, changes what new databases store.
const TABLES: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- One row for each session: its head as JSON, and what one searches for.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    updated INTEGER NOT NULL,
    -- By which one finds it: of many appends in a row only the first one touches the index.
    updated_second INTEGER NOT NULL,
    ended INTEGER,
    revision INTEGER NOT NULL,
    sum TEXT NOT NULL,
    head TEXT NOT NULL,
    -- 64-bit XXH3 of the head's text: a head that was changed on the disk is none.
    head_sum TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_state ON sessions (state, id);
CREATE INDEX sessions_by_name ON sessions (name, id);
CREATE INDEX sessions_by_update ON sessions (updated_second, id);
CREATE INDEX sessions_active ON sessions (id) WHERE ended IS NULL;

CREATE TABLE labels (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    session TEXT NOT NULL,
    PRIMARY KEY (key, value, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_of_session ON labels (session);
";

/// The table `records`. With row ids: a key is compared without its line, however long damage made that.
const RECORDS: &str = "
-- The logs: each record is one line of JSON, byte for byte as it was sealed.
CREATE TABLE records (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT;
";

/// The table `records` of schema version 1.
const RECORDS_1: &str = "
CREATE TABLE records (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
";

/// Returns the tables of a schema version.
pub(crate) fn tables(version: i64) -> String {
    [TABLES, if version == 1 { RECORDS_1 } else { RECORDS }].concat()
}

/// The migrations from each version to the next one, starting with version 1.
const MIGRATIONS: &[&str] = &["
ALTER TABLE records RENAME TO records_1;
CREATE TABLE records (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT;
INSERT INTO records (session, seq, line) SELECT session, seq, line FROM records_1 ORDER BY session, seq;
DROP TABLE records_1;
"];

/// Creates the tables of a new store.
pub(crate) fn create(connection: &mut Connection, store: StoreId) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    transaction.execute_batch(&tables(VERSION))?;
    let mut insert = transaction.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
    insert.execute(("store", store.to_string()))?;
    insert.execute(("change", 0))?;
    // The lowest version that can read this schema: a newer version raises it if necessary.
    insert.execute(("readers", 1))?;
    drop(insert);
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Reads the schema version.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Reads the lowest version that can read this schema.
pub(crate) fn readers(connection: &Connection) -> rusqlite::Result<i64> {
    meta(connection, "readers").map(|version| version.unwrap_or(i64::MAX))
}

/// Reads a value from the table `meta`.
pub(crate) fn meta<T: rusqlite::types::FromSql>(
    connection: &Connection,
    key: &str,
) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

/// Sets a value in the table `meta`.
pub(crate) fn set_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
        .execute((key, value))
        .map(drop)
}

/// Migrates the tables to this version, each step in a transaction.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    apply(connection, MIGRATIONS)
}

fn apply(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    for (from, step) in (1..).zip(migrations) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have migrated it meanwhile.
        if version(&transaction)? == from {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", from + 1)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        create(&mut connection, StoreId::random()).unwrap();
        connection
    }

    #[test]
    fn each_migration_runs_once_in_order() {
        let mut connection = database();
        let steps = ["ALTER TABLE sessions ADD COLUMN colour TEXT", "UPDATE sessions SET colour = 'red'"];
        connection.pragma_update(None, "user_version", 1).unwrap();
        apply(&mut connection, &steps).unwrap();
        assert_eq!(version(&connection).unwrap(), 3);
        apply(&mut connection, &steps).unwrap();
        assert_eq!(version(&connection).unwrap(), 3);
    }

    #[test]
    fn a_failed_migration_leaves_the_previous_version() {
        let mut connection = database();
        let steps = ["CREATE TABLE one (a)", "CREATE TABLE two (a); CREATE TABLE one (a)"];
        connection.pragma_update(None, "user_version", 1).unwrap();
        apply(&mut connection, &steps).unwrap_err();
        assert_eq!(version(&connection).unwrap(), 2);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('one', 'two')", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(tables, 1);
    }

    #[test]
    fn there_is_a_migration_for_each_version() {
        assert_eq!(i64::try_from(MIGRATIONS.len()).unwrap() + 1, VERSION);
    }
}
