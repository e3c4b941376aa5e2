//! List queries: the choice of the index for a filter, so that a page of ids in order reads few other rows.

use std::num::NonZeroUsize;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use session_core::{SessionFilter, SessionId};

use crate::rows::{COLUMNS, SessionRow, second};

/// The largest number of sessions found by update time and then sorted; with more of them, a scan in the order of ids
/// soon fills a page.
const SORTED: i64 = 4000;

/// The choice of the index in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexHints {
    /// The statement names it.
    Named,
    /// `SQLite` chooses among those that are there.
    None,
}

/// The condition for another label, checked by index before the session's row is read.
const ALSO: &str =
    " AND EXISTS (SELECT 1 FROM labels o WHERE o.key = ? AND o.value = ? AND o.session = l.session)";

/// A page of rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<(SessionId, SessionRow)>,
    /// The last id of the page; `None` at the end of the list.
    pub(crate) next: Option<SessionId>,
}

/// Reads at most `limit` rows after an id that match the filter by their columns.
pub(crate) fn page(
    connection: &Connection,
    filter: &SessionFilter,
    after: Option<SessionId>,
    limit: NonZeroUsize,
    hints: IndexHints,
) -> rusqlite::Result<Rows> {
    let plan = Plan::of(connection, filter, after, hints)?;
    let most = i64::try_from(limit.get()).unwrap_or(i64::MAX).saturating_add(1);
    let sql = format!("{} ORDER BY 1 LIMIT {most}", plan.sql);
    let mut select = connection.prepare_cached(&sql)?;
    let mut selected = select.query(params_from_iter(plan.values))?;
    let mut rows: Vec<(SessionId, SessionRow)> = Vec::new();
    let mut more = false;
    while let Some(row) = selected.next()? {
        if rows.len() >= limit.get() {
            more = true;
            break;
        }
        // A row without a valid id is not a session; `verify` reports it.
        let text = row.get_ref(0)?.as_str().unwrap_or_default();
        if let Ok(id) = text.parse() {
            rows.push((id, SessionRow::from_row(row, 1)?));
        }
    }
    let next = if more { rows.last().map(|(id, _)| *id) } else { None };
    Ok(Rows { rows, next })
}

/// Returns all session ids that any row has, ascending, including invalid ones; those that are too long to be read are
/// counted by [`unreadable_ids`].
pub(crate) fn ids(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    // One index lookup for each session, not one for each record.
    const IDS: &str = "
        WITH RECURSIVE logs (id) AS (
            SELECT min(session) FROM records WHERE octet_length(session) < 65536
            UNION ALL
            SELECT (SELECT min(session) FROM records WHERE session > logs.id AND octet_length(session) < 65536)
            FROM logs WHERE logs.id IS NOT NULL
        )
        SELECT id FROM sessions WHERE octet_length(id) < 65536
        UNION SELECT id FROM logs WHERE id IS NOT NULL ORDER BY 1";
    connection.prepare_cached(IDS)?.query_map([], |row| row.get(0))?.collect()
}

/// Counts the rows whose id is too long to be read. Reads all rows.
pub(crate) fn unreadable_ids(connection: &Connection) -> rusqlite::Result<i64> {
    const COUNT: &str = "
        SELECT (SELECT count(*) FROM sessions WHERE octet_length(id) >= 65536)
             + (SELECT count(*) FROM records WHERE octet_length(session) >= 65536)
             + (SELECT count(*) FROM labels WHERE octet_length(session) >= 65536)";
    connection.query_row(COUNT, [], |row| row.get(0))
}

/// A statement without its order and limit, and its parameters.
struct Plan {
    sql: String,
    values: Vec<Value>,
    hints: IndexHints,
}

impl Plan {
    fn of(
        connection: &Connection,
        filter: &SessionFilter,
        after: Option<SessionId>,
        hints: IndexHints,
    ) -> rusqlite::Result<Self> {
        let after = after.map_or(String::new(), |id| id.to_string());
        let since = filter.updated_since.map(second);
        let states = filter.states.as_slice();
        let mut plan = Self { sql: String::new(), values: Vec::new(), hints };
        if let Some((key, value)) = filter.labels.first() {
            let labels = "labels l CROSS JOIN sessions s ON s.id = l.session";
            plan.select(labels, "l.session");
            plan.and("l.key = ?", key.clone());
            plan.and("l.value = ?", value.clone());
            plan.and("l.session > ?", after);
        } else if let Some(name) = filter.kept_name() {
            plan.select_by("sessions_by_name");
            plan.and("s.name = ?", name);
            plan.and("s.id > ?", after);
        } else if let Some(since) = since
            && is_recent(connection, since)?
        {
            plan.select_by("sessions_by_update");
            plan.and("s.updated_second >= ?", since);
            plan.and("s.id > ?", after);
        } else if filter.only_active() && states.len() > 1 {
            plan.select_by("sessions_active");
            plan.sql.push_str(" AND s.ended IS NULL");
            plan.and("s.id > ?", after);
        } else if !states.is_empty() {
            // Each state in the order of ids, merged: no further condition on states is needed.
            for state in distinct(states.iter().map(|state| state.name())) {
                if !plan.sql.is_empty() {
                    plan.sql.push_str(" UNION ALL ");
                }
                plan.select_by("sessions_by_state");
                plan.and("s.state = ?", state.to_owned());
                plan.and("s.id > ?", after.clone());
                plan.rest(filter);
            }
            return Ok(plan);
        } else {
            plan.select("sessions s", "s.id");
            plan.and("s.id > ?", after);
        }
        plan.rest(filter);
        if !states.is_empty() {
            let places = vec!["?"; states.len()].join(", ");
            plan.sql.extend([" AND s.state IN (", &places, ")"]);
            plan.values.extend(states.iter().map(|state| Value::Text(state.name().to_owned())));
        }
        Ok(plan)
    }

    fn select(&mut self, from: &str, id: &str) {
        // An id that is longer than any of ours is damage, which `verify` reports.
        self.sql.extend([
            "SELECT ",
            id,
            ", ",
            COLUMNS,
            " FROM ",
            from,
            " WHERE octet_length(",
            id,
            ") < 65536",
        ]);
    }

    fn select_by(&mut self, index: &str) {
        match self.hints {
            IndexHints::Named => self.select(&format!("sessions s INDEXED BY {index}"), "s.id"),
            IndexHints::None => self.select("sessions s", "s.id"),
        }
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push(value.into());
    }

    /// Adds every condition but the states, including those that the index already guarantees.
    fn rest(&mut self, filter: &SessionFilter) {
        if let Some(since) = filter.updated_since {
            self.and("s.updated >= ?", since.as_millis());
        }
        if let Some(name) = filter.kept_name() {
            self.and("s.name = ?", name);
        }
        for (key, value) in filter.labels.iter().skip(1) {
            self.sql.push_str(ALSO);
            self.values.extend([Value::Text(key.clone()), Value::Text(value.clone())]);
        }
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns `true` if few sessions were updated after that second. Sessions of the second itself are always read: few,
/// unless many were imported just then.
fn is_recent(connection: &Connection, since: i64) -> rusqlite::Result<bool> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM sessions WHERE updated_second > ?1 LIMIT ?2)")?
        .query_row([since, SORTED], |row| row.get(0))?;
    Ok(count < SORTED)
}
