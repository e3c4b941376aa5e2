//! Comparison of a database's schema with the one of this version, before any statement uses it: a view in place of a
//! table may never end, a trigger changes other rows, and a missing index fails the statements that name it.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use crate::schema::{VERSION, tables};

/// The tables that `SQLite` itself creates: statistics of `ANALYZE`.
const OWN_TABLES: [&str; 3] = ["sqlite_stat1", "sqlite_stat4", "sqlite_sequence"];
/// The tables that every later version has, too.
const NAMES: [&str; 4] = ["meta", "sessions", "labels", "records"];

/// The differences of a schema that this version can read.
#[derive(Debug, Default, Clone)]
pub(crate) struct IndexDamage {
    /// A sentence for each wrong index.
    pub(crate) problems: Vec<String>,
    /// The statements that correct them.
    repairs: Vec<String>,
}

/// A row of `sqlite_schema`.
#[derive(Debug, PartialEq, Eq)]
struct Object {
    kind: String,
    table: String,
    sql: String,
}

/// Checks that the database has the tables of this version, of exactly these columns, and nothing that runs by itself.
/// Returns the wrong indexes, or the reason why the database must not be used. Of a newer version only the tables are
/// checked.
pub(crate) fn check(
    connection: &Connection,
    version: i64,
) -> rusqlite::Result<std::result::Result<IndexDamage, String>> {
    let found = objects(connection)?;
    if version > VERSION {
        let missing = NAMES.iter().find(|name| found.get(**name).is_none_or(|object| object.kind != "table"));
        return Ok(missing.map_or_else(|| Ok(IndexDamage::default()), |name| Err(missing_table(name))));
    }
    let expected = expected(version);
    for (name, object) in expected.iter().filter(|(_, object)| object.kind == "table") {
        match found.get(name) {
            Some(there) if there == object => {}
            Some(there) if there.kind == "table" => {
                return Ok(Err(format!(
                    "has other columns than a session store in its table `{name}`: restore the database"
                )));
            }
            Some(_) | None => return Ok(Err(missing_table(name))),
        }
    }
    let mut damage = IndexDamage::default();
    for (name, object) in &found {
        match object.kind.as_str() {
            // Without a text, the index belongs to a primary key.
            "index" if object.sql.is_empty() || expected.get(name) == Some(object) => {}
            "index" => {
                damage.problems.push(if expected.contains_key(name) {
                    format!("the index `{name}` has other columns")
                } else {
                    format!("the index `{name}` is not part of a session store")
                });
                damage.repairs.push(format!("DROP INDEX {}", quoted(name)));
            }
            "table" if expected.contains_key(name) || OWN_TABLES.contains(&name.as_str()) => {}
            kind => {
                return Ok(Err(format!(
                    "contains the {kind} {}, which is not part of a session store: remove it with `DROP {} {}`, or restore \
                     the database",
                    quoted(name),
                    kind.to_uppercase(),
                    quoted(name)
                )));
            }
        }
    }
    for (name, object) in expected.iter().filter(|(_, object)| object.kind == "index") {
        let there = found.get(name);
        if there.is_none() {
            damage.problems.push(format!("the index `{name}` is missing"));
        }
        if there != Some(object) {
            damage.repairs.push(object.sql.clone());
        }
    }
    Ok(Ok(damage))
}

/// Rebuilds wrong indexes, under the write lock. Another process may have done that meanwhile.
pub(crate) fn rebuild_indexes(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Ok(damage) = check(&transaction, VERSION)? {
        for repair in &damage.repairs {
            transaction.execute_batch(repair)?;
        }
    }
    transaction.commit()
}

fn missing_table(name: &str) -> String {
    format!("has no table `{name}`, or something else in its place: restore the database")
}

/// Reads the schema by name. Names are unique but for triggers, each of which is refused anyway.
fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Object>> {
    const OBJECTS: &str =
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY type = 'trigger'";
    let mut select = connection.prepare(OBJECTS)?;
    let rows = select.query_map([], |row| {
        let sql: String = row.get(3)?;
        Ok((row.get(1)?, Object { kind: row.get(0)?, table: row.get(2)?, sql: normalized(&sql) }))
    })?;
    let mut objects = BTreeMap::new();
    for row in rows {
        let (name, object): (String, Object) = row?;
        // A trigger may have the name of a table.
        let name = if objects.contains_key(&name) { format!("{name} ({})", object.kind) } else { name };
        objects.insert(name, object);
    }
    Ok(objects)
}

/// Returns the tables and indexes of a schema version.
fn expected(version: i64) -> BTreeMap<String, Object> {
    let text = normalized(&tables(version));
    let statements = text.split(';').map(str::trim).filter(|sql| !sql.is_empty());
    statements
        .filter_map(|sql| {
            let mut words = sql.split(' ').skip(1);
            let (kind, name) = (words.next()?.to_lowercase(), words.next()?);
            let table = if kind == "index" { words.nth(1)? } else { name };
            let object = Object { kind, table: table.to_owned(), sql: sql.to_owned() };
            Some((name.to_owned(), object))
        })
        .collect()
}

/// Removes comments, line ends and repeated spaces from a statement.
fn normalized(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use session_storage_engine::StoreId;

    use super::*;
    use crate::schema;

    #[test]
    fn a_new_database_has_the_expected_schema() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::create(&mut connection, StoreId::random()).unwrap();
        let mut found = objects(&connection).unwrap();
        found.retain(|_, object| !object.sql.is_empty());
        assert_eq!(found, expected(VERSION));
        assert_eq!(found.len(), 9);
        let damage = check(&connection, VERSION).unwrap().unwrap();
        assert!(damage.problems.is_empty() && damage.repairs.is_empty(), "{damage:?}");
        connection.execute_batch("ANALYZE").unwrap();
        assert!(check(&connection, VERSION).unwrap().is_ok(), "statistics are no part of the schema");
    }
}
